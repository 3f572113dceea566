/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pviommu-mirror: the registers
 *
 * A test device behind a vIOMMU that does what VFIO or vhost do, and lets a
 * test look at the result. One memory BAR of 4 KiB; all registers have 64
 * bits, little-endian, and are accessed as such.
 *
 * With the property notifier=map it behaves as VFIO: it mirrors its address
 * space, RAM as it is, translated ranges as IOMMU notifiers and replay say.
 * With notifier=deviotlb or notifier=unmap it behaves as vhost: what it asked
 * to be translated stays in a cache until a notification takes it out. With
 * notifier=none it listens to nothing, and only does DMA.
 *
 * With pins=on it announces itself as a device of the host, and forbids, as
 * VFIO does, that RAM is discarded (by a balloon, say), unless xen-pviommu
 * covers that. With iova-ranges=[FIRST,LAST,...] as well, these are the bus
 * addresses that the host's IOMMU can map for it. With alias=ADDR, BAR 2 is the
 * 1 MiB of guest RAM at that guest-physical address. With late=on it listens
 * until it is finalized.
 *
 * With assigned=on, BAR 4 is like one of a device that VFIO assigns: 64 KiB
 * that the device emulates, and amid it memory, which the test can hide.
 *
 * With iothread=ID it can wait for that thread, in a transaction of the memory
 * map or in a notification, as other listeners do: see _WAIT.
 *
 * Shared by the device and its tests.
 */

#ifndef TESTS_PVIOMMU_MIRROR_H
#define TESTS_PVIOMMU_MIRROR_H

#define PVIOMMU_MIRROR_VENDOR_ID        0x1234
#define PVIOMMU_MIRROR_DEVICE_ID        0x11ea
#define PVIOMMU_MIRROR_BAR              0
#define PVIOMMU_MIRROR_BAR_SIZE         0x1000
#define PVIOMMU_MIRROR_ALIAS_BAR        2
#define PVIOMMU_MIRROR_ALIAS_SIZE       0x100000
#define PVIOMMU_MIRROR_ASSIGNED_BAR     4
#define PVIOMMU_MIRROR_ASSIGNED_SIZE    0x10000
#define PVIOMMU_MIRROR_MEMORY_OFFSET    0x4000 /* of its memory in BAR 4 */
#define PVIOMMU_MIRROR_MEMORY_SIZE      0x8000

/* Operands of commands, and what they answer with. */
#define PVIOMMU_MIRROR_CMD              0x00 /* WO: _CMD_*, and it runs */
#define PVIOMMU_MIRROR_RESULT           0x08 /* RO: of the last command */
#define PVIOMMU_MIRROR_IOVA             0x10 /* RW: a bus address */
#define PVIOMMU_MIRROR_LEN              0x18 /* RW */
#define PVIOMMU_MIRROR_GPA              0x20 /* RW: a guest-physical address */
#define PVIOMMU_MIRROR_DATA             0x28 /* RW */
#define PVIOMMU_MIRROR_WRITE            0x30 /* RW: not 0: a write */
#define PVIOMMU_MIRROR_PERM             0x38 /* RO: bit 0 read, bit 1 write */
#define PVIOMMU_MIRROR_MASK             0x40 /* RO: of an entry, its size - 1 */
#define PVIOMMU_MIRROR_SLOT             0x48 /* RW: a DMA in flight */
/* While not 0: each notification makes it store DATA there, 32 bits. */
#define PVIOMMU_MIRROR_POKE             0x50 /* RW: a guest-physical address */
#define PVIOMMU_MIRROR_POKED            0x58 /* RO: stores that arrived */
/* While not 0: what the first useful UNMAP finds there, 64 bits, is SEEN. */
#define PVIOMMU_MIRROR_WATCH            0x60 /* RW: a guest-physical address */
#define PVIOMMU_MIRROR_SEEN             0x68 /* RO: 0 again by _CMD_CLEAR */

/*
 * When it waits until its I/O thread has translated IOVA. While RING is not 0,
 * that thread first stores DATA there, 32 bits.
 */
#define PVIOMMU_MIRROR_WAIT             0x70 /* RW: of these bits */
#define PVIOMMU_MIRROR_WAIT_TRANSACTION 1   /* at begin, changes, and commit */
#define PVIOMMU_MIRROR_WAIT_NOTIFIED    2
#define PVIOMMU_MIRROR_WAIT_UNLOCKED    4   /* and drops the BQL meanwhile */
#define PVIOMMU_MIRROR_RING             0x78 /* RW: a guest-physical address */

#define PVIOMMU_MIRROR_HIDE             0x200 /* RW: not 0: BAR 4's memory */

