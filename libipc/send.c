/* SPDX-License-Identifier: MIT */

/*
 * The way out: gathers messages into the open record and sends it.
 *
 * A message is taken whole or not at all, so each step that can fail comes before the
 * message is part of the record, or is taken back.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "channel.h"
#include "sys.h"
#include "wiped.h"

/* Bytes of a record before the payload of its first message. */
#define RECORD_OVERHEAD (sizeof(struct ipci_record_header) + 2 * sizeof(uint64_t))

/* The packets that the peer takes: a floor until it has said what more. */
static size_t
record_max(const struct ipc_channel *channel)
{
	size_t max = IPCI_MIN(channel->out.buffer_size, channel->out.packet_max);
	bool heard = atomic_load_explicit(&channel->heard, memory_order_acquire);

	size_t peer_max = IPCI_RECORD_FLOOR;

	/* Never less than before: a message was found to have room. */
	if (heard && channel->peer.record_max > peer_max)
		peer_max = channel->peer.record_max;
	return IPCI_MIN(max, peer_max) & ~(size_t)(IPCI_WIRE_ALIGN - 1);
}

void
ipci_out_begin(struct ipc_channel *channel)
{
	struct ipci_out *out = &channel->out;

	/* Marked at once: an empty record and one that a fork wiped must differ. */
	ipci_writer_begin(&out->writer, out->buffer, record_max(channel));
	ipci_writer_finish(&out->writer, 0);
	ipci_fds_close(&out->fds);

	out->record_end = out->writer.end;

	if (!out->lone_end && !channel->port && !out->is_copy &&
		atomic_load_explicit(&channel->heard, memory_order_acquire)) {
		out->lone_end = IPCI_MIN(channel->own.message_max, channel->peer.message_max);
		out->lone_end = IPCI_MIN(out->lone_end, IPCI_IN_PLACE_MIN) + 1;
	}
}

size_t
ipci_out_buffer_size(const struct ipc_channel_options *options)
{
	return ipci_pad(options->record_max);
}

int
ipci_out_init(struct ipc_channel *channel, const struct ipc_channel_options *options)
{
	struct ipci_out *out = &channel->out;
	int send_buffer, r;

	if (options->send_buffer) {
		r = ipci_sys_setsockopt_int(channel->fd, SO_SNDBUF, (int)options->send_buffer);
		if (r < 0)
			return r;
	}
	r = ipci_sys_getsockopt_int(channel->fd, SO_SNDBUF, &send_buffer);
	if (r < 0)
		return r;
	out->packet_max = (size_t)send_buffer - IPCI_PACKET_OVERHEAD;

	/* Before Linux 4.14 a child that closes its copy would send what the parent gathered. */
	r = ipci_wiped_add(out->buffer, out->buffer_size);
	if (r < 0)
		return r;

	ipci_wait_init(&out->lane.wait, options->spin_us);
	out->lane.fd = channel->fd;
	out->lane.counts = &out->counts;
	ipci_out_begin(channel);
	return 0;
}

void
ipci_out_finish(struct ipc_channel *channel)
{
	ipci_queue_drop(channel);
	ipci_fds_close(&channel->out.fds);
	ipci_sys_unmap(channel->out.unfinished, sizeof(*channel->out.unfinished));
	ipci_wiped_unmap(channel->out.buffer, channel->out.buffer_size);
}

int
ipci_out_hello(struct ipc_channel *channel)
{
	struct ipci_hello hello;
	struct iovec part = {.iov_base = &hello, .iov_len = sizeof(hello)};
	struct ipci_deadline at_once = ipci_deadline(0);

	ipci_hello_init(&hello, &channel->own);
	return ipci_link_send(&channel->out.lane, &part, 1, NULL, 0, &at_once);
}

/* In a forked child: what the parent gathered or owes the peer is the parent's alone, as long as
   the child sends no message. */
static void
forget_parent(struct ipc_channel *channel)
{
	struct ipci_out *out = &channel->out;

	if (ipci_likely(out->writer.record[0] == IPCI_WIRE_MAGIC))
		return;
	out->is_copy = true;
	out->lone_end = 0;
	out->void_due = false;
	ipci_queue_drop(channel);
	ipci_out_begin(channel);
}

/* The child uses this end from now on, and the parent does not: what the peer is to be told before
   anything else is the child's to tell. */
static void
follow_parent(struct ipci_out *out)
{
	out->is_copy = false;
	out->void_due = out->unfinished;
	(void)ipci_out_owes_void(out);
}

