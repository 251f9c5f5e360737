/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "fds.h"
#include "duplicate.h"
#include "sys.h"
#include "wire.h"

int
ipci_duplicate_new(struct ipci_duplicate **ret, const struct ipc_message *message)
{
	size_t fds_at = ipci_pad(message->size);
	struct ipci_duplicate *duplicate;
	int *fds, fd;
	uint32_t i;

	duplicate = malloc(sizeof(*duplicate) + fds_at + message->n_fds * sizeof(int));
	if (!duplicate)
		return -ENOMEM;
	fds = (int *)(void *)(duplicate->payload + fds_at);
	for (i = 0; i < message->n_fds; i++) {
		fd = ipci_sys_dup(message->fds[i]);
		if (fd < 0) {
			ipci_fds_close_some(fds, i);
			free(duplicate);
			return fd;
		}
		fds[i] = fd;
	}
	ipci_copy(duplicate->payload, message->data, message->size);
	duplicate->message = *message;
	duplicate->message.data = message->size ? duplicate->payload : NULL;
	duplicate->message.fds = message->n_fds ? fds : NULL;
	*ret = duplicate;
	return 0;
}

struct ipci_duplicate *
ipci_duplicate_free(struct ipci_duplicate *duplicate)
{
	if (!duplicate)
		return NULL;
	if (duplicate->message.n_fds)
		ipci_fds_close_some(duplicate->message.fds, duplicate->message.n_fds);
	free(duplicate);
	return NULL;
}
