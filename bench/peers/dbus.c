/* SPDX-License-Identifier: MIT */

/*
 * D-Bus without a daemon: sd-bus at both ends of a stream socket, one of them its server
 * (sd_bus_set_server(3), sd_bus_set_fd(3)). A message is a call of a method with an array of
 * bytes; one way it expects no answer.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include "peer.h"

/* What sd-bus keeps for later, when the socket is full, before the sender waits. */
#define QUEUE 64U

struct end {
	struct bench_side *side;
	sd_bus *bus;
	sd_bus_message *message; /* the one given out last */
	size_t size;
};

static int
prepare(struct bench_meeting *meeting, const struct bench_config *config)
{
	int fds[BENCH_ROLES];

	(void)config;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	for (int role = 0; role < BENCH_ROLES; role++)
		meeting->fds[role][BENCH_IN] = meeting->fds[role][BENCH_OUT] = fds[role];
	return 0;
}

static void
check(struct bench_side *side, const char *what, int r)
{
	if (r < 0)
		bench_side_fail(side, what, r);
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	struct end *end = calloc(1, sizeof(*end));
	int fd = meeting->fds[side->role][BENCH_IN];
	sd_id128_t id;

	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->size = side->config->size;
	check(side, "sd_bus_new", sd_bus_new(&end->bus));
	check(side, "sd_bus_set_fd", sd_bus_set_fd(end->bus, fd, fd));
	if (side->role == BENCH_RECEIVER) {
		check(side, "sd_id128_randomize", sd_id128_randomize(&id));
		check(side, "sd_bus_set_server", sd_bus_set_server(end->bus, 1, id));
	}
	check(side, "sd_bus_start", sd_bus_start(end->bus));
	return end;
}

static sd_bus_message *
new_call(struct end *end, const void *data)
{
	sd_bus_message *message;

	check(end->side, "sd_bus_message_new_method_call",
		sd_bus_message_new_method_call(
			end->bus, &message, NULL, "/bench", "org.example.Bench", "Take"));
	check(end->side, "sd_bus_message_append_array",
		sd_bus_message_append_array(message, 'y', data, end->size));
	return message;
}

static const void *
payload(struct end *end, sd_bus_message *message)
{
	const void *data;
	size_t size;

	sd_bus_message_unref(end->message);
	end->message = message;
	check(end->side, "sd_bus_message_read_array",
		sd_bus_message_read_array(message, 'y', &data, &size));
	if (size != end->size)
		bench_side_fail(end->side, "sd_bus_message_read_array", -EBADMSG);
	return data;
}

static void
flush(void *to)
{
	struct end *end = to;

	check(end->side, "sd_bus_flush", sd_bus_flush(end->bus));
}

/* From the sender a call that nobody answers; from the receiver the answer to the last one. */
static void
send_message(void *to, const void *data)
{
	struct end *end = to;
	sd_bus_message *message;
	uint64_t queued;

	if (end->side->role == BENCH_SENDER) {
		message = new_call(end, data);
		check(end->side, "sd_bus_message_set_expect_reply",
			sd_bus_message_set_expect_reply(message, 0));
	} else {
		check(end->side, "sd_bus_message_new_method_return",
			sd_bus_message_new_method_return(end->message, &message));
		check(end->side, "sd_bus_message_append_array",
			sd_bus_message_append_array(message, 'y', data, end->size));
	}
	check(end->side, "sd_bus_send", sd_bus_send(end->bus, message, NULL));
	sd_bus_message_unref(message);
	if (sd_bus_get_n_queued_write(end->bus, &queued) >= 0 && queued > QUEUE)
		flush(end);
}

static const void *
call(void *to, const void *data)
{
	struct end *end = to;
	sd_bus_message *request = new_call(end, data), *reply;

	check(end->side, "sd_bus_call", sd_bus_call(end->bus, request, 0, NULL, &reply));
	sd_bus_message_unref(request);
	return payload(end, reply);
}

static const void *
receive_message(void *from)
{
	struct end *end = from;
	sd_bus_message *message;
	int r;

	for (;;) {
		r = sd_bus_process(end->bus, &message);
		check(end->side, "sd_bus_process", r);
		if (r > 0 && message)
			return payload(end, message);
		if (r == 0)
			check(end->side, "sd_bus_wait", sd_bus_wait(end->bus, UINT64_MAX));
	}
}

const struct bench_peer bench_peers[] = {
	{
		.name = "sd-bus",
		.about = "D-Bus without a daemon, by sd-bus " PEER_VERSION
			 "; a call with an array of bytes",
		.waits = BENCH_WAITS_SLEEPING,
		.prepare = prepare,
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
		.call = call,
		.flush = flush,
	},
	{0},
};
