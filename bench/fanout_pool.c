/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdlib.h>

#include "../libipc/histogram.h"
#include "fanout.h"
#include "loop.h"

/* How long a worker may take to end: where others want the CPU, more than a pool gives it. */
#define GRACE_MS 10000

struct parent {
	struct bench_pool its;
	struct bench_side *side;
	struct ipc_message request;
	uint64_t sent, received;
	uint64_t timed; /* the number of the request to be timed next */
	uint64_t start_ns;
	bool is_timing; /* one that is on its way */
	bool going;
};

/* Receive all there is, posting the replies; send them; only then wait. */
static int
work(struct ipc_channel *channel, void *arg)
{
	struct bench_pool_total total = {0};
	struct ipc_message message;
	int r = 0;

	(void)arg;
	while (r != -EPIPE) {
		r = ipc_channel_recv(channel, &message, -1);
		while (r == 0) {
			total.sum += bench_first_word(message.data);
			total.messages++;
			message.flags = IPC_MESSAGE_REPLY;
			r = ipc_channel_post(channel, &message, -1);
			if (r == 0)
				r = ipc_channel_recv(channel, &message, 0);
		}
		if (r == -EAGAIN)
			r = ipc_channel_flush(channel, -1);
		if (r < 0 && r != -EPIPE)
			return EXIT_FAILURE;
	}
	message = (struct ipc_message){.data = &total, .size = sizeof(total)};
	return ipc_channel_send(channel, &message, -1) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static ipc_reply_fn on_reply, on_timed_reply;

static void
ask(struct parent *parent)
{
	bool is_timed = parent->sent == parent->timed && !parent->is_timing;
	int r;

	if (is_timed) {
		parent->is_timing = true;
		parent->start_ns = bench_now_ns();
	}
	r = ipc_pool_call(parent->its.pool, &parent->request, is_timed ? on_timed_reply : on_reply,
		parent, -1);
	if (r < 0)
		bench_side_fail(parent->side, "ipc_pool_call", r);
	parent->sent++;
}

static void
on_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct parent *parent = user;

	(void)pool;
	if (result < 0)
		bench_side_fail(parent->side, "a request", result);
	parent->side->account->sum += bench_first_word(reply->data);
	parent->received++;
	if (parent->going)
		ask(parent);
}

/* Not every request is timed, as clocks cost, too; nor always the first of those that travel
   together. */
static void
on_timed_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct parent *parent = user;
	struct bench_side *side = parent->side;
	uint64_t now = bench_now_ns();

	if (side->window->is_open)
		ipci_histogram_add(side->histogram, now - parent->start_ns);
	parent->going = bench_side_goes_on_at(side, parent->received + 1, now);
	parent->is_timing = false;
	parent->timed = parent->sent + (side->config->depth > 1);
	on_reply(pool, result, reply, user);
}

static void
on_total(struct ipc_pool *pool, struct ipc_worker *worker, struct ipc_message *message, void *user)
{
	struct bench_pool *its = user;
	const struct bench_pool_total *total = message->data;

	(void)pool;
	(void)worker;
	if (message->size != sizeof(*total))
		bench_side_fail(its->side, "a worker's total", -EPROTO);
	its->total.messages += total->messages;
	its->total.sum += total->sum;
}

/* The counters of its channel are asked for while it is there. */
static void
on_ended(struct ipc_pool *pool, struct ipc_worker *worker, const struct ipc_worker_end *end,
	void *user)
{
	struct ipc_channel_stats stats = {.size = sizeof(stats)};
	struct bench_pool *its = user;

	(void)pool;
	if (end->status != 0)
		bench_side_fail(its->side, "a worker", -EIO);
	ipc_channel_stats(ipc_worker_channel(worker), &stats);
	its->side->account->syscalls += stats.out.syscalls + stats.in.syscalls;
}

void
bench_pool_begin(struct bench_pool *pool, struct bench_side *side)
{
	const struct bench_config *config = side->config;
	const struct ipc_channel_options channel = bench_channel_options(config);
	const struct ipc_worker_options worker = {
		.size = sizeof(worker),
		.run = work,
		.channel = &channel,
		.cpus = &config->cpus[BENCH_RECEIVER],
		.n_cpus = 1,
	};
	const struct ipc_pool_options options = {
		.size = sizeof(options),
		.worker = &worker,
		.workers = config->workers,
		.depth = config->depth,
		.stop_ms = GRACE_MS,
		.handler = {.message = on_total, .ended = on_ended},
		.user = pool,
	};
	int r;

	*pool = (struct bench_pool){.side = side, .loop = bench_loop_new(side)};
	r = ipc_pool_create(&pool->pool, pool->loop, &options);
	if (r < 0)
		bench_side_fail(side, "ipc_pool_create", r);
}

void
bench_pool_end(struct bench_pool *pool)
{
	struct bench_side *side = pool->side;
	struct ipc_message total = {.data = &pool->total, .size = sizeof(pool->total)};
	int r = ipc_pool_drain(pool->pool, -1);

	if (r < 0)
		bench_side_fail(side, "ipc_pool_drain", r);
	ipc_pool_destroy(pool->pool);

	r = ipc_channel_send(side->channel, &total, -1);
	if (r < 0)
		bench_side_fail(side, "ipc_channel_send", r);
	bench_loop_finish(side, pool->loop);
}

void
bench_fanout_pool(struct bench_side *side)
{
	const struct bench_config *config = side->config;
	struct parent parent = {
		.side = side,
		.request = {.data = bench_side_payload(side, config->size), .size = config->size},
		.going = true,
	};
	int r = 0;

	bench_pool_begin(&parent.its, side);
	for (unsigned int i = 0; i < config->workers * config->depth; i++)
		ask(&parent);
	while (r >= 0 && (parent.going || parent.received < parent.sent))
		r = ipc_loop_turn(parent.its.loop, -1);
	if (r < 0)
		bench_side_fail(side, "ipc_loop_turn", r);
	side->account->messages = parent.sent;
	bench_pool_end(&parent.its);
}

void
bench_fanout_pool_rest(struct bench_side *side)
{
	struct ipc_message message;
	int r = ipc_channel_recv(side->channel, &message, -1);

	/* All but the first hear of nothing but the end. */
	if (r == 0) {
		const struct bench_pool_total *total = message.data;

		side->account->messages = total->messages;
		side->account->sum = total->sum;
	} else if (r != -EPIPE) {
		bench_side_fail(side, "ipc_channel_recv", r);
	}
	bench_side_finish_channels(side);
}
