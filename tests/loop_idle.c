/* SPDX-License-Identifier: MIT */

/*
 * What is ready and cannot be dealt with keeps no loop busy: a worker that is dead and that a
 * tracer holds, a large message that there is no memory for. The turns and the system calls are
 * counted.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc/worker.h>

#include "loop_support.h"

/* Per second, of a loop that looks now and then. */
#define TURNS_MAX    3000
#define SYSCALLS_MAX 15000

struct seen {
	unsigned int closed, died;
	int status;
};

static void
ignore_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	(void)user;
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	(void)channel;
	(void)reason;
	((struct seen *)user)->closed++;
}

static void
on_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	struct seen *seen = user;

	(void)worker;
	seen->died++;
	seen->status = end->status;
}

static const struct ipc_worker_handler handler = {
	.channel = {.message = ignore_message, .closed = on_closed},
	.died = on_died,
};

static int
let_trace(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;

	(void)arg;
	(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	(void)ipc_channel_send(channel, &(struct ipc_message){.size = 0}, -1);
	while (ipc_channel_recv(channel, &message, -1) == 0)
		;
	return 0;
}

/* A debugger at its prompt, which waits for nobody. Return: its id, or -1 where none may be. */
static pid_t
tracer_start(pid_t traced)
{
	int fds[2];
	char answer = 0;
	pid_t pid;

	check_equal(pipe(fds), 0);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		answer = ptrace(PTRACE_SEIZE, traced, 0, 0) == 0 ? 'y' : 'n';
		(void)!write(fds[1], &answer, 1);
		for (;;)
			(void)pause();
	}
	check_equal(read(fds[0], &answer, 1), 1);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
	if (answer == 'y')
		return pid;
	check_equal(kill(pid, SIGKILL), 0);
	check_equal(waitpid(pid, NULL, 0), pid);
	return -1;
}

/* Turn for so long. Return: the callbacks made. */
static unsigned int
turn_for(struct ipc_loop *loop, int ms)
{
	struct ipc_loop_stats before = loop_stats_of(loop), after;
	int64_t start_ms = now_ms(), end_ms = start_ms + ms;
	unsigned int made = 0;
	int r;

	while (now_ms() < end_ms) {
		r = ipc_loop_turn(loop, 100);
		check(r >= 0);
		made += (unsigned int)r;
	}
	after = loop_stats_of(loop);
	ms = (int)(now_ms() - start_ms);
	check(after.turns - before.turns <= (uint64_t)TURNS_MAX * (uint64_t)ms / 1000);
	check(after.syscalls - before.syscalls <= (uint64_t)SYSCALLS_MAX * (uint64_t)ms / 1000);
	return made;
}

static void
a_dead_worker_that_a_tracer_holds_is_told_of_after_a_while(void **state)
{
	static const struct ipc_worker_options options = {
		.size = sizeof(options), .run = let_trace};
	struct ipc_loop *loop = loop_open(NULL);
	struct seen seen = {.closed = 0};
	struct ipc_message message;
	struct ipc_worker *worker;
	unsigned int made;
	int64_t start_ms;
	pid_t tracer;

	(void)state;
	check_equal(ipc_worker_spawn(&worker, &options), 0);
	check_equal(ipc_channel_recv(ipc_worker_channel(worker), &message, TEST_WAIT_MS), 0);
	tracer = tracer_start(ipc_worker_pid(worker));
	if (tracer < 0) {
		test_lacks("a process that may be traced");
		ipc_worker_free(worker);
		ipc_loop_destroy(loop);
		return;
	}
	check_equal(ipc_worker_attach(loop, worker, &handler, &seen), 0);
	check_equal(kill(ipc_worker_pid(worker), SIGKILL), 0);
	/* Each is a callback, and nothing else is counted as one. */
	made = turn_for(loop, 2000);
	start_ms = now_ms();
	while (!seen.died && now_ms() < start_ms + TEST_WAIT_MS)
		made += turn_for(loop, 200);
	check_equal(seen.closed, 1);
	check_equal(seen.died, 1);
	check_equal(seen.status, -1);
	check_equal(made, 2);
	/* Nobody waits for what may not come. */
	start_ms = now_ms();
	ipc_worker_free(worker);
	check(now_ms() < start_ms + IPC_WORKER_KILL_MS);
	check_equal(kill(tracer, SIGKILL), 0);
	check_equal(waitpid(tracer, NULL, 0), tracer);
	ipc_loop_destroy(loop);
	/* It is nobody's now. */
	while (waitpid(-1, NULL, __WALL) > 0)
		;
}

