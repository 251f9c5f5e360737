/* SPDX-License-Identifier: MIT */

/* Sets of descriptors: who closes what, and what of control data ends in a set. */

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fds.h"
#include "support.h"

static int
open_one(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	check(fd >= 0);
	return fd;
}

static bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* n descriptors with successive numbers, all at or above first. */
static void
open_run(int *fds, unsigned int n, int first)
{
	int fd = open_one();
	unsigned int i;

	for (i = 0; i < n; i++)
		check_equal(fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, first + (int)i), first + (int)i);
	check_equal(close(fd), 0);
}

static void
closes_all_and_forgets(void **state)
{
	struct ipci_fds set = {0};
	unsigned int i;

	(void)state;
	ipci_fds_close(&set);
	set.n = 7;
	open_run(set.fds, 7, 40);
	ipci_fds_close(&set);
	check_equal(set.n, 0);
	for (i = 0; i < 7; i++) {
		check_equal(set.fds[i], -1);
		check(!is_open(40 + (int)i));
	}
}

/* Runs, gaps, holes and numbers that fall: those in it are closed, no other is. */
static void
closes_these_and_no_others(void **state)
{
	static const int orders[][6] = {
		{40, 41, 42, 44, 45, 46},
		{46, 45, 44, 42, 41, 40},
		{40, -1, 41, 42, -1, 44},
		{-1, -1, -1, -1, -1, -1},
		{-1, 40, 41, 42, 44, -1},
		{44, 40, 45, 41, 46, 42},
		{40, 42, 44, 46, -1, -1},
	};
	unsigned int i, j, k;
	int fds[6], all[8];
	bool named;

	(void)state;
	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		open_run(all, 8, 40);
		memcpy(fds, orders[i], sizeof(fds));
		ipci_fds_close_some(fds, 6);
		for (k = 0; k < 6; k++)
			check_equal(fds[k], -1);
		for (k = 0; k < 8; k++) {
			named = false;
			for (j = 0; j < 6; j++)
				named |= orders[i][j] == all[k];
			check_equal(is_open(all[k]), !named);
			if (!named)
				check_equal(close(all[k]), 0);
		}
	}
}

static void
closes_only_as_many_as_said(void **state)
{
	int fds[5];
	unsigned int i;

	(void)state;
	open_run(fds, 5, 40);
	ipci_fds_close_some(fds, 3);
	check_equal(fds[2], -1);
	check_equal(fds[3], 43);
	for (i = 3; i < 5; i++) {
		check(is_open(fds[i]));
		check_equal(close(fds[i]), 0);
	}
	ipci_fds_close_some(fds, 0);
}

static void
duplicates_are_its_own(void **state)
{
	int fds[2] = {open_one(), open_one()}, i;
	struct ipci_fds set = {0};

	(void)state;
	check_equal(ipci_fds_add_dup(&set, fds, 2), 0);
	check_equal(ipci_fds_add_dup(&set, fds, 1), 0);
	check_equal(ipci_fds_add_dup(&set, NULL, 0), 0);
	check_equal(set.n, 3);
	for (i = 0; i < 3; i++) {
		check(set.fds[i] != fds[0] && set.fds[i] != fds[1]);
		check(is_same_file(set.fds[i], fds[i % 2]));
		check_equal(fcntl(set.fds[i], F_GETFD), FD_CLOEXEC);
	}
	ipci_fds_close(&set);
	for (i = 0; i < 2; i++)
		check_equal(close(fds[i]), 0);
}

/* One that is not open, at each place: those before it are closed again, the set is as it was. */
static void
a_failed_duplicate_leaves_nothing(void **state)
{
	unsigned int bad, i, open;
	struct ipci_fds set = {0};
	int fds[4];

	(void)state;
	set.fds[set.n++] = open_one();
	open = descriptors_open();
	for (bad = 0; bad < 4; bad++) {
		for (i = 0; i < 4; i++)
			fds[i] = set.fds[0];
		fds[bad] = bad % 2 ? -1 : 1000;
		check_equal(ipci_fds_add_dup(&set, fds, 4), -EBADF);
		check_equal(set.n, 1);
		check_equal(descriptors_open(), open);
		check(is_open(set.fds[0]));
	}
	ipci_fds_close(&set);
}

static void
a_duplicate_above_the_limit(void **state)
{
	struct ipci_fds set = {0};
	int fds[3] = {open_one(), 0, 0};
	unsigned int open;

	(void)state;
	fds[1] = fds[2] = fds[0];
	open = descriptors_open();
	descriptors_limit(2);
	check_equal(ipci_fds_add_dup(&set, fds, 3), -EMFILE);
	check_equal(set.n, 0);
	check_equal(ipci_fds_add_dup(&set, fds, 2), 0);
	descriptors_unlimit();
	ipci_fds_close(&set);
	check_equal(descriptors_open(), open);
	check_equal(close(fds[0]), 0);
}

