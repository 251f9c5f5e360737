/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "raw.h"

static bool
is_passing(const struct bench_side *side, int error)
{
	if (error == ETOOMANYREFS) {
		/* The user's descriptors in flight are at their limit: let the
		   receiver take some. */
		sched_yield();
		return true;
	}
	return error == EINTR || (side->spins && error == EAGAIN);
}

static int
flags_of(const struct bench_side *side)
{
	return MSG_NOSIGNAL | (side->spins ? MSG_DONTWAIT : 0);
}

void
bench_raw_send(struct bench_side *side, const void *data, size_t size)
{
	ssize_t n;

	do {
		side->account->syscalls++;
		n = send(side->fd, data, size, flags_of(side));
	} while (n < 0 && is_passing(side, errno));
	if (n < 0)
		bench_side_fail(side, "send", -errno);
}

size_t
bench_raw_recv(struct bench_side *side, void *buffer, size_t size)
{
	ssize_t n;

	do {
		side->account->syscalls++;
		n = recv(side->fd, buffer, size, flags_of(side));
	} while (n < 0 && is_passing(side, errno));
	if (n < 0)
		bench_side_fail(side, "recv", -errno);
	return (size_t)n;
}

void
bench_raw_echo(struct bench_side *side)
{
	size_t size = side->config->size;
	void *buffer = bench_side_payload(side, size);

	while (bench_raw_recv(side, buffer, size) > 0) {
		side->account->sum += bench_first_word(buffer);
		side->account->messages++;
		bench_raw_send(side, buffer, size);
	}
}

bool
bench_raw_try_send(struct bench_side *side, int fd, const void *data, size_t size)
{
	ssize_t n;

	do {
		side->account->syscalls++;
		n = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		bench_side_fail(side, "send", -errno);
	return n >= 0;
}

size_t
bench_raw_try_recv(struct bench_side *side, int fd, void *buffer, size_t size)
{
	ssize_t n;

	do {
		side->account->syscalls++;
		n = recv(fd, buffer, size, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		bench_side_fail(side, "recv", n == 0 ? -EPIPE : -errno);
	return n < 0 ? 0 : (size_t)n;
}

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

void
bench_raw_send_fd(struct bench_side *side, const void *data, size_t size, int fd)
{
	union control control = {.header = {
					 .cmsg_len = CMSG_LEN(sizeof(int)),
					 .cmsg_level = SOL_SOCKET,
					 .cmsg_type = SCM_RIGHTS,
				 }};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	do {
		side->account->syscalls++;
		n = sendmsg(side->fd, &header, flags_of(side));
	} while (n < 0 && is_passing(side, errno));
	if (n < 0)
		bench_side_fail(side, "sendmsg", -errno);
}

size_t
bench_raw_recv_fd(struct bench_side *side, void *buffer, size_t size, int *ret_fd)
{
	union control control;
	struct iovec iov = {.iov_base = buffer, .iov_len = size};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	do {
		header.msg_control = &control;
		header.msg_controllen = sizeof(control);
		side->account->syscalls++;
		n = recvmsg(side->fd, &header, flags_of(side) | MSG_CMSG_CLOEXEC);
	} while (n < 0 && is_passing(side, errno));
	if (n < 0)
		bench_side_fail(side, "recvmsg", -errno);
	if (n == 0)
		return 0;

	if ((header.msg_flags & MSG_CTRUNC) || header.msg_controllen < CMSG_LEN(sizeof(int)))
		bench_side_fail(side, "recvmsg: descriptor", -EBADMSG);
	memcpy(ret_fd, CMSG_DATA(&control.header), sizeof(*ret_fd));
	return (size_t)n;
}

void
bench_raw_finish(struct bench_side *side)
{
	for (unsigned int i = 0; i < side->n_ends; i++)
		if (shutdown(side->fds[i], SHUT_WR) < 0)
			bench_side_fail(side, "shutdown", -errno);
}

/* What the kernel keeps of SO_SNDBUF for itself (unix_dgram_sendmsg). */
#define PACKET_OVERHEAD 32

int
bench_raw_packet_max(size_t send_buffer, size_t *ret_size)
{
	int fds[2], value = (int)send_buffer, r = 0;
	socklen_t size = sizeof(value);

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	if (value && setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)) < 0)
		r = -errno;
	if (r == 0 && getsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &value, &size) < 0)
		r = -errno;
	close(fds[0]);
	close(fds[1]);
	if (r == 0)
		*ret_size = (size_t)value - PACKET_OVERHEAD;
	return r;
}
