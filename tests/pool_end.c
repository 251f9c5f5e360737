/* SPDX-License-Identifier: MIT */

/* A pool's end: drained, destroyed from anywhere, forked, left by a parent that is killed. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

static void
a_drain_finishes_what_there_is(void **state)
{
	struct ipc_pool_worker_stats none = {.size = sizeof(none)};
	struct ipc_message message = {.size = 0};
	struct call calls[50], late = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 3, .depth = 2));
	for (i = 0; i < 50; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, i % 3);
	check_equal(ipc_pool_drain(desk.pool, TEST_WAIT_MS), 0);
	for (i = 0; i < 50; i++)
		expect_call(&calls[i], 0);
	check_equal(desk.draineds, 1);
	check_equal(desk.drain_result, 0);
	check_equal(desk.starteds, 3);
	check_equal(desk.endeds, 3);
	check_equal(desk.deaths, 0);
	expect_no_children();
	check_equal(call_message(&desk, &late, &message, -1, NULL), -ESHUTDOWN);
	check_equal(ipc_pool_resize(desk.pool, 2), -ESHUTDOWN);
	check_equal(ipc_pool_drain(desk.pool, -1), -EALREADY);
	check_equal(ipc_pool_cancel(desk.pool, calls[0].name), -ENOENT);
	check_equal(ipc_pool_worker_stats(desk.pool, 0, &none), -ENOENT);
	check_equal(pool_stats(&desk).workers, 0);
	expect_sums(&desk, true);
	check_equal(turn_out(desk.loop), 0);
	desk_close(&desk);
}

static void
a_drain_of_an_idle_pool_needs_no_time(void **state)
{
	const int timeouts[] = {0, 1, -1};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		desk.draineds = 0;
		desk_open(&desk, POOL(.workers = 2));
		if (i)
			await_ready(&desk, 2);
		check_equal(ipc_pool_drain(desk.pool, timeouts[i]), 0);
		check_equal(desk.draineds, 1);
		desk_destroy(&desk);
	}
	desk_close(&desk);
}

static void
a_drain_with_too_little_time_cancels(void **state)
{
	struct call calls[8];
	struct desk desk = {.loop = NULL};
	int64_t start_ms;
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 2, .depth = 2, .stop_ms = TEST_WAIT_MS));
	await_ready(&desk, 2);
	for (i = 0; i < 8; i++)
		call_task(&desk, &calls[i], i ? TASK_HANG : TASK_SLEEP, 0);
	start_ms = now_ms();
	check_equal(ipc_pool_drain(desk.pool, 60), -ETIMEDOUT);
	check(now_ms() - start_ms >= 60);
	/* They were not asked first. */
	check(now_ms() - start_ms < TEST_WAIT_MS);
	expect_call(&calls[0], 0);
	for (i = 1; i < 8; i++)
		expect_call(&calls[i], -ECANCELED);
	check_equal(desk.drain_result, -ETIMEDOUT);
	check_equal(desk.deaths, 2);
	check_equal(desk.endeds, 2);
	check_equal(pool_stats(&desk).cancelled, 7);
	expect_sums(&desk, true);
	desk_close(&desk);
}

/* What its workers need of time goes on in a drain: deadlines, starts, kills. */
static void
a_drain_goes_on_with_everything_else(void **state)
{
	struct call hang = {.ends = 0}, again = {.ends = 0}, waits = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .depth = 1, .attempts = 9, .hung_ms = 300,
				 .restart_min_ms = 60));
	await_ready(&desk, 1);
	call_task_within(&desk, &hang, TASK_HANG, 0, 20);
	call_task_within(&desk, &waits, TASK_SLEEP, 0, 40);
	call_task(&desk, &again, TASK_PID, 0);
	check_equal(ipc_pool_drain(desk.pool, -1), 0);
	expect_call(&hang, -ETIMEDOUT);
	expect_call(&waits, -ETIMEDOUT);
	expect_call(&again, 0);
	check(pool_stats(&desk).hung >= 1);
	desk_close(&desk);
}

static void
count_up(struct ipc_timer *timer, void *user)
{
	(void)timer;
	++*(unsigned int *)user;
}

