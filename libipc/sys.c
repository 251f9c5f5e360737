/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/types.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
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

/* Of pidfd_send_signal(2), Linux 6.9: to the process group that has the process's id. */
#define PIDFD_GROUP (1U << 2)

#define CAPABILITIES_VERSION _LINUX_CAPABILITY_VERSION_3
#define CAPABILITIES_N       _LINUX_CAPABILITY_U32S_3

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

/* Of a thread of the library's own; resident is what it uses. */
#define THREAD_STACK_SIZE  (256U << 10)
#define THREAD_STACK_LARGE (8U << 20)
#define THREAD_NAME_SIZE   16 /* prctl(2) */

/* Of null(4) and its kin: linux/major.h. */
#define MEM_MAJOR 1

/* How long a child is waited for whose pidfd could not be lifted, and that was killed for it. */
#define LIFT_KILL_MS 1000

/* The result of a system call that shall be repeated while a signal interrupts it. */
#define RETRIED(call)                                             \
	__extension__({                                           \
		__typeof__(call) result_;                         \
		do                                                \
			result_ = (call);                         \
		while (result_ < 0 && errno == EINTR);            \
		result_ < 0 ? (__typeof__(call))-errno : result_; \
	})

/*
 * The result of a system call in which this thread is not cancelled: where it were, the C library
 * could have it leave with what the call has done, a packet received for example, untold. Where
 * there is no other thread nobody cancels.
 */
#define UNCANCELLED(call)                                                              \
	__extension__({                                                                \
		__typeof__(call) done_;                                                \
		int state_ = 0;                                                        \
		bool alone_ = __libc_single_threaded;                                  \
		if (!alone_)                                                           \
			(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_); \
		done_ = (call);                                                        \
		if (!alone_)                                                           \
			(void)pthread_setcancelstate(state_, &state_);                 \
		done_;                                                                 \
	})

static unsigned int generation;
static pthread_once_t generation_once = PTHREAD_ONCE_INIT;

static void
next_generation(void)
{
	generation++;
}

static void
follow_forks(void)
{
	(void)pthread_atfork(NULL, NULL, next_generation);
}

unsigned int
ipci_sys_generation(void)
{
	(void)pthread_once(&generation_once, follow_forks);
	return generation;
}

bool
ipci_sys_may_be_cancelled(void)
{
	return !__libc_single_threaded;
}

int
ipci_sys_lift(int fd)
{
	int lifted;

	if (fd < 0 || fd >= IPCI_SYS_FD_MIN)
		return fd;
	lifted = RETRIED(fcntl(fd, F_DUPFD_CLOEXEC, IPCI_SYS_FD_MIN));
	(void)ipci_sys_close(fd);
	/* EINVAL: the limit is below that. */
	return lifted == -EINVAL ? -EMFILE : lifted;
}

/* Both out of the way of standard input, output and error, or closed. */
static int
lift_two(int fds[2], int ret_fds[2])
{
	int i;

	for (i = 0; i < 2; i++) {
		fds[i] = ipci_sys_lift(fds[i]);
		if (fds[i] < 0) {
			(void)ipci_sys_close(fds[1 - i]);
			return fds[i];
		}
	}
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

int
ipci_sys_socketpair(int ret_fds[2])
{
	int fds[2], r = RETRIED(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));

	return r < 0 ? r : lift_two(fds, ret_fds);
}

int
ipci_sys_close(int fd)
{
	/* Never repeated: on Linux the descriptor is gone even after EINTR. */
	return UNCANCELLED(close(fd)) < 0 && errno != EINTR ? -errno : 0;
}

int
ipci_sys_close_range(int first, int last)
{
	return RETRIED((int)syscall(SYS_close_range, (unsigned int)first, (unsigned int)last, 0U));
}

int
ipci_sys_dup(int fd)
{
	return RETRIED(fcntl(fd, F_DUPFD_CLOEXEC, IPCI_SYS_FD_MIN));
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
	return UNCANCELLED(RETRIED(send(fd, data, size, flags | MSG_NOSIGNAL)));
}

ssize_t
ipci_sys_recv(int fd, void *buffer, size_t size, int flags)
{
	return UNCANCELLED(RETRIED(recv(fd, buffer, size, flags | MSG_TRUNC)));
}

ssize_t
ipci_sys_sendmsg(int fd, const struct msghdr *message, int flags)
{
	return UNCANCELLED(RETRIED(sendmsg(fd, message, flags | MSG_NOSIGNAL)));
}

ssize_t
ipci_sys_recvmsg(int fd, struct msghdr *message, int flags)
{
	return UNCANCELLED(RETRIED(recvmsg(fd, message, flags | MSG_CMSG_CLOEXEC)));
}

int
ipci_sys_poll(int fd, short events, int timeout_ms)
{
	struct pollfd pollfd = {.fd = fd, .events = events};
	int r = timeout_ms ? poll(&pollfd, fd >= 0, timeout_ms)
	                   : UNCANCELLED(poll(&pollfd, fd >= 0, timeout_ms));

	return r < 0 ? -errno : pollfd.revents;
}

