/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_FAULTS_H
#define LIBIPC_TESTS_FAULTS_H

/*
 * System calls and allocations of the library that fail on demand, by the linker's --wrap.
 *
 * Only what is called inside LIBRARY() fails or is counted: the tests' own calls go through. A
 * child that the library forks is inside until it says otherwise.
 */

#include <stdbool.h>
#include <stddef.h>

enum faulty {
	FAULTY_SENDMSG,
	FAULTY_SEND,
	FAULTY_RECVMSG,
	FAULTY_RECV,
	FAULTY_POLL,
	FAULTY_SOCKETPAIR,
	FAULTY_SETSOCKOPT,
	FAULTY_GETSOCKOPT,
	FAULTY_GETPEERNAME,
	FAULTY_SHUTDOWN,
	FAULTY_FCNTL,
	FAULTY_FSTAT,
	FAULTY_CLOSE,
	FAULTY_CLOSE_RANGE,
	FAULTY_OPEN,
	FAULTY_READ,
	FAULTY_WRITE,
	FAULTY_EPOLL_CREATE,
	FAULTY_EPOLL_CTL,
	FAULTY_EPOLL_WAIT,
	FAULTY_EVENTFD,
	FAULTY_TIMERFD_CREATE,
	FAULTY_TIMERFD_SETTIME,
	FAULTY_SCHED_GETAFFINITY,
	FAULTY_GETRANDOM,
	/* Of processes. */
	FAULTY_WAITID,
	FAULTY_WAITPID,
	FAULTY_PIDFD_OPEN,
	FAULTY_PIDFD_KILL,
	FAULTY_DUP2,
	FAULTY_GETDENTS,
	FAULTY_CHDIR,
	FAULTY_PRLIMIT,
	FAULTY_SCHED_SETAFFINITY,
	FAULTY_SETGROUPS,
	FAULTY_SETRESGID,
	FAULTY_SETRESUID,
	FAULTY_CAPSET,
	FAULTY_CAPGET,
	FAULTY_PRCTL,
	FAULTY_PIPE,
	/* Those that no signal interrupts are from here on. */
	FAULTY_CLONE,
	FAULTY_FORK,
	FAULTY_EXEC,
	FAULTY_SETPGID,
	FAULTY_MPROTECT,
	FAULTY_MMAP,
	FAULTY_MREMAP,
	FAULTY_MADVISE,
	FAULTY_MALLOC,
	FAULTY_CALLOC,
	FAULTY_REALLOC,
	/* Of liburing. */
	FAULTY_URING_INIT,
	FAULTY_URING_DONTFORK,
	FAULTY_URING_BUFFERS,
	FAULTY_URING_SUBMIT,
	FAULTY_URING_WAIT,
	FAULTY_N,
};

struct fault {
	enum faulty call;
	int error;
	unsigned int nth; /* 1: the first call */
	bool onward;      /* and every one after it */
	size_t above;     /* not 0: it is packets of more bytes that fail, sent either way */
};

/* Let this fault happen, or none with NULL; begin to count anew. */
void fault_arm(const struct fault *fault);
/* Let it happen no more. What was counted stays. */
void fault_pass(void);
/* Let nothing fail for a while. */
void fault_hold(bool hold);
/* Let a call be one that this kernel does not have, from now on or no more. */
void fault_lack(enum faulty call, bool lacks);
/* How often it has happened, in children that were forked meanwhile, too, and with which errno. */
unsigned int fault_count(void);
int fault_error(void);
/* What was armed last, in words. */
const char *fault_text(void);
/* How often the library has made this call, ever. */
unsigned int fault_calls(enum faulty call);
const char *fault_name(enum faulty call);

/* Allocations and pages mapped of the library that are not freed. */
long fault_memory(void);

/* Evaluate a call of the library. */
#define LIBRARY(call)                     \
	__extension__({                   \
		__typeof__(call) result_; \
		fault_inside(true);       \
		result_ = (call);         \
		fault_inside(false);      \
		result_;                  \
	})
void fault_inside(bool inside);

#endif
