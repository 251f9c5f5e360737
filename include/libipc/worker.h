/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_WORKER_H
#define LIBIPC_WORKER_H

/*
 * Child processes with a channel.
 *
 * A worker is a process that ipc_worker_spawn() starts: a program, which takes its end of the
 * channel by ipc_channel_inherit(), or a function in a forked child, which is given it. Its death
 * is seen through a pidfd, after every message that it had sent: by ipc_worker_wait(), or by the
 * loop that ipc_worker_attach() names. No signal handler is installed, and none is needed.
 *
 * What a worker begins with is the same for both:
 *
 *   descriptors  0, 1 and 2, unless the parent has them closed or close-on-exec, those of .fds,
 *                and the worker's end of the channel, at a number from 3 on. All others are closed
 *   signals      all of them at their defaults, ignored ones too, and none blocked
 *   the rest     as it is in the parent, but for what the options say
 *
 * A worker sees the end of its channel (-EPIPE) when its parent closes it or dies, and should
 * exit then; .parent_death_signal is for those that may not look.
 *
 * Needs Linux 5.4, for pidfds; -ENOSYS elsewhere. Results are those of channel.h. Programmer's
 * errors are asserted.
 *
 * Threads: a worker belongs to one thread at a time. Any number of threads may spawn at once, and
 * different workers share nothing.
 *
 * Fork: a worker belongs to the process that spawned it. In a child each function that returns an
 * int answers -ECHILD, but detach, which frees its part; free frees the copy and leaves the process
 * alone.
 *
 * Sandbox: a worker that has its channel may shut itself in, by a seccomp filter for example. These
 * system calls the channel makes from then on, and no others:
 *
 *   always       sendto, sendmsg, recvfrom, recvmsg, poll (or ppoll), shutdown, close; munmap,
 *                mremap and what malloc(3) needs: brk, mmap, madvise; clock_gettime where the
 *                kernel has to be asked; futex between two threads; exit_group, exit to end
 *   descriptors  fcntl and fstat (or newfstatat) to send them; close_range for those that
 *                come together, and socketpair to find one that the kernel does not pass
 *   .spin_us 0   sched_getaffinity, and once openat, read and close of what /proc and /sys
 *                say of the CPUs; -1 or a number spares them
 *
 * A filter that refuses calls, and does not kill for them, need not let through close_range,
 * socketpair and those of .spin_us. examples/confine.h is one.
 *
 * Trust: a worker may be hostile. What it can do to its parent is what a channel's peer can do. A
 * grandchild to which it gave its end is heard until the worker's death, not after it.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <libipc/channel.h>
#include <libipc/loop.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* A child process and the parent's end of its channel. Holds two descriptors. */
struct ipc_worker;

/* The range of each option; outside of it a worker is refused with -EINVAL. */
#define IPC_WORKER_FDS_LIMIT    256U
#define IPC_WORKER_LIMITS_LIMIT 64U
#define IPC_WORKER_CPU_LIMIT    65536U /* CPU numbers are below */

/* Milliseconds in which a process that was sent SIGKILL should have ended. One in an
   uninterruptible sleep, on a dead network file system for example, may not. */
#define IPC_WORKER_KILL_MS 5000

/* A descriptor for the worker. */
struct ipc_worker_fd {
	int fd; /* of the parent's; -1: /dev/null */
	int as; /* its number in the worker; 0, 1 and 2 are standard input, output and error */
};

/* Whom the worker runs as; the parent needs the privilege. */
struct ipc_worker_user {
	uid_t uid; /* real, effective and saved */
	gid_t gid;
	const gid_t *groups; /* supplementary; with 0 of them it has none */
	size_t n_groups;
};

/* A limit of setrlimit(2). */
struct ipc_worker_limit {
	int resource; /* RLIMIT_... */
	uint64_t soft, hard;
};

/* Set size to sizeof(struct ipc_worker_options). Zero in any other field means the default. All
   that it points to is borrowed. */
