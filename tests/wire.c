/* SPDX-License-Identifier: MIT */

/*
 * The layout of records: what the writer makes the reader gives, at any size, joined, cut and
 * taken back.
 *
 * Records stand in memory of exactly their size, so that a sanitizer sees any step outside.
 */

#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "wire.h"

#define MESSAGES_MAX 64
#define PAYLOAD_MAX  100

static const struct ipci_limits wide = {
	.message_max = IPC_CHANNEL_MESSAGE_MAX_LIMIT,
	.record_max = IPC_CHANNEL_RECORD_MAX_LIMIT,
	.fds_max = IPC_MESSAGE_FDS_LIMIT,
};

static uint64_t
run_word(size_t size, unsigned int flags, unsigned int type, unsigned int count)
{
	return size | (uint64_t)flags << 24 | (uint64_t)type << 32 | (uint64_t)count << 48;
}

/* Memory of exactly so many bytes, 8-byte aligned. */
static void *
memory_of(size_t size)
{
	void *memory = malloc(size);

	check(memory);
	return memory;
}

static struct ipci_writer
writer_of(size_t size)
{
	struct ipci_writer writer;

	ipci_writer_begin(&writer, memory_of(size), size);
	/* Padding is compared, too. */
	memset(writer.record, 0, size);
	return writer;
}

/* Where the writer's record has its n-th word. */
static uint64_t
word_at(const struct ipci_writer *writer, size_t n)
{
	uint64_t word;

	memcpy(&word, writer->record + n * sizeof(word), sizeof(word));
	return word;
}

static struct ipc_message
message_of(const void *data, size_t size, unsigned int type, unsigned int flags, uint64_t id)
{
	return (struct ipc_message){
		.data = data,
		.size = size,
		.type = (uint16_t)type,
		.flags = (uint16_t)flags,
		.id = id,
	};
}

/* Add as the channel does: join if possible. */
static void
add(struct ipci_writer *writer, const struct ipc_message *message)
{
	void *payload;

	check(ipci_writer_has_room(writer, message, true));
	payload = ipci_writer_add(writer, message, true);
	check_equal((uintptr_t)payload % IPCI_WIRE_ALIGN, 0);
	ipci_payload_copy(payload, message->data, message->size);
}

static void
expect_same(const struct ipc_message *message, const struct ipc_message *expected)
{
	check_equal(message->size, expected->size);
	check_equal(message->type, expected->type);
	check_equal(message->flags, expected->flags);
	check_equal(message->n_fds, expected->n_fds);
	check(message->id == expected->id);
	check(!message->fds);
	check_equal((uintptr_t)message->data % IPCI_WIRE_ALIGN, 0);
	if (message->size)
		check(memcmp(message->data, expected->data, message->size) == 0);
}

/* Decode a record that was copied to memory of its own size. Return: how many messages it has. */
static unsigned int
expect_decodes(const void *record, const struct ipc_message *expected, unsigned int n)
{
	struct ipci_record_header header;
	struct ipc_message message;
	struct ipci_reader reader;
	unsigned int i;
	uint64_t large;
	void *packet;
	int r;

	memcpy(&header, record, sizeof(header));
	packet = memory_of(header.size);
	memcpy(packet, record, header.size);
	check_equal(ipci_record_check(packet, header.size), IPCI_KIND_MESSAGES);

	ipci_reader_begin(&reader, packet, &wide);
	for (i = 0; (r = ipci_reader_next(&reader, &message, &large)) > 0; i++) {
		check(i < n);
		check_equal(large, 0);
		expect_same(&message, &expected[i]);
	}
	check_equal(r, 0);
	free(packet);
	return i;
}

/* A random message out of few kinds, so that neighbours are often alike. */
static struct ipc_message
random_message(const unsigned char *payload)
{
	static const size_t sizes[] = {0, 0, 1, 7, 8, 9, 63, PAYLOAD_MAX};
	struct ipc_message message = {
		.size = sizes[test_random_below(sizeof(sizes) / sizeof(sizes[0]))],
		.type = (uint16_t)(test_random_below(4) ? 7 : 0xFFFF),
		.flags = (uint16_t)(test_random_below(4) ? 0 : test_random() & IPCI_RUN_OF_MESSAGE),
		.id = test_random_below(3) ? 0 : test_random() | 1,
		.n_fds = test_random_below(6) ? 0 : (uint32_t)(1 + test_random_below(3)),
	};

	message.data = payload + test_random_below(PAYLOAD_MAX);
	return message;
}

