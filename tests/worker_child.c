/* SPDX-License-Identifier: MIT */

/* What a worker begins with: its descriptors, signals and surroundings, as asked for and no others.
 */

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker_support.h"

#define TABLE_SIZE 4096

/* A user without privileges. */
#define NOBODY 65534

static int
compare_numbers(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The descriptors of this process that are open, ascending. Return: how many. */
static unsigned int
list_descriptors(int *ret_fds, unsigned int max)
{
	DIR *directory = opendir("/proc/self/fd");
	const struct dirent *entry;
	unsigned int n = 0;

	check(directory);
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
			continue;
		check(n < max);
		ret_fds[n++] = atoi(entry->d_name);
	}
	check_equal(closedir(directory), 0);
	qsort(ret_fds, n, sizeof(*ret_fds), compare_numbers);
	return n;
}

/* Add a line to a table: a number, and what it is. */
static void
add_line(char *table, int number, int fd, const char *what)
{
	size_t used = strlen(table);
	char link[32], target[256] = "";

	if (!what) {
		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		check(readlink(link, target, sizeof(target) - 1) > 0);
		what = target;
	}
	check(snprintf(table + used, TABLE_SIZE - used, "%d %s\n", number, what) <
		(int)(TABLE_SIZE - used));
}

/* Of a function the channel's number is none that can be foretold: it is left out. */
static void
send_table(struct ipc_channel *channel, bool is_program)
{
	char table[TABLE_SIZE] = "";
	unsigned int i, n;
	int fds[256];

	n = list_descriptors(fds, 256);
	for (i = 0; i < n; i++) {
		if (fds[i] != ipc_channel_fd(channel))
			add_line(table, fds[i], fds[i], NULL);
		else if (is_program)
			add_line(table, fds[i], -1, "the channel");
	}
	send_text(channel, table);
}

static int
tell_table(struct ipc_channel *channel, void *arg)
{
	(void)arg;
	check(ipc_channel_fd(channel) > STDERR_FILENO);
	send_table(channel, false);
	return 0;
}

static int
play_table(char **argv)
{
	struct ipc_channel *channel = inherited();

	(void)argv;
	send_table(channel, true);
	ipc_channel_close(channel);
	return 0;
}

static void
leave_out_channel(const char *table, char *ret_rest)
{
	const char *what = strstr(table, " the channel"), *line = what;

	check(what);
	while (line > table && line[-1] != '\n')
		line--;
	memcpy(ret_rest, table, (size_t)(line - table));
	(void)strcpy(ret_rest + (line - table), strchr(what, '\n') + 1);
}

/* Both a program and a function have this table. */
static void
expect_table(const struct ipc_worker_fd *fds, unsigned int n, const char *table)
{
	struct ipc_worker *program = spawn(WORKER(.argv = ROLE("table"), .fds = fds, .n_fds = n));
	struct ipc_worker *function = spawn(WORKER(.run = tell_table, .fds = fds, .n_fds = n));
	char rest[TABLE_SIZE];

	expect_text(ipc_worker_channel(program), table);
	expect_exit(program, 0);
	leave_out_channel(table, rest);
	expect_text(ipc_worker_channel(function), rest);
	expect_exit(function, 0);
	ipc_worker_free(program);
	ipc_worker_free(function);
}

static void
add_stdio(char *table)
{
	int fd;

	for (fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) == 0)
			add_line(table, fd, fd, NULL);
}

static void
without_more_it_has_standard_descriptors_and_its_end(void **state)
{
	struct ipc_worker *sibling = spawn(WORKER(.run = echo));
	char table[TABLE_SIZE] = "";
	/* Inherited by whoever does not see to it. */
	int stray = open("/dev/zero", O_RDONLY), high = fcntl(stray, F_DUPFD, 700);

	(void)state;
	check(stray >= 0 && high >= 700);
	add_stdio(table);
	add_line(table, 3, -1, "the channel");
	expect_table(NULL, 0, table);
	check_equal(close(stray) + close(high), 0);
	ipc_worker_free(sibling);
}

/* Two descriptors that differ, at these numbers. */
static void
open_at(int a, int b)
{
	int ends[2];

	check_equal(pipe2(ends, O_CLOEXEC), 0);
	check_equal(dup3(ends[0], a, O_CLOEXEC), a);
	check_equal(dup3(ends[1], b, O_CLOEXEC), b);
	check_equal(close(ends[0]) + close(ends[1]), 0);
}

