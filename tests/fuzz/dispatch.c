/* SPDX-License-Identifier: MIT */

/*
 * A pool's decisions, in a world that the input moves: workers that answer whatever they like, with
 * any name, that close, die, take nothing; calls, cancels, resizes, drains and a clock. Each
 * request ends exactly once, and the counters add up.
 *
 * Input: eight bytes of options, then operations: a byte (OP_...) and its parameters, a byte each
 * but for a name, which has eight. What is left when one is to be read is zeros.
 */

#include <errno.h>
#include <string.h>

#include "dispatch.h"
#include "fuzz.h"

enum {
	OP_CALL,        /* timeout, attempts, size: is refused, queued or given */
	OP_CANCEL,      /* which */
	OP_ANSWER,      /* worker, which of those that it was given, flags and result */
	OP_STRAY,       /* worker, name, flags and result */
	OP_HEARD,       /* worker */
	OP_READY,       /* worker */
	OP_WRITABLE,    /* worker */
	OP_CLOSED,      /* worker */
	OP_DIED,        /* worker */
	OP_TIME,        /* ms */
	OP_RESIZE,      /* workers */
	OP_DRAIN,       /* timeout */
	OP_SEND_FAILS,  /* worker, how: until it is writable */
	OP_START_FAILS, /* whether */
	OP_WITHIN,      /* how many of the next operations happen within the user's functions */
	OP_STATS,
	OPS,
};

#define NS_PER_MS    INT64_C(1000000)
#define WORKERS_MAX  400U
#define REQUESTS_MAX 200U
#define SENT_MAX     1024U
#define OPS_MAX      2000U
#define TICKS_MAX    100U
#define PLACES_MAX   6U
#define DEPTH_MAX    4U

/* A process. */
struct worker {
	struct ipci_place *place;
	int send_result;
	unsigned int n_sent;
	uint64_t sent[8]; /* names of the latest requests */
	bool is_ready, is_shut, is_gone, is_killed, is_dead;
};

struct request {
	uint64_t name;
	unsigned int attempts, sends, parts;
	bool is_taken, has_ended;
};

static struct {
	const uint8_t *input, *end;
	struct ipci_dispatch dispatch;
	struct ipci_dispatch_options options;
	int64_t now_ns;
	bool start_fails;
	struct worker workers[WORKERS_MAX];
	unsigned int n_workers;
	struct request requests[REQUESTS_MAX];
	unsigned int n_requests, n_taken, n_ended;
	struct request *calling;
	bool is_quiet; /* within what the user called: none of his functions is called */
	bool is_drained, is_finishing;
	unsigned int n_ops, within, depth;
	unsigned int n_random;
} world;

static unsigned int
take(void)
{
	return world.input < world.end ? *world.input++ : 0;
}

static uint64_t
take_name(void)
{
	uint64_t name = 0;
	unsigned int i;

	for (i = 0; i < sizeof(name); i++)
		name |= (uint64_t)take() << 8 * i;
	return name;
}

/* Names that are never the same, and always those of the same input. */
static void
op_random(void *opaque, void *ret_buffer, size_t size)
{
	unsigned char *bytes = ret_buffer;

	(void)opaque;
	while (size--)
		*bytes++ = (unsigned char)(world.n_random++ * 167 >> 3);
}

static int64_t
op_now_ns(void *opaque)
{
	(void)opaque;
	return world.now_ns;
}

static int
op_start(void *opaque, struct ipci_place *place)
{
	(void)opaque;
	if (world.start_fails || world.n_workers == WORKERS_MAX)
		return -EAGAIN;
	require(!world.is_finishing);
	place->worker = &world.workers[world.n_workers];
	world.workers[world.n_workers++] = (struct worker){.place = place};
	return 0;
}

