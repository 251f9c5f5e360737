/* SPDX-License-Identifier: MIT */

/*
 * Records and messages, encoded and decoded. See wire.h for what this file refuses to know.
 */

#include <errno.h>
#include <string.h>

#include "wire.h"

/* The layout is the contract between two programs; a compiler that pads it breaks it. */
_Static_assert(sizeof(struct ipci_record_header) == 8, "record header");
_Static_assert(sizeof(struct ipci_hello) == 40, "hello");
_Static_assert(IPC_CHANNEL_RECORD_MAX_LIMIT <= IPCI_RUN_SIZE_MAX, "a record's message has a size");

static unsigned int
run_count(uint64_t header)
{
	return (unsigned int)(header >> 48);
}

static uint8_t
run_flags(uint64_t header)
{
	return (uint8_t)(header >> 24);
}

/* Bytes of a message before its payload. */
static size_t
run_head_size(uint8_t flags)
{
	return (flags & IPCI_RUN_ID ? sizeof(uint64_t) : 0) +
	       (flags & IPCI_RUN_LARGE ? sizeof(uint64_t) : 0);
}

static size_t
run_stride(uint64_t header)
{
	return run_head_size(run_flags(header)) + ipci_pad(header & IPCI_RUN_SIZE_MAX);
}

int
ipci_record_check(const struct ipci_record_header *header, size_t size)
{
	if (size < sizeof(*header) || header->magic != IPCI_WIRE_MAGIC || header->size != size)
		return -EPROTO;
	if (header->n_fds > IPC_MESSAGE_FDS_LIMIT)
		return -EPROTO;
	if (header->n_fds && header->kind != IPCI_KIND_MESSAGES)
		return -EPROTO;

	switch (header->kind) {
	case IPCI_KIND_MESSAGES:
		if (size == sizeof(*header) || size % IPCI_WIRE_ALIGN)
			return -EPROTO;
		return IPCI_KIND_MESSAGES;
	case IPCI_KIND_FRAGMENT:
		return size == sizeof(*header) ? -EPROTO : IPCI_KIND_FRAGMENT;
	case IPCI_KIND_VOID:
		return size != sizeof(*header) ? -EPROTO : IPCI_KIND_VOID;
	case IPCI_KIND_HELLO:
		return IPCI_KIND_HELLO;
	default:
		return -EPROTO;
	}
}

void
ipci_hello_init(struct ipci_hello *hello, const struct ipci_limits *limits)
{
	*hello = (struct ipci_hello){
		.magic = IPCI_HELLO_MAGIC,
		.version = IPCI_WIRE_VERSION,
		.fds_max = limits->fds_max,
		.message_max = limits->message_max,
		.record_max = limits->record_max,
	};
	ipci_record_header_init(&hello->header, IPCI_KIND_HELLO, 0, sizeof(*hello));
}

int
ipci_hello_check(const void *packet, size_t size, struct ipci_limits *ret_limits)
{
	struct ipci_hello hello;

	/* A later edition may append to it. */
	if (ipci_record_check(packet, size) != IPCI_KIND_HELLO || size < sizeof(hello))
		return -EPROTO;
	memcpy(&hello, packet, sizeof(hello));

	if (hello.magic != IPCI_HELLO_MAGIC || hello.version != IPCI_WIRE_VERSION)
		return -EPROTO;
	if (hello.reserved || hello.reserved_2)
		return -EPROTO;
	if (hello.fds_max > IPC_MESSAGE_FDS_LIMIT || hello.record_max < IPC_CHANNEL_RECORD_MAX_MIN)
		return -EPROTO;

	*ret_limits = (struct ipci_limits){
		.message_max = hello.message_max,
		.record_max = hello.record_max,
		.fds_max = hello.fds_max,
	};
	return 0;
}

void
ipci_writer_begin(struct ipci_writer *writer, void *memory, size_t size)
{
	*writer = (struct ipci_writer){
		.record = memory,
		.cursor = (uint8_t *)memory + sizeof(struct ipci_record_header),
		.end = (uint8_t *)memory + size,
		.like_size = IPCI_LIKE_NONE,
		.like_kind = IPCI_LIKE_KIND_NONE,
	};
}

bool
ipci_writer_has_room(
	const struct ipci_writer *writer, const struct ipc_message *message, bool with_payload)
{
	size_t need = sizeof(uint64_t) + (message->id ? sizeof(message->id) : 0);

	if (with_payload)
		need += ipci_pad(message->size);
	return (size_t)(writer->end - writer->cursor) >= need &&
	       writer->n_fds + message->n_fds <= IPC_MESSAGE_FDS_LIMIT;
}