static void
numbers_can_be_swapped(void **state)
{
	const struct ipc_worker_fd swapped[] = {{34, 35}, {35, 34}};
	char table[TABLE_SIZE] = "";

	(void)state;
	open_at(34, 35);
	add_stdio(table);
	add_line(table, 3, -1, "the channel");
	add_line(table, 34, 35, NULL);
	add_line(table, 35, 34, NULL);
	expect_table(swapped, 2, table);
	check_equal(close(34) + close(35), 0);
}

static void
numbers_that_the_library_uses_are_free_to_choose(void **state)
{
	/* Among them those that the parent's ends, pidfd and the like are likely to have. */
	const struct ipc_worker_fd fds[] = {
		{34, 6}, {35, 3}, {34, 4}, {-1, 10}, {35, 8}, {34, 7}, {-1, 200}, {35, 9}};
	char table[TABLE_SIZE] = "";

	(void)state;
	open_at(34, 35);
	add_stdio(table);
	add_line(table, 3, 35, NULL);
	add_line(table, 4, 34, NULL);
	add_line(table, 5, -1, "the channel");
	add_line(table, 6, 34, NULL);
	add_line(table, 7, 34, NULL);
	add_line(table, 8, 35, NULL);
	add_line(table, 9, 35, NULL);
	add_line(table, 10, -1, "/dev/null");
	add_line(table, 200, -1, "/dev/null");
	expect_table(fds, 8, table);
	check_equal(close(34) + close(35), 0);
}

static void
standard_descriptors_can_be_redirected(void **state)
{
	const struct ipc_worker_fd fds[] = {{2, 1}, {34, 0}, {-1, 2}};
	char table[TABLE_SIZE] = "";

	(void)state;
	open_at(34, 35);
	add_line(table, 0, 34, NULL);
	add_line(table, 1, 2, NULL);
	add_line(table, 2, -1, "/dev/null");
	add_line(table, 3, -1, "the channel");
	expect_table(fds, 3, table);
	check_equal(close(34) + close(35), 0);
}

static void
a_standard_descriptor_that_is_close_on_exec_is_not_given(void **state)
{
	char table[TABLE_SIZE] = "";
	int saved = fcntl(0, F_DUPFD_CLOEXEC, 100), flags = fcntl(0, F_GETFD);

	(void)state;
	/* Also what the library opens itself can get the number. */
	check(saved >= 0);
	check_equal(close(0), 0);
	add_stdio(table);
	add_line(table, 3, -1, "the channel");
	expect_table(NULL, 0, table);
	check_equal(dup3(saved, 0, O_CLOEXEC), 0);
	expect_table(NULL, 0, table);
	check_equal(dup2(saved, 0), 0);
	check_equal(fcntl(0, F_SETFD, flags), 0);
	check_equal(close(saved), 0);
}

/* From now on close_range(2) is not there. */
static void
forbid_close_range(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = 4, .filter = filter};

	check_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	check_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	check_equal(syscall(SYS_close_range, 2000U, 2001U, 0U), -1);
	check_equal(errno, ENOSYS);
}

static void
spawn_without_close_range(void *arg)
{
	const struct ipc_worker_fd fds[] = {{-1, 5}};
	char table[TABLE_SIZE] = "";
	int i;

	(void)arg;
	forbid_close_range();
	/* So many that the list of them comes in pieces. */
	for (i = 0; i < 200; i++)
		check(open("/dev/zero", O_RDONLY) >= 0);
	add_stdio(table);
	add_line(table, 3, -1, "the channel");
	add_line(table, 5, -1, "/dev/null");
	expect_table(fds, 1, table);
}

static void
others_are_closed_without_close_range_too(void **state)
{
	(void)state;
	if (prctl(PR_GET_SECCOMP) < 0) {
		test_lacks("seccomp");
		skip();
	}
	child_end(child_start(spawn_without_close_range, NULL));
}

/*
 * Sends a line for each signal that is not at its default or is blocked, and then "done". What a
 * program has caught by then is its own doing, a sanitizer's.
 */
