/* SPDX-License-Identifier: MIT */

/*
 * Each system call and each allocation that a pool's life takes fails once, at every place where it
 * is made, and from there on. Whatever was refused is said and works when it is tried again, every
 * request that was taken ends once, and nothing is left behind.
 */

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <libipc/pool.h>

#include "faults_each.h"
#include "loop_support.h"
#include "worker_support.h"

#define REQUESTS 10
#define LARGE    300000

/* Turns in which all is done that can be while something fails. */
#define TURNS 12

static const struct fault_errors process_errors[] = {
	{FAULTY_SOCKETPAIR, {EMFILE}, {EINTR}},
	{FAULTY_EVENTFD, {EMFILE}, {EINTR}},
	{FAULTY_FORK, {EAGAIN, ENOMEM}, {0}},
	{FAULTY_PIDFD_OPEN, {EMFILE}, {EINTR}},
	{FAULTY_PIDFD_KILL, {0}, {EINTR}},
	{FAULTY_WAITID, {0}, {EINTR}},
	{FAULTY_DUP2, {EMFILE}, {EINTR}},
};

/* Names are then made of the clock. */
static const struct fault_errors random_errors[] = {
	{FAULTY_GETRANDOM, {ENOSYS, EAGAIN}, {EINTR}},
};

static const struct fault_errors packet_errors[] = {
	{FAULTY_SENDMSG, {EAGAIN, ENOMEM}, {EINTR, ENOBUFS}},
	{FAULTY_SEND, {EAGAIN, ENOMEM}, {EINTR, ENOBUFS}},
	{FAULTY_RECVMSG, {EAGAIN, ENOMEM}, {EINTR, ECONNRESET}},
	{FAULTY_RECV, {EAGAIN, ENOMEM}, {EINTR, ECONNRESET}},
	{FAULTY_SHUTDOWN, {ENOTCONN}, {EINTR}},
	{FAULTY_FCNTL, {EMFILE}, {EINTR}},
	{FAULTY_EPOLL_CTL, {ENOMEM, ENOSPC}, {EINTR}},
	{FAULTY_URING_SUBMIT, {EAGAIN, ENOMEM}, {EINTR}},
	{FAULTY_URING_WAIT, {EAGAIN}, {EINTR}},
};

static const struct fault_errors memory_errors[] = {
	{FAULTY_MMAP, {ENOMEM}, {0}},
	{FAULTY_MALLOC, {ENOMEM}, {0}},
	{FAULTY_CALLOC, {ENOMEM}, {0}},
	{FAULTY_REALLOC, {ENOMEM}, {0}},
};

struct request {
	struct scene *scene;
	unsigned int index;
	unsigned int parts, ends;
	int result;
	bool is_taken;
};

struct scene {
	struct ipc_loop *loop;
	struct ipc_pool *pool;
	struct request requests[REQUESTS];
	unsigned int ends;
	bool is_resized, is_killed;
	int pipe[2];
};

static unsigned char payload[LARGE];

/* A child is inside the library until here. A request of type 1 has two replies, others one. */
static int
serve(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message, part = {.flags = IPC_MESSAGE_MORE};
	int r = 0;

	(void)arg;
	fault_inside(false);
	while (r == 0 && ipc_channel_recv(channel, &message, -1) == 0) {
		if (message.type == 1)
			r = ipc_channel_reply(channel, &message, &part, -1);
		message.flags = 0;
		if (r == 0)
			r = ipc_channel_reply(channel, &message, &message, -1);
	}
	return r < 0;
}

static const struct ipc_channel_options channel_options = {
	.size = sizeof(channel_options),
	.fds_max = 2,
};
static const struct ipc_worker_options worker_options = {
	.size = sizeof(worker_options),
	.run = serve,
	.channel = &channel_options,
};
static const struct ipc_pool_options pool_options = {
	.size = sizeof(pool_options),
	.worker = &worker_options,
	.workers = 2,
	.depth = 2,
	.attempts = 2,
	.restart_min_ms = 1,
	.restart_max_ms = 4,
	.starts_max = 1000,
	.stop_ms = 20,
};

