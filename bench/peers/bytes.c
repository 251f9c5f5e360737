/* SPDX-License-Identifier: MIT */

/*
 * Bytes without boundaries: two pipes, or a pair of stream sockets. A message is a write; who
 * reads takes all there is and cuts it, which needs no lengths only because all messages have one
 * size. pipe(7) and unix(7); buffers are of the system's size.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

/* What a pipe holds, and all that one read gives. */
#define READ_SIZE ((size_t)64 << 10)

struct end {
	struct bench_side *side;
	int in, out;
	size_t size;
	uint8_t *buffer;
	size_t capacity, start, length;
};

static int
prepare_pipes(struct bench_meeting *meeting, const struct bench_config *config)
{
	int there[2], back[2];

	(void)config;
	if (pipe2(there, O_CLOEXEC) < 0 || pipe2(back, O_CLOEXEC) < 0)
		return -errno;
	meeting->fds[BENCH_SENDER][BENCH_OUT] = there[1];
	meeting->fds[BENCH_RECEIVER][BENCH_IN] = there[0];
	meeting->fds[BENCH_RECEIVER][BENCH_OUT] = back[1];
	meeting->fds[BENCH_SENDER][BENCH_IN] = back[0];
	return 0;
}

static int
prepare_sockets(struct bench_meeting *meeting, const struct bench_config *config)
{
	int fds[BENCH_ROLES];

	(void)config;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	for (int role = 0; role < BENCH_ROLES; role++)
		meeting->fds[role][BENCH_IN] = meeting->fds[role][BENCH_OUT] = fds[role];
	return 0;
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	struct end *end = calloc(1, sizeof(*end));

	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->in = meeting->fds[side->role][BENCH_IN];
	end->out = meeting->fds[side->role][BENCH_OUT];
	end->size = side->config->size;
	end->capacity = end->size > READ_SIZE ? end->size : READ_SIZE;
	end->buffer = bench_side_payload(side, end->capacity);
	if (side->spins && (fcntl(end->in, F_SETFL, O_NONBLOCK) < 0 ||
				   fcntl(end->out, F_SETFL, O_NONBLOCK) < 0))
		bench_side_fail(side, "fcntl", -errno);
	return end;
}

static void
send_bytes(void *to, const void *data)
{
	struct end *end = to;

	for (size_t at = 0; at < end->size;) {
		ssize_t n = write(end->out, (const uint8_t *)data + at, end->size - at);

		end->side->account->syscalls++;
		if (n >= 0)
			at += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			bench_side_fail(end->side, "write", -errno);
	}
}

static void
fill(struct end *end)
{
	ssize_t n;

	if (end->start) {
		memmove(end->buffer, end->buffer + end->start, end->length);
		end->start = 0;
	}
	n = read(end->in, end->buffer + end->length, end->capacity - end->length);
	end->side->account->syscalls++;
	if (n > 0)
		end->length += (size_t)n;
	else if (n == 0)
		bench_side_fail(end->side, "read", -EPIPE);
	else if (errno != EAGAIN && errno != EINTR)
		bench_side_fail(end->side, "read", -errno);
}

static const void *
receive_bytes(void *from)
{
	struct end *end = from;
	const uint8_t *message;

	while (end->length < end->size)
		fill(end);
	message = end->buffer + end->start;
	end->start += end->size;
	end->length -= end->size;
	return message;
}

const struct bench_peer bench_peers[] = {
	{
		.name = "pipe",
		.about = "two pipes, a write for each message, many read at once",
		.waits = BENCH_WAITS_SPINNING | BENCH_WAITS_SLEEPING,
		.prepare = prepare_pipes,
		.open = open_end,
		.send = send_bytes,
		.receive = receive_bytes,
	},
	{
		.name = "socketpair",
		.about = "a pair of stream sockets, likewise",
		.waits = BENCH_WAITS_SPINNING | BENCH_WAITS_SLEEPING,
		.prepare = prepare_sockets,
		.open = open_end,
		.send = send_bytes,
		.receive = receive_bytes,
	},
	{0},
};
