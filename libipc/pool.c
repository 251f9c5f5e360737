/* SPDX-License-Identifier: MIT */

/*
 * A pool: a dispatch whose world is workers, a loop and its clock.
 */

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <libipc/pool.h>

#include "cpus.h"
#include "dispatch.h"
#include "loop.h"
#include "sys.h"

#define NS_PER_MS INT64_C(1000000)

struct ipc_pool {
	struct ipci_dispatch dispatch;
	struct ipc_loop *loop;
	struct ipc_worker_options worker;
	size_t message_max; /* of the workers' channels, this end */
	struct ipc_pool_handler handler;
	void *user;
	struct ipc_timer *timer;
	int64_t armed_ns;     /* when it is due */
	unsigned int entered; /* calls that use the pool, one within the other */
	unsigned int turning; /* of those, up to a drain that turns the loop; 0: there is none */
	bool destroyed;       /* freed by the last of those */
	bool drained;
	int drain_result;
};

static struct ipc_pool *
pool_of(struct ipci_dispatch *dispatch)
{
	return (struct ipc_pool *)(void *)((char *)dispatch - offsetof(struct ipc_pool, dispatch));
}

static bool
is_ours(const struct ipc_pool *pool)
{
	return ipci_loop_is_ours(pool->loop);
}

/* A function of the user may be called until leave(), and destroy the pool. */
static void
enter(struct ipc_pool *pool)
{
	pool->entered++;
}

/* A timer that comes too early finds nothing to do, and is set anew. */
static void
set_timer(struct ipc_pool *pool)
{
	int64_t next_ns = ipci_dispatch_next_ns(&pool->dispatch);

	if (next_ns < pool->armed_ns) {
		pool->armed_ns = next_ns;
		ipci_timer_set(pool->timer, next_ns);
	}
}

static void
leave(struct ipc_pool *pool)
{
	/* A drain is left late: what is due meanwhile needs the timer. */
	if (--pool->entered > pool->turning)
		return;
	if (!pool->destroyed)
		set_timer(pool);
	else if (!pool->entered)
		free(pool);
}

static void
on_time(struct ipc_timer *timer, void *user)
{
	struct ipc_pool *pool = user;

	(void)timer;
	enter(pool);
	pool->armed_ns = INT64_MAX;
	ipci_dispatch_tick(&pool->dispatch, ipci_sys_now_ns());
	leave(pool);
}

/*
 * What the loop tells of a worker.
 */

static void
greet(struct ipc_pool *pool, struct ipci_place *place)
{
	if (place->state != IPC_POOL_STARTING)
		return;
	if (pool->handler.started) {
		/* For whoever turns the loop until something has happened. */
		pool->loop->stats.events++;
		pool->handler.started(pool, place->worker, pool->user);
	}
	if (!pool->dispatch.over)
		ipci_dispatch_ready(&pool->dispatch, place);
}

static void
on_greeted(struct ipc_channel *channel, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	(void)channel;
	enter(pool);
	greet(pool, place);
	leave(pool);
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	(void)channel;
	enter(pool);
	/* It may have come with the hello. */
	if (place->state == IPC_POOL_STARTING)
		greet(pool, place);
	if (pool->dispatch.over) {
		leave(pool);
		return;
	}
	if (message->flags & IPC_MESSAGE_REPLY) {
		ipci_dispatch_reply(&pool->dispatch, place, message, 0);
	} else {
		ipci_dispatch_heard(&pool->dispatch, place);
		if (pool->handler.message)
			pool->handler.message(pool, place->worker, message, pool->user);
	}
	leave(pool);
}

static void
on_lost(struct ipc_channel *channel, const struct ipc_message *head, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);
	struct ipc_message reply = *head;

	(void)channel;
	enter(pool);
	if (head->flags & IPC_MESSAGE_REPLY)
		ipci_dispatch_reply(&pool->dispatch, place, &reply, -EBADMSG);
	else
		ipci_dispatch_heard(&pool->dispatch, place);
	leave(pool);
}

static void
on_writable(struct ipc_channel *channel, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	(void)channel;
	enter(pool);
	ipci_dispatch_writable(&pool->dispatch, place);
	leave(pool);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	(void)channel;
	(void)reason;
	enter(pool);
	ipci_dispatch_closed(&pool->dispatch, place);
	leave(pool);
}

