/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "loop.h"
#include "sys.h"
#include "wiped.h"

static void
packet_free(struct ipci_packet *packet)
{
	if (!packet)
		return;
	ipci_fds_close(&packet->fds);
	ipci_wiped_unmap(packet->buffer, packet->buffer_size);
	free(packet);
}

void
ipci_packet_cache_finish(struct ipci_packet_cache *cache)
{
	struct ipci_packet *packet;

	while ((packet = cache->first)) {
		cache->first = packet->next;
		packet_free(packet);
	}
	cache->n = 0;
	packet_free(cache->payload);
	cache->payload = NULL;
}

static struct ipci_packet *
packet_new(size_t buffer_size)
{
	struct ipci_packet *packet = malloc(sizeof(*packet));

	if (!packet)
		return NULL;
	memset(packet, 0, offsetof(struct ipci_packet, fds) + offsetof(struct ipci_fds, fds));
	packet->buffer_size = buffer_size;
	packet->buffer = ipci_sys_map(buffer_size);
	if (!packet->buffer) {
		free(packet);
		return NULL;
	}
	/* As the open record's buffer: a forked child forgets what its parent gathered, and what of
	   it is kept to be used again. */
	if (ipci_wiped_add(packet->buffer, buffer_size) < 0) {
		packet_free(packet);
		return NULL;
	}
	return packet;
}

/* A packet whose buffer can take the place of the open record's. */
static struct ipci_packet *
packet_get(struct ipc_channel *channel)
{
	struct ipci_packet_cache *cache = ipci_port_packets(channel->port);
	size_t size = channel->out.buffer_size;
	struct ipci_packet *packet, **place;

	for (place = &cache->first; (packet = *place); place = &packet->next) {
		if (packet->buffer_size == size) {
			*place = packet->next;
			cache->n--;
			return packet;
		}
	}
	return packet_new(size);
}

/* Is a packet of which size bytes were used worth its memory? */
static bool
is_worth_keeping(const struct ipci_packet_cache *cache, size_t size)
{
	unsigned int max = IPCI_PACKET_CACHE_MAX;

	if (size <= IPCI_PACKET_CACHE_SMALL)
		max += cache->n_ports;
	return cache->n < max;
}

/* Keep the larger of two. */
static void
put_payload(struct ipci_packet_cache *cache, struct ipci_packet *packet)
{
	struct ipci_packet *other = cache->payload;

	if (packet->buffer_size > IPCI_PACKET_CACHE_PAYLOAD ||
		(other && other->buffer_size >= packet->buffer_size))
		other = packet;
	else
		cache->payload = packet;
	packet_free(other);
}

static void
packet_put(struct ipc_channel *channel, struct ipci_packet *packet)
{
	struct ipci_packet_cache *cache = channel->port ? ipci_port_packets(channel->port) : NULL;

	if (cache && packet->fragments) {
		put_payload(cache, packet);
		return;
	}
	if (!cache || !is_worth_keeping(cache, packet->left_size)) {
		packet_free(packet);
		return;
	}
	ipci_fds_close(&packet->fds);
	packet->next = cache->first;
	cache->first = packet;
	cache->n++;
}

static void
append(struct ipci_out *out, struct ipci_packet *packet)
{
	struct ipci_queue *queue = &out->queue;

	packet->next = NULL;
	packet->part_max = 0;
	packet->is_split = false;
	packet->last_message = out->counts.messages;
	if (queue->first)
		queue->last->next = packet;
	else
		queue->first = packet;
	queue->last = packet;
	queue->bytes += packet->left_size;
	queue->n_fds += packet->fds.n;
}

/* Move the open record, which is not empty, to the queue; the packet's buffer takes its place. */
static void
queue_open_record(struct ipc_channel *channel, struct ipci_packet *packet)
{
	struct ipci_out *out = &channel->out;
	uint8_t *buffer = packet->buffer;

	ipci_writer_finish(&out->writer, 0);
	packet->buffer = out->buffer;
	packet->left = out->writer.record;
	packet->left_size = ipci_writer_size(&out->writer);
	packet->fds.n = out->fds.n;
	memcpy(packet->fds.fds, out->fds.fds, out->fds.n * sizeof(int));
	out->fds.n = 0;
	append(out, packet);

	out->buffer = buffer;
	ipci_out_begin(channel);
}

static size_t
bytes_outstanding(const struct ipci_out *out)
{
	return out->queue.bytes +
	       (ipci_writer_is_empty(&out->writer) ? 0 : ipci_writer_size(&out->writer));
}

static uint64_t
messages_outstanding(const struct ipci_out *out)
{
	return out->counts.messages - out->queue.messages_sent;
}

