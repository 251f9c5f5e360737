/* SPDX-License-Identifier: MIT */

/*
 * libipc inside an application's own poll(2): counts the lines and bytes of standard input with
 * three workers.
 *
 * The whole loop is one descriptor more to poll. While the next worker has all that it may have
 * outstanding, standard input is not read.
 *
 *   with_poll <FILE
 */

#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include <libipc.h>

#include "workers.h"

#define WORKERS    3
#define PIECE_SIZE (64U << 10)

struct counts {
	uint64_t lines, bytes;
};

struct application {
	struct ipc_loop *loop;
	struct worker workers[WORKERS];
	unsigned int next;        /* the worker whose turn it is */
	unsigned int outstanding; /* pieces that workers have */
	bool at_end;              /* of standard input */
	bool blocked;             /* the next worker has no room for the piece */
	size_t size;              /* of the piece that no worker has yet */
	unsigned char piece[PIECE_SIZE];
	struct counts total;
	bool failed;
};

static int
fail(const char *what, int result)
{
	fprintf(stderr, "with_poll: %s: %s\n", what, strerror(-result));
	return 1;
}

/* The worker. */

static int
serve(struct ipc_channel *channel)
{
	struct ipc_message request;
	int r;

	while ((r = ipc_channel_recv(channel, &request, -1)) == 0) {
		const unsigned char *bytes = request.data;
		struct counts counts = {.bytes = request.size};
		size_t i;

		for (i = 0; i < request.size; i++)
			counts.lines += bytes[i] == '\n';
		r = ipc_channel_reply(channel, &request,
			&(struct ipc_message){.data = &counts, .size = sizeof(counts)}, -1);
		if (r < 0)
			break;
	}
	ipc_channel_close(channel);
	return r == -EPIPE ? 0 : fail("worker", r);
}

/* The parent: what the loop calls. */

static void
counted(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct application *application = user;
	struct counts counts;

	(void)channel;
	if (message->size != sizeof(counts)) {
		fail("an answer", -EPROTO);
		application->failed = true;
		return;
	}
	memcpy(&counts, message->data, sizeof(counts));
	application->total.lines += counts.lines;
	application->total.bytes += counts.bytes;
	application->outstanding--;
}

/* It is the next worker's: nothing was offered to the others since they had room. */
static void
has_room(struct ipc_channel *channel, void *user)
{
	struct application *application = user;

	(void)channel;
	application->blocked = false;
}

static void
died(struct ipc_channel *channel, int reason, void *user)
{
	struct application *application = user;

	(void)channel;
	fail("a worker has ended", reason ? reason : -EPIPE);
	application->failed = true;
}

/* The parent: what it does itself. */

static void
give_piece(struct application *application)
{
	struct ipc_message request = {
		.data = application->piece, .size = application->size, .id = 1};
	struct ipc_channel *channel = application->workers[application->next].channel;
	int r = ipc_channel_send(channel, &request, 0);

	if (r == -EAGAIN) {
		application->blocked = true;
		return;
	}
	if (r < 0) {
		fail("send", r);
		application->failed = true;
		return;
	}
	application->size = 0;
	application->outstanding++;
	application->next = (application->next + 1) % WORKERS;
}

static void
read_piece(struct application *application)
{
	ssize_t n = read(STDIN_FILENO, application->piece, sizeof(application->piece));

	if (n > 0) {
		application->size = (size_t)n;
	} else if (n == 0) {
		application->at_end = true;
	} else if (errno != EINTR && errno != EAGAIN) {
		fail("standard input", -errno);
		application->failed = true;
	}
}

static int
run(struct application *application)
{
	struct pollfd polls[2] = {{.events = POLLIN}, {.events = POLLIN}};
	int r = ipc_loop_fd(application->loop);

	polls[1].fd = r;
	while (r >= 0 && !application->failed) {
		if (application->size && !application->blocked)
			give_piece(application);
		if (application->at_end && !application->size && !application->outstanding)
			return 0;

		/* poll() passes over a negative descriptor. */
		polls[0].fd = application->at_end || application->size ? -1 : STDIN_FILENO;
		if (poll(polls, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (polls[0].revents)
			read_piece(application);
		/* Readable too when something is to be sent: the turn does all of it. */
		if (polls[1].revents)
			r = ipc_loop_turn(application->loop, 0);
	}
	return r < 0 ? r : 0;
}

int
main(int argc, char **argv)
{
	static const struct ipc_channel_handler handler = {
		.message = counted, .writable = has_room, .closed = died};
	static struct application application;
	unsigned int i;
	int r;

	(void)argv;
	if (argc > 1) {
		fprintf(stderr, "usage: with_poll <FILE\n");
		return 2;
	}
	r = start_workers(application.workers, WORKERS, NULL, serve);
	if (r < 0)
		return fail("start_workers", r);

	r = ipc_loop_create(&application.loop, NULL);
	for (i = 0; i < WORKERS && r == 0; i++)
		r = ipc_loop_attach(
			application.loop, application.workers[i].channel, &handler, &application);
	if (r == 0)
		r = run(&application);
	if (r < 0)
		fail("the loop", r);
	ipc_loop_destroy(application.loop);
	if (!end_workers(application.workers, WORKERS) || r < 0 || application.failed)
		return 1;
	printf("%" PRIu64 " lines, %" PRIu64 " bytes\n", application.total.lines,
		application.total.bytes);
	return 0;
}
