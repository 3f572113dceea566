/* SPDX-License-Identifier: MIT */
/*
 * Pages that leave a guest: how the hypervisor tells an emulator which
 *
 * An ioreq server that asked for it (HVM_IOREQSRV_INVALIDATE_PAGE) is told of
 * each page that leaves its domain's p2m, after the page left and before it is
 * freed, and the hypervisor waits for the answer. A server that did not ask
 * gets IOREQ_TYPE_INVALIDATE, everything, as ever.
 *
 * This header needs nothing but <stdint.h> and is shared by QEMU, the
 * hypervisor and the tests. Units: frames of 4 KiB; addr of a synchronous
 * request is a guest-physical byte address.
 *
 * Two ways to say it:
 *
 * - A synchronous request of this type: addr is the address of the first page,
 *   count is how many pages (not 0), data is 0.
 * - Entries of this type in the server's buffered ring, each a naturally
 *   aligned block of pages, and then, before the first of them is freed, a
 *   barrier: a synchronous request with count 0, addr 0, and in data how many
 *   entries were ever put into this ring, this far. When it is answered, all
 *   of them have been dealt with. (A total and not a difference, because vCPUs
 *   share the ring: an entry of one may be read with the barrier of another.)
 *
 * All have dir IOREQ_WRITE, data_is_ptr and df 0; a synchronous request has
 * size 8, since an emulator cuts the data of a write to its size.
 */

#ifndef XEN_PUBLIC_HVM_INVALIDATE_PAGE_H
#define XEN_PUBLIC_HVM_INVALIDATE_PAGE_H

#define IOREQ_TYPE_INVALIDATE_PAGE      9

/*
 * With one of HVM_IOREQSRV_BUFIOREQ_* in XEN_DMOP_create_ioreq_server's
 * handle_bufioreq: this server wants to be told page by page. A hypervisor
 * that does not know it refuses the call with -EINVAL. Entries in the ring
 * are used with HVM_IOREQSRV_BUFIOREQ_ATOMIC only.
 */
#define HVM_IOREQSRV_INVALIDATE_PAGE    0x80

/* buf_ioreq.size of an entry: how large its block is. */
#define XEN_INVALIDATE_PAGE_4K          0
#define XEN_INVALIDATE_PAGE_2M          1
#define XEN_INVALIDATE_PAGE_1G          2

/* log2 of the pages in a block of that class. */
#define XEN_INVALIDATE_PAGE_ORDER(size_class)   (9 * (size_class))

/* The GFN of an entry: 52 bits, of which addr holds the upper 20. */
#define XEN_INVALIDATE_PAGE_GFN(addr, data) \
    (((uint64_t)(addr) << 32) | (uint32_t)(data))
#define XEN_INVALIDATE_PAGE_ADDR(gfn)   ((uint32_t)((uint64_t)(gfn) >> 32))
#define XEN_INVALIDATE_PAGE_DATA(gfn)   ((uint32_t)(gfn))

#endif /* XEN_PUBLIC_HVM_INVALIDATE_PAGE_H */
