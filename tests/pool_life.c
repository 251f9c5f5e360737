/* SPDX-License-Identifier: MIT */

/* A pool's life: begun, resized, and what it says of itself meanwhile. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

static void
where_the_first_cannot_be_started_nothing_is_left(void **state)
{
	static const char *const argv[] = {"/nonexistent/program", NULL};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .argv = (char *const *)argv};
	struct desk desk = {.loop = loop_open(NULL)};

	(void)state;
	check_equal(desk_try(&desk, POOL(.worker = &worker, .workers = 3)), -ENOENT);
	expect_no_children();
	check_equal(turn_out(desk.loop), 0);
	desk_close(&desk);
}

static void
where_a_later_one_cannot_be_started_nothing_is_left(void **state)
{
	struct desk desk = {.loop = loop_open(NULL)};
	unsigned int n, open = descriptors_open();
	int r = -EMFILE;

	(void)state;
	skip_without_descriptor_limit();
	for (n = 1; r == -EMFILE && n < 50; n++) {
		descriptors_limit(n);
		r = desk_try(&desk, POOL(.workers = 4));
		descriptors_unlimit();
		if (r == 0)
			break;
		check_equal(r, -EMFILE);
		expect_no_children();
		check_equal(turn_out(desk.loop), 0);
		check(descriptors_open() <= open + 1);
	}
	check_equal(r, 0);
	/* Four workers of two each. */
	check(n > 8);
	check_equal(desk.starteds + desk.endeds, 0);
	check_equal(ask(&desk, TASK_SLEEP, 0, 0), 0);
	desk_close(&desk);
}

static void
a_turn_ends_with_started(void **state)
{
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	while (!desk.starteds)
		check(ipc_loop_turn(desk.loop, TEST_WAIT_MS) > 0);
	desk_close(&desk);
}

/* Requests one after the other, and meanwhile something else. */
struct load {
	struct call calls[40];
	unsigned int left;
	void (*disturb)(struct desk *desk);
	unsigned int every;
};

static void
load_on(struct call *call, struct ipc_message *reply)
{
	struct load *load = call->arg;

	(void)reply;
	if (!load->left)
		return;
	load->left--;
	if (load->left % load->every == 0)
		load->disturb(call->desk);
	check_equal(call_echo(call->desk, call, test_random_below(2000), 0), 0);
}

static void
load_begin(struct load *load, struct desk *desk)
{
	unsigned int i;

	desk->arg = load;
	for (i = 0; i < 40; i++) {
		load->calls[i] = (struct call){.on_end = load_on, .arg = load};
		check_equal(call_echo(desk, &load->calls[i], i, 0), 0);
	}
}

static void
resize_at_random(struct desk *desk)
{
	unsigned int n = 1 + (unsigned int)test_random_below(6);

	check_equal(ipc_pool_resize(desk->pool, n), 0);
	check_equal(pool_stats(desk).workers, n);
}

static void
resized_under_load_it_loses_nothing(void **state)
{
	unsigned int n = test_count(20000, 800);
	struct load load = {.left = n, .disturb = resize_at_random, .every = 50};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 3, .depth = 4));
	load_begin(&load, &desk);
	turn_until(desk.loop, desk.ends == n + 40);
	check_equal(desk.results[0], n + 40);
	expect_sums(&desk, true);
	check_equal(ipc_pool_resize(desk.pool, 2), 0);
	await_places(&desk, 2);
	check_equal(desk.deaths, 0);
	desk_close(&desk);
}

static void
new_ones_are_started_at_once(void **state)
{
	struct desk desk = {.loop = NULL};
	struct ipc_pool_worker_stats none = {.size = sizeof(none)};
	unsigned int i;

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	await_ready(&desk, 1);
	check_equal(ipc_pool_resize(desk.pool, 4), 0);
	for (i = 1; i < 4; i++) {
		check_equal(place_stats(&desk, i).state, IPC_POOL_STARTING);
		check(place_stats(&desk, i).pid > 0);
	}
	check_equal(pool_stats(&desk).starts, 4);
	check_equal(pool_stats(&desk).restarts, 0);
	check_equal(ipc_pool_worker_stats(desk.pool, 4, &none), -ENOENT);
	await_ready(&desk, 4);
	check_equal(ipc_pool_resize(desk.pool, 0), -EINVAL);
	check_equal(ipc_pool_resize(desk.pool, IPC_POOL_WORKERS_LIMIT + 1), -EINVAL);
	check_equal(pool_stats(&desk).workers, 4);
	desk_close(&desk);
}