static int
tell_signals(struct ipc_channel *channel, void *arg)
{
	char line[64];
	struct sigaction action;
	sigset_t mask;
	bool is_program = arg;
	int signal;

	check_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
	for (signal = 1; signal <= SIGRTMAX; signal++) {
		if (sigaction(signal, NULL, &action) < 0)
			continue;
		if (!sigismember(&mask, signal) &&
			(is_program ? action.sa_handler != SIG_IGN : action.sa_handler == SIG_DFL))
			continue;
		(void)snprintf(line, sizeof(line), "signal %d", signal);
		send_text(channel, line);
	}
	send_text(channel, "done");
	return 0;
}

static int
play_signals(char **argv)
{
	struct ipc_channel *channel = inherited();

	(void)tell_signals(channel, argv);
	ipc_channel_close(channel);
	return 0;
}

static void
handle(int signal)
{
	(void)signal;
}

static void
signals_are_at_their_defaults_and_none_is_blocked(void **state)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN}, caught = {.sa_handler = handle};
	struct sigaction old[3];
	struct ipc_worker *worker;
	sigset_t all, before;
	int way;

	(void)state;
	check_equal(sigaction(SIGPIPE, &ignore, &old[0]), 0);
	check_equal(sigaction(SIGRTMIN + 1, &ignore, &old[1]), 0);
	check_equal(sigaction(SIGUSR2, &caught, &old[2]), 0);
	check_equal(sigfillset(&all), 0);
	check_equal(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
	for (way = 0; way < 2; way++) {
		worker = spawn(way ? WORKER(.run = tell_signals) : WORKER(.argv = ROLE("signals")));
		expect_text(ipc_worker_channel(worker), "done");
		expect_exit(worker, 0);
		ipc_worker_free(worker);
	}
	check_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	check_equal(sigaction(SIGPIPE, &old[0], NULL), 0);
	check_equal(sigaction(SIGRTMIN + 1, &old[1], NULL), 0);
	check_equal(sigaction(SIGUSR2, &old[2], NULL), 0);
}

static void
signals_to_be_ignored_are(void **state)
{
	const int ignored[] = {SIGINT, SIGUSR1};
	struct ipc_worker *worker;
	char line[64];
	int way, i;

	(void)state;
	for (way = 0; way < 2; way++) {
		worker = spawn(
			way ? WORKER(.run = tell_signals, .ignored = ignored, .n_ignored = 2)
			    : WORKER(.argv = ROLE("signals"), .ignored = ignored, .n_ignored = 2));
		for (i = 0; i < 2; i++) {
			(void)snprintf(line, sizeof(line), "signal %d", ignored[i]);
			expect_text(ipc_worker_channel(worker), line);
		}
		expect_text(ipc_worker_channel(worker), "done");
		expect_exit(worker, 0);
		ipc_worker_free(worker);
	}
}

/* Sends the process group and the session. */
static int
tell_group(struct ipc_channel *channel, void *arg)
{
	const pid_t ids[3] = {getpid(), getpgrp(), getsid(0)};
	const struct ipc_message message = {.data = ids, .size = sizeof(ids)};

	(void)arg;
	check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
	return 0;
}

static int
play_group(char **argv)
{
	struct ipc_channel *channel = inherited();

	(void)tell_group(channel, argv);
	ipc_channel_close(channel);
	return 0;
}

static void
its_group_and_session_are_as_asked_for(void **state)
{
	struct ipc_message message;
	struct ipc_worker *worker;
	int way, group;
	pid_t ids[3];

	(void)state;
	for (way = 0; way < 2; way++) {
		for (group = IPC_WORKER_GROUP_PARENT; group <= IPC_WORKER_GROUP_SESSION; group++) {
			worker = spawn(way ? WORKER(.run = tell_group, .group = group)
					   : WORKER(.argv = ROLE("group"), .group = group));
			check_equal(ipc_channel_recv(
					    ipc_worker_channel(worker), &message, TEST_WAIT_MS),
				0);
			check_equal(message.size, sizeof(ids));
			memcpy(ids, message.data, sizeof(ids));
			check_equal(ids[1], group == IPC_WORKER_GROUP_PARENT ? getpgrp() : ids[0]);
			check_equal(ids[2], group == IPC_WORKER_GROUP_SESSION ? ids[0] : getsid(0));
			expect_exit(worker, 0);
			ipc_worker_free(worker);
		}
	}
}