/* Is that what may be said while this fault is about? */
static void
check_refusal(int r)
{
	check(fault_count());
	/* EPERM: a fork that failed, as its child has not said more. */
	if (r != -ENOMEM && r != -EMFILE && r != -ENOBUFS)
		check_equal(r, -fault_error());
}

/* Callbacks are ours: nothing fails in them. */
static void
on_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct request *request = user;

	(void)pool;
	fault_inside(false);
	check(request->is_taken);
	check(!request->ends);
	if (result == IPC_POOL_MORE) {
		request->parts++;
		check_equal(reply->id, request->index + 1);
	} else {
		request->ends++;
		request->scene->ends++;
		request->result = result;
		check_equal(!reply, result < 0);
	}
	if (result == 0) {
		check_equal(reply->id, request->index + 1);
		check_equal(reply->n_fds, request->index == 3 || request->index == 8 ? 2 : 0);
		check(is_filled(reply->data, reply->size, request->index + 1));
	}
	fault_inside(true);
}

static void
call(struct scene *scene, unsigned int index)
{
	struct request *request = &scene->requests[index];
	struct ipc_message message = {
		.data = payload,
		.size = index == 5 ? LARGE : index * 10,
		.type = index == 4,
		.id = index + 1,
	};
	int r;

	if (index == 3 || index == 8) {
		message.fds = scene->pipe;
		message.n_fds = 2;
	}
	fill(payload, message.size, message.id);
	request->scene = scene;
	request->index = index;
	request->is_taken = true;
	r = LIBRARY(ipc_pool_call(
		scene->pool, &message, on_reply, request, index == 6 ? 2 * TEST_WAIT_MS : -1));
	if (r == 0)
		return;
	request->is_taken = false;
	/* The queue has room for all: what is full is a channel, or it has no worker. */
	if (r != -EAGAIN)
		check_refusal(r);
}

static void
kill_one(struct scene *scene)
{
	struct ipc_pool_worker_stats stats = {.size = sizeof(stats)};

	check_equal(ipc_pool_worker_stats(scene->pool, 0, &stats), 0);
	scene->is_killed = stats.pid > 0 && kill(stats.pid, SIGKILL) == 0;
}

/* Whatever has not been done yet. */
static void
go_on(struct scene *scene)
{
	unsigned int i;
	int r;

	/* The first ones wait for a worker; there is one for the others. */
	for (i = 0; i < (scene->ends ? REQUESTS : REQUESTS / 2); i++)
		if (!scene->requests[i].is_taken)
			call(scene, i);
	if (!scene->is_resized) {
		r = LIBRARY(ipc_pool_resize(scene->pool, 3));
		scene->is_resized = r == 0;
		if (r < 0)
			check_refusal(r);
	}
	if (!scene->is_killed)
		kill_one(scene);
	r = LIBRARY(ipc_loop_turn(scene->loop, 1));
	if (r < 0)
		check_refusal(r);
}

/* Has all been done, and has the pool all its workers again? */
static bool
is_done(const struct scene *scene)
{
	struct ipc_pool_stats stats = {.size = sizeof(stats)};

	ipc_pool_stats(scene->pool, &stats);
	return scene->ends == REQUESTS && scene->is_resized && scene->is_killed && stats.ready == 3;
}

static bool
scene_open(struct scene *scene)
{
	int r;

	*scene = (struct scene){.loop = NULL};
	fault_hold(true);
	check_equal(LIBRARY(ipc_loop_create(&scene->loop, LOOP_OPTIONS(.spin_us = -1))), 0);
	check_equal(pipe(scene->pipe), 0);
	fault_hold(false);
	r = LIBRARY(ipc_pool_create(&scene->pool, scene->loop, &pool_options));
	if (r == 0)
		return true;
	check_refusal(r);
	check(!scene->pool);
	expect_no_children();
	/* The second attempt. */
	fault_pass();
	check_equal(LIBRARY(ipc_pool_create(&scene->pool, scene->loop, &pool_options)), 0);
	return true;
}