static void
too_many_end_when_they_have_answered(void **state)
{
	struct ipc_pool_worker_stats none = {.size = sizeof(none)};
	struct desk desk = {.loop = NULL};
	struct call sleepers[3], more[6];
	unsigned int i, stopping = 0;

	(void)state;
	memset(sleepers, 0, sizeof(sleepers));
	memset(more, 0, sizeof(more));
	desk_open(&desk, POOL(.workers = 3, .depth = 2));
	await_ready(&desk, 3);
	for (i = 0; i < 3; i++)
		call_task(&desk, &sleepers[i], TASK_SLEEP, 60);
	check_equal(ipc_pool_resize(desk.pool, 1), 0);
	for (i = 0; i < 3; i++)
		stopping += place_stats(&desk, i).state == IPC_POOL_STOPPING;
	check_equal(stopping, 2);
	for (i = 0; i < 6; i++)
		call_task(&desk, &more[i], TASK_PID, 0);
	check_equal(pool_stats(&desk).queued, 5);
	for (i = 0; i < 6; i++) {
		expect_call(&more[i], 0);
		check_equal(more[i].n, more[0].n);
	}
	for (i = 0; i < 3; i++)
		expect_call(&sleepers[i], 0);
	turn_until(desk.loop, desk.endeds == 2);
	check_equal(desk.deaths, 0);
	check_equal(desk.status, 0);
	check_equal(ipc_pool_worker_stats(desk.pool, 1, &none), -ENOENT);
	check_equal(ask(&desk, TASK_PID, 0, 0), more[0].n);
	desk_close(&desk);
}

static void
those_without_requests_leave_first(void **state)
{
	struct call hold = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 4));
	await_ready(&desk, 4);
	call_task(&desk, &hold, TASK_HOLD, 0);
	check_equal(ipc_pool_resize(desk.pool, 1), 0);
	turn_until(desk.loop, desk.endeds == 3);
	check_equal(place_stats(&desk, 0).state, IPC_POOL_READY);
	check_equal(ask(&desk, TASK_RELEASE, 0, 0), 0);
	expect_call(&hold, 0);
	desk_close(&desk);
}

static void
those_that_leave_can_be_had_again(void **state)
{
	struct desk desk = {.loop = NULL};
	struct call sleepers[3];
	unsigned int i;

	(void)state;
	memset(sleepers, 0, sizeof(sleepers));
	desk_open(&desk, POOL(.workers = 3));
	await_ready(&desk, 3);
	for (i = 0; i < 3; i++)
		call_task(&desk, &sleepers[i], TASK_SLEEP, 30);
	check_equal(ipc_pool_resize(desk.pool, 1), 0);
	check_equal(pool_stats(&desk).ready, 1);
	check_equal(ipc_pool_resize(desk.pool, 3), 0);
	check_equal(pool_stats(&desk).ready, 3);
	for (i = 0; i < 3; i++)
		expect_call(&sleepers[i], 0);
	turn_for(desk.loop, 20);
	check_equal(desk.endeds, 0);
	check_equal(pool_stats(&desk).starts, 3);
	desk_close(&desk);
}

static void
those_that_come_back_take_what_waits(void **state)
{
	struct call holds[3], waits = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(holds, 0, sizeof(holds));
	desk_open(&desk, POOL(.workers = 2, .depth = 2));
	await_ready(&desk, 2);
	for (i = 0; i < 2; i++)
		call_task(&desk, &holds[i], TASK_HOLD, 0);
	check_equal(ipc_pool_resize(desk.pool, 1), 0);
	call_task(&desk, &holds[2], TASK_HOLD, 0);
	call_task(&desk, &waits, TASK_SLEEP, 0);
	turn_for(desk.loop, 10);
	check_equal(waits.ends, 0);
	check_equal(ipc_pool_resize(desk.pool, 2), 0);
	expect_call(&waits, 0);
	desk_close(&desk);
	check_equal(desk.ends, 4);
}

