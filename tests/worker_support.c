/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker_support.h"

void
expect_no_children(void)
{
	check_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	check_equal(errno, ECHILD);
}

int
worker_test_begin(void **state)
{
	return test_begin(state);
}

int
worker_test_end(void **state)
{
	bool none = waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD;
	/* In any case: what is left would fail the tests that follow. */
	int r = test_end(state);

	if (!none)
		(void)fprintf(stderr, "left behind: children\n");
	return none ? r : -1;
}

void
play_role(int argc, char **argv, const struct role *roles, size_t n)
{
	size_t i;

	if (argc < 2)
		return;
	alarm(TEST_SECONDS_MAX);
	for (i = 0; i < n; i++)
		if (strcmp(argv[1], roles[i].name) == 0)
			exit(roles[i].play(argv + 2));
	(void)fprintf(stderr, "there is no role %s\n", argv[1]);
	exit(1);
}

static bool
is_under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

const char *
role_program(void)
{
	static char path[4096];

	/* It is valgrind's program that is there, but a link to ours that it shows us. */
	if (!is_under_valgrind())
		return "/proc/self/exe";
	check(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
	return path;
}

void
skip_without_pidfds(void)
{
	long fd;

	if (!is_under_valgrind())
		return;
	fd = syscall(SYS_pidfd_open, getpid(), 0);
	if (fd >= 0) {
		(void)close((int)fd);
		return;
	}
	test_lacks("pidfds, which valgrind does not know");
	skip();
}

struct ipc_worker *
spawn(const struct ipc_worker_options *options)
{
	struct ipc_worker *worker;

	check_equal(ipc_worker_spawn(&worker, options), 0);
	return worker;
}

static int
status_of(struct ipc_worker *worker)
{
	struct ipc_worker_end end = {.size = sizeof(end)};

	check_equal(ipc_worker_wait(worker, TEST_WAIT_MS, &end), 0);
	return end.status;
}

void
expect_exit(struct ipc_worker *worker, int status)
{
	int ended = status_of(worker);

	check(WIFEXITED(ended));
	check_equal(WEXITSTATUS(ended), status);
}

void
expect_killed(struct ipc_worker *worker, int signal)
{
	int ended = status_of(worker);

	check(WIFSIGNALED(ended));
	check_equal(WTERMSIG(ended), signal);
}

struct ipc_channel *
inherited(void)
{
	struct ipc_channel *channel;

	check_equal(ipc_channel_inherit(&channel, NULL), 0);
	return channel;
}

int
echo(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	int r;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	while ((r = ipc_channel_recv(channel, &message, -1)) == 0)
		check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
	check_equal(r, -EPIPE);
	return 0;
}

void
expect_echo(struct ipc_worker *worker)
{
	send_text(ipc_worker_channel(worker), "out and back");
	expect_text(ipc_worker_channel(worker), "out and back");
}
