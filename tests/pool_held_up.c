/* SPDX-License-Identifier: MIT */

/* The loop was held up past the times of requests whose answers lie there: they were in time. */

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

#define REQUESTS   12
#define TIMEOUT_MS 400
#define HELD_UP_MS 900

static void
be_busy(void)
{
	sleep_ms(HELD_UP_MS);
}

/* As by Ctrl-Z and fg, or a debugger. */
static void
be_stopped(void)
{
	pid_t pid = fork();

	check(pid >= 0);
	if (!pid) {
		(void)kill(getppid(), SIGSTOP);
		sleep_ms(HELD_UP_MS);
		(void)kill(getppid(), SIGCONT);
		_exit(0);
	}
	check_equal(waitpid(pid, NULL, 0), pid);
}

/* Answers that come late are not in time: the machine may have done other things. */
static unsigned int
answers_after(void (*be_held_up)(void), unsigned int workers)
{
	struct call calls[REQUESTS];
	struct desk desk = {.loop = NULL};
	unsigned int i, answered = 0;

	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = workers));
	await_ready(&desk, workers);
	for (i = 0; i < REQUESTS; i++)
		call_task_within(&desk, &calls[i], TASK_SLEEP, 1, TIMEOUT_MS);
	/* Sends them. */
	check(ipc_loop_turn(desk.loop, 0) >= 0);
	be_held_up();
	turn_until(desk.loop, desk.ends == REQUESTS);
	for (i = 0; i < REQUESTS; i++) {
		check(calls[i].result == 0 || calls[i].result == -ETIMEDOUT);
		answered += calls[i].result == 0;
	}
	desk_close(&desk);
	return answered;
}

static void
expect_all_answered(void (*be_held_up)(void))
{
	check_equal(answers_after(be_held_up, 1), REQUESTS);
	check_equal(answers_after(be_held_up, 3), REQUESTS);
}

static void
answers_that_came_while_the_loop_was_busy_are_given_out(void **state)
{
	(void)state;
	expect_all_answered(be_busy);
}

static void
answers_that_came_while_the_process_was_stopped_are_given_out(void **state)
{
	(void)state;
	expect_all_answered(be_stopped);
}

/* Nor is a worker silent that has answered. */
static void
time_in_which_nobody_listened_is_no_silence(void **state)
{
	struct call calls[REQUESTS];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 2, .hung_ms = TIMEOUT_MS));
	await_ready(&desk, 2);
	for (i = 0; i < REQUESTS; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, 1);
	check(ipc_loop_turn(desk.loop, 0) >= 0);
	be_busy();
	for (i = 0; i < REQUESTS; i++)
		expect_call(&calls[i], 0);
	check_equal(pool_stats(&desk).hung, 0);
	desk_close(&desk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(answers_that_came_while_the_loop_was_busy_are_given_out),
		pool_test(answers_that_came_while_the_process_was_stopped_are_given_out),
		pool_test(time_in_which_nobody_listened_is_no_silence),
	};

	return run_on_engines(tests);
}