/* Encode n messages, which there are often two alike of in a row. */
static struct ipci_writer
random_record(struct ipc_message *messages, unsigned int n, const unsigned char *payload)
{
	struct ipci_writer writer = writer_of(64 + n * (PAYLOAD_MAX + 32));
	unsigned int i;

	for (i = 0; i < n; i++) {
		messages[i] = random_message(payload);
		if (i && test_random_below(2)) {
			messages[i] = messages[i - 1];
			messages[i].data = payload + test_random_below(PAYLOAD_MAX);
		}
		add(&writer, &messages[i]);
	}
	ipci_writer_finish(&writer, 0);
	return writer;
}

static void
what_is_written_is_read(void **state)
{
	unsigned int round, n, rounds = test_count(2000, 200);
	struct ipc_message messages[MESSAGES_MAX];
	unsigned char payload[2 * PAYLOAD_MAX];
	struct ipci_writer writer;

	(void)state;
	fill(payload, sizeof(payload), 0);
	for (round = 0; round < rounds; round++) {
		n = 1 + (unsigned int)test_random_below(MESSAGES_MAX);
		writer = random_record(messages, n, payload);
		check_equal(expect_decodes(writer.record, messages, n), n);
		free(writer.record);
	}
}

static void
like_messages_share_one_header(void **state)
{
	struct ipci_writer writer = writer_of(256);
	struct ipc_message message = message_of("abcde", 5, 3, 0, 0), messages[3];
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		messages[i] = message;
		add(&writer, &message);
	}
	ipci_writer_finish(&writer, 0);
	check_equal(ipci_writer_size(&writer), 8 + 8 + 3 * 8);
	check(word_at(&writer, 1) == run_word(5, 0, 3, 3));
	check_equal(expect_decodes(writer.record, messages, 3), 3);
	free(writer.record);
}

static void
expect_own_header(const struct ipc_message *first, const struct ipc_message *unlike)
{
	const struct ipc_message messages[2] = {*first, *unlike};
	struct ipci_writer writer = writer_of(256);
	uint8_t flags = first->id ? IPCI_RUN_ID : 0;

	add(&writer, first);
	check(!ipci_writer_join(&writer, unlike));
	add(&writer, unlike);
	ipci_writer_finish(&writer, 0);
	check(word_at(&writer, 1) == run_word(8, flags, 3, 1));
	check_equal(expect_decodes(writer.record, messages, 2), 2);
	free(writer.record);
}

static void
unlike_messages_have_their_own_header(void **state)
{
	struct ipc_message first = message_of("abcdefgh", 8, 3, 0, 0), unlike[6];
	unsigned int i;
	uint64_t id;

	(void)state;
	for (id = 0; id < 2; id++) {
		first.id = id;
		for (i = 0; i < 6; i++)
			unlike[i] = first;
		unlike[0].size = 7;
		unlike[1].type = 4;
		unlike[2].flags = IPC_MESSAGE_REPLY;
		unlike[3].id = !id;
		unlike[4].n_fds = 1;
		unlike[5].flags = IPC_MESSAGE_MORE;
		for (i = 0; i < 6; i++)
			expect_own_header(&first, &unlike[i]);
	}
}

/* A run counts 65,535 messages; the next begins another. */
static void
a_run_is_full_at_its_count(void **state)
{
	static const size_t first_size = 8 + 8 * (size_t)IPCI_RUN_COUNT_MAX;
	struct ipc_message message = message_of("x", 1, 9, 0, 0), got;
	struct ipci_writer writer = writer_of(8 + first_size + 8 + 4 * 8);
	unsigned int i, n = IPCI_RUN_COUNT_MAX + 3;
	struct ipci_reader reader;
	uint64_t large;

	(void)state;
	for (i = 0; i < n; i++)
		add(&writer, &message);
	ipci_writer_finish(&writer, 0);
	check_equal(ipci_writer_size(&writer), 8 + first_size + 8 + 3 * 8);
	check(word_at(&writer, 1) == run_word(1, 0, 9, IPCI_RUN_COUNT_MAX));
	check(word_at(&writer, 1 + first_size / 8) == run_word(1, 0, 9, 3));

	ipci_reader_begin(&reader, writer.record, &wide);
	for (i = 0; i < n; i++) {
		check_equal(ipci_reader_next(&reader, &got, &large), 1);
		expect_same(&got, &message);
	}
	check_equal(ipci_reader_next(&reader, &got, &large), 0);
	free(writer.record);
}