static void
a_drain_turns_the_loop_for_others_too(void **state)
{
	struct call call = {.ends = 0};
	struct desk desk = {.loop = NULL};
	struct ipc_timer *timer;
	unsigned int n = 0;

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	check_equal(ipc_timer_start(&timer, desk.loop, 1, 1, count_up, &n), 0);
	call_task(&desk, &call, TASK_SLEEP, 30);
	check_equal(ipc_pool_drain(desk.pool, -1), 0);
	check(n > 1);
	ipc_timer_stop(timer);
	desk_close(&desk);
}

static void
drain_now(struct call *call, struct ipc_message *reply)
{
	check(reply);
	check_equal(ipc_pool_drain(call->desk->pool, -1), 0);
	check_equal(call->desk->draineds, 0);
	check_equal(ipc_pool_drain(call->desk->pool, -1), -EALREADY);
}

static void
from_within_a_callback_a_drain_only_begins(void **state)
{
	struct call calls[20];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	calls[3].on_end = drain_now;
	desk_open(&desk, POOL(.workers = 2, .depth = 1));
	for (i = 0; i < 20; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, 1);
	turn_until(desk.loop, desk.draineds);
	check_equal(desk.drain_result, 0);
	check_equal(desk.results[0], 20);
	check_equal(desk.endeds, 2);
	desk_close(&desk);
}

static void
drain_in_vain(struct call *call, struct ipc_message *reply)
{
	check(!reply);
	check_equal(ipc_pool_drain(call->desk->pool, 30), -ETIMEDOUT);
}

static void
drain_until_destroyed(struct call *call, struct ipc_message *reply)
{
	check(!reply);
	check_equal(ipc_pool_drain(call->desk->pool, 30), 0);
	check(!call->desk->pool);
}

static void
destroy_at_end(struct call *call, struct ipc_message *reply)
{
	check(!reply);
	desk_destroy(call->desk);
}

/* That is no callback of the loop: it turns. */
static void
from_within_a_cancel_a_drain_turns_the_loop(void **state)
{
	struct call first = {.on_end = drain_in_vain}, hang = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		desk.draineds = 0;
		desk_open(&desk, POOL(.workers = 1));
		await_ready(&desk, 1);
		call_task(&desk, &first, TASK_HANG, 0);
		call_task(&desk, &hang, TASK_HANG, 0);
		cancel(&first);
		check_equal(hang.ends, 1);
		check_equal(hang.result, -ECANCELED);
		check_equal(desk.draineds, !i);
		expect_no_children();
		desk_destroy(&desk);
		first.on_end = drain_until_destroyed;
		hang.on_end = destroy_at_end;
	}
	desk_close(&desk);
}

static void
a_drain_lets_requests_be_tried_again(void **state)
{
	struct call kill = {.ends = 0}, beside = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .attempts = 3));
	call_task(&desk, &kill, TASK_KILL, 0);
	call_task(&desk, &beside, TASK_PID, 0);
	check_equal(ipc_pool_drain(desk.pool, -1), 0);
	expect_call(&kill, -EOWNERDEAD);
	expect_call(&beside, 0);
	check_equal(desk.deaths, 3);
	desk_close(&desk);
}

static void
destroyed_it_cancels_each_once_before_it_returns(void **state)
{
	struct call calls[30];
	struct desk desk = {.loop = NULL};
	struct ipc_pool_stats stats;
	unsigned int i, live, turns;

	(void)state;
	for (turns = 0; turns < 6; turns++) {
		memset(calls, 0, sizeof(calls));
		memset(desk.results, 0, sizeof(desk.results));
		desk.ends = 0;
		desk_open(&desk, POOL(.workers = 2, .depth = 4, .attempts = 1 + turns % 2));
		for (i = 0; i < 30; i++)
			call_task(&desk, &calls[i], i % 4 ? TASK_SLEEP : TASK_HOLD, i / 10);
		for (i = 0; i < turns; i++)
			check(ipc_loop_turn(desk.loop, 5) >= 0);
		stats = pool_stats(&desk);
		live = (unsigned int)(stats.outstanding + stats.queued);
		check_equal(live + desk.ends, 30);
		desk_destroy(&desk);
		expect_no_children();
		check_equal(desk.ends, 30);
		for (i = 0; i < 30; i++)
			check_equal(calls[i].ends, 1);
		check_equal(desk.results[1], live);
		check_equal(turn_out(desk.loop), 0);
	}
	desk_close(&desk);
}

