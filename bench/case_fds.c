/* SPDX-License-Identifier: MIT */

/*
 * fds: messages one way, each with one descriptor, which the receiver takes and closes.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "raw.h"

/* Messages between two looks at the clock. */
#define BURST 32U

static int
open_something(struct bench_side *side)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		bench_side_fail(side, "/dev/null", -errno);
	return fd;
}

static void
send_raw(struct bench_side *side)
{
	size_t size = side->config->size;
	const void *payload = bench_side_payload(side, size);
	int fd = open_something(side);

	do {
		for (unsigned int i = 0; i < BURST; i++)
			bench_raw_send_fd(side, payload, size, fd);
		side->account->messages += BURST;
	} while (bench_side_goes_on(side, side->account->messages));
	bench_raw_finish(side);
}

static void
receive_raw(struct bench_side *side)
{
	size_t size = side->config->size;
	void *buffer = bench_side_payload(side, size);
	int fd = -1;

	while (bench_raw_recv_fd(side, buffer, size, &fd) > 0) {
		side->account->sum += bench_first_word(buffer);
		side->account->messages++;
		close(fd);
	}
}

static void
send_channel(struct bench_side *side)
{
	int fd = open_something(side);
	struct ipc_message message = {
		.data = bench_side_payload(side, side->config->size),
		.size = side->config->size,
		.fds = &fd,
		.n_fds = 1,
	};

	bench_side_post(side, &message, BURST);
}

static void
receive_channel(struct bench_side *side)
{
	struct ipc_message message;
	int r;

	while ((r = ipc_channel_recv(side->channel, &message, -1)) == 0) {
		int fd = ipc_message_take_fd(&message, 0);

		if (fd < 0)
			bench_side_fail(side, "ipc_message_take_fd", fd);
		side->account->sum += bench_first_word(message.data);
		side->account->messages++;
		close(fd);
	}
	if (r != -EPIPE)
		bench_side_fail(side, "ipc_channel_recv", r);
	bench_side_finish_channels(side);
}

const struct bench_case bench_fds = {
	.name = "fds",
	.summary = "messages with one descriptor each, one way",
	.teaches = "Messages one way, each with one descriptor; the receiver takes each and "
		   "closes it.",
	.unit = "descriptor",
	.fds_max = 1,
	.size_min = 8,
	.size_max = 128 << 10,
	.sizes = {64},
	.waits = {BENCH_LEARN},
	.n_waits = 1,
	.raw_beside_learn = BENCH_SLEEP,
	.sides =
		{
			[BENCH_RAW] = {send_raw, receive_raw},
			[BENCH_CHANNEL] = {send_channel, receive_channel},
		},
};
