/* SPDX-License-Identifier: MIT */

/*
 * A parent opens what its worker may not: the worker is confined to what it is given, asks
 * for a file itself in vain, and reads it through the descriptor that its parent passes.
 *
 *   pass_fd [FILE]
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc.h>

#include "confine.h"

/* What a request wants. */
enum { OPEN_IT_YOURSELF = 1, READ_THIS = 2 };

struct answer {
	int error; /* 0, or an errno */
	size_t size;
	char start[256]; /* of the file */
};

static int
fail(const char *what, int result)
{
	fprintf(stderr, "pass_fd: %s: %s\n", what, strerror(-result));
	return 1;
}

static void
read_start(int fd, struct answer *answer)
{
	ssize_t n = fd < 0 ? -1 : read(fd, answer->start, sizeof(answer->start));

	answer->error = n < 0 ? errno : 0;
	answer->size = n < 0 ? 0 : (size_t)n;
}

/* Returns the worker's exit status. */
static int
work(struct ipc_channel *channel)
{
	struct ipc_message request;
	char path[4096];
	int r, fd;

	r = confine();
	if (r < 0)
		return fail("seccomp", r);

	while ((r = ipc_channel_recv(channel, &request, -1)) == 0) {
		struct answer answer = {0};
		struct ipc_message reply = {.data = &answer, .size = sizeof(answer)};

		if (request.type == READ_THIS && request.n_fds == 1) {
			/* The descriptor stays the channel's, which closes it with the next
			 * receive. */
			read_start(request.fds[0], &answer);
		} else {
			snprintf(path, sizeof(path), "%.*s", (int)request.size,
				(const char *)request.data);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			read_start(fd, &answer);
			if (fd >= 0)
				close(fd);
		}
		r = ipc_channel_reply(channel, &request, &reply, -1);
		if (r < 0)
			break;
	}
	ipc_channel_close(channel);
	return r == -EPIPE ? 0 : fail("worker", r);
}

/* The view that a reply is ends with the next call: copy it. */
static int
call(struct ipc_channel *channel, const struct ipc_message *request, struct answer *ret_answer)
{
	struct ipc_message reply;
	int r = ipc_channel_call(channel, request, &reply, -1);

	if (r < 0)
		return r;
	if (reply.size != sizeof(*ret_answer))
		return -EPROTO;
	memcpy(ret_answer, reply.data, sizeof(*ret_answer));
	return 0;
}

static int
show(struct ipc_channel *channel, const char *path)
{
	struct ipc_message request = {.data = path, .size = strlen(path), .type = OPEN_IT_YOURSELF};
	struct answer answer;
	const char *end;
	int fd, r;

	r = call(channel, &request, &answer);
	if (r < 0)
		return fail("call", r);
	printf("the worker opens %s: %s\n", path,
		answer.error ? strerror(answer.error) : "it can, and should not");
	if (!answer.error)
		return 1;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(path, -errno);
	request = (struct ipc_message){.type = READ_THIS, .n_fds = 1, .fds = &fd};
	r = call(channel, &request, &answer);
	close(fd);
	if (r < 0)
		return fail("call", r);
	if (answer.error)
		return fail(path, -answer.error);

	end = memchr(answer.start, '\n', answer.size);
	printf("the worker reads the descriptor that it is given: %.*s\n",
		end ? (int)(end - answer.start) : (int)answer.size, answer.start);
	return 0;
}

int
main(int argc, char **argv)
{
	/* Descriptors are off until asked for. */
	struct ipc_channel_options options = {.size = sizeof(options), .fds_max = 1};
	struct ipc_channel *mine, *its;
	int r, status = 1;
	pid_t pid;

	if (argc > 2) {
		fprintf(stderr, "usage: pass_fd [FILE]\n");
		return 2;
	}
	r = ipc_channel_pair(&mine, &its, &options);
	if (r < 0)
		return fail("ipc_channel_pair", r);
	pid = fork();
	if (pid < 0)
		return fail("fork", -errno);
	if (pid == 0) {
		ipc_channel_close(mine);
		_exit(work(its));
	}
	ipc_channel_close(its);

	r = show(mine, argc == 2 ? argv[1] : "/etc/passwd");
	ipc_channel_close(mine);
	waitpid(pid, &status, 0);
	return r || status;
}
