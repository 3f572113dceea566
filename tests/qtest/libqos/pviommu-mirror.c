/*
 * libqos driver for pviommu-mirror, a test device that is notified of
 * translations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/pviommu-mirror.h"

#define REG(name)       PVIOMMU_MIRROR_ ## name
#define CMD(name)       PVIOMMU_MIRROR_CMD_ ## name

void mirror_init(QMirror *m, QXenPVIOMMU *iommu, int devfn)
{
    QPCIAddress addr = {
        .devfn = devfn,
        .vendor_id = PVIOMMU_MIRROR_VENDOR_ID,
        .device_id = PVIOMMU_MIRROR_DEVICE_ID,
    };

    m->iommu = iommu;
    m->sbdf = devfn;
    qpci_device_init(&m->dev, iommu->pci, &addr);
    m->bar = qpci_iomap(&m->dev, PVIOMMU_MIRROR_BAR, NULL);
    qpci_device_enable(&m->dev);
}

uint64_t mirror_read(QMirror *m, uint64_t reg)
{
    return qtest_readq(m->iommu->qts, m->bar.addr + reg);
}

void mirror_write(QMirror *m, uint64_t reg, uint64_t value)
{
    qtest_writeq(m->iommu->qts, m->bar.addr + reg, value);
}

uint64_t mirror_counter(QMirror *m, unsigned n)
{
    return mirror_read(m, REG(COUNTER(n)));
}

uint64_t mirror_cmd(QMirror *m, unsigned cmd)
{
    mirror_write(m, REG(CMD), cmd);
    return mirror_read(m, REG(RESULT));
}

void mirror_clear(QMirror *m)
{
    mirror_cmd(m, CMD(CLEAR));
}

bool mirror_lookup(QMirror *m, uint64_t iova, uint64_t *gpa, uint32_t *perm)
{
    mirror_write(m, REG(IOVA), iova);
    if (!mirror_cmd(m, CMD(LOOKUP))) {
        return false;
    }
    *gpa = mirror_read(m, REG(GPA));
    *perm = mirror_read(m, REG(PERM));
    return true;
}

static bool translate(QMirror *m, unsigned cmd, uint64_t iova, bool write)
{
    mirror_write(m, REG(IOVA), iova);
    mirror_write(m, REG(WRITE), write);
    return mirror_cmd(m, cmd);
}

bool mirror_fill(QMirror *m, uint64_t iova, bool write)
{
    return translate(m, CMD(FILL), iova, write);
}

uint64_t mirror_translate(QMirror *m, uint64_t iova, bool write)
{
    bool done = translate(m, CMD(TRANSLATE), iova, write);

    return done ? mirror_read(m, REG(MASK)) + 1 : 0;
}

bool mirror_dma_read(QMirror *m, uint64_t iova, uint64_t *data)
{
    bool done;

    mirror_write(m, REG(IOVA), iova);
    mirror_write(m, REG(LEN), sizeof(*data));
    mirror_write(m, REG(WRITE), false);
    done = mirror_cmd(m, CMD(DMA));
    *data = mirror_read(m, REG(DATA));
    return done;
}

bool mirror_dma_write(QMirror *m, uint64_t iova, uint64_t data, unsigned len)
{
    mirror_write(m, REG(IOVA), iova);
    mirror_write(m, REG(LEN), len);
    mirror_write(m, REG(DATA), data);
    mirror_write(m, REG(WRITE), true);
    return mirror_cmd(m, CMD(DMA));
}

uint64_t mirror_count(QMirror *m, uint64_t iova, uint64_t by, uint64_t nr)
{
    mirror_write(m, REG(IOVA), iova);
    mirror_write(m, REG(DATA), by);
    mirror_write(m, REG(LEN), nr);
    return mirror_cmd(m, CMD(COUNT));
}

uint64_t mirror_sweep(QMirror *m, uint64_t iova, uint64_t nr, uint32_t data)
{
    mirror_write(m, REG(IOVA), iova);
    mirror_write(m, REG(DATA), data);
    mirror_write(m, REG(LEN), nr);
    return mirror_cmd(m, CMD(SWEEP));
}

uint64_t mirror_hold(QMirror *m, unsigned slot, uint64_t iova, uint64_t len,
                     bool write)
{
    mirror_write(m, REG(SLOT), slot);
    mirror_write(m, REG(IOVA), iova);
    mirror_write(m, REG(LEN), len);
    mirror_write(m, REG(WRITE), write);
    return mirror_cmd(m, CMD(HOLD));
}

uint64_t mirror_touch_read(QMirror *m, unsigned slot, uint64_t offset)
{
    mirror_write(m, REG(SLOT), slot);
    mirror_write(m, REG(IOVA), offset);
    mirror_write(m, REG(WRITE), false);
    g_assert_true(mirror_cmd(m, CMD(TOUCH)));
    return mirror_read(m, REG(DATA));
}

void mirror_touch_write(QMirror *m, unsigned slot, uint64_t offset,
                        uint64_t data)
{
    mirror_write(m, REG(SLOT), slot);
    mirror_write(m, REG(IOVA), offset);
    mirror_write(m, REG(DATA), data);
    mirror_write(m, REG(WRITE), true);
    g_assert_true(mirror_cmd(m, CMD(TOUCH)));
}

void mirror_release(QMirror *m, unsigned slot, uint64_t len)
{
    mirror_write(m, REG(SLOT), slot);
    mirror_write(m, REG(LEN), len);
    g_assert_true(mirror_cmd(m, CMD(RELEASE)));
}

GArray *mirror_dump(QMirror *m, bool translated)
{
    g_autofree struct pviommu_mirror_entry *all = NULL;
    GArray *dump = g_array_new(false, false, sizeof(*all));
    uint64_t nr;

    mirror_write(m, REG(GPA), MIRROR_DUMP_ADDR);
    mirror_write(m, REG(LEN), MIRROR_DUMP_MAX);
    nr = mirror_cmd(m, CMD(DUMP));
    g_assert_cmpuint(nr, <=, MIRROR_DUMP_MAX);
    if (!nr) {
        return dump;
    }
    all = g_new(struct pviommu_mirror_entry, nr);
    qtest_bufread(m->iommu->qts, MIRROR_DUMP_ADDR, all, nr * sizeof(*all));
    for (uint64_t i = 0; i < nr; i++) {
        struct pviommu_mirror_entry e = {
            .iova = le64_to_cpu(all[i].iova),
            .gpa = le64_to_cpu(all[i].gpa),
            .len = le64_to_cpu(all[i].len),
            .perm = le32_to_cpu(all[i].perm),
            .ram = le32_to_cpu(all[i].ram),
        };

        if (!translated || !e.ram) {
            g_array_append_val(dump, e);
        }
    }
    return dump;
}

void mirror_assert_equal(QMirror *m, uint16_t ctx, uint64_t frames)
{
    g_autoptr(GArray) dump = mirror_dump(m, true);
    uint64_t seen = 0;

    for (guint i = 0; i < dump->len; i++) {
        struct pviommu_mirror_entry *e =
            &g_array_index(dump, struct pviommu_mirror_entry, i);

        seen += e->len / PVIOMMU_PAGE;
        pviommu_assert_mapped(m->iommu, ctx, e->iova / PVIOMMU_PAGE,
                              e->gpa / PVIOMMU_PAGE, e->len / PVIOMMU_PAGE,
                              e->perm == 1 ? XEN_IOMMUOP_map_readonly : 0);
    }
    g_assert_cmpuint(seen, ==, frames);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_PAGES), ==, frames);
    mirror_assert_sane(m);
}

void mirror_assert_sane(QMirror *m)
{
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_VIOLATIONS), ==, 0);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_BISECTED), ==, 0);
}

void mirror_assert_notified(QMirror *m, uint64_t maps, uint64_t unmaps)
{
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_MAPS), ==, maps);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_UNMAPS) +
                     mirror_counter(m, PVIOMMU_MIRROR_DEVIOTLB_UNMAPS), ==,
                     unmaps);
}

void mirror_assert_page(QMirror *m, uint64_t bfn, uint64_t gfn, uint32_t perm)
{
    uint64_t gpa;
    uint32_t p;

    g_assert_true(mirror_lookup(m, bfn * PVIOMMU_PAGE, &gpa, &p));
    g_assert_cmphex(gpa, ==, gfn * PVIOMMU_PAGE);
    g_assert_cmphex(p, ==, perm);
}

void mirror_assert_no_page(QMirror *m, uint64_t bfn)
{
    uint64_t gpa;
    uint32_t p;

    g_assert_false(mirror_lookup(m, bfn * PVIOMMU_PAGE, &gpa, &p));
}