struct ipc_worker_options {
	size_t size;

	/* One of these two, else -EINVAL. */
	char *const *argv; /* a program, searched in the parent's PATH as by execvp(3) */
	int (*run)(struct ipc_channel *channel, void *arg); /* a function in a forked child; returns
	                                                       the exit status. See below */
	void *arg;

	const struct ipc_channel_options *channel; /* of the parent's end, and of the worker's with
	                                              run; a program chooses its own */

	char *const *envp; /* environment, "NAME=value", ending in NULL; NULL: the parent's */
	const struct ipc_worker_fd *fds; /* in any order, and to numbers that others of them have in
	                                    the parent. Numbers above all of them are needed for a
	                                    moment: leave room below RLIMIT_NOFILE */
	unsigned int n_fds;
	const char *directory; /* working directory; entered before the user is changed. An argv[0]
	                          with a slash is looked for from there */
	const struct ipc_worker_user *user; /* NULL: the parent's */
	const struct ipc_worker_limit *limits;
	unsigned int n_limits;
	const unsigned int *cpus; /* numbers of the CPUs it may use; those of them that there are */
	unsigned int n_cpus;      /* 0: the parent's */
	int parent_death_signal;  /* sent to the worker when the parent's THREAD that spawned it
	                             ends: spawn from one that stays, see PR_SET_PDEATHSIG of
	                             prctl(2). 0: none. A program that is set-user-ID loses it */
};

/*
 * Start a worker. It is yours: free it with ipc_worker_free().
 *
 * Waits until the program was executed, or the function is about to be called: what fails
 * on the way there is this function's result, and no process is left behind. What the program
 * does then is its own: one that is no worker exits without a word, and the channel ends.
 *
 * The program finds LIBIPC_CHANNEL in its environment, see ipc_channel_inherit(). A script is run
 * as execvp(3) does; one that begins with #! has the process id of its interpreter.
 *
 * The function has a copy of the parent's memory, and of it nothing that needs a descriptor: leave
 * the parent's channels, loops and workers alone there, do not even free them. The channel is
 * the library's, which flushes and closes it when the function returns, waiting until the parent
 * has taken what was sent: destroy a loop that has it before. Standard output and error are
 * flushed; atexit(3) functions are not called. Where the parent has other threads the child has
 * none of them, but the locks they held: prefer a program.
 *
 * Return: 0, or
 *   -EINVAL  an option is out of its range, neither or both of argv and run are set, or none of
 *            .cpus is there
 *   -ENOENT, -EACCES, -ENOEXEC, -ENOTDIR, -ELOOP, -E2BIG ...
 *            the program or the directory, as execve(2) and chdir(2) say
 *   -EBADF   one of .fds is not open
 *   -EPERM   user, limits: this process may not
 *   -EAGAIN  a limit of processes, as fork(2) says
 *   -EMFILE  this process has no room for three more descriptors, or the worker none for its own
 *   -ENOSYS  no pidfds: a kernel before 5.4, or a sandbox
 *   -ENFILE, -ENOMEM, -ENOBUFS
 */
int ipc_worker_spawn(struct ipc_worker **ret, const struct ipc_worker_options *options);

/* The parent's end of the channel. The worker keeps it: do not close it. NULL once
   ipc_worker_stop() has closed it. */
struct ipc_channel *ipc_worker_channel(struct ipc_worker *worker);

/* The process id. It may be another process's once the worker has ended and was waited for: signal
   it by ipc_worker_kill(). */
pid_t ipc_worker_pid(const struct ipc_worker *worker);

/* The pidfd, for poll(2): readable once the process has ended. The worker keeps it. */
int ipc_worker_pidfd(const struct ipc_worker *worker);