int
ipci_sys_poll_either(int a, int b, int timeout_ms)
{
	struct pollfd pollfds[] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
	int r = poll(pollfds, 2, timeout_ms);

	return r < 0 ? -errno : r;
}

int
ipci_sys_pipe(int ret_fds[2])
{
	int fds[2], r = RETRIED(pipe2(fds, O_CLOEXEC | O_NONBLOCK));

	return r < 0 ? r : lift_two(fds, ret_fds);
}

int
ipci_sys_eventfd(void)
{
	return ipci_sys_lift(RETRIED(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
}

int
ipci_sys_timerfd(void)
{
	return ipci_sys_lift(RETRIED(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)));
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

	r = UNCANCELLED(RETRIED(write(fd, &one, sizeof(one)))) < 0 ? -errno : 0;
	errno = was;
	return r;
}

int
ipci_sys_counter_read(int fd)
{
	uint64_t count;

	return UNCANCELLED(RETRIED(read(fd, &count, sizeof(count)))) < 0 ? -errno : 0;
}

int
ipci_sys_eventfd_tell(int fd, uint64_t number)
{
	return UNCANCELLED(RETRIED(write(fd, &number, sizeof(number)))) < 0 ? -errno : 0;
}

int
ipci_sys_eventfd_take(int fd, uint64_t *ret_number)
{
	return UNCANCELLED(RETRIED(read(fd, ret_number, sizeof(*ret_number)))) < 0 ? -errno : 0;
}

int
ipci_sys_epoll_create(void)
{
	return ipci_sys_lift(RETRIED(epoll_create1(EPOLL_CLOEXEC)));
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
ipci_sys_map_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

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
ipci_sys_drop(void *memory, size_t size)
{
	return RETRIED(madvise(memory, size, MADV_DONTNEED));
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
	int fd = ipci_sys_open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = UNCANCELLED(RETRIED(read(fd, buffer, size - 1)));
	(void)ipci_sys_close(fd);
	if (n >= 0)
		buffer[n] = '\0';
	return n;
}

pid_t
ipci_sys_clone(int (*child)(void *arg), void *arg, void *stack_end, enum ipci_sys_child kind,
	int *ret_pidfd)
{
	const int shared = kind == IPCI_SYS_CHILD_COPY ? 0 : CLONE_VM | CLONE_VFORK;
	const int signal = kind == IPCI_SYS_CHILD_TRIAL ? 0 : SIGCHLD;
	int pidfd = -1, lifted;
	pid_t pid = clone(child, stack_end, shared | CLONE_PIDFD | signal, arg, &pidfd);

	if (pid < 0)
		return -errno;
	lifted = pidfd < 0 || pidfd >= IPCI_SYS_FD_MIN ? pidfd : ipci_sys_dup(pidfd);
	if (lifted < 0 && pidfd >= 0) {
		/* No room for it: without one the child cannot be told from others. */
		(void)ipci_sys_pidfd_kill(pidfd, SIGKILL);
		(void)ipci_sys_poll(pidfd, POLLIN, LIFT_KILL_MS);
		(void)ipci_sys_reap_pid(pid);
	}
	if (lifted != pidfd)
		(void)ipci_sys_close(pidfd);
	*ret_pidfd = lifted;
	return lifted < 0 && pidfd >= 0 ? -EMFILE : pid;
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
	return ipci_sys_lift(RETRIED((int)syscall(SYS_pidfd_open, pid, 0)));
}

int
ipci_sys_pidfd_kill(int pidfd, int signal)
{
	return RETRIED((int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int
ipci_sys_kill(pid_t pid, int signal)
{
	return RETRIED(kill(pid, signal));
}

int
ipci_sys_kill_group(int pidfd, pid_t leader, int signal)
{
	int r = RETRIED((int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, PIDFD_GROUP));

	return r == -EINVAL || r == -ENOSYS ? RETRIED(kill(-leader, signal)) : r;
}

int
ipci_sys_reap_pid(pid_t pid)
{
	pid_t reaped = RETRIED(waitpid(pid, NULL, WNOHANG));

	return reaped < 0 ? reaped : reaped ? 0 : -EAGAIN;
}

/* As the kernel writes it, whatever size of time_t the C library has. */
struct kernel_rusage {
	__kernel_long_t user_s, user_us;
	__kernel_long_t system_s, system_us;
	__kernel_long_t max_rss_kib;
	__kernel_long_t rest[13];
};

/* Return: whether a look at a child, which leaves all as it is, finds it so. */
static bool
is_found(int pidfd, int state)
{
	const int options = state | WNOHANG | WNOWAIT;
	siginfo_t info = {.si_pid = 0};

	return RETRIED((int)syscall(SYS_waitid, WAIT_PIDFD, pidfd, &info, options, NULL)) == 0 &&
	       info.si_pid;
}

bool
ipci_sys_has_ended(int pidfd)
{
	return is_found(pidfd, WEXITED);
}

bool
ipci_sys_is_stopped(int pidfd)
{
	return is_found(pidfd, WSTOPPED);
}

int
ipci_sys_reap(int pidfd, struct ipci_sys_end *ret_end)
{
	/* A trial's child sends no SIGCHLD, and is waited for only so. */
	const int options = WEXITED | WNOHANG | __WALL;
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

int
ipci_sys_signal_ignore(int signal)
{
	const struct sigaction action = {.sa_handler = SIG_IGN};

	return sigaction(signal, &action, NULL) < 0 ? -errno : 0;
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
	return ipci_sys_lift(UNCANCELLED(RETRIED(open(path, flags | O_CLOEXEC))));
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
ipci_sys_join_group(bool new_session)
{
	pid_t r = new_session ? setsid() : setpgid(0, 0);

	return r < 0 ? -errno : 0;
}

int
ipci_sys_set_no_new_privs(void)
{
	return RETRIED(prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL));
}

int
ipci_sys_get_uids(uid_t ret_uids[3])
{
	return RETRIED(getresuid(&ret_uids[0], &ret_uids[1], &ret_uids[2]));
}

int
ipci_sys_get_gids(gid_t ret_gids[3])
{
	return RETRIED(getresgid(&ret_gids[0], &ret_gids[1], &ret_gids[2]));
}

int
ipci_sys_drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = CAPABILITIES_VERSION};
	const struct __user_cap_data_struct none[CAPABILITIES_N] = {{.effective = 0}};

	/* Refused where the bit is locked, or not there: what it keeps goes now. */
	(void)RETRIED(prctl(PR_SET_KEEPCAPS, 0UL, 0UL, 0UL, 0UL));
	(void)RETRIED(
		prctl(PR_CAP_AMBIENT, (unsigned long)PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL));
	return RETRIED((int)syscall(SYS_capset, &header, none));
}

int
ipci_sys_has_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = CAPABILITIES_VERSION};
	struct __user_cap_data_struct data[CAPABILITIES_N] = {{.effective = 0}};
	int r = RETRIED((int)syscall(SYS_capget, &header, data)), i;

	if (r < 0)
		return r;
	for (i = 0; i < CAPABILITIES_N; i++)
		if (data[i].effective | data[i].permitted | data[i].inheritable)
			return 1;
	return 0;
}

int
ipci_sys_exec(const char *path, char *const *argv, char *const *envp)
{
	(void)execve(path, argv, envp);
	return -errno;
}

/* Not synchronized: a server of the file system need not be asked. */
static bool
look_at(int fd, struct statx *ret)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_BLOCKS, ret) ==
	       0;
}