int
ipci_out_reserve_large(struct ipci_out *out)
{
	if (!out->unfinished)
		out->unfinished = ipci_sys_map_shared(sizeof(*out->unfinished));
	return out->unfinished ? 0 : -ENOMEM;
}

/* The call is cancelled while a part of a record is being sent. */
static void
undo_split(void *arg)
{
	ipci_split_undo(arg);
}

/*
 * Send a finished record from where it lies. If the kernel has no memory for a packet of this size
 * it goes in parts; what is left when a part fails is the new open record.
 */
static int
send_in_parts(struct ipc_channel *channel, size_t size, struct ipci_deadline *deadline)
{
	struct ipci_out *out = &channel->out;
	struct ipci_writer *writer = &out->writer;
	struct ipci_split split;
	struct iovec part;
	int r;

	size = ipci_packet_halved(size);
	while (size && ipci_record_split(writer->record, size, &split)) {
		part = (struct iovec){.iov_base = split.record, .iov_len = split.size};
		deadline->undo = undo_split;
		deadline->undo_arg = &split;
		r = ipci_link_send(&out->lane, &part, 1, out->fds.fds, split.n_fds, deadline);
		deadline->undo = NULL;
		if (r < 0) {
			ipci_split_undo(&split);
			if (r != -ENOBUFS)
				return r;
			size = ipci_packet_halved(size);
			continue;
		}
		writer->record = (uint8_t *)ipci_split_rest(&split);
		ipci_writer_seal(writer);
		writer->n_fds -= split.n_fds;
		ipci_fds_close_some(out->fds.fds, split.n_fds);
		out->fds.n -= split.n_fds;
		memmove(out->fds.fds, out->fds.fds + split.n_fds, out->fds.n * sizeof(int));
	}

	part = (struct iovec){.iov_base = writer->record, .iov_len = ipci_writer_size(writer)};
	return ipci_link_send(&out->lane, &part, 1, out->fds.fds, writer->n_fds, deadline);
}

int
ipci_out_error(struct ipc_channel *channel, int r)
{
	/* The hello took descriptors, the socket refuses them. */
	return r == -EPERM ? ipci_channel_break(channel) : r;
}

/* Send the open record; on failure it stays, or what is left of it. */
static int
send_record(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_out *out = &channel->out;
	struct iovec part;
	int r;

	ipci_writer_finish(&out->writer, 0);
	part = (struct iovec){
		.iov_base = out->writer.record,
		.iov_len = ipci_writer_size(&out->writer),
	};
	r = ipci_link_send(&out->lane, &part, 1, out->fds.fds, out->writer.n_fds, deadline);
	if (r == -ENOBUFS)
		r = send_in_parts(channel, part.iov_len, deadline);
	if (r < 0)
		return ipci_out_error(channel, r);
	ipci_out_begin(channel);
	return 0;
}

/* Tell the peer that the large message which it has begun to receive will not be completed. */
static int
send_void(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_record_header header;
	struct iovec part = {.iov_base = &header, .iov_len = sizeof(header)};
	int r;

	ipci_record_header_init(&header, IPCI_KIND_VOID, 0, sizeof(header));
	r = ipci_link_send(&channel->out.lane, &part, 1, NULL, 0, deadline);
	if (r == 0) {
		ipci_out_set_unfinished(&channel->out, false);
		channel->out.void_due = false;
	}
	return r;
}

/* Everything that must be sent before a new message can be. */
static int
send_gathered(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	struct ipci_out *out = &channel->out;
	int r = atomic_load_explicit(&channel->broken, memory_order_relaxed);

	/* What was gathered in a loop and could not be sent is gone. */
	if (r == 0)
		r = out->queue.dead;
	if (r < 0)
		return r;
	forget_parent(channel);
	if (ipci_out_owes_void(out)) {
		r = send_void(channel, deadline);
		if (r < 0)
			return r;
	}
	if (ipci_unlikely(out->queue.first)) {
		r = ipci_queue_send(channel, deadline);
		if (r < 0)
			return ipci_out_error(channel, r);
	}
	return ipci_writer_is_empty(&out->writer) ? 0 : send_record(channel, deadline);
}

/* Have an empty record, as large as the peer takes by now. */
static int
make_room(struct ipc_channel *channel, struct ipci_deadline *deadline)
{
	int r = send_gathered(channel, deadline);

	if (r == 0)
		ipci_out_begin(channel);
	return r;
}

