/* SPDX-License-Identifier: MIT */

/*
 * spawn: start a worker, ask it, and have its first answer: the time of all that. Then it ends and
 * is reaped, untimed. The worker is this program again, whoever starts it; the message's size is
 * that of memory which the parent has touched, for that is what a fork copies the tables of.
 *
 * The run's other process has no part in it, and sleeps.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc/worker.h>

#include "bench.h"
#include "../libipc/histogram.h"
#include "raw.h"
#include "spawned.h"

extern char **environ;

/* How long a worker that is told to end may take. */
#define GRACE_MS 10000

static char name[] = "/proc/self/exe", raw[] = BENCH_SPAWNED_RAW, channel[] = BENCH_SPAWNED_CHANNEL;
static char *const raw_argv[] = {name, raw, NULL};
static char *const channel_argv[] = {name, channel, NULL};

/* The end that a raw worker has. */
#define RAW_END 3

int
bench_spawned_main(const char *how)
{
	struct ipc_channel *own;
	struct ipc_message message;
	char byte;

	if (strcmp(how, BENCH_SPAWNED_RAW) == 0) {
		while (recv(RAW_END, &byte, 1, 0) == 1)
			if (send(RAW_END, &byte, 1, MSG_NOSIGNAL) != 1)
				return EXIT_FAILURE;
		return EXIT_SUCCESS;
	}
	if (ipc_channel_inherit(&own, NULL) < 0)
		return EXIT_FAILURE;
	while (ipc_channel_recv(own, &message, -1) == 0)
		if (ipc_channel_send(own, &message, -1) < 0)
			return EXIT_FAILURE;
	ipc_channel_close(own);
	return EXIT_SUCCESS;
}

/* Memory that is resident. */
static void
touch(struct bench_side *side)
{
	size_t size = side->config->size;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		bench_side_fail(side, "memory", -errno);
	/* Pages of the usual size: of larger ones there would be few to copy. */
	(void)madvise(memory, size, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < size; at += BENCH_PAGE_SIZE)
		memory[at] = 1;
}

static bool
count(struct bench_side *side, uint64_t start_ns)
{
	uint64_t now = bench_now_ns();

	if (side->window->is_open)
		ipci_histogram_add(side->histogram, now - start_ns);
	side->account->sum += BENCH_WORD;
	return bench_side_goes_on_at(side, ++side->account->messages, now);
}

typedef pid_t start_fn(struct bench_side *side, int end);

static pid_t
start_by_spawn(struct bench_side *side, int end)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, end, RAW_END);
	r = posix_spawn(&pid, name, &actions, NULL, raw_argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r)
		bench_side_fail(side, "posix_spawn", -r);
	return pid;
}

static pid_t
start_by_fork(struct bench_side *side, int end)
{
	pid_t pid = fork();

	if (pid < 0)
		bench_side_fail(side, "fork", -errno);
	if (pid)
		return pid;
	if (end == RAW_END)
		(void)fcntl(end, F_SETFD, 0);
	else
		(void)dup2(end, RAW_END);
	execve(name, raw_argv, environ);
	_exit(EXIT_FAILURE);
}

/* One worker by hand. */
static bool
start_raw(struct bench_side *side, start_fn *start)
{
	uint64_t start_ns = bench_now_ns();
	char byte = 'x';
	int ends[2], status;
	bool goes_on;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		bench_side_fail(side, "socketpair", -errno);
	pid = start(side, ends[1]);
	close(ends[1]);
	if (send(ends[0], &byte, 1, MSG_NOSIGNAL) != 1 || recv(ends[0], &byte, 1, 0) != 1)
		bench_side_fail(side, "the worker", -EPIPE);
	goes_on = count(side, start_ns);
	close(ends[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			bench_side_fail(side, "waitpid", -errno);
	return goes_on;
}

static void
start_raws(struct bench_side *side, start_fn *start)
{
	touch(side);
	while (start_raw(side, start))
		;
	bench_raw_send(side, &side->account->messages, sizeof(uint64_t));
	bench_raw_finish(side);
}

static void
spawn_raw(struct bench_side *side)
{
	start_raws(side, start_by_spawn);
}

static void
fork_raw(struct bench_side *side)
{
	start_raws(side, start_by_fork);
}

static bool
start_worker(struct bench_side *side)
{
	const struct ipc_channel_options sleeping = {.size = sizeof(sleeping), .spin_us = -1};
	const struct ipc_worker_options options = {
		.size = sizeof(options), .argv = channel_argv, .channel = &sleeping};
	struct ipc_message message = {.data = "x", .size = 1};
	uint64_t start_ns = bench_now_ns();
	struct ipc_worker *worker;
	bool goes_on;
	int r;

	r = ipc_worker_spawn(&worker, &options);
	if (r < 0)
		bench_side_fail(side, "ipc_worker_spawn", r);
	r = ipc_channel_send(ipc_worker_channel(worker), &message, -1);
	if (r == 0)
		r = ipc_channel_recv(ipc_worker_channel(worker), &message, -1);
	if (r < 0)
		bench_side_fail(side, "the worker", r);
	goes_on = count(side, start_ns);
	r = ipc_worker_stop(worker, GRACE_MS, NULL);
	if (r < 0)
		bench_side_fail(side, "ipc_worker_stop", r);
	ipc_worker_free(worker);
	return goes_on;
}

static void
spawn_channel(struct bench_side *side)
{
	struct ipc_message message = {
		.data = &side->account->messages, .size = sizeof(side->account->messages)};
	int r;

	touch(side);
	while (start_worker(side))
		;
	r = ipc_channel_send(side->channel, &message, -1);
	if (r < 0)
		bench_side_fail(side, "ipc_channel_send", r);
	bench_side_finish_channels(side);
}

/* The other process hears how many there were. */
static void
hear(struct bench_side *side, uint64_t workers)
{
	side->account->messages = workers;
	side->account->sum = workers * BENCH_WORD;
}

static void
wait_raw(struct bench_side *side)
{
	uint64_t workers;

	if (bench_raw_recv(side, &workers, sizeof(workers)) != sizeof(workers))
		bench_side_fail(side, "recv", -EPIPE);
	hear(side, workers);
}

static void
wait_channel(struct bench_side *side)
{
	struct ipc_message message;
	int r = ipc_channel_recv(side->channel, &message, -1);

	if (r < 0)
		bench_side_fail(side, "ipc_channel_recv", r);
	hear(side, *(const uint64_t *)message.data);
	bench_side_finish_channels(side);
}

const struct bench_case bench_spawn = {
	.name = "spawn",
	.summary = "from the start of a worker to its first answer",
	.teaches = "From the start of a worker, which is this program, to its first answer; "
		   "bytes are those that the parent has touched.",
	.unit = "worker",
	.shape = BENCH_LATENCY,
	.is_memory = true,
	.size_min = BENCH_PAGE_SIZE,
	.size_max = (size_t)4 << 30,
	.sizes = {1 << 20, 1 << 30},
	.waits = {BENCH_SLEEP},
	.n_waits = 1,
	.raw_beside_learn = BENCH_SLEEP,
	.sides =
		{
			[BENCH_RAW] = {spawn_raw, wait_raw},
			[BENCH_FORK] = {fork_raw, wait_raw},
			[BENCH_CHANNEL] = {spawn_channel, wait_channel},
		},
};
