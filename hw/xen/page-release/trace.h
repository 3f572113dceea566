/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "trace/trace-xen_pviommu_hw_xen_page_release.h"
