/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_RAW_H
#define LIBIPC_TESTS_RAW_H

/*
 * A peer without the library: packets built by hand, right or wrong, over a plain socket.
 *
 * Knows the layout of the wire, and takes no code from the library.
 */

#include "../libipc/wire.h"
#include "support.h"

struct packet {
	size_t size;
	_Alignas(8) unsigned char bytes[IPC_CHANNEL_RECORD_MAX_LIMIT];
};

/* Begin a packet; its header's size is set by packet_end(). There is one at a time. */
struct packet *packet_begin(unsigned int kind, unsigned int n_fds);
struct packet *packet_end(struct packet *packet);
void packet_word(struct packet *packet, uint64_t word);
void packet_zeros(struct packet *packet, size_t size);
void packet_run(struct packet *packet, size_t size, unsigned int flags, unsigned int count);

/* A hello that everyone understands. */
struct ipci_hello plain_hello(void);

/* A record of one message: a string, padded. */
struct packet *packet_text(const char *text);

/* Two connected sockets. */
void raw_pair(int ret_fds[2]);

/* Send a packet and check that all of it was taken. */
void raw_send(int fd, const void *bytes, size_t size);
void raw_send_packet(int fd, const struct packet *packet);
/* Send with n duplicates of a descriptor. Return: as sendmsg(2), or -errno. */
ssize_t raw_send_fds(int fd, const void *bytes, size_t size, int passed, unsigned int n);

/* Receive one packet. Return: its size. */
size_t raw_receive(int fd, void *bytes, size_t size);

/* A channel and the other end of its socket, the hellos exchanged. */
struct ipc_channel *raw_channel(int *ret_fd, const struct ipc_channel_options *options);

#endif
