/* SPDX-License-Identifier: MIT */

/* What a pool may be asked for: queues, what is kept, depths, options; and pools beside others. */

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool_support.h"

static int
call_plain(struct desk *desk, struct call *call, size_t size, unsigned int n_fds)
{
	static unsigned char payload[1 << 20];
	static int fds[IPC_MESSAGE_FDS_LIMIT];
	struct ipc_message message = {.data = payload, .size = size, .n_fds = n_fds, .fds = fds};
	unsigned int i;

	for (i = 0; i < n_fds; i++)
		fds[i] = STDERR_FILENO;
	*call = (struct call){.ends = 0};
	return call_message(desk, call, &message, -1, NULL);
}

/* A pool of one worker, which has one request that it does not answer before it is released. */
static void
open_busy(struct desk *desk, struct call *hold, const struct ipc_pool_options *options)
{
	*hold = (struct call){.ends = 0};
	desk_open(desk, options);
	await_ready(desk, 1);
	call_task(desk, hold, TASK_SLEEP, 20);
}

static void
expect_half_empty(struct desk *desk)
{
	check_equal(pool_stats(desk).queued, *(unsigned int *)desk->arg);
}

static void
above_queue_max_it_is_eagain_and_writable_follows(void **state)
{
	const unsigned int limits[] = {1, 2, 5, 64};
	struct call hold, calls[64], refused = {.ends = 0};
	struct desk desk = {.on_writable = expect_half_empty};
	unsigned int i, j, half, max;

	(void)state;
	desk.arg = &half;
	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		max = limits[i];
		half = max / 2;
		desk.writables = desk.ends = 0;
		open_busy(&desk, &hold, POOL(.workers = 1, .depth = 1, .queue_max = max));
		for (j = 0; j < max; j++)
			check_equal(call_plain(&desk, &calls[j], 8, 0), 0);
		for (j = 0; j < 3; j++)
			check_equal(call_plain(&desk, &refused, 8, 0), -EAGAIN);
		check_equal(pool_stats(&desk).queued, max);
		check_equal(pool_stats(&desk).refused, 3);
		check_equal(desk.writables, 0);
		turn_until(desk.loop, desk.ends == max + 1);
		check_equal(desk.writables, 1);
		check_equal(refused.ends, 0);
		/* Once for each time that it was refused. */
		check_equal(call_plain(&desk, &calls[0], 8, 0), 0);
		expect_call(&calls[0], 0);
		check_equal(desk.writables, 1);
		desk_destroy(&desk);
	}
	desk_close(&desk);
}

static void
by_default_it_keeps_so_many(void **state)
{
	const unsigned int n = IPC_POOL_DEPTH_DEFAULT - 1 + IPC_POOL_QUEUE_MAX_DEFAULT;
	struct call *calls = calloc(n, sizeof(*calls)), hold, refused;
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	check(calls);
	open_busy(&desk, &hold, POOL(.workers = 1));
	for (i = 0; i < n; i++)
		check_equal(call_plain(&desk, &calls[i], 0, 0), 0);
	check_equal(pool_stats(&desk).outstanding, IPC_POOL_DEPTH_DEFAULT);
	check_equal(pool_stats(&desk).queued, IPC_POOL_QUEUE_MAX_DEFAULT);
	check_equal(call_plain(&desk, &refused, 0, 0), -EAGAIN);
	desk_close(&desk);
	free(calls);
}

