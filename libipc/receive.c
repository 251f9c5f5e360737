/* SPDX-License-Identifier: MIT */

/*
 * The way in: receives records and gives out their messages.
 *
 * Whatever arrives is owned before it is judged: the record by the buffer, its descriptors by
 * the set. A peer that breaks the format ends its own channel, and nothing else.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "channel.h"
#include "sys.h"

/* A hello of a later edition may be longer than ours. */
#define HELLO_SIZE_MAX 512

int
ipci_in_init(struct ipc_channel *channel, const struct ipc_channel_options *options)
{
	struct ipci_in *in = &channel->in;

	in->limits = (struct ipci_limits){
		.message_max = IPCI_MAX(options->message_max, (size_t)IPC_CHANNEL_MESSAGE_FLOOR),
		.record_max = (uint32_t)IPCI_MAX(options->record_max, (size_t)IPCI_RECORD_FLOOR),
		.fds_max = options->fds_max,
	};
	in->buffer_size = in->limits.record_max;
	in->buffer = ipci_sys_map(in->buffer_size);
	if (!in->buffer)
		return -ENOMEM;

	ipci_wait_init(&in->lane.wait, options->spin_us);
	in->lane.fd = channel->fd;
	in->lane.counts = &in->counts;
	in->kept_tail = &in->kept;
	return 0;
}

void
ipci_in_finish(struct ipc_channel *channel)
{
	struct ipci_in *in = &channel->in;

	ipci_in_release(in);
	ipci_kept_free(in);
	ipci_fds_close(&in->fds);
	ipci_sys_unmap(in->buffer, in->buffer_size);
}

void
ipci_in_release_special(struct ipci_in *in)
{
	ipci_fds_close_some(in->lent, in->n_lent);
	in->lent = NULL;
	in->n_lent = 0;
	free(in->given);
	in->given = NULL;
	in->special = in->kept || in->holds;
}

static int
end_of_stream(struct ipci_in *in)
{
	ipci_fds_close(&in->fds);
	/* A large message that the peer did not live to complete. */
	if (in->large.size) {
		in->large.size = 0;
		ipci_count_add(&in->counts.dropped, 1);
	}
	in->ended = true;
	return -EPIPE;
}

/* The first record. */
static int
receive_hello(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	_Alignas(struct ipci_hello) unsigned char packet[HELLO_SIZE_MAX];
	struct iovec part = {.iov_base = packet, .iov_len = sizeof(packet)};
	struct ipci_in *in = &channel->in;
	struct ipci_arrival arrival;
	int r;

	if (in->ended)
		return -EPIPE;
	r = ipci_link_recv(&in->lane, &part, 1, NULL, &arrival, deadline);
	if (r < 0)
		return r;
	if (!arrival.size)
		return end_of_stream(in);
	if (arrival.truncated || arrival.fds_lost ||
		ipci_hello_check(packet, arrival.size, &channel->peer) < 0)
		return ipci_channel_break(channel);
	atomic_store_explicit(&channel->heard, true, memory_order_release);
	return 0;
}

/* While one direction receives the hello the other waits for its turn, as long as it may. */
static int
begin_hearing(struct ipc_channel *channel, const struct ipci_deadline *deadline)
{
	struct timespec until = {
		.tv_sec = deadline->at_ns / 1000000000,
		.tv_nsec = deadline->at_ns % 1000000000,
	};
	int r = 0;

	pthread_mutex_lock(&channel->hello_lock);
	while (channel->hearing && r == 0) {
		if (!deadline->timeout_ms)
			r = EAGAIN;
		else if (deadline->timeout_ms < 0)
			r = pthread_cond_wait(&channel->hello_turn, &channel->hello_lock);
		else
			r = pthread_cond_clockwait(&channel->hello_turn, &channel->hello_lock,
				CLOCK_MONOTONIC, &until);
	}
	if (r == 0)
		channel->hearing = true;
	pthread_mutex_unlock(&channel->hello_lock);
	return r ? ipci_deadline_error(deadline) : 0;
}

static void
end_hearing(struct ipc_channel *channel)
{
	pthread_mutex_lock(&channel->hello_lock);
	channel->hearing = false;
	pthread_cond_signal(&channel->hello_turn);
	pthread_mutex_unlock(&channel->hello_lock);
}

int
ipci_in_hello(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	int r;

	if (ipci_likely(atomic_load_explicit(&channel->heard, memory_order_acquire)))
		return 0;

	ipci_deadline_start(deadline, ipci_sys_now_ns());
	r = begin_hearing(channel, deadline);
	if (r < 0)
		return r;
	r = atomic_load_explicit(&channel->broken, memory_order_relaxed);
	if (r == 0 && !atomic_load_explicit(&channel->heard, memory_order_relaxed))
		r = receive_hello(channel, deadline);
	end_hearing(channel);
	return r;
}

