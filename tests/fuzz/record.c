/* SPDX-License-Identifier: MIT */

/*
 * Any packet, to the reader. What it accepts lies inside the packet and the limits; written
 * again, and cut in two, it reads the same.
 *
 * Input: message_max (4 bytes), fds_max (1), where to cut (2), unused (1), the packet.
 */

#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "wire.h"

#define PARAMETERS_SIZE 8

/* What a packet says. */
struct content {
	struct ipc_message *messages;
	size_t n, capacity;
	uint64_t large_size; /* of the last one, if that is large */
};

static void
remember(struct content *content, const struct ipc_message *message)
{
	if (content->n == content->capacity) {
		content->capacity = 2 * content->capacity + 16;
		content->messages =
			realloc(content->messages, content->capacity * sizeof(*content->messages));
		require(content->messages);
	}
	content->messages[content->n++] = *message;
}

/* The view must lie in the packet, behind its headers, and be readable. */
static void
require_inside(const struct ipc_message *message, const uint8_t *packet, size_t size)
{
	const uint8_t *data = message->data;
	uint8_t *copy;

	require(data >= packet + sizeof(struct ipci_record_header) + sizeof(uint64_t));
	require(data <= packet + size);
	require(message->size <= (size_t)(packet + size - data));
	require((uintptr_t)data % IPCI_WIRE_ALIGN == 0);
	if (!message->size)
		return;
	copy = malloc(message->size);
	require(copy);
	memcpy(copy, data, message->size);
	free(copy);
}

/* Return: the reader's last word. */
static int
read_all(struct content *content, const uint8_t *packet, size_t size,
	const struct ipci_limits *limits)
{
	unsigned int fds_left = ((const struct ipci_record_header *)(const void *)packet)->n_fds;
	struct ipc_message message;
	struct ipci_reader reader;
	uint64_t large_size;
	int r;

	ipci_reader_begin(&reader, packet, limits);
	while ((r = ipci_reader_next(&reader, &message, &large_size)) > 0) {
		require(!content->large_size);
		require(!(message.flags & ~IPCI_RUN_OF_MESSAGE));
		require(!message.fds);
		require(message.n_fds <= limits->fds_max && message.n_fds <= fds_left);
		fds_left -= message.n_fds;
		require((large_size ? large_size : message.size) <= limits->message_max);
		require(!large_size || message.size <= large_size);
		require_inside(&message, packet, size);
		content->large_size = large_size;
		remember(content, &message);
		/* Each takes 8 bytes at least: few bytes never stand for very many messages. */
		require(content->n < size / sizeof(uint64_t));
	}
	require(r == -EPROTO || !fds_left);
	return r;
}

static void
require_same(const struct content *a, const struct content *b, size_t b_first, size_t n)
{
	const struct ipc_message *one, *other;
	size_t i;

	require(a->n == n && b_first + n <= b->n);
	for (i = 0; i < n; i++) {
		one = &a->messages[i];
		other = &b->messages[b_first + i];
		require(one->size == other->size && one->type == other->type);
		require(one->flags == other->flags && one->id == other->id);
		require(one->n_fds == other->n_fds);
		require(!one->size || memcmp(one->data, other->data, one->size) == 0);
	}
}

/* Read a record that we made; it says what content has from the first-th message on. */
static size_t
require_reads(const void *record, const struct content *content, size_t first, size_t n)
{
	static const struct ipci_limits wide = {
		.message_max = UINT64_MAX,
		.record_max = UINT32_MAX,
		.fds_max = IPC_MESSAGE_FDS_LIMIT,
	};
	struct ipci_record_header header;
	struct content again = {0};
	uint8_t *packet;
	size_t n_again;

	memcpy(&header, record, sizeof(header));
	packet = malloc(header.size);
	require(packet);
	memcpy(packet, record, header.size);
	require(ipci_record_check((void *)packet, header.size) == IPCI_KIND_MESSAGES);
	require(read_all(&again, packet, header.size, &wide) == 0);
	n_again = again.n;
	require_same(&again, content, first, n ? n : n_again);
	if (n == content->n)
		require(again.large_size == content->large_size);
	free(again.messages);
	free(packet);
	return n_again;
}

