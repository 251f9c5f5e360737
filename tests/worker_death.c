/* SPDX-License-Identifier: MIT */

/* Workers that die beside others, with their last words or before them, and workers whose parent
   is killed. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../examples/confine.h"
#include "loop_support.h"
#include "worker_support.h"

#define death_test(function) \
	cmocka_unit_test_setup_teardown(function, loop_test_begin, worker_test_end)

/* A worker, and what the parent has heard of it. */
struct own {
	struct ipc_worker *worker;
	unsigned int number;
	unsigned int messages, closeds, dieds;
	int reason, status;
};

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct own *own = user;

	callback_enter();
	check(channel == ipc_worker_channel(own->worker));
	check(!own->closeds && !own->dieds);
	own->messages++;
	if (own->number) {
		check_equal(message->size, sizeof(own->number));
		check_equal(memcmp(message->data, &own->number, sizeof(own->number)), 0);
		check_equal(message->id, own->messages);
	}
	callback_leave();
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct own *own = user;

	callback_enter();
	check(channel == ipc_worker_channel(own->worker));
	check(!own->closeds && !own->dieds);
	own->closeds++;
	own->reason = reason;
	callback_leave();
}

static void
on_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	struct own *own = user;

	callback_enter();
	check(worker == own->worker);
	check(!own->dieds);
	own->dieds++;
	own->status = end->status;
	callback_leave();
}

static const struct ipc_worker_handler handler = {
	.channel = {.message = on_message, .closed = on_closed},
	.died = on_died,
};

static void
own_attach(struct own *own, struct ipc_loop *loop, struct ipc_worker *worker)
{
	*own = (struct own){.worker = worker, .number = own->number, .reason = -1, .status = -1};
	check_equal(ipc_worker_attach(loop, worker, &handler, own), 0);
}

/*
 * Killed in turn.
 */

#define SIBLINGS 3

/* Milliseconds in which each death is seen, where the machine lets this process run. */
#define SEEN_MS 100

/* Where the machine does not. */
#define TRIES 5

/* Who never spins does not look for how many CPUs there are, in files that the parent would see. */
static int
play_echo(char **argv)
{
	struct ipc_channel *channel;

	(void)argv;
	check_equal(ipc_channel_inherit(&channel, OPTIONS(.spin_us = -1)), 0);
	(void)echo(channel, NULL);
	ipc_channel_close(channel);
	return 0;
}

/* What a descriptor of a process is. */
static void
link_of(pid_t pid, int fd, char target[256])
{
	char path[64];
	ssize_t size;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	size = readlink(path, target, 255);
	target[size > 0 ? size : 0] = '\0';
}

#define NUMBERS 200

/* The one descriptor from 3 on, which is a socket. */
static void
socket_of(pid_t pid, char target[256])
{
	char other[256];
	int fd;

	target[0] = '\0';
	for (fd = 3; fd < NUMBERS; fd++) {
		link_of(pid, fd, other);
		if (!other[0])
			continue;
		check_equal(strcmp(target, ""), 0);
		memcpy(target, other, sizeof(other));
	}
	check_equal(strncmp(target, "socket:", 7), 0);
}

/* Standard descriptors are the parent's, one more is a socket of its own; there are no others. */
static void
expect_own_descriptors_only(const struct own *all, unsigned int index, unsigned int n)
{
	pid_t pid = ipc_worker_pid(all[index].worker);
	char target[256], other[256];
	unsigned int i;
	int fd;

	for (fd = 0; fd < 3; fd++) {
		link_of(pid, fd, target);
		link_of(getpid(), fd, other);
		check_equal(strcmp(target, other), 0);
	}
	socket_of(pid, target);
	for (fd = 3; fd < NUMBERS; fd++) {
		link_of(getpid(), fd, other);
		check(strcmp(target, other) != 0);
	}
	for (i = 0; i < n; i++) {
		socket_of(ipc_worker_pid(all[i].worker), other);
		check(i == index || strcmp(target, other) != 0);
	}
}

static void
expect_answer(struct own *own, struct ipc_loop *loop)
{
	own->messages = 0;
	gather_text(ipc_worker_channel(own->worker), "alive");
	turn_until(loop, own->messages);
	check(!own->closeds && !own->dieds);
}

