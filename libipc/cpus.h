/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_CPUS_H
#define LIBIPC_INTERNAL_CPUS_H

/*
 * How much CPU this process may use. Knows the affinity mask and the files of the
 * cgroup CPU controller, both versions; refuses to know what for.
 */

#include <stdbool.h>

/* Where the kernel shows control groups. */
#define IPCI_CGROUP_MEMBERSHIP "/proc/self/cgroup"
#define IPCI_CGROUP_ROOT       "/sys/fs/cgroup"

#define IPCI_QUOTA_NONE 1000000000U

/*
 * The smallest CPU quota of the groups that the membership file names, and of their
 * ancestors, in hundredths of a CPU; IPCI_QUOTA_NONE where there is none, or nothing
 * can be read.
 */
unsigned int ipci_cpus_quota(const char *membership, const char *root);

/* How many CPUs this process may keep busy: by its mask, and by its groups' quotas, rounded up. */
unsigned int ipci_cpus_usable(void);

/* More than one CPU in the mask? Cheap; the mask can change at any time. */
bool ipci_cpus_several(void);

#endif
