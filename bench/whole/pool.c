/* SPDX-License-Identifier: MIT */

/* The work of whole.h by a pool of libipc; with --sleep nobody spins before he sleeps. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <libipc.h>

#include "whole.h"

struct work {
	struct whole whole;
	struct ipc_pool *pool;
	uint64_t asked, answered, sum;
};

/* Answer all there is; only then wait. */
static int
answer(struct ipc_channel *channel, void *arg)
{
	struct ipc_message request;
	int r = 0;

	(void)arg;
	while (r != -EPIPE) {
		r = ipc_channel_recv(channel, &request, -1);
		while (r == 0) {
			uint64_t sum = whole_answer(request.data);
			struct ipc_message reply = {
				.data = &sum,
				.size = sizeof(sum),
				.id = request.id,
				.flags = IPC_MESSAGE_REPLY,
			};

			r = ipc_channel_post(channel, &reply, -1);
			if (r == 0)
				r = ipc_channel_recv(channel, &request, 0);
		}
		if (r == -EAGAIN)
			r = ipc_channel_flush(channel, -1);
		if (r < 0 && r != -EPIPE)
			return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

static void
fail(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-error));
	exit(EXIT_FAILURE);
}

static void replied(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user);

static void
ask(struct work *work)
{
	uint8_t request[WHOLE_SIZE];
	struct ipc_message message = {.data = request, .size = sizeof(request)};
	int r;

	whole_request(request, work->asked++);
	r = ipc_pool_call(work->pool, &message, replied, work, -1);
	if (r < 0)
		fail("ipc_pool_call", r);
}

static void
replied(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct work *work = user;
	uint64_t sum;

	(void)pool;
	if (result < 0)
		fail("a request", result);
	memcpy(&sum, reply->data, sizeof(sum));
	work->sum += sum;
	work->answered++;
	if (work->asked < work->whole.requests)
		ask(work);
}

int
main(int argc, char *argv[])
{
	struct work work = {.whole = whole_parse(argc, argv, "--sleep")};
	const struct ipc_channel_options channel = {
		.size = sizeof(channel),
		.spin_us = work.whole.has_flag ? -1 : 0,
	};
	const struct ipc_worker_options worker = {
		.size = sizeof(worker),
		.run = answer,
		.channel = &channel,
	};
	const struct ipc_loop_options loop_options = {
		.size = sizeof(loop_options),
		.spin_us = channel.spin_us,
	};
	const struct ipc_pool_options options = {
		.size = sizeof(options),
		.worker = &worker,
		.workers = work.whole.workers,
		.depth = WHOLE_DEPTH,
	};
	struct ipc_loop *loop;
	int r = ipc_loop_create(&loop, &loop_options);

	if (r == 0)
		r = ipc_pool_create(&work.pool, loop, &options);
	if (r < 0)
		fail("a pool", r);
	while (work.asked < work.whole.requests && work.asked < work.whole.workers * WHOLE_DEPTH)
		ask(&work);
	while (work.answered < work.whole.requests && r >= 0)
		r = ipc_loop_turn(loop, -1);
	if (r >= 0)
		r = ipc_pool_drain(work.pool, -1);
	if (r < 0)
		fail("a pool", r);
	ipc_pool_destroy(work.pool);
	ipc_loop_destroy(loop);
	printf("%" PRIu64 "\n", work.sum);
	return EXIT_SUCCESS;
}
