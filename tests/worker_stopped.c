/* SPDX-License-Identifier: MIT */

/*
 * Workers that somebody stops, or that are slow, on the way to their program or function; and the
 * ways on which they are started where something plays the kernel that does not know all of it.
 *
 * What happens on the way happens in calls that the library makes there, by the linker's --wrap.
 * Each test is a process of its own: the library asks once how programs can be started.
 */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "worker_support.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

/* Another thread's workers are started within this time. */
#define SOON_MS 5000

/* What is to happen on the way. */
static int stops, sleeps_ms, lacks_flags, drops_flags;
static bool holds;
static pid_t holder;
/* How many were made; of children, too. */
static struct counts {
	int chdirs, clones, forks;
} * counts;

int __real_chdir(const char *path);
int __wrap_chdir(const char *path);
int
__wrap_chdir(const char *path)
{
	int left;

	__atomic_add_fetch(&counts->chdirs, 1, __ATOMIC_RELAXED);
	for (left = stops; left; left--)
		(void)kill(getpid(), SIGSTOP);
	if (sleeps_ms)
		sleep_ms(sleeps_ms);
	return __real_chdir(path);
}

int __real_clone(int (*child)(void *arg), void *stack_end, int flags, void *arg, ...);
int __wrap_clone(int (*child)(void *arg), void *stack_end, int flags, void *arg, ...);
int
__wrap_clone(int (*child)(void *arg), void *stack_end, int flags, void *arg, ...)
{
	va_list list;
	int *pidfd;

	va_start(list, arg);
	pidfd = va_arg(list, int *);
	va_end(list);
	__atomic_add_fetch(&counts->clones, 1, __ATOMIC_RELAXED);
	if (flags & lacks_flags) {
		errno = EINVAL;
		return -1;
	}
	/* As a fork of another thread, at the worst moment. */
	if (holds) {
		holder = fork();
		if (holder == 0)
			(void)pause();
	}
	return __real_clone(child, stack_end, flags & ~drops_flags, arg, pidfd);
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t
__wrap_fork(void)
{
	__atomic_add_fetch(&counts->forks, 1, __ATOMIC_RELAXED);
	return __real_fork();
}

static int
play_echo(char **argv)
{
	struct ipc_channel *channel = inherited();

	(void)argv;
	(void)echo(channel, NULL);
	ipc_channel_close(channel);
	return 0;
}

static const struct role roles[] = {{"echo", play_echo}};

static struct ipc_worker_options
options_of(bool is_program, const struct ipc_worker_user *user)
{
	static const char *argv[3];
	struct ipc_worker_options options = *WORKER(.directory = "/", .user = user);

	argv[0] = role_program();
	argv[1] = "echo";
	if (is_program)
		options.argv = (char *const *)argv;
	else
		options.run = echo;
	return options;
}

/* One that changes nothing, and has a program started by a copy all the same. */
static struct ipc_worker_user
same_user(void)
{
	return (struct ipc_worker_user){.uid = geteuid(), .gid = getegid()};
}

static void
expect_works(const struct ipc_worker_options *options)
{
	struct ipc_worker *worker = spawn(options);

	expect_echo(worker);
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, NULL), 0);
	expect_exit(worker, 0);
	ipc_worker_free(worker);
}

static void
expect_missing(const struct ipc_worker_user *user)
{
	char *missing[] = {(char *)"no-such-program", NULL};
	struct ipc_worker *worker = NULL;

	check_equal(ipc_worker_spawn(&worker, WORKER(.argv = missing, .user = user)), -ENOENT);
	check(!worker);
	expect_no_children();
}

static void
be_stopped_once(void *arg)
{
	struct ipc_worker_user user = same_user();
	struct ipc_worker_options options;
	int way;

	(void)arg;
	stops = 1;
	for (way = 0; way < 2; way++) {
		options = options_of(way, &user);
		expect_works(&options);
	}
	check_equal(counts->chdirs, 2);
}

static void
need_root(void)
{
	skip_without_pidfds();
	if (geteuid() == 0)
		return;
	test_lacks("root, who may set the supplementary groups");
	skip();
}

static void
one_that_is_stopped_is_continued(void **state)
{
	(void)state;
	need_root();
	child_end(child_start(be_stopped_once, NULL));
}

static void *
spawn_meanwhile(void *arg)
{
	int64_t start_ms = now_ms();
	struct ipc_worker *worker = spawn(WORKER(.run = echo));

	(void)arg;
	expect_echo(worker);
	ipc_worker_free(worker);
	worker = spawn(WORKER(.argv = ROLE("echo")));
	expect_echo(worker);
	ipc_worker_free(worker);
	check(now_ms() - start_ms < SOON_MS);
	return NULL;
}

static void
be_stopped_for_ever(void *arg)
{
	struct ipc_worker_user user = same_user();
	struct ipc_worker_options options;
	struct ipc_worker *worker = NULL;
	pthread_t thread;
	int64_t start_ms;
	int way;

	(void)arg;
	stops = -1;
	for (way = 0; way < 2; way++) {
		check_equal(pthread_create(&thread, NULL, spawn_meanwhile, NULL), 0);
		options = options_of(way, &user);
		start_ms = now_ms();
		check_equal(ipc_worker_spawn(&worker, &options), -ETIMEDOUT);
		check(!worker);
		check(now_ms() - start_ms < IPC_WORKER_START_MS / 2);
		check_equal(pthread_join(thread, NULL), 0);
		expect_no_children();
	}
}