/* Does not look at its channel once it is closed. */
static int
serve_and_stay(struct ipc_channel *channel, void *arg)
{
	(void)serve(channel, arg);
	return pause();
}

static const struct ipc_worker_options stayer = {
	.size = sizeof(stayer), .run = serve_and_stay, .channel = &wide};

static void
one_whose_channel_was_closed_is_killed_after_stop_ms(void **state)
{
	struct desk desk = {.loop = NULL};
	int64_t start_ms;

	(void)state;
	desk_open(&desk, POOL(.worker = &stayer, .workers = 2, .stop_ms = 80));
	await_ready(&desk, 2);
	start_ms = now_ms();
	check_equal(ipc_pool_resize(desk.pool, 1), 0);
	turn_until(desk.loop, desk.endeds == 1);
	check(now_ms() - start_ms >= 80);
	check_equal(desk.deaths, 1);
	check_equal(WTERMSIG(desk.status), SIGKILL);
	start_ms = now_ms();
	check_equal(ipc_pool_drain(desk.pool, -1), 0);
	check(now_ms() - start_ms >= 80);
	check_equal(desk.deaths, 2);
	desk_close(&desk);
}

static void
a_place_tells_what_its_worker_is_doing(void **state)
{
	struct call holds[3], late = {.ends = 0}, closes = {.ends = 0};
	struct desk desk = {.loop = NULL};
	struct ipc_pool_worker_stats stats;
	unsigned int i;

	(void)state;
	memset(holds, 0, sizeof(holds));
	desk_open(&desk, POOL(.worker = &stayer, .workers = 1, .stop_ms = TEST_WAIT_MS));
	check_equal(place_stats(&desk, 0).state, IPC_POOL_STARTING);
	check(place_stats(&desk, 0).pid > 0);
	await_ready(&desk, 1);
	stats = place_stats(&desk, 0);
	check_equal(stats.state, IPC_POOL_READY);
	check_equal((uint64_t)stats.pid, ask(&desk, TASK_PID, 0, 0));
	for (i = 0; i < 3; i++)
		call_task(&desk, &holds[i], TASK_HOLD, 0);
	cancel(&holds[0]);
	call_task_within(&desk, &late, TASK_HOLD, 0, 0);
	expect_call(&late, -ETIMEDOUT);
	stats = place_stats(&desk, 0);
	check_equal(stats.outstanding, 4);
	check_equal(stats.owed, 2);
	check_equal(stats.completed, 1);
	check_equal(stats.starts, 1);
	check_equal(stats.failures, 0);
	check_equal(pool_stats(&desk).owed, 2);
	check_equal(pool_stats(&desk).outstanding, 2);
	signal_place(&desk, 0, SIGKILL);
	turn_until(desk.loop, desk.endeds);
	check_equal(pool_stats(&desk).owed, 0);
	check_equal(holds[1].result, -EOWNERDEAD);
	await_ready(&desk, 1);
	check(place_stats(&desk, 0).pid != stats.pid);
	check_equal(place_stats(&desk, 0).starts, 2);
	check_equal(place_stats(&desk, 0).completed, 0);
	call_task(&desk, &closes, TASK_CLOSE, 0);
	expect_call(&closes, -EOWNERDEAD);
	check_equal(place_stats(&desk, 0).state, IPC_POOL_ENDING);
	check(place_stats(&desk, 0).pid > 0);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
one_that_dies_soon_is_replaced_later(void **state)
{
	struct desk desk = {.loop = NULL};
	struct ipc_pool_worker_stats stats;

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .restart_min_ms = TEST_WAIT_MS));
	check_equal(ask(&desk, TASK_SLEEP, 0, 0), 0);
	(void)ask(&desk, TASK_KILL, 0, -EOWNERDEAD);
	turn_until(desk.loop, desk.endeds);
	stats = place_stats(&desk, 0);
	check_equal(stats.state, IPC_POOL_WAITING);
	check_equal(stats.pid, -1);
	check_equal(stats.outstanding, 0);
	check_equal(stats.failures, 0);
	check_equal(stats.starts, 1);
	check_equal(pool_stats(&desk).ready, 0);
	/* More room is made at once. */
	check_equal(ipc_pool_resize(desk.pool, 2), 0);
	(void)ask(&desk, TASK_KILL, 0, -EOWNERDEAD);
	turn_until(desk.loop, desk.endeds == 2);
	check_equal(place_stats(&desk, 0).failures + place_stats(&desk, 1).failures, 1);
	/* One that waits is the first to go. */
	check_equal(ipc_pool_resize(desk.pool, 1), 0);
	check_equal(ipc_pool_worker_stats(desk.pool, 1, &stats), -ENOENT);
	desk_close(&desk);
}

