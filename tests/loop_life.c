/* SPDX-License-Identifier: MIT */

/* A loop's life: its options, what it costs, what it counts, and how it ends. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop_support.h"

/* Written to where a creation failed, had it written anything. */
#define UNTOUCHED ((struct ipc_loop *)&untouched)
static int untouched;

static void
expect_refused(const struct ipc_loop_options *options)
{
	struct ipc_loop *loop = UNTOUCHED;

	check_equal(ipc_loop_create(&loop, options), -EINVAL);
	check(loop == UNTOUCHED);
}

static void
expect_made(const struct ipc_loop_options *options)
{
	struct ipc_loop *loop = loop_open(options);

	check_equal(ipc_loop_turn(loop, 0), 0);
	check(!ipc_loop_destroy(loop));
}

static void
an_option_out_of_its_range_is_refused(void **state)
{
	static const uint32_t buffers[] = {
		1, 4, 7, 9, 12, 100, 129, 65536, 0x80000000U, UINT32_MAX};
	struct ipc_loop_options options = {.size = 0};
	struct {
		struct ipc_loop_options known;
		uint64_t unknown;
	} larger = {*LOOP_OPTIONS(.buffers = 0), 1};
	unsigned int i;

	(void)state;
	expect_refused(&options);
	larger.known.size = sizeof(larger);
	expect_refused(&larger.known);
	for (i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		expect_refused(LOOP_OPTIONS(.buffers = buffers[i]));
	expect_refused(LOOP_OPTIONS(.spin_us = -2));
	expect_refused(LOOP_OPTIONS(.spin_us = IPC_CHANNEL_SPIN_US_LIMIT + 1));
	options = (struct ipc_loop_options){
		.size = sizeof(options),
		.engine = (enum ipc_engine)(IPC_ENGINE_EPOLL + 1),
	};
	if (!getenv("LIBIPC_ENGINE"))
		expect_refused(&options);
}

static void
the_ends_of_each_range_are_taken(void **state)
{
	(void)state;
	expect_made(LOOP_OPTIONS(.buffers = IPC_LOOP_BUFFERS_MIN));
	expect_made(LOOP_OPTIONS(.buffers = 2 * IPC_LOOP_BUFFERS_DEFAULT));
	expect_made(LOOP_OPTIONS(.spin_us = -1));
	expect_made(LOOP_OPTIONS(.spin_us = IPC_CHANNEL_SPIN_US_LIMIT));
	expect_made(LOOP_OPTIONS(.out_bytes_max = 1, .out_messages_max = 1, .out_fds_max = 1));
	expect_made(LOOP_OPTIONS(.out_bytes_max = SIZE_MAX, .out_messages_max = UINT32_MAX,
		.out_fds_max = UINT32_MAX));
}

static void
the_most_buffers_are_taken_where_there_is_address_space(void **state)
{
	struct ipc_loop *loop = NULL;
	int r = ipc_loop_create(&loop, LOOP_OPTIONS(.buffers = IPC_LOOP_BUFFERS_LIMIT));

	(void)state;
	if (r == -ENOMEM) {
		test_lacks("6.5 GiB of address space");
		return;
	}
	check_equal(r, 0);
	check_equal(ipc_loop_turn(loop, 0), 0);
	ipc_loop_destroy(loop);
}

static void
zero_and_null_mean_the_defaults(void **state)
{
	struct ipc_loop_options options = {.size = sizeof(options)};
	struct ipc_loop *loop;

	(void)state;
	expect_made(&options);
	check_equal(ipc_loop_create(&loop, NULL), 0);
	check_equal(ipc_loop_turn(loop, 0), 0);
	ipc_loop_destroy(loop);
}

static void
a_loop_names_its_engine_and_the_reason(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	const char *name = ipc_loop_engine(loop), *reason = ipc_loop_engine_reason(loop);
	char *before = strdup(reason);

	(void)state;
	check(before);
	check_equal(strcmp(name, is_on_uring() ? "io_uring" : "epoll"), 0);
	check(*reason);
	check_equal(ipc_loop_turn(loop, 0), 0);
	check(ipc_loop_engine_reason(loop) == reason);
	check_equal(strcmp(reason, before), 0);
	free(before);
	ipc_loop_destroy(loop);
	/* It is static. */
	check_equal(strcmp(name, is_on_uring() ? "io_uring" : "epoll"), 0);
}

static void
destroying_nothing_is_fine(void **state)
{
	(void)state;
	check(!ipc_loop_destroy(NULL));
}

static void
without_descriptors_there_is_no_loop_and_nothing_is_left(void **state)
{
	unsigned int open = descriptors_open(), n;
	struct ipc_loop *loop;
	int r = -1;

	(void)state;
	skip_without_descriptor_limit();
	for (n = 0; n < 16 && r < 0; n++) {
		descriptors_limit(n);
		loop = UNTOUCHED;
		r = ipc_loop_create(&loop, LOOP_OPTIONS(.buffers = 0));
		descriptors_unlimit();
		if (r == 0)
			break;
		check_equal(r, -EMFILE);
		check(loop == UNTOUCHED);
		check_equal(descriptors_open(), open);
	}
	check_equal(r, 0);
	/* At least an engine's own. */
	check(n > 0);
	ipc_loop_destroy(loop);
}

static void
without_descriptors_there_is_no_descriptor_to_poll(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int n;
	int r = -1;

	(void)state;
	skip_without_descriptor_limit();
	for (n = 0; n < 8 && r < 0; n++) {
		descriptors_limit(n);
		r = ipc_loop_fd(loop);
		descriptors_unlimit();
		if (r < 0)
			check_equal(r, -EMFILE);
	}
	check(r >= 0);
	check_equal(ipc_loop_fd(loop), r);
	ipc_loop_destroy(loop);
}

static void
loops_give_back_what_they_hold(void **state)
{
	unsigned int n = test_count(300, 60), i;
	struct ipc_channel *a, *b;
	struct ipc_loop *loop;
	struct ear ear;
	size_t before = 0;

	(void)state;
	for (i = 0; i < n; i++) {
		if (i == n / 4)
			before = resident_bytes();
		loop = loop_open(NULL);
		pair_open(&a, &b, NULL);
		ear = (struct ear){.loop = NULL};
		ear_attach(&ear, loop, a);
		send_text(b, "one");
		turn_until(loop, ear.messages == 1);
		check(ipc_loop_fd(loop) >= 0);
		gather_text(a, "two");
		check(!ipc_loop_destroy(loop));
		ipc_channel_close(a);
		expect_text(b, "two");
		expect_end(b);
		ipc_channel_close(b);
	}
	expect_resident_below(before + (8U << 20));
}

static void
loops_share_nothing(void **state)
{
	enum { N = 16 };
	struct ipc_loop *loops[N];
	struct ipc_channel *a[N], *b[N];
	struct ear ears[2 * N] = {{.loop = NULL}};
	unsigned int i;

	(void)state;
	for (i = 0; i < N; i++) {
		loops[i] = loop_open(LOOP_OPTIONS(.buffers = 8));
		pair_open(&a[i], &b[i], NULL);
		ear_attach(&ears[i], loops[i], a[i]);
	}
	for (i = 0; i < N; i++)
		ear_attach(&ears[N + i], loops[(i + 1) % N], b[i]);
	for (i = 0; i < N; i++)
		gather_text(a[i], "round");
	for (i = 0; i < N; i++)
		check(ipc_loop_turn(loops[i], 0) >= 0);
	for (i = 0; i < N; i++)
		turn_until(loops[(i + 1) % N], ears[N + i].messages == 1);
	for (i = 0; i < N; i++) {
		check_equal(ears[i].messages, 0);
		ipc_loop_destroy(loops[i]);
	}
	for (i = 0; i < N; i++) {
		ipc_channel_close(a[i]);
		ipc_channel_close(b[i]);
	}
}

static void
destroy_detaches_every_channel_and_loses_nothing(void **state)
{
	enum { N = 5, MESSAGES = 50 };
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_channel *a[N], *b[N];
	struct ear ears[N] = {{.loop = NULL}};
	struct ipc_message message;
	unsigned int i, k;

	(void)state;
	for (i = 0; i < N; i++) {
		pair_open(&a[i], &b[i], NULL);
		ear_attach(&ears[i], loop, a[i]);
	}
	for (i = 0; i < N; i++)
		for (k = 0; k < MESSAGES; k++)
			check_equal(
				ipc_channel_send(b[i], &(struct ipc_message){.id = k + 1}, 0), 0);
	ipc_channel_close(b[0]);
	/* Some are given out, some only taken in, some still in the sockets. */
	check(ipc_loop_turn(loop, 0) >= 0);
	ipc_loop_destroy(loop);

	for (i = 0; i < N; i++) {
		for (k = ears[i].messages; k < MESSAGES; k++) {
			check_equal(ipc_channel_recv(a[i], &message, 0), 0);
			check_equal(message.id, k + 1);
		}
		check_equal(ears[i].closeds, 0);
		check_equal(ipc_channel_recv(a[i], &message, 0), i ? -EAGAIN : -EPIPE);
		ipc_channel_close(a[i]);
		if (i)
			ipc_channel_close(b[i]);
	}
}

static void
a_turn_returns_the_callbacks_that_it_made(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct ear ears[2] = {{.loop = NULL}};
	struct ipc_channel *a, *b;
	unsigned int made;
	int i, r;

	(void)state;
	pair_open(&a, &b, NULL);
	ear_attach(&ears[0], loop, a);
	ear_attach(&ears[1], loop, b);
	for (i = 0; i < 10; i++)
		gather_text(a, "message");
	for (made = 0; made < 10; made += (unsigned int)r) {
		r = ipc_loop_turn(loop, TEST_WAIT_MS);
		check(r >= 0);
		check_equal(ears[1].messages, made + (unsigned int)r);
	}
	ipc_channel_close(a);
	turn_until(loop, ears[1].closeds);
	check_equal(loop_stats_of(loop).events, 11);
	check_equal(ipc_loop_turn(loop, 0), 0);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
a_turn_with_nothing_waits_its_time(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct ear ear = {.loop = NULL};
	struct ipc_channel *a, *b;
	int64_t start_ms;

	(void)state;
	start_ms = now_ms();
	check_equal(ipc_loop_turn(loop, 30), 0);
	check(now_ms() - start_ms >= 29);
	pair_open(&a, &b, NULL);
	ear_attach(&ear, loop, a);
	start_ms = now_ms();
	check_equal(ipc_loop_turn(loop, 30), 0);
	check(now_ms() - start_ms >= 29);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
signals_do_not_end_a_turns_wait(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	int64_t start_ms;

	(void)state;
	signals_start();
	start_ms = now_ms();
	check_equal(ipc_loop_turn(loop, 100), 0);
	check(now_ms() - start_ms >= 99);
	check(signals_stop() > 0);
	ipc_loop_destroy(loop);
}

static void
counters_count(void **state)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct ipc_loop_stats stats = loop_stats_of(loop);
	struct ear ear = {.loop = NULL};
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	check_equal(stats.turns, 0);
	check_equal(stats.events, 0);
	check_equal(stats.waits_spun + stats.waits_slept + stats.starved, 0);
	pair_open(&a, &b, NULL);
	ear_attach(&ear, loop, a);
	(void)turn_out(loop);
	stats = loop_stats_of(loop);
	for (i = 0; i < 20; i++) {
		send_text(b, "text");
		turn_until(loop, ear.messages == i + 1);
	}
	check(loop_stats_of(loop).turns >= stats.turns + 20);
	check_equal(loop_stats_of(loop).events, 20);
	check(loop_stats_of(loop).syscalls > stats.syscalls);
	stats = loop_stats_of(loop);
	check_equal(ipc_loop_turn(loop, 5), 0);
	check_equal(loop_stats_of(loop).waits_slept, stats.waits_slept + 1);
	check_equal(loop_stats_of(loop).waits_spun, 0);
	check_equal(loop_stats_of(loop).turns, stats.turns + 1);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
a_channels_counters_count_in_a_loop_too(void **state)
{
	struct ear ears[2] = {{.loop = NULL}};
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct ipc_channel_stats a_before, a_stats, b_stats;
	int fd = STDERR_FILENO;
	struct ipc_message message = {.n_fds = 1, .fds = &fd};
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	a_before = stats_of(a);
	ear_attach(&ears[0], loop, a);
	ear_attach(&ears[1], loop, b);
	for (i = 0; i < 50; i++) {
		check_equal(ipc_channel_send(a, &message, 0), 0);
		gather_text(a, "text");
		turn_until(loop, ears[1].messages == 2 * i + 2);
	}
	turn_until(loop, ipc_channel_flush(a, 0) == 0);
	a_stats = stats_of(a);
	b_stats = stats_of(b);
	check_equal(a_stats.out.messages, 100);
	check_equal(a_stats.out.fds, 50);
	check(a_stats.out.records >= a_before.out.records + 50);
	check(a_stats.out.records <= a_before.out.records + 100);
	check_equal(b_stats.in.messages, 100);
	check_equal(b_stats.in.fds, 50);
	check_equal(b_stats.in.records - a_before.out.records,
		a_stats.out.records - a_before.out.records);
	check_equal(b_stats.in.bytes, a_stats.out.bytes);
	/* Those of the other engine are the loop's own. */
	if (is_on_uring())
		check_equal(a_stats.out.syscalls, a_before.out.syscalls);
	else
		check(a_stats.out.syscalls >= a_before.out.syscalls + 50);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
counters_are_written_as_far_as_asked_for(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_loop_stats stats, before;
	size_t size;

	(void)state;
	check_equal(ipc_loop_turn(loop, 0), 0);
	for (size = 0; size < sizeof(stats); size += 4) {
		memset(&stats, 0xEE, sizeof(stats));
		stats.size = size;
		before = stats;
		ipc_loop_stats(loop, &stats);
		check_equal(
			memcmp((char *)&stats + size, (char *)&before + size, sizeof(stats) - size),
			0);
		if (size >= offsetof(struct ipc_loop_stats, events))
			check_equal(stats.turns, 1);
	}
	stats.size = sizeof(stats) + 100;
	ipc_loop_stats(loop, &stats);
	check_equal(stats.size, sizeof(stats));
	check_equal(stats.turns, 1);
	ipc_loop_destroy(loop);
}

static void
a_spinning_wait_is_counted_as_one(void **state)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = IPC_CHANNEL_SPIN_US_LIMIT));
	struct ear ears[2] = {{.loop = NULL}};
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	ear_attach(&ears[0], loop, a);
	ear_attach(&ears[1], loop, b);
	gather_text(a, "here at once");
	turn_until(loop, ears[1].messages);
	check_equal(loop_stats_of(loop).waits_slept, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
idle_channels_cost_little(void **state)
{
	enum { N = 64 };
	struct ear ears[N] = {{.loop = NULL}};
	struct ipc_channel *a[N], *b[N];
	size_t before = resident_bytes();
	struct ipc_loop *loop;
	unsigned int i;

	(void)state;
	loop = loop_open(NULL);
	for (i = 0; i < N; i++) {
		pair_open(&a[i], &b[i], NULL);
		ear_attach(&ears[i], loop, a[i]);
	}
	(void)turn_out(loop);
	expect_resident_below(before + (8U << 20));
	for (i = 0; i < N; i++) {
		ipc_channel_close(b[i]);
		ipc_channel_close(a[i]);
	}
	ipc_loop_destroy(loop);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(an_option_out_of_its_range_is_refused),
		loop_test(the_ends_of_each_range_are_taken),
		loop_test(the_most_buffers_are_taken_where_there_is_address_space),
		loop_test(zero_and_null_mean_the_defaults),
		loop_test(a_loop_names_its_engine_and_the_reason),
		loop_test(destroying_nothing_is_fine),
		loop_test(without_descriptors_there_is_no_loop_and_nothing_is_left),
		loop_test(without_descriptors_there_is_no_descriptor_to_poll),
		loop_test(loops_give_back_what_they_hold),
		loop_test(loops_share_nothing),
		loop_test(destroy_detaches_every_channel_and_loses_nothing),
		loop_test(a_turn_returns_the_callbacks_that_it_made),
		loop_test(a_turn_with_nothing_waits_its_time),
		loop_test(signals_do_not_end_a_turns_wait),
		loop_test(counters_count),
		loop_test(a_channels_counters_count_in_a_loop_too),
		loop_test(counters_are_written_as_far_as_asked_for),
		loop_test(a_spinning_wait_is_counted_as_one),
		loop_test(idle_channels_cost_little),
	};

	return run_on_engines(tests);
}
