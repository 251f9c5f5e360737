/* SPDX-License-Identifier: MIT */

/*
 * stream: small messages one way, as many as go through. The receiver reads the first
 * word of each, in every variant. Where loops are measured both sides have one.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "loop.h"
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

/* Of a burst that is more than a packet holds, all packets are full. */
static size_t
in_packet_of(const struct bench_config *config, size_t stride)
{
	size_t most = config->record_max / stride, burst = config->burst;

	if (!burst)
		return most;
	return burst < most ? burst : most;
}

static void
send_batch(struct bench_side *side)
{
	size_t size = side->config->size, stride = stride_of(size);
	size_t in_packet = in_packet_of(side->config, stride);
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

/* Bursts, until it is time to look at the clock. */
static void
send_bursts(struct bench_side *side, const struct ipc_message *message)
{
	unsigned int burst = side->config->burst;

	do {
		for (unsigned int sent = 0; sent < BURST_RAW; sent += burst) {
			int r = 0;

			for (unsigned int i = 0; i < burst && r == 0; i++)
				r = ipc_channel_post(side->channel, message, -1);
			if (r == 0)
				r = ipc_channel_flush(side->channel, -1);
			if (r < 0)
				bench_side_fail(side, "ipc_channel_post", r);
			side->account->messages += burst;
		}
	} while (bench_side_goes_on(side, side->account->messages));
	bench_side_finish_channels(side);
}

static void
send_channel(struct bench_side *side)
{
	struct ipc_message message = {
		.data = bench_side_payload(side, side->config->size),
		.size = side->config->size,
	};

	if (side->config->burst)
		send_bursts(side, &message);
	else
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
	bench_side_finish_channels(side);
}

/* Who sends in a loop, whenever there is room. */
struct sender {
	struct bench_side *side;
	struct ipc_message message;
	struct ipc_loop *loop;
	bool going;
};

/* Post until there is no room, or the time is over. */
static void
on_writable(struct ipc_channel *channel, void *user)
{
	struct sender *sender = user;
	struct bench_side *side = sender->side;
	int r = 0;

	while (r == 0 && sender->going) {
		unsigned int posted = 0;

		while (posted < BURST_CHANNEL &&
			(r = ipc_channel_post(channel, &sender->message, 0)) == 0)
			posted++;
		side->account->messages += posted;
		sender->going = bench_side_goes_on(side, side->account->messages);
	}
	if (r < 0 && r != -EAGAIN)
		bench_side_fail(side, "ipc_channel_post", r);
	if (!sender->going)
		ipc_loop_stop(sender->loop);
}

/* Nobody answers a sender. */
static void
on_answer(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct sender *sender = user;

	(void)channel;
	(void)message;
	bench_side_fail(sender->side, "a message to the sender", -EPROTO);
}

static void
on_sender_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct sender *sender = user;

	bench_loop_closed(channel, reason, sender->side);
}

static void
send_loop(struct bench_side *side)
{
	static const struct ipc_channel_handler handler = {
		.message = on_answer,
		.writable = on_writable,
		.closed = on_sender_closed,
	};
	struct sender sender = {
		.side = side,
		.message = {.data = bench_side_payload(side, side->config->size),
			.size = side->config->size},
		.loop = bench_loop_new(side),
		.going = true,
	};

	bench_loop_attach(side, sender.loop, side->channel, &handler, &sender);
	on_writable(side->channel, &sender);
	bench_loop_run(side, sender.loop);
	bench_loop_flush(side, sender.loop, side->channel);
	bench_loop_finish(side, sender.loop);
}

/* Who receives in a loop. */
struct receiver {
	struct bench_side *side;
	struct ipc_loop *loop;
	uint64_t messages, sum;
};

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct receiver *receiver = user;

	(void)channel;
	receiver->sum += bench_first_word(message->data);
	receiver->messages++;
}

static void
on_end(struct ipc_channel *channel, int reason, void *user)
{
	struct receiver *receiver = user;

	(void)channel;
	if (reason)
		bench_side_fail(receiver->side, "a channel in a loop", reason);
	ipc_loop_stop(receiver->loop);
}

static void
receive_loop(struct bench_side *side)
{
	static const struct ipc_channel_handler handler = {
		.message = on_message,
		.closed = on_end,
	};
	struct receiver receiver = {.side = side, .loop = bench_loop_new(side)};

	bench_loop_attach(side, receiver.loop, side->channel, &handler, &receiver);
	bench_loop_run(side, receiver.loop);
	side->account->messages = receiver.messages;
	side->account->sum = receiver.sum;
	bench_loop_finish(side, receiver.loop);
}

const struct bench_case bench_stream = {
	.name = "stream",
	.summary = "small messages one way, as many as go through",
	.teaches = "Small messages one way, as many as go through; the receiver reads the first "
		   "word of each.",
	.unit = "message",
	.takes_burst = true,
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
			[BENCH_EPOLL] = {send_loop, receive_loop},
			[BENCH_URING] = {send_loop, receive_loop},
		},
};