/* A pool that one of its callbacks destroys, perhaps with its loop. */
enum kind {
	REPLY,
	LOST,
	PART,
	MESSAGE,
	STARTED,
	ENDED,
	WRITABLE,
	DRAINED,
	CANCELLED,
	DESTROYED,
	KINDS
};

struct ending {
	struct desk desk; /* first: what a callback gets */
	struct call calls[16];
	unsigned int taken;
	bool with_loop;
};

static void
end_it(struct desk *desk)
{
	struct ending *ending = (struct ending *)desk;
	unsigned int i;

	desk_destroy(desk);
	/* From within another destroy the rest comes with that. */
	for (i = 0; i < ending->taken && !desk->pool && desk->ends == ending->taken; i++)
		check_equal(ending->calls[i].ends, 1);
	if (!desk->loop)
		return;
	if (ending->with_loop)
		desk->loop = ipc_loop_destroy(desk->loop);
	else
		ipc_loop_stop(desk->loop);
}

static void
end_by_call(struct call *call, struct ipc_message *reply)
{
	(void)reply;
	end_it(call->desk);
}

static void
end_by_message(struct desk *desk, struct ipc_worker *worker, struct ipc_message *message)
{
	(void)worker;
	(void)message;
	end_it(desk);
}

static void
end_by_started(struct desk *desk, struct ipc_worker *worker)
{
	(void)worker;
	end_it(desk);
}

static void
end_by_ended(struct desk *desk, struct ipc_worker *worker, const struct ipc_worker_end *end)
{
	(void)worker;
	check(WIFSIGNALED(end->status));
	end_it(desk);
	check(WIFSIGNALED(end->status));
}

static void
end_by_drained(struct desk *desk, int result)
{
	check_equal(result, 0);
	end_it(desk);
}

static void
end_call(struct ending *ending, enum task task, uint64_t n)
{
	call_task(&ending->desk, &ending->calls[ending->taken++], task, n);
}

/* Requests in each state, and what has the callback called. */
static void
prepare(struct ending *ending, enum kind kind)
{
	static const struct ipc_message message = {.size = 0};
	struct desk *desk = &ending->desk;
	struct call refused = {.ends = 0};

	desk->on_message = end_by_message;
	desk->on_writable = kind == WRITABLE ? end_it : NULL;
	desk->on_started = kind == STARTED ? end_by_started : NULL;
	desk->on_ended = kind == ENDED ? end_by_ended : NULL;
	desk->on_drained = end_by_drained;
	ending->calls[1].on_part = end_by_call;
	if (kind == REPLY || kind == LOST || kind == CANCELLED || kind == DESTROYED)
		ending->calls[0].on_end = end_by_call;
	desk_open(desk, POOL(.workers = 2, .depth = 3, .queue_max = 10));
	if (kind != STARTED)
		await_ready(desk, 2);
	end_call(ending, kind == LOST ? TASK_KILL : TASK_ECHO, 8);
	end_call(ending, kind == PART ? TASK_PARTS : TASK_SLEEP, 1);
	end_call(ending, kind == MESSAGE ? TASK_TALK : TASK_SLEEP, 1);
	end_call(ending, kind == ENDED ? TASK_KILL : TASK_SLEEP, 1);
	while (kind == WRITABLE && ending->taken < 16)
		end_call(ending, TASK_SLEEP, 0);
	if (kind == WRITABLE)
		check_equal(call_message(desk, &refused, &message, -1, NULL), -EAGAIN);
	while (kind != REPLY && kind != DRAINED && ending->taken < 10)
		end_call(ending, TASK_SLEEP, 2);
}

