/* SPDX-License-Identifier: MIT */

/*
 * roundtrip: one message there, the same one back, and only then the next. Every
 * trip is timed; a trip is both ways and is never halved.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "histogram.h"
#include "raw.h"

#define SETTLE_NS 50000000U
#define IDLE_NS   1000000000U

/* Note a trip that began at start_ns. Return: whether to go on; *ret_now_ns begins the next. */
static bool
count_trip(struct bench_side *side, uint64_t start_ns, uint64_t *ret_now_ns)
{
	uint64_t now = bench_now_ns();

	if (side->window->is_open)
		bench_histogram_add(side->histogram, now - start_ns);
	*ret_now_ns = now;
	return bench_side_goes_on_at(side, ++side->account->messages, now);
}

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
	} while (count_trip(side, start, &start));
	bench_raw_finish(side);
}

static void
answer_raw(struct bench_side *side)
{
	size_t size = side->config->size;
	void *buffer = bench_side_payload(side, size);

	while (bench_raw_recv(side, buffer, size) > 0) {
		side->account->sum += bench_first_word(buffer);
		side->account->messages++;
		bench_raw_send(side, buffer, size);
	}
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
	} while (count_trip(side, start, &start));

	if (side->config->measures_idle)
		measure_idle(side);
	bench_side_finish_channel(side);
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
	bench_side_finish_channel(side);
}

const struct bench_case bench_roundtrip = {
	.name = "roundtrip",
	.summary = "one message there and one back, each trip timed",
	.teaches = "One message there and one back: the time of the whole round trip.",
	.unit = "round trip",
	.is_latency = true,
	.size_min = 8,
	.size_max = 128 << 10,
	.sizes = {64},
	.waits = {BENCH_SPIN, BENCH_SLEEP, BENCH_LEARN},
	.n_waits = 3,
	.raw_beside_learn = BENCH_SPIN,
	.sides =
		{
			[BENCH_RAW] = {ask_raw, answer_raw},
			[BENCH_CHANNEL] = {ask_channel, answer_channel},
		},
};
