/* SPDX-License-Identifier: MIT */

/*
 * stream: small messages one way, as many as go through. The receiver reads the first
 * word of each, in every variant.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "raw.h"

/* Messages between two looks at the clock. */
#define BURST_RAW     32U
#define BURST_CHANNEL 1024U

static void
send_raw(struct bench_side *side)
{
	size_t size = side->config->size;
	const void *payload = bench_side_payload(side, size);

	do {
		for (unsigned int i = 0; i < BURST_RAW; i++)
			bench_raw_send(side, payload, size);
		side->account->messages += BURST_RAW;
	} while (bench_side_goes_on(side, side->account->messages));
	bench_raw_finish(side);
}

static void
receive_raw(struct bench_side *side)
{
	size_t size = side->config->size;
	void *buffer = bench_side_payload(side, size);
	uint64_t messages = 0, sum = 0;

	while (bench_raw_recv(side, buffer, size) > 0) {
		sum += bench_first_word(buffer);
		messages++;
	}
	side->account->messages = messages;
	side->account->sum = sum;
}

/* Payloads of a packet begin at multiples of 8 bytes, as libipc's do. */
static size_t
stride_of(size_t size)
{
	return (size + 7) / 8 * 8;
}

static void
send_batch(struct bench_side *side)
{
	size_t size = side->config->size, stride = stride_of(size);
	size_t in_packet = side->config->record_max / stride;
	uint8_t *packet = bench_side_payload(side, side->config->record_max);
	const void *payload = bench_side_payload(side, size);

	do {
		for (size_t i = 0; i < in_packet; i++)
			memcpy(packet + i * stride, payload, size);
		bench_raw_send(side, packet, in_packet * stride);
		side->account->messages += in_packet;
	} while (bench_side_goes_on(side, side->account->messages));
	bench_raw_finish(side);
}

static void
receive_batch(struct bench_side *side)
{
	size_t stride = stride_of(side->config->size), n;
	uint8_t *packet = bench_side_payload(side, side->config->record_max);
	uint64_t messages = 0, sum = 0;

	while ((n = bench_raw_recv(side, packet, side->config->record_max)) > 0) {
		for (size_t at = 0; at < n; at += stride) {
			sum += bench_first_word(packet + at);
			messages++;
		}
	}
	side->account->messages = messages;
	side->account->sum = sum;
}

static void
send_channel(struct bench_side *side)
{
	struct ipc_message message = {
		.data = bench_side_payload(side, side->config->size),
		.size = side->config->size,
	};

	bench_side_post(side, &message, BURST_CHANNEL);
}

static void
receive_channel(struct bench_side *side)
{
	struct ipc_message message;
	uint64_t messages = 0, sum = 0;
	int r;

	while ((r = ipc_channel_recv(side->channel, &message, -1)) == 0) {
		sum += bench_first_word(message.data);
		messages++;
	}
	if (r != -EPIPE)
		bench_side_fail(side, "ipc_channel_recv", r);
	side->account->messages = messages;
	side->account->sum = sum;
	bench_side_finish_channel(side);
}

const struct bench_case bench_stream = {
	.name = "stream",
	.summary = "small messages one way, as many as go through",
	.teaches = "Small messages one way, as many as go through; the receiver reads the first "
		   "word of each.",
	.unit = "message",
	.size_min = 8,
	.size_max = 128 << 10,
	.sizes = {16, 64, 1024},
	.waits = {BENCH_LEARN},
	.n_waits = 1,
	.raw_beside_learn = BENCH_SLEEP,
	.sides =
		{
			[BENCH_RAW] = {send_raw, receive_raw},
			[BENCH_RAW_BATCH] = {send_batch, receive_batch},
			[BENCH_CHANNEL] = {send_channel, receive_channel},
		},
};
