/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_LINK_H
#define LIBIPC_INTERNAL_LINK_H

/*
 * One packet out, one packet in, over a socket.
 *
 * Knows the socket and how to wait for it. Refuses to know what is in a packet. Everything
 * above it would be the same over something that is no socket.
 */

#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>

#include "closer.h"
#include "fds.h"
#include "wait.h"

/* One direction of a link: how it waits, and what it counts. */
struct ipci_lane {
	int fd;          /* borrowed */
	bool fds_barred; /* the kernel lets no descriptors in, from some time on */
	bool fds_clean;  /* and none came before: none need be looked for */
	/* A send met a peer that was no more: see ipci_link_send(). The other lane's to read. */
	atomic_bool refused;
	/* The end was told by another receive: this lane's next one is the second look at it. */
	bool is_end_doubted;
	bool closes_here; /* the peer may delay this thread: what it sent is closed by it */
	struct ipci_closer *closer; /* else by this; NULL until there is something */
	struct ipci_wait wait;
	struct ipc_channel_counts *counts;
};

/*
 * Send a packet, whole or not at all, with descriptors that it borrows.
 *
 * Kernels before Linux 6.2 (5.10.262 too) throw away what the socket has received, unread, when a
 * send meets the peer's exit; it fails with ECONNREFUSED then, and no other kernel says that. The
 * lane remembers.
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
 * Receive a packet into the parts, its descriptors into set, which is empty before. All are asked
 * for, also by who takes none: those that the kernel has no room for it closes in this thread,
 * which waits as long as that takes.
 *
 * Return: 0, or -EAGAIN, -ETIMEDOUT, -ENOMEM, -ENOBUFS.
 */
int ipci_link_recv(struct ipci_lane *lane, const struct iovec *parts, unsigned int n_parts,
	struct ipci_fds *set, struct ipci_arrival *ret_arrival, struct ipci_deadline *deadline);

/* Close descriptors of the peer's, which are not -1, and forget them. Does not wait for that,
   unless lane->closes_here. */
void ipci_link_close_fds(struct ipci_lane *lane, int *fds, unsigned int n);

/* Close all of a set. */
static inline void
ipci_link_close_set(struct ipci_lane *lane, struct ipci_fds *set)
{
	if (set->n)
		ipci_link_close_fds(lane, set->fds, set->n);
	set->n = 0;
}

/* Take what a received message carries into the set, which is empty. Return: as
   ipci_control_collect(). */
bool ipci_link_collect(struct ipci_lane *lane, struct msghdr *message, struct ipci_fds *set);

/* Is the peer gone, or has it ended this direction? What it sent before may be to be received. */
bool ipci_link_has_hung_up(const struct ipci_lane *lane);

/* Let a lane of a socket that takes no descriptors be clean, if that can be seen now. */
void ipci_link_look_clean(struct ipci_lane *lane);

#endif
