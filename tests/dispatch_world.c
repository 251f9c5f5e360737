/* SPDX-License-Identifier: MIT */

#include <stdlib.h>
#include <string.h>

#include "dispatch_world.h"
#include "support.h"

#define NS_PER_MS INT64_C(1000000)
#define BEGIN_NS  (1000 * NS_PER_MS)

static struct world_worker *
worker_at(const struct ipci_place *place)
{
	return place->worker;
}

static int64_t
op_now_ns(void *opaque)
{
	const struct world *world = opaque;

	return world->now_ns;
}

static int
op_start(void *opaque, struct ipci_place *place)
{
	struct world *world = opaque;

	if (world->start_result < 0)
		return world->start_result;
	check(world->n_workers < WORLD_WORKERS_MAX);
	place->worker = &world->workers[world->n_workers++];
	worker_at(place)->place = place;
	return 0;
}

static int
op_send(void *opaque, struct ipci_place *place, const struct ipc_message *message)
{
	struct world *world = opaque;
	struct world_worker *worker = worker_at(place);
	struct asked *asked;

	check(!worker->is_closed);
	check(!worker->is_killed);
	if (worker->send_result < 0)
		return worker->send_result;
	if (message->flags) {
		check_equal(message->flags, IPC_MESSAGE_CANCEL);
		check_equal(message->size, 0);
		worker->n_told++;
		worker->told = message->id;
		return 0;
	}
	check(world->n_sent < WORLD_SENT_MAX);
	memcpy(&asked, message->data, sizeof(asked));
	check_equal(message->size, asked->size);
	check_equal(message->n_fds, asked->n_fds);
	asked->sends++;
	asked->wire_id = message->id;
	asked->worker = (unsigned int)(worker - world->workers);
	world->sent[world->n_sent++] = (struct world_sent){asked->worker, asked, message->id};
	worker->n_sent++;
	return 0;
}

static void
op_close(void *opaque, struct ipci_place *place)
{
	(void)opaque;
	check(!worker_at(place)->is_closed);
	worker_at(place)->is_closed = true;
}

static void
op_kill(void *opaque, struct ipci_place *place)
{
	(void)opaque;
	check(!worker_at(place)->is_killed);
	worker_at(place)->is_killed = true;
}

static bool
op_give_up(void *opaque, struct ipci_place *place, bool must)
{
	struct world *world = opaque;

	check(!world->is_quiet);
	check(worker_at(place)->is_killed);
	if (world->keeps_undying && !must)
		return false;
	check(!worker_at(place)->is_given_up);
	worker_at(place)->is_given_up = true;
	if (world->on_given_up)
		world->on_given_up(world);
	return true;
}

static void
op_random(void *opaque, void *ret_buffer, size_t size)
{
	(void)opaque;
	fill(ret_buffer, size, test_random());
}

static void
on_end(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct asked *asked = user;
	struct world *world = asked->world;

	(void)pool;
	check(!world->is_quiet);
	check_equal(asked->ends, 0);
	check_equal(reply != NULL, result >= 0);
	if (reply)
		check_equal(reply->id, asked->id);
	if (result == IPC_POOL_MORE) {
		asked->parts++;
	} else {
		asked->ends++;
		asked->result = result;
		asked->order = ++world->n_replies;
	}
	if (world->on_reply)
		world->on_reply(world, asked, result);
}

static void
op_reply(void *opaque, ipc_reply_fn *fn, int result, struct ipc_message *reply, void *user)
{
	(void)opaque;
	fn(NULL, result, reply, user);
}

static void
op_writable(void *opaque)
{
	struct world *world = opaque;

	check(!world->is_quiet);
	world->writables++;
	if (world->on_writable)
		world->on_writable(world);
}

static void
op_drained(void *opaque, int result)
{
	struct world *world = opaque;

	check(!world->is_quiet);
	check_equal(world->dispatch.n_places, 0);
	world->n_drained++;
	world->drained = result;
}

static const struct ipci_dispatch_ops ops = {
	.now_ns = op_now_ns,
	.start = op_start,
	.send = op_send,
	.close = op_close,
	.kill = op_kill,
	.give_up = op_give_up,
	.random = op_random,
	.reply = op_reply,
	.writable = op_writable,
	.drained = op_drained,
};

struct ipci_dispatch_options
world_options(unsigned int workers, unsigned int depth)
{
	return (struct ipci_dispatch_options){
		.workers = workers,
		.depth = depth,
		.queue_max = 100,
		.attempts = 1,
		.kept_bytes_max = 1 << 20,
		.kept_fds_max = 100,
		.restart_min_ns = 10 * NS_PER_MS,
		.restart_max_ns = 100 * NS_PER_MS,
		.starts_max = 3,
		.stop_ns = 50 * NS_PER_MS,
		.kill_ns = 70 * NS_PER_MS,
	};
}