/* Else a few bytes could stand for very many messages. */
static void
empty_messages_share_no_header(void **state)
{
	struct ipc_message messages[4] = {{.type = 1}, {.type = 1}, {.id = 5}, {.id = 6}};
	struct ipci_writer writer = writer_of(64);
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++)
		add(&writer, &messages[i]);
	ipci_writer_finish(&writer, 0);
	/* With an id each takes its 8 bytes. */
	check_equal(ipci_writer_size(&writer), 8 + 2 * 8 + 8 + 2 * 8);
	check_equal(expect_decodes(writer.record, messages, 4), 4);
	free(writer.record);
}

static void
ids_stand_before_each_payload(void **state)
{
	struct ipci_writer writer = writer_of(128);
	struct ipc_message messages[3];
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		messages[i] = message_of("12345678", 8, 1, IPC_MESSAGE_REPLY, UINT64_MAX - i);
		add(&writer, &messages[i]);
	}
	ipci_writer_finish(&writer, 0);
	check_equal(ipci_writer_size(&writer), 8 + 8 + 3 * 16);
	check(word_at(&writer, 1) == run_word(8, IPCI_RUN_REPLY | IPCI_RUN_ID, 1, 3));
	for (i = 0; i < 3; i++)
		check(word_at(&writer, 2 + 2 * (size_t)i) == UINT64_MAX - i);
	check_equal(expect_decodes(writer.record, messages, 3), 3);
	free(writer.record);
}

static void
descriptors_are_counted(void **state)
{
	struct ipci_writer writer = writer_of(128);
	struct ipc_message messages[3] = {{.n_fds = 2}, {.n_fds = 2}, {.n_fds = 249}}, more;
	struct ipci_record_header header;
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++)
		add(&writer, &messages[i]);
	ipci_writer_finish(&writer, 0);
	memcpy(&header, writer.record, sizeof(header));
	check_equal(header.n_fds, IPC_MESSAGE_FDS_LIMIT);
	/* Never joined: each run says how many its one message has. */
	check_equal(ipci_writer_size(&writer), 8 + 3 * 8);
	check_equal(expect_decodes(writer.record, messages, 3), 3);

	more = (struct ipc_message){.n_fds = 1};
	check(!ipci_writer_has_room(&writer, &more, true));
	more.n_fds = 0;
	check(ipci_writer_has_room(&writer, &more, true));
	free(writer.record);
}

static void
room_is_exact(void **state)
{
	struct ipc_message message = message_of("123456789", 9, 0, 0, 0);
	struct ipci_writer writer;
	unsigned int with_id;
	size_t need, size;

	(void)state;
	for (with_id = 0; with_id < 2; with_id++) {
		message.id = with_id;
		need = 8 + 8 + 8 * with_id + 16;
		for (size = 8; size <= need + 8; size += 8) {
			writer = writer_of(size);
			check_equal(ipci_writer_has_room(&writer, &message, true), size >= need);
			check_equal(
				ipci_writer_has_room(&writer, &message, false), size >= need - 16);
			if (size >= need) {
				add(&writer, &message);
				/* One more of them takes 16 and its id; there are 8 at most. */
				check(!ipci_writer_join(&writer, &message));
			}
			free(writer.record);
		}
	}
}

static void
a_join_stops_at_the_end(void **state)
{
	struct ipci_writer writer = writer_of(8 + 8 + 3 * 16);
	struct ipc_message message = message_of("123456789", 9, 0, 0, 0);
	unsigned int i;

	(void)state;
	add(&writer, &message);
	for (i = 0; i < 2; i++)
		check(ipci_writer_join(&writer, &message));
	check(!ipci_writer_join(&writer, &message));
	check_equal(ipci_writer_size(&writer), 8 + 8 + 3 * 16);
	free(writer.record);
}

