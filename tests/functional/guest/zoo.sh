# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the zoo does in the guest, for its agent: each function uses one device,
# named by its SBDF, and prints what the host compares. Beside guest/init.

# zoo_load MODULE...: each with what it needs, unless the kernel has it already.
zoo_load()
{
    for list; do
        while read -r file; do
            name=$(echo "${file%.ko}" | tr - _)
            [ -d "/sys/module/$name" ] || insmod "/modules/$file" ||
                say "$file does not load"
        done < "/modules/zoo-$list"
    done
}

# zoo_find CLASS PREFIX SBDF: the name of the class's device that belongs to the
# PCI function.
zoo_find()
{
    for entry in "/sys/$1/$2"*; do
        case $(readlink -f "$entry") in
        */"$3"/*) echo "${entry##*/}"; return ;;
        esac
    done
    return 1
}

# zoo_text BYTES: what is nowhere the same, and the host can make, too.
zoo_text() { seq 1 9999999 | head -c "$1"; }
zoo_sum() { md5sum | cut -d ' ' -f 1; }

# A disk has a size when the kernel knows it.
zoo_block_ready()
{
    name=$(zoo_find block '' "$1") && [ "$(cat "/sys/block/$name/size")" -gt 0 ] &&
        [ -b "/dev/$name" ]
}

# zoo_disk SBDF KIB: written, flushed and read; the checksum of what was written.
zoo_disk()
{
    soon zoo_block_ready "$1" || return 1
    block=/dev/$(zoo_find block '' "$1")
    dd if=/dev/urandom of=/tmp/zoo bs=1k count="$2" 2> /dev/null
    dd if=/tmp/zoo of="$block" bs=256k oflag=direct conv=notrunc,fsync 2> /tmp/error ||
        { cat /tmp/error; return 1; }
    echo 3 > /proc/sys/vm/drop_caches
    dd if="$block" bs=64k count=$(($2 / 64)) iflag=direct 2> /tmp/error > /tmp/zoo2 ||
        { cat /tmp/error; return 1; }
    cmp /tmp/zoo /tmp/zoo2 || return 1
    zoo_sum < /tmp/zoo
}

# zoo_net SBDF: both ways, with init's server; the interface is the only one then.
zoo_net()
{
    soon zoo_find class/net '' "$1" > /dev/null || return 1
    nic=$(zoo_find class/net '' "$1")
    ip link set "$nic" up && ip addr add 10.0.2.15/24 dev "$nic" &&
        soon grep -q 1 "/sys/class/net/$nic/carrier" && use_net
    zoo_status=$?
    ip addr flush dev "$nic"
    ip link set "$nic" down
    return $zoo_status
}

# zoo_sound SBDF KIB RATE
zoo_sound()
{
    soon zoo_find class/sound card "$1" > /dev/null || return 1
    card=$(zoo_find class/sound card "$1")
    card=${card#card}
    [ "$card" = 0 ] && card=
    soon test -c "/dev/dsp$card" || return 1
    zoo_text $(($2 * 1024)) > /tmp/zoo
    timeout 60 pcm-play "/dev/dsp$card" "/dev/mixer$card" "$3" /tmp/zoo
}

# zoo_display SBDF KIB: the frame buffer, without the console on it.
zoo_display()
{
    soon zoo_find class/graphics fb "$1" > /dev/null || return 1
    echo 0 > /sys/class/graphics/fbcon/cursor_blink
    for console in /sys/class/vtconsole/*; do
        ! grep -q 'frame buffer' "$console/name" || echo 0 > "$console/bind"
    done
    frames=/dev/$(zoo_find class/graphics fb "$1")
    sys=/sys/class/graphics/${frames##*/}
    # One that never was a console shows nothing until it gets a mode.
    head -n 1 "$sys/modes" > "$sys/mode"
    cat "$sys/virtual_size"
    zoo_text $(($2 * 1024)) > "$frames"
}

# zoo_rng BYTES: from each there is, in hexadecimal.
zoo_rng()
{
    # shellcheck disable=SC2013 # one line of words
    for name in $(cat /sys/class/misc/hw_random/rng_available); do
        case $name in virtio_rng*) ;; *) continue ;; esac
        echo "$name" > /sys/class/misc/hw_random/rng_current
        dd if=/dev/hwrng bs=64 count=$(($1 / 64)) 2> /dev/null | xxd -p -c 256
    done
}

# zoo_port NAME: the device of a virtio-serial port.
zoo_port()
{
    for entry in /sys/class/virtio-ports/*; do
        [ "$(cat "$entry/name" 2> /dev/null)" = "$1" ] && { echo "/dev/${entry##*/}"; return; }
    done
    return 1
}

# zoo_serial NAME KIB: the checksum of what came, and text goes out.
zoo_serial()
{
    soon zoo_port "$1" > /dev/null || return 1
    port=$(zoo_port "$1")
    timeout 60 head -c $(($2 * 1024)) "$port" | zoo_sum
    zoo_text $(($2 * 1024)) > /tmp/zoo
    timeout 60 cp /tmp/zoo "$port"
}

# zoo_crypto KIB: by the device, and by the processor.
zoo_crypto()
{
    dd if=/dev/urandom of=/tmp/zoo bs=1k count="$1" 2> /dev/null
    crypt 'virtio_crypto_aes_cbc' < /tmp/zoo > /tmp/zoo1 || return 1
    crypt 'cbc(aes-generic)' < /tmp/zoo > /tmp/zoo2 || return 1
    cmp /tmp/zoo1 /tmp/zoo2 && ! cmp -s /tmp/zoo /tmp/zoo1
}

# zoo_events SBDF, zoo_events_end BYTES: what comes from an input device meanwhile,
# in hexadecimal.
# shellcheck disable=SC2010 # where links lead
zoo_listens() { ls -l "/proc/$zoo_pid/fd" | grep -q /dev/input/event; }
zoo_events()
{
    soon zoo_find class/input event "$1" > /dev/null || return 1
    cat "/dev/input/$(zoo_find class/input event "$1")" > /tmp/zoo &
    zoo_pid=$!
    soon zoo_listens
}
zoo_has_come() { [ "$(wc -c < /tmp/zoo)" -ge "$1" ]; }
zoo_events_end()
{
    soon zoo_has_come "$1"
    zoo_status=$?
    kill "$zoo_pid"
    xxd -p -c 24 /tmp/zoo
    return $zoo_status
}

# zoo_receive: packets come until the file is there; a connection may break.
zoo_receive()
{
    rm -f /tmp/receive.stop
    while ! [ -e /tmp/receive.stop ]; do
        # shellcheck disable=SC2153 # of init
        timeout 60 wget -q -O /dev/null "http://10.0.2.2:$PORT/data" || usleep 100000
    done > /dev/null 2>&1 &
}

# zoo_busy DISK...: disks and NIC are in use from now on.
zoo_busy()
{
    load_start "$@"
    zoo_receive
}
zoo_idle() { touch /tmp/receive.stop && load_stop; }

# zoo_gone SBDF: no such function.
zoo_gone() { ! [ -e "$PCI/$1" ]; }

# net_again: eth0 has what net_up gave it.
net_again() { ip link set eth0 up && soon grep -q 1 /sys/class/net/eth0/carrier; }