/* What is packed is what is collected, over memory alone. */
static void
packed_and_collected(void **state)
{
	static const unsigned int numbers[] = {1, 2, 3, 252, 253};
	unsigned int k, i, n;

	(void)state;
	for (k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
		struct ipci_control control;
		struct ipci_fds set = {0};
		struct msghdr message = {0};
		int fds[IPC_MESSAGE_FDS_LIMIT];

		n = numbers[k];
		for (i = 0; i < n; i++)
			fds[i] = 100000 + (int)(i * 7);
		ipci_control_pack(&message, &control, fds, n);
		check_equal(message.msg_controllen, CMSG_SPACE(n * sizeof(int)));
		check(message.msg_controllen <= sizeof(control.bytes));
		(void)ipci_control_collect(&message, &set, NULL);
		check_equal(set.n, n);
		check(memcmp(set.fds, fds, n * sizeof(int)) == 0);
	}
}

static void
nothing_to_pack(void **state)
{
	struct ipci_control control;
	struct ipci_fds set = {0};
	struct msghdr message = {.msg_control = &control, .msg_controllen = sizeof(control)};

	(void)state;
	ipci_control_pack(&message, &control, NULL, 0);
	check(!message.msg_control);
	check_equal(message.msg_controllen, 0);
	(void)ipci_control_collect(&message, &set, NULL);
	check_equal(set.n, 0);
}

/* Append a control message of n integers that begin with first. */
static void
append(struct msghdr *message, int level, int type, int first, unsigned int n)
{
	struct cmsghdr header = {
		.cmsg_len = CMSG_LEN(n * sizeof(int)), .cmsg_level = level, .cmsg_type = type};
	unsigned char *place = (unsigned char *)message->msg_control + message->msg_controllen;
	unsigned int i;
	int value;

	memcpy(place, &header, sizeof(header));
	for (i = 0; i < n; i++) {
		value = first + (int)i;
		memcpy(place + CMSG_LEN(0) + i * sizeof(int), &value, sizeof(value));
	}
	message->msg_controllen += CMSG_SPACE(n * sizeof(int));
}

/* Credentials before, between and after; rights in several pieces. */
static void
several_control_messages(void **state)
{
	_Alignas(struct cmsghdr) unsigned char bytes[1024];
	struct msghdr message = {.msg_control = bytes};
	struct ipci_fds set = {0};
	int i;

	(void)state;
	append(&message, SOL_SOCKET, SCM_CREDENTIALS, 1, 3);
	append(&message, SOL_SOCKET, SCM_RIGHTS, 100000, 3);
	append(&message, SOL_SOCKET + 1, SCM_RIGHTS, 7, 5);
	append(&message, SOL_SOCKET, SCM_RIGHTS, 0, 0);
	append(&message, SOL_SOCKET, SCM_RIGHTS, 100003, 2);
	append(&message, SOL_SOCKET, SCM_CREDENTIALS, 1, 3);
	(void)ipci_control_collect(&message, &set, NULL);
	check_equal(set.n, 5);
	for (i = 0; i < 5; i++)
		check_equal(set.fds[i], 100000 + i);
}

/* More than there is room for: the rest is closed, not lost. */
static void
more_than_the_set_holds(void **state)
{
	static _Alignas(struct cmsghdr) unsigned char bytes[4096];
	struct msghdr message = {.msg_control = bytes};
	int fds[IPCI_FDS_CAPACITY + 6];
	struct ipci_fds set = {0};
	int i;

	(void)state;
	open_run(fds, IPCI_FDS_CAPACITY + 6, 300);
	append(&message, SOL_SOCKET, SCM_RIGHTS, 300, 250);
	append(&message, SOL_SOCKET, SCM_RIGHTS, 550, IPCI_FDS_CAPACITY + 6 - 250);
	(void)ipci_control_collect(&message, &set, NULL);
	check_equal(set.n, IPCI_FDS_CAPACITY);
	for (i = 0; i < (int)IPCI_FDS_CAPACITY + 6; i++)
		check_equal(is_open(300 + i), i < (int)IPCI_FDS_CAPACITY);
	ipci_fds_close(&set);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(closes_all_and_forgets),
		channel_test(closes_these_and_no_others),
		channel_test(closes_only_as_many_as_said),
		channel_test(duplicates_are_its_own),
		channel_test(a_failed_duplicate_leaves_nothing),
		channel_test(a_duplicate_above_the_limit),
		channel_test(packed_and_collected),
		channel_test(nothing_to_pack),
		channel_test(several_control_messages),
		channel_test(more_than_the_set_holds),
	};

	return run_group(tests);
}
