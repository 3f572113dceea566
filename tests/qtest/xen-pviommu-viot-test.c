/*
 * xen-pviommu: the ACPI table that names it as the IOMMU of PCI functions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "libqos/fw_cfg.h"
#include "libqos/pci-pc.h"
#include "libqos/xen-pviommu.h"

/* Of the ACPI specification, 5.2.29 (VIOT): offsets in bytes. */
#define TABLE_LENGTH            4
#define VIOT_NODE_COUNT         36
#define VIOT_NODE_OFFSET        38
#define NODE_TYPE               0
#define NODE_LENGTH             2
#define NODE_TYPE_PCI_RANGE     1
#define NODE_TYPE_VIRTIO_PCI    3
#define RANGE_BDF_START         12
#define RANGE_BDF_END           14
#define RANGE_OUTPUT            16
#define IOMMU_BDF               6

#define TABLES_SIZE             (1024 * 1024)

typedef struct Viot {
    uint8_t *tables;            /* all of them */
    const uint8_t *viot;        /* NULL if there is none */
} Viot;

/* The tables as firmware gets them, which is when QEMU makes them. */
static Viot viot_read(QTestState *qts)
{
    QFWCFG *fw_cfg = pc_fw_cfg_init(qts);
    Viot v = { .tables = g_malloc0(TABLES_SIZE) };
    size_t size = qfw_cfg_get_file(fw_cfg, "etc/acpi/tables", v.tables,
                                   TABLES_SIZE);

    g_assert_cmpuint(size, >, 0);
    g_assert_cmpuint(size, <=, TABLES_SIZE);
    v.viot = memmem(v.tables, size, "VIOT", 4);
    pc_fw_cfg_uninit(fw_cfg);
    return v;
}

/* The output node of the range that @bdf is in; 0 if it is in none. */
static unsigned viot_output(const Viot *v, uint16_t bdf)
{
    const uint8_t *node = v->viot + lduw_le_p(v->viot + VIOT_NODE_OFFSET);
    unsigned count = lduw_le_p(v->viot + VIOT_NODE_COUNT);

    for (; count--; node += lduw_le_p(node + NODE_LENGTH)) {
        g_assert_cmpuint(node - v->viot, <,
                         ldl_le_p(v->viot + TABLE_LENGTH));
        if (node[NODE_TYPE] == NODE_TYPE_PCI_RANGE &&
            bdf >= lduw_le_p(node + RANGE_BDF_START) &&
            bdf <= lduw_le_p(node + RANGE_BDF_END)) {
            return lduw_le_p(node + RANGE_OUTPUT);
        }
    }
    return 0;
}

static void assert_covers(const Viot *v, uint16_t bdf)
{
    unsigned output = viot_output(v, bdf);
    const uint8_t *node = v->viot + output;

    g_assert_cmpuint(output, !=, 0);
    g_assert_cmpuint(node[NODE_TYPE], ==, NODE_TYPE_VIRTIO_PCI);
    g_assert_cmphex(lduw_le_p(node + IOMMU_BDF), ==, PVIOMMU_SLOT << 3);
}

static void test_no_table_by_default(const void *machine)
{
    g_autofree char *args = pviommu_args(machine, NULL, NULL);
    QTestState *qts = qtest_init(args);
    Viot v = viot_read(qts);

    g_assert_null(v.viot);
    g_free(v.tables);
    qtest_quit(qts);
}

static void test_covers_the_root_bus(const void *machine)
{
    g_autofree char *args = pviommu_args(machine, "viot=on", NULL);
    QTestState *qts = qtest_init(args);
    Viot v = viot_read(qts);

    g_assert_nonnull(v.viot);
    assert_covers(&v, 0);
    assert_covers(&v, 0x00ff);
    /* After a reset firmware reads them again. */
    g_free(v.tables);
    qtest_system_reset(qts);
    v = viot_read(qts);
    g_assert_nonnull(v.viot);
    assert_covers(&v, 0);
    g_free(v.tables);
    qtest_quit(qts);
}

/* Bus numbers of bridges are what firmware made them when it asks. */
static void test_covers_numbered_buses(void)
{
    g_autofree char *args = pviommu_args(
        "q35", "viot=on",
        "-device pcie-root-port,id=rp,addr=5,chassis=1 "
        "-device pxb-pcie,id=pxb,bus_nr=0x40,bus=pcie.0,addr=6 "
        "-device pxb-pcie,id=past,bus_nr=0x60,bus=pcie.0,addr=7,"
        "bypass_iommu=on");
    QTestState *qts = qtest_init(args);
    QPCIBus *pci = qpci_new_pc(qts, NULL);
    QPCIDevice *port = qpci_device_find(pci, QPCI_DEVFN(5, 0));
    Viot v;

    qpci_config_writeb(port, PCI_SECONDARY_BUS, 1);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, 3);
    v = viot_read(qts);
    g_assert_nonnull(v.viot);
    assert_covers(&v, 0x0028);
    assert_covers(&v, 0x0100);
    assert_covers(&v, 0x03ff);
    assert_covers(&v, 0x4000);
    /* Nothing is known of those past the IOMMU, nor of what no bridge has. */
    g_assert_cmpuint(viot_output(&v, 0x6000), ==, 0);
    g_assert_cmpuint(viot_output(&v, 0x0400), ==, 0);
    g_free(v.tables);
    g_free(port);
    qpci_free_pc(pci);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("viot/no-table-by-default",
                             test_no_table_by_default);
    pviommu_add_for_machines("viot/covers-the-root-bus",
                             test_covers_the_root_bus);
    pviommu_add("viot/covers-numbered-buses", test_covers_numbered_buses);
    return g_test_run();
}
