/* SPDX-License-Identifier: MIT */

/*
 * A program is started by a child that shares our memory until it executes: no page table is
 * copied, however large the parent is, and errors come back as they are. Such a child runs while
 * other threads hold locks: from its first step to the last it makes system calls alone, on what
 * was prepared before. A function's child is a fork, and does the same until it calls.
 *
 * A program's child has a copy of our memory where it becomes another user's. That user's processes
 * can stop it before it executes, and a parent whose memory is shared waits then, deaf to any
 * signal; and a change of credentials beside shared memory makes the parent undumpable. So it is
 * where the kernel is played by a program that does not share memory (valgrind, qemu-user). Such a
 * child, as a function's, tells by a report how it went, for which the parent has a deadline.
 */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "exec.h"
#include "function.h"
#include "privileges.h"
#include "spawn.h"
#include "sys.h"

/* Of the child that executes. It needs some 2 KiB; a sanitizer several times as much. */
#define STACK_SIZE (32U << 10)

/* How often to look for what no descriptor tells: that a child was stopped, or has executed. */
#define LOOK_MS 20

/* In which a child that was sent SIGKILL should have ended. It has hardly begun. */
#define UNDO_MS 1000
#define NAP_MS  1

/* A child in which execve(2) has not succeeded, as the kernel says in /proc (PF_FORKNOEXEC of
   linux/sched.h, the same since Linux 2.6). */
#define FLAG_NOT_EXECUTED 0x40

#define STDIO_N 3

#define DIRECTORY_BUFFER_SIZE 1024

/* What a child exits with that has told why. */
#define EXIT_NOT_STARTED 127

/* The first moves are the library's own. */
enum { MOVE_END, MOVE_REPORT, MOVE_FIRST };

struct move {
	int from; /* -1: /dev/null; in the child: where it is now */
	int as;
};

/* What a child has to do. */
struct plan {
	const struct ipc_worker_options *options;
	pid_t parent;
	int parents_end; /* of the channel; in the child it is closed */
	struct move *moves;
	unsigned int n_moves;
	int above; /* all numbers that a descriptor moves to */
	int *kept; /* those, ascending */
	unsigned int n_kept;
	bool becomes_another; /* user's */
	struct ipci_exec exec;
	char **environment; /* ends in the variable and NULL */
	char variable[sizeof(IPCI_INHERIT_VARIABLE) + 32];
	size_t variable_size; /* without the process id, which the child knows */
	cpu_set_t *cpus;
	size_t cpus_size;
	int error;
};

static bool
is_target(const struct move *moves, unsigned int n, int number)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (moves[i].as == number)
			return true;
	return false;
}

static int
check_fds(const struct ipc_worker_fd *fds, unsigned int n)
{
	unsigned int i, k;

	if (n > IPC_WORKER_FDS_LIMIT || (n && !fds))
		return -EINVAL;
	for (i = 0; i < n; i++) {
		if (fds[i].fd < -1 || fds[i].as < 0)
			return -EINVAL;
		for (k = 0; k < i; k++)
			if (fds[k].as == fds[i].as)
				return -EINVAL;
	}
	return 0;
}

static int
check_ignored(const int *signals, unsigned int n)
{
	unsigned int i;

	if (n > IPC_WORKER_IGNORED_LIMIT || (n && !signals))
		return -EINVAL;
	for (i = 0; i < n; i++)
		if (signals[i] <= 0 || signals[i] >= _NSIG || signals[i] == SIGKILL ||
			signals[i] == SIGSTOP)
			return -EINVAL;
	return 0;
}

/* One that is in its parent's group cannot be killed with it. */
static int
check_group(const struct ipc_worker_options *options)
{
	if (options->group < IPC_WORKER_GROUP_PARENT || options->group > IPC_WORKER_GROUP_SESSION)
		return -EINVAL;
	return options->kill_group && options->group == IPC_WORKER_GROUP_PARENT ? -EINVAL : 0;
}

