/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "fds.h"
#include "parcel.h"
#include "sys.h"
#include "wire.h"

int
ipci_parcel_new(struct ipci_parcel **ret, const struct ipc_message *message)
{
	size_t fds_at = ipci_pad(message->size);
	struct ipci_parcel *parcel;
	int *fds, fd;
	uint32_t i;

	parcel = malloc(sizeof(*parcel) + fds_at + message->n_fds * sizeof(int));
	if (!parcel)
		return -ENOMEM;
	fds = (int *)(void *)(parcel->payload + fds_at);
	for (i = 0; i < message->n_fds; i++) {
		fd = ipci_sys_dup(message->fds[i]);
		if (fd < 0) {
			ipci_fds_close_some(fds, i);
			free(parcel);
			return fd;
		}
		fds[i] = fd;
	}
	ipci_copy(parcel->payload, message->data, message->size);
	parcel->message = *message;
	parcel->message.data = message->size ? parcel->payload : NULL;
	parcel->message.fds = message->n_fds ? fds : NULL;
	*ret = parcel;
	return 0;
}

struct ipci_parcel *
ipci_parcel_free(struct ipci_parcel *parcel)
{
	if (!parcel)
		return NULL;
	if (parcel->message.n_fds)
		ipci_fds_close_some(parcel->message.fds, parcel->message.n_fds);
	free(parcel);
	return NULL;
}