static void
what_workers_that_are_being_started_will_have_does_not_count(void **state)
{
	enum { WORKERS = 3, DEPTH_EACH = 4, WAITING = 5, ALL = WORKERS * DEPTH_EACH + WAITING };
	struct call calls[ALL], refused;
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	desk_open(&desk, POOL(.workers = WORKERS, .depth = DEPTH_EACH, .queue_max = WAITING));
	for (i = 0; i < ALL; i++)
		check_equal(call_plain(&desk, &calls[i], 10, 0), 0);
	check_equal(call_plain(&desk, &refused, 10, 0), -EAGAIN);
	turn_until(desk.loop, desk.ends == ALL);
	check_equal(desk.writables, 1);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
refill(struct desk *desk)
{
	struct call *calls = desk->arg;

	check(desk->writables <= 20);
	if (desk->writables < 20)
		while (call_plain(desk, calls, 8, 0) == 0)
			desk->arg = ++calls;
}

/* Who offers until it is refused, and again at each writable, is never forgotten. */
static void
each_writable_may_fill_the_queue(void **state)
{
	struct call *calls = calloc(1000, sizeof(*calls));
	struct desk desk = {.arg = calls, .on_writable = refill};

	(void)state;
	check(calls);
	desk_open(&desk, POOL(.workers = 2, .depth = 2, .queue_max = 12));
	await_ready(&desk, 2);
	while (call_plain(&desk, desk.arg, 8, 0) == 0)
		desk.arg = (struct call *)desk.arg + 1;
	turn_until(desk.loop,
		desk.writables == 20 && pool_stats(&desk).completed == pool_stats(&desk).calls);
	expect_sums(&desk, true);
	desk_close(&desk);
	free(calls);
}

static void
above_kept_bytes_max_it_is_eagain_and_writable_follows(void **state)
{
	struct call hold, calls[8];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	open_busy(&desk, &hold, POOL(.workers = 1, .depth = 1, .kept_bytes_max = 10000));
	for (i = 0; i < 4; i++)
		check_equal(call_plain(&desk, &calls[i], 2500, 0), 0);
	check_equal(call_plain(&desk, &calls[4], 1, 0), -EAGAIN);
	/* An empty one takes nothing. */
	check_equal(call_plain(&desk, &calls[4], 0, 0), 0);
	turn_until(desk.loop, desk.writables);
	check(pool_stats(&desk).queued <= 3);
	turn_until(desk.loop, desk.ends == 6);
	check_equal(desk.writables, 1);
	/* One that is alone is kept whatever its size. */
	call_task(&desk, &hold, TASK_SLEEP, 10);
	check_equal(call_plain(&desk, &calls[0], 1 << 20, 0), 0);
	check_equal(call_plain(&desk, &calls[1], 1, 0), -EAGAIN);
	turn_until(desk.loop, desk.ends == 8);
	check_equal(desk.writables, 2);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
above_kept_fds_max_it_is_eagain_and_writable_follows(void **state)
{
	struct call hold, calls[8];
	struct desk desk = {.loop = NULL};
	unsigned int i, open;

	(void)state;
	open_busy(&desk, &hold, POOL(.workers = 1, .depth = 1, .kept_fds_max = 8));
	open = descriptors_open();
	for (i = 0; i < 4; i++)
		check_equal(call_plain(&desk, &calls[i], 1, 2), 0);
	check_equal(descriptors_open(), open + 8);
	check_equal(call_plain(&desk, &calls[4], 1, 1), -EAGAIN);
	check_equal(descriptors_open(), open + 8);
	check_equal(call_plain(&desk, &calls[4], 1, 0), 0);
	turn_until(desk.loop, desk.ends == 6);
	check_equal(desk.writables, 1);
	(void)turn_out(desk.loop);
	check_equal(descriptors_open(), open);
	call_task(&desk, &hold, TASK_SLEEP, 10);
	check_equal(call_plain(&desk, &calls[0], 1, 200), 0);
	check_equal(call_plain(&desk, &calls[1], 1, 1), -EAGAIN);
	turn_until(desk.loop, desk.ends == 8);
	check_equal(desk.writables, 2);
	desk_close(&desk);
}

/* Those that may be tried again count for as long as they may. */
static void
what_may_be_tried_again_is_kept(void **state)
{
	struct call calls[5], release = {.ends = 0};
	struct desk desk = {.loop = NULL};
	struct ipc_message message = {.size = 1000, .type = TASK_HOLD};
	unsigned int i, open;
	int fd = STDERR_FILENO;

	(void)state;
	memset(calls, 0, sizeof(calls));
	message.data = calloc(1, 1000);
	message.fds = &fd;
	message.n_fds = 1;
	desk_open(&desk, POOL(.workers = 1, .attempts = 2, .kept_bytes_max = 3000));
	await_ready(&desk, 1);
	open = descriptors_open();
	for (i = 0; i < 3; i++)
		check_equal(call_message(&desk, &calls[i], &message, -1, NULL), 0);
	check_equal(call_message(&desk, &calls[3], &message, -1, NULL), -EAGAIN);
	/* They are at the worker, and here. */
	check_equal(pool_stats(&desk).outstanding, 3);
	(void)turn_out(desk.loop);
	check_equal(descriptors_open(), open + 3);
	message.data = (free((void *)message.data), NULL);
	message = (struct ipc_message){.type = TASK_RELEASE};
	check_equal(call_message(&desk, &release, &message, -1, NULL), 0);
	expect_call(&release, 0);
	for (i = 0; i < 3; i++)
		expect_call(&calls[i], 0);
	check_equal(descriptors_open(), open);
	turn_until(desk.loop, desk.writables == 1);
	desk_close(&desk);
}

#define DEPTH 5

/* Takes all that comes without a pause, and checks that it is no more than it may be. */
static int
take_all_then_answer(struct ipc_channel *channel, void *arg)
{
	uint64_t ids[DEPTH + 1];
	struct ipc_message message, request = {.size = 0}, reply = {.size = 0};
	unsigned int n = 0, most = 0;
	int r;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	for (;;) {
		r = ipc_channel_recv(channel, &message, n ? 3 : -1);
		if (r == 0) {
			check(n < DEPTH);
			ids[n++] = message.id;
			most = n > most ? n : most;
			continue;
		}
		if (r == -EPIPE)
			return most == DEPTH ? 0 : 3;
		check_equal(r, -ETIMEDOUT);
		while (n) {
			request.id = ids[--n];
			check_equal(ipc_channel_reply(channel, &request, &reply, TEST_WAIT_MS), 0);
		}
	}
}

static void
a_worker_has_no_more_than_depth(void **state)
{
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = take_all_then_answer, .channel = &wide};
	unsigned int n = test_count(400, 60), i;
	struct call *calls = calloc(n, sizeof(*calls));
	struct desk desk = {.loop = NULL};

	(void)state;
	check(calls);
	desk_open(&desk, POOL(.worker = &worker, .workers = 2, .depth = DEPTH));
	for (i = 0; i < n; i++)
		check_equal(call_plain(&desk, &calls[i], 0, 0), 0);
	await_ready(&desk, 2);
	while (desk.ends < n) {
		check(ipc_loop_turn(desk.loop, TEST_WAIT_MS) >= 0);
		check(place_stats(&desk, 0).outstanding <= DEPTH);
		check(place_stats(&desk, 1).outstanding <= DEPTH);
	}
	check_equal(ipc_pool_drain(desk.pool, -1), 0);
	check_equal(desk.status, 0);
	desk_close(&desk);
	free(calls);
}

static void
each_is_given_to_the_one_with_the_fewest(void **state)
{
	struct call holds[12];
	struct desk desk = {.loop = NULL};
	unsigned int i, j;

	(void)state;
	memset(holds, 0, sizeof(holds));
	desk_open(&desk, POOL(.workers = 4));
	await_ready(&desk, 4);
	for (i = 0; i < 12; i++) {
		call_task(&desk, &holds[i], TASK_HOLD, 0);
		for (j = 0; j < 4; j++)
			check(place_stats(&desk, j).outstanding - i / 4 <= 1);
	}
	for (j = 0; j < 4; j++)
		check_equal(place_stats(&desk, j).outstanding, 3);
	desk_close(&desk);
	check_equal(desk.ends, 12);
}

static void
those_that_wait_are_given_out_in_their_order(void **state)
{
	struct call calls[40];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .depth = 3));
	for (i = 0; i < 40; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, 0);
	for (i = 0; i < 40; i++) {
		expect_call(&calls[i], 0);
		check_equal(calls[i].at, i + 1);
	}
	desk_close(&desk);
}