/* Return: how long the longest death took to be seen. */
static int64_t
kill_in_turn(struct ipc_loop *loop)
{
	struct own all[SIBLINGS] = {{.number = 0}};
	int64_t start_ms, longest_ms = 0;
	unsigned int i, k;

	for (i = 0; i < SIBLINGS; i++) {
		own_attach(&all[i], loop,
			spawn(i % 2 ? WORKER(.argv = ROLE("echo"))
				    : WORKER(.run = echo, .channel = OPTIONS(.spin_us = -1))));
		expect_answer(&all[i], loop);
		for (k = 0; k <= i; k++)
			expect_own_descriptors_only(all, k, i + 1);
	}
	for (i = 0; i < SIBLINGS; i++) {
		start_ms = now_ms();
		check_equal(ipc_worker_kill(all[i].worker, SIGKILL), 0);
		turn_until(loop, all[i].dieds);
		if (now_ms() - start_ms > longest_ms)
			longest_ms = now_ms() - start_ms;
		check_equal(all[i].closeds, 1);
		check_equal(all[i].reason, 0);
		check(WIFSIGNALED(all[i].status));
		check_equal(WTERMSIG(all[i].status), SIGKILL);
		for (k = i + 1; k < SIBLINGS; k++)
			expect_answer(&all[k], loop);
	}
	for (i = 0; i < SIBLINGS; i++)
		ipc_worker_free(all[i].worker);
	return longest_ms;
}

static void
each_death_is_seen_at_once_while_siblings_live(void **state)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	unsigned int tries = 0;

	(void)state;
	while (kill_in_turn(loop) > SEEN_MS)
		check(++tries < TRIES);
	ipc_loop_destroy(loop);
}

/*
 * Last words.
 */

/* Workers that live at once: a death is seen through what a sibling might hold. */
#define CROWD 8

/* Send one or two messages and be gone, without a close. */
static int
say_and_exit(struct ipc_channel *channel, void *arg)
{
	unsigned int number = *(unsigned int *)arg;
	struct ipc_message message = {.data = &number, .size = sizeof(number), .id = 1};

	if (number % 2) {
		check_equal(ipc_channel_post(channel, &message, 0), 0);
		message.id++;
	}
	check_equal(ipc_channel_send(channel, &message, 0), 0);
	_exit((int)(number % 100));
}

static void
start_speaker(struct own *own, struct ipc_loop *loop, unsigned int number)
{
	struct ipc_worker *worker;

	own->number = number;
	worker = spawn(WORKER(.run = say_and_exit, .arg = &number));
	/* Before it has ended, or not. */
	if (number % 16 == 0)
		expect_exit(worker, (int)(number % 100));
	own_attach(own, loop, worker);
	/* What it leaves unread makes the kernel say ECONNRESET, before its words. */
	if (number % 3 == 0)
		(void)ipc_channel_send(
			ipc_worker_channel(worker), &(struct ipc_message){.size = 0}, 0);
}

static void
end_speaker(struct own *own)
{
	check_equal(own->messages, 1 + own->number % 2);
	check_equal(own->closeds, 1);
	check_equal(own->reason, 0);
	check(WIFEXITED(own->status));
	check_equal(WEXITSTATUS(own->status), own->number % 100);
	ipc_worker_free(own->worker);
	*own = (struct own){.worker = NULL};
}

static void
last_words_arrive_every_time(void **state)
{
	unsigned int n = test_count(10000, 300), started = 0, ended = 0, i;
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct own all[CROWD] = {{.worker = NULL}};
	int64_t give_up_ms = now_ms() + 5 * TEST_WAIT_MS;

	(void)state;
	/* A slow machine forks a few hundred times a second. */
	alarm(3 * TEST_SECONDS_MAX);
	while (ended < n) {
		for (i = 0; i < CROWD; i++) {
			if (all[i].dieds) {
				end_speaker(&all[i]);
				ended++;
			}
			if (!all[i].worker && started < n)
				start_speaker(&all[i], loop, ++started);
		}
		check(ipc_loop_turn(loop, ended < n ? 1000 : 0) >= 0);
		check(now_ms() < give_up_ms);
	}
	ipc_loop_destroy(loop);
}

/*
 * The parent is killed.
 */

/* Milliseconds in which no worker may be left. */
#define ORPHANS_MS 1000

#define LARGE (8U << 20)

/* Sends large messages without end. */
static int
pour(struct ipc_channel *channel, void *arg)
{
	unsigned char *payload = calloc(1, LARGE);
	struct ipc_message message = {.data = payload, .size = LARGE};
	int r;

	(void)arg;
	check(payload);
	alarm(TEST_SECONDS_MAX);
	do
		r = ipc_channel_post(channel, &message, -1);
	while (r == 0);
	free(payload);
	return r == -EPIPE ? 0 : 1;
}

/* Sends back what comes. The end may come between the two. */
static int
answer(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	int r = 0;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	while (r == 0) {
		r = ipc_channel_recv(channel, &message, -1);
		if (r == 0)
			r = ipc_channel_send(channel, &message, -1);
	}
	return r == -EPIPE ? 0 : 1;
}

static int
play_answer(char **argv)
{
	struct ipc_channel *channel = inherited();
	int status = answer(channel, argv);

	ipc_channel_close(channel);
	return status;
}

static int
play_pour(char **argv)
{
	struct ipc_channel *channel = inherited();
	int status = pour(channel, argv);

	ipc_channel_close(channel);
	return status;
}

/* Takes no notice of its channel. */
static int
compute(struct ipc_channel *channel, void *arg)
{
	volatile unsigned int n = 0;

	(void)channel;
	(void)arg;
	alarm(TEST_SECONDS_MAX);
	for (;;)
		n++;
	return 0;
}

