# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the scripts share: where things are, how to speak, and apt without
# touching the machine's own apt set-up. Sourced, with TOP set.

# A command that fails unexpectedly ends the script, and says where; one that
# ended with die has said it.
set -eEuo pipefail
trap '[ $? = 9 ] || unexpected "${BASH_SOURCE[0]}" "$LINENO" "$BASH_COMMAND"' ERR

: "${TOP:?TOP is the top directory of the project}"
BUILD=$TOP/build
LOGS=$BUILD/logs
# Where QEMU is: its source in src, what is built in out. check-hooks has another one.
export QEMU_DIR=${XEN_PVIOMMU_QEMU_DIR:-$BUILD/qemu}
# Downloads live here, so that a second checkout downloads nothing.
: "${HOME:=$BUILD}"
export CACHE=${XEN_PVIOMMU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xen-pviommu}
# The log of the step under way, for the advice when it fails.
LOG=/dev/null
# Seconds after which a step that prints nothing says what it is at.
: "${TICK:=15}"

# The Debian suite whose QEMU is used, and the series this is tested with; of
# a tree of one's own, the oldest that can work.
export QEMU_SUITE=trixie QEMU_SERIES=10.0 QEMU_OLDEST=10.0
# Debian's suites whose Xen the series in xen/ is for, oldest first; xen_of has
# the versions.
export XEN_SUITES='bookworm trixie'

say()  { printf '%s\n' "$*"; }
step() { printf '==> %s\n' "$*"; }

# no_room: advice when a disk that is written to is full; else fails.
no_room() {
    local dir left
    for dir in "$BUILD" "$CACHE" "${TMPDIR:-/tmp}"; do
        while ! [ -d "$dir" ]; do dir=$(dirname "$dir"); done
        left=$(df -P -k "$dir" | awk 'NR == 2 { print int($4 / 1024) }')
        if [ "$left" -lt 16 ]; then
            say "The disk with $dir is full ($left MB are free):" \
                "make room there and try again"
            return
        fi
    done
    # What failed may have removed its files again.
    grep -q -E 'No space left on device|Disk quota exceeded|have enough free space' \
        "$LOG" 2> /dev/null &&
        say "A disk is full or its quota is used up ($LOG):" \
            "make room for $BUILD and $CACHE and try again"
}

# die MESSAGE [WHAT-TO-DO]...: the one message a failure ends with. A disk that
# is full is the reason, whatever failed. With REASON, the message goes into that
# file, as the caller goes on without.
die() {
    local line advice
    if [ -n "${REASON:-}" ] && ! no_room; then
        printf '%s\n' "$1" > "$REASON"
        exit 9
    fi
    printf '\nxen-pviommu: %s\n' "$1" >&2
    shift
    if advice=$(no_room); then set -- "$advice"; fi
    for line; do printf '%s\n' "$line" | sed 's,^,    ,' >&2; done
    exit 9
}

# unexpected SCRIPT LINE COMMAND: for failures that no die is written for.
unexpected() {
    printf 'xen-pviommu: %s, line %s: %s: failed\n' "$1" "$2" "$3" >&2
    no_room >&2 || true
}

