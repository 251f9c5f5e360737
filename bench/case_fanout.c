/* SPDX-License-Identifier: MIT */

/*
 * fanout: a parent keeps a number of requests outstanding at each of many workers, which send
 * back what they get. A new request goes out as soon as a reply came. All figures are the
 * parent's: requests a second, its CPU time and system calls for each, and the time from a request
 * to its reply.
 *
 * The parent has a CPU; the workers share the other one, and sleep while there is nothing to do.
 * In variants of libipc they have ordinary direct channels; in that of a pool they are its own.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench.h"
#include "../libipc/histogram.h"
#include "fanout.h"
#include "loop.h"
#include "raw.h"

struct parent;

/* A worker, as the parent sees it. */
struct worker {
	struct parent *parent;
	unsigned int index;
	uint64_t sent, received;
	uint64_t timed; /* the number of the request whose reply is timed */
	uint64_t start_ns;
};

struct parent {
	struct bench_side *side;
	struct worker *workers;
	struct ipc_message request;
	uint64_t sent, received;
	bool going;
	struct ipc_loop *loop; /* NULL in the raw variant */
};

static void
begin(struct parent *parent, struct bench_side *side)
{
	size_t size = side->config->size;

	*parent = (struct parent){
		.side = side,
		.workers = calloc(side->n_ends, sizeof(*parent->workers)),
		.request = {.data = bench_side_payload(side, size), .size = size},
		.going = true,
	};
	if (!parent->workers)
		bench_side_fail(side, "memory", -ENOMEM);
	for (unsigned int i = 0; i < side->n_ends; i++)
		parent->workers[i] = (struct worker){.parent = parent, .index = i};
}

static bool
wants_request(const struct worker *worker)
{
	const struct parent *parent = worker->parent;

	return parent->going && worker->sent - worker->received < parent->side->config->depth;
}

/* The next request may be sent now; it counts once it was. */
static void
start_clock(struct worker *worker)
{
	if (worker->sent == worker->timed)
		worker->start_ns = bench_now_ns();
}

static void
count_request(struct worker *worker)
{
	worker->sent++;
	worker->parent->sent++;
}

static void
count_reply(struct worker *worker, const void *data)
{
	struct parent *parent = worker->parent;
	struct bench_side *side = parent->side;
	uint64_t now;

	side->account->sum += bench_first_word(data);
	parent->received++;
	if (worker->received++ != worker->timed)
		return;

	now = bench_now_ns();
	if (side->window->is_open)
		ipci_histogram_add(side->histogram, now - worker->start_ns);
	if (parent->going)
		parent->going = bench_side_goes_on_at(side, parent->received, now);
	/* Not every request is timed, as clocks cost, too; nor always the first of those that
	   travel together. */
	worker->timed = worker->sent + (side->config->depth > 1);
}

static bool
is_done(const struct parent *parent)
{
	return !parent->going && parent->received == parent->sent;
}

static void
fill_raw(struct worker *worker)
{
	struct parent *parent = worker->parent;
	struct bench_side *side = parent->side;

	while (wants_request(worker)) {
		start_clock(worker);
		if (!bench_raw_try_send(side, side->fds[worker->index], parent->request.data,
			    parent->request.size))
			return;
		count_request(worker);
	}
}

/* One packet for each reply that can have come, and no vain look for more. */
static void
serve_raw(struct worker *worker, void *buffer)
{
	struct bench_side *side = worker->parent->side;
	uint64_t outstanding = worker->sent - worker->received;

	while (outstanding-- && bench_raw_try_recv(side, side->fds[worker->index], buffer,
					side->config->size) > 0) {
		count_reply(worker, buffer);
		fill_raw(worker);
	}
}

static int
watch_raw(struct parent *parent)
{
	struct bench_side *side = parent->side;
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		bench_side_fail(side, "epoll_create1", -errno);
	for (unsigned int i = 0; i < side->n_ends; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &parent->workers[i]};

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, side->fds[i], &event) < 0)
			bench_side_fail(side, "epoll_ctl", -errno);
	}
	return epoll;
}

