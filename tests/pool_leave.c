/* SPDX-License-Identifier: MIT */

/* Workers that leave by themselves, and what is on its way to them: nothing of it is lost. */

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

#define REQUESTS    4000U
#define SHARE       100U /* requests after which a worker leaves */
#define LAST_WORD   7
#define OUTSTANDING 400U

/* Leaves after so many requests, or with arg at once, and answers what it has got. */
static int
work_and_leave(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	unsigned int n = 0;
	int r = 0;

	alarm(TEST_SECONDS_MAX);
	if (arg)
		r = ipc_pool_leave(channel, TEST_WAIT_MS);
	while (r == 0 && (r = ipc_channel_recv(channel, &message, -1)) == 0) {
		r = ipc_channel_reply(channel, &message, &message, TEST_WAIT_MS);
		if (r == 0 && ++n == SHARE)
			r = ipc_pool_leave(channel, TEST_WAIT_MS);
	}
	return r == -EPIPE ? 0 : 2;
}

struct counts {
	unsigned int ends, failed;
};

static void
count(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct counts *counts = user;

	(void)pool;
	(void)reply;
	counts->ends++;
	counts->failed += result != 0;
}

static void
workers_that_leave_lose_nothing(void **state)
{
	struct ipc_message message = {.size = 0};
	struct counts counts = {0};
	struct desk desk = {.loop = NULL};
	unsigned int i, n = test_count(REQUESTS, REQUESTS / 4);

	(void)state;
	desk_open(&desk, POOL(.workers = 3, .worker = WORKER(.run = work_and_leave)));
	for (i = 0; i < n; i++) {
		turn_until(desk.loop, i - counts.ends < OUTSTANDING);
		check_equal(ipc_pool_call(desk.pool, &message, count, &counts, -1), 0);
	}
	turn_until(desk.loop, counts.ends == n);
	check_equal(counts.failed, 0);
	/* Each has answered also what was on its way when it left. */
	check(pool_stats(&desk).left >= n / (2 * SHARE) - 3);
	check_equal(desk.messages, 0);
	check_equal(ipc_pool_drain(desk.pool, TEST_WAIT_MS), 0);
	/* They saw the end, and exited by themselves. */
	check_equal(desk.endeds, desk.starteds);
	check_equal(desk.deaths, 0);
	check_equal(desk.status, 0);
	desk_close(&desk);
}

static void
one_that_leaves_is_replaced_and_has_not_failed(void **state)
{
	struct ipc_message message = {.size = 0};
	struct counts counts = {0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .restart_min_ms = 1, .restart_max_ms = TEST_WAIT_MS * 2,
				 .worker = WORKER(.run = work_and_leave)));
	for (i = 0; i < 5 * SHARE; i++)
		check_equal(ipc_pool_call(desk.pool, &message, count, &counts, -1), 0);
	turn_until(desk.loop, counts.ends == 5 * SHARE);
	turn_until(desk.loop, desk.starteds == desk.endeds + 1);
	check_equal(counts.failed, 0);
	check(desk.endeds >= 2);
	check_equal(pool_stats(&desk).left, desk.endeds);
	check_equal(place_stats(&desk, 0).failures, 0);
	desk_close(&desk);
}

/* Without that a worker could have this process do nothing but start others. */
static void
one_that_leaves_without_an_answer_has_failed(void **state)
{
	static char at_once;
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .restart_min_ms = 1, .starts_max = 1000,
				 .worker = WORKER(.run = work_and_leave, .arg = &at_once)));
	turn_until(desk.loop, desk.endeds == 5);
	check(place_stats(&desk, 0).failures >= 5);
	check_equal(pool_stats(&desk).left, 5);
	desk_close(&desk);
}

/* Exits with LAST_WORD if it got that. */
static int
listen_to_the_end(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	int status = 0;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	while (ipc_channel_recv(channel, &message, -1) == 0)
		status = message.type == LAST_WORD ? LAST_WORD : status;
	return status;
}

static void
keep_worker(struct desk *desk, struct ipc_worker *worker)
{
	struct ipc_worker **workers = desk->arg;

	workers[desk->starteds - 1] = worker;
}

static void
what_was_gathered_for_a_worker_comes_before_its_end(void **state)
{
	const struct ipc_message word = {.type = LAST_WORD};
	struct ipc_worker *workers[2];
	struct desk desk = {.on_started = keep_worker, .arg = workers};
	unsigned int i;

	(void)state;
	desk_open(&desk, POOL(.workers = 2, .worker = WORKER(.run = listen_to_the_end)));
	turn_until(desk.loop, desk.starteds == 2);
	for (i = 0; i < 2; i++)
		check_equal(ipc_channel_post(ipc_worker_channel(workers[i]), &word, 0), 0);
	check_equal(ipc_pool_resize(desk.pool, 1), 0);
	turn_until(desk.loop, desk.endeds == 1);
	check(WIFEXITED(desk.status));
	check_equal(WEXITSTATUS(desk.status), LAST_WORD);
	desk_close(&desk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(workers_that_leave_lose_nothing),
		pool_test(one_that_leaves_is_replaced_and_has_not_failed),
		pool_test(one_that_leaves_without_an_answer_has_failed),
		pool_test(what_was_gathered_for_a_worker_comes_before_its_end),
	};

	return run_on_engines(tests);
}
