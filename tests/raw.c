/* SPDX-License-Identifier: MIT */

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "raw.h"

struct packet *
packet_begin(unsigned int kind, unsigned int n_fds)
{
	static struct packet packet;
	struct ipci_record_header header = {
		.magic = IPCI_WIRE_MAGIC,
		.kind = (uint8_t)kind,
		.n_fds = (uint16_t)n_fds,
	};

	memcpy(packet.bytes, &header, sizeof(header));
	packet.size = sizeof(header);
	return &packet;
}

struct packet *
packet_end(struct packet *packet)
{
	uint32_t size = (uint32_t)packet->size;

	memcpy(packet->bytes + offsetof(struct ipci_record_header, size), &size, sizeof(size));
	return packet;
}

void
packet_word(struct packet *packet, uint64_t word)
{
	memcpy(packet->bytes + packet->size, &word, sizeof(word));
	packet->size += sizeof(word);
}

void
packet_zeros(struct packet *packet, size_t size)
{
	memset(packet->bytes + packet->size, 0, size);
	packet->size += size;
}

void
packet_run(struct packet *packet, size_t size, unsigned int flags, unsigned int count)
{
	packet_word(packet, size | (uint64_t)flags << 24 | (uint64_t)count << 48);
}

struct ipci_hello
plain_hello(void)
{
	return (struct ipci_hello){
		.header =
			{
				.magic = IPCI_WIRE_MAGIC,
				.kind = IPCI_KIND_HELLO,
				.size = sizeof(struct ipci_hello),
			},
		.magic = IPCI_HELLO_MAGIC,
		.version = IPCI_WIRE_VERSION,
		.fds_max = IPC_MESSAGE_FDS_LIMIT,
		.message_max = IPC_CHANNEL_MESSAGE_MAX_DEFAULT,
		.record_max = IPC_CHANNEL_RECORD_MAX_DEFAULT,
	};
}

struct packet *
packet_text(const char *text)
{
	struct packet *packet = packet_begin(IPCI_KIND_MESSAGES, 0);
	size_t size = strlen(text) + 1, padded = (size + 7) & ~(size_t)7;

	packet_run(packet, size, 0, 1);
	packet_zeros(packet, padded);
	memcpy(packet->bytes + packet->size - padded, text, size);
	return packet_end(packet);
}

void
raw_pair(int ret_fds[2])
{
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds), 0);
}

void
raw_send(int fd, const void *bytes, size_t size)
{
	check_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

void
raw_send_packet(int fd, const struct packet *packet)
{
	raw_send(fd, packet->bytes, packet->size);
}

ssize_t
raw_send_fds(int fd, const void *bytes, size_t size, int passed, unsigned int n)
{
	_Alignas(struct cmsghdr) unsigned char
		control[CMSG_SPACE(sizeof(int) * IPC_MESSAGE_FDS_LIMIT)] = {0};
	struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(sizeof(int) * n),
	};
	struct cmsghdr header = {
		.cmsg_len = CMSG_LEN(sizeof(int) * n),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	};
	unsigned int i;
	ssize_t r;

	memcpy(control, &header, sizeof(header));
	for (i = 0; i < n; i++)
		memcpy(control + CMSG_LEN(0) + i * sizeof(int), &passed, sizeof(int));
	r = sendmsg(fd, &message, MSG_NOSIGNAL);
	return r < 0 ? -errno : r;
}

size_t
raw_receive(int fd, void *bytes, size_t size)
{
	ssize_t r = recv(fd, bytes, size, 0);

	check(r >= 0);
	return (size_t)r;
}

struct ipc_channel *
raw_channel(int *ret_fd, const struct ipc_channel_options *options)
{
	struct ipci_hello hello = plain_hello(), theirs;
	struct ipc_channel *channel;
	int fds[2];

	raw_pair(fds);
	check_equal(ipc_channel_open(&channel, fds[0], options), 0);
	check_equal(raw_receive(fds[1], &theirs, sizeof(theirs)), sizeof(theirs));
	raw_send(fds[1], &hello, sizeof(hello));
	*ret_fd = fds[1];
	return channel;
}
