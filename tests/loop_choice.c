/* SPDX-License-Identifier: MIT */

/* The choice of an engine: what works is taken, what was asked for is obeyed, and the reason is
   told; on machines that refuse io_uring in every way that there is. */

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop_support.h"

#define VARIABLE "LIBIPC_ENGINE"

/* What a loop says to who insists on io_uring: 0 or -errno. */
static int refusal;

/* What a child is to try. */
struct trial {
	enum ipc_engine engine;
	const char *variable; /* NULL: not set */
	long nr;              /* a system call that fails, or ends the process; 0: none */
	unsigned int action;
	int expected;       /* of the creation */
	const char *taken;  /* the engine; NULL: any */
	const char *words;  /* in the reason */
	rlim_t memlock_max; /* 0 with limits: none at all */
	bool limits;
};

/* Let a system call fail or end this process. */
static void
filter_install(long nr, unsigned int action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	check_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	check_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* Its memory is to be counted, as any user's is. */
static void
limit_memlock(rlim_t max)
{
	struct rlimit limit = {.rlim_cur = max, .rlim_max = max};

	check_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (geteuid() == 0) {
		check_equal(setgroups(0, NULL), 0);
		check_equal(setresgid(65534, 65534, 65534), 0);
		check_equal(setresuid(65534, 65534, 65534), 0);
	}
}

static void
write_one(struct ipc_watch *watch, unsigned int events, void *user)
{
	(void)events;
	++*(unsigned int *)user;
	ipc_watch_stop(watch);
}

/* Whatever it is, it carries a message with a descriptor, and watches. */
static void
expect_working(struct ipc_loop *loop)
{
	int fd = eventfd(1, EFD_CLOEXEC);
	struct ipc_message message = {.n_fds = 1, .fds = &fd, .size = 4, .data = "abc"};
	struct ear ears[2] = {{.loop = NULL}};
	struct ipc_channel *a, *b;
	struct ipc_watch *watch;
	unsigned int seen = 0;

	check(fd >= 0);
	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	ear_attach(&ears[0], loop, a);
	ear_attach(&ears[1], loop, b);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_watch_start(&watch, loop, fd, POLLIN, write_one, &seen), 0);
	turn_until(loop, ears[1].messages == 1 && seen == 1);
	check_equal(strcmp(ears[1].text, "abc"), 0);
	ipc_channel_close(a);
	turn_until(loop, ears[1].closeds == 1);
	ipc_channel_close(b);
	check_equal(close(fd), 0);
}

static void
try_it(void *arg)
{
	const struct trial *trial = arg;
	struct ipc_loop_options options = {.size = sizeof(options), .engine = trial->engine};
	unsigned int open = descriptors_open();
	struct ipc_loop *loop = NULL;

	check_equal(trial->variable ? setenv(VARIABLE, trial->variable, 1) : unsetenv(VARIABLE), 0);
	if (trial->limits)
		limit_memlock(trial->memlock_max);
	if (trial->nr)
		filter_install(trial->nr, trial->action);
	check_equal(ipc_loop_create(&loop, &options), trial->expected);
	if (!loop) {
		check_equal(descriptors_open(), open);
		return;
	}
	if (trial->taken)
		check_equal(strcmp(ipc_loop_engine(loop), trial->taken), 0);
	if (trial->words && !strstr(ipc_loop_engine_reason(loop), trial->words)) {
		(void)fprintf(stderr, "\"%s\" is not in \"%s\"\n", trial->words,
			ipc_loop_engine_reason(loop));
		check(false);
	}
	check(*ipc_loop_engine_reason(loop));
	expect_working(loop);
	ipc_loop_destroy(loop);
	check_equal(descriptors_open(), open);
}

static void
in_child(struct trial trial)
{
	child_end(child_start(try_it, &trial));
}

static void
what_works_is_taken(void **state)
{
	(void)state;
	in_child((struct trial){
		.taken = refusal ? "epoll" : "io_uring",
		.words = refusal ? strerror(-refusal) : NULL,
	});
}

static void
what_was_asked_for_is_taken(void **state)
{
	(void)state;
	in_child((struct trial){.engine = IPC_ENGINE_EPOLL, .taken = "epoll"});
	in_child((struct trial){
		.engine = IPC_ENGINE_URING, .expected = refusal, .taken = "io_uring"});
}

static void
the_environment_overrides(void **state)
{
	static const enum ipc_engine engines[] = {
		IPC_ENGINE_AUTO, IPC_ENGINE_URING, IPC_ENGINE_EPOLL};
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		in_child((struct trial){.engine = engines[i],
			.variable = "epoll",
			.taken = "epoll",
			.words = VARIABLE});
		in_child((struct trial){.engine = engines[i],
			.variable = "uring",
			.expected = refusal,
			.taken = "io_uring",
			.words = VARIABLE});
	}
}

static void
another_word_in_the_environment_is_refused(void **state)
{
	static const char *const others[] = {
		"io_uring", "EPOLL", "epoll ", " uring", "auto", "0", "poll", "epollepoll"};
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		in_child((struct trial){.variable = others[i], .expected = -EINVAL});
		in_child((struct trial){
			.engine = IPC_ENGINE_EPOLL, .variable = others[i], .expected = -EINVAL});
	}
}

