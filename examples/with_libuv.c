/* SPDX-License-Identifier: MIT */

/*
 * libipc inside libuv's loop: libuv opens files, three workers count the lines of what they are
 * given.
 *
 * A uv_poll_t on the loop's descriptor is all that libuv knows of libipc.
 *
 *   with_libuv FILE...
 */

#include <inttypes.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <libipc.h>

#include "workers.h"

#define WORKERS       3
#define FILES_AT_ONCE 16 /* being opened or counted: so many descriptors are never too many */

struct application {
	uv_loop_t uv;
	uv_poll_t poll;
	struct ipc_loop *loop;
	struct worker workers[WORKERS];
	char **files;
	unsigned int n_files;
	unsigned int next; /* the first file that is not yet being opened */
	unsigned int done;
	bool failed;
};

/* An answer; its id is that of the request, the file's place in the list from 1 on. */
struct count {
	uint64_t lines;
	int error; /* 0, or an errno */
};

static int
fail(const char *what, int result)
{
	fprintf(stderr, "with_libuv: %s: %s\n", what, strerror(-result));
	return 1;
}

/* The worker. */

static struct count
count_lines(int fd)
{
	struct count count = {0};
	char buffer[65536];
	ssize_t n, i;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		for (i = 0; i < n; i++)
			count.lines += buffer[i] == '\n';
	if (n < 0)
		count.error = errno;
	return count;
}

static int
serve(struct ipc_channel *channel)
{
	struct ipc_message request;
	int r;

	while ((r = ipc_channel_recv(channel, &request, -1)) == 0) {
		struct count count = {.error = EBADF};

		/* The descriptor stays the channel's, which closes it with the next receive. */
		if (request.n_fds == 1)
			count = count_lines(request.fds[0]);
		r = ipc_channel_reply(channel, &request,
			&(struct ipc_message){.data = &count, .size = sizeof(count)}, -1);
		if (r < 0)
			break;
	}
	ipc_channel_close(channel);
	return r == -EPIPE ? 0 : fail("worker", r);
}

/* The parent. */

static bool
has_ended(const struct application *application)
{
	return uv_is_closing((const uv_handle_t *)&application->poll);
}

/* Without its poll handle libuv waits for no more than the files that it is opening. */
static void
end(struct application *application)
{
	if (!has_ended(application))
		uv_close((uv_handle_t *)&application->poll, NULL);
}

static void
give_up(struct application *application, const char *what, int result)
{
	if (!has_ended(application))
		fail(what, result);
	application->failed = true;
	end(application);
}

static void open_next(struct application *application);

static void
done(struct application *application, const char *file, int result)
{
	if (result < 0) {
		fail(file, result);
		application->failed = true;
	}
	application->done++;
	if (application->done == application->n_files)
		end(application);
	else
		open_next(application);
}

static void
opened(uv_fs_t *request)
{
	struct application *application = request->loop->data;
	char **file = request->data;
	size_t index = (size_t)(file - application->files);
	int fd = (int)request->result, r;
	struct ipc_message message = {.n_fds = 1, .fds = &fd, .id = index + 1};

	uv_fs_req_cleanup(request);
	free(request);
	if (fd < 0) {
		done(application, *file, fd);
		return;
	}
	/* Duplicated, and gathered. The loop's descriptor is readable now: it has work. */
	r = ipc_channel_send(application->workers[index % WORKERS].channel, &message, 0);
	close(fd);
	if (r < 0)
		give_up(application, *file, r);
}

static void
open_next(struct application *application)
{
	uv_fs_t *request;
	char **file = &application->files[application->next];
	int r = UV_ENOMEM;

	if (has_ended(application) || application->next == application->n_files)
		return;
	application->next++;
	request = calloc(1, sizeof(*request));
	if (request) {
		request->data = file;
		r = uv_fs_open(&application->uv, request, *file, O_RDONLY | O_CLOEXEC, 0, opened);
	}
	if (r < 0) {
		free(request);
		give_up(application, *file, r);
	}
}

static void
counted(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct application *application = user;
	struct count count;

	(void)channel;
	if (message->size != sizeof(count) || message->id < 1 ||
		message->id > application->n_files) {
		give_up(application, "an answer", -EPROTO);
		return;
	}
	memcpy(&count, message->data, sizeof(count));
	if (!count.error)
		printf("%" PRIu64 " %s\n", count.lines, application->files[message->id - 1]);
	done(application, application->files[message->id - 1], -count.error);
}

static void
died(struct ipc_channel *channel, int reason, void *user)
{
	(void)channel;
	give_up(user, "a worker has ended", reason ? reason : -EPIPE);
}

/* libuv's turn has come to the loop's. */
static void
turn(uv_poll_t *poll, int status, int events)
{
	struct application *application = poll->data;
	int r = status < 0 ? status : ipc_loop_turn(application->loop, 0);

	(void)events;
	if (r < 0)
		give_up(application, "a turn", r);
}

static int
run(struct application *application)
{
	static const struct ipc_channel_handler handler = {.message = counted, .closed = died};
	unsigned int i;
	int r = 0;

	for (i = 0; i < WORKERS && r == 0; i++)
		r = ipc_loop_attach(
			application->loop, application->workers[i].channel, &handler, application);
	if (r < 0)
		return r;
	r = ipc_loop_fd(application->loop);
	if (r >= 0)
		r = uv_poll_init(&application->uv, &application->poll, r);
	if (r < 0)
		return r;
	application->poll.data = application;
	r = uv_poll_start(&application->poll, UV_READABLE, turn);
	for (i = 0; i < FILES_AT_ONCE && r == 0; i++)
		open_next(application);
	if (r < 0)
		end(application);
	uv_run(&application->uv, UV_RUN_DEFAULT);
	return r;
}

int
main(int argc, char **argv)
{
	static struct application application;
	/* Descriptors are off until asked for. */
	struct ipc_channel_options options = {.size = sizeof(options), .fds_max = 1};
	int r;

	if (argc < 2) {
		fprintf(stderr, "usage: with_libuv FILE...\n");
		return 2;
	}
	application.files = argv + 1;
	application.n_files = (unsigned int)argc - 1;

	/* libuv's threads begin with the first file: workers are forked before. */
	r = start_workers(application.workers, WORKERS, &options, serve);
	if (r < 0)
		return fail("start_workers", r);
	r = uv_loop_init(&application.uv);
	if (r == 0) {
		application.uv.data = &application;
		r = ipc_loop_create(&application.loop, NULL);
		if (r == 0)
			r = run(&application);
		ipc_loop_destroy(application.loop);
		uv_loop_close(&application.uv);
	}
	if (r < 0)
		fail("the loop", r);
	return !end_workers(application.workers, WORKERS) || r < 0 || application.failed;
}
