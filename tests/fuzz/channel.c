/* SPDX-License-Identifier: MIT */

/*
 * Any packets, from a peer that sends them on the bare socket, with and without descriptors.
 *
 * Input: a byte of options (OPTION_...), then packets: a byte of PACKET_... , two bytes of size,
 * and as many bytes, or what is left.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "wire.h"

enum {
	OPTION_NO_HELLO = 1 << 0, /* the first packet is not a hello that was made for it */
	OPTION_NO_FDS = 1 << 1,
	OPTION_NARROW = 1 << 2,
	OPTION_CALL = 1 << 3, /* calls before it receives */
};

#define PACKET_FDS 3 /* a mask: how many descriptors come with it */

#define FDS_MAX      2
#define NARROW_MAX   5000
#define MESSAGES_MAX 100000

static struct ipc_channel *
open_channel(unsigned int choices, int ret_fds[2])
{
	struct ipc_channel_options options = {
		.size = sizeof(options),
		.message_max = choices & OPTION_NARROW ? NARROW_MAX : 1 << 20,
		.record_max = IPC_CHANNEL_RECORD_MAX_MIN,
		.fds_max = choices & OPTION_NO_FDS ? 0 : FDS_MAX,
		.spin_us = -1,
	};
	struct ipc_channel *channel;

	require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) == 0);
	require(ipc_channel_open(&channel, ret_fds[0], &options) == 0);
	return channel;
}

static void
send_hello(int fd)
{
	static const struct ipci_limits limits = {
		.message_max = 1 << 20, .record_max = 1 << 16, .fds_max = FDS_MAX};
	struct ipci_hello hello;

	ipci_hello_init(&hello, &limits);
	require(send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello));
}

/* Return: whether it was sent. */
static int
send_packet(int fd, const uint8_t *bytes, size_t size, int passed, unsigned int n_fds)
{
	struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	_Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * PACKET_FDS)] = {0};
	struct cmsghdr header = {
		.cmsg_len = CMSG_LEN(sizeof(int) * n_fds),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	};
	unsigned int i;

	if (n_fds) {
		memcpy(control, &header, sizeof(header));
		for (i = 0; i < n_fds; i++)
			memcpy(control + CMSG_LEN(0) + i * sizeof(int), &passed, sizeof(passed));
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static void
use_message(struct ipc_message *message, unsigned int choices)
{
	size_t limit = choices & OPTION_NARROW ? NARROW_MAX : 1 << 20;
	uint8_t *copy;
	int fd;

	require(message->size <= limit);
	require(!(message->flags & ~(IPC_MESSAGE_REPLY | IPC_MESSAGE_MORE | IPC_MESSAGE_CANCEL)));
	require(message->n_fds <= (choices & OPTION_NO_FDS ? 0 : FDS_MAX));
	if (message->size) {
		require((uintptr_t)message->data % 8 == 0);
		copy = malloc(message->size);
		require(copy);
		memcpy(copy, message->data, message->size);
		free(copy);
	}
	if (message->n_fds) {
		fd = ipc_message_take_fd(message, message->n_fds - 1);
		require(fcntl(fd, F_GETFD) == FD_CLOEXEC);
		require(close(fd) == 0);
	}
}

/* Receive all that is here. Return: what stood in the way of more. */
static int
receive_all(struct ipc_channel *channel, unsigned int choices)
{
	struct ipc_message message, request = {.id = 7};
	unsigned int n;
	int r;

	if (choices & OPTION_CALL) {
		r = ipc_channel_call(channel, &request, &message, 0);
		require(r == 0 || r == -EAGAIN || r == -EPIPE || r == -EPROTO || r == -EBADMSG ||
			r == -EOVERFLOW);
		if (r == 0)
			use_message(&message, choices);
	}
	for (n = 0; n < MESSAGES_MAX; n++) {
		r = ipc_channel_recv(channel, &message, 0);
		if (r == 0)
			use_message(&message, choices);
		else if (r != -EBADMSG)
			break;
	}
	require(r == 0 || r == -EBADMSG || r == -EAGAIN || r == -EPIPE || r == -EPROTO);
	return r;
}

/* The lowest number that is free: whatever leaks takes it. */
static int
lowest_free(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

	require(fd >= 0);
	require(close(fd) == 0);
	return fd;
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const uint8_t *end = input + size;
	int fds[2], r = -EAGAIN, lowest = lowest_free(), passed;
	struct ipc_channel *channel;
	unsigned int choices;
	size_t packet_size;

	if (!size)
		return 0;
	choices = *input++;
	/* Not an end of the socket: that would then never see its end. */
	passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	require(passed >= 0);
	channel = open_channel(choices, fds);
	if (!(choices & OPTION_NO_HELLO))
		send_hello(fds[1]);
	while (end - input >= 3 && r != -EPROTO) {
		packet_size = (size_t)input[1] | (size_t)input[2] << 8;
		packet_size = IPCI_MIN(packet_size, (size_t)(end - input) - 3);
		if (!send_packet(fds[1], input + 3, packet_size, passed, input[0] & PACKET_FDS))
			break;
		input += 3 + packet_size;
		r = receive_all(channel, choices);
	}
	require(close(fds[1]) == 0);
	r = receive_all(channel, choices);
	require(r == -EPIPE || r == -EPROTO || r == 0 || r == -EBADMSG);
	ipc_channel_close(channel);
	require(close(passed) == 0);
	require(fuzz_comes_back(lowest_free, lowest));
	return 0;
}
