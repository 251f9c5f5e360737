/* SPDX-License-Identifier: MIT */

/*
 * fanout --rate: requests go out at their scheduled times, whatever comes back, to one worker after
 * the other. The time of each counts from when it should have been sent: a parent or a worker that
 * is late makes all late that come after it, as it does to users who do not know of each other.
 *
 * The parent spins, so that no timer of the kernel's makes it late. A request that nobody takes, as
 * all sockets or queues are full, is tried again until it is taken; its clock runs meanwhile.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fanout.h"
#include "../libipc/histogram.h"
#include "loop.h"
#include "raw.h"

struct parent;

/* What its replies tell: those of a worker come in the order of its requests. */
struct worker {
	struct parent *parent;
	uint64_t next; /* the number, of all requests, whose reply comes next */
};

struct parent {
	struct bench_side *side;
	struct worker *workers; /* none in the variant pool */
	struct ipc_message request;
	uint64_t start_ns; /* the time of request 0 */
	double interval_ns;
	uint64_t sent, received;
	bool going;
	struct bench_pool pool;
};

/* Return: whether somebody took the next request. */
typedef bool send_fn(struct parent *parent);

static void
begin(struct parent *parent, struct bench_side *side)
{
	size_t size = side->config->size;

	*parent = (struct parent){
		.side = side,
		.workers = calloc(side->n_ends, sizeof(*parent->workers)),
		.request = {.data = bench_side_payload(side, size), .size = size},
		.interval_ns = 1e9 / side->config->rate,
		.going = true,
	};
	if (!parent->workers)
		bench_side_fail(side, "memory", -ENOMEM);
	for (unsigned int i = 0; i < side->n_ends; i++)
		parent->workers[i] = (struct worker){.parent = parent, .next = i};
}

static uint64_t
scheduled_ns(const struct parent *parent, uint64_t number)
{
	return parent->start_ns + (uint64_t)((double)number * parent->interval_ns);
}

/* Send what is due; the first request is due at once. Return: whether there is anything left to do.
 */
static bool
goes_on(struct parent *parent, send_fn *send)
{
	struct bench_side *side = parent->side;
	uint64_t now = bench_now_ns();

	if (!parent->start_ns)
		parent->start_ns = side->begin_ns = now;
	if (parent->going)
		parent->going = bench_side_goes_on_at(side, parent->received, now);
	while (parent->going && scheduled_ns(parent, parent->sent) <= now && send(parent))
		parent->sent++;
	return parent->going || parent->received < parent->sent;
}

/* Those that were due while the window was open count, even if their replies come later. */
static void
count_reply(struct parent *parent, uint64_t number, const void *data)
{
	struct bench_side *side = parent->side;
	uint64_t scheduled = scheduled_ns(parent, number), now = bench_now_ns();

	side->account->sum += bench_first_word(data);
	parent->received++;
	if (side->window->is_open && scheduled >= side->window->start_ns)
		ipci_histogram_add(side->histogram, now - scheduled);
}

static void
count_reply_of(struct worker *worker, const void *data)
{
	uint64_t number = worker->next;

	worker->next += worker->parent->side->n_ends;
	count_reply(worker->parent, number, data);
}

static bool
send_raw(struct parent *parent)
{
	struct bench_side *side = parent->side;

	return bench_raw_try_send(side, side->fds[parent->sent % side->n_ends],
		parent->request.data, parent->request.size);
}

/* One packet for each reply that can have come, and no vain look for more. */
static void
serve_raw(struct parent *parent, unsigned int index, void *buffer)
{
	struct bench_side *side = parent->side;
	struct worker *worker = &parent->workers[index];

	while (worker->next < parent->sent &&
		bench_raw_try_recv(side, side->fds[index], buffer, side->config->size) > 0)
		count_reply_of(worker, buffer);
}

static void
lead_raw(struct bench_side *side)
{
	void *buffer = bench_side_payload(side, side->config->size);
	struct epoll_event events[BENCH_WORKERS_LIMIT];
	int epoll = epoll_create1(EPOLL_CLOEXEC), n;
	struct parent parent;

	if (epoll < 0)
		bench_side_fail(side, "epoll_create1", -errno);
	begin(&parent, side);
	for (unsigned int i = 0; i < side->n_ends; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, side->fds[i], &event) < 0)
			bench_side_fail(side, "epoll_ctl", -errno);
	}
	while (goes_on(&parent, send_raw)) {
		side->account->syscalls++;
		n = epoll_wait(epoll, events, BENCH_WORKERS_LIMIT, 0);
		if (n < 0 && errno != EINTR)
			bench_side_fail(side, "epoll_wait", -errno);
		for (int i = 0; i < n; i++)
			serve_raw(&parent, events[i].data.u32, buffer);
	}
	side->account->messages = parent.sent;
	bench_raw_finish(side);
	close(epoll);
	free(parent.workers);
}

