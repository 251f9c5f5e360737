/* SPDX-License-Identifier: MIT */

/*
 * Workers that SIGKILL does not end: nobody waits for them without a bound, and none of them keeps
 * its place.
 *
 * The first process of a pid namespace is not dead before all the others there were reaped. One of
 * them is a child of this process: until it is reaped, the worker cannot die.
 */

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

#define WORKERS_MAX 3

/* A clock on a machine that does other things, too. */
#define SLACK_MS 6000

static int own_namespace = -1;
static pid_t anchors[WORKERS_MAX];
static unsigned int n_anchors;

/* Have the next child be the first process of a new namespace. */
static bool
enter_new_namespace(void)
{
	if (setns(own_namespace, CLONE_NEWPID) < 0 || unshare(CLONE_NEWPID) < 0)
		return false;
	return true;
}

/* A process which lives in the namespace of the next children, to be reaped by us. */
static void
cast_anchor(void)
{
	pid_t pid = fork();

	check(pid >= 0);
	while (pid == 0 && getppid() >= 0)
		(void)pause();
	anchors[n_anchors++] = pid;
}

static void
weigh_anchors(void)
{
	while (n_anchors) {
		n_anchors--;
		(void)kill(anchors[n_anchors], SIGKILL);
		check_equal(waitpid(anchors[n_anchors], NULL, 0), anchors[n_anchors]);
	}
}

/* In a child, as whatever it started last decides where its children are. */
static void
begin(void)
{
	own_namespace = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	check(own_namespace >= 0);
	if (!enter_new_namespace()) {
		test_lacks("new pid namespaces: this process may not make one");
		_exit(0);
	}
}

static void
end(void)
{
	check_equal(setns(own_namespace, CLONE_NEWPID), 0);
	check_equal(close(own_namespace), 0);
}

/* A pool each of whose workers cannot die before the anchors are weighed. */
static void
open_undying(struct desk *desk, const struct ipc_pool_options *options, unsigned int workers)
{
	unsigned int i;

	begin();
	desk_open(desk, options);
	for (i = 0; i < workers; i++) {
		if (i) {
			check(enter_new_namespace());
			check_equal(ipc_pool_resize(desk->pool, i + 1), 0);
		}
		await_ready(desk, i + 1);
		cast_anchor();
	}
}

/* What was given up is our child, like any other. */
static void
reap_all(unsigned int n)
{
	while (n--)
		check(waitpid(-1, NULL, 0) > 0);
	expect_no_children();
}

static void
destroy_them(void *arg)
{
	struct desk desk = {.loop = NULL};
	int64_t start_ms;

	(void)arg;
	open_undying(&desk, POOL(.workers = 1), 3);
	start_ms = now_ms();
	desk_destroy(&desk);
	check(now_ms() - start_ms >= IPC_WORKER_KILL_MS - 1);
	check(now_ms() - start_ms < IPC_WORKER_KILL_MS + SLACK_MS);
	weigh_anchors();
	reap_all(3);
	desk_close(&desk);
	end();
}

static void
drain_them(void *arg)
{
	struct desk desk = {.loop = NULL};
	struct call calls[8];
	unsigned int i;
	int64_t start_ms;

	(void)arg;
	memset(calls, 0, sizeof(calls));
	open_undying(&desk, POOL(.workers = 1, .stop_ms = 10), 2);
	for (i = 0; i < 8; i++)
		call_task(&desk, &calls[i], TASK_ECHO, 0);
	for (i = 0; i < 8; i++)
		expect_call(&calls[i], 0);
	start_ms = now_ms();
	check_equal(ipc_pool_drain(desk.pool, 100), -ETIMEDOUT);
	check(now_ms() - start_ms < IPC_WORKER_KILL_MS + SLACK_MS);
	check_equal(desk.drain_result, -ETIMEDOUT);
	check_equal(desk.endeds, 2);
	check_equal(desk.status, -1);
	check_equal(pool_stats(&desk).given_up, 2);
	expect_sums(&desk, true);
	/* They have been waited for. */
	start_ms = now_ms();
	desk_destroy(&desk);
	check(now_ms() - start_ms < IPC_WORKER_KILL_MS / 2);
	weigh_anchors();
	reap_all(2);
	desk_close(&desk);
	end();
}

static void
replace_one(void *arg)
{
	struct call hangs = {.ends = 0};
	struct desk desk = {.loop = NULL};
	siginfo_t dead;

	(void)arg;
	open_undying(&desk, POOL(.workers = 1, .hung_ms = 100), 1);
	/* The next one is an ordinary process. */
	check_equal(setns(own_namespace, CLONE_NEWPID), 0);
	call_task(&desk, &hangs, TASK_HANG, 0);
	expect_call(&hangs, -EOWNERDEAD);
	check_equal(place_stats(&desk, 0).state, IPC_POOL_ENDING);
	turn_until(desk.loop, desk.endeds == 1);
	check_equal(desk.status, -1);
	check_equal(pool_stats(&desk).hung, 1);
	check_equal(pool_stats(&desk).given_up, 1);
	check_equal(ask(&desk, TASK_SLEEP, 3, 0), 3);
	/* Once it can die it is reaped. */
	weigh_anchors();
	check_equal(waitid(P_ALL, 0, &dead, WEXITED | WNOWAIT), 0);
	desk_close(&desk);
	expect_no_children();
	end();
}

static void
destroy_a_namespace(void *arg)
{
	struct desk desk = {.loop = NULL};
	int64_t start_ms;

	(void)arg;
	begin();
	desk_open(&desk, POOL(.workers = 3));
	await_ready(&desk, 3);
	start_ms = now_ms();
	desk_close(&desk);
	check(now_ms() - start_ms < IPC_WORKER_KILL_MS - 1000);
	expect_no_children();
	end();
}

static void
in_a_child(void (*run)(void *arg))
{
	child_end(child_start(run, NULL));
}

static void
those_that_destroy_cannot_kill_are_waited_for_in_one_time_for_all(void **state)
{
	(void)state;
	in_a_child(destroy_them);
}

static void
a_drain_gives_up_those_that_do_not_die(void **state)
{
	(void)state;
	in_a_child(drain_them);
}

static void
one_that_does_not_die_is_given_up_and_another_is_started(void **state)
{
	(void)state;
	in_a_child(replace_one);
}

/* The first worker is the namespace's first process, and dead when the others were reaped. */
static void
workers_in_a_new_pid_namespace_are_destroyed_in_no_time(void **state)
{
	(void)state;
	in_a_child(destroy_a_namespace);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(those_that_destroy_cannot_kill_are_waited_for_in_one_time_for_all),
		pool_test(a_drain_gives_up_those_that_do_not_die),
		pool_test(one_that_does_not_die_is_given_up_and_another_is_started),
		pool_test(workers_in_a_new_pid_namespace_are_destroyed_in_no_time),
	};

	return run_on_engines(tests);
}