#define EXPECT_REFUSED(...) check_equal(desk_try(&desk, POOL(.workers = 1, __VA_ARGS__)), -EINVAL)

static void
options_out_of_their_range_are_refused(void **state)
{
	static const struct ipc_worker_options neither = {.size = sizeof(neither)};
	static const struct ipc_worker_options sizeless = {.run = serve};
	struct desk desk = {.loop = loop_open(NULL)};
	struct ipc_pool *pool;

	(void)state;
	check_equal(desk_try(&desk, POOL(.workers = IPC_POOL_WORKERS_LIMIT + 1)), -EINVAL);
	EXPECT_REFUSED(.depth = IPC_POOL_DEPTH_LIMIT + 1);
	EXPECT_REFUSED(.queue_max = IPC_POOL_QUEUE_MAX_LIMIT + 1);
	EXPECT_REFUSED(.attempts = IPC_POOL_ATTEMPTS_LIMIT + 1);
	EXPECT_REFUSED(.hung_ms = -1);
	EXPECT_REFUSED(.restart_min_ms = -1);
	EXPECT_REFUSED(.restart_max_ms = INT_MIN);
	EXPECT_REFUSED(.stop_ms = -5);
	EXPECT_REFUSED(.worker = &neither);
	EXPECT_REFUSED(.worker = &sizeless);
	check_equal(ipc_pool_create(&pool, desk.loop, POOL(.workers = 1)), -EINVAL);
	expect_no_children();
	desk_open(&desk,
		POOL(.workers = 1, .depth = IPC_POOL_DEPTH_LIMIT,
			.queue_max = IPC_POOL_QUEUE_MAX_LIMIT, .attempts = IPC_POOL_ATTEMPTS_LIMIT,
			.hung_ms = INT_MAX, .restart_min_ms = INT_MAX, .restart_max_ms = INT_MAX,
			.starts_max = UINT_MAX, .stop_ms = INT_MAX, .kept_bytes_max = SIZE_MAX,
			.kept_fds_max = UINT_MAX));
	check_equal(ask(&desk, TASK_SLEEP, 3, 0), 3);
	desk_close(&desk);
}

