/* SPDX-License-Identifier: MIT */

/*
 * A program is started by a child that shares our memory until it executes: no page table is
 * copied, however large the parent is, and errors come back as they are. Such a child runs while
 * other threads hold locks: from its first step to the last it makes system calls alone, on what
 * was prepared before. A function's child is a fork, and does the same until it calls.
 */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "spawn.h"
#include "sys.h"

/* Of the child that executes: execvpe() has a path on it, 4 KiB, and for a script a copy of argv,
   for which there is room if it has no more entries. */
#define STACK_SIZE (32U << 10)
#define STACK_ARGV 1024U

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
	struct move *moves;
	unsigned int n_moves;
	int above; /* all numbers that the child will have */
	int *kept; /* those, ascending */
	unsigned int n_kept;
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

static int
compare_numbers(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
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

	moves[MOVE_END] = (struct move){.from = end, .as = -1};
	moves[MOVE_REPORT] = (struct move){.from = report, .as = -1};
	for (i = 0; i < options->n_fds; i++)
		moves[MOVE_FIRST + i] = (struct move){options->fds[i].fd, options->fds[i].as};
	plan->n_moves = MOVE_FIRST + options->n_fds;
	moves[MOVE_END].as = own_number(plan, plan->n_moves);
	if (report >= 0)
		moves[MOVE_REPORT].as = own_number(plan, plan->n_moves);

	for (i = 0; i < plan->n_moves; i++)
		if (moves[i].as >= 0)
			plan->kept[plan->n_kept++] = moves[i].as;
	/* One that the parent made close-on-exec is nobody's standard output. */
	for (number = 0; number < STDIO_N; number++)
		if (!is_target(moves, plan->n_moves, number) && ipci_sys_get_cloexec(number) == 0)
			plan->kept[plan->n_kept++] = number;
	qsort(plan->kept, plan->n_kept, sizeof(*plan->kept), compare_numbers);
	number = plan->kept[plan->n_kept - 1];
	if (number == INT_MAX)
		return -EMFILE;
	plan->above = IPCI_MAX(number + 1, STDIO_N);
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
}