# make, Kbuild and QEMU's configure cut or expand such names.
case $TOP in
*[[:space:]:\;\&\|\<\>\(\)\*\?\[\]\{\}\#%\$\!\'\"\`\\]*)
    die "the path of this checkout has a space or another character in it that" \
        "the build cannot handle: $TOP" \
        "Move the checkout to a path without spaces, quotes and any of" \
        ": ; & | < > ( ) * ? [ ] { } # % \$ ! \\" ;;
esac

# has PATTERN: a line of the input fits. It reads all of it: grep -q would end the
# program that writes it, which pipefail takes for a failure.
has() { grep -E "$1" | cat > /dev/null; }

# version_ge A B: A is B or newer.
version_ge() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# The version of all of the project.
project_version() { sed -n '1s/.*(\(.*\)).*/\1/p' "$TOP/debian/changelog"; }

# newest PATTERN: of the files, the one with the highest version; or nothing.
newest() { { compgen -G "$1" || true; } | sort -V | tail -n 1; }

# fingerprint FILE...: one word that changes when the files do.
fingerprint() { cat -- "$@" | sha256sum | cut -c 1-32; }

# tick LOG: forever, say every TICK seconds what was written to LOG last.
tick() {
    local nap='' begun=$SECONDS last
    trap 'kill "$nap" 2> /dev/null; exit 0' TERM
    while kill -0 $$ 2> /dev/null; do
        # In the background, as a signal waits for what runs in the foreground.
        sleep "$TICK" & nap=$!
        wait "$nap" || true
        last=$(tail -c 400 "$1" 2> /dev/null | tr '\r' '\n' | grep . | tail -n 1 |
               cut -c 1-60) || true
        say "    still running, $((SECONDS - begun)) s${last:+: $last}"
    done
}

# with_ticks COMMAND...: run it, add what it prints to $LOG, and tell the user
# that it still runs.
with_ticks() {
    local ticker status=0
    # On stderr, as stdout may be what another script reads.
    tick "$LOG" >&2 & ticker=$!
    "$@" >> "$LOG" 2>&1 < /dev/null || status=$?
    kill "$ticker"
    wait "$ticker" || true
    return "$status"
}

# logged LOG COMMAND...: run, keep the output, show its end when it fails.
logged() {
    LOG=$LOGS/$1
    shift
    mkdir -p "$LOGS"
    : > "$LOG"
    if ! with_ticks "$@"; then
        tail -n 25 "$LOG" >&2
        return 1
    fi
}

# The codename of the machine's own release (bookworm, trixie, ...).
machine_suite() {
    # shellcheck disable=SC1091
    (. /etc/os-release; printf '%s' "${VERSION_CODENAME:-unknown}")
}

# xen_of SUITE: the series of Xen that a Debian has.
xen_of() {
    case $1 in
    bookworm) echo 4.17 ;;
    *)        echo 4.20 ;;
    esac
}

# xen_suite VERSION: the Debian that has this Xen; fails if none has.
xen_suite() {
    local suite
    for suite in $XEN_SUITES; do
        if [ "$(xen_of "$suite")" = "$1" ]; then
            echo "$suite"
            return
        fi
    done
    return 1
}

# other_suites: those of XEN_SUITES that this machine does not run.
other_suites() {
    local suite own
    own=$(machine_suite)
    for suite in $XEN_SUITES; do
        [ "$suite" = "$own" ] || echo "$suite"
    done
}

# apt_sites: the Debian archives that this machine's apt is set up for, as
# lines of 'main|security SITE KEYRING'. apt itself is asked, so that both
# formats of its sources, and whatever mirror they name, work.
apt_sites() {
    # apt prints a name it has no value for as it is, so the origin may be
    # missing where 'apt-get update' was never run.
    # shellcheck disable=SC2016
    apt-get indextargets --format \
        '$(SITE)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(SOURCESENTRY)' \
        'Created-By: Packages' 2> /dev/null |
    while IFS='|' read -r site release component origin entry; do
        [ "$component" = main ] || continue
        # shellcheck disable=SC2016
        case $origin in Debian | '$(ORIGIN)') ;; *) continue ;; esac
        kind=main
        case $release in
        *-security | */updates) kind=security ;;
        *-* | */*) continue ;;
        esac
        keyring=$(sed -n 's/.*[Ss]igned-[Bb]y[:=] *\(\/[^] ]*\).*/\1/p' \
                  "${entry%:*}" 2> /dev/null | head -n 1)
        if [ -z "$keyring" ] &&
           [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
            keyring=/usr/share/keyrings/debian-archive-keyring.gpg
        fi
        printf '%s %s %s\n' "$kind" "$site" "${keyring:--}"
    done | sort -u -k 1,1
}