static void
attempts_of_a_call_have_the_same_range(void **state)
{
	struct ipc_message message = {.size = 0};
	struct ipc_call_options options = {
		.size = sizeof(options), .attempts = IPC_POOL_ATTEMPTS_LIMIT + 1};
	struct call call = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	check_equal(call_message(&desk, &call, &message, -1, &options), -EINVAL);
	options.attempts--;
	check_equal(call_message(&desk, &call, &message, -1, &options), 0);
	expect_call(&call, 0);
	desk_close(&desk);
}

/* An older program's struct is shorter, a newer one's longer: fine while that says nothing. */
static void
a_struct_may_be_shorter_or_longer(void **state)
{
	struct {
		struct ipc_pool_options known;
		char unknown[16];
	} longer = {.known = *POOL(.workers = 1)};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = serve, .channel = &wide};
	struct ipc_pool *pool;
	struct ipc_loop *loop = loop_open(NULL);

	(void)state;
	longer.known.worker = &worker;
	longer.known.size = 0;
	check_equal(ipc_pool_create(&pool, loop, &longer.known), -EINVAL);
	longer.known.size = 7;
	check_equal(ipc_pool_create(&pool, loop, &longer.known), -EINVAL);
	longer.known.size = offsetof(struct ipc_pool_options, workers);
	/* What it does not reach is not looked at. */
	longer.known.depth = IPC_POOL_DEPTH_LIMIT + 1;
	check_equal(ipc_pool_create(&pool, loop, &longer.known), 0);
	ipc_pool_destroy(pool);
	longer.known.depth = 0;
	longer.known.size = sizeof(longer);
	check_equal(ipc_pool_create(&pool, loop, &longer.known), 0);
	ipc_pool_destroy(pool);
	longer.unknown[15] = 1;
	check_equal(ipc_pool_create(&pool, loop, &longer.known), -EINVAL);
	expect_no_children();
	ipc_loop_destroy(loop);
}

static void
end_count(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	(void)pool;
	check_equal(result, 0);
	check(reply);
	++*(unsigned int *)user;
}

