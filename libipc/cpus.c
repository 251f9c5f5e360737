/* SPDX-License-Identifier: MIT */

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "cpus.h"
#include "sys.h"

/* A membership file of this size is read; /proc/self/cgroup is a few lines. */
#define MEMBERSHIP_MAX 8192

bool
ipci_cpus_several(void)
{
	return ipci_sys_cpus() > 1;
}

static unsigned int
hundredths(long long quota_us, long long period_us)
{
	if (quota_us <= 0 || period_us <= 0 || quota_us / period_us > 10000)
		return IPCI_QUOTA_NONE;
	return (unsigned int)(quota_us * 100 / period_us);
}

/* A group's file of one number or two; false where it is not there or says "max". */
static bool
read_numbers(const char *directory, const char *name, long long *ret_first, long long *ret_second)
{
	char path[PATH_MAX], text[64];

	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return false;
	if (ipci_sys_read_file(path, text, sizeof(text)) < 0)
		return false;
	return sscanf(text, "%lld %lld", ret_first, ret_second) >= 1;
}

static unsigned int
group_quota(const char *directory)
{
	long long quota, period = 0, unused;

	if (read_numbers(directory, "cpu.max", &quota, &period))
		return hundredths(quota, period);
	if (read_numbers(directory, "cpu.cfs_quota_us", &quota, &unused) &&
		read_numbers(directory, "cpu.cfs_period_us", &period, &unused))
		return hundredths(quota, period);
	return IPCI_QUOTA_NONE;
}

/* The quota of the group at mount/path, and of each above it up to the mount. */
static unsigned int
path_quota(const char *mount, const char *path)
{
	char directory[PATH_MAX];
	unsigned int least = IPCI_QUOTA_NONE, quota;
	size_t mount_size = strlen(mount);
	char *slash;

	if (snprintf(directory, sizeof(directory), "%s%s", mount, path) >= (int)sizeof(directory))
		return least;
	for (;;) {
		quota = group_quota(directory);
		least = IPCI_MIN(least, quota);
		slash = strrchr(directory, '/');
		if (!slash || (size_t)(slash - directory) < mount_size)
			return least;
		*slash = '\0';
	}
}

/* Is "cpu" one of the comma-separated controllers? */
static bool
names_cpu(const char *controllers)
{
	const char *at;

	for (at = controllers; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, "cpu", 3) && (at[3] == ',' || at[3] == '\0'))
			return true;
	}
	return false;
}

unsigned int
ipci_cpus_quota(const char *membership, const char *root)
{
	char text[MEMBERSHIP_MAX], mount[PATH_MAX];
	char *line, *rest, *controllers, *path;
	unsigned int least = IPCI_QUOTA_NONE, quota;

	if (ipci_sys_read_file(membership, text, sizeof(text)) < 0)
		return least;

	/* Each line is "hierarchy:controllers:path"; no controllers means version 2. */
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		controllers = strchr(line, ':');
		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = '\0';
		controllers++;
		if (*controllers && !names_cpu(controllers))
			continue;
		if (snprintf(mount, sizeof(mount), "%s%s", root, *controllers ? "/cpu" : "") >=
			(int)sizeof(mount))
			continue;
		quota = path_quota(mount, path);
		least = IPCI_MIN(least, quota);
	}
	return least;
}

unsigned int
ipci_cpus_usable(void)
{
	unsigned int quota = ipci_cpus_quota(IPCI_CGROUP_MEMBERSHIP, IPCI_CGROUP_ROOT);
	unsigned int cpus = IPCI_MIN(ipci_sys_cpus(), (quota + 99) / 100);

	return IPCI_MAX(cpus, 1U);
}
