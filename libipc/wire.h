/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_WIRE_H
#define LIBIPC_INTERNAL_WIRE_H

/*
 * The layout of records and messages: pure functions over memory.
 *
 * Knows every byte that libipc puts into a packet, and checks every field that
 * arrives before it is used. Refuses to know of sockets, descriptors (it counts
 * them only), time and allocation. docs/PROTOCOL.md is the same in prose.
 *
 * A packet is a record: an 8-byte header and a body. A body of messages is a
 * sequence of runs: messages of one size, type and flags share one 8-byte header,
 * so that a stream of like messages carries next to no overhead.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libipc/channel.h>

#include "base.h"

#define IPCI_WIRE_VERSION 1
#define IPCI_WIRE_MAGIC   0xB5 /* not ASCII, not UTF-8's first byte */
#define IPCI_WIRE_ALIGN   8

/* Every end takes records of this size, whatever its record_max: what a peer
   may send before it has seen the hello. Holds a message of IPC_CHANNEL_MESSAGE_FLOOR. */
#define IPCI_RECORD_FLOOR 8192

/* Payload bytes of one fragment, at most: a receiver knows how large a buffer any packet
   needs. Two of them are in flight in the default socket buffer of 212,992 bytes, and larger ones
   gain nothing (PERFORMANCE.md). */
#define IPCI_FRAGMENT_MAX 200000U

enum ipci_kind {
	IPCI_KIND_HELLO = 1,    /* version and limits; each end's first record */
	IPCI_KIND_MESSAGES = 2, /* runs of messages */
	IPCI_KIND_FRAGMENT = 3, /* the next piece of the large message begun before */
	IPCI_KIND_VOID = 4,     /* that large message will not be completed */
};

/* Integers are in the byte order of the machine: both ends are on it. */
struct ipci_record_header {
	uint8_t magic;
	uint8_t kind;
	uint16_t n_fds; /* descriptors that come with this packet */
	uint32_t size;  /* of the packet, this header included */
};

struct ipci_hello {
	struct ipci_record_header header;
	uint32_t magic; /* IPCI_HELLO_MAGIC */
	uint16_t version;
	uint16_t reserved; /* 0 */
	uint32_t features; /* none yet; unknown ones are ignored */
	uint32_t fds_max;
	uint64_t message_max;
	uint32_t record_max;
	uint32_t reserved_2; /* 0 */
};

#define IPCI_HELLO_MAGIC 0x4350494CU /* "LIPC" in little-endian memory */

/*
 * The header of a run, one 64-bit word:
 *   bits 0..23 payload size of each message, 24..31 flags, 32..47 type,
 *   48..63 count: of messages, or, with IPCI_RUN_FDS, of the single message's descriptors.
 * With IPCI_RUN_ID each message begins with its 8-byte id. With IPCI_RUN_LARGE the single
 * message has size 0 here, and its total size in 8 bytes (after the id): what the record has left,
 * it being the last, is the payload's first piece, which may be empty; the rest follows in
 * fragments. Each payload is padded to 8 bytes.
 * Empty messages without an id share no run, so that no record has more messages than 8-byte words.
 */
#define IPCI_RUN_SIZE_MAX  0xFFFFFFU
#define IPCI_RUN_COUNT_MAX 0xFFFFU

enum ipci_run_flags {
	IPCI_RUN_REPLY = 1 << 0,
	IPCI_RUN_ID = 1 << 1,
	IPCI_RUN_FDS = 1 << 2,
	IPCI_RUN_LARGE = 1 << 3,
	IPCI_RUN_MORE = 1 << 4,
	IPCI_RUN_CANCEL = 1 << 5,
	IPCI_RUN_ALL = 0x3F,
	/* Those that are a message's own flags, with the same values. */
	IPCI_RUN_OF_MESSAGE = IPCI_RUN_REPLY | IPCI_RUN_MORE | IPCI_RUN_CANCEL,
};