static const struct role roles[] = {
	{"echo", play_echo},
	{"answer", play_answer},
	{"pour", play_pour},
};

/* From now on whoever makes a file, or a socket with a name, is killed. */
static void
forbid_files(void)
{
	const unsigned int calls[] = {
#ifdef __NR_mkdir
		__NR_creat, __NR_mkdir, __NR_mknod, __NR_link, __NR_symlink, __NR_rename,
#endif
		__NR_mkdirat, __NR_mknodat, __NR_linkat, __NR_symlinkat, __NR_renameat2, __NR_bind};
	const size_t n = sizeof(calls) / sizeof(calls[0]);
	struct sock_filter filter[64] = {
		CONFINE_LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 0, 4),
		CONFINE_LOAD(args[2]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 0, 1),
		CONFINE_RETURN(SECCOMP_RET_KILL_PROCESS),
		CONFINE_RETURN(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.filter = filter};
	unsigned short at = 6;
	size_t i;

	for (i = 0; i < n; i++) {
		const struct sock_filter rule[] = {
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1),
			CONFINE_RETURN(SECCOMP_RET_KILL_PROCESS)};

		memcpy(filter + at, rule, sizeof(rule));
		at += 2;
	}
	filter[at++] = (struct sock_filter)CONFINE_RETURN(SECCOMP_RET_ALLOW);
	program.len = at;
	check_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	check_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* Attached: it is kept busy, or what it pours is taken. */
struct kind {
	struct ipc_worker_options options;
	bool is_attached;
};

#define KINDS 8

static void
spawn_all(struct own *all, struct ipc_loop *loop)
{
	const struct kind kinds[KINDS] = {
		{*WORKER(.run = answer), true},
		{*WORKER(.argv = ROLE("answer")), true},
		{*WORKER(.run = pour), true},
		{*WORKER(.argv = ROLE("pour")), true},
		{*WORKER(.run = pour), false},
		{*WORKER(.argv = ROLE("pour")), false},
		{*WORKER(.run = answer), false},
		{*WORKER(.run = compute, .parent_death_signal = SIGKILL), true},
	};
	struct ipc_worker *worker;
	unsigned int i;

	for (i = 0; i < KINDS; i++) {
		worker = spawn(&kinds[i].options);
		if (kinds[i].is_attached)
			own_attach(&all[i], loop, worker);
	}
}

/* Tells the test that it is in the midst of it, and goes on until it is killed. */
static void
be_busy(void *arg)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct own all[KINDS] = {{.worker = NULL}};
	unsigned int turns, i;

	forbid_files();
	spawn_all(all, loop);
	for (turns = 0;; turns++) {
		/* Who answers has a few requests at a time, who pours has begun. */
		for (i = 0; i < 2; i++)
			if (all[i].messages >= turns / 4)
				gather_text(ipc_worker_channel(all[i].worker), "request");
		if (turns == 100)
			check_equal(write(*(int *)arg, "x", 1), 1);
		check(ipc_loop_turn(loop, 1) >= 0);
		for (i = 0; i < KINDS; i++)
			check(!all[i].closeds && !all[i].dieds);
	}
}

/* Wait for whatever this process has become the parent of. Return: how many there were. */
static unsigned int
reap_orphans(int64_t give_up_ms)
{
	unsigned int n = 0;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0) {
		if (pid == 0) {
			check(now_ms() < give_up_ms);
			sleep_ms(1);
			continue;
		}
		/* They end because their channel has, but for the one that does not look. */
		if (WIFSIGNALED(status))
			check_equal(WTERMSIG(status), SIGKILL);
		else
			check_equal(WEXITSTATUS(status), 0);
		n++;
	}
	check_equal(errno, ECHILD);
	return n;
}

static void
all_workers_go_with_a_parent_that_is_killed(void **state)
{
	unsigned int i, rounds = test_count(20, 2);
	int ends[2];
	char byte;
	pid_t pid;

	(void)state;
	if (prctl(PR_GET_SECCOMP) < 0) {
		test_lacks("seccomp");
		skip();
	}
	check_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	for (i = 0; i < rounds; i++) {
		check_equal(pipe2(ends, O_CLOEXEC), 0);
		pid = child_start(be_busy, &ends[1]);
		check_equal(close(ends[1]), 0);
		check_equal(read(ends[0], &byte, 1), 1);
		sleep_ms((int)test_random_below(20));
		check_equal(kill(pid, SIGKILL), 0);
		check_equal(reap_orphans(now_ms() + ORPHANS_MS), 1 + KINDS);
		check_equal(close(ends[0]), 0);
	}
	check_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		death_test(each_death_is_seen_at_once_while_siblings_live),
		death_test(last_words_arrive_every_time),
		death_test(all_workers_go_with_a_parent_that_is_killed),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_on_engines(tests);
}