int
ipci_spawn_check(const struct ipc_worker_options *options)
{
	unsigned int i;

	if (!options->argv == !options->run || (options->argv && !options->argv[0]))
		return -EINVAL;
	if (options->n_limits > IPC_WORKER_LIMITS_LIMIT || (options->n_limits && !options->limits))
		return -EINVAL;
	if (options->n_cpus > IPC_WORKER_CPU_LIMIT || (options->n_cpus && !options->cpus))
		return -EINVAL;
	for (i = 0; i < options->n_cpus; i++)
		if (options->cpus[i] >= IPC_WORKER_CPU_LIMIT)
			return -EINVAL;
	if (options->user && options->user->n_groups && !options->user->groups)
		return -EINVAL;
	if (options->parent_death_signal < 0 || options->parent_death_signal >= _NSIG)
		return -EINVAL;
	if (check_ignored(options->ignored, options->n_ignored) < 0 || check_group(options) < 0)
		return -EINVAL;
	return check_fds(options->fds, options->n_fds);
}

/* The lowest number for the library's own that none of the first n moves has. */
static int
own_number(const struct plan *plan, unsigned int n)
{
	int number = STDIO_N;

	while (is_target(plan->moves, n, number))
		number++;
	return number;
}

static bool
is_claimed(const struct ipc_worker_options *options, int number)
{
	unsigned int i;

	for (i = 0; i < options->n_fds; i++)
		if (options->fds[i].as == number)
			return true;
	return number < STDIO_N;
}

/* Have a descriptor of ours at a number that no descriptor of the worker's shall have, and that is
   ours alone in this process. */
static int
keep_clear(const struct ipc_worker_options *options, int *fd)
{
	int moved;

	while (is_claimed(options, *fd)) {
		moved = ipci_sys_dup_above(*fd, IPCI_MAX(*fd + 1, STDIO_N));
		if (moved < 0)
			/* So says the kernel of a number over the limit. */
			return moved == -EINVAL ? -EMFILE : moved;
		(void)ipci_sys_close(*fd);
		*fd = moved;
	}
	return 0;
}