/* Whoever has nothing outstanding may send anything: else a large message never went. */
static bool
may_take(const struct ipc_channel *channel, const struct ipc_message *message)
{
	const struct ipci_port_limits *limits = ipci_port_limits(channel->port);
	const struct ipci_out *out = &channel->out;
	size_t bytes = bytes_outstanding(out);

	if (!bytes)
		return true;
	return bytes + ipci_pad(message->size) <= limits->bytes_max &&
	       messages_outstanding(out) < limits->messages_max &&
	       (!message->n_fds ||
		       out->queue.n_fds + out->fds.n + message->n_fds <= limits->fds_max);
}

bool
ipci_queue_has_room(const struct ipc_channel *channel)
{
	const struct ipci_port_limits *limits = ipci_port_limits(channel->port);
	const struct ipci_out *out = &channel->out;

	return atomic_load_explicit(&channel->heard, memory_order_acquire) &&
	       bytes_outstanding(out) < (limits->bytes_max + 1) / 2 &&
	       messages_outstanding(out) < (limits->messages_max + 1) / 2 &&
	       out->queue.n_fds + out->fds.n < (limits->fds_max + 1) / 2;
}

/* Let no more messages join the run than the limits allow: joining does not look at them. */
static void
limit_joins(struct ipc_channel *channel)
{
	const struct ipci_port_limits *limits = ipci_port_limits(channel->port);
	struct ipci_writer *writer = &channel->out.writer;
	size_t bytes = bytes_outstanding(&channel->out), allowed = 0, stride = writer->like_stride;
	uint64_t messages = messages_outstanding(&channel->out);

	if (writer->like_size == IPCI_LIKE_NONE)
		return;
	if (bytes < limits->bytes_max && messages < limits->messages_max)
		allowed = IPCI_MIN(
			limits->bytes_max - bytes, (limits->messages_max - messages) * stride);
	if (allowed < (size_t)(writer->end - writer->cursor))
		writer->end = writer->cursor + allowed;
}

/* A large message's payload. */
static struct ipci_packet *
packet_of_payload(const struct ipc_channel *channel, const struct ipc_message *message)
{
	struct ipci_packet_cache *cache = ipci_port_packets(channel->port);
	struct ipci_packet *packet = cache->payload;

	if (packet && packet->buffer_size >= message->size)
		cache->payload = NULL;
	else
		packet = packet_new(message->size);
	if (packet) {
		packet->fragments = true;
		packet->left = packet->buffer;
		packet->left_size = message->size;
		memcpy(packet->buffer, message->data, message->size);
	}
	return packet;
}

/*
 * The head ends the open record, without a piece of the payload: a packet with one could not be
 * split where the kernel has no memory for it.
 */
static int
queue_large(struct ipc_channel *channel, const struct ipc_message *message)
{
	struct ipci_out *out = &channel->out;
	struct ipci_packet *next, *payload = NULL;
	int r = ipci_out_reserve_large(out);

	next = packet_get(channel);
	if (next && r == 0)
		payload = packet_of_payload(channel, message);
	r = payload ? ipci_fds_add_dup(&out->fds, message->fds, message->n_fds) : -ENOMEM;
	if (r < 0) {
		if (next)
			packet_put(channel, next);
		packet_free(payload);
		return r;
	}

	ipci_writer_add_large(&out->writer, message);
	ipci_count_add(&out->counts.messages, 1);
	queue_open_record(channel, next);
	append(out, payload);
	return 0;
}

/* Have room in the open record for a message. */
static int
make_room(struct ipc_channel *channel, const struct ipc_message *message)
{
	struct ipci_packet *packet;

	if (ipci_writer_has_room(&channel->out.writer, message, true))
		return 0;
	packet = packet_get(channel);
	if (!packet)
		return -ENOMEM;
	queue_open_record(channel, packet);
	return 0;
}

static int
check(struct ipc_channel *channel, const struct ipc_message *message)
{
	struct ipci_deadline at_once = ipci_deadline(0);
	bool anonymous = false;
	int r = channel->out.finishing ? -EPIPE : ipci_port_error(channel->port);

	if (r == 0)
		r = ipci_out_check(channel, message, &at_once);
	if (r == 0 && message->n_fds)
		r = ipci_out_check_fds(message, &anonymous);
	/* A refusal by the kernel would come when it is too late to say so. */
	if (r == 0 && anonymous)
		r = ipci_fds_probe(message->fds, message->n_fds);
	if (r == 0 && !may_take(channel, message))
		r = -EAGAIN;
	return r;
}

