/* SPDX-License-Identifier: MIT */

/*
 * roundtrip: one message there, the same one back, and only then the next. Every
 * trip is timed; a trip is both ways and is never halved. Only who asks, and measures, may use
 * a loop; a direct channel answers it.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "loop.h"
#include "raw.h"

#define SETTLE_NS 50000000U
#define IDLE_NS   1000000000U

static void
ask_raw(struct bench_side *side)
{
	size_t size = side->config->size;
	void *request = bench_side_payload(side, size), *reply = bench_side_payload(side, size);
	uint64_t start = bench_now_ns();

	do {
		bench_raw_send(side, request, size);
		if (bench_raw_recv(side, reply, size) != size)
			bench_side_fail(side, "recv", -EPIPE);
		side->account->sum += bench_first_word(reply);
	} while (bench_side_counts_trip(side, start, &start));
	bench_raw_finish(side);
}

static void
sleep_ns(uint64_t ns)
{
	struct timespec time = {
		.tv_sec = (time_t)(ns / 1000000000),
		.tv_nsec = (long)(ns % 1000000000),
	};

	while (nanosleep(&time, &time) < 0 && errno == EINTR)
		;
}

/*
 * What a channel whose peer has gone silent costs: the receiver's CPU time in a second.
 * Another process's clock is behind by up to a tick while it runs: it is read once the receiver
 * has had time to spin in vain and go to sleep.
 */
static void
measure_idle(struct bench_side *side)
{
	uint64_t start;

	sleep_ns(SETTLE_NS);
	start = bench_side_peer_cpu_ns(side);
	sleep_ns(IDLE_NS);
	*side->idle_cpu_us = (bench_side_peer_cpu_ns(side) - start) / 1000;
}

static void
ask_channel(struct bench_side *side)
{
	size_t size = side->config->size;
	struct ipc_message request = {.data = bench_side_payload(side, size), .size = size}, reply;
	uint64_t start = bench_now_ns();
	int r;

	do {
		r = ipc_channel_send(side->channel, &request, -1);
		if (r < 0)
			bench_side_fail(side, "ipc_channel_send", r);
		r = ipc_channel_recv(side->channel, &reply, -1);
		if (r < 0)
			bench_side_fail(side, "ipc_channel_recv", r);
		side->account->sum += bench_first_word(reply.data);
	} while (bench_side_counts_trip(side, start, &start));

	if (side->config->measures_idle)
		measure_idle(side);
	bench_side_finish_channels(side);
}

/* Who asks in a loop: the next message goes out from where the last one is handed in. */
struct asker {
	struct bench_side *side;
	struct ipc_message request;
	uint64_t start_ns;
	struct ipc_loop *loop;
};

static void
ask(struct asker *asker)
{
	int r = ipc_channel_send(asker->side->channel, &asker->request, 0);

	if (r < 0)
		bench_side_fail(asker->side, "ipc_channel_send", r);
}

static void
on_reply(struct ipc_channel *channel, struct ipc_message *reply, void *user)
{
	struct asker *asker = user;

	(void)channel;
	asker->side->account->sum += bench_first_word(reply->data);
	if (bench_side_counts_trip(asker->side, asker->start_ns, &asker->start_ns))
		ask(asker);
	else
		ipc_loop_stop(asker->loop);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct asker *asker = user;

	bench_loop_closed(channel, reason, asker->side);
}

static void
ask_loop(struct bench_side *side)
{
	static const struct ipc_channel_handler handler = {
		.message = on_reply,
		.closed = on_closed,
	};
	size_t size = side->config->size;
	struct asker asker = {
		.side = side,
		.request = {.data = bench_side_payload(side, size), .size = size},
		.loop = bench_loop_new(side),
	};

	bench_loop_attach(side, asker.loop, side->channel, &handler, &asker);
	asker.start_ns = bench_now_ns();
	ask(&asker);
	bench_loop_run(side, asker.loop);
	bench_loop_finish(side, asker.loop);
}

static void
answer_channel(struct bench_side *side)
{
	struct ipc_message message;
	int r;

	while ((r = ipc_channel_recv(side->channel, &message, -1)) == 0) {
		side->account->sum += bench_first_word(message.data);
		side->account->messages++;
		r = ipc_channel_send(side->channel, &message, -1);
		if (r < 0)
			bench_side_fail(side, "ipc_channel_send", r);
	}
	if (r != -EPIPE)
		bench_side_fail(side, "ipc_channel_recv", r);
	bench_side_finish_channels(side);
}

const struct bench_case bench_roundtrip = {
	.name = "roundtrip",
	.summary = "one message there and one back, each trip timed",
	.teaches = "One message there and one back: the time of the whole round trip.",
	.unit = "round trip",
	.shape = BENCH_LATENCY,
	.size_min = 8,
	.size_max = 128 << 10,
	.sizes = {64},
	.waits = {BENCH_SPIN, BENCH_SLEEP, BENCH_LEARN},
	.n_waits = 3,
	.raw_beside_learn = BENCH_SPIN,
	.sides =
		{
			[BENCH_RAW] = {ask_raw, bench_raw_echo},
			[BENCH_CHANNEL] = {ask_channel, answer_channel},
			[BENCH_EPOLL] = {ask_loop, answer_channel},
			[BENCH_URING] = {ask_loop, answer_channel},
		},
};