/* Write it again, as the channel does. */
static struct ipci_writer
write_all(const struct content *content)
{
	size_t size = sizeof(struct ipci_record_header), i, extra = 0;
	struct ipci_writer writer;
	struct ipc_message head;
	void *memory, *payload;

	for (i = 0; i < content->n; i++)
		size += 3 * sizeof(uint64_t) + ipci_pad(content->messages[i].size);
	memory = malloc(size);
	require(memory);
	ipci_writer_begin(&writer, memory, size);
	for (i = 0; i < content->n - (content->large_size > 0); i++) {
		require(ipci_writer_has_room(&writer, &content->messages[i], true));
		payload = ipci_writer_add(&writer, &content->messages[i], true);
		ipci_payload_copy(payload, content->messages[i].data, content->messages[i].size);
		memset((uint8_t *)payload + content->messages[i].size, 0,
			ipci_pad(content->messages[i].size) - content->messages[i].size);
	}
	if (content->large_size) {
		head = content->messages[i];
		head.size = content->large_size;
		ipci_writer_add_large(&writer, &head);
		extra = content->messages[i].size;
		ipci_copy(writer.cursor, content->messages[i].data, extra);
	}
	ipci_writer_finish(&writer, extra);
	return writer;
}

/* Cut it, make it whole, cut it again and read both parts. */
static void
cut(struct ipci_writer *writer, const struct content *content, size_t max)
{
	size_t size = ipci_writer_size(writer), n;
	uint8_t *before = malloc(size);
	struct ipci_split split;

	require(before);
	memcpy(before, writer->record, size);
	if (ipci_record_split(writer->record, max, &split)) {
		ipci_split_undo(&split);
		require(memcmp(before, writer->record, size) == 0);
		require(ipci_record_split(writer->record, max, &split));
		n = require_reads(writer->record, content, 0, 0);
		require(n > 0 && n < content->n);
		(void)require_reads(ipci_split_rest(&split), content, n, content->n - n);
	}
	free(before);
}

static void
read_messages(const uint8_t *packet, size_t size, const struct ipci_limits *limits, size_t max)
{
	struct content content = {0};
	struct ipci_writer writer;

	if (read_all(&content, packet, size, limits) == 0 && content.n) {
		writer = write_all(&content);
		(void)require_reads(writer.record, &content, 0, content.n);
		if (!content.large_size)
			cut(&writer, &content, max);
		free(writer.record);
	}
	free(content.messages);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct ipci_limits limits = {.record_max = IPC_CHANNEL_RECORD_MAX_LIMIT}, told;
	uint32_t message_max;
	uint8_t *packet;
	uint16_t max;

	if (size < PARAMETERS_SIZE || size > IPC_CHANNEL_RECORD_MAX_LIMIT)
		return 0;
	memcpy(&message_max, input, sizeof(message_max));
	limits.message_max = message_max;
	limits.fds_max = input[4] % (IPC_MESSAGE_FDS_LIMIT + 1);
	memcpy(&max, input + 5, sizeof(max));

	/* Exactly as large as the packet: a sanitizer sees any byte read behind it. */
	size -= PARAMETERS_SIZE;
	packet = malloc(size ? size : 1);
	require(packet);
	memcpy(packet, input + PARAMETERS_SIZE, size);
	if (ipci_hello_check(packet, size, &told) == 0) {
		require(told.fds_max <= IPC_MESSAGE_FDS_LIMIT);
		require(told.record_max >= IPC_CHANNEL_RECORD_MAX_MIN);
	}
	if (ipci_record_check((void *)packet, size) == IPCI_KIND_MESSAGES)
		read_messages(packet, size, &limits, max);
	free(packet);
	return 0;
}
