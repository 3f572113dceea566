/*
 * Where the host's pages are, as JSON: Xen counts them one by one, xl says MiB.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <xenctrl.h>

#define MAX_DOMAINS 64

int main(void)
{
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    xc_physinfo_t host = { 0 };
    xc_domaininfo_t domains[MAX_DOMAINS];
    int nr;

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