/* Receive the next record of messages into the buffer, with its descriptors. */
static int
receive_record(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_in *in = &channel->in;
	struct iovec part = {.iov_base = in->buffer, .iov_len = in->limits.record_max};
	const struct ipci_record_header *header = (const void *)in->buffer;
	struct ipci_arrival arrival;
	int r;

	if (in->ended)
		return -EPIPE;
	if (ipci_deadline_cuts(deadline))
		return ipci_deadline_error(deadline);
	ipci_fds_close(&in->fds);
	in->fds_given = 0;
	r = ipci_link_recv(
		&in->lane, &part, 1, in->limits.fds_max ? &in->fds : NULL, &arrival, deadline);
	if (r < 0)
		return r;
	if (!arrival.size)
		return end_of_stream(in);

	if (arrival.truncated || ipci_record_check(header, arrival.size) != IPCI_KIND_MESSAGES)
		return ipci_channel_break(channel);
	/* None may come unannounced. Fewer than announced is the kernel's doing if it says so. */
	if (in->fds.n > header->n_fds || (in->fds.n < header->n_fds && !arrival.fds_lost) ||
		(arrival.fds_lost && !header->n_fds))
		return ipci_channel_break(channel);
	ipci_reader_begin(&in->reader, in->buffer, &in->limits);
	return 0;
}

/* Have room for the large message that has begun. Its pages move; nothing is copied. */
static int
reserve_large(struct ipci_in *in)
{
	size_t size = in->large.start + in->large.size;
	uint8_t *buffer;

	if (in->buffer_size >= size)
		return 0;
	buffer = ipci_sys_remap(in->buffer, in->buffer_size, size);
	if (!buffer)
		return -ENOMEM;
	in->buffer = buffer;
	in->buffer_size = size;
	return 0;
}

/*
 * One fragment, read straight to its place. It can be the void record in its stead.
 */
static int
receive_fragment(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_large *large = &channel->in.large;
	struct ipci_record_header header;
	struct iovec parts[2] = {
		{.iov_base = &header, .iov_len = sizeof(header)},
		{
			.iov_base = channel->in.buffer + large->start + large->have,
			.iov_len = large->size - large->have,
		},
	};
	struct ipci_arrival arrival;
	int r;

	if (ipci_deadline_cuts(deadline))
		return ipci_deadline_error(deadline);
	r = ipci_link_recv(&channel->in.lane, parts, 2, NULL, &arrival, deadline);
	if (r < 0)
		return r;
	if (!arrival.size)
		return end_of_stream(&channel->in);
	if (arrival.truncated || arrival.fds_lost || arrival.size < sizeof(header))
		return ipci_channel_break(channel);

	r = ipci_record_check(&header, arrival.size);
	if (r == IPCI_KIND_VOID) {
		ipci_fds_close(&channel->in.fds);
		large->size = 0;
		ipci_count_add(&channel->in.counts.dropped, 1);
		return 0;
	}
	if (r != IPCI_KIND_FRAGMENT)
		return ipci_channel_break(channel);
	large->have += arrival.size - sizeof(header);
	return 0;
}

/* Complete the large message that has begun. Return: 1 with it, 0 if it was voided. */
static int
receive_large(struct ipc_channel *channel, struct ipc_message *ret_message,
	struct ipci_deadline *deadline)
{
	struct ipci_large *large = &channel->in.large;
	int r;

	if (channel->in.ended)
		return -EPIPE;
	r = reserve_large(&channel->in);
	while (r == 0 && large->size && large->have < large->size)
		r = receive_fragment(channel, deadline);
	if (r < 0 || !large->size)
		return r;

	*ret_message = large->head;
	ret_message->data = channel->in.buffer + large->start;
	ret_message->size = large->size;
	large->size = 0;
	return 1;
}

/* The record's last message is large: the record is spent, but for the first piece. */
static void
begin_large(struct ipci_in *in, const struct ipc_message *head, uint64_t size)
{
	in->large = (struct ipci_large){
		.head = *head,
		.start = (size_t)((const uint8_t *)head->data - in->buffer),
		.size = size,
		.have = head->size,
	};
	in->reader = (struct ipci_reader){0};
}

/* The next message that was received whole or can be. Return: 1 with it, or -errno. */
static int
next_whole(struct ipc_channel *channel, struct ipc_message *ret_message,
	struct ipci_deadline *deadline)
{
	struct ipci_in *in = &channel->in;
	uint64_t large_size;
	int r;

