/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_SYS_H
#define LIBIPC_INTERNAL_SYS_H

/*
 * System calls: -errno instead of errno, EINTR retried unless said otherwise,
 * descriptors close-on-exec. The only reader of errno. Knows nothing of libipc.
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

/* Until either is readable or has hung up; a signal does not end it. */
int ipci_sys_poll_either(int a, int b);

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
/* The same memory, larger, perhaps elsewhere. Return: NULL without memory, and it is as it was. */
void *ipci_sys_remap(void *memory, size_t old_size, size_t new_size);
void ipci_sys_unmap(void *memory, size_t size);
/* Memory for a stack: what would grow beyond its low end is caught there. */
void *ipci_sys_map_stack(size_t size);
/* Let the memory be zero in a child of fork(2). */
int ipci_sys_wipe_on_fork(void *memory, size_t size);
/* Let the memory be missing there. */
int ipci_sys_keep_from_fork(void *memory, size_t size);

/* CPUs in this thread's affinity mask; large where it cannot be read. */
unsigned int ipci_sys_cpus(void);
/* A small file as a string, cut to size. Return: its length, or -errno. */
ssize_t ipci_sys_read_file(const char *path, char *buffer, size_t size);

/*
 * Processes.
 */

/* A child that shares this process's memory, while this thread waits until it has executed a
   program or ended. stack_end is the high end. Return: its id. */
pid_t ipci_sys_clone(int (*child)(void *arg), void *arg, void *stack_end, int *ret_pidfd);
pid_t ipci_sys_fork(void);
int ipci_sys_pidfd_open(pid_t pid);
int ipci_sys_pidfd_kill(int pidfd, int signal);
/* Wait for a child that has no pidfd. */
void ipci_sys_reap_pid(pid_t pid);

/* How a child ended: a status as of wait(2), and what it used. */
struct ipci_sys_end {
	int status;
	uint64_t user_us, system_us;
	uint64_t max_rss_kib;
};

/* Reap. Return: 0, -EAGAIN if it lives and shall not be waited for, -ECHILD if it was reaped,
   -EBADF, -EINVAL before Linux 5.4. */
int ipci_sys_reap(int pidfd, bool waits, struct ipci_sys_end *ret_end);

/* Block all signals of this thread. */
void ipci_sys_signals_block(sigset_t *ret_before);
void ipci_sys_signals_restore(const sigset_t *before);

/*
 * What a child sets up, be it one that shares its parent's memory: bare system calls. Those of the
 * C library that change the user would have all threads of the parent follow.
 */
void ipci_sys_signals_default(void);
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
int ipci_sys_set_parent_death_signal(int signal);
/* Searches PATH. Return: why it did not. */
int ipci_sys_exec(char *const *argv, char *const *envp);

#endif