/* Begin a run of one message; return where what follows its id goes. */
static uint8_t *
begin_run(struct ipci_writer *writer, const struct ipc_message *message, uint64_t header)
{
	uint64_t *place = (uint64_t *)(void *)writer->cursor;

	ipci_writer_seal(writer);
	if (message->n_fds) {
		header |= (uint64_t)IPCI_RUN_FDS << 24 | message->n_fds * IPCI_RUN_ONE;
		writer->n_fds += message->n_fds;
	} else {
		header |= IPCI_RUN_ONE;
		writer->run = place;
	}

	*place++ = header;
	if (message->id)
		*place++ = message->id;
	return (uint8_t *)place;
}

void *
ipci_writer_add(struct ipci_writer *writer, const struct ipc_message *message, bool with_payload)
{
	uint8_t *payload = with_payload ? ipci_writer_join(writer, message) : NULL;
	uint64_t header;

	if (payload)
		return payload;

	header = ipci_run_header(message);
	payload = begin_run(writer, message, header);
	writer->cursor = payload;
	if (!with_payload) {
		ipci_writer_seal(writer);
		return payload;
	}
	writer->cursor += ipci_pad(message->size);
	/* Empty messages without an id share no run. */
	if (writer->run && run_stride(header)) {
		writer->like_size = message->size;
		writer->like_kind = ipci_message_kind(message);
		writer->like_stride = run_stride(header);
	}
	return payload;
}

void
ipci_writer_add_large(struct ipci_writer *writer, const struct ipc_message *message)
{
	struct ipc_message head = *message;
	uint64_t *total;

	head.size = 0;
	total = (uint64_t *)(void *)begin_run(
		writer, message, ipci_run_header(&head) | (uint64_t)IPCI_RUN_LARGE << 24);
	*total++ = message->size;
	writer->cursor = (uint8_t *)total;
	ipci_writer_seal(writer);
}

struct ipci_writer_mark
ipci_writer_mark(const struct ipci_writer *writer)
{
	return (struct ipci_writer_mark){
		.writer = *writer,
		.run_header = writer->run ? *writer->run : 0,
	};
}

void
ipci_writer_rewind(struct ipci_writer *writer, const struct ipci_writer_mark *mark)
{
	*writer = mark->writer;
	if (writer->run)
		*writer->run = mark->run_header;
}

void
ipci_writer_finish(struct ipci_writer *writer, size_t extra)
{
	ipci_record_header_init((struct ipci_record_header *)(void *)writer->record,
		IPCI_KIND_MESSAGES, writer->n_fds, ipci_writer_size(writer) + extra);
}

/* How many messages of a run fit in room, at least least. */
static unsigned int
run_fitting(uint64_t header, size_t room, unsigned int least)
{
	size_t stride = run_stride(header), n;

	if (run_flags(header) & IPCI_RUN_FDS)
		return least || stride <= room;
	n = stride ? room / stride : run_count(header);
	if (n < least)
		n = least;
	return n < run_count(header) ? (unsigned int)n : run_count(header);
}

bool
ipci_record_split(void *record, size_t max, struct ipci_split *ret_split)
{
	struct ipci_split split = {.record = record};
	uint8_t *cursor, *end;
	unsigned int fits, count, first;
	size_t used;
	uint64_t header;

	memcpy(&split.header, record, sizeof(split.header));
	cursor = split.record + sizeof(split.header);
	end = split.record + split.header.size;

	while (cursor < end) {
		used = (size_t)(cursor - split.record) + sizeof(header);
		header = *(uint64_t *)(void *)cursor;
		count = run_flags(header) & IPCI_RUN_FDS ? 1 : run_count(header);
		first = used == sizeof(split.header) + sizeof(header);
		fits = 0;
		if (first || used <= max)
			fits = run_fitting(header, used <= max ? max - used : 0, first);
		if (fits < count)
			break;
		cursor += sizeof(header) + count * run_stride(header);
		if (run_flags(header) & IPCI_RUN_FDS)
			split.n_fds += run_count(header);
	}
	if (cursor >= end)
		return false;

	if (fits) {
		split.run = (uint64_t *)(void *)cursor;
		split.run_header = header;
		split.rest_header = header - fits * IPCI_RUN_ONE;
		*split.run = header - (count - fits) * IPCI_RUN_ONE;
		cursor += sizeof(header) + fits * run_stride(header);
	}
	split.rest = cursor;
	split.size = (size_t)(cursor - split.record);
	ipci_record_header_init(record, IPCI_KIND_MESSAGES, split.n_fds, split.size);
	*ret_split = split;
	return true;
}