# apt_open TYPE SUITE...: a private apt (state, lists, sources) for the suites,
# TYPE deb or deb-src, for x_apt. Fails when nothing could be read.
apt_open() {
    local type=$1 suite kind site keyring sites
    shift
    APT_DIR=$BUILD/apt/$type-$(printf '%s+' "$@")
    APT_DIR=${APT_DIR%+}
    rm -rf "$APT_DIR"
    mkdir -p "$APT_DIR/state/lists/partial" "$APT_DIR/cache/archives/partial"
    LOG=$APT_DIR/log
    : > "$LOG"
    sites=$(apt_sites)
    for suite; do
        while read -r kind site keyring; do
            case $suite:$kind in
            *-security:security) ;;
            *-security:* | *:security) continue ;;
            esac
            case $keyring in
            -) keyring= ;;
            *) keyring="[signed-by=$keyring] " ;;
            esac
            printf '%s %s%s %s main\n' "$type" "$keyring" "$site" "$suite"
        done <<< "$sites"
    done > "$APT_DIR/sources.list"
    if [ ! -s "$APT_DIR/sources.list" ]; then
        say "E: the apt sources of this machine name no Debian archive" > "$LOG"
        return 1
    fi
    # An archive that does not have all of the suites is no failure as such.
    with_ticks x_apt apt-get -q update || true
    compgen -G "$APT_DIR/state/lists/*_InRelease" > /dev/null
}

# x_apt COMMAND...: an apt command on what apt_open opened.
x_apt() {
    local command=$1
    shift
    # Sandbox: apt's own user cannot write where we work. Languages and
    # Contents: large, and not needed.
    "$command" -o Dir::State="$APT_DIR/state" -o Dir::Cache="$APT_DIR/cache" \
        -o Dir::State::status=/var/lib/dpkg/status \
        -o Dir::Etc::sourcelist="$APT_DIR/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null \
        -o APT::Sandbox::User=root -o Acquire::Languages=none \
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
        -o Acquire::Retries=2 "$@" < /dev/null
}

# apt_depends PACKAGE: the names of what it depends on, a line each.
apt_depends() {
    x_apt apt-cache show --no-all-versions "$1" |
        sed -n 's/^Depends: //p' | sed 's/[,|]/\n/g' | sed 's/(.*//; s/ //g'
}

# apt_advice LOG: what to do, from what the machine's own apt said there.
apt_advice() {
    local pattern advice
    while IFS='|' read -r pattern advice; do
        if grep -q -i -E "${pattern//;/|}" "$1" 2> /dev/null; then
            say "$advice"
            return
        fi
    done << 'END'
could not get lock;unable to acquire;unable to lock|Another apt or dpkg runs: wait until it is done, then run this again
dpkg was interrupted|An earlier installation was cut short: run 'dpkg --configure -a', then this again
could not resolve;temporary failure;could ?n.t connect;unable to connect;unreachable;timed out;connection refused;connection failed|The mirror cannot be reached: check the network and this machine's apt sources, then run this again
unable to locate package;no installation candidate|The apt sources lack Debian's main archive, or are of another release: set them right, then run this again
unmet dependencies;held broken;fix-broken|Packages of this machine do not fit together: run 'apt-get -f install', then this again
404 +not found;failed to fetch;hash sum mismatch|The mirror lacks what its lists name: try again later, or take another mirror
END
    say "Set apt right (its words are above), then run this again"
}

# apt_why: what apt said, in a line or three, for die.
apt_why() {
    if grep -q NO_PUBKEY "$APT_DIR/log" 2> /dev/null; then
        say "the package debian-archive-keyring of this machine is too old" \
            "for the suite: upgrade it"
    elif ! grep -h -E '^(E|W|Err)' "$APT_DIR/log" 2> /dev/null | tail -n 3; then
        tail -n 3 "$APT_DIR/log" 2> /dev/null || true
    fi
}