static void
turn_raw(struct parent *parent, int epoll, void *buffer)
{
	struct bench_side *side = parent->side;
	struct epoll_event events[BENCH_WORKERS_LIMIT];
	int n;

	do {
		side->account->syscalls++;
		n = epoll_wait(epoll, events, BENCH_WORKERS_LIMIT, side->spins ? 0 : -1);
	} while (n == 0 || (n < 0 && errno == EINTR));
	if (n < 0)
		bench_side_fail(side, "epoll_wait", -errno);
	for (int i = 0; i < n; i++)
		serve_raw(events[i].data.ptr, buffer);
}

static void
lead_raw(struct bench_side *side)
{
	void *buffer = bench_side_payload(side, side->config->size);
	struct parent parent;
	int epoll;

	begin(&parent, side);
	epoll = watch_raw(&parent);
	for (unsigned int i = 0; i < side->n_ends; i++)
		fill_raw(&parent.workers[i]);
	while (!is_done(&parent))
		turn_raw(&parent, epoll, buffer);

	side->account->messages = parent.sent;
	bench_raw_finish(side);
	close(epoll);
	free(parent.workers);
}

static void
fill_loop(struct ipc_channel *channel, void *user)
{
	struct worker *worker = user;
	struct parent *parent = worker->parent;

	while (wants_request(worker)) {
		int r;

		start_clock(worker);
		r = ipc_channel_post(channel, &parent->request, 0);
		if (r == -EAGAIN)
			return;
		if (r < 0)
			bench_side_fail(parent->side, "ipc_channel_post", r);
		count_request(worker);
	}
}

static void
on_reply(struct ipc_channel *channel, struct ipc_message *reply, void *user)
{
	struct worker *worker = user;
	const struct parent *parent = worker->parent;

	count_reply(worker, reply->data);
	fill_loop(channel, worker);
	if (is_done(parent))
		ipc_loop_stop(parent->loop);
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
		.writable = fill_loop,
		.closed = on_closed,
	};
	struct parent parent;

	begin(&parent, side);
	parent.loop = bench_loop_new(side);
	for (unsigned int i = 0; i < side->n_ends; i++) {
		bench_loop_attach(
			side, parent.loop, side->channels[i], &handler, &parent.workers[i]);
		fill_loop(side->channels[i], &parent.workers[i]);
	}
	bench_loop_run(side, parent.loop);

	side->account->messages = parent.sent;
	bench_loop_finish(side, parent.loop);
	free(parent.workers);
}

void
bench_fanout_work(struct bench_side *side)
{
	struct ipc_message message;
	int r = 0;

	while (r != -EPIPE) {
		r = ipc_channel_recv(side->channel, &message, -1);
		while (r == 0) {
			side->account->sum += bench_first_word(message.data);
			side->account->messages++;
			r = ipc_channel_post(side->channel, &message, -1);
			if (r < 0)
				bench_side_fail(side, "ipc_channel_post", r);
			r = ipc_channel_recv(side->channel, &message, 0);
		}
		if (r == -EAGAIN)
			r = ipc_channel_flush(side->channel, -1);
		if (r < 0 && r != -EPIPE)
			bench_side_fail(side, "a worker's channel", r);
	}
	bench_side_finish_channels(side);
}

static const struct bench_layout layouts[] = {
	{1, 1, true},
	{1, 16, false},
	{4, 1, false},
	{4, 16, false},
	{16, 1, false},
	{16, 16, true},
	{64, 1, false},
	{64, 16, true},
};

const struct bench_case bench_fanout = {
	.name = "fanout",
	.summary = "requests to many workers and back",
	.teaches = "A parent with D requests outstanding at each of K workers, which share a CPU "
		   "and send back what they get.",
	.unit = "request",
	.shape = BENCH_FANOUT,
	.rated = &bench_fanout_rate,
	.size_min = 8,
	.size_max = 4096,
	.sizes = {64},
	.layouts = layouts,
	.n_layouts = BENCH_ARRAY_SIZE(layouts),
	.waits = {BENCH_LEARN},
	.n_waits = 1,
	.raw_beside_learn = BENCH_SLEEP,
	.sides =
		{
			[BENCH_RAW] = {lead_raw, bench_raw_echo},
			[BENCH_EPOLL] = {lead_loop, bench_fanout_work},
			[BENCH_URING] = {lead_loop, bench_fanout_work},
			[BENCH_POOL] = {bench_fanout_pool, bench_fanout_pool_rest},
		},
};
