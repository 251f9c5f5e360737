/* SPDX-License-Identifier: MIT */

/*
 * nng over ipc://, PAIR version 0, by messages that are handed over and not copied: nng_msg(5)
 * recommends that for speed. Threads of its own move them, on the CPU of their process. By default
 * it has next to no queue; its own measure of throughput (perf/perf.c) has one of 128 messages.
 */

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <stdio.h>
#include <stdlib.h>

#include "peer.h"

#define QUEUE 128U

struct end {
	struct bench_side *side;
	nng_socket socket;
	nng_msg *message;
};

/* Its errors have numbers of their own. */
static void
check(struct bench_side *side, int error)
{
	if (error)
		bench_side_fail(side, nng_strerror(error), -EIO);
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	int queue = (int)bench_queue_length(side->config, QUEUE);
	struct end *end = calloc(1, sizeof(*end));
	char url[BENCH_PATH_SIZE];

	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	snprintf(url, sizeof(url), "ipc://%s/nng", meeting->directory);
	check(side, nng_pair0_open(&end->socket));
	check(side, nng_socket_set_int(end->socket, NNG_OPT_SENDBUF, queue));
	check(side, nng_socket_set_int(end->socket, NNG_OPT_RECVBUF, queue));
	/* No limit. */
	check(side, nng_socket_set_size(end->socket, NNG_OPT_RECVMAXSZ, 0));
	if (side->role == BENCH_SENDER)
		check(side, nng_dial(end->socket, url, NULL, 0));
	else
		check(side, nng_listen(end->socket, url, NULL, 0));
	return end;
}

static void
send_message(void *to, const void *data)
{
	struct end *end = to;
	nng_msg *message;

	check(end->side, nng_msg_alloc(&message, 0));
	check(end->side, nng_msg_append(message, data, end->side->config->size));
	check(end->side, nng_sendmsg(end->socket, message, 0));
}

static const void *
receive_message(void *from)
{
	struct end *end = from;

	if (end->message)
		nng_msg_free(end->message);
	check(end->side, nng_recvmsg(end->socket, &end->message, 0));
	return nng_msg_body(end->message);
}

#define VERSION BENCH_VERSION(NNG_MAJOR_VERSION, NNG_MINOR_VERSION, NNG_PATCH_VERSION)

const struct bench_peer bench_peers[] = {
	{
		.name = "nng",
		.about = "nng " VERSION ", PAIR over ipc://; threads of its own move the messages",
		.waits = BENCH_WAITS_SLEEPING,
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
	},
	{0},
};
