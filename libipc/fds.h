/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_FDS_H
#define LIBIPC_INTERNAL_FDS_H

/*
 * Sets of descriptors, and the control data that carries them.
 *
 * Knows who closes what, and the layout of SCM_RIGHTS. Refuses to know which message
 * a descriptor belongs to.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include <libipc/channel.h>

/*
 * An owning set: what is in it and not -1 is closed with it. Zero is the empty set.
 * CMSG_SPACE() rounds up, so control data with room for 253 could bring one more.
 */
#define IPCI_FDS_CAPACITY (IPC_MESSAGE_FDS_LIMIT + 1)

struct ipci_fds {
	unsigned int n;
	int fds[IPCI_FDS_CAPACITY];
};

/* Close n descriptors that are not -1, and forget them. */
void ipci_fds_close_some(int *fds, unsigned int n);

/* Close all; the set is empty. */
static inline void
ipci_fds_close(struct ipci_fds *set)
{
	if (set->n)
		ipci_fds_close_some(set->fds, set->n);
	set->n = 0;
}

/*
 * Add duplicates of n descriptors, for which there is room.
 * Return: 0, or -EBADF, -EMFILE ...: the set is as it was.
 */
int ipci_fds_add_dup(struct ipci_fds *set, const int *fds, unsigned int n);

/*
 * Does the kernel pass these descriptors? Finds out by passing them to nobody.
 * Return: 0, or -EINVAL (an io_uring) ...; where it cannot be found out, 0.
 */
int ipci_fds_probe(const int *fds, unsigned int n);

/* Control data for one packet's descriptors; room for what else a socket option
   might bring (credentials: 32 bytes). */
#define IPCI_CONTROL_SIZE (CMSG_SPACE(sizeof(int) * IPC_MESSAGE_FDS_LIMIT) + 64)

struct ipci_control {
	_Alignas(struct cmsghdr) unsigned char bytes[IPCI_CONTROL_SIZE];
};

/* Let the message carry n descriptors, 0 to IPC_MESSAGE_FDS_LIMIT; holds the control until it is
 * sent. */
void ipci_control_pack(
	struct msghdr *message, struct ipci_control *control, const int *fds, unsigned int n);

struct ipci_closer;

/*
 * Take every descriptor that a received message carries into the set, which is empty before. What
 * the set has no room for is closed, by the closer, or here if that is NULL.
 *
 * Return: whether all that came are there; else those from one on are closed which came below 3,
 * and for which there was no other number.
 */
bool ipci_control_collect(
	struct msghdr *message, struct ipci_fds *set, struct ipci_closer **closer);

#endif
