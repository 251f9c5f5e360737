/* SPDX-License-Identifier: MIT */

/* Requests that are over before they are answered: their time is, or nobody wants them any more;
   and workers that are silent. */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

/* Turn until the request has ended for its time. Return: the milliseconds since start_ms. */
static int64_t
expect_late(struct call *call, int64_t start_ms)
{
	expect_call(call, -ETIMEDOUT);
	return now_ms() - start_ms;
}

static void
time_in_the_queue_is_included(void **state)
{
	struct call hold = {.ends = 0}, waits = {.ends = 0};
	struct desk desk = {.loop = NULL};
	int64_t start_ms;

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .depth = 1));
	await_ready(&desk, 1);
	call_task(&desk, &hold, TASK_HOLD, 0);
	start_ms = now_ms();
	call_task_within(&desk, &waits, TASK_KILL, 0, 40);
	check(expect_late(&waits, start_ms) >= 40);
	check_equal(pool_stats(&desk).queued, 0);
	check_equal(pool_stats(&desk).owed, 0);
	check_equal(desk.endeds, 0);
	/* Before a worker is there, too. */
	desk_destroy(&desk);
	desk_open(&desk, POOL(.workers = 1));
	start_ms = now_ms();
	call_task_within(&desk, &waits, TASK_HOLD, 0, 0);
	check_equal(waits.ends, 0);
	check(expect_late(&waits, start_ms) >= 0);
	desk_close(&desk);
}

static void
a_time_ends_at_a_worker_and_the_late_answer_is_dropped(void **state)
{
	struct call call = {.ends = 0};
	struct desk desk = {.loop = NULL};
	int64_t start_ms;

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	await_ready(&desk, 1);
	start_ms = now_ms();
	call_task_within(&desk, &call, TASK_HOLD, 0, 20);
	check(expect_late(&call, start_ms) >= 20);
	check_equal(pool_stats(&desk).owed, 1);
	check_equal(place_stats(&desk, 0).owed, 1);
	check_equal(place_stats(&desk, 0).outstanding, 1);
	tell_latest(&desk, TASK_RELEASE);
	turn_until(desk.loop, pool_stats(&desk).strays == 1);
	check_equal(call.ends, 1);
	check_equal(desk.ends, 1);
	check_equal(pool_stats(&desk).owed, 0);
	check_equal(place_stats(&desk, 0).outstanding, 0);
	check_equal(ask(&desk, TASK_SLEEP, 1, 0), 1);
	expect_sums(&desk, true);
	desk_close(&desk);
}

struct timed {
	struct call call; /* first: what a reply function gets */
	int64_t start_ms;
	int timeout_ms;
};

static void
expect_not_early(struct call *call, struct ipc_message *reply)
{
	const struct timed *timed = (const struct timed *)call;

	(void)reply;
	check(call->result == -ECANCELED || call->result == -ETIMEDOUT);
	if (call->result == -ETIMEDOUT)
		check(now_ms() - timed->start_ms >= timed->timeout_ms);
}

static void
of_many_none_is_early_and_all_end(void **state)
{
	unsigned int n = test_count(2000, 300), cancels = 0, i;
	struct timed *timed = calloc(n, sizeof(*timed));
	struct desk desk = {.loop = NULL};

	(void)state;
	check(timed);
	desk_open(&desk, POOL(.workers = 2, .depth = 50, .queue_max = 2000));
	await_ready(&desk, 2);
	for (i = 0; i < n; i++) {
		timed[i].timeout_ms = (int)test_random_below(150);
		timed[i].start_ms = now_ms();
		timed[i].call.on_end = expect_not_early;
		call_task_within(&desk, &timed[i].call, TASK_HOLD, 0, timed[i].timeout_ms);
		/* Out of the middle of what is ordered by time. */
		if (i % 3 == 0 && !timed[i / 3].call.ends) {
			cancel(&timed[i / 3].call);
			cancels++;
		}
	}
	turn_until(desk.loop, desk.ends == n);
	for (i = 0; i < n; i++)
		check_equal(timed[i].call.ends, 1);
	check_equal(pool_stats(&desk).timed_out, n - cancels);
	check_equal(pool_stats(&desk).cancelled, cancels);
	expect_sums(&desk, true);
	desk_close(&desk);
	free(timed);
}

