/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: what QEMU calls of libxenctrl, libxengnttab and libxentoolcore
 *
 * No guest here grants anything, so that mapping a grant is a mistake.
 */

#include "sim.h"

#include <errno.h>
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

void *xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count,
                                      uint32_t dom, uint32_t *refs, int prot)
{
    sim_call(__func__, "%u", count);
    sim_refuse(EINVAL, "%s: nothing is granted", __func__);
    return NULL;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *addr, uint32_t count)
{
    sim_call(__func__, "%u at %p", count, addr);
    return sim_refuse(EINVAL, "%s: nothing is granted", __func__);
}
