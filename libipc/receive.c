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
#include <string.h>
#include <time.h>

#include "channel.h"
#include "probes.h"
#include "sys.h"

/* A hello of a later edition may be longer than ours. */
#define HELLO_SIZE_MAX 512

size_t
ipci_in_buffer_size(const struct ipc_channel_options *options)
{
	return IPCI_MAX(options->record_max, (size_t)IPCI_RECORD_FLOOR);
}

void
ipci_in_init(struct ipc_channel *channel, const struct ipc_channel_options *options)
{
	struct ipci_in *in = &channel->in;

	in->limits = (struct ipci_limits){
		.message_max = IPCI_MAX(options->message_max, (size_t)IPC_CHANNEL_MESSAGE_FLOOR),
		.record_max = (uint32_t)ipci_in_buffer_size(options),
		.fds_max = options->fds_max,
	};
	ipci_wait_init(&in->lane.wait, options->spin_us);
	in->lane.fd = channel->fd;
	in->lane.counts = &in->counts;
	in->arrived_tail = &in->arrived;
	in->kept_tail = &in->kept;
}

void
ipci_in_release_special(struct ipci_in *in)
{
	if (in->n_lent)
		ipci_link_close_fds(&in->lane, in->lent, in->n_lent);
	in->lent = NULL;
	in->n_lent = 0;
	free(in->given);
	in->given = NULL;
	if (!in->kept && !in->holds)
		in->special &= (uint8_t)~IPCI_SPECIAL_STATE;
}

void
ipci_in_arrive(struct ipci_in *in, struct ipci_arrived *arrived)
{
	arrived->next = NULL;
	*in->arrived_tail = arrived;
	in->arrived_tail = &arrived->next;
	in->n_arrived++;
	in->ending |= !arrived->arrival.size;
	ipci_count_add(&in->counts.records, arrived->arrival.size > 0);
	ipci_count_add(&in->counts.bytes, arrived->arrival.size);
	IPCI_PROBE2(packet__received, in->lane.fd, (ssize_t)arrived->arrival.size);
}

static struct ipci_arrived *
next_arrived(struct ipci_in *in)
{
	struct ipci_arrived *arrived = in->arrived;

	in->arrived = arrived->next;
	if (!in->arrived)
		in->arrived_tail = &in->arrived;
	in->n_arrived--;
	return arrived;
}

/* Take the packet's descriptors into a set, which is empty before. */
static void
collect_arrived(struct ipci_in *in, struct ipci_arrived *arrived, struct ipci_fds *set)
{
	struct msghdr message = {
		.msg_control = arrived->control,
		.msg_controllen = arrived->control_size,
	};

	if (!ipci_link_collect(&in->lane, &message, set))
		arrived->arrival.fds_lost = true;
}

/* Give back the memory of the record in hand, which is spent, and of no more use. */
static void
release_in_hand(struct ipci_in *in)
{
	struct ipci_arrived *arrived = in->in_hand;

	if (!arrived)
		return;
	in->in_hand = NULL;
	in->reader = (struct ipci_reader){0};
	arrived->release(arrived);
}

/* Close what has come with the packet, and give its memory back. */
static void
discard(struct ipci_in *in, struct ipci_arrived *arrived)
{
	struct ipci_fds set;

	set.n = 0;
	collect_arrived(in, arrived, &set);
	ipci_link_close_set(&in->lane, &set);
	arrived->release(arrived);
}

static void
drop_arrived(struct ipci_in *in)
{
	release_in_hand(in);
	while (in->arrived)
		discard(in, next_arrived(in));
}

/* The packet, not a record of messages, is copied to where it belongs, and given back. */
static void
copy_arrived(struct ipci_in *in, const struct iovec *parts, unsigned int n_parts,
	struct ipci_arrival *ret_arrival)
{
	struct ipci_arrived *arrived = next_arrived(in);
	const uint8_t *from = arrived->packet;
	size_t left = arrived->arrival.size, size;
	unsigned int i;

	*ret_arrival = arrived->arrival;
	ret_arrival->fds_lost |= arrived->control_size > 0;
	for (i = 0; i < n_parts && !arrived->arrival.truncated; i++) {
		size = IPCI_MIN(left, parts[i].iov_len);
		ipci_copy(parts[i].iov_base, from, size);
		from += size;
		left -= size;
	}
	ret_arrival->truncated |= left > 0;
	discard(in, arrived);
}

