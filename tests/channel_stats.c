/* SPDX-License-Identifier: MIT */

/* The counters: what they count, and for callers of every edition. */

#include <string.h>
#include <unistd.h>

#include "raw.h"

static void
post_n(struct ipc_channel *channel, unsigned int n, size_t size)
{
	static const unsigned char zeros[200000];
	struct ipc_message message = {.data = zeros, .size = size};

	while (n--)
		check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
}

static void
a_new_pair_has_exchanged_hellos(void **state)
{
	struct ipc_channel_stats stats;
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	stats = stats_of(a);
	check_equal(stats.size, sizeof(stats));
	check_equal(stats.out.messages, 0);
	check_equal(stats.in.messages, 0);
	check_equal(stats.out.records, 1);
	check_equal(stats.in.records, 1);
	check_equal(stats.out.bytes, sizeof(struct ipci_hello));
	check_equal(stats.in.bytes, sizeof(struct ipci_hello));
	check_equal(stats.out.dropped, 0);
	check_equal(stats.in.dropped, 0);
	check_equal(stats.out.waits_spun + stats.out.waits_slept, 0);
	check_equal(stats.in.waits_spun + stats.in.waits_slept, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
both_ends_count_the_same(void **state)
{
	struct ipc_channel_stats out, in;
	struct ipc_channel *a, *b;
	struct ipc_message message;
	int fds[2] = {STDIN_FILENO, STDERR_FILENO};
	unsigned int n;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 2));
	post_n(a, 1000, 50);
	post_n(a, 1, 100000);
	message = (struct ipc_message){.fds = fds, .n_fds = 2};
	check_equal(ipc_channel_send(a, &message, 0), 0);
	for (n = 0; ipc_channel_recv(b, &message, 0) == 0; n++)
		;
	check_equal(n, 1002);

	out = stats_of(a);
	in = stats_of(b);
	check_equal(out.out.messages, 1002);
	check_equal(in.in.messages, 1002);
	check_equal(out.out.fds, 2);
	check_equal(in.in.fds, 2);
	check_equal(out.out.records, in.in.records);
	check_equal(out.out.bytes, in.in.bytes);
	check(out.out.bytes > 1000 * 50 + 100000);
	check_equal(out.in.messages, 0);
	check_equal(in.out.messages, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
gathering_saves_system_calls(void **state)
{
	struct ipc_channel_stats before, after;
	struct ipc_channel *a, *b;
	struct ipc_message message;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, NULL);
	before = stats_of(a);
	post_n(a, 500, 64);
	after = stats_of(a);
	check_equal(after.out.messages - before.out.messages, 500);
	check_equal(after.out.records - before.out.records, 1);
	check_equal(after.out.syscalls - before.out.syscalls, 1);

	before = stats_of(b);
	for (i = 0; i < 500; i++)
		check_equal(ipc_channel_recv(b, &message, 0), 0);
	after = stats_of(b);
	check_equal(after.in.records - before.in.records, 1);
	check_equal(after.in.syscalls - before.in.syscalls, 1);
	expect_nothing(b);
	/* One that brought nothing is a call as well. */
	check_equal(stats_of(b).in.syscalls - after.in.syscalls, 1);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_message_that_is_refused_is_not_counted(void **state)
{
	struct ipc_channel_stats before, after;
	struct ipc_message message = {.data = "", .size = SIZE_MAX};
	struct ipc_channel *a, *b;
	int fd = -1;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	before = stats_of(a);
	check_equal(ipc_channel_post(a, &message, 0), -EMSGSIZE);
	message = (struct ipc_message){.fds = &fd, .n_fds = 1};
	check_equal(ipc_channel_post(a, &message, 0), -EBADF);
	message.n_fds = 2;
	check_equal(ipc_channel_post(a, &message, 0), -E2BIG);
	after = stats_of(a);
	check_equal(memcmp(&before, &after, sizeof(before)), 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
what_a_full_socket_took_is_what_is_counted(void **state)
{
	struct ipc_channel *a, *b;
	unsigned int n;

	(void)state;
	pair_open(&a, &b, NULL);
	n = post_until_full(a, 100);
	check_equal(stats_of(a).out.messages, n);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
waits_are_counted_as_they_were_met(void **state)
{
	struct ipc_channel_stats stats;
	struct ipc_message message;
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, OPTIONS(.spin_us = -1));
	check_equal(ipc_channel_recv(b, &message, 0), -EAGAIN);
	stats = stats_of(b);
	check_equal(stats.in.waits_slept, 0);
	check_equal(ipc_channel_recv(b, &message, 1), -ETIMEDOUT);
	check_equal(ipc_channel_recv(b, &message, 1), -ETIMEDOUT);
	stats = stats_of(b);
	check_equal(stats.in.waits_slept, 2);
	check_equal(stats.in.waits_spun, 0);

	(void)post_until_full(a, 100);
	check_equal(ipc_channel_flush(a, 1), -ETIMEDOUT);
	stats = stats_of(a);
	check_equal(stats.out.waits_slept, 1);
	check_equal(stats.out.waits_spun, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* A caller of another edition has a smaller struct, or a larger one. */
static void
no_more_is_written_than_the_caller_has(void **state)
{
	static const size_t sizes[] = {sizeof(size_t), offsetof(struct ipc_channel_stats, in),
		sizeof(struct ipc_channel_stats), sizeof(struct ipc_channel_stats) + 32};
	union {
		struct ipc_channel_stats stats;
		unsigned char bytes[sizeof(struct ipc_channel_stats) + 64];
	} room;
	struct ipc_channel *a, *b;
	size_t i, k;

	(void)state;
	pair_open(&a, &b, NULL);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		memset(&room, 0xAA, sizeof(room));
		room.stats.size = sizes[i];
		ipc_channel_stats(a, &room.stats);
		for (k = sizes[i]; k < sizeof(room); k++)
			check_equal(room.bytes[k], 0xAA);
		if (sizes[i] >= offsetof(struct ipc_channel_stats, in))
			check_equal(room.stats.out.records, 1);
		check(room.stats.size <= sizes[i]);
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(a_new_pair_has_exchanged_hellos),
		channel_test(both_ends_count_the_same),
		channel_test(gathering_saves_system_calls),
		channel_test(a_message_that_is_refused_is_not_counted),
		channel_test(what_a_full_socket_took_is_what_is_counted),
		channel_test(waits_are_counted_as_they_were_met),
		channel_test(no_more_is_written_than_the_caller_has),
	};

	return run_group(tests);
}