/* The limits of this end, then those of the peer. */
int
ipci_out_check(struct ipc_channel *channel, const struct ipc_message *message,
	struct ipci_deadline *deadline)
{
	struct ipci_deadline at_once = ipci_deadline(0);
	bool plain = message->size <= IPC_CHANNEL_MESSAGE_FLOOR && !message->n_fds;
	int r;

	if (message->size > channel->own.message_max)
		return -EMSGSIZE;
	if (message->n_fds > IPC_MESSAGE_FDS_LIMIT)
		return -E2BIG;

	if (ipci_unlikely(!atomic_load_explicit(&channel->heard, memory_order_acquire))) {
		r = ipci_in_hello(channel, plain ? &at_once : deadline);
		if (r == -EAGAIN && plain)
			return 0;
		if (r < 0)
			return r;
	}
	if (message->size > channel->peer.message_max)
		return -EMSGSIZE;
	return message->n_fds > channel->peer.fds_max ? -E2BIG : 0;
}

/* A message that was added to the open record, and is to be taken back if it is not sent. */
struct addition {
	struct ipci_writer *writer;
	const struct ipci_writer_mark *mark;
};

static void
undo_addition(void *arg)
{
	struct addition *addition = arg;

	ipci_writer_rewind(addition->writer, addition->mark);
}

/*
 * Send the open record, which the message has just been added to as its last, with tail_size bytes
 * of its payload from where they lie. Borrows its descriptors. On failure the record is back at the
 * mark.
 */
static int
send_ended(struct ipc_channel *channel, const struct ipci_writer_mark *mark,
	const struct ipc_message *message, size_t tail_size, struct ipci_deadline *deadline)
{
	static const uint8_t padding[IPCI_WIRE_ALIGN];
	struct ipci_out *out = &channel->out;
	size_t pad_size = ipci_pad(tail_size) - tail_size;
	struct iovec parts[3] = {
		{.iov_base = out->writer.record, .iov_len = ipci_writer_size(&out->writer)},
		{.iov_base = (void *)message->data, .iov_len = tail_size},
		{.iov_base = (void *)padding, .iov_len = pad_size},
	};
	unsigned int n_parts = pad_size ? 3 : tail_size ? 2 : 1;
	struct addition addition = {.writer = &out->writer, .mark = mark};
	int r;

	ipci_writer_finish(&out->writer, tail_size + pad_size);
	/* Borrowed: they stand behind the set, not in it. */
	if (message->n_fds)
		memcpy(out->fds.fds + out->fds.n, message->fds, message->n_fds * sizeof(int));
	deadline->undo = undo_addition;
	deadline->undo_arg = &addition;
	r = ipci_link_send(&out->lane, parts, n_parts, out->fds.fds, out->writer.n_fds, deadline);
	deadline->undo = NULL;
	if (r < 0) {
		undo_addition(&addition);
		return r;
	}
	ipci_out_begin(channel);
	return 0;
}

/* Send the message with what is gathered before it; there is room for it. */
static int
send_whole(struct ipc_channel *channel, const struct ipc_message *message,
	struct ipci_deadline *deadline)
{
	struct ipci_writer *writer = &channel->out.writer;
	struct ipci_writer_mark mark = ipci_writer_mark(writer);
	bool in_place = message->size >= IPCI_IN_PLACE_MIN;
	void *payload = ipci_writer_add(writer, message, !in_place);

	if (!in_place)
		ipci_payload_copy(payload, message->data, message->size);
	return send_ended(channel, &mark, message, in_place ? message->size : 0, deadline);
}

/* Send the head of a large message, and as much of its payload as the record has room for. */
static int
send_head(struct ipc_channel *channel, const struct ipc_message *message, bool with_piece,
	size_t *ret_sent, struct ipci_deadline *deadline)
{
	struct ipci_writer *writer = &channel->out.writer;
	struct ipci_writer_mark mark = ipci_writer_mark(writer);
	size_t piece = 0;
	int r;

	ipci_writer_add_large(writer, message);
	if (with_piece) {
		piece = (size_t)(writer->end - writer->cursor);
		piece = IPCI_MIN(piece, message->size) & ~(size_t)(IPCI_WIRE_ALIGN - 1);
	}
	r = send_ended(channel, &mark, message, piece, deadline);
	if (r == 0)
		*ret_sent = piece;
	return r;
}

/* The rest of a large message, in packets as large as the socket takes. */
static int
send_fragments(struct ipc_channel *channel, const struct ipc_message *message, size_t sent,
	struct ipci_deadline *deadline)
{
	struct ipci_out *out = &channel->out;
	struct ipci_record_header header;
	size_t max = IPCI_MIN(out->packet_max - sizeof(header), IPCI_FRAGMENT_MAX);
	struct iovec parts[2];
	size_t size;
	int r;