/* May the socket be read? In a loop that is for its engine to say. */
static bool
may_read(struct ipci_in *in)
{
	if (ipci_likely(!in->metered) || in->ending)
		return true;
	if (!in->credit)
		return false;
	in->credit--;
	return true;
}

/* A receive has failed. Where a send has met the peer's exit the socket may be no connection any
   more: that is the end of the stream. Return: 0 for it, or -errno. */
static int
received_nothing(struct ipci_in *in, int error, struct ipci_arrival *ret_arrival)
{
	in->credit = 0;
	in->ending = false;
	if (error != -ENOTCONN)
		return error;
	*ret_arrival = (struct ipci_arrival){.size = 0};
	return 0;
}

/* The kernel may have told an engine of the end too early, see link.c: the socket is asked. An end
   with descriptors is a packet without a byte. */
static void
doubt_ends(struct ipci_in *in)
{
	while (in->arrived && !in->arrived->arrival.size && !in->arrived->control_size &&
		ipci_link_has_hung_up(&in->lane)) {
		discard(in, next_arrived(in));
		in->lane.is_end_doubted = true;
	}
}

/* The next packet, which is no record of messages, into the parts: no descriptors belong to it. */
static int
receive_parts(struct ipci_in *in, const struct iovec *parts, unsigned int n_parts,
	struct ipci_arrival *ret_arrival, struct ipci_deadline *deadline)
{
	struct ipci_fds set;
	int r;

	doubt_ends(in);
	if (in->arrived) {
		copy_arrived(in, parts, n_parts, ret_arrival);
		return 0;
	}
	if (!may_read(in))
		return -EAGAIN;
	set.n = 0;
	r = ipci_link_recv(&in->lane, parts, n_parts, &set, ret_arrival, deadline);
	if (r < 0)
		return received_nothing(in, r, ret_arrival);
	ret_arrival->fds_lost |= set.n > 0;
	ipci_link_close_set(&in->lane, &set);
	return 0;
}

/* The next packet, with its descriptors: where it arrived, or into the buffer. */
static int
receive_packet(struct ipci_in *in, const uint8_t **ret_packet, struct ipci_arrival *ret_arrival,
	struct ipci_deadline *deadline)
{
	struct iovec part = {.iov_base = in->buffer, .iov_len = in->limits.record_max};
	int r;

	*ret_packet = in->buffer;
	doubt_ends(in);
	if (in->arrived) {
		in->in_hand = next_arrived(in);
		collect_arrived(in, in->in_hand, &in->fds);
		*ret_packet = in->in_hand->packet;
		*ret_arrival = in->in_hand->arrival;
		ret_arrival->truncated |= ret_arrival->size > in->limits.record_max;
		return 0;
	}
	if (!may_read(in))
		return -EAGAIN;
	r = ipci_link_recv(&in->lane, &part, 1, &in->fds, ret_arrival, deadline);
	return r < 0 ? received_nothing(in, r, ret_arrival) : 0;
}

static void
release_own_copy(struct ipci_arrived *arrived)
{
	free(arrived);
}

static struct ipci_arrived *
own_copy(const struct ipci_arrived *arrived)
{
	size_t packet_size = arrived->arrival.truncated ? 0 : ipci_pad(arrived->arrival.size);
	size_t head_size = (sizeof(*arrived) + 15) & ~(size_t)15;
	struct ipci_arrived *copy = malloc(head_size + packet_size + arrived->control_size);

	if (!copy)
		return NULL;
	*copy = *arrived;
	copy->next = NULL;
	copy->release = release_own_copy;
	copy->packet = (uint8_t *)copy + head_size;
	copy->control = copy->packet + packet_size;
	if (packet_size)
		memcpy(copy->packet, arrived->packet, arrived->arrival.size);
	if (arrived->control_size)
		memcpy(copy->control, arrived->control, arrived->control_size);
	return copy;
}

/* Copies of all that arrived, in a list of its own. */
static int
copy_all(const struct ipci_in *in, struct ipci_arrived **ret_first)
{
	struct ipci_arrived *first = NULL, **tail = &first, *copy;
	const struct ipci_arrived *arrived;

	for (arrived = in->arrived; arrived; arrived = arrived->next) {
		copy = own_copy(arrived);
		if (!copy) {
			while ((copy = first)) {
				first = copy->next;
				free(copy);
			}
			return -ENOMEM;
		}
		*tail = copy;
		tail = &copy->next;
	}
	*ret_first = first;
	return 0;
}