/* Sends what the tests below ask for. */
static int
tell_surroundings(struct ipc_channel *channel, void *arg)
{
	char text[512], directory[256];
	gid_t groups[8] = {0};
	struct rlimit limit;
	int signal, n_groups;
	uid_t uids[3];
	gid_t gids[3];
	cpu_set_t cpus;

	(void)arg;
	check(getcwd(directory, sizeof(directory)));
	check_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	check_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	check_equal(getresuid(&uids[0], &uids[1], &uids[2]), 0);
	check_equal(getresgid(&gids[0], &gids[1], &gids[2]), 0);
	n_groups = getgroups(8, groups);
	check_equal(prctl(PR_GET_PDEATHSIG, &signal), 0);
	(void)snprintf(text, sizeof(text), "%s %d %d cpus %d first %d", directory,
		(int)limit.rlim_cur, (int)limit.rlim_max, CPU_COUNT(&cpus), CPU_ISSET(0, &cpus));
	send_text(channel, text);
	(void)snprintf(text, sizeof(text), "%u %u %u / %u %u %u / %d: %u %u", uids[0], uids[1],
		uids[2], gids[0], gids[1], gids[2], n_groups, groups[0], groups[1]);
	send_text(channel, text);
	(void)snprintf(text, sizeof(text), "signal %d", signal);
	send_text(channel, text);
	return 0;
}

static int
play_surroundings(char **argv)
{
	struct ipc_channel *channel = inherited();

	(void)argv;
	(void)tell_surroundings(channel, NULL);
	ipc_channel_close(channel);
	return 0;
}

/* By both ways these come, but for those that are NULL. */
static void
expect_surroundings(const struct ipc_worker_options *options, const char *const texts[3])
{
	struct ipc_worker_options copy = *options;
	struct ipc_message message;
	struct ipc_worker *worker;
	int way, i;

	for (way = 0; way < 2; way++) {
		copy.argv = way ? NULL : ROLE("surroundings");
		copy.run = way ? tell_surroundings : NULL;
		worker = spawn(&copy);
		for (i = 0; i < 3; i++) {
			if (texts[i])
				expect_text(ipc_worker_channel(worker), texts[i]);
			else
				check_equal(ipc_channel_recv(ipc_worker_channel(worker), &message,
						    TEST_WAIT_MS),
					0);
		}
		expect_exit(worker, 0);
		ipc_worker_free(worker);
	}
}

static void
directory_limits_and_cpus_are_as_asked_for(void **state)
{
	const struct ipc_worker_limit limits[] = {
		{.resource = RLIMIT_NOFILE, .soft = 20, .hard = 30},
		{.resource = RLIMIT_CORE, .soft = 0, .hard = 0}};
	const unsigned int cpu = 0;
	const char *const texts[3] = {"/proc 20 30 cpus 1 first 1", NULL, "signal 0"};
	cpu_set_t cpus;

	(void)state;
	check_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	if (!CPU_ISSET(0, &cpus)) {
		test_lacks("CPU 0, which this process may not use");
		skip();
	}
	expect_surroundings(WORKER(.directory = "/proc", .limits = limits, .n_limits = 2,
				    .cpus = &cpu, .n_cpus = 1),
		texts);
}

/* A folder on the way to the library may be root's alone. */
static bool
is_within_nobodys_reach(const char *path)
{
	int status;
	pid_t pid = fork();

	check(pid >= 0);
	if (pid == 0)
		_exit(setresuid(NOBODY, NOBODY, NOBODY) < 0 || access(path, R_OK) < 0);
	check_equal(waitpid(pid, &status, 0), pid);
	return status == 0;
}

static void
the_user_is_as_asked_for(void **state)
{
	Dl_info library;
	const gid_t groups[] = {7, 8};
	const struct ipc_worker_user user = {
		.uid = NOBODY, .gid = 1234, .groups = groups, .n_groups = 2};
	const struct ipc_worker_user alone = {.uid = NOBODY, .gid = NOBODY};
	const char *const texts[3] = {
		NULL, "65534 65534 65534 / 1234 1234 1234 / 2: 7 8", "signal 15"};
	const char *const alones[3] = {
		NULL, "65534 65534 65534 / 65534 65534 65534 / 0: 0 0", "signal 0"};

	(void)state;
	if (geteuid() != 0) {
		test_lacks("root, who may change the user");
		skip();
	}
	check(dladdr((void *)(uintptr_t)ipc_worker_spawn, &library));
	if (!is_within_nobodys_reach(library.dli_fname)) {
		test_lacks("a build that other users may read");
		skip();
	}
	/* The signal is lost by whoever asks for it before the user is changed. */
	expect_surroundings(WORKER(.user = &user, .parent_death_signal = SIGTERM), texts);
	expect_surroundings(WORKER(.user = &alone), alones);
	/* Of this process nothing has changed, of none of its threads. */
	check_equal(geteuid(), 0);
}