static void
one_that_owes_a_late_answer_gets_nothing_new(void **state)
{
	struct call late = {.ends = 0}, own = {.ends = 0}, more[12];
	struct desk desk = {.loop = NULL};
	uint64_t other;
	unsigned int i;

	(void)state;
	memset(more, 0, sizeof(more));
	desk_open(&desk, POOL(.workers = 2, .depth = 4));
	await_ready(&desk, 2);
	call_task_within(&desk, &late, TASK_HOLD, 0, 5);
	expect_call(&late, -ETIMEDOUT);
	other = ask(&desk, TASK_PID, 0, 0);
	for (i = 0; i < 12; i++)
		call_task(&desk, &more[i], TASK_PID, 0);
	check_equal(pool_stats(&desk).outstanding, 4);
	for (i = 0; i < 12; i++) {
		expect_call(&more[i], 0);
		check_equal(more[i].n, other);
	}
	check_equal(pool_stats(&desk).owed, 1);
	/* Those that it has already are its own. */
	desk_destroy(&desk);
	desk_open(&desk, POOL(.workers = 1, .depth = 4));
	await_ready(&desk, 1);
	call_task_within(&desk, &late, TASK_HOLD, 0, 10);
	call_task(&desk, &own, TASK_HOLD, 0);
	expect_call(&late, -ETIMEDOUT);
	call_task(&desk, &more[0], TASK_PID, 0);
	turn_for(desk.loop, 5);
	check_equal(pool_stats(&desk).queued, 1);
	tell_latest(&desk, TASK_RELEASE);
	expect_call(&own, 0);
	expect_call(&more[0], 0);
	check_equal(pool_stats(&desk).strays, 1);
	desk_close(&desk);
}

static void
one_whose_request_was_cancelled_goes_on(void **state)
{
	struct call holds[3], next = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	memset(holds, 0, sizeof(holds));
	desk_open(&desk, POOL(.workers = 1, .depth = 3));
	await_ready(&desk, 1);
	call_task(&desk, &holds[0], TASK_HOLD, 0);
	call_task(&desk, &holds[1], TASK_HOLD, 0);
	cancel(&holds[0]);
	/* What it owes counts. */
	call_task(&desk, &holds[2], TASK_PID, 0);
	call_task(&desk, &next, TASK_RELEASE, 0);
	check_equal(place_stats(&desk, 0).outstanding, 3);
	check_equal(place_stats(&desk, 0).owed, 1);
	check_equal(pool_stats(&desk).queued, 1);
	expect_call(&holds[2], 0);
	expect_call(&next, 0);
	expect_call(&holds[1], 0);
	check_equal(pool_stats(&desk).strays, 1);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
with_tell_a_worker_is_told(void **state)
{
	struct call holds[4];
	struct desk desk = {.loop = NULL};
	unsigned int i, tell;

	(void)state;
	for (tell = 0; tell < 2; tell++) {
		memset(holds, 0, sizeof(holds));
		desk_open(&desk, POOL(.workers = 1, .depth = 20, .tell = (int)tell));
		await_ready(&desk, 1);
		for (i = 0; i < 4; i++)
			call_task(&desk, &holds[i], TASK_HOLD, 0);
		cancel(&holds[1]);
		cancel(&holds[2]);
		check_equal(ask(&desk, TASK_CANCELS, 0, 0), tell * 2);
		check_equal(ask(&desk, TASK_DROP, 0, 0), 0);
		desk_destroy(&desk);
	}
	desk_close(&desk);
}

/* Holds what it gets until it is told to leave it. */
static int
hold_until_told(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message, reply = {.size = 0};

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	while (ipc_channel_recv(channel, &message, -1) == 0) {
		if (!(message.flags & IPC_MESSAGE_CANCEL) && message.type == TASK_HOLD)
			continue;
		check_equal(message.size, message.flags & IPC_MESSAGE_CANCEL ? 0 : 8);
		check(message.id);
		check_equal(ipc_channel_reply(channel, &message, &reply, TEST_WAIT_MS), 0);
	}
	return 0;
}

static void
one_that_was_told_answers_and_is_free_again(void **state)
{
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = hold_until_told, .channel = &wide};
	struct call late = {.ends = 0}, next = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	desk_open(&desk, POOL(.worker = &worker, .workers = 1, .depth = 1, .tell = 1));
	await_ready(&desk, 1);
	for (i = 0; i < 5; i++) {
		call_task_within(&desk, &late, TASK_HOLD, 0, 5);
		call_task(&desk, &next, TASK_SLEEP, 0);
		expect_call(&late, -ETIMEDOUT);
		expect_call(&next, 0);
		check_equal(pool_stats(&desk).strays, i + 1);
	}
	check_equal(pool_stats(&desk).owed, 0);
	desk_close(&desk);
}

