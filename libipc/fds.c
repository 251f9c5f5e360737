/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <string.h>

#include "base.h"
#include "closer.h"
#include "fds.h"
#include "sys.h"

/* How many descriptors from fds[0] on are successive numbers, of at most n. */
static unsigned int
successive(const int *fds, unsigned int n)
{
	unsigned int i = 1;

	while (i < n && fds[i] == fds[0] + (int)i)
		i++;
	return i;
}

void
ipci_fds_close_some(int *fds, unsigned int n)
{
	unsigned int i = 0, run, k;

	/* What came or was duplicated together mostly has successive numbers, all our own:
	   one system call closes them. A seccomp filter may forbid that one. */
	while (i < n) {
		run = fds[i] < 0 ? 1 : successive(fds + i, n - i);
		if (fds[i] >= 0 &&
			(run == 1 || ipci_sys_close_range(fds[i], fds[i + run - 1]) < 0)) {
			for (k = 0; k < run; k++)
				(void)ipci_sys_close(fds[i + k]);
		}
		i += run;
	}
	for (i = 0; i < n; i++)
		fds[i] = -1;
}

int
ipci_fds_add_dup(struct ipci_fds *set, const int *fds, unsigned int n)
{
	unsigned int i;
	int fd;

	for (i = 0; i < n; i++) {
		fd = ipci_sys_dup(fds[i]);
		if (fd < 0) {
			ipci_fds_close_some(set->fds + set->n, i);
			return fd;
		}
		set->fds[set->n + i] = fd;
	}
	set->n += n;
	return 0;
}

void
ipci_control_pack(
	struct msghdr *message, struct ipci_control *control, const int *fds, unsigned int n)
{
	struct cmsghdr *header = (struct cmsghdr *)(void *)control->bytes;

	if (!n) {
		message->msg_control = NULL;
		message->msg_controllen = 0;
		return;
	}
	*header = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int) * n),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	};
	memcpy(CMSG_DATA(header), fds, sizeof(int) * n);
	message->msg_control = control->bytes;
	message->msg_controllen = CMSG_SPACE(sizeof(int) * n);
	/* The kernel is shown the padding after an odd number too. */
	memset(control->bytes + CMSG_LEN(sizeof(int) * n), 0,
		CMSG_SPACE(sizeof(int) * n) - CMSG_LEN(sizeof(int) * n));
}

/* Without a wait if there is a closer. */
static void
close_one(int fd, struct ipci_closer **closer)
{
	if (closer)
		ipci_closer_close(closer, &fd, 1);
	else
		(void)ipci_sys_close(fd);
}

/* What comes at the number of a standard descriptor that is closed moves up. Those behind one that
   cannot are lost with it, as where the kernel has no room for it. */
static bool
collect_one(struct ipci_fds *set, int fd, bool complete, struct ipci_closer **closer)
{
	int lifted = fd;

	if (complete && set->n < IPCI_FDS_CAPACITY && ipci_unlikely(fd < IPCI_SYS_FD_MIN))
		lifted = ipci_sys_dup(fd);
	complete = complete && lifted >= 0;
	if (!complete || set->n >= IPCI_FDS_CAPACITY || lifted != fd)
		close_one(fd, closer);
	if (complete && set->n < IPCI_FDS_CAPACITY)
		set->fds[set->n++] = lifted;
	return complete;
}

bool
ipci_control_collect(struct msghdr *message, struct ipci_fds *set, struct ipci_closer **closer)
{
	struct cmsghdr *header;
	bool complete = true;
	size_t n, i;
	int fd;

	for (header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
			complete = collect_one(set, fd, complete, closer);
		}
	}
	return complete;
}

int
ipci_fds_probe(const int *fds, unsigned int n)
{
	struct iovec part = {.iov_base = (char[1]){0}, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct ipci_control control;
	int pair[2];
	ssize_t r;

	if (ipci_sys_socketpair(pair) < 0)
		return 0;
	ipci_control_pack(&message, &control, fds, n);
	r = ipci_sys_sendmsg(pair[0], &message, MSG_DONTWAIT);
	ipci_fds_close_some(pair, 2);
	return r == -EINVAL ? -EINVAL : 0;
}