static void
end_within(enum kind kind, bool with_loop)
{
	struct ending *ending = calloc(1, sizeof(*ending));
	struct desk *desk = &ending->desk;
	unsigned int i;
	int r = 0;

	ending->with_loop = with_loop;
	prepare(ending, kind);
	if (kind == CANCELLED)
		(void)cancel(&ending->calls[0]);
	else if (kind == DESTROYED)
		desk_destroy(desk);
	else if (kind == DRAINED)
		r = ipc_pool_drain(desk->pool, -1);
	else
		r = ipc_loop_run(desk->loop);
	check_equal(r, 0);
	check(!desk->pool);
	for (i = 0; i < ending->taken; i++)
		check_equal(ending->calls[i].ends, 1);
	check_equal(desk->ends, ending->taken);
	expect_no_children();
	if (desk->loop)
		check_equal(turn_out(desk->loop), 0);
	check_equal(desk->ends, ending->taken);
	ipc_loop_destroy(desk->loop);
	free(ending);
}

static void
every_callback_may_destroy_the_pool(void **state)
{
	unsigned int kind;

	(void)state;
	for (kind = 0; kind < KINDS; kind++)
		end_within(kind, false);
}

static void
every_callback_may_destroy_the_pool_and_the_loop(void **state)
{
	unsigned int kind;

	(void)state;
	for (kind = 0; kind < KINDS; kind++)
		if (kind != DRAINED && kind != DESTROYED)
			end_within(kind, true);
}

static void
call_once_more(struct call *call, struct ipc_message *reply)
{
	static const struct ipc_message message = {.size = 0};
	struct call more = {.ends = 0};

	check(!reply);
	check(call_message(call->desk, &more, &message, -1, NULL) < 0);
	check_equal(ipc_pool_cancel(call->desk->pool, call->name), -ENOENT);
	check(ipc_pool_resize(call->desk->pool, 5) < 0);
	check(ipc_pool_drain(call->desk->pool, 0) < 0);
	expect_sums(call->desk, false);
	check(pool_stats(call->desk).outstanding <= 3);
	check(pool_stats(call->desk).queued <= 3);
}

static void
while_it_is_destroyed_it_takes_nothing(void **state)
{
	struct call calls[6];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .depth = 3));
	await_ready(&desk, 1);
	for (i = 0; i < 6; i++) {
		calls[i].on_end = call_once_more;
		call_task(&desk, &calls[i], TASK_HOLD, 0);
	}
	desk_close(&desk);
	check_equal(desk.ends, 6);
}

/* In a child: the pool is its parent's. */
static void
be_a_child(void *arg)
{
	struct desk *desk = arg, other = {.loop = NULL};
	struct ipc_message message = {.size = 0};
	struct call call = {.ends = 0};
	struct ipc_pool_stats stats = pool_stats(desk);
	unsigned int ends = desk->ends;

	check_equal(call_message(desk, &call, &message, -1, NULL), -ECHILD);
	check_equal(ipc_pool_cancel(desk->pool, 1), -ECHILD);
	check_equal(ipc_pool_resize(desk->pool, 1), -ECHILD);
	check_equal(ipc_pool_drain(desk->pool, -1), -ECHILD);
	other.loop = desk->loop;
	check_equal(desk_try(&other, POOL(.workers = 1)), -ECHILD);
	check_equal(pool_stats(desk).calls, stats.calls);
	desk_close(desk);
	check_equal(desk->ends, ends);
	check_equal(desk->endeds, 0);
	/* One of its own is as good as any. */
	other.loop = NULL;
	desk_open(&other, POOL(.workers = 1));
	check_equal(ask(&other, TASK_SLEEP, 0, 0), 0);
	desk_close(&other);
}

static void
in_a_child_it_disturbs_nobody(void **state)
{
	struct call calls[20];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 2, .depth = 3));
	await_ready(&desk, 2);
	for (i = 0; i < 20; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, 1);
	child_end(child_start(be_a_child, &desk));
	for (i = 0; i < 20; i++)
		expect_call(&calls[i], 0);
	check_equal(desk.endeds, 0);
	desk_close(&desk);
}

static void
fork_now(struct call *call, struct ipc_message *reply)
{
	pid_t pid;

	check(reply);
	(void)fflush(NULL);
	pid = fork();
	check(pid >= 0);
	if (pid) {
		child_end(pid);
		return;
	}
	/* Its copies are freed, and its turn ends without a further callback. */
	call->desk->calling = true;
	ipc_pool_destroy(call->desk->pool);
	ipc_loop_destroy(call->desk->loop);
	_exit(0);
}