/* What there is, and what happened since the last _CMD_CLEAR. */
#define PVIOMMU_MIRROR_COUNTER(n)       (0x80 + 8 * (n))
#define PVIOMMU_MIRROR_ENTRIES          0   /* in the mirror or cache, now */
#define PVIOMMU_MIRROR_PAGES            1   /* translated ones among them */
#define PVIOMMU_MIRROR_MAPS             2   /* notifications */
#define PVIOMMU_MIRROR_UNMAPS           3
#define PVIOMMU_MIRROR_DEVIOTLB_UNMAPS  4
#define PVIOMMU_MIRROR_LARGEST_MAP      5   /* bytes */
#define PVIOMMU_MIRROR_LARGEST_UNMAP    6
/* Unmapping them took something out. */
#define PVIOMMU_MIRROR_USEFUL_UNMAPS    7
/*
 * Notifications that no device behind an IOMMU can use: not a power
 * of two, not aligned, MAP of what is mapped, not RAM, not the right type.
 */
#define PVIOMMU_MIRROR_VIOLATIONS       8
/* UNMAP of a part of what one MAP brought: -EINVAL from VFIO. */
#define PVIOMMU_MIRROR_BISECTED         9
#define PVIOMMU_MIRROR_RAM_SECTIONS     10  /* in its address space, now */
#define PVIOMMU_MIRROR_IOMMU_SECTIONS   11
#define PVIOMMU_MIRROR_WAITS            12  /* that ended */
#define PVIOMMU_MIRROR_STUCK            13  /* that did not; it waits no more */
/* Of the other notifier, see _CMD_SYNC */
#define PVIOMMU_MIRROR_OTHER_MAPS       14
#define PVIOMMU_MIRROR_OTHER_UNMAPS     15
#define PVIOMMU_MIRROR_OTHER_LARGEST    16  /* UNMAP, in bytes */
#define PVIOMMU_MIRROR_NR_COUNTERS      17

/* Is IOVA in the mirror or cache? RESULT: 1 or 0; GPA, PERM, MASK, DATA: RAM */
#define PVIOMMU_MIRROR_CMD_LOOKUP       1
/* Counters of what happened start from 0. */
#define PVIOMMU_MIRROR_CMD_CLEAR        2
/*
 * Store all entries, neighbours that continue each other as one, at GPA, at
 * the most LEN of them. RESULT: how many there are.
 */
#define PVIOMMU_MIRROR_CMD_DUMP         3
/* Translate IOVA, for WRITE or not, into the cache. RESULT: 1 or 0 */
#define PVIOMMU_MIRROR_CMD_FILL         4
/* Translate IOVA but keep nothing. RESULT: 1 or 0; GPA, PERM, MASK */
#define PVIOMMU_MIRROR_CMD_TRANSLATE    5
/* DMA of LEN (1 to 8) bytes at IOVA: DATA, for WRITE or not. RESULT: 1 or 0 */
#define PVIOMMU_MIRROR_CMD_DMA          6
/*
 * Begin a DMA of LEN bytes at IOVA, for WRITE or not, and hold it in SLOT.
 * RESULT: bytes that could be mapped, 0 for none.
 */
#define PVIOMMU_MIRROR_CMD_HOLD         7
/* In the middle of it: DATA at offset IOVA in it, for WRITE or not. */
#define PVIOMMU_MIRROR_CMD_TOUCH        8
/* End it; LEN bytes were accessed. */
#define PVIOMMU_MIRROR_CMD_RELEASE      9
/* LEN writes of 32 bits at IOVA: DATA, twice DATA... RESULT: as many worked */
#define PVIOMMU_MIRROR_CMD_COUNT        10
/*
 * Replay to another notifier, which is not registered, as VFIO does it to sync
 * its dirty log: one section that is translated. RESULT: 1 or 0
 */
#define PVIOMMU_MIRROR_CMD_SYNC         11
/* Register the same notifier, with no replay; and take it away again. */
#define PVIOMMU_MIRROR_CMD_LISTEN       12
#define PVIOMMU_MIRROR_CMD_UNLISTEN     13
/*
 * LEN writes of 32 bits, DATA, at IOVA, the next byte, and so on. RESULT: how
 * many worked
 */
#define PVIOMMU_MIRROR_CMD_SWEEP        14

#define PVIOMMU_MIRROR_NR_SLOTS         8

/* An entry as DUMP stores it. */
struct pviommu_mirror_entry {
    uint64_t iova;
    uint64_t gpa;
    uint64_t len;
    uint32_t perm;
    uint32_t ram;               /* 1: not translated, mapped as it is */
};

#endif /* TESTS_PVIOMMU_MIRROR_H */
