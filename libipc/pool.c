/* SPDX-License-Identifier: MIT */

/*
 * A pool: a dispatch whose world is workers, a loop and its clock.
 */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <libipc/pool.h>

#include "channel.h"
#include "cpus.h"
#include "dispatch.h"
#include "loop.h"
#include "sys.h"
#include "wait.h"
#include "worker_internal.h"

#define NS_PER_MS INT64_C(1000000)

/* While workers die: how long to wait for one before all are looked at. */
#define NAP_MIN_MS 1
#define NAP_MAX_MS 16

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
	bool is_called_back;  /* within a callback of the loop's */
	bool destroyed;       /* freed by the last of those */
	bool drained;
	bool interrupted; /* a drain, while it turned the loop */
	int drain_result;

	/* Workers that SIGKILL has not ended, and no other thing of them but their processes: at
	   most as many as the pool shall have workers, and those of its places that are gone. */
	struct ipc_worker **undying;
	unsigned int n_undying;
	uint64_t guessable; /* what names are made of without getrandom(2) */
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

/* Of those that were given up some may have died since. */
static void
reap_undying(struct ipc_pool *pool)
{
	unsigned int i, n = 0;

	for (i = 0; i < pool->n_undying; i++)
		if (ipci_worker_reap(pool->undying[i]) == -EAGAIN)
			pool->undying[n++] = pool->undying[i];
		else
			ipci_worker_free_now(pool->undying[i]);
	pool->n_undying = n;
}

/* Of the loop's callbacks none is within another. */
static void
enter_from_loop(struct ipc_pool *pool)
{
	assert(!pool->is_called_back &&
		"a pool's function was left by longjmp(), an exception or the end of its thread");
	pool->is_called_back = true;
	enter(pool);
}

static void
leave_to_loop(struct ipc_pool *pool)
{
	pool->is_called_back = false;
	leave(pool);
}

static void
on_time(struct ipc_timer *timer, void *user)
{
	struct ipc_pool *pool = user;

	(void)timer;
	enter_from_loop(pool);
	pool->armed_ns = INT64_MAX;
	if (pool->n_undying)
		reap_undying(pool);
	ipci_dispatch_tick(&pool->dispatch, ipci_sys_now_ns());
	leave_to_loop(pool);
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
	enter_from_loop(pool);
	greet(pool, place);
	leave_to_loop(pool);
}

/* As ipc_pool_leave() says it. */
static bool
says_leave(const struct ipc_message *message)
{
	return message->flags == IPC_MESSAGE_CANCEL && !message->id && !message->size &&
	       !message->n_fds;
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	(void)channel;
	enter_from_loop(pool);
	/* It may have come with the hello. */
	if (place->state == IPC_POOL_STARTING)
		greet(pool, place);
	if (pool->dispatch.over) {
		leave_to_loop(pool);
		return;
	}
	if (message->flags & IPC_MESSAGE_REPLY) {
		ipci_dispatch_reply(&pool->dispatch, place, message, 0);
	} else if (says_leave(message)) {
		pool->loop->stats.events++;
		ipci_dispatch_leave(&pool->dispatch, place);
	} else {
		ipci_dispatch_heard(&pool->dispatch, place);
		if (pool->handler.message)
			pool->handler.message(pool, place->worker, message, pool->user);
	}
	leave_to_loop(pool);
}

static void
on_lost(struct ipc_channel *channel, const struct ipc_message *head, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);
	struct ipc_message reply = *head;

	(void)channel;
	enter_from_loop(pool);
	if (head->flags & IPC_MESSAGE_REPLY)
		ipci_dispatch_reply(&pool->dispatch, place, &reply, -EBADMSG);
	else
		ipci_dispatch_heard(&pool->dispatch, place);
	leave_to_loop(pool);
}

static void
on_writable(struct ipc_channel *channel, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	(void)channel;
	enter_from_loop(pool);
	ipci_dispatch_writable(&pool->dispatch, place);
	leave_to_loop(pool);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	(void)channel;
	(void)reason;
	enter_from_loop(pool);
	ipci_dispatch_closed(&pool->dispatch, place);
	leave_to_loop(pool);
}

static void
on_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	struct ipci_place *place = user;
	struct ipc_pool *pool = pool_of(place->dispatch);

	enter_from_loop(pool);
	if (pool->handler.ended)
		pool->handler.ended(pool, worker, end, pool->user);
	if (!pool->dispatch.over) {
		place->worker = ipc_worker_free(worker);
		ipci_dispatch_died(&pool->dispatch, place);
	}
	leave_to_loop(pool);
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
	struct ipc_channel *channel = ipc_worker_channel(place->worker);

	(void)world;
	if (channel->port)
		ipci_channel_finish_writing(channel);
	else
		(void)ipci_sys_shutdown_writing(ipc_channel_fd(channel));
}

static void
kill_worker(void *world, struct ipci_place *place)
{
	(void)world;
	(void)ipc_worker_kill(place->worker, SIGKILL);
}

/* What is left of it is its process, which is reaped once it has died. */
static void
keep_undying(struct ipc_pool *pool, struct ipc_worker *worker)
{
	struct ipc_worker **undying;

	/* One that may not be signalled may end with its channel. */
	(void)ipci_sys_shutdown(ipc_channel_fd(ipc_worker_channel(worker)));
	undying = realloc(pool->undying, (pool->n_undying + 1) * sizeof(struct ipc_worker *));
	if (undying)
		pool->undying = undying;
	if (!undying || ipc_worker_detach(pool->loop, worker) < 0) {
		ipci_worker_free_now(worker);
		return;
	}
	pool->undying[pool->n_undying++] = worker;
}

