/* SPDX-License-Identifier: MIT */

/* Workers end: by themselves, by signals, stopped or freed; and what is known of it then. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "worker_support.h"

/* For what is sure to take that long, or no longer than the machine makes it. */
#define GRACE_MS 600

static int
leave(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	return *(int *)arg;
}

/* Takes no notice of its channel. */
static int
stay(struct ipc_channel *channel, void *arg)
{
	(void)arg;
	alarm(TEST_SECONDS_MAX);
	send_text(channel, "here");
	(void)pause();
	return 0;
}

static int
stay_and_ignore_sigterm(struct ipc_channel *channel, void *arg)
{
	check(signal(SIGTERM, SIG_IGN) != SIG_ERR);
	return stay(channel, arg);
}

static void
leave_by_signal(int signal)
{
	(void)signal;
	_exit(5);
}

static int
stay_until_sigterm(struct ipc_channel *channel, void *arg)
{
	check(signal(SIGTERM, leave_by_signal) != SIG_ERR);
	return stay(channel, arg);
}

static struct ipc_worker *
spawn_stayer(int (*run)(struct ipc_channel *channel, void *arg))
{
	struct ipc_worker *worker = spawn(WORKER(.run = run));

	expect_text(ipc_worker_channel(worker), "here");
	return worker;
}

static void
a_wait_tells_how_it_ended_and_tells_it_again(void **state)
{
	int status = 42, i;
	struct ipc_worker *worker = spawn(WORKER(.run = leave, .arg = &status));
	struct ipc_worker_end end = {.size = sizeof(end)}, part = {.size = 16, .user_us = 4711};

	(void)state;
	for (i = 0; i < 3; i++) {
		check_equal(ipc_worker_wait(worker, i ? 0 : TEST_WAIT_MS, &end), 0);
		check_equal(end.size, sizeof(end));
		check(WIFEXITED(end.status));
		check_equal(WEXITSTATUS(end.status), 42);
		check(end.max_rss_kib > 0);
	}
	check_equal(ipc_worker_wait(worker, -1, NULL), 0);
	check_equal(ipc_worker_wait(worker, -1, &part), 0);
	check_equal(part.size, 16);
	check_equal(part.status, end.status);
	check_equal(part.user_us, 4711);
	ipc_worker_free(worker);
}

static int
work(struct ipc_channel *channel, void *arg)
{
	struct timespec used;

	(void)channel;
	do
		check_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
	while (used.tv_sec * 1000000 + used.tv_nsec / 1000 < *(long *)arg);
	return 0;
}

static void
what_it_used_is_known(void **state)
{
	long us = 50000;
	struct ipc_worker *worker = spawn(WORKER(.run = work, .arg = &us));
	struct ipc_worker_end end = {.size = sizeof(end)};

	(void)state;
	check_equal(ipc_worker_wait(worker, TEST_WAIT_MS, &end), 0);
	check_equal(end.status, 0);
	/* The two are rounded, each on its own. */
	check(end.user_us + end.system_us >= (uint64_t)us - 10);
	ipc_worker_free(worker);
}

static void
a_wait_for_one_that_lives_is_in_vain(void **state)
{
	struct ipc_worker *worker = spawn_stayer(stay);
	int64_t start_ms = now_ms();

	(void)state;
	check_equal(ipc_worker_wait(worker, 0, NULL), -EAGAIN);
	check_equal(ipc_worker_wait(worker, 20, NULL), -ETIMEDOUT);
	check(now_ms() - start_ms >= 19);
	signals_start();
	check_equal(ipc_worker_wait(worker, 20, NULL), -ETIMEDOUT);
	check(signals_stop() > 0);
	check(now_ms() - start_ms >= 38);
	ipc_worker_free(worker);
}

static void
signals_reach_it_until_it_has_ended(void **state)
{
	struct ipc_worker *worker = spawn_stayer(stay);

	(void)state;
	check_equal(ipc_worker_kill(worker, 0), 0);
	check_equal(ipc_worker_kill(worker, 1000), -EINVAL);
	check_equal(ipc_worker_kill(worker, SIGUSR1), 0);
	expect_killed(worker, SIGUSR1);
	check_equal(ipc_worker_kill(worker, 0), -ESRCH);
	check_equal(ipc_worker_kill(worker, SIGKILL), -ESRCH);
	expect_end(ipc_worker_channel(worker));
	ipc_worker_free(worker);
}