static int
op_send(void *opaque, struct ipci_place *place, const struct ipc_message *message)
{
	struct worker *worker = place->worker;
	struct request *request;

	(void)opaque;
	require(worker->is_ready && !worker->is_shut && !worker->is_gone && !worker->is_killed);
	require(!worker->is_dead && message->id && message->id < IPC_MESSAGE_ID_CALL);
	if (worker->send_result < 0)
		return worker->send_result;
	if (message->flags) {
		require(message->flags == IPC_MESSAGE_CANCEL && !message->size);
		return 0;
	}
	require(message->size >= sizeof(request));
	memcpy(&request, message->data, sizeof(request));
	require(request >= world.requests && request < world.requests + REQUESTS_MAX);
	require(request == world.calling || (request->is_taken && !request->has_ended));
	require(++request->sends <= request->attempts);
	worker->sent[worker->n_sent++ % 8] = message->id;
	return 0;
}

static void
op_close(void *opaque, struct ipci_place *place)
{
	struct worker *worker = place->worker;

	(void)opaque;
	require(!worker->is_shut && !worker->is_gone && !worker->is_killed && !worker->is_dead);
	worker->is_shut = true;
}

static void
op_kill(void *opaque, struct ipci_place *place)
{
	struct worker *worker = place->worker;

	(void)opaque;
	require(!worker->is_killed && !worker->is_dead);
	worker->is_killed = true;
}

/* As good as dead, unless the input has the pool wait. */
static bool
op_give_up(void *opaque, struct ipci_place *place, bool must)
{
	struct worker *worker = place->worker;

	(void)opaque;
	require(worker->is_killed && !worker->is_dead);
	if (!must && take() & 1)
		return false;
	worker->is_gone = worker->is_dead = true;
	return true;
}

static void operate(void);

/* The user's functions may do anything. */
static void
go_on_within(void)
{
	if (!world.within || world.depth > 3 || world.is_finishing)
		return;
	world.within--;
	world.depth++;
	operate();
	world.depth--;
}

static void
on_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct request *request = user;

	(void)pool;
	require(!world.is_quiet);
	require(request->is_taken && !request->has_ended);
	require((reply != NULL) == (result >= 0));
	require(result == 0 || result == IPC_POOL_MORE || result == -ETIMEDOUT ||
		result == -ECANCELED || result == -EOWNERDEAD || result == -EBADMSG ||
		result == -ENODEV || result == -EMSGSIZE || result == -EAGAIN || result == -ENOMEM);
	if (result == IPC_POOL_MORE) {
		request->parts++;
	} else {
		request->has_ended = true;
		world.n_ended++;
	}
	go_on_within();
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
	(void)opaque;
	require(!world.is_quiet && !world.is_drained);
	go_on_within();
}

static void
op_drained(void *opaque, int result)
{
	unsigned int i;

	(void)opaque;
	require(!world.is_quiet && !world.is_drained);
	require(result == 0 || result == -ETIMEDOUT);
	require(world.n_ended == world.n_taken && !world.dispatch.n_places);
	for (i = 0; i < world.n_workers; i++)
		require(world.workers[i].is_dead);
	world.is_drained = true;
}

static const struct ipci_dispatch_ops ops = {
	.now_ns = op_now_ns,
	.random = op_random,
	.start = op_start,
	.send = op_send,
	.close = op_close,
	.kill = op_kill,
	.give_up = op_give_up,
	.reply = op_reply,
	.writable = op_writable,
	.drained = op_drained,
};

static void
check_stats(void)
{
	struct ipc_pool_stats stats = {.size = sizeof(stats)};

	ipci_dispatch_stats(&world.dispatch, &stats);
	require(stats.calls == world.n_taken);
	require(stats.completed + stats.timed_out + stats.cancelled + stats.died + stats.failed ==
		world.n_ended);
	require(stats.outstanding + stats.queued == world.n_taken - world.n_ended);
	require(stats.starts == world.n_workers);
	require(stats.outstanding + stats.owed <=
		(uint64_t)world.dispatch.n_places * world.options.depth);
}

