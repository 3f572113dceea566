#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dracut: the driver in each initramfs whose kernel has it, loaded before udev.

check() {
    # shellcheck disable=SC2154 # dracut sets it
    modinfo -k "$kernel" xen-pviommu > /dev/null 2>&1 || return 1
}

installkernel() {
    # In the initramfs of this host, too, where it may not be in use yet.
    hostonly='' instmods xen-pviommu
}

install() {
    # shellcheck disable=SC2154
    inst_hook pre-udev 00 "$moddir/load-xen-pviommu.sh"
}