static void
a_wiped_record_takes_nothing(void **state)
{
	struct ipc_message message = message_of("x", 1, 0, 0, 0), empty = {0},
			   large = {.size = (size_t)IPCI_RUN_SIZE_MAX + 1};
	struct ipci_writer writer = writer_of(64);

	(void)state;
	check(!ipci_writer_join(&writer, &empty));
	check(!ipci_writer_join(&writer, &message));
	add(&writer, &message);
	check(!ipci_writer_join(&writer, &empty));
	check(!ipci_writer_join(&writer, &large));
	/* What a forked child finds in its place. */
	memset(writer.record, 0, 64);
	check(!ipci_writer_join(&writer, &message));
	free(writer.record);
}

/*
 * The head of a large message: its total size, and as much of its payload as there is place for.
 * In variant: bit 0 a reply, 1 an id, 2 descriptors, 3 a piece.
 */
static void
expect_large_head(unsigned int variant)
{
	struct ipc_message message = message_of(
		NULL, 0x123456789, 77, variant & 1 ? IPC_MESSAGE_REPLY : 0, variant & 2 ? 99 : 0);
	struct ipc_message small = message_of("x", 1, 1, 0, 0), got;
	size_t piece = variant & 8 ? 24 : 0;
	struct ipci_writer writer = writer_of(8 + 16 + 8 + 8 + 8 + piece);
	struct ipci_limits limits = wide;
	struct ipci_reader reader;
	uint64_t large;

	message.n_fds = variant & 4 ? 253 : 0;
	limits.message_max = message.size;
	add(&writer, &small);
	ipci_writer_add_large(&writer, &message);
	check(!ipci_writer_join(&writer, &small));
	memset(writer.cursor, 'p', piece);
	ipci_writer_finish(&writer, piece);
	check_equal(ipci_record_check((void *)writer.record, ipci_writer_size(&writer) + piece),
		IPCI_KIND_MESSAGES);
	ipci_reader_begin(&reader, writer.record, &limits);
	check_equal(ipci_reader_next(&reader, &got, &large), 1);
	check_equal(large, 0);
	expect_same(&got, &small);
	check_equal(ipci_reader_next(&reader, &got, &large), 1);
	check(large == message.size);
	check_equal(got.size, piece);
	check(!piece || got.data == writer.cursor);
	check_equal(got.type, 77);
	check_equal(got.n_fds, message.n_fds);
	check_equal(got.flags, message.flags);
	check(got.id == message.id);
	check_equal(ipci_reader_next(&reader, &got, &large), 0);
	free(writer.record);
}

static void
large_heads(void **state)
{
	unsigned int variant;

	(void)state;
	for (variant = 0; variant < 16; variant++)
		expect_large_head(variant);
}

/* The payload can follow from elsewhere. */
static void
without_its_payload(void **state)
{
	struct ipc_message messages[2] = {
		message_of("first", 5, 1, 0, 3), message_of("second of them", 14, 1, 0, 4)};
	struct ipci_writer writer = writer_of(8 + 8 + 8 + 8 + 8 + 8 + 16);
	uint8_t *payload;

	(void)state;
	add(&writer, &messages[0]);
	check(ipci_writer_has_room(&writer, &messages[1], false));
	payload = ipci_writer_add(&writer, &messages[1], false);
	check(payload == writer.cursor);
	check(!writer.run);
	memset(payload, 0, 16);
	memcpy(payload, messages[1].data, 14);
	ipci_writer_finish(&writer, 16);
	check_equal(expect_decodes(writer.record, messages, 2), 2);
	free(writer.record);
}

