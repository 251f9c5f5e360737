/* SPDX-License-Identifier: MIT */
#ifndef CONFINE_H
#define CONFINE_H

/*
 * Shut a worker in: from here on it can use what it has and get nothing more.
 *
 * A seccomp filter lets through what a worker needs to receive, compute and reply. Whatever
 * else it tries, to open, connect, execute or fork, is "Operation not permitted".
 */

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define CONFINE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define CONFINE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define CONFINE_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define CONFINE_ARCH AUDIT_ARCH_PPC64LE
#else
#error "Name this machine's AUDIT_ARCH here"
#endif

#define CONFINE_LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned int)offsetof(struct seccomp_data, field))
#define CONFINE_RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define CONFINE_ALLOW(number) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), CONFINE_RETURN(SECCOMP_RET_ALLOW)

/* Return: 0 or -errno. It is for ever, and for this process's children. */
static inline int
confine(void)
{
	struct sock_filter filter[] = {
		/* The same number is another call at another architecture's entry. */
		CONFINE_LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CONFINE_ARCH, 1, 0),
		CONFINE_RETURN(SECCOMP_RET_KILL_PROCESS),
		CONFINE_LOAD(nr),
		/* Messages, and the wait for them. */
		CONFINE_ALLOW(__NR_sendmsg),
		CONFINE_ALLOW(__NR_sendto),
		CONFINE_ALLOW(__NR_recvmsg),
		CONFINE_ALLOW(__NR_recvfrom),
		CONFINE_ALLOW(__NR_shutdown),
		CONFINE_ALLOW(__NR_ppoll),
#ifdef __NR_poll
		CONFINE_ALLOW(__NR_poll),
#endif
		CONFINE_ALLOW(__NR_futex),
		CONFINE_ALLOW(__NR_clock_gettime),
		CONFINE_ALLOW(__NR_sched_getaffinity),
		/* The files that it is given. */
		CONFINE_ALLOW(__NR_read),
		CONFINE_ALLOW(__NR_pread64),
		CONFINE_ALLOW(__NR_write),
		CONFINE_ALLOW(__NR_close),
		CONFINE_ALLOW(__NR_fcntl),
		/* Memory. */
		CONFINE_ALLOW(__NR_brk),
		CONFINE_ALLOW(__NR_mmap),
		CONFINE_ALLOW(__NR_munmap),
		CONFINE_ALLOW(__NR_mremap),
		CONFINE_ALLOW(__NR_madvise),
		/* Its end; AddressSanitizer's version of it asks for the signal stack. */
		CONFINE_ALLOW(__NR_rt_sigreturn),
		CONFINE_ALLOW(__NR_sigaltstack),
		CONFINE_ALLOW(__NR_exit),
		CONFINE_ALLOW(__NR_exit_group),
		CONFINE_RETURN(SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = {
		.len = sizeof(filter) / sizeof(*filter),
		.filter = filter,
	};

	/* Without this only root may filter: a set-user-id program could be fooled. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

#endif