static void
a_request_is_cancelled_wherever_it_is(void **state)
{
	struct call calls[4], loses = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int open;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .depth = 1, .restart_min_ms = TEST_WAIT_MS));
	open = descriptors_open();
	/* Before a worker is there. */
	call_task(&desk, &calls[0], TASK_KILL, 0);
	cancel(&calls[0]);
	check_equal(ipc_pool_cancel(desk.pool, calls[0].name), -ENOENT);
	await_ready(&desk, 1);
	/* At a worker, and behind another. */
	call_task(&desk, &calls[1], TASK_SLEEP, 20);
	call_task(&desk, &calls[2], TASK_KILL, 0);
	cancel(&calls[2]);
	cancel(&calls[1]);
	check_equal(ipc_pool_cancel(desk.pool, calls[1].name), -ENOENT);
	check_equal(ask(&desk, TASK_SLEEP, 0, 0), 0);
	check_equal(pool_stats(&desk).strays, 1);
	/* One that is to be tried again. */
	call_task_attempts(&desk, &loses, TASK_KILL, 0, 5);
	turn_until(desk.loop, desk.endeds == 1);
	check_equal(pool_stats(&desk).queued, 1);
	cancel(&loses);
	check_equal(ipc_pool_cancel(desk.pool, loses.name), -ENOENT);
	check_equal(ipc_pool_cancel(desk.pool, 0), -ENOENT);
	check_equal(ipc_pool_cancel(desk.pool, UINT64_MAX), -ENOENT);
	check_equal(pool_stats(&desk).cancelled, 4);
	check_equal(descriptors_open(), open - 2);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
begin_drain(struct ipc_timer *timer, void *user)
{
	const struct desk *desk = user;

	(void)timer;
	check_equal(ipc_pool_drain(desk->pool, -1), 0);
}

static void
those_that_are_over_make_room(void **state)
{
	struct ipc_message message = {.size = 0};
	struct call hold = {.ends = 0}, waits[2], refused = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i, late;

	(void)state;
	for (late = 0; late < 2; late++) {
		desk.writables = 0;
		memset(waits, 0, sizeof(waits));
		desk_open(&desk, POOL(.workers = 1, .depth = 1, .queue_max = 2));
		await_ready(&desk, 1);
		call_task(&desk, &hold, TASK_HOLD, 0);
		for (i = 0; i < 2; i++)
			call_task_within(&desk, &waits[i], TASK_HOLD, 0, late ? 10 : -1);
		check_equal(call_message(&desk, &refused, &message, -1, NULL), -EAGAIN);
		for (i = 0; i < 2 && !late; i++)
			cancel(&waits[i]);
		check_equal(desk.writables, 0);
		turn_until(desk.loop, desk.writables);
		/* And an end of what was to be finished. */
		check_equal(ipc_timer_start(NULL, desk.loop, 0, 0, begin_drain, &desk), 0);
		turn_for(desk.loop, 5);
		check_equal(ipc_pool_drain(desk.pool, -1), -EALREADY);
		turn_until(desk.loop, waits[0].ends);
		check_equal(desk.draineds, 0);
		cancel(&hold);
		turn_until(desk.loop, desk.draineds);
		desk.draineds = 0;
		desk_destroy(&desk);
	}
	desk_close(&desk);
}

