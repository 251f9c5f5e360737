/* SPDX-License-Identifier: MIT */

/* The CPU quota of a process, as control groups of both versions tell it. */

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpus.h"
#include "support.h"

/* Where a test has its tree of control groups; the membership file stands beside it. */
static char directory[] = "/tmp/libipc-cpus-XXXXXX";
static char membership[64], root[64];

static void
write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	check(file);
	check(fputs(text, file) >= 0);
	check_equal(fclose(file), 0);
}

/* Put a file into the tree, with the directories above it. */
static void
put(const char *name, const char *text)
{
	char path[256], *slash;
	int n = snprintf(path, sizeof(path), "%s/%s", root, name);

	check(n > 0 && n < (int)sizeof(path));
	for (slash = path + strlen(root); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		check(mkdir(path, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	write_file(path, text);
}

static int
remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *where)
{
	(void)stat;
	(void)kind;
	(void)where;
	return remove(path);
}

static int
tree_begin(void **state)
{
	memcpy(directory + sizeof(directory) - 7, "XXXXXX", 6);
	check(mkdtemp(directory));
	(void)snprintf(membership, sizeof(membership), "%s/membership", directory);
	(void)snprintf(root, sizeof(root), "%s/cgroup", directory);
	return test_begin(state);
}

static int
tree_end(void **state)
{
	check_equal(nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
	return test_end(state);
}

static void
expect_quota(const char *groups, unsigned int expected)
{
	write_file(membership, groups);
	check_equal(ipci_cpus_quota(membership, root), expected);
}

static void
nothing_to_read(void **state)
{
	(void)state;
	check_equal(ipci_cpus_quota(membership, root), IPCI_QUOTA_NONE);
	expect_quota("", IPCI_QUOTA_NONE);
	expect_quota("0::/not/there\n", IPCI_QUOTA_NONE);
	expect_quota("0::/\n", IPCI_QUOTA_NONE);
	put("cpu.max/is.a.directory", "");
	expect_quota("0::/\n", IPCI_QUOTA_NONE);
}

static void
version_2(void **state)
{
	(void)state;
	put("a/cpu.max", "150000 100000\n");
	expect_quota("0::/a\n", 150);
	expect_quota("0::/a", 150);
	put("a/cpu.max", "5000 10000\n");
	expect_quota("0::/a\n", 50);
	put("a/cpu.max", "1000 1000000\n");
	expect_quota("0::/a\n", 0);
	put("a/cpu.max", "6400000 100000\n");
	expect_quota("0::/a\n", 6400);
}

static void
max_is_no_quota(void **state)
{
	(void)state;
	put("a/cpu.max", "max 100000\n");
	expect_quota("0::/a\n", IPCI_QUOTA_NONE);
	put("a/cpu.max", "max\n");
	expect_quota("0::/a\n", IPCI_QUOTA_NONE);
}

/* The least of a group and all above it, wherever it stands. */
static void
the_least_above_counts(void **state)
{
	static const char *const places[] = {
		"cpu.max", "a/cpu.max", "a/b/cpu.max", "a/b/c/cpu.max"};
	unsigned int least, i;

	(void)state;
	for (least = 0; least < 4; least++) {
		for (i = 0; i < 4; i++)
			put(places[i], i == least ? "70000 100000\n" : "max 100000\n");
		expect_quota("0::/a/b/c\n", 70);
		for (i = 0; i < 4; i++)
			put(places[i], i == least ? "70000 100000\n" : "200000 100000\n");
		expect_quota("0::/a/b/c\n", 70);
	}
	/* A group beside the path is another's. */
	put("a/z/cpu.max", "1000 100000\n");
	expect_quota("0::/a/b/c\n", 70);
}

static void
a_group_between_without_the_file(void **state)
{
	(void)state;
	put("a/b/c/unrelated", "");
	put("a/cpu.max", "30000 100000\n");
	expect_quota("0::/a/b/c\n", 30);
}

static void
version_1(void **state)
{
	(void)state;
	put("cpu/a/cpu.cfs_quota_us", "250000\n");
	put("cpu/a/cpu.cfs_period_us", "100000\n");
	expect_quota("4:cpu:/a\n", 250);
	expect_quota("4:cpu,cpuacct:/a\n", 250);
	expect_quota("4:cpuacct,cpu:/a\n", 250);
	/* These name other controllers. */
	expect_quota(
		"4:cpuset:/a\n3:cpuacct:/a\n2:memory:/a\n1:name=systemd:/a\n", IPCI_QUOTA_NONE);
	put("cpu/a/cpu.cfs_quota_us", "-1\n");
	expect_quota("4:cpu:/a\n", IPCI_QUOTA_NONE);
}

static void
version_1_nested(void **state)
{
	(void)state;
	put("cpu/a/cpu.cfs_quota_us", "80000\n");
	put("cpu/a/cpu.cfs_period_us", "100000\n");
	put("cpu/a/b/cpu.cfs_quota_us", "-1\n");
	put("cpu/a/b/cpu.cfs_period_us", "100000\n");
	expect_quota("7:memory:/x\n4:cpu,cpuacct:/a/b\n", 80);
	put("cpu/cpu.cfs_quota_us", "20000\n");
	put("cpu/cpu.cfs_period_us", "100000\n");
	expect_quota("4:cpu:/a/b\n", 20);
}

static void
version_1_half_there(void **state)
{
	(void)state;
	put("cpu/a/cpu.cfs_quota_us", "80000\n");
	expect_quota("4:cpu:/a\n", IPCI_QUOTA_NONE);
	put("cpu/a/cpu.cfs_period_us", "0\n");
	expect_quota("4:cpu:/a\n", IPCI_QUOTA_NONE);
}

/* Both versions at once: the least of them. */
static void
both_versions(void **state)
{
	(void)state;
	put("cpu/a/cpu.cfs_quota_us", "80000\n");
	put("cpu/a/cpu.cfs_period_us", "100000\n");
	put("b/cpu.max", "60000 100000\n");
	expect_quota("4:cpu:/a\n0::/b\n", 60);
	put("b/cpu.max", "90000 100000\n");
	expect_quota("4:cpu:/a\n0::/b\n", 80);
}

static void
nonsense(void **state)
{
	static const char *const texts[] = {"", "\n", "x y\n", "0 100000\n", "-5 100000\n",
		"100000\n", "100000 0\n", "100000 -1\n", "9223372036854775807 1\n"};
	unsigned int i;
	char *long_line;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		put("a/cpu.max", texts[i]);
		expect_quota("0::/a\n", IPCI_QUOTA_NONE);
	}
	put("a/cpu.max", "40000 100000\n");
	expect_quota("\n:\nx\n0:\n::\n0::/a\n", 40);

	/* Longer than any path; and a line that is cut by the buffer. */
	long_line = malloc(20001);
	check(long_line);
	memset(long_line, 'x', 20000);
	long_line[20000] = '\0';
	memcpy(long_line, "0::/", 4);
	expect_quota(long_line, IPCI_QUOTA_NONE);
	memcpy(long_line, "0::/a\n0::/", 10);
	expect_quota(long_line, 40);
	free(long_line);
}

static void
the_mask_counts(void **state)
{
	cpu_set_t before, one;
	size_t cpu = 0;

	(void)state;
	check_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	check_equal(ipci_cpus_several(), CPU_COUNT(&before) > 1);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	check_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	check(!ipci_cpus_several());
	check_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

#define tree_test(function) cmocka_unit_test_setup_teardown(function, tree_begin, tree_end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(nothing_to_read),
		tree_test(version_2),
		tree_test(max_is_no_quota),
		tree_test(the_least_above_counts),
		tree_test(a_group_between_without_the_file),
		tree_test(version_1),
		tree_test(version_1_nested),
		tree_test(version_1_half_there),
		tree_test(both_versions),
		tree_test(nonsense),
		tree_test(the_mask_counts),
	};

	return run_group(tests);
}