static void
on_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	enter(pool);
	if (pool->handler.ended)
		pool->handler.ended(pool, worker, end, pool->user);
	if (!pool->dispatch.over) {
		place->worker = ipc_worker_free(worker);
		ipci_dispatch_died(&pool->dispatch, place);
	}
	leave(pool);
}

/*
 * What the dispatch does.
 */

static int64_t
now_ns(void *world)
{
	(void)world;
	return ipci_sys_now_ns();
}

static int
start(void *world, struct ipci_place *place)
{
	static const struct ipc_worker_handler handler = {
		.channel =
			{
				.message = on_message,
				.writable = on_writable,
				.closed = on_closed,
				.lost = on_lost,
			},
		.died = on_died,
	};
	struct ipc_pool *pool = world;
	struct ipc_worker *worker;
	int r;

	r = ipc_worker_spawn(&worker, &pool->worker);
	if (r < 0)
		return r;
	r = ipc_worker_attach(pool->loop, worker, &handler, place);
	if (r < 0) {
		ipc_worker_free(worker);
		return r;
	}
	ipc_worker_channel(worker)->port->greeted = on_greeted;
	place->worker = worker;
	return 0;
}

static int
post(void *world, struct ipci_place *place, const struct ipc_message *message)
{
	struct ipc_channel *channel = ipc_worker_channel(place->worker);
	int r = ipc_channel_post(channel, message, 0);

	(void)world;
	/* Is it the message, or the channel? */
	return r < 0 && (!channel->port || ipci_port_error(channel->port) < 0) ? -EPIPE : r;
}

static void
end_channel(void *world, struct ipci_place *place)
{
	(void)world;
	(void)ipci_sys_shutdown_writing(ipc_channel_fd(ipc_worker_channel(place->worker)));
}

static void
kill_worker(void *world, struct ipci_place *place)
{
	(void)world;
	(void)ipc_worker_kill(place->worker, SIGKILL);
}

static void
reply(void *world, ipc_reply_fn *fn, int result, struct ipc_message *message, void *user)
{
	struct ipc_pool *pool = world;

	pool->loop->stats.events++;
	fn(pool, result, message, user);
}

static void
writable(void *world)
{
	struct ipc_pool *pool = world;

	pool->loop->stats.events++;
	if (pool->handler.writable)
		pool->handler.writable(pool, pool->user);
}

static void
drained(void *world, int result)
{
	struct ipc_pool *pool = world;

	pool->loop->stats.events++;
	pool->drained = true;
	pool->drain_result = result;
	if (pool->handler.drained)
		pool->handler.drained(pool, result, pool->user);
}

static const struct ipci_dispatch_ops ops = {
	.now_ns = now_ns,
	.start = start,
	.send = post,
	.close = end_channel,
	.kill = kill_worker,
	.reply = reply,
	.writable = writable,
	.drained = drained,
};

/*
 * Its life.
 */

static bool
are_in_range(const struct ipc_pool_options *options)
{
	return options->workers <= IPC_POOL_WORKERS_LIMIT &&
	       options->depth <= IPC_POOL_DEPTH_LIMIT &&
	       options->queue_max <= IPC_POOL_QUEUE_MAX_LIMIT &&
	       options->attempts <= IPC_POOL_ATTEMPTS_LIMIT && options->hung_ms >= 0 &&
	       options->restart_min_ms >= 0 && options->restart_max_ms >= 0 &&
	       options->stop_ms >= 0;
}

static unsigned int
number_or(unsigned int number, unsigned int otherwise)
{
	return number ? number : otherwise;
}

static int64_t
ms_or(int ms, int otherwise_ms)
{
	return (ms ? ms : otherwise_ms) * NS_PER_MS;
}