static void
where_the_status_is_lost_it_is_unknown(void **state)
{
	int status = 3, stopped = 4711, wait_status;
	struct ipc_worker_end end = {.size = sizeof(end)};
	struct ipc_worker *worker;

	(void)state;
	worker = spawn(WORKER(.run = leave, .arg = &status));
	check_equal(waitpid(ipc_worker_pid(worker), &wait_status, 0), ipc_worker_pid(worker));
	check_equal(ipc_worker_wait(worker, TEST_WAIT_MS, &end), 0);
	check_equal(end.status, -1);
	check_equal(end.max_rss_kib, 0);
	check_equal(ipc_worker_stop(worker, 0, &stopped), 0);
	check_equal(stopped, -1);
	ipc_worker_free(worker);
}

static void
where_sigchld_is_ignored_the_status_is_unknown(void **state)
{
	unsigned int i, n = test_count(200, 20);
	struct ipc_worker_end end;
	struct ipc_worker *worker;
	int status = 3, stopped;

	(void)state;
	check(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
	/* It may be gone, without a trace, as soon as it has begun. */
	for (i = 0; i < n; i++) {
		worker = i % 2 ? spawn(WORKER(.run = leave, .arg = &status))
		               : spawn(WORKER(.argv = (char *const *)(const char *const[]){
						      "true", NULL}));
		end = (struct ipc_worker_end){.size = sizeof(end)};
		check_equal(ipc_worker_wait(worker, TEST_WAIT_MS, &end), 0);
		check_equal(end.status, -1);
		ipc_worker_free(worker);
	}
	worker = spawn_stayer(stay);
	check_equal(ipc_worker_wait(worker, 0, NULL), -EAGAIN);
	check_equal(ipc_worker_stop(worker, 0, &stopped), 0);
	check_equal(stopped, -1);
	ipc_worker_free(worker);
	check_equal(ipc_worker_spawn(&worker,
			    WORKER(.argv = (char *const *)(const char *const[]){"no-such-program",
					   NULL})),
		-ENOENT);
	check(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
}

static void
one_that_ends_with_its_channel_is_stopped_by_that(void **state)
{
	struct ipc_worker *worker = spawn(WORKER(.run = echo));
	int status = -1;

	(void)state;
	expect_echo(worker);
	check_equal(ipc_worker_stop(worker, -1, &status), -EINVAL);
	expect_echo(worker);
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, &status), 0);
	check_equal(status, 0);
	check(!ipc_worker_channel(worker));
	check(ipc_worker_pid(worker) > 0);
	/* And so again. */
	status = -1;
	check_equal(ipc_worker_stop(worker, 0, &status), 0);
	check_equal(status, 0);
	ipc_worker_free(worker);
}

static void
expect_stopped_by(struct ipc_worker *worker, int grace_ms, int signal)
{
	int status;

	check_equal(ipc_worker_stop(worker, grace_ms, &status), 0);
	check(WIFSIGNALED(status));
	check_equal(WTERMSIG(status), signal);
	ipc_worker_free(worker);
}

static void
one_that_stays_is_stopped_by_signals(void **state)
{
	struct ipc_worker *worker = spawn_stayer(stay_until_sigterm);
	int status;

	(void)state;
	check_equal(ipc_worker_stop(worker, GRACE_MS, &status), 0);
	check(WIFEXITED(status));
	check_equal(WEXITSTATUS(status), 5);
	ipc_worker_free(worker);
	expect_stopped_by(spawn_stayer(stay), GRACE_MS, SIGTERM);
	expect_stopped_by(spawn_stayer(stay_and_ignore_sigterm), 20, SIGKILL);
	expect_stopped_by(spawn_stayer(stay_until_sigterm), 0, SIGKILL);
}

static struct ipc_worker *
stopped_by_sigstop(int (*run)(struct ipc_channel *channel, void *arg))
{
	struct ipc_worker *worker = spawn_stayer(run);
	siginfo_t info;

	check_equal(ipc_worker_kill(worker, SIGSTOP), 0);
	check_equal(waitid(P_PID, (id_t)ipc_worker_pid(worker), &info, WSTOPPED), 0);
	check_equal(ipc_worker_wait(worker, 0, NULL), -EAGAIN);
	return worker;
}

