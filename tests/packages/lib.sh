# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of the packages share: a Debian to install them in.
# Sourced, with TOP set.

# shellcheck source=tests/tap.sh
. "$TOP/tests/tap.sh"
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

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
