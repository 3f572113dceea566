# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2154 # PCI
#
# Functions where VFIO has two edus: of the host in which tests/functional/listeners
# has them assigned to a machine of our QEMU, and of the guest of
# tests/functional/iommufd. For init, which has read this.

# with_id VENDOR:DEVICE: all of them.
with_id()
{
    for d in "$PCI"/*; do
        [ "$(cat "$d/vendor"):$(cat "$d/device")" = "$1" ] && echo "${d##*/}"
    done
    true
}
edus() { with_id 0x1234:0x11e8; }
nvme() { with_id 0x1b36:0x0010; }

# give_devices LIST SBDF...: to the vfio-pci in that list of modules.
give_devices()
{
    load "$1" || return 1
    shift
    for sbdf; do
        echo vfio-pci > "$PCI/$sbdf/driver_override" &&
            echo "$sbdf" > /sys/bus/pci/drivers_probe &&
            [ "$(driver_of "$sbdf")" = vfio-pci ] || return 1
    done
}

# take_devices SBDF...: from vfio-pci, and unload it.
take_devices()
{
    for sbdf; do
        echo "$sbdf" > "$PCI/$sbdf/driver/unbind" || return 1
    done
    rmmod vfio-pci && rmmod vfio-pci-core && rmmod vfio_iommu_type1 && rmmod vfio
}

# listener_test NAME BITS ARGUMENT...: a program of tests; the host's IOMMU is so wide.
# NAME iommufd is vfio with that.
listener_test()
{
    name=$1 bits=$2 iommufd=
    shift 2
    [ "$name" != iommufd ] || name=vfio iommufd=1
    # shellcheck disable=SC2046 # two words
    env ${iommufd:+PVIOMMU_VFIO_IOMMUFD=1} \
        PVIOMMU_VFIO_EDUS="$(echo $(edus))" PVIOMMU_VFIO_NVME="$(nvme)" \
        PVIOMMU_VFIO_BITS="$bits" \
        QTEST_QEMU_BINARY=/t/bin/qemu-system-x86_64 \
        "/t/bin/xen-pviommu-$name-test" "$@"
}