	for (;;) {
		if (in->large.size) {
			r = receive_large(channel, ret_message, deadline);
			if (r)
				return r;
			continue;
		}
		r = ipci_reader_next(&in->reader, ret_message, &large_size);
		if (r < 0)
			return ipci_channel_break(channel);
		if (r > 0 && !large_size)
			return 1;
		if (r > 0) {
			begin_large(in, ret_message, large_size);
			continue;
		}
		r = receive_record(channel, deadline);
		if (r < 0)
			return r;
	}
}

/* Give the message its descriptors, the next of the record's. Return: 0 or -EBADMSG. */
static int
claim_fds(struct ipci_in *in, struct ipc_message *message)
{
	unsigned int first = in->fds_given, here = in->fds.n - first;

	if (!message->n_fds)
		return 0;
	in->special = true;
	in->lent = in->fds.fds + first;
	in->n_lent = IPCI_MIN(here, message->n_fds);
	in->fds_given += in->n_lent;
	if (here < message->n_fds) {
		ipci_in_release(in);
		ipci_count_add(&in->counts.dropped, 1);
		return -EBADMSG;
	}
	message->fds = in->lent;
	return 0;
}

/*
 * A reply to a call of this end that nobody waits for any more.
 * Return: whether it is to be dropped; -EPROTO if no such call was ever made.
 */
static int
is_late_reply(
	const struct ipc_channel *channel, const struct ipc_message *message, uint64_t call_id)
{
	if (!(message->flags & IPC_MESSAGE_REPLY) || message->id < IPC_MESSAGE_ID_CALL)
		return 0;
	if (message->id >= channel->next_call_id)
		return -EPROTO;
	return message->id != call_id;
}

/* Nothing more is given out: whatever came with it is closed now. */
static int
give_up(struct ipc_channel *channel)
{
	ipci_in_release(&channel->in);
	ipci_fds_close(&channel->in.fds);
	return ipci_channel_break(channel);
}

int
ipci_in_next(struct ipc_channel *channel, struct ipc_message *ret_message, uint64_t call_id,
	struct ipci_deadline *deadline)
{
	struct ipci_in *in = &channel->in;
	int r, late;

	r = atomic_load_explicit(&channel->broken, memory_order_relaxed);
	if (r == 0)
		r = ipci_in_hello(channel, deadline);
	if (r < 0)
		return r;

	do {
		ipci_in_release(in);
		r = next_whole(channel, ret_message, deadline);
		if (r < 0)
			return r == -EPROTO ? give_up(channel) : r;
		r = claim_fds(in, ret_message);
		late = is_late_reply(channel, ret_message, call_id);
		if (late < 0)
			return give_up(channel);
		if (late && r == 0)
			ipci_count_add(&in->counts.dropped, 1);
	} while (late);

	if (r == 0)
		ipci_count_add(&in->counts.messages, 1);
	return r;
}

/* What is told of a message that is dropped. */
static struct ipc_message
head_of(const struct ipc_message *message)
{
	return (struct ipc_message){
		.type = message->type,
		.flags = message->flags,
		.id = message->id,
	};
}

/* The message that a call could not keep, or the error in its place. */
static int
give_held(struct ipci_in *in, struct ipc_message *ret_message)
{
	in->holds = false;
	if (in->held_result < 0) {
		*ret_message = head_of(&in->held);
		return in->held_result;
	}
	*ret_message = in->held;
	in->lent = in->held.fds;
	in->n_lent = in->held.n_fds;
	in->special = in->n_lent > 0;
	return 0;
}

IPCI_SLOW static int
recv_slow(struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms)
{
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);
	struct ipci_in *in = &channel->in;
	struct ipc_message message;
	int r;

	ipci_in_release(in);
	if (in->kept)
		return ipci_kept_give(in, ret_message);
	if (in->holds)
		return give_held(in, ret_message);
	r = ipci_in_next(channel, &message, 0, &deadline);
	if (r == 0)
		*ret_message = message;
	else if (r == -EBADMSG)
		*ret_message = head_of(&message);
	return r;
}

int
ipc_channel_recv(struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms)
{
	struct ipci_in *in;

	assert(channel);
	assert(ret_message);

	in = &channel->in;
	if (ipci_likely(in->reader.run_left && !in->special && !in->reader.run_flags)) {
		ipci_reader_give_plain(&in->reader, ret_message);
		ipci_count_add(&in->counts.messages, 1);
		return 0;
	}
	return recv_slow(channel, ret_message, timeout_ms);
}

int
ipc_message_take_fd(struct ipc_message *message, unsigned int index)
{
	int fd;

	assert(message);
	if (index >= message->n_fds)
		return -EINVAL;
	fd = message->fds[index];
	if (fd < 0)
		return -EBADF;
	message->fds[index] = -1;
	return fd;
}