	while (sent < message->size) {
		size = IPCI_MIN(max, message->size - sent);
		ipci_record_header_init(&header, IPCI_KIND_FRAGMENT, 0, sizeof(header) + size);
		parts[0] = (struct iovec){.iov_base = &header, .iov_len = sizeof(header)};
		parts[1] = (struct iovec){(uint8_t *)message->data + sent, size};
		r = ipci_link_send(&out->lane, parts, 2, NULL, 0, deadline);
		if (r == -ENOBUFS && size > IPCI_PACKET_MIN) {
			max = size / 2;
			continue;
		}
		if (r < 0)
			return r;
		sent += size;
	}
	return 0;
}

/* A large message was cut short. */
static void
owe_void(void *arg)
{
	struct ipci_out *out = arg;

	ipci_count_add(&out->counts.dropped, 1);
	out->void_due = true;
}

/* A message larger than a record: its head ends the open record, fragments follow. */
static int
send_large(struct ipc_channel *channel, const struct ipc_message *message,
	struct ipci_deadline *deadline)
{
	struct ipci_deadline at_once = ipci_deadline(0);
	struct ipci_out *out = &channel->out;
	struct ipc_message head = *message;
	size_t sent = 0;
	int r = ipci_out_reserve_large(out);

	/* Its total size takes 8 bytes. */
	head.size = sizeof(uint64_t);
	if (r == 0 && !ipci_writer_has_room(&out->writer, &head, true))
		r = make_room(channel, deadline);
	if (r == 0)
		r = send_head(channel, message, true, &sent, deadline);
	if (r == -ENOBUFS) {
		r = send_gathered(channel, deadline);
		if (r == 0)
			r = send_head(channel, message, false, &sent, deadline);
	}
	if (r < 0)
		return r;

	ipci_out_set_unfinished(out, true);
	deadline->undo = owe_void;
	deadline->undo_arg = out;
	r = send_fragments(channel, message, sent, deadline);
	deadline->undo = NULL;
	if (r < 0) {
		owe_void(out);
		(void)send_void(channel, &at_once);
		return r;
	}
	ipci_out_set_unfinished(out, false);
	ipci_count_add(&out->counts.messages, 1);
	return 0;
}

/*
 * Is each descriptor open, and of a kind that the kernel surely passes? An io_uring is refused,
 * and stat cannot tell it from other anonymous inodes: a message with one of those is never
 * gathered, so that a refusal finds the right message.
 */
int
ipci_out_check_fds(const struct ipc_message *message, bool *ret_anonymous)
{
	struct stat stat;
	uint32_t i;
	int r;

	*ret_anonymous = false;
	for (i = 0; i < message->n_fds; i++) {
		r = ipci_sys_fstat(message->fds[i], &stat);
		if (r < 0)
			return r;
		if (!(stat.st_mode & S_IFMT))
			*ret_anonymous = true;
	}
	return 0;
}

int
ipci_out_gather(struct ipc_channel *channel, const struct ipc_message *message)
{
	struct ipci_out *out = &channel->out;
	void *payload;
	int r;

	if (message->n_fds) {
		r = ipci_fds_add_dup(&out->fds, message->fds, message->n_fds);
		if (r < 0)
			return r;
	}
	payload = ipci_writer_add(&out->writer, message, true);
	ipci_payload_copy(payload, message->data, message->size);
	ipci_count_add(&out->counts.messages, 1);
	return 0;
}

/* Send the message now, with what is gathered before it; there is room for it. */
static int
send_now(struct ipc_channel *channel, const struct ipc_message *message,
	struct ipci_deadline *deadline)
{
	int r = send_whole(channel, message, deadline);

	/* No memory for so large a packet: what is gathered goes alone, then the message, and then,
	   in fragments, which can be as small as need be. */
	if (r == -ENOBUFS) {
		r = send_gathered(channel, deadline);
		if (r == 0)
			r = send_whole(channel, message, deadline);
		if (r == -ENOBUFS && message->size > IPCI_PACKET_MIN)
			return send_large(channel, message, deadline);
	}
	if (r == 0)
		ipci_count_add(&channel->out.counts.messages, 1);
	return r;
}

bool
ipci_out_is_large(const struct ipc_channel *channel, const struct ipc_message *message)
{
	return RECORD_OVERHEAD + ipci_pad(message->size) > record_max(channel);
}