int
ipci_queue_message(struct ipc_channel *channel, const struct ipc_message *message)
{
	struct ipci_writer *writer = &channel->out.writer;
	struct ipc_message head = *message;
	int r = check(channel, message);

	if (r == -EAGAIN)
		ipci_port_wants_room(channel->port);
	if (r < 0)
		return r;

	writer->end = channel->out.record_end;
	/* The peer may have said since the record was begun how much it takes. */
	if (ipci_writer_is_empty(writer))
		ipci_out_begin(channel);
	if (ipci_out_is_large(channel, message)) {
		/* Its total size takes 8 bytes. */
		head.size = sizeof(uint64_t);
		r = make_room(channel, &head);
		if (r == 0)
			r = queue_large(channel, message);
	} else {
		r = make_room(channel, message);
		if (r == 0)
			r = ipci_out_gather(channel, message);
		limit_joins(channel);
	}
	ipci_port_has_output(channel->port);
	return r;
}

int
ipci_queue_state(struct ipc_channel *channel)
{
	int r = ipci_port_error(channel->port);

	if (r < 0)
		return r;
	if (ipci_out_is_empty(&channel->out))
		return 0;
	ipci_port_wants_empty(channel->port);
	return -EAGAIN;
}

static void
parcel_of(struct ipci_parcel *parcel, void *memory, size_t size, const struct ipci_fds *fds,
	unsigned int n_fds)
{
	*parcel = (struct ipci_parcel){
		.parts = {{.iov_base = memory, .iov_len = size}},
		.n_parts = 1,
		.size = size,
		.fds = fds->fds,
		.n_fds = n_fds,
	};
}

static void
next_fragment(
	struct ipc_channel *channel, struct ipci_packet *packet, struct ipci_parcel *ret_parcel)
{
	struct ipci_record_header *header = &channel->out.queue.header;
	size_t size = IPCI_MIN(channel->out.packet_max - sizeof(*header), IPCI_FRAGMENT_MAX);

	if (packet->part_max)
		size = IPCI_MIN(size, packet->part_max);
	size = IPCI_MIN(size, packet->left_size);
	ipci_record_header_init(header, IPCI_KIND_FRAGMENT, 0, sizeof(*header) + size);
	parcel_of(ret_parcel, header, sizeof(*header), &packet->fds, 0);
	ret_parcel->parts[1] = (struct iovec){.iov_base = packet->left, .iov_len = size};
	ret_parcel->n_parts = 2;
	ret_parcel->size += size;
}

static int
finish_open_record(struct ipc_channel *channel)
{
	struct ipci_packet *packet;

	if (ipci_writer_is_empty(&channel->out.writer))
		return 0;
	packet = packet_get(channel);
	if (!packet)
		return -ENOMEM;
	queue_open_record(channel, packet);
	return 1;
}

int
ipci_queue_next(struct ipc_channel *channel, struct ipci_parcel *ret_parcel)
{
	struct ipci_queue *queue = &channel->out.queue;
	struct ipci_packet *packet;
	int r;

	if (ipci_out_owes_void(&channel->out)) {
		ipci_record_header_init(&queue->header, IPCI_KIND_VOID, 0, sizeof(queue->header));
		parcel_of(ret_parcel, &queue->header, sizeof(queue->header), &channel->out.fds, 0);
		return 1;
	}
	if (!queue->first) {
		r = finish_open_record(channel);
		if (r <= 0)
			return r;
	}

	packet = queue->first;
	if (packet->fragments) {
		next_fragment(channel, packet, ret_parcel);
		return 1;
	}
	packet->is_split = packet->part_max && packet->part_max < packet->left_size &&
	                   ipci_record_split(packet->left, packet->part_max, &packet->split);
	if (packet->is_split)
		parcel_of(ret_parcel, packet->split.record, packet->split.size, &packet->fds,
			packet->split.n_fds);
	else
		parcel_of(ret_parcel, packet->left, packet->left_size, &packet->fds, packet->fds.n);
	return 1;
}

bool
ipci_queue_is_last(const struct ipci_out *out, const struct ipci_parcel *parcel)
{
	return !out->void_due && out->queue.bytes == parcel->size &&
	       ipci_writer_is_empty(&out->writer);
}

/* The first part of a split record was sent: what is left is a record of its own. */
static void
advance_split(struct ipci_queue *queue, struct ipci_packet *packet)
{
	unsigned int n_fds = packet->split.n_fds;
	struct ipci_record_header *rest = ipci_split_rest(&packet->split);
	size_t sent = packet->left_size - rest->size;

	packet->is_split = false;
	packet->left = (uint8_t *)rest;
	packet->left_size = rest->size;
	queue->bytes -= sent;
	queue->n_fds -= n_fds;
	ipci_fds_close_some(packet->fds.fds, n_fds);
	packet->fds.n -= n_fds;
	memmove(packet->fds.fds, packet->fds.fds + n_fds, packet->fds.n * sizeof(int));
}