static void
check_results(const struct scene *scene)
{
	struct ipc_pool_stats stats = {.size = sizeof(stats)};
	const struct request *request;
	unsigned int i;

	for (i = 0; i < REQUESTS; i++) {
		request = &scene->requests[i];
		check_equal(request->ends, 1);
		if (request->result == 0)
			check_equal(request->parts, i == 4);
		/* Killed twice, or after its first part; or what a queued one met. */
		else if (request->result != -EOWNERDEAD)
			check_refusal(request->result);
	}
	ipc_pool_stats(scene->pool, &stats);
	check_equal(stats.calls, REQUESTS);
	check_equal(stats.calls,
		stats.completed + stats.timed_out + stats.cancelled + stats.died + stats.failed);
	check_equal(stats.outstanding + stats.queued, 0);
}

static void
scene_close(struct scene *scene, bool drains)
{
	int r;

	if (drains) {
		r = LIBRARY(ipc_pool_drain(scene->pool, TEST_WAIT_MS));
		if (r < 0)
			check_refusal(r);
	}
	check(!LIBRARY(ipc_pool_destroy(scene->pool)));
	check(!LIBRARY(ipc_loop_destroy(scene->loop)));
	check_equal(close(scene->pipe[0]), 0);
	check_equal(close(scene->pipe[1]), 0);
}

static bool
use_pool(const struct fault *fault)
{
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	struct scene scene;
	unsigned int turns;

	fault_trial_begin(fault, "a pool");
	check(scene_open(&scene));
	for (turns = 0; turns < TURNS && !is_done(&scene); turns++)
		go_on(&scene);
	fault_pass();
	while (!is_done(&scene)) {
		check(now_ms() < give_up_ms);
		go_on(&scene);
	}
	check_results(&scene);
	scene_close(&scene, fault && fault->nth % 2);
	expect_no_children();
	return fault_trial_end();
}

/* Destroyed, or drained, in the middle of it all. */
static void
leave_pool(const struct fault *fault, bool drains)
{
	unsigned int turns, i, taken = 0;
	struct scene scene;

	fault_trial_begin(fault, "a pool that is left");
	check(scene_open(&scene));
	for (turns = 0; turns < 3 && !is_done(&scene); turns++)
		go_on(&scene);
	scene_close(&scene, drains);
	for (i = 0; i < REQUESTS; i++) {
		taken += scene.requests[i].is_taken;
		check_equal(scene.requests[i].ends, scene.requests[i].is_taken);
	}
	check_equal(scene.ends, taken);
	fault_pass();
	expect_no_children();
	(void)fault_trial_end();
}

static bool
use_and_leave_pool(const struct fault *fault, const void *arg)
{
	(void)arg;
	if (!use_pool(fault))
		return false;
	/* Where a call fails for good a drain might never end. */
	leave_pool(fault, !fault->onward);
	return true;
}

static const struct fault_trial pool_trial = {
	.run = use_and_leave_pool, .full_step = 2, .quick_step = 29};

static void
without_any_fault(void **state)
{
	(void)state;
	(void)use_pool(NULL);
	check(fault_calls(FAULTY_FORK) && fault_calls(FAULTY_WAITID));
	check(fault_calls(FAULTY_CALLOC) && fault_calls(FAULTY_REALLOC));
}

static void
processes_fail(void **state)
{
	(void)state;
	fail_all(&pool_trial, process_errors);
}

static void
packets_fail(void **state)
{
	(void)state;
	fail_all(&pool_trial, packet_errors);
}

static void
there_are_no_random_bytes(void **state)
{
	(void)state;
	fail_all(&pool_trial, random_errors);
}

static void
allocations_fail(void **state)
{
	(void)state;
	fail_all(&pool_trial, memory_errors);
}

static int
fault_end(void **state)
{
	fault_over();
	return worker_test_end(state);
}

#define fault_test(function) cmocka_unit_test_setup_teardown(function, loop_test_begin, fault_end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		fault_test(without_any_fault),
		fault_test(processes_fail),
		fault_test(packets_fail),
		fault_test(there_are_no_random_bytes),
		fault_test(allocations_fail),
	};

	return run_on_engines(tests);
}