int
world_try(struct world *world, const struct ipci_dispatch_options *options)
{
	world->options = *options;
	world->now_ns = BEGIN_NS;
	return ipci_dispatch_init(&world->dispatch, &ops, world, options);
}

void
world_begin(struct world *world, const struct ipci_dispatch_options *options)
{
	memset(world, 0, sizeof(*world));
	check_equal(world_try(world, options), 0);
	check_equal(world->n_workers, options->workers);
	world_tick_now(world);
}

void
world_begin_ready(struct world *world, const struct ipci_dispatch_options *options)
{
	unsigned int i;

	world_begin(world, options);
	for (i = 0; i < options->workers; i++)
		be_ready(world, i);
}

void
world_end(struct world *world)
{
	if (!world->dispatch.over)
		ipci_dispatch_finish(&world->dispatch);
}

int64_t
world_ms(const struct world *world)
{
	return (world->now_ns - BEGIN_NS) / NS_PER_MS;
}

void
world_tick_now(struct world *world)
{
	ipci_dispatch_tick(&world->dispatch, world->now_ns);
}

void
world_tick(struct world *world, int64_t ms)
{
	world->now_ns = BEGIN_NS + ms * NS_PER_MS;
	world_tick_now(world);
}

void
expect_next(struct world *world, int64_t ms)
{
	int64_t next_ns = ipci_dispatch_next_ns(&world->dispatch);

	check_equal(next_ns, ms < 0 ? INT64_MAX : BEGIN_NS + ms * NS_PER_MS);
}

int
ask(struct world *world, struct asked *asked, int timeout_ms, unsigned int attempts)
{
	unsigned char payload[4096] = {0};
	int fds[8] = {2, 2, 2, 2, 2, 2, 2, 2};
	struct ipc_message message = {.data = payload, .fds = fds, .flags = IPC_MESSAGE_MORE};
	int r;

	if (asked->size < sizeof(asked))
		asked->size = sizeof(asked);
	check(asked->size <= sizeof(payload) && asked->n_fds <= 8);
	asked->world = world;
	asked->id = (uintptr_t)asked;
	memcpy(payload, &asked, sizeof(asked));
	message.size = asked->size;
	message.n_fds = asked->n_fds;
	message.id = asked->id;
	world->is_quiet = true;
	r = ipci_dispatch_call(
		&world->dispatch, &message, on_end, asked, timeout_ms, attempts, &asked->name);
	world->is_quiet = false;
	return r;
}

void
ask_taken(struct world *world, struct asked *asked, int timeout_ms, unsigned int attempts)
{
	check_equal(ask(world, asked, timeout_ms, attempts), 0);
	check(asked->name);
	check_equal(asked->ends, 0);
}

void
be_ready(struct world *world, unsigned int worker)
{
	ipci_dispatch_ready(&world->dispatch, world->workers[worker].place);
}

void
answer_with(struct world *world, unsigned int worker, uint64_t id, unsigned int flags, int result)
{
	struct ipc_message reply = {
		.id = id,
		.flags = (uint16_t)(IPC_MESSAGE_REPLY | flags),
	};

	ipci_dispatch_reply(&world->dispatch, world->workers[worker].place, &reply, result);
}

void
answer(struct world *world, const struct asked *asked)
{
	check(asked->sends);
	answer_with(world, asked->worker, asked->wire_id, 0, 0);
}

void
speak(struct world *world, unsigned int worker)
{
	ipci_dispatch_heard(&world->dispatch, world->workers[worker].place);
}

void
be_writable(struct world *world, unsigned int worker)
{
	world->workers[worker].send_result = 0;
	ipci_dispatch_writable(&world->dispatch, world->workers[worker].place);
}

void
lose_channel(struct world *world, unsigned int worker)
{
	world->workers[worker].is_closed = true;
	ipci_dispatch_closed(&world->dispatch, world->workers[worker].place);
}

void
die(struct world *world, unsigned int worker)
{
	ipci_dispatch_died(&world->dispatch, world->workers[worker].place);
}

void
expect_sent(struct world *world, const struct asked *asked, unsigned int worker)
{
	check(world->n_sent);
	check(world->sent[world->n_sent - 1].asked == asked);
	check_equal(asked->worker, worker);
	check_equal(asked->ends, 0);
}

void
expect_waiting(const struct asked *asked)
{
	check_equal(asked->sends, 0);
	check_equal(asked->ends, 0);
}

void
expect_no_end(const struct asked *asked)
{
	check_equal(asked->ends, 0);
}

void
expect_result(const struct asked *asked, int result)
{
	check_equal(asked->ends, 1);
	check_equal(asked->result, result);
}

struct ipc_pool_stats
world_stats(const struct world *world)
{
	struct ipc_pool_stats stats;

	ipci_dispatch_stats(&world->dispatch, &stats);
	check_equal(stats.calls, stats.completed + stats.timed_out + stats.cancelled + stats.died +
					 stats.failed + stats.outstanding + stats.queued);
	return stats;
}