/* Let the record in hand lie in the buffer, which is free while there is one. */
static struct ipci_arrived *
settle_in_hand(struct ipci_in *in)
{
	struct ipci_arrived *arrived = in->in_hand;

	in->in_hand = NULL;
	if (!arrived)
		return NULL;
	memcpy(in->buffer, arrived->packet, arrived->arrival.size);
	if (in->reader.cursor) {
		in->reader.cursor = in->buffer + (in->reader.cursor - arrived->packet);
		in->reader.end = in->buffer + (in->reader.end - arrived->packet);
	}
	return arrived;
}

void
ipci_in_forget(struct ipci_in *in)
{
	in->in_hand = NULL;
	in->reader = (struct ipci_reader){0};
	in->arrived = NULL;
	in->arrived_tail = &in->arrived;
	in->n_arrived = 0;
	in->ending = false;
}

int
ipci_in_settle(struct ipci_in *in, bool drop, struct ipci_arrived **ret_in_hand)
{
	struct ipci_arrived *copies = NULL, *arrived;
	int r = drop ? 0 : copy_all(in, &copies);

	if (r < 0)
		return r;
	*ret_in_hand = drop ? in->in_hand : settle_in_hand(in);
	in->in_hand = NULL;
	if (drop)
		in->reader = (struct ipci_reader){0};
	while (in->arrived) {
		arrived = next_arrived(in);
		if (drop)
			discard(in, arrived);
		else
			arrived->release(arrived);
	}
	for (; copies; copies = arrived) {
		arrived = copies->next;
		copies->next = NULL;
		*in->arrived_tail = copies;
		in->arrived_tail = &copies->next;
		in->n_arrived++;
	}
	return 0;
}

void
ipci_in_finish(struct ipc_channel *channel)
{
	struct ipci_in *in = &channel->in;

	ipci_in_release(in);
	ipci_kept_free(in);
	drop_arrived(in);
	ipci_link_close_set(&in->lane, &in->fds);
	in->lane.closer = ipci_closer_free(in->lane.closer);
	ipci_sys_unmap(in->buffer, in->buffer_size);
}

/* Has what the peer sent last perhaps been thrown away? See ipci_link_send(). */
static int
end_reason(const struct ipc_channel *channel)
{
	return atomic_load_explicit(&channel->out.lane.refused, memory_order_relaxed) ? -ECONNRESET
	                                                                              : -EPIPE;
}

static int
end_of_stream(struct ipc_channel *channel)
{
	struct ipci_in *in = &channel->in;

	ipci_link_close_set(&in->lane, &in->fds);
	/* A large message that the peer did not live to complete. */
	if (in->large.size) {
		in->large.size = 0;
		ipci_count_add(&in->counts.dropped, 1);
	}
	in->ended = true;
	return end_reason(channel);
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
		return end_reason(channel);
	r = receive_parts(in, &part, 1, &arrival, deadline);
	if (r < 0)
		return r;
	if (!arrival.size)
		return end_of_stream(channel);
	if (arrival.truncated || arrival.fds_lost ||
		ipci_hello_check(packet, arrival.size, &channel->peer) < 0)
		return ipci_channel_break(channel);
	atomic_store_explicit(&channel->heard, true, memory_order_release);
	return 0;
}

static void
unlock(void *lock)
{
	pthread_mutex_unlock(lock);
}

/*
 * Take the hello's lock. In a forked child another thread of the parent's, which is not there, may
 * have it, or be hearing: then nobody has it and nobody hears.
 */
static void
lock_hello(struct ipc_channel *channel)
{
	bool locked = pthread_mutex_trylock(&channel->hello_lock) == 0;

	if ((!locked || channel->hearing) &&
		atomic_load_explicit(&channel->generation, memory_order_relaxed) !=
			ipci_sys_generation()) {
		channel->hearing = false;
		channel->hello_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
		channel->hello_turn = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
		locked = false;
	}
	if (!locked)
		pthread_mutex_lock(&channel->hello_lock);
	atomic_store_explicit(&channel->generation, ipci_sys_generation(), memory_order_relaxed);
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

	lock_hello(channel);
	/* Whoever is cancelled in the wait has the lock. */
	pthread_cleanup_push(unlock, &channel->hello_lock);
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
	pthread_cleanup_pop(1);
	return r ? ipci_deadline_error(deadline) : 0;
}