static void
use_no_privileges(void *arg)
{
	const struct ipc_worker_user root = {.uid = 0};
	const struct ipc_worker_limit limit = {
		.resource = RLIMIT_NOFILE, .soft = 1, .hard = (uint64_t)-2};
	struct ipc_worker *worker;

	(void)arg;
	if (geteuid() == 0)
		check_equal(setresuid(NOBODY, NOBODY, NOBODY), 0);
	check_equal(ipc_worker_spawn(&worker, WORKER(.run = echo, .user = &root)), -EPERM);
	check_equal(ipc_worker_spawn(&worker, WORKER(.run = echo, .limits = &limit, .n_limits = 1)),
		-EPERM);
	check_equal(ipc_worker_spawn(&worker,
			    WORKER(.argv = (char *const *)(const char *const[]){"true", NULL},
				    .user = &root)),
		-EPERM);
	expect_no_children();
}

static void
who_may_not_change_the_user_or_raise_limits_is_told(void **state)
{
	(void)state;
	child_end(child_start(use_no_privileges, NULL));
}

static int
wait_for_ever(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	(void)arg;
	alarm(TEST_SECONDS_MAX);
	(void)pause();
	return 1;
}

/* A parent of its own, which dies with a worker left. */
static int
be_killed_with_a_worker(struct ipc_channel *channel, void *arg)
{
	const struct ipc_worker_options *options = arg;
	struct ipc_worker *worker = spawn(options);
	pid_t pid = ipc_worker_pid(worker);
	struct ipc_message message = {.data = &pid, .size = sizeof(pid)};

	check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
	(void)pause();
	return 0;
}

static void
the_parents_death_is_signalled(void **state)
{
	struct ipc_worker_options options =
		*WORKER(.run = wait_for_ever, .parent_death_signal = SIGKILL);
	struct ipc_worker *parent = spawn(WORKER(.run = be_killed_with_a_worker, .arg = &options));
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	struct ipc_message message;
	int pidfd;
	pid_t pid;

	(void)state;
	check_equal(ipc_channel_recv(ipc_worker_channel(parent), &message, TEST_WAIT_MS), 0);
	memcpy(&pid, message.data, sizeof(pid));
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	check(pidfd >= 0);
	check_equal(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0), 0);
	check_equal(ipc_worker_kill(parent, SIGKILL), 0);
	expect_killed(parent, SIGKILL);
	/* A zombie until its new parent reaps it: its descriptors are gone at once. */
	while (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0) {
		char path[64], state_line[256] = "";
		FILE *file;

		(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		file = fopen(path, "re");
		if (!file)
			break;
		check(fgets(state_line, sizeof(state_line), file) || ferror(file));
		check_equal(fclose(file), 0);
		if (strstr(state_line, ") Z "))
			break;
		check(now_ms() < give_up_ms);
		sleep_ms(1);
	}
	check_equal(close(pidfd), 0);
	ipc_worker_free(parent);
}

static const struct role roles[] = {
	{"table", play_table},
	{"signals", play_signals},
	{"group", play_group},
	{"surroundings", play_surroundings},
};

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		worker_test(without_more_it_has_standard_descriptors_and_its_end),
		worker_test(numbers_can_be_swapped),
		worker_test(numbers_that_the_library_uses_are_free_to_choose),
		worker_test(standard_descriptors_can_be_redirected),
		worker_test(a_standard_descriptor_that_is_close_on_exec_is_not_given),
		worker_test(others_are_closed_without_close_range_too),
		worker_test(signals_are_at_their_defaults_and_none_is_blocked),
		worker_test(signals_to_be_ignored_are),
		worker_test(its_group_and_session_are_as_asked_for),
		worker_test(directory_limits_and_cpus_are_as_asked_for),
		worker_test(the_user_is_as_asked_for),
		worker_test(who_may_not_change_the_user_or_raise_limits_is_told),
		worker_test(the_parents_death_is_signalled),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_group(tests);
}
