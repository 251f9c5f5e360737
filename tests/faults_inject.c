/* SPDX-License-Identifier: MIT */

/* The wrappers: each asks whether to fail, and else makes the real call. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults.h"
#include "support.h"

static struct fault armed;
static bool is_armed, is_held, is_inside, lacks[FAULTY_N];
static long memory;

/* What a child counts is counted. */
static struct counts {
	unsigned int calls, happened, calls_ever[FAULTY_N];
} * counts;

static const char *const names[FAULTY_N] = {
	[FAULTY_SENDMSG] = "sendmsg",
	[FAULTY_SEND] = "send",
	[FAULTY_RECVMSG] = "recvmsg",
	[FAULTY_RECV] = "recv",
	[FAULTY_POLL] = "poll",
	[FAULTY_SOCKETPAIR] = "socketpair",
	[FAULTY_SETSOCKOPT] = "setsockopt",
	[FAULTY_GETSOCKOPT] = "getsockopt",
	[FAULTY_GETPEERNAME] = "getpeername",
	[FAULTY_SHUTDOWN] = "shutdown",
	[FAULTY_FCNTL] = "fcntl",
	[FAULTY_FSTAT] = "fstat",
	[FAULTY_CLOSE] = "close",
	[FAULTY_CLOSE_RANGE] = "close_range",
	[FAULTY_OPEN] = "open",
	[FAULTY_READ] = "read",
	[FAULTY_WRITE] = "write",
	[FAULTY_EPOLL_CREATE] = "epoll_create1",
	[FAULTY_EPOLL_CTL] = "epoll_ctl",
	[FAULTY_EPOLL_WAIT] = "epoll_wait",
	[FAULTY_EVENTFD] = "eventfd",
	[FAULTY_TIMERFD_CREATE] = "timerfd_create",
	[FAULTY_TIMERFD_SETTIME] = "timerfd_settime",
	[FAULTY_SCHED_GETAFFINITY] = "sched_getaffinity",
	[FAULTY_GETRANDOM] = "getrandom",
	[FAULTY_WAITID] = "waitid",
	[FAULTY_WAITPID] = "waitpid",
	[FAULTY_PIDFD_OPEN] = "pidfd_open",
	[FAULTY_PIDFD_KILL] = "pidfd_send_signal",
	[FAULTY_DUP2] = "dup2",
	[FAULTY_GETDENTS] = "getdents64",
	[FAULTY_CHDIR] = "chdir",
	[FAULTY_PRLIMIT] = "prlimit64",
	[FAULTY_SCHED_SETAFFINITY] = "sched_setaffinity",
	[FAULTY_SETGROUPS] = "setgroups",
	[FAULTY_SETRESGID] = "setresgid",
	[FAULTY_SETRESUID] = "setresuid",
	[FAULTY_CAPSET] = "capset",
	[FAULTY_CAPGET] = "capget",
	[FAULTY_PRCTL] = "prctl",
	[FAULTY_PIPE] = "pipe2",
	[FAULTY_SETPGID] = "setpgid",
	[FAULTY_CLONE] = "clone",
	[FAULTY_FORK] = "fork",
	[FAULTY_EXEC] = "execve",
	[FAULTY_MPROTECT] = "mprotect",
	[FAULTY_MMAP] = "mmap",
	[FAULTY_MREMAP] = "mremap",
	[FAULTY_MADVISE] = "madvise",
	[FAULTY_MALLOC] = "malloc",
	[FAULTY_CALLOC] = "calloc",
	[FAULTY_REALLOC] = "realloc",
	[FAULTY_URING_INIT] = "io_uring_queue_init_params",
	[FAULTY_URING_DONTFORK] = "io_uring_ring_dontfork",
	[FAULTY_URING_BUFFERS] = "io_uring_register_buf_ring",
	[FAULTY_URING_SUBMIT] = "io_uring_submit_and_get_events",
	[FAULTY_URING_WAIT] = "io_uring_submit_and_wait_timeout",
};