static int
plan_init(struct plan *plan, const struct ipc_worker_options *options, int end, int report)
{
	int r;

	*plan = (struct plan){.options = options, .parent = getpid()};
	r = plan_descriptors(plan, end, report);
	if (r == 0)
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

/* Exactly the descriptors that are asked for. Any may have a number that another one shall get. */
static int
move_descriptors(struct plan *plan)
{
	struct move *move, *end = plan->moves + plan->n_moves;
	int r;

	for (move = plan->moves; move < end; move++) {
		if (move->as < 0)
			continue;
		r = lift(move->from, plan->above);
		if (r < 0)
			return r;
		move->from = r;
	}
	for (move = plan->moves; move < end; move++) {
		if (move->as < 0)
			continue;
		r = ipci_sys_dup_to(move->from, move->as);
		if (r < 0)
			return r;
		move->from = move->as;
	}
	return close_rest(plan);
}

/* In this order: limits are raised, and a CPU set is chosen, by who may. */
static int
change_surroundings(const struct ipc_worker_options *options, const struct plan *plan)
{
	const struct ipc_worker_limit *limit = options->limits;
	const struct ipc_worker_user *user = options->user;
	unsigned int i;
	int r = options->directory ? ipci_sys_chdir(options->directory) : 0;

	for (i = 0; i < options->n_limits && r == 0; i++, limit++)
		r = ipci_sys_set_limit(limit->resource, limit->soft, limit->hard);
	if (r == 0 && plan->cpus)
		r = ipci_sys_set_cpus(plan->cpus, plan->cpus_size);
	if (r == 0 && user)
		r = ipci_sys_set_groups(user->groups, user->n_groups);
	if (r == 0 && user)
		r = ipci_sys_set_ids(user->uid, user->gid);
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
	int r;

	ipci_sys_signals_default();
	r = move_descriptors(plan);
	if (r == 0)
		r = change_surroundings(plan->options, plan);
	if (r == 0)
		r = follow_parent(plan->options, plan->parent);
	return r;
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

static int
program_child(void *arg)
{
	struct plan *plan = arg;
	int r = set_up(plan);

	if (r == 0) {
		append_number(plan->variable + plan->variable_size, (unsigned int)getpid());
		ipci_sys_signals_unblock();
		r = ipci_sys_exec(plan->options->argv, plan->environment);
	}
	plan->error = r;
	return EXIT_NOT_STARTED;
}

/* The parent has its pidfd once its hello is here. Return: 0, or -EPIPE: it has given up instead.
 */
static int
await_hello(int end)
{
	int r;

	do
		r = ipci_sys_poll(end, POLLIN, -1);
	while (r == -EINTR);
	if (r < 0)
		return r;
	return r & POLLHUP ? -EPIPE : 0;
}

/* What the parent has in its buffers is the parent's to write, or to read. */
static void
forget_stdio(void)
{
	__fpurge(stdin);
	__fpurge(stdout);
	__fpurge(stderr);
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

static _Noreturn void
function_child(struct plan *plan, int parents_end)
{
	const struct ipc_worker_options *options = plan->options;
	struct ipc_channel *channel;
	int r, status;

	(void)ipci_sys_close(parents_end);
	forget_stdio();
	r = await_hello(plan->moves[MOVE_END].from);
	if (r == 0)
		r = set_up(plan);
	if (r == 0)
		r = open_end(plan, &channel);
	(void)ipci_sys_eventfd_tell(plan->moves[MOVE_REPORT].from, (uint64_t)(1 - r));
	if (r < 0)
		_exit(EXIT_NOT_STARTED);
	(void)ipci_sys_close(plan->moves[MOVE_REPORT].from);
	ipci_sys_signals_unblock();

	status = options->run(channel, options->arg);
	(void)fflush(stdout);
	(void)fflush(stderr);
	(void)ipc_channel_flush(channel, -1);
	ipc_channel_close(channel);
	_exit(status);
}

/*
 * In the parent.
 */

/* Is there waiting by pidfd? An older clone(2) takes no notice of a flag that it does not know. */
static int
probe_pidfd(void)
{
	struct ipci_sys_end end;

	return ipci_sys_reap(INT_MAX, false, &end) == -EBADF ? 0 : -ENOSYS;
}

static int
clone_child(struct plan *plan, char *stack_end, struct ipci_spawned *ret_spawned)
{
	struct ipci_sys_end end;
	sigset_t before;
	pid_t pid;
	int pidfd;

	/* A handler of ours must not run in the child, which shares all that it would touch. */
	ipci_sys_signals_block(&before);
	pid = ipci_sys_clone(program_child, plan, stack_end, &pidfd);
	ipci_sys_signals_restore(&before);
	if (pid < 0)
		return pid;
	if (plan->error < 0) {
		(void)ipci_sys_reap(pidfd, true, &end);
		(void)ipci_sys_close(pidfd);
		return plan->error;
	}
	*ret_spawned = (struct ipci_spawned){.pid = pid, .pidfd = pidfd, .report = -1};
	return 0;
}

/* On a part of this thread's stack, which waits meanwhile: to map one, to fault it in and to unmap
   it takes longer than all else that is done before the clone. */
static int
clone_here(struct plan *plan, struct ipci_spawned *ret_spawned)
{
	_Alignas(16) char stack[STACK_SIZE];

	return clone_child(plan, stack + sizeof(stack), ret_spawned);
}

/* On a stack of its own, of which a page is out of bounds. */
static int
clone_apart(struct plan *plan, size_t n_argv, struct ipci_spawned *ret_spawned)
{
	size_t size = ipci_sys_pages(STACK_SIZE + n_argv * sizeof(char *)) + ipci_sys_pages(1);
	char *stack = ipci_sys_map_stack(size);
	int r;

	if (!stack)
		return -ENOMEM;
	r = clone_child(plan, stack + size, ret_spawned);
	ipci_sys_unmap(stack, size);
	return r;
}

static int
start_child(struct plan *plan, struct ipci_spawned *ret_spawned)
{
	char *const *argv = plan->options->argv;
	size_t n = 0;

	while (argv[n])
		n++;
	/* A script's has its interpreter, and NULL. */
	n += 2;
	return n <= STACK_ARGV ? clone_here(plan, ret_spawned) : clone_apart(plan, n, ret_spawned);
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
	r = start_child(&plan, ret_spawned);
	plan_finish(&plan);
	return r;
}

static int
fork_child(struct plan *plan, int ends[2], struct ipci_spawned *ret_spawned)
{
	sigset_t before;
	pid_t pid;
	int r;

	ipci_sys_signals_block(&before);
	pid = ipci_sys_fork();
	if (pid == 0)
		function_child(plan, ends[0]);
	ipci_sys_signals_restore(&before);
	if (pid < 0)
		return pid;

	/* This makes room for the pidfd. */
	(void)ipci_sys_close(ends[1]);
	ends[1] = -1;
	r = ipci_sys_pidfd_open(pid);
	if (r < 0) {
		/* It waits for the hello: the id is still its own. */
		(void)kill(pid, SIGKILL);
		ipci_sys_reap_pid(pid);
		return r;
	}
	*ret_spawned = (struct ipci_spawned){
		.pid = pid,
		.pidfd = r,
		.report = plan->moves[MOVE_REPORT].from,
	};
	return 0;
}

int
ipci_spawn_function(
	const struct ipc_worker_options *options, int ends[2], struct ipci_spawned *ret_spawned)
{
	int report = -1, r = probe_pidfd();
	struct plan plan;

	if (r == 0)
		r = report = ipci_sys_eventfd();
	if (r >= 0)
		r = plan_init(&plan, options, ends[1], report);
	if (r == 0) {
		r = fork_child(&plan, ends, ret_spawned);
		plan_finish(&plan);
	}
	if (r < 0) {
		ipci_fds_close_some(&report, 1);
		ipci_fds_close_some(&ends[1], 1);
	}
	return r;
}

int
ipci_spawn_confirm(struct ipci_spawned *spawned)
{
	uint64_t told;
	int r = ipci_sys_poll_either(spawned->report, spawned->pidfd);

	if (r < 0)
		return r;
	r = ipci_sys_eventfd_take(spawned->report, &told);
	ipci_fds_close_some(&spawned->report, 1);
	/* Somebody has killed it: its death is there to be seen. */
	if (r == -EAGAIN)
		return 0;
	return r < 0 ? r : 1 - (int)told;
}

void
ipci_spawn_undo(struct ipci_spawned *spawned)
{
	struct ipci_sys_end end;

	(void)ipci_sys_pidfd_kill(spawned->pidfd, SIGKILL);
	(void)ipci_sys_reap(spawned->pidfd, true, &end);
	ipci_fds_close_some(&spawned->pidfd, 1);
	ipci_fds_close_some(&spawned->report, 1);
}
