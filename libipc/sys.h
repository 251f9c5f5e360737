/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_SYS_H
#define LIBIPC_INTERNAL_SYS_H

/*
 * System calls: -errno instead of errno, EINTR retried unless said otherwise,
 * descriptors close-on-exec and from 3 on. The only reader of errno. Knows nothing of libipc.
 *
 * A thread is cancelled (pthread_cancel(3)) in waits only, which do nothing but wait: in
 * ipci_sys_poll() with a time, ipci_sys_poll_either(), ipci_sys_epoll_wait().
 */

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

/* A program that was started with 0, 1 or 2 closed prints to whatever gets that number. */
#define IPCI_SYS_FD_MIN 3

/* Move a descriptor below that to a number from there on, close-on-exec; others stay as they are.
   Return: its number, or -EMFILE: it is closed. */
int ipci_sys_lift(int fd);

/* Another number in a child of fork(2). Costs no system call. */
unsigned int ipci_sys_generation(void);

/* May somebody cancel this thread? Then it waits by ipci_sys_poll() alone. */
bool ipci_sys_may_be_cancelled(void);

int ipci_sys_socketpair(int ret_fds[2]); /* SEQPACKET */
int ipci_sys_close(int fd);
int ipci_sys_close_range(int first, int last); /* both included */
int ipci_sys_dup(int fd);
/* The soft limit of descriptors. */
unsigned int ipci_sys_fds_limit(void);
/* Return: whether it was. */
int ipci_sys_set_cloexec(int fd, bool on);
int ipci_sys_fstat(int fd, struct stat *ret_stat);
int ipci_sys_getsockopt_int(int fd, int option, int *ret_value); /* SOL_SOCKET */
int ipci_sys_setsockopt_int(int fd, int option, int value);
int ipci_sys_getpeername(int fd);      /* 0 when connected */
int ipci_sys_shutdown(int fd);         /* both ways */
int ipci_sys_shutdown_writing(int fd); /* the peer sees the end */

/* One packet, with MSG_NOSIGNAL. Return: its size. The plain forms spare the kernel the
   message header, a tenth of a packet's time. */
ssize_t ipci_sys_send(int fd, const void *data, size_t size, int flags);
ssize_t ipci_sys_sendmsg(int fd, const struct msghdr *message, int flags);
/* One packet, with MSG_CMSG_CLOEXEC. Return: its size, 0 at the end. The plain form's can be
   larger than size: then the packet was truncated. It says nothing of descriptors. */
ssize_t ipci_sys_recv(int fd, void *buffer, size_t size, int flags);
ssize_t ipci_sys_recvmsg(int fd, struct msghdr *message, int flags);

/* Not retried: a wait has a deadline. With fd -1 it needs no memory and no descriptor limit.
   Return: revents, 0 after timeout_ms, or -EINTR ... */
int ipci_sys_poll(int fd, short events, int timeout_ms);

/* Until either is readable or has hung up. Not retried. */
int ipci_sys_poll_either(int a, int b, int timeout_ms);

int ipci_sys_pipe(int ret_fds[2]); /* not blocking */

/* Not blocking. */
int ipci_sys_eventfd(void);
int ipci_sys_timerfd(void);                      /* CLOCK_MONOTONIC */
int ipci_sys_timerfd_set(int fd, int64_t at_ns); /* 0: never */
/* Lets an eventfd be readable; from a signal handler, too. */
int ipci_sys_eventfd_raise(int fd);
/* Lets an eventfd or timerfd be readable no more. */
int ipci_sys_counter_read(int fd);
/* Lets an eventfd tell a number, which is not 0, to whoever takes it. */
int ipci_sys_eventfd_tell(int fd, uint64_t number);
int ipci_sys_eventfd_take(int fd, uint64_t *ret_number);

int ipci_sys_epoll_create(void);
int ipci_sys_epoll_ctl(int epoll_fd, int operation, int fd, uint32_t events, void *data);
/* Not retried. */
int ipci_sys_epoll_wait(int epoll_fd, struct epoll_event *ret_events, int n, int timeout_ms);

int64_t ipci_sys_now_ns(void); /* CLOCK_MONOTONIC */

/* Bytes that nobody can guess. Never waits. Return: 0, -ENOSYS, -EPERM, or -EAGAIN soon after the
   machine has started. */
int ipci_sys_random(void *ret_buffer, size_t size);

/* The size in whole pages. */
size_t ipci_sys_pages(size_t size);
/* Private memory, page-aligned, zero, resident where touched. Return: NULL without memory. */
void *ipci_sys_map(size_t size);
/* The same, shared with the children that are forked later. */
void *ipci_sys_map_shared(size_t size);
/* The same memory, larger, perhaps elsewhere. Return: NULL without memory, and it is as it was. */
void *ipci_sys_remap(void *memory, size_t old_size, size_t new_size);
void ipci_sys_unmap(void *memory, size_t size);
/* Memory for a stack: what would grow beyond its low end is caught there. */
void *ipci_sys_map_stack(size_t size);
/* Let the memory be zero from now on, and not resident. */
int ipci_sys_drop(void *memory, size_t size);
/* Let the memory be zero in a child of fork(2). -EINVAL: unknown here. */
int ipci_sys_wipe_on_fork(void *memory, size_t size);
/* Let the memory be missing there. */
int ipci_sys_keep_from_fork(void *memory, size_t size);