static void
call(void)
{
	unsigned char payload[256 + sizeof(struct request *)] = {0};
	struct ipc_message message = {.data = payload, .flags = 0, .id = 1};
	struct request *request, *before = world.calling;
	bool was_quiet = world.is_quiet;
	int timeout_ms = (int)take() - 1, r;
	unsigned int attempts = 1 + take() % 3;

	message.size = sizeof(request) + take();
	if (world.n_requests == REQUESTS_MAX)
		return;
	request = &world.requests[world.n_requests++];
	*request = (struct request){.attempts = attempts};
	memcpy(payload, &request, sizeof(request));
	world.calling = request;
	world.is_quiet = true;
	r = ipci_dispatch_call(
		&world.dispatch, &message, on_reply, request, timeout_ms, attempts, &request->name);
	world.is_quiet = was_quiet;
	world.calling = before;
	require(r <= 0 && (r < 0 || request->name));
	request->is_taken = r == 0;
	world.n_taken += r == 0;
}

static void
cancel(void)
{
	unsigned int which = take();
	struct request *request;
	int r;

	if (!world.n_requests)
		return;
	request = &world.requests[which % world.n_requests];
	if (!request->is_taken)
		return;
	r = ipci_dispatch_cancel(&world.dispatch, request->name);
	require(r == 0 || r == -ENOENT);
	/* From within a function of the user: or it is about to. */
	require(request->has_ended || (r == -ENOENT && world.depth));
}

/* One that is not dead; NULL if there is none. */
static struct worker *
take_worker(void)
{
	unsigned int which = take(), n = 0, i;

	for (i = 0; i < world.n_workers; i++)
		n += !world.workers[i].is_dead;
	if (!n)
		return NULL;
	which %= n;
	for (i = 0; world.workers[i].is_dead || which--; i++)
		continue;
	return &world.workers[i];
}

static void
reply(struct worker *worker, uint64_t name)
{
	unsigned int choice = take();
	struct ipc_message message = {
		.id = name,
		.flags = (uint16_t)(IPC_MESSAGE_REPLY | (choice & 1 ? IPC_MESSAGE_MORE : 0)),
	};

	if (worker && worker->is_ready && !worker->is_gone)
		ipci_dispatch_reply(
			&world.dispatch, worker->place, &message, choice & 2 ? -EBADMSG : 0);
}

static void
happen_to(unsigned int op, struct worker *worker)
{
	struct ipci_dispatch *dispatch = &world.dispatch;

	if (!worker)
		return;
	switch (op) {
	case OP_HEARD:
		if (worker->is_ready && !worker->is_gone)
			ipci_dispatch_heard(dispatch, worker->place);
		break;
	case OP_READY:
		if (worker->is_ready || worker->is_shut || worker->is_gone || worker->is_killed)
			break;
		worker->is_ready = true;
		ipci_dispatch_ready(dispatch, worker->place);
		break;
	case OP_WRITABLE:
		if (worker->send_result != -EAGAIN || worker->is_gone || worker->is_shut)
			break;
		worker->send_result = 0;
		ipci_dispatch_writable(dispatch, worker->place);
		break;
	case OP_CLOSED:
		if (worker->is_gone)
			break;
		worker->is_gone = true;
		ipci_dispatch_closed(dispatch, worker->place);
		break;
	case OP_DIED:
		worker->is_dead = true;
		ipci_dispatch_died(dispatch, worker->place);
		break;
	}
}

static void
let_time_go_on(unsigned int ms)
{
	unsigned int ticks = 0;

	world.now_ns += ms * NS_PER_MS;
	/* What the user's functions do may be due at once, but there is an end of it. */
	do {
		ipci_dispatch_tick(&world.dispatch, world.now_ns);
		require(++ticks < TICKS_MAX);
	} while (ipci_dispatch_next_ns(&world.dispatch) <= world.now_ns);
}

static void
resize(void)
{
	bool was_quiet = world.is_quiet;
	int r;

	world.is_quiet = true;
	r = ipci_dispatch_resize(&world.dispatch, 1 + take() % PLACES_MAX);
	world.is_quiet = was_quiet;
	require(r <= 0);
}