__attribute__((constructor)) static void
make_counts(void)
{
	counts = mmap(
		NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		abort();
}

static unsigned int
count(unsigned int *number)
{
	return __atomic_add_fetch(number, 1, __ATOMIC_RELAXED);
}

void
fault_arm(const struct fault *fault)
{
	is_armed = fault != NULL;
	is_held = false;
	armed = fault ? *fault : (struct fault){.call = FAULTY_N};
	counts->calls = 0;
	counts->happened = 0;
	memory = 0;
}

void
fault_pass(void)
{
	is_armed = false;
}

void
fault_hold(bool hold)
{
	is_held = hold;
}

void
fault_lack(enum faulty call, bool lacks_it)
{
	lacks[call] = lacks_it;
}

unsigned int
fault_count(void)
{
	return counts->happened;
}

int
fault_error(void)
{
	return armed.error;
}

const char *
fault_name(enum faulty call)
{
	return names[call];
}

const char *
fault_text(void)
{
	static char text[128];

	if (armed.call == FAULTY_N)
		return "no fault";
	if (armed.above)
		(void)snprintf(text, sizeof(text),
			"%s for packets above %zu bytes from number %u on",
			strerrorname_np(armed.error), armed.above, armed.nth);
	else
		(void)snprintf(text, sizeof(text), "%s from %s number %u%s",
			strerrorname_np(armed.error), names[armed.call], armed.nth,
			armed.onward ? " on" : "");
	return text;
}

unsigned int
fault_calls(enum faulty call)
{
	return counts->calls_ever[call];
}

long
fault_memory(void)
{
	await_closers();
	return __atomic_load_n(&memory, __ATOMIC_RELAXED);
}

void
fault_inside(bool inside)
{
	is_inside = inside;
}

/* A thread of the library's own, which no call of it waits for, is inside as long as it is there;
   its calls do not fail, for it would not be known which of them is the next. */
static bool
is_own_thread(void)
{
	return gettid() != getpid();
}

static bool
counts_memory(void)
{
	return is_inside || is_own_thread();
}

static bool
let_fail(void)
{
	(void)count(&counts->happened);
	errno = armed.error;
	return true;
}

static bool
is_turn(void)
{
	unsigned int call = count(&counts->calls);

	return (call == armed.nth || (call > armed.nth && armed.onward)) && let_fail();
}

/* Is this call to fail? Then errno says how. */
static bool
fails(enum faulty call)
{
	if (!is_inside || is_own_thread())
		return false;
	(void)count(&counts->calls_ever[call]);
	if (lacks[call]) {
		errno = ENOSYS;
		return true;
	}
	return is_armed && !is_held && !armed.above && armed.call == call && is_turn();
}

static bool
packet_fails(enum faulty call, size_t size)
{
	if (is_inside && is_armed && !is_held && armed.above) {
		(void)count(&counts->calls_ever[call]);
		return size > armed.above && is_turn();
	}
	return fails(call);
}

/* The linker gives every wrapped call these two names. */
#define WRAP(type, name, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

WRAP(ssize_t, sendmsg, int fd, const struct msghdr *message, int flags)
{
	size_t size = 0, i;

	for (i = 0; i < message->msg_iovlen; i++)
		size += message->msg_iov[i].iov_len;
	return packet_fails(FAULTY_SENDMSG, size) ? -1 : __real_sendmsg(fd, message, flags);
}

WRAP(ssize_t, send, int fd, const void *data, size_t size, int flags)
{
	return packet_fails(FAULTY_SEND, size) ? -1 : __real_send(fd, data, size, flags);
}

WRAP(ssize_t, recvmsg, int fd, struct msghdr *message, int flags)
{
	return fails(FAULTY_RECVMSG) ? -1 : __real_recvmsg(fd, message, flags);
}

WRAP(ssize_t, recv, int fd, void *buffer, size_t size, int flags)
{
	return fails(FAULTY_RECV) ? -1 : __real_recv(fd, buffer, size, flags);
}

WRAP(int, poll, struct pollfd *fds, nfds_t n, int timeout_ms)
{
	return fails(FAULTY_POLL) ? -1 : __real_poll(fds, n, timeout_ms);
}

WRAP(int, socketpair, int domain, int type, int protocol, int fds[2])
{
	return fails(FAULTY_SOCKETPAIR) ? -1 : __real_socketpair(domain, type, protocol, fds);
}

WRAP(int, setsockopt, int fd, int level, int option, const void *value, socklen_t size)
{
	return fails(FAULTY_SETSOCKOPT) ? -1 : __real_setsockopt(fd, level, option, value, size);
}

WRAP(int, getsockopt, int fd, int level, int option, void *value, socklen_t *size)
{
	return fails(FAULTY_GETSOCKOPT) ? -1 : __real_getsockopt(fd, level, option, value, size);
}

WRAP(int, getpeername, int fd, struct sockaddr *address, socklen_t *size)
{
	return fails(FAULTY_GETPEERNAME) ? -1 : __real_getpeername(fd, address, size);
}

WRAP(int, shutdown, int fd, int how)
{
	return fails(FAULTY_SHUTDOWN) ? -1 : __real_shutdown(fd, how);
}

WRAP(int, sched_getaffinity, pid_t pid, size_t size, cpu_set_t *set)
{
	return fails(FAULTY_SCHED_GETAFFINITY) ? -1 : __real_sched_getaffinity(pid, size, set);
}

WRAP(ssize_t, read, int fd, void *buffer, size_t size)
{
	return fails(FAULTY_READ) ? -1 : __real_read(fd, buffer, size);
}

WRAP(ssize_t, write, int fd, const void *buffer, size_t size)
{
	return fails(FAULTY_WRITE) ? -1 : __real_write(fd, buffer, size);
}

WRAP(int, epoll_create1, int flags)
{
	return fails(FAULTY_EPOLL_CREATE) ? -1 : __real_epoll_create1(flags);
}

/* What is taken out of an epoll is out, as the kernel has it. */
WRAP(int, epoll_ctl, int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	if (operation != EPOLL_CTL_DEL && fails(FAULTY_EPOLL_CTL))
		return -1;
	return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

WRAP(int, epoll_wait, int epoll_fd, struct epoll_event *events, int n, int timeout_ms)
{
	return fails(FAULTY_EPOLL_WAIT) ? -1 : __real_epoll_wait(epoll_fd, events, n, timeout_ms);
}

WRAP(int, eventfd, unsigned int value, int flags)
{
	return fails(FAULTY_EVENTFD) ? -1 : __real_eventfd(value, flags);
}

WRAP(ssize_t, getrandom, void *buffer, size_t size, unsigned int flags)
{
	return fails(FAULTY_GETRANDOM) ? -1 : __real_getrandom(buffer, size, flags);
}

WRAP(int, timerfd_create, int clock, int flags)
{
	return fails(FAULTY_TIMERFD_CREATE) ? -1 : __real_timerfd_create(clock, flags);
}

WRAP(int, timerfd_settime, int fd, int flags, const struct itimerspec *spec, struct itimerspec *old)
{
	return fails(FAULTY_TIMERFD_SETTIME) ? -1 : __real_timerfd_settime(fd, flags, spec, old);
}

WRAP(int, madvise, void *address, size_t size, int advice)
{
	return fails(FAULTY_MADVISE) ? -1 : __real_madvise(address, size, advice);
}

/* Whatever close(2) says, the descriptor is gone. */
WRAP(int, close, int fd)
{
	int r, error;

	if (!fails(FAULTY_CLOSE))
		return __real_close(fd);
	error = errno;
	r = __real_close(fd);
	errno = error;
	return r < 0 ? r : -1;
}

static enum faulty
call_of_number(long number)
{
	switch (number) {
	case SYS_waitid:
		return FAULTY_WAITID;
	case SYS_pidfd_open:
		return FAULTY_PIDFD_OPEN;
	case SYS_pidfd_send_signal:
		return FAULTY_PIDFD_KILL;
	case SYS_prlimit64:
		return FAULTY_PRLIMIT;
	case SYS_sched_setaffinity:
		return FAULTY_SCHED_SETAFFINITY;
	case SYS_capset:
		return FAULTY_CAPSET;
	case SYS_capget:
		return FAULTY_CAPGET;
#ifdef SYS_setgroups32
	case SYS_setgroups32:
		return FAULTY_SETGROUPS;
	case SYS_setresgid32:
		return FAULTY_SETRESGID;
	case SYS_setresuid32:
		return FAULTY_SETRESUID;
#else
	case SYS_setgroups:
		return FAULTY_SETGROUPS;
	case SYS_setresgid:
		return FAULTY_SETRESGID;
	case SYS_setresuid:
		return FAULTY_SETRESUID;
#endif
	default:
		return FAULTY_CLOSE_RANGE;
	}
}

WRAP(long, syscall, long number, ...)
{
	long arguments[6];
	va_list list;
	int i;

	if (fails(call_of_number(number)))
		return -1;
	va_start(list, number);
	for (i = 0; i < 6; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
		arguments[4], arguments[5]);
}

WRAP(pid_t, waitpid, pid_t pid, int *status, int options)
{
	return fails(FAULTY_WAITPID) ? -1 : __real_waitpid(pid, status, options);
}

WRAP(pid_t, fork, void)
{
	return fails(FAULTY_FORK) ? -1 : __real_fork();
}

/* With a pidfd, and nothing after it. */
WRAP(int, clone, int (*child)(void *arg), void *stack_end, int flags, void *arg, ...)
{
	va_list list;
	int *pidfd;

	va_start(list, arg);
	pidfd = va_arg(list, int *);
	va_end(list);
	return fails(FAULTY_CLONE) ? -1 : __real_clone(child, stack_end, flags, arg, pidfd);
}

WRAP(int, execve, const char *path, char *const *argv, char *const *envp)
{
	return fails(FAULTY_EXEC) ? -1 : __real_execve(path, argv, envp);
}

WRAP(int, pipe2, int fds[2], int flags)
{
	return fails(FAULTY_PIPE) ? -1 : __real_pipe2(fds, flags);
}

WRAP(int, setpgid, pid_t pid, pid_t group)
{
	return fails(FAULTY_SETPGID) ? -1 : __real_setpgid(pid, group);
}

WRAP(int, dup2, int fd, int as)
{
	return fails(FAULTY_DUP2) ? -1 : __real_dup2(fd, as);
}

WRAP(ssize_t, getdents64, int fd, void *buffer, size_t size)
{
	return fails(FAULTY_GETDENTS) ? -1 : __real_getdents64(fd, buffer, size);
}

WRAP(int, chdir, const char *path)
{
	return fails(FAULTY_CHDIR) ? -1 : __real_chdir(path);
}

WRAP(int, prctl, int option, unsigned long argument, ...)
{
	unsigned long others[3];
	va_list list;
	int i;

	va_start(list, argument);
	for (i = 0; i < 3; i++)
		others[i] = va_arg(list, unsigned long);
	va_end(list);
	return fails(FAULTY_PRCTL)
	               ? -1
	               : __real_prctl(option, argument, others[0], others[1], others[2]);
}

WRAP(int, mprotect, void *address, size_t size, int access)
{
	return fails(FAULTY_MPROTECT) ? -1 : __real_mprotect(address, size, access);
}

/* Where files have 64-bit sizes some names end in 64. */

#define WRAP_FCNTL(name)                                                                \
	WRAP(int, name, int fd, int command, ...)                                       \
	{                                                                               \
		va_list list;                                                           \
		long argument;                                                          \
                                                                                        \
		va_start(list, command);                                                \
		argument = va_arg(list, long);                                          \
		va_end(list);                                                           \
		return fails(FAULTY_FCNTL) ? -1 : __real_##name(fd, command, argument); \
	}
WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)

#define WRAP_OPEN(name)                                                            \
	WRAP(int, name, const char *path, int flags, ...)                          \
	{                                                                          \
		va_list list;                                                      \
		unsigned int mode;                                                 \
                                                                                   \
		va_start(list, flags);                                             \
		mode = va_arg(list, unsigned int);                                 \
		va_end(list);                                                      \
		return fails(FAULTY_OPEN) ? -1 : __real_##name(path, flags, mode); \
	}
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_FSTAT(name)                                                   \
	WRAP(int, name, int fd, struct stat *stat)                         \
	{                                                                  \
		return fails(FAULTY_FSTAT) ? -1 : __real_##name(fd, stat); \
	}
WRAP_FSTAT(fstat)
WRAP_FSTAT(fstat64)

static void
add_memory(long n)
{
	__atomic_fetch_add(&memory, n, __ATOMIC_RELAXED);
}

static void
count_memory(const void *allocated)
{
	if (allocated && counts_memory())
		add_memory(1);
}

/* A mapping may go piece by piece. */
static long
pages(size_t size)
{
	size_t page = (size_t)getpagesize();

	return (long)((size + page - 1) / page);
}

#define WRAP_MMAP(name)                                                                        \
	WRAP(void *, name, void *at, size_t size, int access, int flags, int fd, off_t offset) \
	{                                                                                      \
		void *result;                                                                  \
                                                                                               \
		if (fails(FAULTY_MMAP))                                                        \
			return MAP_FAILED;                                                     \
		result = __real_##name(at, size, access, flags, fd, offset);                   \
		if (is_inside && result != MAP_FAILED)                                         \
			add_memory(pages(size));                                               \
		return result;                                                                 \
	}
WRAP_MMAP(mmap)
WRAP_MMAP(mmap64)

/* Nothing is moved to a place that the caller chose. */
WRAP(void *, mremap, void *old, size_t old_size, size_t new_size, int flags, ...)
{
	void *result;

	if (fails(FAULTY_MREMAP))
		return MAP_FAILED;
	result = __real_mremap(old, old_size, new_size, flags);
	if (is_inside && result != MAP_FAILED)
		add_memory(pages(new_size) - pages(old_size));
	return result;
}

WRAP(int, munmap, void *address, size_t size)
{
	if (is_inside)
		add_memory(-pages(size));
	return __real_munmap(address, size);
}

WRAP(void *, malloc, size_t size)
{
	void *result = fails(FAULTY_MALLOC) ? NULL : __real_malloc(size);

	count_memory(result);
	return result;
}

WRAP(void, free, void *allocated)
{
	if (allocated && counts_memory())
		add_memory(-1);
	__real_free(allocated);
}

WRAP(void *, calloc, size_t n, size_t size)
{
	void *result = fails(FAULTY_CALLOC) ? NULL : __real_calloc(n, size);

	count_memory(result);
	return result;
}

WRAP(void *, realloc, void *allocated, size_t size)
{
	void *result = fails(FAULTY_REALLOC) ? NULL : __real_realloc(allocated, size);

	if (!allocated)
		count_memory(result);
	return result;
}

/* liburing says how it failed by its result. */

WRAP(int, io_uring_queue_init_params, unsigned int entries, struct io_uring *ring,
	struct io_uring_params *params)
{
	return fails(FAULTY_URING_INIT) ? -errno
	                                : __real_io_uring_queue_init_params(entries, ring, params);
}

WRAP(int, io_uring_ring_dontfork, struct io_uring *ring)
{
	return fails(FAULTY_URING_DONTFORK) ? -errno : __real_io_uring_ring_dontfork(ring);
}

WRAP(int, io_uring_register_buf_ring, struct io_uring *ring, struct io_uring_buf_reg *registration,
	unsigned int flags)
{
	return fails(FAULTY_URING_BUFFERS)
	               ? -errno
	               : __real_io_uring_register_buf_ring(ring, registration, flags);
}

WRAP(int, io_uring_submit_and_get_events, struct io_uring *ring)
{
	return fails(FAULTY_URING_SUBMIT) ? -errno : __real_io_uring_submit_and_get_events(ring);
}

WRAP(int, io_uring_submit_and_wait_timeout, struct io_uring *ring, struct io_uring_cqe **cqe,
	unsigned int n, struct __kernel_timespec *time, sigset_t *mask)
{
	return fails(FAULTY_URING_WAIT)
	               ? -errno
	               : __real_io_uring_submit_and_wait_timeout(ring, cqe, n, time, mask);
}