static void
remove_first(struct ipc_channel *channel)
{
	struct ipci_queue *queue = &channel->out.queue;
	struct ipci_packet *packet = queue->first;

	queue->first = packet->next;
	queue->bytes -= packet->left_size;
	queue->n_fds -= packet->fds.n;
	/* The rest of a large message goes on being outstanding: its head was finished with it. */
	if (!packet->next || !packet->next->fragments)
		queue->messages_sent = packet->last_message;
	else
		ipci_out_set_unfinished(&channel->out, true);
	if (packet->fragments)
		ipci_out_set_unfinished(&channel->out, false);
	packet_put(channel, packet);
}

void
ipci_queue_sent(struct ipc_channel *channel)
{
	struct ipci_queue *queue = &channel->out.queue;
	struct ipci_packet *packet = queue->first;
	size_t size;

	if (channel->out.void_due) {
		ipci_out_set_unfinished(&channel->out, false);
		channel->out.void_due = false;
		return;
	}
	if (packet->is_split) {
		advance_split(queue, packet);
		return;
	}
	if (packet->fragments) {
		size = queue->header.size - sizeof(queue->header);
		packet->left += size;
		packet->left_size -= size;
		queue->bytes -= size;
		if (packet->left_size)
			return;
	}
	remove_first(channel);
}

/* The kernel has no memory for a packet of this size. Return: 0 to try a smaller one, or -EAGAIN.
 */
static int
make_smaller(struct ipci_queue *queue, size_t size)
{
	size = ipci_packet_halved(size);
	if (!size || !queue->first)
		return -EAGAIN;
	queue->first->part_max = size;
	return 0;
}

int
ipci_queue_refused(struct ipc_channel *channel, int error)
{
	struct ipci_queue *queue = &channel->out.queue;
	struct ipci_packet *packet = channel->out.void_due ? NULL : queue->first;
	size_t size = packet ? packet->left_size : 0;

	if (packet && packet->fragments)
		size = queue->header.size - sizeof(queue->header);
	if (packet && packet->is_split) {
		size = packet->split.size;
		ipci_split_undo(&packet->split);
		packet->is_split = false;
	}

	switch (error) {
	case -EAGAIN:
	case -EINTR:
	case -ECANCELED:
		return 0;
	case -ENOBUFS:
	case -EMSGSIZE:
		return make_smaller(queue, size);
	case -ENOMEM:
	case -ETOOMANYREFS:
		return -EAGAIN;
	case -ECONNREFUSED:
		atomic_store_explicit(&channel->out.lane.refused, true, memory_order_relaxed);
		error = -EPIPE;
		break;
	case -ECONNRESET:
	case -ENOTCONN:
		error = -EPIPE;
		break;
	}
	error = ipci_out_error(channel, error);
	ipci_queue_die(channel, error);
	return error;
}

void
ipci_queue_die(struct ipc_channel *channel, int reason)
{
	channel->out.queue.dead = reason;
	channel->out.void_due = false;
	ipci_queue_drop(channel);
	ipci_out_begin(channel);
}

/* The call is cancelled while the next packet is being sent. */
static void
undo_next(void *arg)
{
	(void)ipci_queue_refused(arg, -EAGAIN);
}

int
ipci_queue_send(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_queue *queue = &channel->out.queue;
	struct ipci_parcel parcel;
	int r;

	while (queue->first) {
		(void)ipci_queue_next(channel, &parcel);
		deadline->undo = undo_next;
		deadline->undo_arg = channel;
		r = ipci_link_send(&channel->out.lane, parcel.parts, parcel.n_parts, parcel.fds,
			parcel.n_fds, deadline);
		deadline->undo = NULL;
		if (r == 0) {
			ipci_queue_sent(channel);
			continue;
		}
		if (ipci_queue_refused(channel, r == -ETIMEDOUT ? -EAGAIN : r) < 0 ||
			(r != -ENOBUFS && r != -EMSGSIZE))
			return r;
	}
	return 0;
}

void
ipci_queue_drop(struct ipc_channel *channel)
{
	struct ipci_queue *queue = &channel->out.queue;
	struct ipci_packet *packet;

	while ((packet = queue->first)) {
		queue->first = packet->next;
		packet_free(packet);
	}
	queue->bytes = 0;
	queue->n_fds = 0;
	queue->messages_sent = channel->out.counts.messages;
}