/* How a worker ended. */
struct ipc_worker_end {
	size_t size; /* sizeof(struct ipc_worker_end); set it before the call */
	int status;  /* as of wait(2): WIFEXITED() ... -1 if it is not known: somebody else has
	                waited for it, or SIGCHLD is ignored. Then the rest is 0 */
	uint64_t user_us,
		system_us;    /* CPU time, that of its children that it waited for included */
	uint64_t max_rss_kib; /* most memory that was resident */
};

/*
 * Wait for the worker's end. What the channel received until then stays to be received, and so
 * does what it had sent.
 *
 * Waits up to timeout_ms. It can be called again, and says the same. ret_end may be NULL; of it no
 * more than its size is written.
 *
 * Return: 0, -EAGAIN or -ETIMEDOUT: it lives; -ECHILD.
 */
int ipc_worker_wait(struct ipc_worker *worker, int timeout_ms, struct ipc_worker_end *ret_end);

/*
 * Send the worker a signal; 0 sends none. It never reaches another process.
 *
 * Return: 0, or -ESRCH (it has ended), -EINVAL (no signal), -EPERM, -ECHILD.
 */
int ipc_worker_kill(struct ipc_worker *worker, int signal);

/*
 * End the worker: closes the channel, which a worker should take for a sign to exit; waits
 * grace_ms; sends SIGTERM, and SIGCONT lest it sleeps through it; waits grace_ms; sends SIGKILL. No
 * longer than it takes for the process to end; with grace_ms 0 SIGKILL comes at once.
 *
 * A worker in a loop is detached first; died() is not called. The object stays, to be asked and
 * freed. ret_status may be NULL; it is as in struct ipc_worker_end.
 *
 * Return: 0, or
 *   -ETIMEDOUT  IPC_WORKER_KILL_MS after SIGKILL it still had not ended. The channel is closed; it
 *               can be stopped or waited for again
 *   -EINVAL     grace_ms is negative
 *   -EPERM      the process may not be signalled
 *   -ECHILD
 */
int ipc_worker_stop(struct ipc_worker *worker, int grace_ms, int *ret_status);

/*
 * Free a worker. Detaches and closes the channel, kills a process that still lives, and waits for
 * it, IPC_WORKER_KILL_MS at most, also for one that may not be killed. NULL is fine.
 *
 * Return: NULL.
 */
struct ipc_worker *ipc_worker_free(struct ipc_worker *worker);

/* What a worker's events are given to. The struct is copied. */
struct ipc_worker_handler {
	struct ipc_channel_handler channel; /* as of ipc_loop_attach(); gets the channel and user */
	/* Once, last: the process has ended, everything that it had sent was given out, and
	   closed() was called. The worker is detached, and yours to free. May be NULL. */
	void (*died)(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user);
};

/*
 * Let the loop drive the worker's channel and see its death. Holds the worker until died(), or
 * until it is detached, stopped or freed, or the loop is destroyed; neither closed() nor died() is
 * called for those.
 *
 * With its death the channel ends, whoever else holds the worker's end. A worker that has closed
 * its end and lives has closed() called then, and died() later. A channel that was detached by
 * ipc_loop_detach() alone is left as it is: died() comes without closed(). Of a worker that a
 * tracer holds, which is told first and does not ask, died() comes after a second, with status -1.
 *
 * Return: 0, or -EBUSY (attached already, or its channel is), -EPIPE (it was stopped), -EEXIST (the
 * loop watches its pidfd or socket), -EMFILE, -ENFILE, -ENOMEM, -ENOSPC, -ECHILD.
 */
int ipc_worker_attach(struct ipc_loop *loop, struct ipc_worker *worker,
	const struct ipc_worker_handler *handler, void *user);

/*
 * Take a worker back, with its channel as by ipc_loop_detach().
 *
 * Return: 0, or -ENOENT (not attached to this loop), -ENOMEM (what arrived cannot be kept; still
 * attached).
 */
int ipc_worker_detach(struct ipc_loop *loop, struct ipc_worker *worker);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