static void
options_of_a_call_may_be_shorter_or_longer(void **state)
{
	struct {
		struct ipc_call_options known;
		char unknown[16];
	} longer = {.known = {.size = sizeof(longer)}};
	struct ipc_message message = {.id = 5};
	struct desk desk = {.loop = NULL};
	unsigned int ends = 0;
	uint64_t name = 7;

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	longer.known.ret_request = &name;
	check_equal(
		ipc_pool_call_with(desk.pool, &message, end_count, &ends, -1, &longer.known), 0);
	check(name != 7);
	longer.unknown[0] = 1;
	check_equal(ipc_pool_call_with(desk.pool, &message, end_count, &ends, -1, &longer.known),
		-EINVAL);
	name = 7;
	longer.known.size = offsetof(struct ipc_call_options, ret_request);
	check_equal(
		ipc_pool_call_with(desk.pool, &message, end_count, &ends, -1, &longer.known), 0);
	check_equal(name, 7);
	longer.known.size = 3;
	check_equal(ipc_pool_call_with(desk.pool, &message, end_count, &ends, -1, &longer.known),
		-EINVAL);
	check_equal(ipc_pool_call_with(desk.pool, &message, end_count, &ends, -1, NULL), 0);
	check_equal(ipc_pool_call(desk.pool, &message, end_count, &ends, -1), 0);
	turn_until(desk.loop, ends == 4);
	desk_close(&desk);
}

/* What a channel beside the pools does meanwhile. */
static void
bounce(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)ear;
	check_equal(ipc_channel_send(channel, message, 0), 0);
}

static void
pools_and_channels_share_a_loop(void **state)
{
	enum { POOLS = 3, CALLS = 200 };
	struct call *calls = calloc(POOLS * CALLS, sizeof(*calls));
	struct desk desks[POOLS];
	struct ear here = {.on_message = bounce}, there = {.on_message = bounce};
	struct ipc_channel *a, *b;
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int i;

	(void)state;
	check(calls);
	memset(desks, 0, sizeof(desks));
	pair_open(&a, &b, NULL);
	ear_attach(&here, loop, a);
	ear_attach(&there, loop, b);
	for (i = 0; i < POOLS; i++) {
		desks[i].loop = loop;
		desk_open(&desks[i], POOL(.workers = 1 + i, .depth = 1 + i * 3));
	}
	gather_text(a, "ball");
	for (i = 0; i < POOLS * CALLS; i++)
		check_equal(call_echo(&desks[i % POOLS], &calls[i], i, 0), 0);
	for (i = 0; i < POOLS * CALLS; i++)
		expect_call(&calls[i], 0);
	turn_until(loop, here.messages > 100);
	desk_destroy(&desks[1]);
	check_equal(ask(&desks[0], TASK_SLEEP, 1, 0), 1);
	check_equal(ask(&desks[2], TASK_SLEEP, 1, 0), 1);
	check_equal(ipc_pool_drain(desks[0].pool, -1), 0);
	check_equal(ask(&desks[2], TASK_SLEEP, 1, 0), 1);
	desk_destroy(&desks[0]);
	desk_destroy(&desks[2]);
	i = here.messages;
	turn_until(loop, here.messages > i + 10);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
	free(calls);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		pool_test(above_queue_max_it_is_eagain_and_writable_follows),
		pool_test(by_default_it_keeps_so_many),
		pool_test(what_workers_that_are_being_started_will_have_does_not_count),
		pool_test(each_writable_may_fill_the_queue),
		pool_test(above_kept_bytes_max_it_is_eagain_and_writable_follows),
		pool_test(above_kept_fds_max_it_is_eagain_and_writable_follows),
		pool_test(what_may_be_tried_again_is_kept),
		pool_test(a_worker_has_no_more_than_depth),
		pool_test(each_is_given_to_the_one_with_the_fewest),
		pool_test(those_that_wait_are_given_out_in_their_order),
		pool_test(options_out_of_their_range_are_refused),
		pool_test(attempts_of_a_call_have_the_same_range),
		pool_test(a_struct_may_be_shorter_or_longer),
		pool_test(options_of_a_call_may_be_shorter_or_longer),
		pool_test(pools_and_channels_share_a_loop),
	};

	return run_on_engines(tests);
}