static void
a_dead_worker_that_a_tracer_lets_go_of_has_a_status(void **state)
{
	static const struct ipc_worker_options options = {
		.size = sizeof(options), .run = let_trace};
	struct ipc_loop *loop = loop_open(NULL);
	struct seen seen = {.closed = 0};
	struct ipc_message message;
	struct ipc_worker *worker;
	pid_t tracer;

	(void)state;
	check_equal(ipc_worker_spawn(&worker, &options), 0);
	check_equal(ipc_channel_recv(ipc_worker_channel(worker), &message, TEST_WAIT_MS), 0);
	tracer = tracer_start(ipc_worker_pid(worker));
	if (tracer < 0) {
		test_lacks("a process that may be traced");
		ipc_worker_free(worker);
		ipc_loop_destroy(loop);
		return;
	}
	check_equal(ipc_worker_attach(loop, worker, &handler, &seen), 0);
	check_equal(kill(ipc_worker_pid(worker), SIGKILL), 0);
	check(ipc_loop_turn(loop, 50) >= 0);
	check_equal(kill(tracer, SIGKILL), 0);
	check_equal(waitpid(tracer, NULL, 0), tracer);
	turn_until(loop, seen.died);
	check(seen.status == -1 || WTERMSIG(seen.status) == SIGKILL);
	ipc_worker_free(worker);
	ipc_loop_destroy(loop);
	while (waitpid(-1, NULL, __WALL) > 0)
		;
}

/* No memory. */

#define LARGE (12U << 20)

static size_t
address_space(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	check(file);
	check_equal(fscanf(file, "%lu", &pages), 1);
	check_equal(fclose(file), 0);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void
limit_address_space(rlim_t max)
{
	struct rlimit limit;

	check_equal(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = max < limit.rlim_max ? max : limit.rlim_max;
	check_equal(setrlimit(RLIMIT_AS, &limit), 0);
}

static void
send_large(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message = {.data = malloc(LARGE), .size = LARGE};

	(void)arg;
	check(message.data);
	fill((void *)message.data, LARGE, 7);
	(void)ipc_channel_send(channel, &message, -1);
	free((void *)message.data);
	(void)ipc_channel_recv(channel, &message, TEST_WAIT_MS);
}

static void
check_large(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)ear;
	(void)channel;
	check_equal(message->size, LARGE);
	check(is_filled(message->data, LARGE, 7));
}

/* In a process of its own, whose limit it is. */
static void
receive_without_memory(void *arg)
{
	bool ends = arg;
	struct ear ear = {.on_message = check_large};
	struct ipc_loop *loop = loop_open(NULL);
	struct worker worker = worker_start(NULL, send_large, NULL);

	ear_attach(&ear, loop, worker.channel);
	limit_address_space(address_space() + (1U << 20));
	if (ends)
		/* A hang-up is readiness, too. */
		check_equal(kill(worker.pid, SIGKILL), 0);
	(void)turn_for(loop, 1000);
	check_equal(ear.messages, 0);
	limit_address_space(RLIM_INFINITY);
	turn_until(loop, ear.messages + ear.closeds == 1);
	check_equal(ear.messages, !ends);
	ipc_channel_close(worker.channel);
	ipc_loop_destroy(loop);
	if (ends)
		check_equal(waitpid(worker.pid, NULL, 0), worker.pid);
	else
		child_end(worker.pid);
}

static void
a_large_message_without_memory_keeps_no_loop_busy(void **state)
{
	bool ends = true;

	(void)state;
	child_end(child_start(receive_without_memory, NULL));
	child_end(child_start(receive_without_memory, &ends));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(a_dead_worker_that_a_tracer_holds_is_told_of_after_a_while),
		loop_test(a_dead_worker_that_a_tracer_lets_go_of_has_a_status),
		loop_test(a_large_message_without_memory_keeps_no_loop_busy),
	};

	return run_on_engines(tests);
}
