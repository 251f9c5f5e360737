/* SPDX-License-Identifier: MIT */

/*
 * ZeroMQ over ipc://, PAIR and REQ/REP (zmq_ipc(7), zmq_socket(3)). It has a thread of its own
 * that moves the messages, on the CPU of its process. Large ones are sent without a copy, as the
 * guide advises for them (zguide, "Zero-Copy"): zmq_send_const(3). The high-water marks of 1000
 * messages are kept, unless that is too much memory.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#include "peer.h"

/* From here on a copy costs more than what it saves. */
#define CONST_MIN ((size_t)32 << 10)
#define HWM       1000U

struct end {
	struct bench_side *side;
	void *socket;
	size_t size;
	zmq_msg_t message;
};

static void
set(struct bench_side *side, void *socket, int option, int value)
{
	if (zmq_setsockopt(socket, option, &value, sizeof(value)) < 0)
		bench_side_fail(side, "zmq_setsockopt", -errno);
}

static struct end *
open_end(struct bench_side *side, const struct bench_meeting *meeting, int type)
{
	bool is_sender = side->role == BENCH_SENDER;
	struct end *end = calloc(1, sizeof(*end));
	void *context = zmq_ctx_new();
	int hwm = (int)bench_queue_length(side->config, HWM);
	char url[BENCH_PATH_SIZE];

	snprintf(url, sizeof(url), "ipc://%s/zeromq", meeting->directory);
	if (!end || !context)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->size = side->config->size;
	end->socket = zmq_socket(context, type);
	if (!end->socket)
		bench_side_fail(side, "zmq_socket", -errno);
	set(side, end->socket, ZMQ_SNDHWM, hwm);
	set(side, end->socket, ZMQ_RCVHWM, hwm);
	zmq_msg_init(&end->message);
	if (is_sender ? zmq_connect(end->socket, url) : zmq_bind(end->socket, url))
		bench_side_fail(side, is_sender ? "zmq_connect" : "zmq_bind", -errno);
	return end;
}

static void *
open_pair(struct bench_side *side, const struct bench_meeting *meeting)
{
	return open_end(side, meeting, ZMQ_PAIR);
}

static void *
open_req(struct bench_side *side, const struct bench_meeting *meeting)
{
	return open_end(side, meeting, side->role == BENCH_SENDER ? ZMQ_REQ : ZMQ_REP);
}

static void
send_message(void *to, const void *data)
{
	struct end *end = to;
	/* An answer is memory of the message that is received next. */
	bool is_const = end->size >= CONST_MIN && end->side->role == BENCH_SENDER;
	int r;

	do
		r = is_const ? zmq_send_const(end->socket, data, end->size, 0)
		             : zmq_send(end->socket, data, end->size, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		bench_side_fail(end->side, "zmq_send", -errno);
}

static const void *
receive_message(void *from)
{
	struct end *end = from;
	int r;

	do
		r = zmq_msg_recv(&end->message, end->socket, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		bench_side_fail(end->side, "zmq_msg_recv", -errno);
	return zmq_msg_data(&end->message);
}

#define VERSION BENCH_VERSION(ZMQ_VERSION_MAJOR, ZMQ_VERSION_MINOR, ZMQ_VERSION_PATCH)

const struct bench_peer bench_peers[] = {
	{
		.name = "zmq-pair",
		.about = "ZeroMQ " VERSION
			 ", PAIR over ipc://; a thread of its own moves the messages",
		.waits = BENCH_WAITS_SLEEPING,
		.open = open_pair,
		.send = send_message,
		.receive = receive_message,
	},
	{
		.name = "zmq-req",
		.about = "ZeroMQ " VERSION ", REQ and REP over ipc://, likewise",
		.waits = BENCH_WAITS_SLEEPING,
		.only_answers = true,
		.open = open_req,
		.send = send_message,
		.receive = receive_message,
	},
	{0},
};