/* Return: 0, or -EINVAL. */
static int
resolve(const struct ipc_pool_options *given, struct ipci_dispatch_options *ret_options)
{
	struct ipci_dispatch_options options;

	if (!given->worker || !are_in_range(given))
		return -EINVAL;
	options = (struct ipci_dispatch_options){
		.workers = number_or(
			given->workers, IPCI_MIN(ipci_cpus_usable(), IPC_POOL_WORKERS_LIMIT)),
		.depth = number_or(given->depth, IPC_POOL_DEPTH_DEFAULT),
		.queue_max = number_or(given->queue_max, IPC_POOL_QUEUE_MAX_DEFAULT),
		.attempts = number_or(given->attempts, 1),
		.kept_bytes_max = given->kept_bytes_max ? given->kept_bytes_max
	                                                : IPC_POOL_KEPT_BYTES_MAX_DEFAULT,
		.kept_fds_max = number_or(given->kept_fds_max, IPC_POOL_KEPT_FDS_MAX_DEFAULT),
		.hung_ns = given->hung_ms * NS_PER_MS,
		.restart_min_ns = ms_or(given->restart_min_ms, IPC_POOL_RESTART_MIN_MS_DEFAULT),
		.restart_max_ns = ms_or(given->restart_max_ms, IPC_POOL_RESTART_MAX_MS_DEFAULT),
		.starts_max = number_or(given->starts_max, IPC_POOL_STARTS_MAX_DEFAULT),
		.stop_ns = ms_or(given->stop_ms, IPC_POOL_STOP_MS_DEFAULT),
		.tell = given->tell,
	};
	options.restart_max_ns = IPCI_MAX(options.restart_min_ns, options.restart_max_ns);
	*ret_options = options;
	return 0;
}

/* Kill all, then wait for each. */
static void
free_workers(struct ipc_pool *pool)
{
	struct ipci_dispatch *dispatch = &pool->dispatch;
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++)
		if (dispatch->places[i]->worker && is_ours(pool))
			kill_worker(pool, dispatch->places[i]);
	for (i = 0; i < dispatch->n_places; i++)
		dispatch->places[i]->worker = ipc_worker_free(dispatch->places[i]->worker);
}

static int
begin(struct ipc_pool *pool, const struct ipci_dispatch_options *options)
{
	int r = ipci_timer_create(&pool->timer, pool->loop, on_time, pool);

	if (r == 0)
		r = ipci_dispatch_init(&pool->dispatch, &ops, pool, options);
	if (r == 0)
		return 0;
	free_workers(pool);
	ipci_dispatch_forget(&pool->dispatch);
	pool->timer = ipc_timer_stop(pool->timer);
	return r;
}

int
ipc_pool_create(
	struct ipc_pool **ret, struct ipc_loop *loop, const struct ipc_pool_options *options)
{
	struct ipci_dispatch_options resolved;
	struct ipc_pool_options given;
	const struct ipc_channel *first;
	struct ipc_pool *pool;
	int r;

	assert(ret);
	assert(loop);
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	r = ipci_options_copy(&given, sizeof(given), options);
	if (r == 0)
		r = resolve(&given, &resolved);
	if (r < 0)
		return r;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->loop = loop;
	pool->handler = given.handler;
	pool->user = given.user;
	pool->armed_ns = INT64_MAX;
	r = ipci_options_copy(&pool->worker, sizeof(pool->worker), given.worker);
	if (r == 0)
		r = begin(pool, &resolved);
	if (r < 0) {
		free(pool);
		return r;
	}
	first = ipc_worker_channel(pool->dispatch.places[0]->worker);
	pool->message_max = first->own.message_max;
	enter(pool);
	leave(pool);
	*ret = pool;
	return 0;
}

struct ipc_pool *
ipc_pool_destroy(struct ipc_pool *pool)
{
	if (!pool || pool->destroyed)
		return NULL;
	pool->destroyed = true;
	enter(pool);
	free_workers(pool);
	if (is_ours(pool)) {
		pool->timer = ipc_timer_stop(pool->timer);
		ipci_dispatch_finish(&pool->dispatch);
	} else {
		ipci_dispatch_forget(&pool->dispatch);
	}
	leave(pool);
	return NULL;
}

/* Turn the loop until the drain has ended. */
static int
await_drained(struct ipc_pool *pool)
{
	int r = 0;

	/* That may be from within a call of the pool's: a reply function that a cancel has called.
	 */
	enter(pool);
	pool->turning = pool->entered;
	set_timer(pool);
	while (r >= 0 && !pool->drained && !pool->destroyed)
		r = ipc_loop_turn(pool->loop, -1);
	pool->turning = 0;
	if (pool->drained)
		r = pool->drain_result;
	leave(pool);
	return r < 0 ? r : 0;
}

