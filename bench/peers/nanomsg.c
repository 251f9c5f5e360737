/* SPDX-License-Identifier: MIT */

/*
 * nanomsg over ipc://, PAIR (nn_ipc(7), nn_pair(7)), by messages that are handed over and not
 * copied, as nn_allocmsg(3) advises. A thread of its own moves them, on the CPU of its process.
 */

#include <errno.h>
#include <nanomsg/nn.h>
#include <nanomsg/pair.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

struct end {
	struct bench_side *side;
	int socket;
	size_t size;
	void *message;
};

static void
check(struct bench_side *side, const char *what, int r)
{
	if (r < 0)
		bench_side_fail(side, what, -nn_errno());
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	struct end *end = calloc(1, sizeof(*end));
	int no_limit = -1;
	char url[BENCH_PATH_SIZE];

	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->size = side->config->size;
	end->socket = nn_socket(AF_SP, NN_PAIR);
	check(side, "nn_socket", end->socket);
	check(side, "nn_setsockopt",
		nn_setsockopt(
			end->socket, NN_SOL_SOCKET, NN_RCVMAXSIZE, &no_limit, sizeof(no_limit)));
	snprintf(url, sizeof(url), "ipc://%s/nanomsg", meeting->directory);
	if (side->role == BENCH_SENDER)
		check(side, "nn_connect", nn_connect(end->socket, url));
	else
		check(side, "nn_bind", nn_bind(end->socket, url));
	return end;
}

static void
send_message(void *to, const void *data)
{
	struct end *end = to;
	void *message = nn_allocmsg(end->size, 0);

	if (!message)
		bench_side_fail(end->side, "nn_allocmsg", -nn_errno());
	memcpy(message, data, end->size);
	check(end->side, "nn_send", nn_send(end->socket, &message, NN_MSG, 0));
}

static const void *
receive_message(void *from)
{
	struct end *end = from;

	if (end->message)
		nn_freemsg(end->message);
	check(end->side, "nn_recv", nn_recv(end->socket, &end->message, NN_MSG, 0));
	return end->message;
}

const struct bench_peer bench_peers[] = {
	{
		.name = "nanomsg",
		.about = "nanomsg " PEER_VERSION
			 ", PAIR over ipc://; a thread of its own moves the messages",
		.waits = BENCH_WAITS_SLEEPING,
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
	},
	{0},
};