void
ipci_split_undo(const struct ipci_split *split)
{
	memcpy(split->record, &split->header, sizeof(split->header));
	if (split->run)
		*split->run = split->run_header;
}

struct ipci_record_header *
ipci_split_rest(const struct ipci_split *split)
{
	uint8_t *record = split->rest;
	size_t size = split->header.size - split->size;

	/* The first part, which is gone, had at least these 16 bytes. */
	if (split->rest_header) {
		record -= sizeof(split->rest_header);
		*(uint64_t *)(void *)record = split->rest_header;
		size += sizeof(split->rest_header);
	}
	record -= sizeof(split->header);
	ipci_record_header_init((struct ipci_record_header *)(void *)record, IPCI_KIND_MESSAGES,
		split->header.n_fds - split->n_fds, size + sizeof(split->header));
	return (struct ipci_record_header *)(void *)record;
}

void
ipci_reader_begin(struct ipci_reader *reader, const void *packet, const struct ipci_limits *limits)
{
	const struct ipci_record_header *header = packet;

	*reader = (struct ipci_reader){
		.cursor = (const uint8_t *)packet + sizeof(*header),
		.end = (const uint8_t *)packet + header->size,
		.fds_left = header->n_fds,
		.limits = limits,
	};
}

/* Begin a run whose messages were found to lie in the record. */
static inline void
enter_run(struct ipci_reader *reader, uint64_t header, unsigned int count, size_t stride)
{
	reader->cursor += sizeof(header);
	reader->run_flags = run_flags(header);
	reader->run_type = (uint16_t)(header >> 32);
	reader->run_size = (uint32_t)(header & IPCI_RUN_SIZE_MAX);
	reader->run_stride = (uint32_t)stride;
	reader->run_left = count;
}

/* The single message of a run that is no plain one: with descriptors, or large. */
static int
next_special(struct ipci_reader *reader, uint64_t header, struct ipc_message *ret_message,
	uint64_t *ret_large_size)
{
	size_t left = (size_t)(reader->end - reader->cursor) - sizeof(header);
	uint8_t flags = run_flags(header);
	unsigned int n_fds = flags & IPCI_RUN_FDS ? run_count(header) : 0;
	struct ipc_message message;
	uint64_t large_size = 0;

	if (flags & ~IPCI_RUN_ALL || !run_count(header) || run_stride(header) > left)
		return -EPROTO;
	if (n_fds > reader->limits->fds_max || n_fds > reader->fds_left)
		return -EPROTO;
	if (flags & IPCI_RUN_LARGE &&
		(header & IPCI_RUN_SIZE_MAX || (!n_fds && run_count(header) != 1)))
		return -EPROTO;

	enter_run(reader, header, 1, run_stride(header));
	ipci_reader_give(reader, &message);
	message.n_fds = n_fds;
	reader->fds_left -= n_fds;
	if (flags & IPCI_RUN_LARGE) {
		memcpy(&large_size, message.data, sizeof(large_size));
		message.data = reader->cursor;
		message.size = (size_t)(reader->end - reader->cursor);
		reader->cursor = reader->end;
		if (!large_size || large_size > reader->limits->message_max)
			return -EPROTO;
		if (message.size > large_size || reader->fds_left)
			return -EPROTO;
	}
	*ret_message = message;
	*ret_large_size = large_size;
	return 1;
}

int
ipci_reader_next_run(
	struct ipci_reader *reader, struct ipc_message *ret_message, uint64_t *ret_large_size)
{
	size_t left = (size_t)(reader->end - reader->cursor), size, stride;
	unsigned int count;
	uint64_t header;

	if (!left)
		return reader->fds_left ? -EPROTO : 0;

	memcpy(&header, reader->cursor, sizeof(header));
	size = header & IPCI_RUN_SIZE_MAX;
	if (size > reader->limits->message_max)
		return -EPROTO;
	if (run_flags(header) & ~(IPCI_RUN_OF_MESSAGE | IPCI_RUN_ID))
		return next_special(reader, header, ret_message, ret_large_size);

	stride = run_stride(header);
	count = run_count(header);
	if (!count || (uint64_t)count * stride > left - sizeof(header))
		return -EPROTO;
	/* Else a small packet could be a thousand million messages. */
	if (!stride && count > 1)
		return -EPROTO;
	enter_run(reader, header, count, stride);
	ipci_reader_give(reader, ret_message);
	*ret_large_size = 0;
	return 1;
}
