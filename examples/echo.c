/* SPDX-License-Identifier: MIT */

/*
 * The smallest whole program: a parent, a worker that sends back what it gets, a few calls.
 *
 *   echo [TEXT...]
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc.h>

static int
fail(const char *what, int result)
{
	fprintf(stderr, "echo: %s: %s\n", what, strerror(-result));
	return 1;
}

/* Returns the worker's exit status. */
static int
work(struct ipc_channel *channel)
{
	struct ipc_message request;
	int r;

	while ((r = ipc_channel_recv(channel, &request, -1)) == 0) {
		r = ipc_channel_reply(channel, &request, &request, -1);
		if (r < 0)
			break;
	}
	ipc_channel_close(channel);
	/* The parent has closed its end: all is done. */
	return r == -EPIPE ? 0 : fail("worker", r);
}

static int
call(struct ipc_channel *channel, const char *text)
{
	struct ipc_message request = {.data = text, .size = strlen(text)}, reply;
	int r = ipc_channel_call(channel, &request, &reply, -1);

	if (r < 0)
		return fail("call", r);
	printf("%.*s\n", (int)reply.size, (const char *)reply.data);
	return reply.size != request.size || memcmp(reply.data, text, reply.size) != 0;
}

int
main(int argc, char **argv)
{
	struct ipc_channel *mine, *its;
	int i, r, status = 1;
	pid_t pid;

	r = ipc_channel_pair(&mine, &its, NULL);
	if (r < 0)
		return fail("ipc_channel_pair", r);

	pid = fork();
	if (pid < 0) {
		perror("echo: fork");
		return 1;
	}
	/* Each closes the end that is not its own: else neither would see the other close. */
	if (pid == 0) {
		ipc_channel_close(mine);
		_exit(work(its));
	}
	ipc_channel_close(its);

	r = argc > 1 ? 0 : call(mine, "hello");
	for (i = 1; i < argc && r == 0; i++)
		r = call(mine, argv[i]);

	ipc_channel_close(mine);
	waitpid(pid, &status, 0);
	return r || status;
}