static void
a_callback_may_fork(void **state)
{
	struct call calls[10];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 2));
	calls[2].on_end = calls[9].on_end = fork_now;
	for (i = 0; i < 10; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, 1);
	for (i = 0; i < 10; i++)
		expect_call(&calls[i], 0);
	desk_close(&desk);
}

/* What a parent that is killed tells of its workers. */
#define MORTALS 4

static void
again(struct call *call, struct ipc_message *reply)
{
	(void)reply;
	check_equal(call_echo(call->desk, call, test_random_below(3000), 0), 0);
}

static void
be_busy_until_killed(void *arg)
{
	static const struct ipc_worker_options readers = {
		.size = sizeof(readers), .run = serve, .channel = &wide};
	struct desk reading = {.loop = NULL}, deaf = {.loop = NULL};
	struct call calls[20], spin = {.ends = 0}, hang = {.ends = 0};
	pid_t pids[MORTALS];
	unsigned int i;

	memset(calls, 0, sizeof(calls));
	desk_open(&reading, POOL(.worker = &readers, .workers = MORTALS / 2));
	deaf.loop = reading.loop;
	desk_open(&deaf, POOL(.workers = MORTALS / 2, .depth = 1));
	await_ready(&deaf, MORTALS / 2);
	await_ready(&reading, MORTALS / 2);
	call_task(&deaf, &spin, TASK_SPIN, 0);
	call_task(&deaf, &hang, TASK_HANG, 0);
	for (i = 0; i < 20; i++) {
		calls[i].on_end = again;
		check_equal(call_echo(&reading, &calls[i], 100, 0), 0);
	}
	turn_for(reading.loop, 20);
	for (i = 0; i < MORTALS; i++)
		pids[i] = place_stats(i % 2 ? &deaf : &reading, i / 2).pid;
	check_equal(write(*(int *)arg, pids, sizeof(pids)), sizeof(pids));
	check_equal(ipc_loop_run(reading.loop), 0);
}

static void
its_workers_end_with_a_parent_that_is_killed(void **state)
{
	pid_t pids[MORTALS], parent;
	int ends[2], status;
	int64_t start_ms;
	unsigned int i;

	(void)state;
	check_equal(pipe2(ends, 0), 0);
	check_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	parent = child_start(be_busy_until_killed, &ends[1]);
	check_equal(read(ends[0], pids, sizeof(pids)), sizeof(pids));
	check_equal(kill(parent, SIGKILL), 0);
	start_ms = now_ms();
	child_end_by(parent, SIGKILL);
	for (i = 0; i < MORTALS; i++)
		check_equal(waitpid(pids[i], &status, 0), pids[i]);
	(void)printf("%d workers of a killed parent were gone after %lld ms\n", MORTALS,
		(long long)(now_ms() - start_ms));
	check(now_ms() - start_ms < TEST_WAIT_MS);
	check_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	check_equal(close(ends[0]), 0);
	check_equal(close(ends[1]), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		pool_test(a_drain_finishes_what_there_is),
		pool_test(a_drain_of_an_idle_pool_needs_no_time),
		pool_test(a_drain_with_too_little_time_cancels),
		pool_test(a_drain_goes_on_with_everything_else),
		pool_test(a_drain_turns_the_loop_for_others_too),
		pool_test(from_within_a_callback_a_drain_only_begins),
		pool_test(from_within_a_cancel_a_drain_turns_the_loop),
		pool_test(a_drain_lets_requests_be_tried_again),
		pool_test(destroyed_it_cancels_each_once_before_it_returns),
		pool_test(every_callback_may_destroy_the_pool),
		pool_test(every_callback_may_destroy_the_pool_and_the_loop),
		pool_test(while_it_is_destroyed_it_takes_nothing),
		pool_test(in_a_child_it_disturbs_nobody),
		pool_test(a_callback_may_fork),
		pool_test(its_workers_end_with_a_parent_that_is_killed),
	};

	return run_on_engines(tests);
}
