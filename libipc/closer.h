/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_CLOSER_H
#define LIBIPC_INTERNAL_CLOSER_H

/*
 * Closes the descriptors that one peer has sent and nobody took, and never has the caller wait for
 * it.
 *
 * What a hostile peer sends may take as long to close as the peer likes: a TCP socket that lingers,
 * a file of a FUSE server, a pipe whose other end is stopped in the midst of a write, a socket in
 * whose queue such things lie. So a thread does it, which begins with the first descriptor and ends
 * soon after the last. Two kinds are closed at once, in the calling thread: small memfds, and
 * memory devices such as /dev/null. To them no other process can do anything that takes time.
 */

#include <stdbool.h>

#include "wait.h"

/* So few that wait to be closed are in nobody's way. */
#define IPCI_CLOSER_FEW 16U

/* More are waited for before more is received from the peer, so long: most are closed sooner. */
#define IPCI_CLOSER_GRACE_NS 100000

/* Who shares the table of descriptors with others gives one of them so long, meanwhile going on
   with what else there is. */
#define IPCI_CLOSER_PATIENCE_NS 100000000

/* More than so many are always waited for: no more is received before. */
#define IPCI_CLOSER_MAX 253U

/* One that takes so long to be closed ends its channel, if others wait. */
#define IPCI_CLOSER_STUCK_NS 1000000000

/* A channel's socket is waited for so long: who closes a channel counts on its peer's seeing it. */
#define IPCI_CLOSER_ALL_NS 10000000

/* The thread's name. */
#define IPCI_CLOSER_NAME "ipc-closer"

struct ipci_closer;

/*
 * Close n descriptors that are not -1, soon, and forget them. A closer is made where *closer is
 * NULL. Where no thread is to be had they are closed at once, sockets without lingering.
 */
void ipci_closer_close(struct ipci_closer **closer, int *fds, unsigned int n);

/*
 * Wait until all but a few are closed; when the grace is over, and of the patient one the patience,
 * until no more than IPCI_CLOSER_MAX are not.
 * Return: 0, or -EAGAIN, -ETIMEDOUT, or -EPROTO: it is stuck.
 */
int ipci_closer_await(struct ipci_closer *closer, bool patient, struct ipci_deadline *deadline);

/* Wait until all are closed, IPCI_CLOSER_ALL_NS at most. NULL is fine. */
void ipci_closer_await_all(struct ipci_closer *closer);

/* Free it; what it was given is closed all the same. NULL is fine. Return: NULL. */
struct ipci_closer *ipci_closer_free(struct ipci_closer *closer);

#endif