_Static_assert(IPC_MESSAGE_REPLY == IPCI_RUN_REPLY && IPC_MESSAGE_MORE == IPCI_RUN_MORE &&
		       IPC_MESSAGE_CANCEL == IPCI_RUN_CANCEL,
	"the same values");

/* Bytes that a payload takes in a record. */
static inline size_t
ipci_pad(size_t size)
{
	return (size + (IPCI_WIRE_ALIGN - 1)) & ~(size_t)(IPCI_WIRE_ALIGN - 1);
}

/*
 * Copy a payload to its place in a record, and zero its padding: what lay there before, of a
 * message that was taken back perhaps, is not for the peer.
 */
static inline void
ipci_payload_copy(void *place, const void *data, size_t size)
{
	if (size % IPCI_WIRE_ALIGN)
		memset((uint8_t *)place + ipci_pad(size) - IPCI_WIRE_ALIGN, 0, IPCI_WIRE_ALIGN);
	ipci_copy(place, data, size);
}

/* The limits that a hello announces. */
struct ipci_limits {
	uint64_t message_max; /* bytes */
	uint32_t record_max;  /* bytes of a packet */
	uint32_t fds_max;     /* with one message */
};

static inline void
ipci_record_header_init(
	struct ipci_record_header *header, enum ipci_kind kind, unsigned int n_fds, size_t size)
{
	*header = (struct ipci_record_header){
		.magic = IPCI_WIRE_MAGIC,
		.kind = (uint8_t)kind,
		.n_fds = (uint16_t)n_fds,
		.size = (uint32_t)size,
	};
}

/* Check the header of a packet of size bytes. Return: the record's kind, or -EPROTO. */
int ipci_record_check(const struct ipci_record_header *header, size_t size);

void ipci_hello_init(struct ipci_hello *hello, const struct ipci_limits *limits);

/* Return: 0 with what the hello announces, or -EPROTO. */
int ipci_hello_check(const void *packet, size_t size, struct ipci_limits *ret_limits);

/*
 * The writer: a record of messages in the making.
 *
 * It writes into memory that it does not own, 8-byte aligned.
 */
struct ipci_writer {
	uint8_t *record; /* its header; the packet's first byte */
	uint8_t *cursor; /* where the next run or message goes */
	uint8_t *end;    /* no byte at or after it is written */
	uint64_t *run;   /* the run that the next message may join, or NULL */
	unsigned int n_fds;

	/* A message joins the run if it is like the last one in these. */
	size_t like_size;   /* IPCI_LIKE_NONE: none does */
	uint64_t like_kind; /* ipci_message_kind() */
	size_t like_stride; /* bytes that it takes, with its id */
};

/* What no message is like: its flags are not any that a message may have. */
#define IPCI_LIKE_NONE      SIZE_MAX
#define IPCI_LIKE_KIND_NONE UINT64_MAX

/* Nor is this one, wherever the machine has a word's first byte: of messages with an id. */
#define IPCI_LIKE_KIND_ID (UINT64_C(1) << 31)

/* Type, flags and number of descriptors in one word, as they lie in the struct, and whether there
   is an id. */
static inline uint64_t
ipci_message_kind(const struct ipc_message *message)
{
	uint64_t kind;

	_Static_assert(offsetof(struct ipc_message, n_fds) + sizeof(message->n_fds) -
				       offsetof(struct ipc_message, type) ==
			       sizeof(kind),
		"side by side");
	memcpy(&kind, &message->type, sizeof(kind));
	if (ipci_unlikely(message->id))
		kind |= IPCI_LIKE_KIND_ID;
	return kind;
}

/* Where a message stands before it is added, so that it can be taken back. */
struct ipci_writer_mark {
	struct ipci_writer writer;
	uint64_t run_header;
};

/* Begin an empty record in size bytes of memory. */
void ipci_writer_begin(struct ipci_writer *writer, void *memory, size_t size);

