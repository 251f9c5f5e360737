/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_DUPLICATE_H
#define LIBIPC_INTERNAL_DUPLICATE_H

/*
 * A message that is kept: a copy of its payload, and duplicates of its descriptors.
 *
 * Knows a message's parts. Refuses to know why it is kept, and for how long.
 */

#include <libipc/channel.h>

struct ipci_duplicate {
	struct ipc_message message; /* its data and descriptors lie behind it */
	unsigned char payload[];
};

/* Return: 0, or -ENOMEM, -EBADF, -EMFILE ... */
int ipci_duplicate_new(struct ipci_duplicate **ret, const struct ipc_message *message);

/* Close and free it. NULL is fine. Return: NULL. */
struct ipci_duplicate *ipci_duplicate_free(struct ipci_duplicate *duplicate);

#endif