static void
one_that_is_stopped_again_and_again_is_given_up(void **state)
{
	(void)state;
	need_root();
	child_end(child_start(be_stopped_for_ever, NULL));
}

static void
be_slow(void *arg)
{
	struct ipc_worker_user user = same_user();
	struct ipc_worker_options options;
	int way;

	(void)arg;
	sleeps_ms = 600;
	signals_start();
	for (way = 0; way < 2; way++) {
		options = options_of(way, &user);
		expect_works(&options);
	}
	(void)signals_stop();
}

static void
one_that_is_slow_is_waited_for(void **state)
{
	(void)state;
	need_root();
	child_end(child_start(be_slow, NULL));
}

static void
hang(void *arg)
{
	struct ipc_worker_user user = same_user();
	struct ipc_worker_options options = options_of(*(bool *)arg, &user);
	int64_t start_ms = now_ms();
	struct ipc_worker *worker;

	sleeps_ms = TEST_SECONDS_MAX * 1000;
	check_equal(ipc_worker_spawn(&worker, &options), -ETIMEDOUT);
	check(now_ms() - start_ms >= IPC_WORKER_START_MS);
	expect_no_children();
}

static void
one_that_does_not_come_is_given_up(void **state)
{
	bool is_program[2] = {false, true};
	pid_t children[2];
	int way;

	(void)state;
	need_root();
	for (way = 0; way < 2; way++)
		children[way] = child_start(hang, &is_program[way]);
	for (way = 0; way < 2; way++)
		child_end(children[way]);
}

static void
have_the_report_held(void *arg)
{
	struct ipc_worker_user user = same_user();
	struct ipc_worker_options options = options_of(true, &user);
	int64_t start_ms = now_ms();
	struct ipc_worker *worker;

	(void)arg;
	holds = true;
	worker = spawn(&options);
	check(now_ms() - start_ms < IPC_WORKER_START_MS / 2);
	expect_echo(worker);
	/* It ends with its channel, though the other process has a copy of that, too. */
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, NULL), 0);
	expect_exit(worker, 0);
	ipc_worker_free(worker);
	check_equal(kill(holder, SIGKILL), 0);
	child_end_by(holder, SIGKILL);
	expect_no_children();
}

static void
a_process_that_was_forked_meanwhile_does_not_matter(void **state)
{
	(void)state;
	need_root();
	child_end(child_start(have_the_report_held, NULL));
}

static void
share_memory(void *arg)
{
	struct ipc_worker_options options = options_of(true, NULL);

	(void)arg;
	counts->forks = 0;
	expect_works(&options);
	expect_missing(NULL);
	/* Nothing is copied; the first was on trial. */
	check_equal(counts->clones, 3);
	check_equal(counts->forks, 0);
}

static void
programs_share_memory_where_they_can(void **state)
{
	(void)state;
	skip_without_pidfds();
	child_end(child_start(share_memory, NULL));
}

/* As valgrind does. */
static void
copy_what_is_to_be_shared(void *arg)
{
	struct ipc_worker_options options = options_of(true, NULL);

	(void)arg;
	counts->forks = 0;
	drops_flags = CLONE_VM | CLONE_VFORK;
	expect_missing(NULL);
	expect_works(&options);
	check_equal(counts->forks, 0);
}

static void
where_memory_is_not_shared_programs_are_started_and_missed(void **state)
{
	(void)state;
	skip_without_pidfds();
	child_end(child_start(copy_what_is_to_be_shared, NULL));
}

/* As qemu-user does. */
static void
refuse_a_pidfd(void *arg)
{
	struct ipc_worker_options options = options_of(true, NULL);

	(void)arg;
	counts->forks = 0;
	lacks_flags = CLONE_PIDFD;
	expect_missing(NULL);
	expect_works(&options);
	check_equal(counts->forks, 2);
}

static void
where_clone_is_refused_programs_are_started_and_missed(void **state)
{
	(void)state;
	skip_without_pidfds();
	child_end(child_start(refuse_a_pidfd, NULL));
}

static int
begin(void **state)
{
	memset(counts, 0, sizeof(*counts));
	return worker_test_begin(state);
}

#define stopped_test(function) cmocka_unit_test_setup_teardown(function, begin, worker_test_end)

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		stopped_test(one_that_is_stopped_is_continued),
		stopped_test(one_that_is_stopped_again_and_again_is_given_up),
		stopped_test(one_that_is_slow_is_waited_for),
		stopped_test(one_that_does_not_come_is_given_up),
		stopped_test(a_process_that_was_forked_meanwhile_does_not_matter),
		stopped_test(programs_share_memory_where_they_can),
		stopped_test(where_memory_is_not_shared_programs_are_started_and_missed),
		stopped_test(where_clone_is_refused_programs_are_started_and_missed),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	counts = mmap(
		NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return 1;
	return run_group(tests);
}