static bool
send_loop(struct parent *parent)
{
	struct bench_side *side = parent->side;
	int r = ipc_channel_post(side->channels[parent->sent % side->n_ends], &parent->request, 0);

	if (r < 0 && r != -EAGAIN)
		bench_side_fail(side, "ipc_channel_post", r);
	return r == 0;
}

static void
on_reply(struct ipc_channel *channel, struct ipc_message *reply, void *user)
{
	(void)channel;
	count_reply_of(user, reply->data);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct worker *worker = user;

	bench_loop_closed(channel, reason, worker->parent->side);
}

static void
lead_loop(struct bench_side *side)
{
	static const struct ipc_channel_handler handler = {
		.message = on_reply,
		.closed = on_closed,
	};
	struct ipc_loop *loop = bench_loop_new(side);
	struct parent parent;
	int r = 0;

	begin(&parent, side);
	for (unsigned int i = 0; i < side->n_ends; i++)
		bench_loop_attach(side, loop, side->channels[i], &handler, &parent.workers[i]);
	while (r >= 0 && goes_on(&parent, send_loop))
		r = ipc_loop_turn(loop, 0);
	if (r < 0)
		bench_side_fail(side, "ipc_loop_turn", r);
	side->account->messages = parent.sent;
	bench_loop_finish(side, loop);
	free(parent.workers);
}

static void
on_pool_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct parent *parent = user;

	(void)pool;
	if (result < 0)
		bench_side_fail(parent->side, "a request", result);
	count_reply(parent, reply->id, reply->data);
}

static bool
send_pool(struct parent *parent)
{
	int r;

	parent->request.id = parent->sent;
	r = ipc_pool_call(parent->pool.pool, &parent->request, on_pool_reply, parent, -1);
	if (r < 0 && r != -EAGAIN)
		bench_side_fail(parent->side, "ipc_pool_call", r);
	return r == 0;
}

/* To start the workers takes longer than the warm-up, and is not what is measured. */
static bool
is_ready(const struct bench_pool *pool)
{
	struct ipc_pool_stats stats = {.size = sizeof(stats)};

	ipc_pool_stats(pool->pool, &stats);
	return stats.ready == stats.workers;
}

static void
lead_pool(struct bench_side *side)
{
	struct parent parent;
	int r = 0;

	begin(&parent, side);
	bench_pool_begin(&parent.pool, side);
	while (r >= 0 && !is_ready(&parent.pool))
		r = ipc_loop_turn(parent.pool.loop, 0);
	while (r >= 0 && goes_on(&parent, send_pool))
		r = ipc_loop_turn(parent.pool.loop, 0);
	if (r < 0)
		bench_side_fail(side, "ipc_loop_turn", r);
	side->account->messages = parent.sent;
	bench_pool_end(&parent.pool);
	free(parent.workers);
}

static const struct bench_layout layouts[] = {
	{1, 16, false},
	{4, 16, true},
	{16, 16, true},
	{64, 16, false},
};

const struct bench_case bench_fanout_rate = {
	.name = "fanout",
	.summary = "requests at a rate",
	.teaches = "Requests at a rate to K workers, which share a CPU and send back what they "
		   "get; each counts from when it was due. D is that of the pool alone.",
	.unit = "request",
	.shape = BENCH_RATED,
	.size_min = 8,
	.size_max = 4096,
	.sizes = {64},
	.layouts = layouts,
	.n_layouts = BENCH_ARRAY_SIZE(layouts),
	.waits = {BENCH_SPIN},
	.n_waits = 1,
	.raw_beside_learn = BENCH_SPIN,
	.sides =
		{
			[BENCH_RAW] = {lead_raw, bench_raw_echo},
			[BENCH_EPOLL] = {lead_loop, bench_fanout_work},
			[BENCH_URING] = {lead_loop, bench_fanout_work},
			[BENCH_POOL] = {lead_pool, bench_fanout_pool_rest},
		},
};
