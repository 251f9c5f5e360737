/* SPDX-License-Identifier: MIT */

/*
 * Boost.Interprocess's message_queue, one each way, in shared memory with mutexes and conditions
 * between processes. Who waits sleeps (send, receive) or tries again and again (try_send,
 * try_receive): "Message Queue" in its manual. The queues are boost_queue.cpp's.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "boost_queue.h"
#include "peer.h"

/* Messages that a queue holds; there is no usual number. */
#define QUEUE 128U

struct end {
	struct bench_side *side;
	struct bench_boost_queue *in, *out;
	size_t size;
	void *buffer;
};

/* Mapped before the processes begin, and inherited. */
static struct bench_boost_queue *queues[BENCH_DIRECTIONS];

static int
prepare(struct bench_meeting *meeting, const struct bench_config *config)
{
	(void)meeting;
	for (int i = 0; i < BENCH_DIRECTIONS; i++) {
		char name[48];

		snprintf(name, sizeof(name), "ipc-bench-%ld-%d", (long)getpid(), i);
		queues[i] = bench_boost_queue_new(
			name, bench_queue_length(config, QUEUE), config->size);
		if (!queues[i])
			return -ENOMEM;
	}
	return 0;
}

static void
clean(struct bench_meeting *meeting)
{
	(void)meeting;
	for (int i = 0; i < BENCH_DIRECTIONS; i++)
		queues[i] = bench_boost_queue_free(queues[i]);
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	struct end *end = calloc(1, sizeof(*end));
	bool is_sender = side->role == BENCH_SENDER;

	(void)meeting;
	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->in = queues[is_sender ? BENCH_IN : BENCH_OUT];
	end->out = queues[is_sender ? BENCH_OUT : BENCH_IN];
	end->size = side->config->size;
	end->buffer = bench_side_payload(side, end->size);
	return end;
}

static void
send_message(void *to, const void *data)
{
	struct end *end = to;

	if (!bench_boost_queue_send(end->out, data, end->size, end->side->spins))
		bench_side_fail(end->side, "message_queue::send", -EIO);
}

static const void *
receive_message(void *from)
{
	struct end *end = from;

	if (!bench_boost_queue_receive(end->in, end->buffer, end->size, end->side->spins))
		bench_side_fail(end->side, "message_queue::receive", -EIO);
	return end->buffer;
}

const struct bench_peer bench_peers[] = {
	{
		.name = "boost-mq",
		.about = "Boost.Interprocess " BENCH_BOOST_VERSION ", a message_queue each way",
		.waits = BENCH_WAITS_SPINNING | BENCH_WAITS_SLEEPING,
		.prepare = prepare,
		.clean = clean,
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
	},
	{0},
};