static void
cancel_this_and_another(struct call *call, struct ipc_message *reply)
{
	(void)reply;
	check_equal(ipc_pool_cancel(call->desk->pool, call->name), -ENOENT);
	cancel(call->arg);
}

static void
cancel_this(struct call *call, struct ipc_message *reply)
{
	check(reply);
	if (call->parts == 2)
		cancel(call);
}

static void
reply_functions_may_cancel(void **state)
{
	struct call calls[3], parts = {.on_part = cancel_this};
	struct desk desk = {.loop = NULL};

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .depth = 2));
	calls[0].on_end = cancel_this_and_another;
	calls[0].arg = &calls[1];
	calls[1].on_end = cancel_this_and_another;
	calls[1].arg = &calls[2];
	call_task(&desk, &calls[0], TASK_SLEEP, 0);
	call_task(&desk, &calls[1], TASK_SLEEP, 10);
	call_task(&desk, &calls[2], TASK_SLEEP, 0);
	expect_call(&calls[0], 0);
	check_equal(calls[1].result, -ECANCELED);
	check_equal(calls[2].result, -ECANCELED);
	call_task(&desk, &parts, TASK_PARTS, 5);
	expect_call(&parts, -ECANCELED);
	check_equal(parts.parts, 2);
	check_equal(ask(&desk, TASK_SLEEP, 0, 0), 0);
	turn_until(desk.loop, pool_stats(&desk).owed == 0);
	check_equal(parts.parts, 2);
	check_equal(desk.ends, 5);
	expect_sums(&desk, true);
	desk_close(&desk);
}

/* A name is never another request's. */
static void
a_name_that_was_used_is_nobodys(void **state)
{
	unsigned int n = test_count(2000, 200), i;
	uint64_t *names = calloc(n, sizeof(*names));
	struct call call = {.ends = 0}, hold = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	check(names);
	desk_open(&desk, POOL(.workers = 1));
	for (i = 0; i < n; i++) {
		call_task(&desk, &call, TASK_SLEEP, 0);
		names[i] = call.name;
		expect_call(&call, 0);
	}
	call_task(&desk, &hold, TASK_HOLD, 0);
	for (i = 0; i < n; i++)
		check_equal(ipc_pool_cancel(desk.pool, names[i]), -ENOENT);
	cancel(&hold);
	desk_close(&desk);
	free(names);
}

#define HUNG_MS 100

static void
one_that_is_silent_is_killed_and_replaced(void **state)
{
	const enum task tasks[] = {TASK_STOP, TASK_SPIN, TASK_HANG};
	struct call call = {.ends = 0}, beside = {.ends = 0};
	struct desk desk = {.loop = NULL};
	int64_t start_ms;
	unsigned int first = (unsigned int)test_random_below(3), i;

	(void)state;
	for (i = 0; i < test_count(3, 1); i++) {
		desk.endeds = desk.ends = 0;
		desk_open(&desk, POOL(.workers = 1, .hung_ms = HUNG_MS));
		await_ready(&desk, 1);
		start_ms = now_ms();
		call_task(&desk, &call, tasks[(first + i) % 3], 0);
		call_task_attempts(&desk, &beside, TASK_SLEEP, 0, 50);
		expect_call(&call, -EOWNERDEAD);
		check(now_ms() - start_ms >= HUNG_MS);
		check(pool_stats(&desk).hung >= 1);
		expect_call(&beside, 0);
		check(desk.endeds >= 1);
		check_equal(WTERMSIG(desk.status), SIGKILL);
		desk_destroy(&desk);
	}
	desk_close(&desk);
}