static void
end_hearing(void *arg)
{
	struct ipc_channel *channel = arg;

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
	deadline->undo = end_hearing;
	deadline->undo_arg = channel;
	r = atomic_load_explicit(&channel->broken, memory_order_relaxed);
	if (r == 0 && !atomic_load_explicit(&channel->heard, memory_order_relaxed))
		r = receive_hello(channel, deadline);
	deadline->undo = NULL;
	end_hearing(channel);
	return r;
}

/* What has come with earlier packets, and nobody took, may still have to be closed. */
static int
await_closer(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_in *in = &channel->in;
	int r;

	/* What was brought by a loop that is gone has its descriptors here already. */
	if (ipci_likely(!in->lane.closer) || (in->arrived && !in->metered))
		return 0;
	/* In a loop others want descriptors, too. */
	r = ipci_closer_await(in->lane.closer, in->metered, deadline);
	in->held_up = r < 0;
	if (r == -EPROTO)
		return ipci_channel_break(channel);
	/* Nothing tells a loop when it may go on. */
	return r == -EAGAIN && in->metered ? -ENOBUFS : r;
}

/* Receive the next record of messages, with its descriptors. */
static int
receive_record(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_in *in = &channel->in;
	const struct ipci_record_header *header;
	struct ipci_arrival arrival;
	const uint8_t *packet;
	int r;

	release_in_hand(in);
	if (in->ended)
		return end_reason(channel);
	if (ipci_deadline_cuts(deadline))
		return ipci_deadline_error(deadline);
	ipci_link_close_set(&in->lane, &in->fds);
	in->fds_given = 0;
	r = await_closer(channel, deadline);
	if (r < 0)
		return r;
	r = receive_packet(in, &packet, &arrival, deadline);
	if (r < 0)
		return r;
	if (!arrival.size)
		return end_of_stream(channel);

	header = (const void *)packet;
	if (arrival.truncated || ipci_record_check(header, arrival.size) != IPCI_KIND_MESSAGES)
		return ipci_channel_break(channel);
	/* None may come unannounced. Fewer than announced is the kernel's doing if it says so. */
	if (in->fds.n > header->n_fds || (in->fds.n < header->n_fds && !arrival.fds_lost) ||
		(arrival.fds_lost && !header->n_fds))
		return ipci_channel_break(channel);
	ipci_reader_begin(&in->reader, packet, &in->limits);
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
	r = receive_parts(&channel->in, parts, 2, &arrival, deadline);
	if (r < 0)
		return r;
	if (!arrival.size)
		return end_of_stream(channel);
	if (arrival.truncated || arrival.fds_lost || arrival.size < sizeof(header))
		return ipci_channel_break(channel);

	r = ipci_record_check(&header, arrival.size);
	if (r == IPCI_KIND_VOID) {
		ipci_link_close_set(&channel->in.lane, &channel->in.fds);
		large->size = 0;
		ipci_count_add(&channel->in.counts.dropped, 1);
		return 0;
	}
	if (r != IPCI_KIND_FRAGMENT || arrival.size > sizeof(header) + IPCI_FRAGMENT_MAX)
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
		return end_reason(channel);
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

/*
 * The record's last message is large: the record is spent, but for the first piece, which stays
 * where it lies in the buffer, or moves there.
 */
static void
begin_large(struct ipci_in *in, struct ipc_message *head, uint64_t size)
{
	if (in->in_hand) {
		memcpy(in->buffer, head->data, head->size);
		head->data = in->buffer;
		release_in_hand(in);
	}
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
	in->special |= IPCI_SPECIAL_STATE;
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
	ipci_link_close_set(&channel->in.lane, &channel->in.fds);
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
	if (in->n_lent)
		in->special |= IPCI_SPECIAL_STATE;
	return 0;
}

int
ipci_in_recv(struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms)
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

IPCI_SLOW static int
recv_slow(struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms)
{
	/* The handler has it. */
	if (channel->port)
		return -EBUSY;
	return ipci_in_recv(channel, ret_message, timeout_ms);
}

int
ipc_channel_recv(struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms)
{
	const unsigned int any = IPCI_SPECIAL_STATE | IPCI_SPECIAL_LOOP;

	assert(channel);
	assert(ret_message);
	if (ipci_likely(ipci_in_give(&channel->in, any, ret_message)))
		return 0;
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
