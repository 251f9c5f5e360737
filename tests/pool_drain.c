/* SPDX-License-Identifier: MIT */

/* A drain that turns the loop itself: what is due meanwhile comes to pass. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <libipc/pool.h>

#include "loop_support.h"
#include "worker_support.h"

/* Long for what is to happen in a test, and short beside its time limit. */
#define SOON_MS 50

struct request {
	unsigned int ends;
	int result;
	bool destroys;
};

/* Answers nothing, and ends with its channel. */
static int
ignore(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;

	(void)arg;
	while (ipc_channel_recv(channel, &message, -1) == 0)
		;
	return 0;
}

static void
on_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct request *request = user;

	(void)reply;
	request->ends++;
	request->result = result;
	if (request->destroys)
		ipc_pool_destroy(pool);
}

/* A pool of one worker that has been given the request. */
static struct ipc_pool *
pool_with(struct ipc_loop *loop, struct ipc_pool_options options, struct request *request, int ms)
{
	struct ipc_message message = {.data = "never", .size = 5};
	struct ipc_pool_stats stats = {.size = sizeof(stats)};
	struct ipc_pool *pool;

	options.size = sizeof(options);
	options.worker = WORKER(.run = ignore);
	options.workers = 1;
	check_equal(ipc_pool_create(&pool, loop, &options), 0);
	check_equal(ipc_pool_call(pool, &message, on_reply, request, ms), 0);
	while (ipc_pool_stats(pool, &stats), !stats.outstanding && !request->ends)
		check(ipc_loop_turn(loop, 1) >= 0);
	return pool;
}

static void
requests_that_have_not_ended_in_time_are_cancelled(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct request request = {0};
	struct ipc_pool *pool = pool_with(loop, (struct ipc_pool_options){0}, &request, -1);

	(void)state;
	check_equal(ipc_pool_drain(pool, SOON_MS), -ETIMEDOUT);
	check_equal(request.ends, 1);
	check_equal(request.result, -ECANCELED);
	expect_no_children();
	ipc_pool_destroy(pool);
	ipc_loop_destroy(loop);
}

static void
a_request_whose_time_is_over_ends(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct request request = {0};
	struct ipc_pool *pool = pool_with(loop, (struct ipc_pool_options){0}, &request, SOON_MS);

	(void)state;
	check_equal(ipc_pool_drain(pool, -1), 0);
	check_equal(request.ends, 1);
	check_equal(request.result, -ETIMEDOUT);
	expect_no_children();
	ipc_pool_destroy(pool);
	ipc_loop_destroy(loop);
}

static void
a_silent_worker_is_killed(void **state)
{
	const struct ipc_pool_options options = {.hung_ms = SOON_MS};
	struct ipc_loop *loop = loop_open(NULL);
	struct request request = {0};
	struct ipc_pool *pool = pool_with(loop, options, &request, -1);

	(void)state;
	check_equal(ipc_pool_drain(pool, -1), 0);
	check_equal(request.ends, 1);
	check_equal(request.result, -EOWNERDEAD);
	expect_no_children();
	ipc_pool_destroy(pool);
	ipc_loop_destroy(loop);
}

static void
the_pool_may_be_destroyed_meanwhile(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct request request = {.destroys = true};
	struct ipc_pool *pool = pool_with(loop, (struct ipc_pool_options){0}, &request, -1);

	(void)state;
	check_equal(ipc_pool_drain(pool, SOON_MS), 0);
	check_equal(request.ends, 1);
	expect_no_children();
	ipc_loop_destroy(loop);
}

#define drain_test(function) \
	cmocka_unit_test_setup_teardown(function, loop_test_begin, worker_test_end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		drain_test(requests_that_have_not_ended_in_time_are_cancelled),
		drain_test(a_request_whose_time_is_over_ends),
		drain_test(a_silent_worker_is_killed),
		drain_test(the_pool_may_be_destroyed_meanwhile),
	};

	return run_on_engines(tests);
}
