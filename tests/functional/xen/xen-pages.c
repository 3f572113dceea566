/*
 * xen-pages: where the host's pages are, as JSON: Xen counts them one by one,
 * xl says MiB
 * xen-pages take|put DOMID FIRST NR STEP: NR frames of a domain, FIRST and each
 * STEP behind it, lose their pages or get new ones, by one hypercall
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>

#define MAX_DOMAINS 64

static int change(xc_interface *xch, char **argv)
{
    long first, nr, step;
    xen_pfn_t *gfn;
    unsigned domid;
    int rc;

    if (sscanf(argv[2], "%u", &domid) != 1 ||
        sscanf(argv[3], "%li", &first) != 1 ||
        sscanf(argv[4], "%li", &nr) != 1 ||
        sscanf(argv[5], "%li", &step) != 1) {
        fprintf(stderr, "usage: xen-pages [take|put DOMID FIRST NR STEP]\n");
        return EXIT_FAILURE;
    }
    gfn = calloc(nr, sizeof(*gfn));
    if (!xch || !gfn) {
        perror("xen-pages");
        return EXIT_FAILURE;
    }
    for (long i = 0; i < nr; i++) {
        gfn[i] = first + i * step;
    }
    rc = strcmp(argv[1], "put") ?
         xc_domain_decrease_reservation_exact(xch, domid, nr, 0, gfn) :
         xc_domain_populate_physmap_exact(xch, domid, nr, 0, 0, gfn);
    if (rc) {
        perror("xen-pages: the domain's pages");
    }
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    xc_physinfo_t host = { 0 };
    xc_domaininfo_t domains[MAX_DOMAINS];
    int nr;

    if (argc == 6) {
        return change(xch, argv);
    }
    if (!xch || xc_physinfo(xch, &host) < 0) {
        perror("xen-pages: the host");
        return EXIT_FAILURE;
    }
    nr = xc_domain_getinfolist(xch, 0, MAX_DOMAINS, domains);
    if (nr < 0) {
        perror("xen-pages: the domains");
        return EXIT_FAILURE;
    }
    printf("{ \"total\": %llu, \"free\": %llu, \"domains\": {",
           (unsigned long long)host.total_pages,
           (unsigned long long)host.free_pages);
    for (int i = 0; i < nr; i++) {
        printf("%s \"%u\": { \"pages\": %llu, \"dying\": %s }",
               i ? "," : "", domains[i].domain,
               (unsigned long long)domains[i].tot_pages,
               domains[i].flags & XEN_DOMINF_dying ? "true" : "false");
    }
    printf(" } }\n");
    xc_interface_close(xch);
    return EXIT_SUCCESS;
}
