/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9, the same number everywhere */
#endif

/* The result of a system call that shall be repeated while a signal interrupts it. */
#define RETRIED(call)                                             \
	__extension__({                                           \
		__typeof__(call) result_;                         \
		do                                                \
			result_ = (call);                         \
		while (result_ < 0 && errno == EINTR);            \
		result_ < 0 ? (__typeof__(call))-errno : result_; \
	})

int
ipci_sys_socketpair(int ret_fds[2])
{
	return RETRIED(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds));
}

int
ipci_sys_close(int fd)
{
	/* Never repeated: on Linux the descriptor is gone even after EINTR. */
	return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

int
ipci_sys_close_range(int first, int last)
{
	return RETRIED((int)syscall(SYS_close_range, (unsigned int)first, (unsigned int)last, 0U));
}

int
ipci_sys_dup(int fd)
{
	return RETRIED(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

int
ipci_sys_set_cloexec(int fd, bool on)
{
	int flags = RETRIED(fcntl(fd, F_GETFD)), r = 0;
	bool was;

	if (flags < 0)
		return flags;
	was = flags & FD_CLOEXEC;
	if (was != on)
		r = RETRIED(fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC));
	return r < 0 ? r : was;
}

int
ipci_sys_fstat(int fd, struct stat *ret_stat)
{
	return RETRIED(fstat(fd, ret_stat));
}

int
ipci_sys_getsockopt_int(int fd, int option, int *ret_value)
{
	socklen_t size = sizeof(*ret_value);

	return RETRIED(getsockopt(fd, SOL_SOCKET, option, ret_value, &size));
}

int
ipci_sys_setsockopt_int(int fd, int option, int value)
{
	return RETRIED(setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)));
}

int
ipci_sys_getpeername(int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	return RETRIED(getpeername(fd, (struct sockaddr *)&address, &size));
}

int
ipci_sys_shutdown(int fd)
{
	return RETRIED(shutdown(fd, SHUT_RDWR));
}

ssize_t
ipci_sys_send(int fd, const void *data, size_t size, int flags)
{
	return RETRIED(send(fd, data, size, flags | MSG_NOSIGNAL));
}

ssize_t
ipci_sys_recv(int fd, void *buffer, size_t size, int flags)
{
	return RETRIED(recv(fd, buffer, size, flags | MSG_TRUNC));
}

ssize_t
ipci_sys_sendmsg(int fd, const struct msghdr *message, int flags)
{
	return RETRIED(sendmsg(fd, message, flags | MSG_NOSIGNAL));
}

ssize_t
ipci_sys_recvmsg(int fd, struct msghdr *message, int flags)
{
	return RETRIED(recvmsg(fd, message, flags | MSG_CMSG_CLOEXEC));
}

int
ipci_sys_poll(int fd, short events, int timeout_ms)
{
	struct pollfd pollfd = {.fd = fd, .events = events};
	int r = poll(&pollfd, 1, timeout_ms);

	return r < 0 ? -errno : pollfd.revents;
}

int
ipci_sys_eventfd(void)
{
	return RETRIED(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int
ipci_sys_timerfd(void)
{
	return RETRIED(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

int
ipci_sys_timerfd_set(int fd, int64_t at_ns)
{
	const struct itimerspec spec = {
		.it_value = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000},
	};

	return RETRIED(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
}

int
ipci_sys_eventfd_raise(int fd)
{
	const uint64_t one = 1;
	int was = errno, r;

	r = RETRIED(write(fd, &one, sizeof(one))) < 0 ? -errno : 0;
	errno = was;
	return r;
}

int
ipci_sys_counter_read(int fd)
{
	uint64_t count;

	return RETRIED(read(fd, &count, sizeof(count))) < 0 ? -errno : 0;
}

int
ipci_sys_epoll_create(void)
{
	return RETRIED(epoll_create1(EPOLL_CLOEXEC));
}

int
ipci_sys_epoll_ctl(int epoll_fd, int operation, int fd, uint32_t events, void *data)
{
	struct epoll_event event = {.events = events, .data = {.ptr = data}};

	return RETRIED(epoll_ctl(epoll_fd, operation, fd, &event));
}

int
ipci_sys_epoll_wait(int epoll_fd, struct epoll_event *ret_events, int n, int timeout_ms)
{
	int r = epoll_wait(epoll_fd, ret_events, n, timeout_ms);

	return r < 0 ? -errno : r;
}

int64_t
ipci_sys_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void *
ipci_sys_map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

void *
ipci_sys_remap(void *memory, size_t old_size, size_t new_size)
{
	void *moved = mremap(memory, old_size, new_size, MREMAP_MAYMOVE);

	return moved == MAP_FAILED ? NULL : moved;
}

void
ipci_sys_unmap(void *memory, size_t size)
{
	if (memory)
		(void)munmap(memory, size);
}

int
ipci_sys_wipe_on_fork(void *memory, size_t size)
{
	return RETRIED(madvise(memory, size, MADV_WIPEONFORK));
}

int
ipci_sys_keep_from_fork(void *memory, size_t size)
{
	return RETRIED(madvise(memory, size, MADV_DONTFORK));
}

unsigned int
ipci_sys_cpus(void)
{
	cpu_set_t set;

	/* EINVAL: more CPUs than the set has room for. */
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return UINT_MAX;
	return (unsigned int)CPU_COUNT(&set);
}

ssize_t
ipci_sys_read_file(const char *path, char *buffer, size_t size)
{
	int fd = RETRIED(open(path, O_RDONLY | O_CLOEXEC));
	ssize_t n;

	if (fd < 0)
		return fd;
	n = RETRIED(read(fd, buffer, size - 1));
	(void)ipci_sys_close(fd);
	if (n >= 0)
		buffer[n] = '\0';
	return n;
}
