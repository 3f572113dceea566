# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of the packages share: TAP, and a Debian to install them in.
# Sourced, with TOP set.

number=0 failed=0
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# result STATUS WHAT: a line of TAP; a failure shows what was said.
result() {
    number=$((number + 1))
    if [ "$1" = 0 ]; then
        echo "ok $number - $2"
    else
        failed=1
        echo "not ok $number - $2"
        tail -n 25 "$work/said" | sed 's/^/# /'
    fi
}
skip() { number=$((number + 1)); echo "ok $number - $1 # SKIP $2"; }
skip_all() { echo "1..0 # SKIP $1"; exit 0; }
finish() { echo "1..$number"; exit $failed; }

# check WHAT COMMAND...: what it says is kept.
check() {
    local what=$1 status=0
    shift
    "$@" > "$work/said" 2>&1 || status=$?
    result $status "$what"
}

# open_root SUITE NAME PACKAGE...: a Debian, unpacked at $work/root.
open_root() {
    [ "$(id -u)" = 0 ] || skip_all "a Debian to test in takes root"
    command -v mmdebstrap > /dev/null || skip_all "mmdebstrap is not installed"
    "$TOP/scripts/get-root" "$@" >&2 || skip_all "no Debian $1 can be put together here"
    mkdir -p "$TOP/build/root"
    work=$(mktemp -d "$TOP/build/root/test.XXXXXX") || exit 1
    mkdir "$work/root"
    tar -C "$work/root" -xf "$TOP/build/root/$1-$2.tar" || exit 1
}

# inside COMMAND...: in that Debian.
inside() { "$TOP/scripts/in-root" "$work/root" "$@"; }
# apt COMMAND...: apt-get in there, without what packages only recommend.
apt() { inside apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@"; }
