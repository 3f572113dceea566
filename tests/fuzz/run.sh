#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Build the fuzzer of iommu_op with clang, and run it.
#
# tests/fuzz/run.sh QEMU_SOURCE QEMU_BUILD [libFuzzer options, corpus]
set -e

[ $# -ge 2 ] || { sed -n '3,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
src=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
shift 2
project=$(cd "$(dirname "$0")/../.." && pwd)
core=$project/hw/xen/pviommu/core
command -v "${CC:=clang}" >/dev/null ||
    { echo "fuzz: no $CC: skipped" >&2; exit 77; }

# QEMU's own objects, as they are, for what the core uses of it
exe=$out/xen-pviommu-fuzz-iommu-op
# shellcheck disable=SC2046 # options, a word each
(cd "$out" && "$CC" -std=gnu11 -O1 -g -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=undefined -fno-strict-aliasing -fwrapv -mcx16 \
    -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
    -Wno-unknown-warning-option -Wno-unused-command-line-argument \
    -I"$project/include" -I. -Itrace -iquote . -iquote "$src" \
    -iquote "$src/include" -iquote "$src/host/include/$(uname -m)" \
    -iquote "$src/host/include/generic" \
    $(pkg-config --cflags glib-2.0) \
    "$project/tests/fuzz/fuzz-iommu-op.c" \
    "$project/tests/unit/pviommu-fixture.c" \
    "$project/tests/unit/pviommu-machine.c" \
    "$project/tests/unit/pviommu-model.c" \
    "$core"/*.c \
    libevent-loop-base.a.p/*.o libqom.a.p/*.o \
    -Wl,--start-group libqemuutil.a $(pkg-config --libs glib-2.0) \
    -lm -lrt -pthread -Wl,--end-group -o "$exe")
# What RCU has yet to free looks like a leak.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
exec "$exe" "$@"