static void
one_that_sleeps_by_sigstop_is_stopped_too(void **state)
{
	(void)state;
	expect_stopped_by(stopped_by_sigstop(stay), GRACE_MS, SIGTERM);
	expect_stopped_by(stopped_by_sigstop(stay_and_ignore_sigterm), 20, SIGKILL);
	ipc_worker_free(stopped_by_sigstop(stay));
}

static void
free_ends_what_lives(void **state)
{
	(void)state;
	check(!ipc_worker_free(NULL));
	check(!ipc_worker_free(spawn_stayer(stay_and_ignore_sigterm)));
	expect_no_children();
}

struct others {
	struct ipc_worker *worker;
};

static void
use_the_parents_worker(void *arg)
{
	struct others *others = arg;
	unsigned int before = descriptors_open();

	check_equal(ipc_worker_wait(others->worker, 0, NULL), -ECHILD);
	check_equal(ipc_worker_kill(others->worker, SIGKILL), -ECHILD);
	check_equal(ipc_worker_stop(others->worker, 0, NULL), -ECHILD);
	check(!ipc_worker_free(others->worker));
	check_equal(descriptors_open(), before - 2);
}

static void
a_forked_child_does_nothing_to_it(void **state)
{
	struct others others = {spawn(WORKER(.run = echo))};

	(void)state;
	child_end(child_start(use_the_parents_worker, &others));
	expect_echo(others.worker);
	ipc_worker_free(others.worker);
}

static void
each_death_is_seen_while_siblings_live(void **state)
{
	struct ipc_worker *workers[3];
	int i, k;

	(void)state;
	for (i = 0; i < 3; i++)
		workers[i] = spawn(WORKER(.run = echo));
	for (i = 0; i < 3; i++) {
		expect_echo(workers[i]);
		check_equal(ipc_worker_kill(workers[i], SIGKILL), 0);
		expect_end(ipc_worker_channel(workers[i]));
		expect_killed(workers[i], SIGKILL);
		for (k = i + 1; k < 3; k++)
			expect_echo(workers[k]);
	}
	for (i = 0; i < 3; i++)
		ipc_worker_free(workers[i]);
}

static int
say_and_leave(struct ipc_channel *channel, void *arg)
{
	if (*(int *)arg)
		send_text(channel, "first");
	send_text(channel, "last words");
	/* By the shortest way. */
	_exit(*(int *)arg);
}

static void
last_words_are_there_after_death(void **state)
{
	unsigned int i, n = test_count(2000, 100);
	struct ipc_worker *worker;
	int two;

	(void)state;
	for (i = 0; i < n; i++) {
		two = (int)(test_random_below(2));
		worker = spawn(WORKER(.run = say_and_leave, .arg = &two));
		/* Something that it never receives: such a death resets the connection. */
		if (test_random_below(2))
			(void)ipc_channel_send(ipc_worker_channel(worker),
				&(struct ipc_message){.data = "unread", .size = 7}, 0);
		if (test_random_below(2))
			expect_exit(worker, two);
		if (two)
			expect_text(ipc_worker_channel(worker), "first");
		expect_text(ipc_worker_channel(worker), "last words");
		expect_end(ipc_worker_channel(worker));
		expect_exit(worker, two);
		ipc_worker_free(worker);
	}
}

/* Its parent holds a file whose buffer is not empty. */
struct leaver {
	FILE *log;
	int mark; /* a pipe: what the handlers of exit(3) say */
	enum { LEAVE_RETURNS, LEAVE_EXITS, LEAVE_EXITS_IN_LOOP, LEAVE_N } way;
};

static int mark_fd = -1;

static void
mark_parent(void)
{
	if (mark_fd >= 0)
		check_equal(write(mark_fd, "parent ", 7), 7);
}

static void
mark_function(void)
{
	check_equal(write(mark_fd, "function ", 9), 9);
}

static void
exit_in_callback(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct ipc_message reply = text_message("posted");

	(void)message;
	(void)user;
	check_equal(ipc_channel_post(channel, &reply, 0), 0);
	exit(7);
}