static uint64_t
device_of(const struct statx *file)
{
	return (uint64_t)file->stx_dev_major << 32 | file->stx_dev_minor;
}

/* All memfds are on one device, which has nothing else but such memory. Return: it, or 0. */
static uint64_t
memfd_device(void)
{
	static _Atomic uint64_t known;
	uint64_t device = atomic_load_explicit(&known, memory_order_relaxed);
	struct statx file;
	int fd;

	if (device)
		return device;
	fd = memfd_create("libipc", MFD_CLOEXEC);
	if (fd < 0)
		return 0;
	if (look_at(fd, &file))
		device = device_of(&file);
	(void)ipci_sys_close(fd);
	atomic_store_explicit(&known, device, memory_order_relaxed);
	return device;
}

bool
ipci_sys_is_plain_memory(int fd, uint64_t bytes_max)
{
	struct statx file;

	if (!look_at(fd, &file))
		return false;
	if (S_ISCHR(file.stx_mode))
		return file.stx_rdev_major == MEM_MAJOR;
	return S_ISREG(file.stx_mode) && device_of(&file) == memfd_device() &&
	       file.stx_blocks <= bytes_max / 512;
}

int
ipci_sys_limit_linger(int fd, int seconds)
{
	struct linger linger;
	socklen_t size = sizeof(linger);
	int r = RETRIED(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size));

	if (r < 0 || !linger.l_onoff || linger.l_linger <= seconds)
		return r;
	linger = (struct linger){.l_onoff = seconds > 0, .l_linger = seconds};
	return RETRIED(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
}

int
ipci_sys_thread(const char *name, void *(*run)(void *arg), void *arg)
{
	char name_before[THREAD_NAME_SIZE] = "";
	sigset_t signals_before;
	pthread_attr_t attributes;
	pthread_t thread;
	int r = pthread_attr_init(&attributes);

	if (r)
		return -r;
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
	/* It inherits both: signals are the application's, and it has its name from the first
	   moment on. */
	ipci_sys_signals_block(&signals_before);
	(void)RETRIED(prctl(PR_GET_NAME, name_before));
	(void)RETRIED(prctl(PR_SET_NAME, name));
	r = pthread_create(&thread, &attributes, run, arg);
	/* A program can have more memory for each thread than that. */
	if (r == EINVAL && pthread_attr_setstacksize(&attributes, THREAD_STACK_LARGE) == 0)
		r = pthread_create(&thread, &attributes, run, arg);
	(void)RETRIED(prctl(PR_SET_NAME, name_before));
	ipci_sys_signals_restore(&signals_before);
	(void)pthread_attr_destroy(&attributes);
	return -r;
}