# fetch_source PACKAGE SUITE SERIES INSTEAD: the newest version of SERIES that
# can be downloaded, into the cache; prints the .dsc. INSTEAD is what somebody
# can do who cannot get it so.
fetch_source() {
    local package=$1 suite=$2 series=$3 instead=$4
    local version versions tried='' dir=$CACHE/$1
    apt_open deb-src "$suite" "$suite-security" ||
        die "the package lists of Debian $suite cannot be read:" "$(apt_why)" \
            "Check the network and this machine's apt sources and try again," \
            "or: $instead"
    versions=$(x_apt apt-cache showsrc --only-source "$package" |
               sed -n "s/^Version: \(\([0-9]*:\)\?${series//./\\.}.*\)/\1/p" |
               sort -r -V -u)
    [ -n "$versions" ] ||
        die "Debian $suite has no $package $series any more, which is the one this was tested with." \
            "Instead: $instead"
    mkdir -p "$dir"
    for version in $versions; do
        step "Downloading the source of $package $version" >&2
        # In a directory of its own until it is complete.
        rm -rf "$dir/part" && mkdir "$dir/part"
        if (cd "$dir/part" && with_ticks x_apt apt-get -q source --download-only \
                --only-source "$package=$version"); then
            mv "$dir/part"/*.tar.* "$dir/" && mv "$dir/part"/*.dsc "$dir/"
            rm -rf "$dir/part"
            ls "$dir/${package}_${version#*:}.dsc"
            return
        fi
        say "    not on the mirror; trying the next older one" >&2
        tried="$tried $version"
    done
    die "no source of $package could be downloaded; tried:$tried" "$(apt_why)" \
        "Check the network and try again, or: $instead"
}

# What modules are compiled with in a Debian of another release; the libraries are
# those of the kernel's own programs.
export COMPILERS='build-essential sparse kmod libelf-dev libssl-dev'

# start_initramfs INIT: a root with busybox and INIT, new, in $ROOT.
start_initramfs() {
    local applet
    rm -rf "$ROOT"
    mkdir -p "$ROOT"/{bin,dev,proc,sys,tmp,modules}
    cp /bin/busybox "$ROOT/bin/"
    for applet in sh mount; do ln -s busybox "$ROOT/bin/$applet"; done
    install -m 755 "$1" "$ROOT/init"
}

# libraries_of FILE: what it is linked with here, the loader included.
libraries_of() {
    ldd "$1" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p'
}

# put_modules LIST NAME...: the modules of $KERNEL, and what they need, in
# $ROOT, and LIST with the order to load them; what the kernel has built in is
# left out.
put_modules() {
    local list=$1 version path name
    version=$(cat "$KERNEL/version")
    shift
    PATH=$PATH:/usr/sbin:/sbin \
        modprobe -d "$KERNEL" -S "$version" --show-depends -a "$@" |
    while read -r verb path _; do
        [ "$verb" = insmod ] || continue
        name=${path##*/}
        name=${name%.ko*}.ko
        case $path in
        *.xz)  xz -dc "$path" > "$ROOT/modules/$name" ;;
        *.zst) zstd -qdc "$path" > "$ROOT/modules/$name" ;;
        *)     cp "$path" "$ROOT/modules/" ;;
        esac
        echo "$name"
    done | awk '!seen[$0]++' > "$ROOT/modules/$list"
    [ -s "$ROOT/modules/$list" ] || die "Linux $version has not all of: $*"
}

# put_iommufd: the modules of scripts/build-iommufd in $ROOT, beside Debian's of the
# same names, and the list 'iommufd'.
put_iommufd() {
    local module
    put_modules iommufd irqbypass
    mkdir -p "$ROOT/modules/cdev"
    for module in interval-tree-span iommufd vfio vfio_iommu_type1 vfio-pci-core vfio-pci; do
        cp "$BUILD/iommufd/6.12/$module.ko" "$ROOT/modules/cdev/"
        echo "cdev/$module.ko" >> "$ROOT/modules/iommufd"
    done
}

# pack_initramfs FILE: $ROOT as an initramfs.
pack_initramfs() {
    (cd "$ROOT" && find . -print0 | sort -z |
     cpio -o -0 -H newc -R 0:0 --quiet | gzip -1) > "$1.new"
    mv "$1.new" "$1"
}