static int
leave_somehow(struct ipc_channel *channel, void *arg)
{
	static const struct ipc_channel_handler handler = {.message = exit_in_callback};
	struct leaver *leaver = arg;
	struct ipc_message message = text_message("posted");
	struct ipc_loop *loop;
	int fd;

	alarm(TEST_SECONDS_MAX);
	/* The number of the parent's file is not the channel's, and can be had. */
	check(ipc_channel_fd(channel) != fileno(leaver->log));
	fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	check(fd >= 0);
	mark_fd = leaver->mark;
	check_equal(atexit(mark_function), 0);
	if (leaver->way == LEAVE_EXITS_IN_LOOP) {
		check_equal(ipc_loop_create(&loop, NULL), 0);
		check_equal(ipc_loop_attach(loop, channel, &handler, NULL), 0);
		for (;;)
			check(ipc_loop_turn(loop, -1) >= 0);
	}
	check_equal(ipc_channel_post(channel, &message, 0), 0);
	if (leaver->way == LEAVE_RETURNS)
		return 7;
	exit(7);
}

static void
expect_left(struct leaver *leaver, const struct ipc_worker_fd *fds, unsigned int n)
{
	struct ipc_worker *worker =
		spawn(WORKER(.run = leave_somehow, .arg = leaver, .fds = fds, .n_fds = n));
	struct ipc_channel *channel = ipc_worker_channel(worker);

	if (leaver->way == LEAVE_EXITS_IN_LOOP)
		send_text(channel, "go");
	expect_text(channel, "posted");
	expect_end(channel);
	expect_exit(worker, 7);
	ipc_worker_free(worker);
}

/* The parent's handlers are its own, and so is what it has not written yet. */
static void
one_that_exits_ends_as_one_that_returns(void **state)
{
	static const char *const marks[LEAVE_N] = {[LEAVE_RETURNS] = "",
		[LEAVE_EXITS] = "function ",
		[LEAVE_EXITS_IN_LOOP] = "function "};
	struct leaver leaver = {.log = tmpfile()};
	struct ipc_worker_fd fd = {.as = 50};
	char got[64];
	int ends[2];

	(void)state;
	check(leaver.log);
	check(fprintf(leaver.log, "the parent's\n") > 0);
	for (leaver.way = LEAVE_RETURNS; leaver.way < LEAVE_N; leaver.way++) {
		check_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
		fd.fd = ends[1];
		leaver.mark = fd.as;
		expect_left(&leaver, &fd, 1);
		memset(got, 0, sizeof(got));
		(void)read(ends[0], got, sizeof(got) - 1);
		check_equal(strcmp(got, marks[leaver.way]), 0);
		check_equal(close(ends[0]) + close(ends[1]), 0);
	}
	check_equal(lseek(fileno(leaver.log), 0, SEEK_END), 0);
	check_equal(fclose(leaver.log), 0);
}

/* The numbers that the library has in the parent are asked for. */
static void
its_end_has_no_number_that_is_asked_for_or_a_files(void **state)
{
	struct leaver leaver = {.log = tmpfile(), .way = LEAVE_EXITS};
	struct ipc_worker_fd fds[32];
	unsigned int i;
	int ends[2];

	(void)state;
	check(leaver.log);
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	check(fprintf(leaver.log, "the parent's\n") > 0);
	for (i = 0; i < 32; i++)
		fds[i] = (struct ipc_worker_fd){
			.fd = ends[1], .as = fileno(leaver.log) + 1 + (int)i};
	leaver.mark = fds[0].as;
	expect_left(&leaver, fds, 32);
	check_equal(close(ends[0]) + close(ends[1]), 0);
	check_equal(lseek(fileno(leaver.log), 0, SEEK_END), 0);
	check_equal(fclose(leaver.log), 0);
}

static void
wait_to_be_killed(void *arg)
{
	(void)arg;
	alarm(TEST_SECONDS_MAX);
	for (;;)
		(void)pause();
}

/* Until the end. */
static int
hear_two(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	int n = 0;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	while (ipc_channel_recv(channel, &message, -1) == 0)
		n++;
	return n == 2 ? 0 : 1;
}

