/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: what QEMU calls of libxenctrl, libxengnttab and libxentoolcore
 *
 * The guest grants what a test says; mapping anything else is a mistake.
 */

#include "sim.h"

#include <errno.h>
#include <sys/mman.h>
#include <xenctrl.h>
#include <xengnttab.h>
#include <xentoolcore.h>
#include <xen/hvm/params.h>

xc_interface *xc_interface_open(xentoollog_logger *logger,
                                xentoollog_logger *dombuild_logger,
                                unsigned flags)
{
    if (!sim_call(__func__, "flags 0x%x", flags)) {
        return NULL;
    }
    return sim_handle_new(SIM_XENCTRL, sizeof(SimHandle));
}

int xc_interface_close(xc_interface *xch)
{
    if (!sim_call(__func__, "-")) {
        return -1;
    }
    return sim_handle_free(__func__, xch, SIM_XENCTRL) ? 0 : -1;
}

int xc_domain_shutdown(xc_interface *xch, uint32_t dom, int reason)
{
    if (!sim_call(__func__, "%d", reason) ||
        !sim_handle(__func__, xch, SIM_XENCTRL) || !sim_domid(__func__, dom)) {
        return -1;
    }
    return 0;
}

/* Only for ioreq servers of the time before they were created. */
int xc_get_hvm_param(xc_interface *xch, uint32_t dom, int param,
                     unsigned long *value)
{
    sim_call(__func__, "%d", param);
    return sim_refuse(EINVAL, "%s: parameter %d", __func__, param);
}

int xc_set_hvm_param(xc_interface *xch, uint32_t dom, int param,
                     unsigned long value)
{
    if (!sim_call(__func__, "%d %lu", param, value) ||
        !sim_handle(__func__, xch, SIM_XENCTRL) || !sim_domid(__func__, dom)) {
        return -1;
    }
    if (param != HVM_PARAM_ACPI_S_STATE) {
        return sim_refuse(EINVAL, "%s: parameter %d", __func__, param);
    }
    return 0;
}

int xentoolcore_restrict_all(domid_t dom)
{
    if (!sim_call(__func__, "%u", dom) || !sim_domid(__func__, dom)) {
        return -1;
    }
    return 0;
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger,
                                 unsigned flags)
{
    if (!sim_call(__func__, "flags 0x%x", flags)) {
        return NULL;
    }
    return sim_handle_new(SIM_GNTTAB, sizeof(SimHandle));
}

int xengnttab_close(xengnttab_handle *xgt)
{
    if (!sim_call(__func__, "-")) {
        return -1;
    }
    return sim_handle_free(__func__, xgt, SIM_GNTTAB) ? 0 : -1;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr)
{
    if (!sim_call(__func__, "%u", nr) ||
        !sim_handle(__func__, xgt, SIM_GNTTAB)) {
        return -1;
    }
    return 0;
}

/* QEMU asks whether there is such a thing. */
int xengnttab_grant_copy(xengnttab_handle *xgt, uint32_t count,
                         xengnttab_grant_copy_segment_t *segs)
{
    if (!sim_call(__func__, "%u", count) ||
        !sim_handle(__func__, xgt, SIM_GNTTAB)) {
        return -1;
    }
    return count ? sim_refuse(EINVAL, "%s: nothing is granted", __func__) : 0;
}

static GHashTable *grants;       /* reference -> page */
static GHashTable *grant_maps;   /* address -> how many pages */

void *xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count,
                                      uint32_t dom, uint32_t *refs, int prot)
{
    g_autoptr(SimLocker) locker = NULL;
    uint8_t *base;

    if (!sim_call(__func__, "%u from %u, prot %d", count, count ? refs[0] : 0,
                  prot) ||
        !sim_handle(__func__, xgt, SIM_GNTTAB) || !sim_domid(__func__, dom)) {
        return NULL;
    }
    locker = sim_locker_new(&sim_lock);
    for (uint32_t i = 0; i < count; i++) {
        if (!grants || !g_hash_table_contains(grants,
                                              GUINT_TO_POINTER(refs[i]))) {
            sim_refuse(EINVAL, "%s: %u is not granted", __func__, refs[i]);
            return NULL;
        }
    }
    base = mmap(NULL, count * SIM_PAGE_SIZE, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(base != MAP_FAILED);
    for (uint32_t i = 0; i < count; i++) {
        gpointer page = g_hash_table_lookup(grants, GUINT_TO_POINTER(refs[i]));

        sim_page_map(base + i * SIM_PAGE_SIZE, GPOINTER_TO_UINT(page), prot);
    }
    if (!grant_maps) {
        grant_maps = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_insert(grant_maps, base, GUINT_TO_POINTER(count));
    return base;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *addr, uint32_t count)
{
    g_autoptr(SimLocker) locker = NULL;
    gpointer mapped;

    if (!sim_call(__func__, "%u at %p", count, addr) ||
        !sim_handle(__func__, xgt, SIM_GNTTAB)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    mapped = grant_maps ? g_hash_table_lookup(grant_maps, addr) : NULL;
    if (!mapped || GPOINTER_TO_UINT(mapped) != count) {
        return sim_refuse(EINVAL, "%s: no %u grants are mapped at %p", __func__,
                          count, addr);
    }
    g_hash_table_remove(grant_maps, addr);
    return munmap(addr, count * SIM_PAGE_SIZE);
}

/* grant REF GFN: the guest grants its page there */
static bool cmd_grant(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    uint32_t page = sim_page_at(args[1]);

    if (page == SIM_NO_PAGE) {
        g_string_append(reply, "no page there");
        return false;
    }
    if (!grants) {
        grants = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_insert(grants, GUINT_TO_POINTER(args[0]),
                        GUINT_TO_POINTER(page));
    return true;
}

const SimCommand sim_misc_commands[] = {
    { "grant", 2, cmd_grant },
    { }
};