/* Each way of adding, taken back: the bytes are as before, and what follows is taken. */
static void
what_was_added_is_taken_back(void **state)
{
	struct ipc_message joined = message_of("aaaa", 4, 1, 0, 0),
			   other = message_of("bbbb", 4, 2, 0, 8), with_fds = joined,
			   messages[3] = {joined, joined, other};
	unsigned int way;

	(void)state;
	with_fds.n_fds = 3;
	for (way = 0; way < 5; way++) {
		struct ipci_writer writer = writer_of(256);
		struct ipci_writer_mark mark;
		uint8_t before[256];
		size_t size;

		add(&writer, &joined);
		ipci_writer_finish(&writer, 0);
		size = ipci_writer_size(&writer);
		memcpy(before, writer.record, size);
		mark = ipci_writer_mark(&writer);
		if (way == 0)
			add(&writer, &joined);
		else if (way == 1)
			add(&writer, &other);
		else if (way == 2)
			add(&writer, &with_fds);
		else if (way == 3)
			(void)ipci_writer_add(&writer, &joined, false);
		else
			ipci_writer_add_large(&writer, &with_fds);
		ipci_writer_rewind(&writer, &mark);
		ipci_writer_finish(&writer, 0);
		check_equal(ipci_writer_size(&writer), size);
		check(memcmp(before, writer.record, size) == 0);

		add(&writer, &joined);
		add(&writer, &other);
		ipci_writer_finish(&writer, 0);
		check_equal(expect_decodes(writer.record, messages, 3), 3);
		free(writer.record);
	}
}

/* What a message that was taken back has left is not for the peer: not in the padding either. */
static void
padding_is_zero(void **state)
{
	struct ipc_message secret = message_of("secretsecret!!!", 15, 0, 0, 0),
			   open = message_of("o", 1, 0, 0, 0);
	struct ipci_writer writer = writer_of(128);
	struct ipci_writer_mark mark = ipci_writer_mark(&writer);
	size_t i, size;

	(void)state;
	add(&writer, &secret);
	add(&writer, &secret);
	ipci_writer_rewind(&writer, &mark);
	add(&writer, &open);
	add(&writer, &open);
	check_equal(ipci_writer_size(&writer), 32);
	for (i = 17; i < 32; i++)
		check(i == 24 ? writer.record[i] == 'o' : !writer.record[i]);

	/* The short way is no other. */
	ipci_writer_begin(&writer, writer.record, 128);
	memset(writer.record + 8, 'x', 120);
	size = ipci_writer_lone(&writer, &open);
	check_equal(size, 24);
	for (i = 17; i < size; i++)
		check(!writer.record[i]);
	free(writer.record);
}

/* An empty record has no run to restore. */
static void
taken_back_from_an_empty_record(void **state)
{
	struct ipci_writer writer = writer_of(64);
	struct ipc_message message = message_of("a", 1, 0, 0, 0);
	struct ipci_writer_mark mark = ipci_writer_mark(&writer);

	(void)state;
	add(&writer, &message);
	check(!ipci_writer_is_empty(&writer));
	ipci_writer_rewind(&writer, &mark);
	check(ipci_writer_is_empty(&writer));
	check(!writer.run);
	free(writer.record);
}

/* The short way makes the same record, and leaves the writer empty. */
static void
a_lone_message_is_like_any_other(void **state)
{
	size_t sizes[] = {0, 1, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100}, size;
	unsigned char payload[PAYLOAD_MAX];
	unsigned int i;

	(void)state;
	fill(payload, sizeof(payload), 1);
	for (i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct ipc_message message = message_of(
			payload, sizes[i / 2], i, IPC_MESSAGE_REPLY, i % 2 ? test_random() | 1 : 0);
		struct ipci_writer writer = writer_of(128);

		size = ipci_writer_lone(&writer, &message);
		check_equal(size, 16 + (i % 2) * 8 + ipci_pad(message.size));
		check(ipci_writer_is_empty(&writer));
		check_equal(((const struct ipci_record_header *)(void *)writer.record)->size, size);
		check_equal(expect_decodes(writer.record, &message, 1), 1);
		free(writer.record);
	}
}

/* How many bytes of a record of messages its first message needs. */
static size_t
least_part(const struct ipc_message *first)
{
	return 16 + (first->id ? sizeof(first->id) : 0) + ipci_pad(first->size);
}