static bool
give_up(void *world, struct ipci_place *place, bool must)
{
	const struct ipc_worker_end end = {.size = sizeof(end), .status = -1};
	struct ipc_pool *pool = world;
	struct ipc_worker *worker = place->worker;

	/* One that is dead has sent more than was given out yet. */
	if (ipci_worker_reap(worker) != -EAGAIN)
		return false;
	reap_undying(pool);
	if (!must && pool->n_undying >= pool->dispatch.workers)
		return false;
	pool->loop->stats.events++;
	if (pool->handler.ended)
		pool->handler.ended(pool, worker, &end, pool->user);
	if (pool->dispatch.over)
		return true;
	place->worker = NULL;
	keep_undying(pool, worker);
	return true;
}

/* Where the kernel gives none the names can be guessed. */
static void
fetch_random(void *world, void *ret_buffer, size_t size)
{
	struct ipc_pool *pool = world;
	unsigned char *bytes = ret_buffer;
	uint64_t x;
	size_t i;

	if (ipci_sys_random(ret_buffer, size) == 0)
		return;
	for (i = 0; i < size; i++) {
		x = pool->guessable += (uint64_t)ipci_sys_now_ns() | 1;
		x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
		bytes[i] = (unsigned char)(x >> 56);
	}
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
	.give_up = give_up,
	.random = fetch_random,
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
		.kill_ns = IPC_WORKER_KILL_MS * NS_PER_MS,
		.tell = given->tell,
	};
	options.restart_max_ns = IPCI_MAX(options.restart_min_ns, options.restart_max_ns);
	*ret_options = options;
	return 0;
}

static void
kill_all(struct ipc_pool *pool)
{
	const struct ipci_dispatch *dispatch = &pool->dispatch;
	struct ipc_worker *worker;
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++) {
		worker = dispatch->places[i]->worker;
		if (!worker)
			continue;
		(void)ipc_worker_kill(worker, SIGKILL);
		/* One that may not be killed may follow its channel's end. */
		(void)ipci_sys_shutdown(ipc_channel_fd(ipc_worker_channel(worker)));
	}
}

/* Reap those that are dead. Return: one that lives, or NULL. */
static struct ipc_worker *
reap_all(struct ipc_pool *pool)
{
	const struct ipci_dispatch *dispatch = &pool->dispatch;
	struct ipc_worker *worker, *lives = NULL;
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++) {
		worker = dispatch->places[i]->worker;
		if (worker && ipci_worker_reap(worker) == -EAGAIN && !lives)
			lives = worker;
	}
	return lives;
}

/* Wait for all that were killed, in one time for all. Not in any order: the death of one that is
   the first process of a new pid namespace ends when the others there were reaped. */
static void
await_all(struct ipc_pool *pool)
{
	struct ipci_deadline deadline = ipci_deadline(IPC_WORKER_KILL_MS);
	int nap_ms = NAP_MIN_MS, left_ms;
	const struct ipc_worker *lives;
	int64_t now_ns;

	while ((lives = reap_all(pool))) {
		now_ns = ipci_sys_now_ns();
		ipci_deadline_start(&deadline, now_ns);
		left_ms = ipci_deadline_left_ms(&deadline, now_ns);
		if (!left_ms)
			return;
		(void)ipci_sys_poll(ipc_worker_pidfd(lives), POLLIN, IPCI_MIN(nap_ms, left_ms));
		nap_ms = IPCI_MIN(2 * nap_ms, NAP_MAX_MS);
	}
}

/* Kill all, then wait for all. Those that have not died by then are left. */
static void
free_workers(struct ipc_pool *pool)
{
	struct ipci_dispatch *dispatch = &pool->dispatch;
	unsigned int i;

	if (is_ours(pool)) {
		kill_all(pool);
		await_all(pool);
		reap_undying(pool);
	}
	for (i = 0; i < dispatch->n_places; i++)
		if (dispatch->places[i]->worker)
			dispatch->places[i]->worker =
				ipci_worker_free_now(dispatch->places[i]->worker);
	while (pool->n_undying)
		ipci_worker_free_now(pool->undying[--pool->n_undying]);
	free(pool->undying);
	pool->undying = NULL;
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

/* Was the loop told to stop? It counts once, and a run takes it. */
static bool
takes_stop(struct ipc_loop *loop)
{
	return atomic_load(&loop->stop) && ipc_loop_run(loop) == 0;
}

/* Return: 0, -EINTR when the loop was told to stop, or -errno. */
static int
turn(struct ipc_pool *pool)
{
	int r = ipc_loop_turn(pool->loop, -1);

	if (r < 0 || pool->drained || pool->destroyed)
		return r < 0 ? r : 0;
	/* It returns without a callback for nothing else. */
	return r == 0 || takes_stop(pool->loop) ? -EINTR : 0;
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
	while (r == 0 && !pool->drained && !pool->destroyed)
		r = turn(pool);
	pool->turning = 0;
	pool->interrupted = r < 0;
	if (pool->drained)
		r = pool->drain_result;
	leave(pool);
	return r;
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
	if (r == -EALREADY && pool->interrupted && !pool->drained && !turning)
		r = 0;
	return r < 0 || turning ? r : await_drained(pool);
}

int
ipc_pool_leave(struct ipc_channel *channel, int timeout_ms)
{
	const struct ipc_message message = {.flags = IPC_MESSAGE_CANCEL};

	return ipc_channel_send(channel, &message, timeout_ms);
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
