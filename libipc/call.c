/* SPDX-License-Identifier: MIT */

/*
 * Requests and replies. While a call waits for its reply it copies what else comes, in
 * order, for the receives that follow.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"

int
ipci_kept_give(struct ipci_in *in, struct ipc_message *ret_message)
{
	struct ipci_kept *kept = in->kept;

	in->kept = kept->next;
	if (!in->kept)
		in->kept_tail = &in->kept;
	in->kept_messages--;
	in->kept_bytes -= kept->message.size;
	in->kept_fds -= kept->message.n_fds;
	in->given = kept;
	in->special |= IPCI_SPECIAL_STATE;
	*ret_message = kept->message;
	if (kept->result < 0)
		return kept->result;

	in->lent = kept->message.fds;
	in->n_lent = kept->message.n_fds;
	return 0;
}

void
ipci_kept_free(struct ipci_in *in)
{
	struct ipc_message message;

	while (in->kept) {
		(void)ipci_kept_give(in, &message);
		ipci_in_release(in);
	}
	if (in->holds && in->held_result == 0)
		ipci_link_close_fds(&in->lane, in->held.fds, in->held.n_fds);
	in->holds = false;
}

/* Keep a copy of the message, or the error in its place; the copy has its descriptors. */
static int
keep(struct ipci_in *in, const struct ipc_message *message, int result)
{
	size_t size = result < 0 ? 0 : message->size;
	uint32_t n_fds = result < 0 ? 0 : message->n_fds;
	struct ipci_kept *kept;
	unsigned char *payload;

	if (in->kept_messages >= IPC_CHANNEL_KEPT_MESSAGES_LIMIT ||
		size > IPC_CHANNEL_KEPT_BYTES_LIMIT - in->kept_bytes ||
		n_fds > IPC_CHANNEL_KEPT_FDS_LIMIT - in->kept_fds)
		return -EOVERFLOW;

	kept = malloc(sizeof(*kept) + ipci_pad(size) + n_fds * sizeof(int));
	if (!kept)
		return -ENOMEM;
	payload = kept->payload;
	*kept = (struct ipci_kept){.message = *message, .result = result};
	kept->message.data = size ? payload : NULL;
	kept->message.size = size;
	kept->message.n_fds = n_fds;
	kept->message.fds = n_fds ? (int *)(void *)(payload + ipci_pad(size)) : NULL;
	if (size)
		memcpy(payload, message->data, size);
	if (n_fds) {
		memcpy(kept->message.fds, message->fds, n_fds * sizeof(int));
		/* The copy's now: the record's set must not close them. */
		memset(message->fds, -1, n_fds * sizeof(int));
	}

	*in->kept_tail = kept;
	in->kept_tail = &kept->next;
	in->kept_messages++;
	in->kept_bytes += size;
	in->kept_fds += n_fds;
	in->special |= IPCI_SPECIAL_STATE;
	return 0;
}

/* Keep the message; if it cannot be, hold it where it lies: nothing is received past it. */
static int
keep_or_hold(struct ipci_in *in, const struct ipc_message *message, int result)
{
	int r = keep(in, message, result);

	/* Its descriptors are the copy's now, or wait with it: this is no view that ends. */
	in->lent = NULL;
	in->n_lent = 0;
	if (r < 0) {
		in->held = *message;
		in->held_result = result;
		in->holds = true;
		in->special |= IPCI_SPECIAL_STATE;
	}
	return r;
}

static int
await_reply(struct ipc_channel *channel, uint64_t id, struct ipc_message *ret_reply,
	struct ipci_deadline *deadline)
{
	struct ipc_message message;
	int r, kept;

	for (;;) {
		r = ipci_in_next(channel, &message, id, deadline);
		if (r < 0 && r != -EBADMSG)
			return r;
		if (message.flags & IPC_MESSAGE_REPLY && message.id == id) {
			if (r == 0)
				*ret_reply = message;
			return r;
		}
		kept = keep_or_hold(&channel->in, &message, r);
		if (kept < 0)
			return kept;
	}
}

int
ipc_channel_call(struct ipc_channel *channel, const struct ipc_message *request,
	struct ipc_message *ret_reply, int timeout_ms)
{
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);
	struct ipc_message message;
	struct ipci_in *in;
	int r;

	assert(channel);
	ipci_message_assert(request);
	assert(ret_reply);

	if (channel->port)
		return -EBUSY;
	/* The request may be a view: nothing is released before it is sent. */
	in = &channel->in;
	if (in->holds) {
		r = keep(in, &in->held, in->held_result);
		if (r < 0)
			return r;
		in->holds = false;
	}

	message = *request;
	message.flags = 0;
	if (!message.id)
		message.id = channel->next_call_id++;
	r = ipci_out_message(channel, &message, true, &deadline);
	if (r < 0)
		return r;
	return await_reply(channel, message.id, ret_reply, &deadline);
}

int
ipc_channel_reply(struct ipc_channel *channel, const struct ipc_message *request,
	const struct ipc_message *reply, int timeout_ms)
{
	struct ipc_message message;

	assert(request);
	assert(reply);
	if (!request->id)
		return -EINVAL;
	message = *reply;
	message.id = request->id;
	message.flags |= IPC_MESSAGE_REPLY;
	return ipc_channel_send(channel, &message, timeout_ms);
}