static void
one_that_has_lived_for_a_while_is_replaced_at_once(void **state)
{
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .restart_min_ms = 10));
	check_equal(ask(&desk, TASK_SLEEP, 11, 0), 11);
	(void)ask(&desk, TASK_KILL, 0, -EOWNERDEAD);
	turn_until(desk.loop, desk.endeds);
	check_equal(place_stats(&desk, 0).state, IPC_POOL_STARTING);
	check_equal(pool_stats(&desk).restarts, 1);
	check_equal(ask(&desk, TASK_SLEEP, 0, 0), 0);
	desk_close(&desk);
}

static void
its_counts_add_up(void **state)
{
	struct ipc_pool_stats stats,
		part = {.size = offsetof(struct ipc_pool_stats, calls), .calls = 7};
	struct ipc_pool_worker_stats of_one = {.size = 0, .pid = 7};
	struct call calls[10];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .depth = 2, .queue_max = 8));
	await_ready(&desk, 1);
	for (i = 0; i < 20; i++)
		(void)ask(&desk, TASK_SLEEP, 0, 0);
	stats = pool_stats(&desk);
	check_equal(stats.completed, 20);
	check_equal(stats.latency.count, 20);
	check(stats.latency.p50_ns > 0 && stats.latency.p50_ns <= stats.latency.max_ns);
	check_equal(stats.latency.p999_ns, 0);
	call_task_within(&desk, &calls[0], TASK_HOLD, 0, 1);
	for (i = 1; i < 10; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, 0);
	expect_sums(&desk, false);
	stats = pool_stats(&desk);
	check_equal(stats.outstanding, 2);
	check_equal(stats.queued, 8);
	check_equal(call_echo(&desk, &(struct call){.ends = 0}, 1, 0), -EAGAIN);
	cancel(&calls[9]);
	cancel(&calls[1]);
	expect_call(&calls[0], -ETIMEDOUT);
	tell_latest(&desk, TASK_RELEASE);
	turn_until(desk.loop, desk.ends == 30);
	turn_until(desk.loop, pool_stats(&desk).owed == 0);
	(void)ask(&desk, TASK_KILL, 0, -EOWNERDEAD);
	expect_sums(&desk, true);
	stats = pool_stats(&desk);
	check_equal(stats.timed_out, 1);
	check_equal(stats.cancelled, 2);
	check_equal(stats.died, 1);
	check_equal(stats.failed, 0);
	check_equal(stats.refused, 1);
	check_equal(stats.strays, 2);
	check_equal(stats.retries, 0);
	ipc_pool_stats(desk.pool, &part);
	check_equal(part.calls, 7);
	check_equal(part.workers, 1);
	check_equal(ipc_pool_worker_stats(desk.pool, 0, &of_one), 0);
	check_equal(of_one.pid, 7);
	desk_close(&desk);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		pool_test(where_the_first_cannot_be_started_nothing_is_left),
		pool_test(where_a_later_one_cannot_be_started_nothing_is_left),
		pool_test(a_turn_ends_with_started),
		pool_test(resized_under_load_it_loses_nothing),
		pool_test(new_ones_are_started_at_once),
		pool_test(too_many_end_when_they_have_answered),
		pool_test(those_without_requests_leave_first),
		pool_test(those_that_leave_can_be_had_again),
		pool_test(those_that_come_back_take_what_waits),
		pool_test(one_whose_channel_was_closed_is_killed_after_stop_ms),
		pool_test(a_place_tells_what_its_worker_is_doing),
		pool_test(one_that_dies_soon_is_replaced_later),
		pool_test(one_that_has_lived_for_a_while_is_replaced_at_once),
		pool_test(its_counts_add_up),
	};

	return run_on_engines(tests);
}
