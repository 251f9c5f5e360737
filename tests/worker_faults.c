/* SPDX-License-Identifier: MIT */

/*
 * Each system call and each allocation that a worker's life takes fails once, at every place where
 * it is made, and from there on; in the parent, and in the child on its way to the program or the
 * function. The result is the one of the manual, nothing is left behind, and a second attempt
 * works.
 */

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults_each.h"
#include "loop_support.h"
#include "worker_support.h"

#define ARGUMENTS 2000

/* Turns in which a loop does what it can while something fails. */
#define TURNS 5

/* What is said when a call fails for good: perhaps nothing; always something. Those that pass by
   themselves nobody need hear of. */
enum outcome { MAY_FAIL, FAILS, WORKS };

struct errors {
	enum faulty call;
	int lasting[10], passing[3];
	enum outcome outcome; /* of those that last */
};

/* In the parent. */
static const struct errors birth_errors[] = {
	{FAULTY_SOCKETPAIR, {EMFILE, ENFILE, ENOMEM, ENOBUFS}, {EINTR}, FAILS},
	{FAULTY_GETSOCKOPT, {ENOBUFS}, {EINTR}, FAILS},
	{FAULTY_GETPEERNAME, {ENOBUFS}, {EINTR}, FAILS},
	{FAULTY_SETSOCKOPT, {ENOMEM, ENOBUFS}, {EINTR}, MAY_FAIL},
	{FAULTY_MADVISE, {EINVAL, ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_SEND, {ENOMEM, ENOBUFS}, {EINTR}, FAILS},
	{FAULTY_SENDMSG, {ENOMEM, ENOBUFS}, {EINTR}, FAILS},
	{FAULTY_EVENTFD, {EMFILE, ENFILE, ENODEV, ENOMEM}, {EINTR}, FAILS},
	{FAULTY_PIPE, {EMFILE, ENFILE, ENOMEM}, {EINTR}, FAILS},
	{FAULTY_CLONE, {EAGAIN, ENOMEM, EMFILE, ENFILE, ENOSPC, EPERM, ENOSYS}, {0}, FAILS},
	{FAULTY_FORK, {EAGAIN, ENOMEM, ENOSYS}, {0}, FAILS},
	{FAULTY_PIDFD_OPEN, {EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS}, {EINTR}, FAILS},
	{FAULTY_MPROTECT, {ENOMEM}, {0}, FAILS},
	{FAULTY_MMAP, {ENOMEM}, {0}, MAY_FAIL},
	{FAULTY_MALLOC, {ENOMEM}, {0}, FAILS},
	{FAULTY_CALLOC, {ENOMEM}, {0}, FAILS},
	{FAULTY_REALLOC, {ENOMEM}, {0}, FAILS},
};

/* In the child, or in both. */
static const struct errors child_errors[] = {
	/* Also how the parent of a slow child looks whether it has executed. */
	{FAULTY_OPEN, {ENOENT, EACCES, EMFILE, ENFILE, ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_FCNTL, {EMFILE, ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_DUP2, {EMFILE}, {EINTR}, FAILS},
	{FAULTY_CHDIR, {ENOENT, EACCES, ENOTDIR, ELOOP, EIO, ENOMEM}, {EINTR}, FAILS},
	{FAULTY_PRLIMIT, {EPERM, EINVAL}, {EINTR}, FAILS},
	{FAULTY_SCHED_SETAFFINITY, {EINVAL, EPERM, ENOMEM}, {EINTR}, FAILS},
	{FAULTY_SETGROUPS, {EPERM, EINVAL, ENOMEM}, {EINTR}, FAILS},
	{FAULTY_SETRESGID, {EPERM, EINVAL, ENOMEM}, {EINTR}, FAILS},
	{FAULTY_SETRESUID, {EPERM, EINVAL, EAGAIN, ENOMEM}, {EINTR}, FAILS},
	{FAULTY_PRCTL, {EINVAL}, {EINTR}, MAY_FAIL},
	{FAULTY_SETPGID, {EPERM}, {0}, FAILS},
	/* Not ENOEXEC: that is a script then, which the shell runs. */
	{FAULTY_EXEC, {ENOENT, EACCES, E2BIG, ENOMEM, EIO, ETXTBSY, EAGAIN}, {0}, FAILS},
	/* The child also looks whether its end is empty, and does not mind. */
	{FAULTY_POLL, {ENOMEM}, {EINTR}, MAY_FAIL},
};

/* Nobody need hear of these. */
static const struct errors harmless_errors[] = {
	{FAULTY_CLOSE, {EIO, EINTR}, {0}, WORKS},
	{FAULTY_CLOSE_RANGE, {ENOSYS, EPERM, EINVAL}, {EINTR}, WORKS},
	{FAULTY_SCHED_GETAFFINITY, {EINVAL, EPERM}, {0}, WORKS},
	{FAULTY_READ, {0}, {EINTR}, WORKS},
	{FAULTY_WRITE, {0}, {EINTR}, WORKS},
	{FAULTY_WAITID, {0}, {EINTR}, WORKS},
	{FAULTY_WAITPID, {0}, {EINTR}, WORKS},
};

/* Of a kernel before 5.9. */
static const struct errors list_errors[] = {
	/* Also how the parent of a slow child looks whether it has executed. */
	{FAULTY_OPEN, {ENOENT, EACCES, EMFILE, ENFILE, ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_GETDENTS, {ENOENT, ENOMEM}, {EINTR}, FAILS},
};

/* What becomes of a worker that lives. */
static const struct errors life_errors[] = {
	{FAULTY_FSTAT, {ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_FCNTL, {EMFILE, ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_EPOLL_CREATE, {EMFILE, ENFILE, ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_EPOLL_CTL, {ENOMEM, ENOSPC}, {EINTR}, MAY_FAIL},
	{FAULTY_EPOLL_WAIT, {0}, {EINTR}, MAY_FAIL},
	{FAULTY_URING_SUBMIT, {EAGAIN, EBUSY, ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_URING_WAIT, {0}, {EINTR}, MAY_FAIL},
	{FAULTY_SEND, {ENOMEM}, {EINTR}, MAY_FAIL},
	{FAULTY_RECV, {ENOMEM, ENOBUFS}, {EINTR, ECONNRESET}, MAY_FAIL},
	{FAULTY_RECVMSG, {ENOMEM, ENOBUFS}, {EINTR, ECONNRESET}, MAY_FAIL},
	{FAULTY_POLL, {ENOMEM, EINVAL}, {EINTR}, MAY_FAIL},
	{FAULTY_SHUTDOWN, {ENOTCONN}, {EINTR}, MAY_FAIL},
	{FAULTY_WAITID, {0}, {EINTR}, MAY_FAIL},
	{FAULTY_PIDFD_KILL, {0}, {EINTR}, MAY_FAIL},
	{FAULTY_READ, {0}, {EINTR}, MAY_FAIL},
	{FAULTY_WRITE, {0}, {EINTR}, MAY_FAIL},
	{FAULTY_CLOSE, {EIO, EINTR}, {0}, MAY_FAIL},
	{FAULTY_MMAP, {ENOMEM}, {0}, MAY_FAIL},
	{FAULTY_MALLOC, {ENOMEM}, {0}, MAY_FAIL},
	{FAULTY_CALLOC, {ENOMEM}, {0}, MAY_FAIL},
	{FAULTY_REALLOC, {ENOMEM}, {0}, MAY_FAIL},
};

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

/* A child is inside the library until here. */
static int
serve(struct ipc_channel *channel, void *arg)
{
	fault_inside(false);
	return echo(channel, arg);
}

/* Is that what a call may say while this fault is about? A ring that takes no requests is no memory
   for them. */
static void
check_refusal(int r)
{
	check(fault_count());
	if (r != -ENOMEM || !is_on_uring())
		check_equal(r, -fault_error());
}

/* A program's child shares our memory, or has a copy if it shall be a user's. */
enum way { WAY_FUNCTION, WAY_SHARED, WAY_COPIED, WAY_N };

static const char *const ways[WAY_N] = {[WAY_FUNCTION] = "a function",
	[WAY_SHARED] = "a program",
	[WAY_COPIED] = "a user's program"};

/* Everything that a child can be asked for. */
struct wishes {
	struct ipc_worker_fd fds[2];
	struct ipc_worker_limit limit;
	struct ipc_worker_user user;
	struct ipc_worker_options options;
	unsigned int cpus[64];
};

static const struct ipc_worker_options *
wish(struct wishes *wishes, enum way way)
{
	/* More than a small stack has room for. */
	static const char *argv[ARGUMENTS + 1] = {"/proc/self/exe", "echo"};
	unsigned int i;

	for (i = 2; i < ARGUMENTS; i++)
		argv[i] = "";

	*wishes = (struct wishes){
		.fds = {{.fd = -1, .as = 7}, {.fd = STDERR_FILENO, .as = 9}},
		.limit = {.resource = RLIMIT_CORE},
		.user = {.uid = geteuid(), .gid = getegid()},
	};
	for (i = 0; i < 64; i++)
		wishes->cpus[i] = i;
	wishes->options = *WORKER(.group = IPC_WORKER_GROUP_OWN, .fds = wishes->fds, .n_fds = 2,
		.limits = &wishes->limit, .n_limits = 1, .cpus = wishes->cpus, .n_cpus = 64,
		.directory = "/", .parent_death_signal = SIGKILL);
	/* Nobody else has no groups. */
	if (geteuid() == 0 && way != WAY_SHARED)
		wishes->options.user = &wishes->user;
	if (way != WAY_FUNCTION)
		wishes->options.argv = (char *const *)(uintptr_t)argv;
	else
		wishes->options.run = serve;
	return &wishes->options;
}

/* What happens to a worker. */
struct use {
	bool spawns; /* it begins under the fault, which else meets one that lives */
	enum way way;
	enum outcome outcome;
	bool gives_up; /* it is freed after the first refusal, not asked again */
	enum { END_FREED, END_DIED, END_STOPPED, END_TERMINATED, END_KILLED, END_N } end;
};

static void
spawn_under_fault(const struct use *use)
{
	struct wishes wishes;
	const struct ipc_worker_options *options = wish(&wishes, use->way);
	struct ipc_worker *worker = NULL;
	int r = LIBRARY(ipc_worker_spawn(&worker, options));

	check(r < 0 || use->outcome != FAILS || !fault_count());
	if (r < 0) {
		check(use->outcome != WORKS);
		check_refusal(r);
		check(!worker);
		expect_no_children();
		fault_pass();
		check_equal(LIBRARY(ipc_worker_spawn(&worker, options)), 0);
	}
	fault_pass();
	expect_echo(worker);
	check(!LIBRARY(ipc_worker_free(worker)));
}

struct life {
	const struct use *use;
	struct ipc_loop *loop;
	struct ipc_worker *worker;
	unsigned int messages, closeds, dieds;
};

/* Callbacks are ours: nothing fails in them. */
static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct life *life = user;

	(void)channel;
	fault_inside(false);
	check_equal(message->size, 5);
	check(!life->closeds);
	life->messages++;
	fault_inside(true);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct life *life = user;

	(void)channel;
	fault_inside(false);
	check(reason == 0 || reason == -fault_error());
	check(!life->dieds);
	life->closeds++;
	fault_inside(true);
}

static void
on_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	struct life *life = user;

	fault_inside(false);
	check(worker == life->worker);
	check(WIFSIGNALED(end->status));
	check_equal(WTERMSIG(end->status), SIGUSR1);
	life->dieds++;
	fault_inside(true);
}

static const struct ipc_worker_handler handler = {
	.channel = {.message = on_message, .closed = on_closed},
	.died = on_died,
};

static int
attach(struct life *life)
{
	return ipc_worker_attach(life->loop, life->worker, &handler, life);
}

static int
detach(struct life *life)
{
	return ipc_worker_detach(life->loop, life->worker);
}

static int
say(struct life *life)
{
	const struct ipc_message message = {.data = "echo", .size = 5};

	return ipc_channel_send(ipc_worker_channel(life->worker), &message, 0);
}

static int
look(struct life *life)
{
	return ipc_worker_wait(life->worker, 0, NULL);
}

static int
wait_a_moment(struct life *life)
{
	return ipc_worker_wait(life->worker, 1, NULL);
}

static int
signal_it(struct life *life)
{
	return ipc_worker_kill(life->worker, SIGUSR1);
}

/* Of the graces, one is longer than any worker takes that looks at its channel. */
static int
stop(struct life *life)
{
	static const int graces_ms[END_N] = {
		[END_STOPPED] = TEST_WAIT_MS, [END_TERMINATED] = 3, [END_KILLED] = 0};
	int status, r;

	r = ipc_worker_stop(life->worker, graces_ms[life->use->end], &status);
	if (r == 0 && life->use->end == END_STOPPED)
		check_equal(status, 0);
	return r;
}

/* Return: whether the worker is used on: what was refused is tried again, or not. */
static bool
insist(struct life *life, int (*step)(struct life *life), int result)
{
	int r = LIBRARY(step(life));

	if (r == result)
		return true;
	check_refusal(r);
	if (life->use->gives_up)
		return false;
	fault_pass();
	check_equal(LIBRARY(step(life)), result);
	return true;
}

static bool
turn_to(struct life *life, const unsigned int *number)
{
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	unsigned int turns;
	int r;

	for (turns = 0; !*number; turns++) {
		check(now_ms() < give_up_ms);
		if (turns >= TURNS && life->use->gives_up && fault_count())
			return false;
		if (turns >= TURNS && fault_count())
			fault_pass();
		r = LIBRARY(ipc_loop_turn(life->loop, 1));
		if (r < 0)
			check_refusal(r);
	}
	return true;
}

/* Return: whether the worker is used on. */
static bool
live(struct life *life)
{
	return insist(life, attach, 0) && insist(life, say, 0) && turn_to(life, &life->messages) &&
	       insist(life, detach, 0) && insist(life, look, -EAGAIN) &&
	       insist(life, wait_a_moment, -ETIMEDOUT) && insist(life, attach, 0);
}

static void
end(struct life *life)
{
	switch (life->use->end) {
	case END_FREED:
		return;
	case END_DIED:
		if (!insist(life, signal_it, 0) || !turn_to(life, &life->dieds))
			return;
		check_equal(life->closeds, 1);
		(void)insist(life, look, 0);
		return;
	default:
		(void)(insist(life, stop, 0) && insist(life, look, 0));
	}
}

/* Takes no notice of its channel's end. */
static int
stay(struct ipc_channel *channel, void *arg)
{
	fault_inside(false);
	(void)echo(channel, arg);
	(void)pause();
	return 1;
}

static void
live_under_fault(const struct use *use)
{
	struct life life = {.use = use};
	const bool stays = use->end == END_TERMINATED || use->end == END_KILLED;

	fault_hold(true);
	check_equal(
		LIBRARY(ipc_loop_create(&life.loop, LOOP_OPTIONS(.spin_us = -1, .buffers = 8))), 0);
	check_equal(
		LIBRARY(ipc_worker_spawn(&life.worker, WORKER(.run = stays ? stay : serve))), 0);
	/* With the first end all may fail, with the others their own part. */
	fault_hold(use->end != END_FREED);
	if (live(&life)) {
		fault_hold(false);
		end(&life);
	}
	check(!LIBRARY(ipc_worker_free(life.worker)));
	(void)LIBRARY(ipc_loop_destroy(life.loop));
}

static bool
use_worker(const struct fault *fault, const void *arg)
{
	const struct use *use = arg;

	fault_trial_begin(fault, ways[use->way]);
	if (use->spawns)
		spawn_under_fault(use);
	else
		live_under_fault(use);
	expect_no_children();
	return fault_trial_end();
}

static void
fail_worker(struct use *use, const struct errors *errors)
{
	const struct fault_trial worker_trial = {
		.run = use_worker, .arg = use, .full_step = 1, .quick_step = 7, .quick_one_in = 4};

	use->outcome = errors->outcome;
	fail_lasting(&worker_trial, errors->call, errors->lasting);
	use->outcome = WORKS;
	fail_passing(&worker_trial, errors->call, errors->passing);
}

static void
fail_spawns(const struct errors *errors, size_t n)
{
	struct use use = {.spawns = true};
	size_t i;

	for (i = 0; i < n; i++)
		for (use.way = 0; use.way < WAY_N; use.way++)
			fail_worker(&use, &errors[i]);
}

#define fail_all_spawns(table) fail_spawns((table), sizeof(table) / sizeof((table)[0]))

static void
without_any_fault(void **state)
{
	struct use use = {.spawns = true, .outcome = WORKS};

	(void)state;
	/* What the first program leaves to the others is not left behind. */
	use.way = WAY_SHARED;
	fault_arm(NULL);
	spawn_under_fault(&use);
	for (use.way = 0; use.way < WAY_N; use.way++)
		(void)use_worker(NULL, &use);
	/* A wrapper that never saw a call is one that the linker has not put in place. */
	check(fault_calls(FAULTY_CLONE) && fault_calls(FAULTY_FORK) && fault_calls(FAULTY_EXEC));
	check(fault_calls(FAULTY_WAITID) && fault_calls(FAULTY_PIDFD_OPEN));
	check(fault_calls(FAULTY_CLOSE_RANGE) && fault_calls(FAULTY_DUP2));
	check(fault_calls(FAULTY_CHDIR) && fault_calls(FAULTY_PRLIMIT));
	check(fault_calls(FAULTY_SCHED_SETAFFINITY) && fault_calls(FAULTY_PRCTL));
	check(fault_calls(FAULTY_MPROTECT) && fault_calls(FAULTY_PIDFD_KILL));
}

static void
what_fails_in_the_parent_is_an_error_of_spawn(void **state)
{
	(void)state;
	fail_all_spawns(birth_errors);
}

static void
what_fails_in_the_child_is_an_error_of_spawn(void **state)
{
	(void)state;
	fail_all_spawns(child_errors);
}

static void
what_is_harmless_fails_unnoticed(void **state)
{
	(void)state;
	fail_all_spawns(harmless_errors);
}

static void
without_close_range_descriptors_are_closed_or_it_fails(void **state)
{
	(void)state;
	fault_lack(FAULTY_CLOSE_RANGE, true);
	fail_all_spawns(list_errors);
	check(fault_calls(FAULTY_GETDENTS));
	fault_lack(FAULTY_CLOSE_RANGE, false);
}

/* A kernel before 5.4, or a filter. */
static void
without_waits_for_pidfds_it_is_refused(void **state)
{
	static const int errors[] = {EINVAL, ENOSYS, EPERM};
	struct fault fault = {.call = FAULTY_WAITID, .nth = 1, .onward = true};
	struct ipc_worker *worker = NULL;
	struct wishes wishes;
	enum way way;
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		for (way = 0; way < WAY_N; way++) {
			fault.error = errors[i];
			fault_arm(&fault);
			check_equal(
				LIBRARY(ipc_worker_spawn(&worker, wish(&wishes, way))), -ENOSYS);
			check(!worker);
			expect_no_children();
			check_equal(fault_memory(), 0);
		}
	}
}

static void
one_that_may_not_be_signalled_lives_on(void **state)
{
	const struct fault fault = {
		.call = FAULTY_PIDFD_KILL, .error = EPERM, .nth = 1, .onward = true};
	struct ipc_worker *worker = spawn(WORKER(.run = stay));
	int status;

	(void)state;
	expect_echo(worker);
	fault_arm(&fault);
	check_equal(LIBRARY(ipc_worker_kill(worker, SIGTERM)), -EPERM);
	check_equal(LIBRARY(ipc_worker_stop(worker, 0, &status)), -EPERM);
	check(!ipc_worker_channel(worker));
	check_equal(LIBRARY(ipc_worker_stop(worker, 2, &status)), -EPERM);
	check_equal(ipc_worker_wait(worker, 0, NULL), -EAGAIN);
	fault_pass();
	check_equal(LIBRARY(ipc_worker_stop(worker, 0, &status)), 0);
	check(WIFSIGNALED(status));
	check_equal(WTERMSIG(status), SIGKILL);
	ipc_worker_free(worker);
}

static void
free_waits_for_one_that_may_not_be_killed(void **state)
{
	const struct fault fault = {
		.call = FAULTY_PIDFD_KILL, .error = EPERM, .nth = 1, .onward = true};
	struct ipc_worker *worker = spawn(WORKER(.run = serve));

	(void)state;
	expect_echo(worker);
	fault_arm(&fault);
	/* It ends when its channel does. */
	check(!LIBRARY(ipc_worker_free(worker)));
	expect_no_children();
}

static void
lives_fail(void **state)
{
	const size_t n = sizeof(life_errors) / sizeof(life_errors[0]);
	struct use use = {.spawns = false};
	unsigned int end, gives_up;
	size_t i;

	(void)state;
	for (i = 0; i < n; i++) {
		for (end = 0; end < END_N; end++) {
			for (gives_up = 0; gives_up < 2; gives_up++) {
				use.end = end;
				use.gives_up = gives_up;
				fail_worker(&use, &life_errors[i]);
			}
		}
	}
}

static int
fault_end(void **state)
{
	fault_over();
	fault_lack(FAULTY_CLOSE_RANGE, false);
	return worker_test_end(state);
}

#define fault_test(function) cmocka_unit_test_setup_teardown(function, loop_test_begin, fault_end)

int
main(int argc, char **argv)
{
	static const struct CMUnitTest spawns[] = {
		fault_test(without_any_fault),
		fault_test(what_fails_in_the_parent_is_an_error_of_spawn),
		fault_test(what_fails_in_the_child_is_an_error_of_spawn),
		fault_test(what_is_harmless_fails_unnoticed),
		fault_test(without_close_range_descriptors_are_closed_or_it_fails),
		fault_test(without_waits_for_pidfds_it_is_refused),
		fault_test(one_that_may_not_be_signalled_lives_on),
		fault_test(free_waits_for_one_that_may_not_be_killed),
	};
	static const struct CMUnitTest lives[] = {
		fault_test(lives_fail),
	};
	int failed;

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	failed = run_group(spawns);
	return failed ? failed : run_on_engines(lives);
}