static void
drain(void)
{
	bool was_quiet = world.is_quiet;
	int timeout_ms = (int)take() - 1, r;

	world.is_quiet = true;
	r = ipci_dispatch_drain(&world.dispatch, timeout_ms);
	world.is_quiet = was_quiet;
	require(r == 0 || r == -EALREADY);
}

static void
operate_on_worker(unsigned int op)
{
	static const int results[] = {-EAGAIN, -EPIPE, -EMSGSIZE, -ENOMEM};
	struct worker *worker = take_worker();
	unsigned int which;

	switch (op) {
	case OP_ANSWER:
		which = take();
		if (worker && worker->n_sent)
			reply(worker, worker->sent[which % worker->n_sent % 8]);
		break;
	case OP_STRAY:
		reply(worker, take_name());
		break;
	case OP_SEND_FAILS:
		which = take();
		if (worker && !worker->send_result)
			worker->send_result = results[which % 4];
		break;
	default:
		happen_to(op, worker);
	}
}

static void
operate(void)
{
	unsigned int op = take() % OPS;

	if (world.is_drained || world.n_ops++ > OPS_MAX)
		return;
	switch (op) {
	case OP_CALL:
		call();
		break;
	case OP_CANCEL:
		cancel();
		break;
	case OP_TIME:
		/* What ticks is not called from within. */
		if (!world.depth)
			let_time_go_on(take());
		break;
	case OP_RESIZE:
		resize();
		break;
	case OP_DRAIN:
		drain();
		break;
	case OP_START_FAILS:
		world.start_fails = take() % 2;
		break;
	case OP_WITHIN:
		world.within = take() % 16;
		break;
	case OP_STATS:
		/* Within a function of the user its own request has been counted. */
		if (!world.depth)
			check_stats();
		break;
	default:
		if (!world.depth)
			operate_on_worker(op);
	}
}

/* Return: whether the workers could be started. */
static bool
world_begin(void)
{
	unsigned int byte = take();

	world.options = (struct ipci_dispatch_options){
		.workers = 1 + byte % PLACES_MAX,
		.depth = 1 + take() % DEPTH_MAX,
		.queue_max = take() % 16,
		.attempts = 1,
		.kept_bytes_max = take() * 8,
		.kept_fds_max = 4,
		.hung_ns = take() * NS_PER_MS,
		.restart_min_ns = 10 * NS_PER_MS,
		.restart_max_ns = 100 * NS_PER_MS,
		.starts_max = take() % 4,
		.stop_ns = (1 + take()) * NS_PER_MS,
		.kill_ns = 100 * NS_PER_MS,
		.tell = take() % 2,
	};
	return ipci_dispatch_init(&world.dispatch, &ops, &world, &world.options) == 0;
}

/* All workers end, some time later: a drain then ends, too. */
static void
world_drain(void)
{
	unsigned int i;

	world.start_fails = false;
	world.within = 0;
	(void)ipci_dispatch_drain(&world.dispatch, -1);
	/* The drain may have begun before, and no worker be there for what it waits for. */
	for (i = 0; i < world.n_requests; i++)
		if (world.requests[i].is_taken)
			(void)ipci_dispatch_cancel(&world.dispatch, world.requests[i].name);
	let_time_go_on(1);
	for (i = 0; i < world.n_workers; i++) {
		if (world.workers[i].is_dead)
			continue;
		world.workers[i].is_dead = true;
		ipci_dispatch_died(&world.dispatch, world.workers[i].place);
	}
	let_time_go_on(1);
	require(world.is_drained);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	unsigned int last;

	memset(&world, 0, sizeof(world));
	world.input = input;
	world.end = input + size;
	world.now_ns = 1000 * NS_PER_MS;
	last = take();
	if (world_begin()) {
		while (world.input < world.end && !world.is_drained)
			operate();
		if (!world.is_drained && last & 1)
			world_drain();
		check_stats();
	}
	world.is_finishing = true;
	if (last & 2) {
		ipci_dispatch_forget(&world.dispatch);
		return 0;
	}
	ipci_dispatch_finish(&world.dispatch);
	require(world.n_ended == world.n_taken);
	return 0;
}