static inline bool
ipci_writer_is_empty(const struct ipci_writer *writer)
{
	return writer->cursor == writer->record ||
	       writer->cursor == writer->record + sizeof(struct ipci_record_header);
}

static inline size_t
ipci_writer_size(const struct ipci_writer *writer)
{
	return (size_t)(writer->cursor - writer->record);
}

/* Can the message, its payload apart where that is false, be added? */
bool ipci_writer_has_room(
	const struct ipci_writer *writer, const struct ipc_message *message, bool with_payload);

/*
 * Add a message for which there is room.
 *
 * Return: where its payload is to be copied. Without the payload the writer
 * stands there, and the payload and its padding must follow from elsewhere: the record
 * is then complete.
 */
void *ipci_writer_add(
	struct ipci_writer *writer, const struct ipc_message *message, bool with_payload);

/*
 * Add a message whose payload follows in fragments, for which there is room (without payload,
 * and 8 bytes). Its first piece can follow from elsewhere; the record is then complete.
 */
void ipci_writer_add_large(struct ipci_writer *writer, const struct ipc_message *message);

struct ipci_writer_mark ipci_writer_mark(const struct ipci_writer *writer);
void ipci_writer_rewind(struct ipci_writer *writer, const struct ipci_writer_mark *mark);

/* Write the record's header: extra counts the bytes that follow from elsewhere. */
void ipci_writer_finish(struct ipci_writer *writer, size_t extra);

static inline uint64_t
ipci_run_header(const struct ipc_message *message)
{
	uint64_t flags = message->flags;

	if (message->id)
		flags |= IPCI_RUN_ID;
	return message->size | flags << 24 | (uint64_t)message->type << 32;
}

#define IPCI_RUN_ONE ((uint64_t)1 << 48)

/*
 * Write a whole record of one message without descriptors behind an empty writer's header: it is no
 * part of the writer, which stays empty. There must be room.
 *
 * Return: its size.
 */
static inline size_t
ipci_writer_lone(struct ipci_writer *writer, const struct ipc_message *message)
{
	uint64_t *place = (uint64_t *)(void *)(writer->record + sizeof(struct ipci_record_header));
	size_t size;

	*place++ = ipci_run_header(message) + IPCI_RUN_ONE;
	if (message->id)
		*place++ = message->id;
	ipci_payload_copy(place, message->data, message->size);
	size = (size_t)((uint8_t *)place - writer->record) + ipci_pad(message->size);
	ipci_record_header_init(
		(struct ipci_record_header *)(void *)writer->record, IPCI_KIND_MESSAGES, 0, size);
	return size;
}

/*
 * Add a message to the run that the last one began, if it is like that one and there is room: the
 * short way for a stream of like messages.
 *
 * Return: where its payload is to be copied, or NULL.
 */
static inline void *
ipci_writer_join(struct ipci_writer *writer, const struct ipc_message *message)
{
	uint64_t header;
	uint8_t *place;

	if (message->size != writer->like_size || ipci_message_kind(message) != writer->like_kind)
		return NULL;

	/* The count is from 1 (0 is memory that a fork wiped) to one below the largest. */
	header = *writer->run;
	if (header - IPCI_RUN_ONE >= (uint64_t)(IPCI_RUN_COUNT_MAX - 1) << 48)
		return NULL;
	if ((size_t)(writer->end - writer->cursor) < writer->like_stride)
		return NULL;

	*writer->run = header + IPCI_RUN_ONE;
	place = writer->cursor;
	writer->cursor = place + writer->like_stride;
	if (ipci_unlikely(message->id)) {
		memcpy(place, &message->id, sizeof(message->id));
		place += sizeof(message->id);
	}
	return place;
}

/* Let no message join the run. */
static inline void
ipci_writer_seal(struct ipci_writer *writer)
{
	writer->run = NULL;
	writer->like_size = IPCI_LIKE_NONE;
	writer->like_kind = IPCI_LIKE_KIND_NONE;
}

