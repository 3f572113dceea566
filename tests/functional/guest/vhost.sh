# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2154 # PCI, number
#
# Functions of the guest of tests/functional/vhost-user, for its agent: two NICs,
# one of them in a network namespace, so that what one sends to the other goes
# over the wire. Beside guest/init and zoo.sh.

VHOST_HERE=10.9.0.1
VHOST_THERE=10.9.0.2

# there COMMAND...: in the namespace of the second NIC.
there() { nsenter -t "$vhost_there" -n "$@"; }

# vhost_nic SBDF: the name of its interface.
vhost_nic() { zoo_find class/net '' "$1"; }

# vhost_up HERE THERE: both NICs, SBDFs. Addresses are known, so that packets are
# sent to a NIC that does not answer.
vhost_up()
{
    soon vhost_nic "$1" > /dev/null && soon vhost_nic "$2" > /dev/null || return 1
    vhost_a=$(vhost_nic "$1") vhost_b=$(vhost_nic "$2")
    vhost_mac_a=$(cat "/sys/class/net/$vhost_a/address")
    vhost_mac_b=$(cat "/sys/class/net/$vhost_b/address")
    unshare -n sleep 100000 &
    vhost_there=$!
    # When it has become sleep, the namespace is there.
    soon grep -q sleep "/proc/$vhost_there/comm" || return 1
    mkdir -p /www
    vhost_here_up && vhost_there_up && httpd -p 80 -h /www && there httpd -p 80 -h /www
}

vhost_here_up()
{
    ip addr add $VHOST_HERE/24 dev "$vhost_a" && ip link set "$vhost_a" up &&
        arp -s $VHOST_THERE "$vhost_mac_b" -i "$vhost_a" &&
        soon grep -q 1 "/sys/class/net/$vhost_a/carrier"
}

vhost_there_up()
{
    ip link set "$vhost_b" netns "$vhost_there" &&
        there ip addr add $VHOST_THERE/24 dev "$vhost_b" &&
        there ip link set "$vhost_b" up &&
        there arp -s $VHOST_HERE "$vhost_mac_a" -i "$vhost_b"
}

# vhost_send FROM KIB, FROM being 'here' or 'there': by HTTP, to the other one.
vhost_send()
{
    head -c $(($2 * 1024)) /dev/urandom > /www/sent
    case $1 in
    here)  there timeout 240 wget -q -O /tmp/got http://$VHOST_HERE/sent ;;
    there) timeout 240 wget -q -O /tmp/got http://$VHOST_THERE/sent ;;
    esac
    md5sum < /www/sent
    md5sum < /tmp/got
    cmp /www/sent /tmp/got
}

vhost_both_ways() { vhost_send here "$1" && vhost_send there "$1"; }

# vhost_start KIB, vhost_runs, vhost_end: the same meanwhile.
vhost_start()
{
    vhost_both_ways "$1" > /tmp/vhost.said 2>&1 &
    vhost_pid=$!
}
vhost_runs() { kill -0 "$vhost_pid"; }
vhost_end()
{
    wait "$vhost_pid"
    vhost_status=$?
    cat /tmp/vhost.said
    return $vhost_status
}

# vhost_flood, vhost_flood_end: packets to the other NIC, answered or not.
vhost_flood()
{
    vhost_pings=
    for _ in 1 2 3 4; do
        ping -q -s 1400 -i 0.01 $VHOST_THERE > /dev/null 2>&1 &
        vhost_pings="$vhost_pings $!"
    done
}
vhost_flood_end()
{
    # shellcheck disable=SC2086 # numbers
    kill $vhost_pings 2> /dev/null
    # shellcheck disable=SC2086
    wait $vhost_pings
    true
}

# vhost_rebind SBDF: the second NIC's driver lets go of it, and takes it again. Its
# namespace loses it, and gets it back.
vhost_rebind()
{
    for entry in "$PCI/$1"/virtio*; do virtio=${entry##*/}; done
    echo "$virtio" > /sys/bus/virtio/drivers/virtio_net/unbind || return 1
    # What it had is somebody else's now.
    touch_memory || return 1
    echo "$virtio" > /sys/bus/virtio/drivers/virtio_net/bind || return 1
    soon vhost_nic "$1" > /dev/null && vhost_b=$(vhost_nic "$1") && vhost_there_up
}

# vhost_fill: for touch_memory.
vhost_fill() { mkdir -p /fill && mount -t tmpfs -o size=95% tmpfs /fill; }

# vhost_quiet: nothing was written to a page after it had been freed.
vhost_quiet()
{
    ! dmesg | grep -E 'memory corruption|page_?poison.*(error|corrupt)|Bad page' |
        sed 's/^/# /' | grep . && quiet_log
}
