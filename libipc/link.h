/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_LINK_H
#define LIBIPC_INTERNAL_LINK_H

/*
 * One packet out, one packet in, over a socket.
 *
 * Knows the socket and how to wait for it. Refuses to know what is in a packet. Everything
 * above it would be the same over something that is no socket.
 */

#include <stdint.h>
#include <sys/uio.h>

#include "fds.h"
#include "wait.h"

/* One direction of a link: how it waits, and what it counts. */
struct ipci_lane {
	int fd;          /* borrowed */
	bool fds_barred; /* the kernel lets no descriptors in: none need be looked for */
	struct ipci_wait wait;
	struct ipc_channel_counts *counts;
};

/*
 * Send a packet, whole or not at all, with descriptors that it borrows.
 *
 * Return: 0, or -EAGAIN, -ETIMEDOUT, -EPIPE, -EPERM (the receiver refuses descriptors), -ENOBUFS,
 * -ENOMEM, -EINVAL, -EBADF.
 */
int ipci_link_send(struct ipci_lane *lane, const struct iovec *parts, unsigned int n_parts,
	const int *fds, unsigned int n_fds, struct ipci_deadline *deadline);

/* The same for a packet in one piece without descriptors. */
int ipci_link_send_plain(
	struct ipci_lane *lane, void *packet, size_t size, struct ipci_deadline *deadline);

/* A packet that arrived. */
struct ipci_arrival {
	size_t size;    /* 0: the end of stream */
	bool truncated; /* it was larger than the parts */
	bool fds_lost;  /* not all of its descriptors are here */
};

/*
 * Receive a packet into the parts; its descriptors into set, which is empty before, and
 * may be NULL: then all of them are lost.
 *
 * Return: 0, or -EAGAIN, -ETIMEDOUT, -ENOMEM, -ENOBUFS.
 */
int ipci_link_recv(struct ipci_lane *lane, const struct iovec *parts, unsigned int n_parts,
	struct ipci_fds *set, struct ipci_arrival *ret_arrival, struct ipci_deadline *deadline);

#endif