static int
compare_numbers(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * A program's end and report get the lowest numbers that are left. A function's stay where they
 * are: no stream of the parent's (FILE) has their numbers, so that nothing that the function's
 * process writes by one, knowingly or not, goes into the channel.
 */
static void
plan_own(struct plan *plan, int end, int report)
{
	struct move *moves = plan->moves;

	moves[MOVE_END] = (struct move){.from = end, .as = -1};
	moves[MOVE_REPORT] = (struct move){.from = report, .as = -1};
	if (plan->options->run) {
		moves[MOVE_END].as = end;
		moves[MOVE_REPORT].as = report;
		return;
	}
	moves[MOVE_END].as = own_number(plan, plan->n_moves);
	if (report >= 0)
		moves[MOVE_REPORT].as = own_number(plan, plan->n_moves);
}

/* Where each descriptor goes, and which numbers stay. */
static int
plan_descriptors(struct plan *plan, int end, int report)
{
	const struct ipc_worker_options *options = plan->options;
	struct move *moves;
	unsigned int i;
	int number;

	plan->moves = moves = calloc(MOVE_FIRST + options->n_fds, sizeof(*plan->moves));
	plan->kept = calloc(MOVE_FIRST + options->n_fds + STDIO_N, sizeof(*plan->kept));
	if (!moves || !plan->kept)
		return -ENOMEM;

	moves[MOVE_END].as = moves[MOVE_REPORT].as = -1;
	for (i = 0; i < options->n_fds; i++)
		moves[MOVE_FIRST + i] = (struct move){options->fds[i].fd, options->fds[i].as};
	plan->n_moves = MOVE_FIRST + options->n_fds;
	plan_own(plan, end, report);

	plan->above = STDIO_N;
	for (i = 0; i < plan->n_moves; i++) {
		if (moves[i].as == INT_MAX)
			return -EMFILE;
		if (moves[i].as >= 0)
			plan->kept[plan->n_kept++] = moves[i].as;
		if (moves[i].as != moves[i].from)
			plan->above = IPCI_MAX(plan->above, moves[i].as + 1);
	}
	/* One that the parent made close-on-exec is nobody's standard output. */
	for (number = 0; number < STDIO_N; number++)
		if (!is_target(moves, plan->n_moves, number) && ipci_sys_get_cloexec(number) == 0)
			plan->kept[plan->n_kept++] = number;
	qsort(plan->kept, plan->n_kept, sizeof(*plan->kept), compare_numbers);
	return 0;
}

static bool
is_our_variable(const char *entry)
{
	return strncmp(entry, IPCI_INHERIT_VARIABLE "=", sizeof(IPCI_INHERIT_VARIABLE)) == 0;
}

/* The environment with our variable, and without another's. */
static int
plan_environment(struct plan *plan)
{
	char *const *from = plan->options->envp ? plan->options->envp : environ;
	size_t n = 0, i;

	while (from && from[n])
		n++;
	plan->environment = calloc(n + 2, sizeof(*plan->environment));
	if (!plan->environment)
		return -ENOMEM;
	for (i = 0, n = 0; from && from[i]; i++)
		if (!is_our_variable(from[i]))
			plan->environment[n++] = from[i];
	plan->variable_size = (size_t)snprintf(plan->variable, sizeof(plan->variable),
		IPCI_INHERIT_VARIABLE "=%d:", plan->moves[MOVE_END].as);
	plan->environment[n] = plan->variable;
	return 0;
}

static int
plan_cpus(struct plan *plan)
{
	const struct ipc_worker_options *options = plan->options;
	unsigned int i, n = 0;

	for (i = 0; i < options->n_cpus; i++)
		n = IPCI_MAX(n, options->cpus[i] + 1);
	if (!n)
		return 0;
	plan->cpus_size = CPU_ALLOC_SIZE(n);
	plan->cpus = calloc(1, plan->cpus_size);
	if (!plan->cpus)
		return -ENOMEM;
	for (i = 0; i < options->n_cpus; i++)
		CPU_SET_S(options->cpus[i], plan->cpus_size, plan->cpus);
	return 0;
}

static void
plan_finish(struct plan *plan)
{
	free(plan->moves);
	free(plan->kept);
	free(plan->environment);
	free(plan->cpus);
	ipci_exec_finish(&plan->exec);
}

static int
plan_init(struct plan *plan, const struct ipc_worker_options *options, int end, int report)
{
	int r;

	*plan = (struct plan){.options = options, .parent = getpid()};
	plan->becomes_another = options->user && ipci_privileges_differ(options->user);
	r = plan_descriptors(plan, end, report);
	if (r == 0 && options->argv)
		r = ipci_exec_init(&plan->exec, options->argv);
	if (r == 0 && options->argv)
		r = plan_environment(plan);
	if (r == 0)
		r = plan_cpus(plan);
	if (r < 0)
		plan_finish(plan);
	return r;
}

/*
 * In the child.
 */

/* Have a descriptor out of the way of all numbers that are asked for. */
static int
lift(int fd, int above)
{
	int opened = -1, r;

	if (fd < 0) {
		opened = fd = ipci_sys_open("/dev/null", O_RDWR);
		if (fd < 0)
			return fd;
	}
	r = ipci_sys_dup_above(fd, above);
	if (opened >= 0)
		(void)ipci_sys_close(opened);
	/* So says the kernel of a number over the limit. */
	return r == -EINVAL ? -EMFILE : r;
}

static bool
is_kept(const struct plan *plan, int number)
{
	unsigned int i;

	for (i = 0; i < plan->n_kept; i++)
		if (plan->kept[i] == number)
			return true;
	return false;
}

/* The number that a directory's entry is; -1 for the dots. */
static int
entry_number(const struct dirent64 *entry)
{
	const char *text = entry->d_name;
	int number = 0;

	if (*text == '.')
		return -1;
	for (; *text; text++)
		number = number * 10 + (*text - '0');
	return number;
}

/* Close all others one by one, as /proc names them. */
static int
close_listed(const struct plan *plan)
{
	_Alignas(struct dirent64) unsigned char buffer[DIRECTORY_BUFFER_SIZE];
	int directory = ipci_sys_open("/proc/self/fd", O_RDONLY | O_DIRECTORY), number;
	const struct dirent64 *entry;
	ssize_t size, at;

	if (directory < 0)
		return directory;
	while ((size = ipci_sys_read_directory(directory, buffer, sizeof(buffer))) > 0) {
		for (at = 0; at < size; at += entry->d_reclen) {
			entry = (const void *)(buffer + at);
			number = entry_number(entry);
			if (number >= 0 && number != directory && !is_kept(plan, number))
				(void)ipci_sys_close(number);
		}
	}
	(void)ipci_sys_close(directory);
	return (int)size;
}

/* Close all others. */
static int
close_rest(const struct plan *plan)
{
	int first = 0, r = 0;
	unsigned int i;

	for (i = 0; i < plan->n_kept && r == 0; i++) {
		if (plan->kept[i] > first)
			r = ipci_sys_close_range(first, plan->kept[i] - 1);
		first = plan->kept[i] + 1;
	}
	if (r == 0)
		r = ipci_sys_close_range(first, INT_MAX);
	/* A kernel before 5.9, or a seccomp filter. */
	return r < 0 ? close_listed(plan) : 0;
}

/* Have a descriptor at its number, to be kept by a program. */
static int
place(struct move *move)
{
	int r;

	if (move->as == move->from) {
		r = ipci_sys_set_cloexec(move->as, false);
		return IPCI_MIN(r, 0);
	}
	r = ipci_sys_dup_to(move->from, move->as);
	if (r < 0)
		return r;
	move->from = move->as;
	return 0;
}

/* Exactly the descriptors that are asked for. Any may have a number that another one shall get. */
static int
move_descriptors(struct plan *plan)
{
	struct move *move, *end = plan->moves + plan->n_moves;
	int r;

	/* One that has its number already is in nobody's way: no other gets that. */
	for (move = plan->moves; move < end; move++) {
		if (move->as < 0 || move->as == move->from)
			continue;
		r = lift(move->from, plan->above);
		if (r < 0)
			return r;
		move->from = r;
	}
	for (move = plan->moves; move < end; move++) {
		if (move->as < 0)
			continue;
		r = place(move);
		if (r < 0)
			return r;
	}
	return close_rest(plan);
}

/* In this order: limits are raised, and a CPU set is chosen, by who may. */
static int
change_surroundings(const struct plan *plan)
{
	const struct ipc_worker_options *options = plan->options;
	const struct ipc_worker_limit *limit = options->limits;
	unsigned int i;
	int r = options->directory ? ipci_sys_chdir(options->directory) : 0;

	for (i = 0; i < options->n_limits && r == 0; i++, limit++)
		r = ipci_sys_set_limit(limit->resource, limit->soft, limit->hard);
	if (r == 0 && plan->cpus)
		r = ipci_sys_set_cpus(plan->cpus, plan->cpus_size);
	if (r == 0 && options->group != IPC_WORKER_GROUP_PARENT)
		r = ipci_sys_join_group(options->group == IPC_WORKER_GROUP_SESSION);
	return r;
}

static int
reset_signals(const struct ipc_worker_options *options)
{
	unsigned int i;
	int r = 0;

	ipci_sys_signals_default();
	for (i = 0; i < options->n_ignored && r == 0; i++)
		r = ipci_sys_signal_ignore(options->ignored[i]);
	return r;
}

/* A change of the user takes the signal away, so this comes after it. */
static int
follow_parent(const struct ipc_worker_options *options, pid_t parent)
{
	pid_t now;
	int r;

	if (!options->parent_death_signal)
		return 0;
	r = ipci_sys_set_parent_death_signal(options->parent_death_signal);
	if (r < 0)
		return r;
	/* It may have died before; nobody is there to be told. 0: it is in another namespace. */
	now = getppid();
	return now && now != parent ? -ESRCH : 0;
}

static int
set_up(struct plan *plan)
{
	int report, r = reset_signals(plan->options);

	if (r == 0)
		r = move_descriptors(plan);
	report = plan->moves[MOVE_REPORT].as;
	if (r == 0 && report >= 0)
		r = IPCI_MIN(ipci_sys_set_cloexec(report, true), 0);
	return r < 0 ? r : change_surroundings(plan);
}

/* The last step: from here on processes of the user's can stop or kill this one. */
static int
become(const struct plan *plan)
{
	const struct ipc_worker_options *options = plan->options;
	int r = 0;

	if (options->user)
		r = ipci_privileges_become(options->user, plan->becomes_another);
	if (r == 0 && options->no_new_privs)
		r = ipci_sys_set_no_new_privs();
	return r < 0 ? r : follow_parent(options, plan->parent);
}

/* snprintf() is not for a child that shares our memory. */
static void
append_number(char *text, unsigned int number)
{
	unsigned int digits = 1, rest;

	for (rest = number; rest >= 10; rest /= 10)
		digits++;
	text[digits] = '\0';
	for (; digits--; number /= 10)
		text[digits] = (char)('0' + number % 10);
}

/* Return: why the program is not executed. */
static int
execute(struct plan *plan)
{
	int r = set_up(plan);

	if (r == 0)
		r = become(plan);
	if (r < 0)
		return r;
	append_number(plan->variable + plan->variable_size, (unsigned int)getpid());
	ipci_sys_signals_unblock();
	return ipci_exec(&plan->exec, plan->environment);
}

static int
sharing_child(void *arg)
{
	struct plan *plan = arg;

	plan->error = execute(plan);
	return EXIT_NOT_STARTED;
}

/* The parent has its pidfd once its hello is here. Return: 0, or -EPIPE: it has given up instead.
 */
static int
await_hello(const struct plan *plan)
{
	pid_t parent;
	int r;

	do {
		r = ipci_sys_poll(plan->moves[MOVE_END].from, POLLIN, LOOK_MS);
		if (r)
			continue;
		/* Others may hold the parent's end: they would keep its death from being seen. */
		parent = getppid();
		if (parent && parent != plan->parent)
			return -EPIPE;
	} while (r == 0 || r == -EINTR);
	if (r < 0)
		return r;
	return r & POLLHUP ? -EPIPE : 0;
}

static void
report(const struct plan *plan, int result)
{
	(void)ipci_sys_eventfd_tell(plan->moves[MOVE_REPORT].from, (uint64_t)(1 - result));
}

/* A program that was executed has closed the report. */
static int
copied_child(void *arg)
{
	struct plan *plan = arg;
	int r;

	(void)ipci_sys_close(plan->parents_end);
	r = await_hello(plan);
	if (r == 0)
		r = execute(plan);
	report(plan, r);
	return EXIT_NOT_STARTED;
}

static int
open_end(struct plan *plan, struct ipc_channel **ret_channel)
{
	int end = plan->moves[MOVE_END].from;
	int r = ipc_channel_open(ret_channel, end, plan->options->channel);

	if (r == 0)
		ipci_channel_trust(*ret_channel);
	if (r == 0 && plan->options->envp)
		environ = (char **)plan->options->envp;
	return r;
}

static int
begin_function(struct plan *plan, struct ipc_channel **ret_channel)
{
	int r;

	(void)ipci_sys_close(plan->parents_end);
	ipci_function_forget();
	r = await_hello(plan);
	if (r == 0)
		r = set_up(plan);
	if (r == 0)
		r = open_end(plan, ret_channel);
	if (r == 0)
		r = ipci_function_begin(*ret_channel);
	return r < 0 ? r : become(plan);
}

static _Noreturn void
function_child(struct plan *plan)
{
	const struct ipc_worker_options *options = plan->options;
	struct ipc_channel *channel;
	int r = begin_function(plan, &channel);

	report(plan, r);
	if (r < 0)
		_exit(EXIT_NOT_STARTED);
	(void)ipci_sys_close(plan->moves[MOVE_REPORT].from);
	ipci_sys_signals_unblock();
	ipci_function_end(options->run(channel, options->arg));
}

/*
 * In the parent.
 */

/* Is there waiting by pidfd? An older clone(2) takes no notice of a flag that it does not know. */
static int
probe_pidfd(void)
{
	struct ipci_sys_end end;

	return ipci_sys_reap(INT_MAX, &end) == -EBADF ? 0 : -ENOSYS;
}

/*
 * The stack of a child that executes, one for the process: to map one, to fault it in and to unmap
 * it takes longer than all else that is done before the clone. A page at its low end is out of
 * bounds. NULL while a thread has it: another one that spawns maps its own.
 */
static _Atomic(char *) kept_stack;

static size_t
stack_size(void)
{
	return ipci_sys_pages(STACK_SIZE) + ipci_sys_pages(1);
}

static char *
take_stack(void)
{
	char *stack = atomic_exchange(&kept_stack, NULL);

	return stack ? stack : ipci_sys_map_stack(stack_size());
}

static void
keep_stack(char *stack)
{
	ipci_sys_unmap(atomic_exchange(&kept_stack, stack), stack_size());
}

__attribute__((destructor)) static void
unmap_stack(void)
{
	keep_stack(NULL);
}

/* A handler of ours must not run in the child, which may share all that it would touch. */
static pid_t
clone_child(int (*child)(void *arg), void *arg, enum ipci_sys_child kind, int *ret_pidfd)
{
	char *stack = take_stack();
	sigset_t before;
	pid_t pid;

	if (!stack)
		return -ENOMEM;
	ipci_sys_signals_block(&before);
	pid = ipci_sys_clone(child, arg, stack + stack_size(), kind, ret_pidfd);
	ipci_sys_signals_restore(&before);
	keep_stack(stack);
	return pid;
}

/* Have a child reaped that has ended or is about to. A tracer may be told of its end first, and
   take its time. */
static void
reap_soon(int pidfd)
{
	int64_t until_ns = ipci_sys_now_ns() + UNDO_MS * INT64_C(1000000);
	struct ipci_sys_end end;

	while (ipci_sys_reap(pidfd, &end) == -EAGAIN && ipci_sys_now_ns() < until_ns)
		if (ipci_sys_poll(pidfd, POLLIN, NAP_MS))
			(void)ipci_sys_poll(-1, 0, NAP_MS);
}

static int
trial_child(void *arg)
{
	*(volatile bool *)arg = true;
	return 0;
}

/*
 * Does a child that shall share our memory do so? Where a program plays the kernel it may have a
 * copy, and the parent need not wait for it. Asked once, by a child that does nothing else: from
 * one that is to be a worker it could not be taken back.
 */
static bool
can_share(void)
{
	static _Atomic enum { UNKNOWN, SHARES, COPIES } known;
	volatile bool seen = false;
	int pidfd;
	pid_t pid;

	if (known != UNKNOWN)
		return known == SHARES;
	/* The worker's own child will say so, and what there was no memory for. */
	if (probe_pidfd() < 0)
		return true;
	pid = clone_child(trial_child, (void *)(uintptr_t)&seen, IPCI_SYS_CHILD_TRIAL, &pidfd);
	if (pid == -EAGAIN || pid == -ENOMEM || pid == -EMFILE || pid == -ENFILE)
		return true;
	if (pid > 0) {
		known = seen ? SHARES : COPIES;
		reap_soon(pidfd);
		(void)ipci_sys_close(pidfd);
	} else {
		known = COPIES;
	}
	return known == SHARES;
}

bool
ipci_spawn_shares(const struct ipc_worker_options *options)
{
	/* A change of the group alone is a change of credentials. */
	return options->argv && !options->user && can_share();
}

static int
start_sharing(struct plan *plan, struct ipci_spawned *ret_spawned)
{
	int pidfd;
	pid_t pid = clone_child(sharing_child, plan, IPCI_SYS_CHILD_SHARES, &pidfd);

	if (pid < 0)
		return pid;
	if (plan->error < 0) {
		reap_soon(pidfd);
		(void)ipci_sys_close(pidfd);
		return plan->error;
	}
	*ret_spawned = (struct ipci_spawned){.pid = pid, .pidfd = pidfd, .report = -1};
	return 0;
}

int
ipci_spawn_program(
	const struct ipc_worker_options *options, int end, struct ipci_spawned *ret_spawned)
{
	struct plan plan;
	int r = probe_pidfd();

	if (r == 0)
		r = plan_init(&plan, options, end, -1);
	if (r < 0)
		return r;
	r = start_sharing(&plan, ret_spawned);
	plan_finish(&plan);
	return r;
}

static void
end_unwatched(pid_t pid)
{
	int64_t until_ns = ipci_sys_now_ns() + UNDO_MS * INT64_C(1000000);

	/* It waits for the hello: the id is still its own. */
	(void)ipci_sys_kill(pid, SIGKILL);
	while (ipci_sys_reap_pid(pid) == -EAGAIN && ipci_sys_now_ns() < until_ns)
		(void)ipci_sys_poll(-1, 0, NAP_MS);
}

/* Takes the child's end: that makes room for the pidfd. */
static int
fork_child(struct plan *plan, int *end, int *ret_pidfd)
{
	sigset_t before;
	pid_t pid;
	int r;

	ipci_sys_signals_block(&before);
	pid = ipci_sys_fork();
	if (pid == 0 && plan->options->argv)
		_exit(copied_child(plan));
	if (pid == 0)
		function_child(plan);
	ipci_sys_signals_restore(&before);
	if (pid < 0)
		return pid;

	ipci_fds_close_some(end, 1);
	r = ipci_sys_pidfd_open(pid);
	if (r < 0) {
		end_unwatched(pid);
		return r;
	}
	*ret_pidfd = r;
	return pid;
}

/* A program's child does what a fork's does, and leaves the handlers of pthread_atfork(3) alone. */
static int
start_copied(struct plan *plan, int *end, struct ipci_spawned *ret_spawned)
{
	pid_t pid = -EINVAL;
	int pidfd;

	if (plan->options->argv)
		pid = clone_child(copied_child, plan, IPCI_SYS_CHILD_COPY, &pidfd);
	if (pid == -EINVAL)
		pid = fork_child(plan, end, &pidfd);
	if (pid < 0)
		return pid;
	*ret_spawned = (struct ipci_spawned){
		.pid = pid,
		.pidfd = pidfd,
		.report = -1,
		.executes = plan->options->argv,
	};
	return 0;
}

/* A function's report is one descriptor, an eventfd. Of a pipe the parent sees the end, too. */
static int
open_report(const struct ipc_worker_options *options, int ret_sides[2])
{
	int r;

	if (options->argv)
		return ipci_sys_pipe(ret_sides);
	r = ipci_sys_eventfd();
	if (r < 0)
		return r;
	ret_sides[1] = r;
	return keep_clear(options, &ret_sides[1]);
}

int
ipci_spawn_copied(
	const struct ipc_worker_options *options, int ends[2], struct ipci_spawned *ret_spawned)
{
	int sides[2] = {-1, -1}, r = probe_pidfd();
	struct plan plan;

	if (r == 0 && options->run)
		r = keep_clear(options, &ends[1]);
	if (r == 0)
		r = open_report(options, sides);
	if (r == 0)
		r = plan_init(&plan, options, ends[1], sides[1]);
	if (r == 0) {
		plan.parents_end = ends[0];
		r = start_copied(&plan, &ends[1], ret_spawned);
		plan_finish(&plan);
	}
	ipci_fds_close_some(&ends[1], 1);
	if (r == 0) {
		/* Of an eventfd both use the one. */
		ret_spawned->report = options->argv ? sides[0] : sides[1];
		sides[options->argv ? 0 : 1] = -1;
	}
	ipci_fds_close_some(sides, 2);
	return r;
}

/* Return: whether either has something to tell, in a while; or -errno. */
static int
await_report(const struct ipci_spawned *spawned)
{
	int64_t now_ns = ipci_sys_now_ns(), until_ns = now_ns + LOOK_MS * INT64_C(1000000);
	int r, left_ms = LOOK_MS;

	for (;;) {
		r = ipci_sys_poll_either(spawned->report, spawned->pidfd, left_ms);
		if (r != -EINTR)
			return r;
		left_ms = (int)((until_ns - ipci_sys_now_ns()) / 1000000);
		if (left_ms <= 0)
			return 0;
	}
}

/* The flags are the seventh field behind the name, which may have any characters. */
static bool
has_executed(pid_t pid)
{
	char path[sizeof("/proc//stat") + 3 * sizeof(pid)] = "/proc/", text[512], *field;
	int i;

	append_number(path + strlen(path), (unsigned int)pid);
	strcat(path, "/stat");
	if (ipci_sys_read_file(path, text, sizeof(text)) < 0)
		return false;
	field = strrchr(text, ')');
	for (i = 0; field && i < 7; i++)
		field = strchr(field + 1, ' ');
	return field && !(strtoul(field, NULL, 10) & FLAG_NOT_EXECUTED);
}

/*
 * Time counts by looks, not by the clock: a parent that was stopped itself has not waited.
 * Return: 0: it was told, or has ended; -ETIMEDOUT.
 */
static int
await_start(const struct ipci_spawned *spawned)
{
	int left_ms, r;

	for (left_ms = IPC_WORKER_START_MS; left_ms > 0; left_ms -= LOOK_MS) {
		r = await_report(spawned);
		if (r)
			return IPCI_MIN(r, 0);
		/* A process that another thread has forked meanwhile may hold the report. */
		if (spawned->executes && has_executed(spawned->pid))
			return 0;
		if (ipci_sys_is_stopped(spawned->pidfd)) {
			(void)ipci_sys_pidfd_kill(spawned->pidfd, SIGCONT);
			left_ms = IPCI_MIN(left_ms, IPC_WORKER_STOPPED_MS);
		}
	}
	return -ETIMEDOUT;
}

int
ipci_spawn_confirm(struct ipci_spawned *spawned)
{
	/* So it stays where a report has ended untold, as it does with execve(2). */
	uint64_t told = 1;
	int r = await_start(spawned);

	if (r == 0)
		r = ipci_sys_eventfd_take(spawned->report, &told);
	/* It has ended, killed by somebody: its death is there to be seen. */
	if (r == -EAGAIN)
		r = 0;
	if (r == 0)
		ipci_fds_close_some(&spawned->report, 1);
	return r < 0 ? r : 1 - (int)told;
}

void
ipci_spawn_undo(struct ipci_spawned *spawned)
{
	/* valgrind 3.19 does not know the first. It was not reaped: the id is its own. */
	if (ipci_sys_pidfd_kill(spawned->pidfd, SIGKILL) == -ENOSYS)
		(void)ipci_sys_kill(spawned->pid, SIGKILL);
	reap_soon(spawned->pidfd);
	ipci_fds_close_some(&spawned->pidfd, 1);
	ipci_fds_close_some(&spawned->report, 1);
}