static void
a_request_is_tried_again_after_a_silence(void **state)
{
	struct call call = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 2, .hung_ms = HUNG_MS));
	call_task_attempts(&desk, &call, TASK_STOP, 0, 2);
	expect_call(&call, -EOWNERDEAD);
	check(pool_stats(&desk).hung >= 2);
	check_equal(pool_stats(&desk).retries, 1);
	desk_close(&desk);
}

static void
without_hung_ms_silence_is_fine(void **state)
{
	struct call call = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	await_ready(&desk, 1);
	call_task(&desk, &call, TASK_STOP, 7);
	turn_for(desk.loop, 2 * HUNG_MS);
	check_equal(call.ends, 0);
	check_equal(desk.endeds, 0);
	signal_place(&desk, 0, SIGCONT);
	expect_call(&call, 0);
	check_equal(call.n, 7);
	check_equal(pool_stats(&desk).hung, 0);
	desk_close(&desk);
}

static void
one_that_has_no_requests_may_be_silent(void **state)
{
	struct desk desk = {.loop = NULL};
	uint64_t pid;

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .hung_ms = 3 * HUNG_MS));
	await_ready(&desk, 1);
	pid = (uint64_t)place_stats(&desk, 0).pid;
	signal_place(&desk, 0, SIGSTOP);
	turn_for(desk.loop, 4 * HUNG_MS);
	signal_place(&desk, 0, SIGCONT);
	check_equal(ask(&desk, TASK_PID, 0, 0), pid);
	check_equal(desk.endeds, 0);
	desk_close(&desk);
}

#define MURMURS 45

/* Works for long, and says so. */
static int
murmur(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message, reply = {.flags = IPC_MESSAGE_MORE};
	unsigned int i;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	while (ipc_channel_recv(channel, &message, -1) == 0) {
		for (i = 0; i < MURMURS; i++) {
			sleep_ms(10);
			if (message.type == TASK_PARTS)
				check_equal(ipc_channel_reply(channel, &message, &reply, -1), 0);
			else
				send_text(channel, "still at it");
		}
		check_equal(ipc_channel_reply(channel, &message, &(struct ipc_message){.size = 0},
				    TEST_WAIT_MS),
			0);
	}
	return 0;
}

static void
one_that_says_something_is_not_hung(void **state)
{
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = murmur, .channel = &wide};
	struct call call = {.ends = 0}, parts = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.worker = &worker, .workers = 2, .hung_ms = 300));
	await_ready(&desk, 2);
	call_task(&desk, &call, TASK_SLEEP, 0);
	call_task(&desk, &parts, TASK_PARTS, 0);
	expect_call(&call, 0);
	expect_call(&parts, 0);
	check_equal(parts.parts, MURMURS);
	check_equal(desk.messages, MURMURS);
	check_equal(pool_stats(&desk).hung, 0);
	desk_close(&desk);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		pool_test(time_in_the_queue_is_included),
		pool_test(a_time_ends_at_a_worker_and_the_late_answer_is_dropped),
		pool_test(of_many_none_is_early_and_all_end),
		pool_test(one_that_owes_a_late_answer_gets_nothing_new),
		pool_test(one_whose_request_was_cancelled_goes_on),
		pool_test(with_tell_a_worker_is_told),
		pool_test(one_that_was_told_answers_and_is_free_again),
		pool_test(a_request_is_cancelled_wherever_it_is),
		pool_test(those_that_are_over_make_room),
		pool_test(reply_functions_may_cancel),
		pool_test(a_name_that_was_used_is_nobodys),
		pool_test(one_that_is_silent_is_killed_and_replaced),
		pool_test(a_request_is_tried_again_after_a_silence),
		pool_test(without_hung_ms_silence_is_fine),
		pool_test(one_that_has_no_requests_may_be_silent),
		pool_test(one_that_says_something_is_not_hung),
	};

	return run_on_engines(tests);
}