int
ipc_pool_drain(struct ipc_pool *pool, int timeout_ms)
{
	bool turning;
	int r;

	assert(pool);
	if (!is_ours(pool))
		return -ECHILD;
	turning = pool->loop->turning;
	enter(pool);
	r = ipci_dispatch_drain(&pool->dispatch, timeout_ms);
	leave(pool);
	return r < 0 || turning ? r : await_drained(pool);
}

/*
 * Requests.
 */

static int
call(struct ipc_pool *pool, const struct ipc_message *request, ipc_reply_fn *fn, void *user,
	int timeout_ms, unsigned int attempts, uint64_t *ret_request)
{
	int r;

	assert(pool);
	assert(fn);
	ipci_message_assert(request);
	if (!is_ours(pool))
		return -ECHILD;
	if (request->size > pool->message_max)
		return -EMSGSIZE;
	if (request->n_fds > IPC_MESSAGE_FDS_LIMIT)
		return -E2BIG;
	enter(pool);
	r = ipci_dispatch_call(
		&pool->dispatch, request, fn, user, timeout_ms, attempts, ret_request);
	leave(pool);
	return r;
}

int
ipc_pool_call(struct ipc_pool *pool, const struct ipc_message *request, ipc_reply_fn *fn,
	void *user, int timeout_ms)
{
	return call(pool, request, fn, user, timeout_ms, 0, NULL);
}

int
ipc_pool_call_with(struct ipc_pool *pool, const struct ipc_message *request, ipc_reply_fn *fn,
	void *user, int timeout_ms, const struct ipc_call_options *given)
{
	struct ipc_call_options options;
	int r = ipci_options_copy(&options, sizeof(options), given);

	if (r < 0)
		return r;
	if (options.attempts > IPC_POOL_ATTEMPTS_LIMIT)
		return -EINVAL;
	return call(pool, request, fn, user, timeout_ms, options.attempts, options.ret_request);
}

int
ipc_pool_cancel(struct ipc_pool *pool, uint64_t request)
{
	int r;

	assert(pool);
	if (!is_ours(pool))
		return -ECHILD;
	enter(pool);
	r = ipci_dispatch_cancel(&pool->dispatch, request);
	leave(pool);
	return r;
}

int
ipc_pool_resize(struct ipc_pool *pool, unsigned int workers)
{
	int r;

	assert(pool);
	if (!is_ours(pool))
		return -ECHILD;
	if (!workers || workers > IPC_POOL_WORKERS_LIMIT)
		return -EINVAL;
	enter(pool);
	r = ipci_dispatch_resize(&pool->dispatch, workers);
	leave(pool);
	return r;
}

void
ipc_pool_stats(const struct ipc_pool *pool, struct ipc_pool_stats *ret_stats)
{
	struct ipc_pool_stats stats;

	assert(pool);
	assert(ret_stats);
	ipci_dispatch_stats(&pool->dispatch, &stats);
	stats.size = IPCI_MIN(ret_stats->size, sizeof(stats));
	memcpy(ret_stats, &stats, stats.size);
}

int
ipc_pool_worker_stats(
	const struct ipc_pool *pool, unsigned int index, struct ipc_pool_worker_stats *ret_stats)
{
	struct ipc_pool_worker_stats stats;
	const struct ipci_place *place;

	assert(pool);
	assert(ret_stats);
	if (index >= pool->dispatch.n_places)
		return -ENOENT;
	place = pool->dispatch.places[index];
	stats = (struct ipc_pool_worker_stats){
		.size = IPCI_MIN(ret_stats->size, sizeof(stats)),
		.state = place->state,
		.pid = place->worker ? ipc_worker_pid(place->worker) : -1,
		.outstanding = place->outstanding,
		.owed = place->owed,
		.completed = place->completed,
		.starts = place->starts,
		.failures = place->failures,
	};
	memcpy(ret_stats, &stats, stats.size);
	return 0;
}