int
ipci_out_message(struct ipc_channel *channel, const struct ipc_message *message, bool flush,
	struct ipci_deadline *deadline)
{
	struct ipci_deadline at_once = ipci_deadline(0);
	struct ipci_out *out = &channel->out;
	bool anonymous = false;
	int r = atomic_load_explicit(&channel->broken, memory_order_relaxed);

	forget_parent(channel);
	if (channel->port)
		return ipci_queue_message(channel, message);
	if (r == 0)
		r = ipci_out_check(channel, message, deadline);
	/* The peer may have said since the record was begun how much it takes. */
	if (r == 0 && ipci_writer_is_empty(&out->writer))
		ipci_out_begin(channel);
	if (r == 0 && message->n_fds)
		r = ipci_out_check_fds(message, &anonymous);
	if (r == 0 && ipci_unlikely(out->is_copy))
		follow_parent(out);
	if (r == 0 && (out->void_due || out->queue.first))
		r = send_gathered(channel, deadline);
	if (r < 0)
		return r;

	if (ipci_out_is_large(channel, message))
		return ipci_out_error(channel, send_large(channel, message, deadline));

	if (anonymous || !ipci_writer_has_room(&out->writer, message, true)) {
		r = make_room(channel, deadline);
		if (r < 0)
			return r;
	}
	if (flush || anonymous)
		return ipci_out_error(channel, send_now(channel, message, deadline));

	/* Large enough to be sent from where it lies, if the socket takes it at once. */
	if (message->size >= IPCI_AT_ONCE_MIN) {
		r = ipci_out_error(channel, send_now(channel, message, &at_once));
		if (r != -EAGAIN)
			return r;
	}

	r = ipci_out_gather(channel, message);
	/* No room for duplicates: what is gathered holds some, and to send now needs none. */
	if (r == -EMFILE)
		r = ipci_out_error(channel, send_now(channel, message, deadline));
	return r;
}

IPCI_SLOW static int
post_slow(struct ipc_channel *channel, const struct ipc_message *message, int timeout_ms)
{
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);

	ipci_message_assert(message);
	return ipci_out_message(channel, message, false, &deadline);
}

int
ipc_channel_post(struct ipc_channel *channel, const struct ipc_message *message, int timeout_ms)
{
	void *payload;

	assert(channel);
	assert(message);
	assert(message->data || !message->size);

	payload = ipci_writer_join(&channel->out.writer, message);
	if (ipci_unlikely(!payload))
		return post_slow(channel, message, timeout_ms);
	ipci_payload_copy(payload, message->data, message->size);
	ipci_count_add(&channel->out.counts.messages, 1);
	return 0;
}

int
ipc_channel_flush(struct ipc_channel *channel, int timeout_ms)
{
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);

	assert(channel);
	/* In a loop the end of the turn sends. */
	if (channel->port)
		return ipci_queue_state(channel);
	return send_gathered(channel, &deadline);
}

int
ipci_out_flush(struct ipc_channel *channel)
{
	struct ipci_deadline at_once = ipci_deadline(0);
	int r = send_gathered(channel, &at_once);

	if (r == 0)
		channel->out.queue.messages_sent = channel->out.counts.messages;
	return r;
}

/* Is nothing gathered before this small message, and nothing else in its way? */
static inline bool
may_send_lone(struct ipc_channel *channel, const struct ipc_message *message)
{
	const struct ipci_out *out = &channel->out;

	return message->size < out->lone_end && !message->n_fds &&
	       ipci_writer_is_empty(&out->writer) && !out->void_due && !out->queue.first &&
	       out->writer.record[0] == IPCI_WIRE_MAGIC &&
	       !atomic_load_explicit(&channel->broken, memory_order_relaxed);
}

/* The short way of a send on an idle channel: nothing is gathered, so nothing need be taken back.
 */
static int
send_lone(struct ipc_channel *channel, const struct ipc_message *message,
	struct ipci_deadline *deadline)
{
	struct ipci_out *out = &channel->out;
	size_t size = ipci_writer_lone(&out->writer, message);
	int r = ipci_link_send_plain(&out->lane, out->writer.record, size, deadline);

	if (r == 0)
		ipci_count_add(&out->counts.messages, 1);
	return r;
}

int
ipc_channel_send(struct ipc_channel *channel, const struct ipc_message *message, int timeout_ms)
{
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);

	assert(channel);
	ipci_message_assert(message);
	if (ipci_likely(may_send_lone(channel, message)))
		return send_lone(channel, message, &deadline);
	return ipci_out_message(channel, message, true, &deadline);
}