/* CPUs in this thread's affinity mask; large where it cannot be read. */
unsigned int ipci_sys_cpus(void);
/* A small file as a string, cut to size. Return: its length, or -errno. */
ssize_t ipci_sys_read_file(const char *path, char *buffer, size_t size);

/*
 * Is it memory without a file system that others may have a hand in: a memfd of no more than so
 * many bytes, or a memory device (null(4))? To ask does not wait, whatever it is.
 */
bool ipci_sys_is_plain_memory(int fd, uint64_t bytes_max);
/* Let a socket's close(2) wait for what was not sent so long at most; fails for what is no socket.
 */
int ipci_sys_limit_linger(int fd, int seconds);

/* A detached thread with a name, a small stack and all signals blocked. Return: 0, -EAGAIN ... */
int ipci_sys_thread(const char *name, void *(*run)(void *arg), void *arg);

/*
 * Processes.
 */

enum ipci_sys_child {
	IPCI_SYS_CHILD_SHARES, /* this process's memory, while this thread waits until it has
	                          executed a program or ended */
	IPCI_SYS_CHILD_TRIAL,  /* as that, and its end sends no signal */
	IPCI_SYS_CHILD_COPY,   /* has a copy, and none of what pthread_atfork(3) adds */
};

/* stack_end is the high end. Return: its id, or -errno: there is no child. */
pid_t ipci_sys_clone(int (*child)(void *arg), void *arg, void *stack_end, enum ipci_sys_child kind,
	int *ret_pidfd);
pid_t ipci_sys_fork(void);
int ipci_sys_pidfd_open(pid_t pid);
int ipci_sys_pidfd_kill(int pidfd, int signal);
/* For what was not reaped. */
int ipci_sys_kill(pid_t pid, int signal);
/* The process group that it leads. Before Linux 6.9 leader must not have been reaped. */
int ipci_sys_kill_group(int pidfd, pid_t leader, int signal);
/* A child that has no pidfd. Return: 0, -EAGAIN if it lives, -ECHILD. */
int ipci_sys_reap_pid(pid_t pid);

/* How a child ended: a status as of wait(2), and what it used. */
struct ipci_sys_end {
	int status;
	uint64_t user_us, system_us;
	uint64_t max_rss_kib;
};

/* Reap. Return: 0, -EAGAIN if it lives, -ECHILD if it was reaped, -EBADF, -EINVAL before Linux
   5.4. */
int ipci_sys_reap(int pidfd, struct ipci_sys_end *ret_end);
/* Is it there to be reaped? */
bool ipci_sys_has_ended(int pidfd);
/* By a signal; not by a tracer. */
bool ipci_sys_is_stopped(int pidfd);

/* Block all signals of this thread. */
void ipci_sys_signals_block(sigset_t *ret_before);
void ipci_sys_signals_restore(const sigset_t *before);

/*
 * What a child sets up, be it one that shares its parent's memory: bare system calls. Those of the
 * C library that change the user would have all threads of the parent follow.
 */
void ipci_sys_signals_default(void);
int ipci_sys_signal_ignore(int signal);
void ipci_sys_signals_unblock(void);
/* Is it close-on-exec? */
int ipci_sys_get_cloexec(int fd);
int ipci_sys_open(const char *path, int flags);
int ipci_sys_dup_above(int fd, int min); /* the lowest free number from min on */
int ipci_sys_dup_to(int fd, int as);     /* not close-on-exec */
ssize_t ipci_sys_read_directory(int fd, void *buffer, size_t size);
int ipci_sys_chdir(const char *path);
int ipci_sys_set_limit(int resource, uint64_t soft, uint64_t hard);
int ipci_sys_set_cpus(const void *mask, size_t size);
int ipci_sys_set_groups(const gid_t *groups, size_t n);
int ipci_sys_set_ids(uid_t uid, gid_t gid); /* real, effective and saved */
int ipci_sys_get_uids(uid_t ret_uids[3]);   /* real, effective and saved */
int ipci_sys_get_gids(gid_t ret_gids[3]);
/* Ambient, permitted, effective and inheritable ones. */
int ipci_sys_drop_capabilities(void);
/* Return: whether any are left. */
int ipci_sys_has_capabilities(void);
int ipci_sys_set_no_new_privs(void);
int ipci_sys_set_parent_death_signal(int signal);
/* A group of its own, or a session. */
int ipci_sys_join_group(bool new_session);
/* Return: why it did not. */
int ipci_sys_exec(const char *path, char *const *argv, char *const *envp);

#endif
