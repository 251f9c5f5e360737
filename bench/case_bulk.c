/* SPDX-License-Identifier: MIT */

/*
 * bulk: large messages one way. The raw variant cuts them into packets of the size that
 * libipc uses, from one buffer straight into another. The receiver reads a word of
 * every page, in both variants.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench.h"
#include "raw.h"

/* A packet of a large message: libipc's record header, and the fragment. */
#define RECORD_HEADER 8U

/*
 * Find out what size of packets libipc cuts a message into: send one to where nobody
 * receives, and see what lies in the socket.
 */
static int
find_fragment_size(struct bench_config *config)
{
	struct ipc_channel_options options = bench_channel_options(config);
	struct ipc_message message = {.size = config->size};
	struct ipc_channel *sender, *receiver;
	ssize_t n, largest = 0;
	void *payload = calloc(1, config->size);
	int r;

	if (!payload)
		return -ENOMEM;
	message.data = payload;
	r = ipc_channel_pair(&sender, &receiver, &options);
	if (r < 0)
		goto out;

	r = ipc_channel_send(sender, &message, 0);
	while ((n = recv(ipc_channel_fd(receiver), NULL, 0, MSG_DONTWAIT | MSG_TRUNC)) > 0)
		largest = n > largest ? n : largest;
	if (largest > RECORD_HEADER) {
		config->fragment_size = (size_t)largest - RECORD_HEADER;
		r = 0;
	} else if (r == 0) {
		r = -EBADMSG;
	}

	ipc_channel_close(sender);
	ipc_channel_close(receiver);
out:
	free(payload);
	return r;
}

static void
send_raw(struct bench_side *side)
{
	size_t size = side->config->size, fragment = side->config->fragment_size;
	const uint8_t *payload = bench_side_payload(side, size);

	do {
		for (size_t at = 0, n; at < size; at += n) {
			n = size - at < fragment ? size - at : fragment;
			bench_raw_send(side, payload + at, n);
		}
		side->account->messages++;
	} while (bench_side_goes_on(side, side->account->messages));
	bench_raw_finish(side);
}

static void
receive_raw(struct bench_side *side)
{
	size_t size = side->config->size, at = 0, n;
	uint8_t *buffer = bench_side_payload(side, size);

	while ((n = bench_raw_recv(side, buffer + at, size - at)) > 0) {
		at += n;
		if (at < size)
			continue;
		side->account->sum += bench_sum_pages(buffer, size);
		side->account->messages++;
		at = 0;
	}
}

static void
send_channel(struct bench_side *side)
{
	struct ipc_message message = {
		.data = bench_side_payload(side, side->config->size),
		.size = side->config->size,
	};

	do {
		int r = ipc_channel_send(side->channel, &message, -1);

		if (r < 0)
			bench_side_fail(side, "ipc_channel_send", r);
		side->account->messages++;
	} while (bench_side_goes_on(side, side->account->messages));
	bench_side_finish_channels(side);
}

static void
receive_channel(struct bench_side *side)
{
	struct ipc_message message;
	int r;

	while ((r = ipc_channel_recv(side->channel, &message, -1)) == 0) {
		side->account->sum += bench_sum_pages(message.data, message.size);
		side->account->messages++;
	}
	if (r != -EPIPE)
		bench_side_fail(side, "ipc_channel_recv", r);
	bench_side_finish_channels(side);
}

const struct bench_case bench_bulk = {
	.name = "bulk",
	.summary = "large messages one way",
	.teaches = "Large messages one way, each page read; raw sends packets of the size of "
		   "libipc's fragments.",
	.unit = "message",
	.is_bulk = true,
	.size_min = 16 << 10,
	.size_max = 1 << 30,
	.sizes = {64 << 10, 1 << 20, 16 << 20},
	.waits = {BENCH_LEARN},
	.n_waits = 1,
	.raw_beside_learn = BENCH_SLEEP,
	.prepare = find_fragment_size,
	.sides =
		{
			[BENCH_RAW] = {send_raw, receive_raw},
			[BENCH_CHANNEL] = {send_channel, receive_channel},
		},
};