/* A sandbox, in one of its ways. */
static void
refused_by(long nr, int error, const char *words)
{
	struct trial trial = {
		.nr = nr,
		.action = SECCOMP_RET_ERRNO | (unsigned int)error,
		.taken = "epoll",
		.words = words,
	};

	in_child(trial);
	/* Who insists is told what the kernel says. */
	trial.engine = IPC_ENGINE_URING;
	trial.expected = -error;
	in_child(trial);
	trial.engine = IPC_ENGINE_EPOLL;
	trial.variable = "uring";
	in_child(trial);
	trial.variable = NULL;
	trial.expected = 0;
	trial.words = NULL;
	in_child(trial);
}

static void
where_io_uring_is_forbidden_it_is_epoll(void **state)
{
	(void)state;
	refused_by(SYS_io_uring_setup, EPERM, "io_uring_setup: Operation not permitted");
	refused_by(SYS_io_uring_setup, EACCES, "io_uring_setup: Permission denied");
}

static void
where_there_is_no_io_uring_it_is_epoll(void **state)
{
	(void)state;
	refused_by(SYS_io_uring_setup, ENOSYS, "io_uring_setup: Function not implemented");
}

static void
where_io_uring_has_no_memory_it_is_epoll(void **state)
{
	(void)state;
	refused_by(SYS_io_uring_setup, ENOMEM, "io_uring_setup: Cannot allocate memory");
}

static void
where_io_uring_is_too_old_it_is_epoll(void **state)
{
	(void)state;
	refused_by(SYS_io_uring_setup, EINVAL, "io_uring_setup: Invalid argument");
}

static void
where_io_uring_can_be_made_but_not_used_it_is_epoll(void **state)
{
	(void)state;
	if (refusal) {
		test_lacks("io_uring");
		skip();
	}
	refused_by(SYS_io_uring_register, EPERM, "Operation not permitted");
	refused_by(SYS_io_uring_register, EINVAL, "Invalid argument");
	refused_by(SYS_io_uring_enter, EPERM, "Operation not permitted");
	refused_by(SYS_io_uring_enter, ENOSYS, "Function not implemented");
}

static const long io_uring_calls[] = {
	SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register};

static void
who_says_epoll_survives_where_io_uring_is_death(void **state)
{
	struct trial trial = {.action = SECCOMP_RET_KILL_PROCESS, .taken = "epoll"};
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		trial.nr = io_uring_calls[i];
		trial.engine = IPC_ENGINE_AUTO;
		trial.variable = "epoll";
		in_child(trial);
		trial.engine = IPC_ENGINE_URING;
		in_child(trial);
		trial.variable = NULL;
		trial.engine = IPC_ENGINE_EPOLL;
		in_child(trial);
	}
	/* It is, for who tries. */
	trial.nr = SYS_io_uring_setup;
	trial.engine = IPC_ENGINE_AUTO;
	child_end_by(child_start(try_it, &trial), SIGSYS);
}

static void
without_memory_to_lock_a_loop_works(void **state)
{
	static const rlim_t limits[] = {0, 4096, 16384, 65536, 262144, 8U << 20};
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		/* Kernels before 6.14 do not count a ring's memory. */
		in_child((struct trial){.limits = true, .memlock_max = limits[i]});
}

static void
without_memory_to_lock_the_reason_is_told(void *arg)
{
	struct ipc_loop *loop;

	(void)arg;
	check_equal(unsetenv(VARIABLE), 0);
	limit_memlock(0);
	check_equal(ipc_loop_create(&loop, NULL), 0);
	if (strcmp(ipc_loop_engine(loop), "epoll") == 0)
		check(strstr(ipc_loop_engine_reason(loop), "Cannot allocate memory"));
	else
		test_lacks("a limit of an io_uring's memory");
	ipc_loop_destroy(loop);
}

static void
a_lack_of_memory_to_lock_is_told(void **state)
{
	(void)state;
	if (refusal) {
		test_lacks("io_uring");
		skip();
	}
	child_end(child_start(without_memory_to_lock_the_reason_is_told, NULL));
}

/* As many loops as want to be: each of them works. */
static void
make_many(void *arg)
{
	enum { N = 60 };
	struct ipc_loop *loops[N];
	struct ipc_loop_options options = {.size = sizeof(options), .buffers = 8};
	unsigned int i;

	(void)arg;
	check_equal(unsetenv(VARIABLE), 0);
	limit_memlock(512U << 10);
	for (i = 0; i < N; i++)
		check_equal(ipc_loop_create(&loops[i], &options), 0);
	for (i = 0; i < N; i++)
		expect_working(loops[i]);
	for (i = 0; i < N; i++)
		ipc_loop_destroy(loops[i]);
}

static void
when_the_memory_to_lock_is_spent_more_loops_work(void **state)
{
	(void)state;
	child_end(child_start(make_many, NULL));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(what_works_is_taken),
		loop_test(what_was_asked_for_is_taken),
		loop_test(the_environment_overrides),
		loop_test(another_word_in_the_environment_is_refused),
		loop_test(where_io_uring_is_forbidden_it_is_epoll),
		loop_test(where_there_is_no_io_uring_it_is_epoll),
		loop_test(where_io_uring_has_no_memory_it_is_epoll),
		loop_test(where_io_uring_is_too_old_it_is_epoll),
		loop_test(where_io_uring_can_be_made_but_not_used_it_is_epoll),
		loop_test(who_says_epoll_survives_where_io_uring_is_death),
		loop_test(without_memory_to_lock_a_loop_works),
		loop_test(a_lack_of_memory_to_lock_is_told),
		loop_test(when_the_memory_to_lock_is_spent_more_loops_work),
	};

	/* These choose themselves. */
	if (unsetenv(VARIABLE) < 0)
		return EXIT_FAILURE;
	refusal = uring_refusal();
	return run_group(tests);
}