/* With time enough that SIGTERM would be seen. */
static void
stop_is_seen_though_another_process_holds_the_parents_end(void **state)
{
	struct ipc_worker *worker = spawn(WORKER(.run = hear_two));
	pid_t helper = child_start(wait_to_be_killed, NULL);
	int status;

	(void)state;
	/* What was sent before is received before the end. */
	send_text(ipc_worker_channel(worker), "one");
	send_text(ipc_worker_channel(worker), "one more");
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS / 2, &status), 0);
	check_equal(status, 0);
	ipc_worker_free(worker);
	check_equal(kill(helper, SIGKILL), 0);
	child_end_by(helper, SIGKILL);
}

/* Tells of a child that lives on, in a group or out of it. */
struct family {
	bool worker_leaves_group;
	bool ends; /* by itself */
};

static int
have_a_child(struct ipc_channel *channel, void *arg)
{
	const struct family *family = arg;
	struct ipc_message message;
	char byte = 0;
	int ends[2];
	pid_t pid;

	alarm(TEST_SECONDS_MAX);
	check_equal(pipe(ends), 0);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		check_equal(write(ends[1], &byte, 1), 1);
		wait_to_be_killed(NULL);
	}
	check_equal(read(ends[0], &byte, 1), 1);
	if (family->worker_leaves_group) {
		/* To one of another child's: no way back, but away. */
		pid_t other = fork();

		check(other >= 0);
		if (other == 0)
			wait_to_be_killed(NULL);
		check_equal(setpgid(other, other), 0);
		check_equal(setpgid(0, other), 0);
		check_equal(kill(other, SIGKILL), 0);
	}
	send_text(channel, "ready");
	if (family->ends)
		return 0;
	while (ipc_channel_recv(channel, &message, -1) == 0)
		;
	return 0;
}

/* The worker's children become this process's, by prctl(2). Return: the signal that ended one. */
static int
signal_of_orphan(void)
{
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	int status, signal = 0;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0) {
		check(now_ms() < give_up_ms);
		if (pid)
			signal = WTERMSIG(status);
		else
			sleep_ms(1);
	}
	return signal;
}

static void
end_a_family(struct family *family, int group, bool is_freed)
{
	struct ipc_worker *worker =
		spawn(WORKER(.run = have_a_child, .arg = family, .group = group, .kill_group = 1));

	expect_text(ipc_worker_channel(worker), "ready");
	if (family->ends)
		check_equal(ipc_worker_wait(worker, TEST_WAIT_MS, NULL), 0);
	else if (!is_freed)
		check_equal(ipc_worker_stop(worker, 0, NULL), 0);
	ipc_worker_free(worker);
	check_equal(signal_of_orphan(), SIGKILL);
}

static void
use_families(void *arg)
{
	struct family family;
	int group, way;

	(void)arg;
	check_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	for (group = IPC_WORKER_GROUP_OWN; group <= IPC_WORKER_GROUP_SESSION; group++) {
		for (way = 0; way < 4; way++) {
			family = (struct family){.ends = way & 1,
				.worker_leaves_group = group == IPC_WORKER_GROUP_OWN && way & 2};
			end_a_family(&family, group, way & 2);
		}
	}
}

static void
its_group_is_killed_with_it_or_dies_with_it(void **state)
{
	(void)state;
	child_end(child_start(use_families, NULL));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		worker_test(a_wait_tells_how_it_ended_and_tells_it_again),
		worker_test(what_it_used_is_known),
		worker_test(a_wait_for_one_that_lives_is_in_vain),
		worker_test(signals_reach_it_until_it_has_ended),
		worker_test(where_the_status_is_lost_it_is_unknown),
		worker_test(where_sigchld_is_ignored_the_status_is_unknown),
		worker_test(one_that_ends_with_its_channel_is_stopped_by_that),
		worker_test(one_that_stays_is_stopped_by_signals),
		worker_test(one_that_sleeps_by_sigstop_is_stopped_too),
		worker_test(free_ends_what_lives),
		worker_test(a_forked_child_does_nothing_to_it),
		worker_test(each_death_is_seen_while_siblings_live),
		worker_test(last_words_are_there_after_death),
		worker_test(one_that_exits_ends_as_one_that_returns),
		worker_test(its_end_has_no_number_that_is_asked_for_or_a_files),
		worker_test(stop_is_seen_though_another_process_holds_the_parents_end),
		worker_test(its_group_is_killed_with_it_or_dies_with_it),
	};

	/* Of whoever exits; the workers are not to call it. */
	check_equal(atexit(mark_parent), 0);
	return run_group(tests);
}
