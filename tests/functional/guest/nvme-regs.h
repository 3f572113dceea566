/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NVMe controller, as far as tests use it: its registers in BAR 0, commands
 * and completions
 */

#ifndef TESTS_GUEST_NVME_REGS_H
#define TESTS_GUEST_NVME_REGS_H

#include <stdint.h>

#define NVME_VENDOR     0x1b36
#define NVME_DEVICE     0x0010

#define NVME_CAP        0x00u           /* 64 bits */
#define NVME_CC         0x14u
#define NVME_CSTS       0x1cu
#define NVME_AQA        0x24u
#define NVME_ASQ        0x28u           /* 64 bits */
#define NVME_ACQ        0x30u           /* 64 bits */
#define NVME_DOORBELLS  0x1000u

#define NVME_CC_ENABLE  1u
/* Entries of 64 and 16 bytes */
#define NVME_CC_ENTRIES (6u << 16 | 4u << 20)
#define NVME_CSTS_READY 1u
#define NVME_CSTS_FATAL 2u

enum {
    NVME_ADMIN_CREATE_SQ = 1,
    NVME_ADMIN_CREATE_CQ = 5,
    NVME_ADMIN_IDENTIFY = 6,
};

enum {
    NVME_IO_FLUSH,
    NVME_IO_WRITE,
    NVME_IO_READ,
};

/* Of the generic kind */
#define NVME_SC_SUCCESS         0u
#define NVME_SC_DATA_TRANSFER   4u

typedef struct NvmeCommand {
    uint8_t opcode;
    uint8_t flags;
    uint16_t id;
    uint32_t nsid;
    uint32_t dw2_3[2];
    uint64_t metadata;
    uint64_t prp1;
    uint64_t prp2;
    uint32_t dw10_15[6];
} NvmeCommand;

typedef struct NvmeCompletion {
    uint32_t result;
    uint32_t reserved;
    uint16_t sq_head;
    uint16_t sq;
    uint16_t id;
    uint16_t status;            /* bit 0 is the phase */
} NvmeCompletion;

_Static_assert(sizeof(NvmeCommand) == 64, "a command");
_Static_assert(sizeof(NvmeCompletion) == 16, "a completion");

#endif /* TESTS_GUEST_NVME_REGS_H */