/* Cut at max, undo, cut again and take both parts. */
static void
expect_splits(const struct ipci_writer *writer, const struct ipc_message *messages, unsigned int n,
	size_t max)
{
	size_t size = ipci_writer_size(writer);
	struct ipci_record_header *rest;
	struct ipci_split split;
	unsigned int n_first;
	uint8_t *record = memory_of(size);

	memcpy(record, writer->record, size);
	if (!ipci_record_split(record, max, &split)) {
		/* All of it is within max, or a single message. */
		check(size <= IPCI_MAX(max, least_part(&messages[0])));
		check(memcmp(record, writer->record, size) == 0);
		free(record);
		return;
	}
	check(split.size < size);
	check(split.size <= IPCI_MAX(max, least_part(&messages[0])));
	ipci_split_undo(&split);
	check(memcmp(record, writer->record, size) == 0);

	check(ipci_record_split(record, max, &split));
	n_first = expect_decodes(record, messages, n);
	check(n_first > 0 && n_first < n);
	rest = ipci_split_rest(&split);
	check_equal((uintptr_t)rest % IPCI_WIRE_ALIGN, 0);
	check((uint8_t *)rest >= record);
	check((uint8_t *)rest + rest->size == record + size);
	check_equal(split.n_fds + rest->n_fds, writer->n_fds);
	check_equal(expect_decodes(rest, messages + n_first, n - n_first), n - n_first);
	free(record);
}

static void
split_at_every_size(void **state)
{
	unsigned int round, n, rounds = test_count(100, 10);
	struct ipc_message messages[MESSAGES_MAX];
	unsigned char payload[2 * PAYLOAD_MAX];
	struct ipci_writer writer;
	size_t max;

	(void)state;
	fill(payload, sizeof(payload), 2);
	for (round = 0; round < rounds; round++) {
		n = 1 + (unsigned int)test_random_below(24);
		writer = random_record(messages, n, payload);
		for (max = 0; max <= ipci_writer_size(&writer) + 8; max++)
			expect_splits(&writer, messages, n, max);
		free(writer.record);
	}
}

/* Empty messages weigh nothing but their headers, and those count. */
static void
split_between_empty_messages(void **state)
{
	struct ipc_message messages[MESSAGES_MAX] = {{0}};
	struct ipci_writer writer = writer_of(8 + 8 * MESSAGES_MAX);
	size_t max;
	unsigned int i;

	(void)state;
	for (i = 0; i < MESSAGES_MAX; i++) {
		messages[i].type = i % 2;
		messages[i].n_fds = i % 5 == 4;
		add(&writer, &messages[i]);
	}
	ipci_writer_finish(&writer, 0);
	for (max = 0; max <= ipci_writer_size(&writer); max += 4)
		expect_splits(&writer, messages, MESSAGES_MAX, max);
	free(writer.record);
}

/* Cut off the front again and again, as a sender does that is short of memory. */
static void
split_until_nothing_is_left(void **state)
{
	struct ipc_message messages[MESSAGES_MAX];
	unsigned char payload[2 * PAYLOAD_MAX];
	struct ipci_writer writer;
	struct ipci_split split;
	unsigned int round, done;
	void *record;

	(void)state;
	fill(payload, sizeof(payload), 3);
	for (round = 0; round < 50; round++) {
		writer = random_record(messages, MESSAGES_MAX, payload);
		record = writer.record;
		done = 0;
		while (ipci_record_split(record, test_random_below(300), &split)) {
			done += expect_decodes(record, messages + done, MESSAGES_MAX - done);
			record = ipci_split_rest(&split);
		}
		done += expect_decodes(record, messages + done, MESSAGES_MAX - done);
		check_equal(done, MESSAGES_MAX);
		free(writer.record);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(what_is_written_is_read),
		channel_test(like_messages_share_one_header),
		channel_test(unlike_messages_have_their_own_header),
		channel_test(a_run_is_full_at_its_count),
		channel_test(empty_messages_share_no_header),
		channel_test(ids_stand_before_each_payload),
		channel_test(descriptors_are_counted),
		channel_test(room_is_exact),
		channel_test(a_join_stops_at_the_end),
		channel_test(a_wiped_record_takes_nothing),
		channel_test(large_heads),
		channel_test(without_its_payload),
		channel_test(what_was_added_is_taken_back),
		channel_test(padding_is_zero),
		channel_test(taken_back_from_an_empty_record),
		channel_test(a_lone_message_is_like_any_other),
		channel_test(split_at_every_size),
		channel_test(split_between_empty_messages),
		channel_test(split_until_nothing_is_left),
	};

	return run_group(tests);
}
