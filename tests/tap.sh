# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# TAP for tests in shell. What a test says goes to $work/said, in a directory that
# the test makes.

number=0 failed=0
work=
# Lines of $work/said that a failure shows.
SHOWN=25

# result STATUS WHAT: a line of TAP; a failure shows what was said.
result() {
    number=$((number + 1))
    if [ "$1" = 0 ]; then
        echo "ok $number - $2"
    else
        failed=1
        echo "not ok $number - $2"
        tail -n "$SHOWN" "$work/said" | sed 's/^/# /'
    fi
}
skip() { number=$((number + 1)); echo "ok $number - $1 # SKIP $2"; }
skip_all() { echo "1..0 # SKIP $1"; exit 0; }
finish() { echo "1..$number"; exit "$failed"; }

# says PATTERN...: what was said has all of them; one with '!' before, not.
says() {
    local pattern
    for pattern; do
        case $pattern in
        !*) ! grep -q -E -- "${pattern#!}" "$work/said" || return 1 ;;
        *)  grep -q -E -- "$pattern" "$work/said" || return 1 ;;
        esac
    done
}

# copy_to DIR: the project ($TOP) without what was built in it.
copy_to() {
    mkdir -p "$1"
    tar -C "$TOP" --exclude=./build --exclude=./.git -cf - . | tar -C "$1" -xf -
}
