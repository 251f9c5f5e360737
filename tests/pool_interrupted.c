/* SPDX-License-Identifier: MIT */

/*
 * A drain that ipc_loop_stop() interrupts: whoever waits gets out, and what was begun goes on. And
 * a function of the user that never returns.
 */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "pool_support.h"

static void
stop_loop(struct ipc_timer *timer, void *user)
{
	const struct desk *desk = user;

	(void)timer;
	ipc_loop_stop(desk->loop);
}

static void
stop_in(struct desk *desk, int ms)
{
	check_equal(ipc_timer_start(NULL, desk->loop, ms, 0, stop_loop, desk), 0);
}

static void
a_stop_ends_the_wait_and_the_drain_goes_on(void **state)
{
	struct call holds = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 2));
	await_ready(&desk, 2);
	call_task(&desk, &holds, TASK_HOLD, 0);
	stop_in(&desk, 20);
	check_equal(ipc_pool_drain(desk.pool, -1), -EINTR);
	check_equal(desk.draineds, 0);
	check_equal(holds.ends, 0);
	check_equal(ipc_pool_resize(desk.pool, 1), -ESHUTDOWN);
	/* It counted once. */
	check_equal(ipc_loop_turn(desk.loop, 0), 0);
	stop_in(&desk, 5);
	check_equal(ipc_pool_drain(desk.pool, TEST_WAIT_MS), -EINTR);
	/* Less time than before, and then no more. */
	check_equal(ipc_pool_drain(desk.pool, 30), -ETIMEDOUT);
	check_equal(holds.ends, 1);
	check_equal(holds.result, -ECANCELED);
	check_equal(desk.draineds, 1);
	check_equal(desk.endeds, 2);
	check_equal(ipc_pool_drain(desk.pool, 30), -EALREADY);
	desk_close(&desk);
}

static void
a_drain_that_was_interrupted_also_ends_with_the_loops_turns(void **state)
{
	struct call sleeps = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	await_ready(&desk, 1);
	call_task(&desk, &sleeps, TASK_SLEEP, 200);
	ipc_loop_stop(desk.loop);
	check_equal(ipc_pool_drain(desk.pool, -1), -EINTR);
	turn_until(desk.loop, desk.draineds);
	check_equal(sleeps.result, 0);
	check_equal(desk.drain_result, 0);
	check_equal(ipc_pool_drain(desk.pool, -1), -EALREADY);
	desk_close(&desk);
}

static void
after_a_stop_destroy_kills_what_is_left(void **state)
{
	struct call hangs = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	await_ready(&desk, 1);
	call_task(&desk, &hangs, TASK_HANG, 0);
	stop_in(&desk, 5);
	check_equal(ipc_pool_drain(desk.pool, -1), -EINTR);
	desk_destroy(&desk);
	check_equal(hangs.result, -ECANCELED);
	expect_no_children();
	desk_close(&desk);
}

/* There is always something to call back. */
static void
tick(struct ipc_timer *timer, void *user)
{
	unsigned int *ticks = user;

	(void)timer;
	++*ticks;
}

static void
a_stop_ends_the_wait_also_while_much_happens(void **state)
{
	struct ipc_timer *timer;
	struct call holds = {.ends = 0};
	struct desk desk = {.loop = NULL};
	struct call talks = {.ends = 0};
	unsigned int ticks = 0;

	(void)state;
	desk_open(&desk, POOL(.workers = 2, .depth = 1));
	await_ready(&desk, 2);
	call_task(&desk, &holds, TASK_HOLD, 0);
	call_task(&desk, &talks, TASK_TALK, 1000000);
	turn_until(desk.loop, desk.messages);
	check_equal(ipc_timer_start(&timer, desk.loop, 0, 1, tick, &ticks), 0);
	stop_in(&desk, 50);
	check_equal(ipc_pool_drain(desk.pool, -1), -EINTR);
	check_equal(holds.ends, 0);
	ipc_timer_stop(timer);
	desk_close(&desk);
}

static void
end_thread(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	(void)pool;
	(void)result;
	(void)reply;
	*(bool *)user = true;
	pthread_exit(NULL);
}

static void *
turn_on(void *loop)
{
	for (;;)
		check(ipc_loop_turn(loop, TEST_WAIT_MS) >= 0);
	return NULL;
}

static void
leave_a_reply(void *arg)
{
	const struct rlimit none = {0, 0};
	struct ipc_message request = {.type = TASK_ECHO};
	struct desk desk = {.loop = NULL};
	bool called = false;
	pthread_t thread;

	(void)arg;
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
	desk_open(&desk, POOL(.workers = 1));
	await_ready(&desk, 1);
	check_equal(ipc_pool_call(desk.pool, &request, end_thread, &called, -1), 0);
	check_equal(ipc_pool_call(desk.pool, &request, end_thread, &called, -1), 0);
	check_equal(pthread_create(&thread, NULL, turn_on, desk.loop), 0);
	check_equal(pthread_join(thread, NULL), 0);
	check(called);
	check(freopen("/dev/null", "w", stderr));
	(void)turn_on(desk.loop);
}

static void
a_function_that_never_returns_is_told_of(void **state)
{
	(void)state;
	child_end_by(child_start(leave_a_reply, NULL), SIGABRT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(a_stop_ends_the_wait_and_the_drain_goes_on),
		pool_test(a_drain_that_was_interrupted_also_ends_with_the_loops_turns),
		pool_test(after_a_stop_destroy_kills_what_is_left),
		pool_test(a_stop_ends_the_wait_also_while_much_happens),
		pool_test(a_function_that_never_returns_is_told_of),
	};

	return run_on_engines(tests);
}
