#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# See the init-top script for initramfs-tools: the IOMMU before its devices.

for file in /sys/bus/pci/devices/*/modalias; do
    read -r alias < "$file" || continue
    case $alias in
    pci:v00005853d00000003*)
        modprobe -q xen-pviommu
        break
        ;;
    esac
done
