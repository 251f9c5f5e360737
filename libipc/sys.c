/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/types.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9, the same number everywhere */
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424 /* Linux 5.1 */
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* Linux 5.3 */
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000 /* Linux 5.2, sched.h */
#endif

/* Of waitid(2): P_PIDFD, Linux 5.4. In some C libraries it is no macro, and in older ones not
 * there.
 */
#define WAIT_PIDFD 3

/* Ids had 16 bits once, on some machines. */
#ifdef SYS_setgroups32
#define RAW_SETGROUPS SYS_setgroups32
#define RAW_SETRESUID SYS_setresuid32
#define RAW_SETRESGID SYS_setresgid32
#else
#define RAW_SETGROUPS SYS_setgroups
#define RAW_SETRESUID SYS_setresuid
#define RAW_SETRESGID SYS_setresgid
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

unsigned int
ipci_sys_fds_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT32_MAX)
		return INT32_MAX;
	return (unsigned int)limit.rlim_cur;
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

int
ipci_sys_shutdown_writing(int fd)
{
	return RETRIED(shutdown(fd, SHUT_WR));
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
	int r = poll(&pollfd, fd >= 0, timeout_ms);

	return r < 0 ? -errno : pollfd.revents;
}

int
ipci_sys_poll_either(int a, int b)
{
	struct pollfd pollfds[] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};

	return RETRIED(poll(pollfds, 2, -1));
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
ipci_sys_eventfd_tell(int fd, uint64_t number)
{
	return RETRIED(write(fd, &number, sizeof(number))) < 0 ? -errno : 0;
}

int
ipci_sys_eventfd_take(int fd, uint64_t *ret_number)
{
	return RETRIED(read(fd, ret_number, sizeof(*ret_number))) < 0 ? -errno : 0;
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

int
ipci_sys_random(void *ret_buffer, size_t size)
{
	unsigned char *bytes = ret_buffer;
	ssize_t n;

	while (size) {
		n = getrandom(bytes, size, GRND_NONBLOCK);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			bytes += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

size_t
ipci_sys_pages(size_t size)
{
	size_t page = (size_t)getpagesize();

	return (size + page - 1) / page * page;
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

void *
ipci_sys_map_stack(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	if (mprotect(memory, (size_t)getpagesize(), PROT_NONE) < 0) {
		(void)munmap(memory, size);
		return NULL;
	}
	return memory;
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

pid_t
ipci_sys_clone(int (*child)(void *arg), void *arg, void *stack_end, int *ret_pidfd)
{
	const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
	pid_t pid = clone(child, stack_end, flags, arg, ret_pidfd);

	return pid < 0 ? -errno : pid;
}

pid_t
ipci_sys_fork(void)
{
	pid_t pid = fork();

	return pid < 0 ? -errno : pid;
}

int
ipci_sys_pidfd_open(pid_t pid)
{
	return RETRIED((int)syscall(SYS_pidfd_open, pid, 0));
}

int
ipci_sys_pidfd_kill(int pidfd, int signal)
{
	return RETRIED((int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

void
ipci_sys_reap_pid(pid_t pid)
{
	(void)RETRIED(waitpid(pid, NULL, 0));
}

/* As the kernel writes it, whatever size of time_t the C library has. */
struct kernel_rusage {
	__kernel_long_t user_s, user_us;
	__kernel_long_t system_s, system_us;
	__kernel_long_t max_rss_kib;
	__kernel_long_t rest[13];
};

int
ipci_sys_reap(int pidfd, bool waits, struct ipci_sys_end *ret_end)
{
	const int options = waits ? WEXITED : WEXITED | WNOHANG;
	struct kernel_rusage usage = {.user_s = 0};
	siginfo_t info = {.si_pid = 0};
	int r = RETRIED((int)syscall(SYS_waitid, WAIT_PIDFD, pidfd, &info, options, &usage));

	if (r < 0)
		return r;
	if (!info.si_pid)
		return -EAGAIN;
	*ret_end = (struct ipci_sys_end){
		.status = info.si_code == CLD_EXITED   ? (info.si_status & 0xFF) << 8
	                  : info.si_code == CLD_DUMPED ? info.si_status | WCOREFLAG
	                                               : info.si_status,
		.user_us = (uint64_t)usage.user_s * 1000000 + (uint64_t)usage.user_us,
		.system_us = (uint64_t)usage.system_s * 1000000 + (uint64_t)usage.system_us,
		.max_rss_kib = (uint64_t)usage.max_rss_kib,
	};
	return 0;
}

void
ipci_sys_signals_block(sigset_t *ret_before)
{
	sigset_t all;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, ret_before);
}

void
ipci_sys_signals_restore(const sigset_t *before)
{
	(void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

void
ipci_sys_signals_default(void)
{
	const struct sigaction action = {.sa_handler = SIG_DFL};
	int signal;

	/* It fails for those that cannot be caught, and for the C library's own. */
	for (signal = 1; signal < _NSIG; signal++)
		(void)sigaction(signal, &action, NULL);
}

void
ipci_sys_signals_unblock(void)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

int
ipci_sys_get_cloexec(int fd)
{
	int flags = RETRIED(fcntl(fd, F_GETFD));

	return flags < 0 ? flags : flags & FD_CLOEXEC;
}

int
ipci_sys_open(const char *path, int flags)
{
	return RETRIED(open(path, flags | O_CLOEXEC));
}

int
ipci_sys_dup_above(int fd, int min)
{
	return RETRIED(fcntl(fd, F_DUPFD_CLOEXEC, min));
}

int
ipci_sys_dup_to(int fd, int as)
{
	return RETRIED(dup2(fd, as));
}

ssize_t
ipci_sys_read_directory(int fd, void *buffer, size_t size)
{
	return RETRIED(getdents64(fd, buffer, size));
}

int
ipci_sys_chdir(const char *path)
{
	return RETRIED(chdir(path));
}

int
ipci_sys_set_limit(int resource, uint64_t soft, uint64_t hard)
{
	const uint64_t limit[2] = {soft, hard}; /* struct rlimit64 */

	return RETRIED((int)syscall(SYS_prlimit64, 0, resource, limit, NULL));
}

int
ipci_sys_set_cpus(const void *mask, size_t size)
{
	return RETRIED((int)syscall(SYS_sched_setaffinity, 0, size, mask));
}

int
ipci_sys_set_groups(const gid_t *groups, size_t n)
{
	return RETRIED((int)syscall(RAW_SETGROUPS, n, groups));
}

int
ipci_sys_set_ids(uid_t uid, gid_t gid)
{
	int r = RETRIED((int)syscall(RAW_SETRESGID, gid, gid, gid));

	return r < 0 ? r : RETRIED((int)syscall(RAW_SETRESUID, uid, uid, uid));
}

int
ipci_sys_set_parent_death_signal(int signal)
{
	return RETRIED(prctl(PR_SET_PDEATHSIG, (unsigned long)signal));
}

int
ipci_sys_exec(char *const *argv, char *const *envp)
{
	(void)execvpe(argv[0], argv, envp);
	return -errno;
}