/*
 * Cut a finished record of messages in two, at a message's border.
 *
 * The first part stands in place of the record, at most max bytes if its first message
 * allows; ipci_split_undo() makes it whole again, ipci_split_rest() gives up the first
 * part and makes a record of the rest.
 */
struct ipci_split {
	uint8_t *record;
	struct ipci_record_header header; /* of the whole */
	uint64_t *run;                    /* the run that was cut */
	uint64_t run_header;              /* as it was */
	uint64_t rest_header;             /* of the cut run's second half; 0 if none was cut */
	uint8_t *rest;                    /* the first byte after the first part */
	size_t size;                      /* of the first part */
	unsigned int n_fds;               /* of the first part */
};

/* Return: whether there was a border to cut at. */
bool ipci_record_split(void *record, size_t max, struct ipci_split *ret_split);
void ipci_split_undo(const struct ipci_split *split);
/* Return: the record of the rest, finished; it overwrites the end of the first part. */
struct ipci_record_header *ipci_split_rest(const struct ipci_split *split);

/*
 * The reader: gives out the messages of one received record. It borrows the record's
 * memory, 8-byte aligned, and the limits, and gives views into it. Zero is a reader that is spent.
 */
struct ipci_reader {
	const uint8_t *cursor;
	const uint8_t *end;
	uint32_t run_left;   /* messages of the current run not yet given out */
	uint32_t run_size;   /* payload bytes of each */
	uint32_t run_stride; /* from one payload to the next */
	uint16_t run_type;
	uint8_t run_flags;
	unsigned int fds_left; /* announced descriptors not yet given to a message */
	const struct ipci_limits *limits;
};

/* Begin with a packet that ipci_record_check() called a record of messages. */
void ipci_reader_begin(
	struct ipci_reader *reader, const void *packet, const struct ipci_limits *limits);

/*
 * The next message. Its fds are NULL: n_fds says how many of the packet's, in order, are its
 * own. With ret_large_size not 0 that is its size; what the message shows is the first piece,
 * and it was the record's last.
 *
 * Return: 1 with a message, 0 at the end, -EPROTO.
 */
int ipci_reader_next_run(
	struct ipci_reader *reader, struct ipc_message *ret_message, uint64_t *ret_large_size);

/* Give out the next message of the current run, which has one left at least, and no flags. */
static inline void
ipci_reader_give_plain(struct ipci_reader *reader, struct ipc_message *ret_message)
{
	const uint8_t *cursor = reader->cursor;

	*ret_message = (struct ipc_message){
		.data = cursor,
		.size = reader->run_size,
		.type = reader->run_type,
	};
	reader->cursor = cursor + reader->run_stride;
	reader->run_left--;
}

/* Its id, or 0. */
static inline uint64_t
ipci_reader_next_id(const struct ipci_reader *reader)
{
	uint64_t id = 0;

	if (reader->run_flags & IPCI_RUN_ID)
		memcpy(&id, reader->cursor, sizeof(id));
	return id;
}

/* The same with any flags. */
static inline void
ipci_reader_give(struct ipci_reader *reader, struct ipc_message *ret_message)
{
	uint64_t id = ipci_reader_next_id(reader);

	ipci_reader_give_plain(reader, ret_message);
	ret_message->flags = reader->run_flags & IPCI_RUN_OF_MESSAGE;
	ret_message->id = id;
	if (reader->run_flags & IPCI_RUN_ID)
		ret_message->data = (const uint8_t *)ret_message->data + sizeof(id);
}

static inline int
ipci_reader_next(
	struct ipci_reader *reader, struct ipc_message *ret_message, uint64_t *ret_large_size)
{
	if (reader->run_left) {
		ipci_reader_give(reader, ret_message);
		*ret_large_size = 0;
		return 1;
	}
	return ipci_reader_next_run(reader, ret_message, ret_large_size);
}

#endif
