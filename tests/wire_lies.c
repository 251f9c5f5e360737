/* SPDX-License-Identifier: MIT */

/*
 * What a reader refuses: each field of a record and of a hello that can lie does, one at a time.
 *
 * Packets stand in memory of exactly their size, so that a sanitizer sees any step outside.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "wire.h"

/* Memory of exactly so many bytes, 8-byte aligned. */
static void *
memory_of(size_t size)
{
	void *memory = malloc(size);

	check(memory);
	return memory;
}

static const struct {
	struct ipci_record_header header;
	size_t size; /* of the packet */
	int result;
} headers[] = {
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 0, 16}, 16, IPCI_KIND_MESSAGES},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 253, 16}, 16, IPCI_KIND_MESSAGES},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_FRAGMENT, 0, 9}, 9, IPCI_KIND_FRAGMENT},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_VOID, 0, 8}, 8, IPCI_KIND_VOID},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_HELLO, 0, 40}, 40, IPCI_KIND_HELLO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 254, 16}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 0xFFFF, 16}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 0, 8}, 8, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 0, 17}, 17, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 0, 24}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 0, 8}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_MESSAGES, 0, 0xFFFFFFF0}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_FRAGMENT, 0, 8}, 8, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_FRAGMENT, 1, 9}, 9, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_VOID, 0, 9}, 9, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_VOID, 1, 8}, 8, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_HELLO, 1, 40}, 40, -EPROTO},
	{{IPCI_WIRE_MAGIC, 0, 0, 16}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, 5, 0, 16}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, 255, 0, 16}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC ^ 1, IPCI_KIND_MESSAGES, 0, 16}, 16, -EPROTO},
	{{0}, 16, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_VOID, 0, 7}, 7, -EPROTO},
	{{IPCI_WIRE_MAGIC, IPCI_KIND_VOID, 0, 0}, 0, -EPROTO},
};

static void
a_header_that_lies(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		if (ipci_record_check(&headers[i].header, headers[i].size) == headers[i].result)
			continue;
		(void)fprintf(stderr, "header %u\n", i);
		check_equal(
			ipci_record_check(&headers[i].header, headers[i].size), headers[i].result);
	}
}

static const struct ipci_limits some_limits = {
	.message_max = 0x123456789ABC, .record_max = 4096, .fds_max = 253};

static void
a_hello_is_understood(void **state)
{
	unsigned char longer[100] = {0};
	struct ipci_hello hello;
	struct ipci_limits limits;
	uint32_t size;

	(void)state;
	ipci_hello_init(&hello, &some_limits);
	check_equal(ipci_hello_check(&hello, sizeof(hello), &limits), 0);
	check(limits.message_max == some_limits.message_max);
	check_equal(limits.record_max, some_limits.record_max);
	check_equal(limits.fds_max, some_limits.fds_max);

	/* A later edition's: more features, more bytes. */
	hello.features = UINT32_MAX;
	for (size = sizeof(hello); size <= sizeof(longer); size++) {
		hello.header.size = size;
		memcpy(longer, &hello, sizeof(hello));
		check_equal(ipci_hello_check(longer, size, &limits), 0);
	}
	for (size = 0; size < sizeof(hello); size++) {
		void *packet = memory_of(size ? size : 1);

		hello.header.size = size;
		memcpy(packet, &hello, size);
		check_equal(ipci_hello_check(packet, size, &limits), -EPROTO);
		free(packet);
	}
}

/* Any bit but those of the announced limits and features makes it no hello of ours. */
static void
each_bit_of_a_hello(void **state)
{
	struct ipci_hello good, hello;
	struct ipci_limits limits;
	unsigned int byte, bit;
	int expected;

	(void)state;
	ipci_hello_init(&good, &some_limits);
	for (byte = 0; byte < sizeof(good); byte++) {
		for (bit = 0; bit < 8; bit++) {
			hello = good;
			((unsigned char *)&hello)[byte] ^= (unsigned char)(1U << bit);
			expected = -EPROTO;
			if (byte >= offsetof(struct ipci_hello, features) &&
				byte < offsetof(struct ipci_hello, reserved_2))
				expected = hello.fds_max > IPC_MESSAGE_FDS_LIMIT ||
				                           hello.record_max <
				                                   IPC_CHANNEL_RECORD_MAX_MIN
				                   ? -EPROTO
				                   : 0;
			if (ipci_hello_check(&hello, sizeof(hello), &limits) == expected)
				continue;
			(void)fprintf(stderr, "byte %u, bit %u\n", byte, bit);
			check_equal(ipci_hello_check(&hello, sizeof(hello), &limits), expected);
		}
	}
}

/* A body of up to 8 words that comes with n_fds descriptors; its first n_good messages are fine. */
struct lie {
	const char *name;
	unsigned int n_words, n_fds, n_good;
	uint64_t words[8];
};

#define FDS_MAX     4
#define MESSAGE_MAX 1000

#define RUN(size, flags, count) \
	((uint64_t)(size) | (uint64_t)(flags) << 24 | (uint64_t)(count) << 48)

static const struct lie lies[] = {
	{"no message in a run", 1, 0, 0, {RUN(0, 0, 0)}},
	{"empty messages in one run", 1, 0, 0, {RUN(0, 0, 2)}},
	{"very many of them", 1, 0, 0, {RUN(0, IPCI_RUN_REPLY, 0xFFFF)}},
	{"none, with payload", 2, 0, 0, {RUN(8, 0, 0)}},
	{"payload is missing", 1, 0, 0, {RUN(1, 0, 1)}},
	{"payload is short", 2, 0, 0, {RUN(9, 0, 1)}},
	{"one message more than there are", 3, 0, 0, {RUN(8, 0, 3)}},
	{"as many as can be said", 3, 0, 0, {RUN(8, 0, 0xFFFF)}},
	{"id is missing", 1, 0, 0, {RUN(0, IPCI_RUN_ID, 1)}},
	{"payload after the id is missing", 2, 0, 0, {RUN(1, IPCI_RUN_ID, 1)}},
	{"second id is missing", 2, 0, 0, {RUN(0, IPCI_RUN_ID, 2)}},
	{"larger than the limit", 1, 0, 0, {RUN(MESSAGE_MAX + 1, 0, 1)}},
	{"as large as can be said", 1, 0, 0, {RUN(IPCI_RUN_SIZE_MAX, 0, 0xFFFF)}},
	{"second run lies", 4, 0, 1, {RUN(8, 0, 1), 1, RUN(8, 0, 2), 1}},
	{"descriptors nobody announced", 1, 0, 0, {RUN(0, IPCI_RUN_FDS, 1)}},
	{"one descriptor too many", 1, 2, 0, {RUN(0, IPCI_RUN_FDS, 3)}},
	{"more descriptors than the limit", 1, 5, 0, {RUN(0, IPCI_RUN_FDS, FDS_MAX + 1)}},
	{"no descriptors, marked so", 1, 1, 0, {RUN(0, IPCI_RUN_FDS, 0)}},
	{"descriptors and no payload", 1, 1, 0, {RUN(8, IPCI_RUN_FDS, 1)}},
	{"a descriptor that no message claims", 2, 1, 1, {RUN(8, 0, 1)}},
	{"of two one", 1, 2, 1, {RUN(0, IPCI_RUN_FDS, 1)}},
	{"large without its size", 1, 0, 0, {RUN(0, IPCI_RUN_LARGE, 1)}},
	{"large with a payload", 3, 0, 0, {RUN(8, IPCI_RUN_LARGE, 1), 500}},
	{"large of nothing", 2, 0, 0, {RUN(0, IPCI_RUN_LARGE, 1), 0}},
	{"large above the limit", 2, 0, 0, {RUN(0, IPCI_RUN_LARGE, 1), MESSAGE_MAX + 1}},
	{"large above everything", 2, 0, 0, {RUN(0, IPCI_RUN_LARGE, 1), UINT64_MAX}},
	{"two large", 4, 0, 0, {RUN(0, IPCI_RUN_LARGE, 2), 500, 500}},
	{"large, a piece larger than the whole", 3, 0, 0, {RUN(0, IPCI_RUN_LARGE, 1), 7, 0}},
	{"large, two pieces larger", 4, 0, 0, {RUN(0, IPCI_RUN_LARGE, 1), 15, 0, 0}},
	{"large, a descriptor unclaimed", 2, 1, 0, {RUN(0, IPCI_RUN_LARGE, 1), 500}},
	{"large, of two descriptors one", 2, 2, 0, {RUN(0, IPCI_RUN_LARGE | IPCI_RUN_FDS, 1), 500}},
	{"large, its id missing", 2, 0, 0, {RUN(0, IPCI_RUN_LARGE | IPCI_RUN_ID, 1), 500}},
};

/* Return: how the reader ends, after so many good messages. */
static int
read_body(const struct lie *body, unsigned int *ret_n)
{
	static const struct ipci_limits limits = {
		.message_max = MESSAGE_MAX, .record_max = 8192, .fds_max = FDS_MAX};
	size_t size = sizeof(struct ipci_record_header) + body->n_words * sizeof(uint64_t);
	uint8_t *packet = memory_of(size);
	struct ipc_message message;
	struct ipci_reader reader;
	uint64_t large;
	int r;

	ipci_record_header_init((void *)packet, IPCI_KIND_MESSAGES, body->n_fds, size);
	memcpy(packet + sizeof(struct ipci_record_header), body->words, size - 8);
	check_equal(ipci_record_check((void *)packet, size), IPCI_KIND_MESSAGES);
	ipci_reader_begin(&reader, packet, &limits);
	for (*ret_n = 0; (r = ipci_reader_next(&reader, &message, &large)) > 0; ++*ret_n)
		;
	free(packet);
	return r;
}

static void
a_run_that_lies(void **state)
{
	unsigned int i, n;
	int r;

	(void)state;
	for (i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		r = read_body(&lies[i], &n);
		if (r == -EPROTO && n == lies[i].n_good)
			continue;
		(void)fprintf(stderr, "%s: %d after %u messages\n", lies[i].name, r, n);
		check(false);
	}
}

/* The same, told the truth: what is refused above is refused for its lie alone. */
static void
runs_at_their_limits(void **state)
{
	static const struct lie truths[] = {
		{"no payload", 1, 0, 1, {RUN(0, 0, 1)}},
		{"none of them with a payload", 2, 0, 2, {RUN(0, 0, 1), RUN(0, 0, 1)}},
		{"two", 3, 0, 2, {RUN(8, 0, 2)}},
		{"id", 2, 0, 1, {RUN(0, IPCI_RUN_ID, 1), 1}},
		{"all descriptors", 2, 8, 2,
			{RUN(0, IPCI_RUN_FDS, FDS_MAX), RUN(0, IPCI_RUN_FDS, FDS_MAX)}},
		{"large", 2, 0, 1, {RUN(0, IPCI_RUN_LARGE, 1), MESSAGE_MAX}},
		{"large with all", 3, FDS_MAX, 1, {RUN(0, IPCI_RUN_ALL, FDS_MAX), 1, 1}},
		{"large with a piece", 3, 0, 1, {RUN(0, IPCI_RUN_LARGE, 1), 9, 0}},
		{"large in one piece", 3, 0, 1, {RUN(0, IPCI_RUN_LARGE, 1), 8, 0}},
		{"large, last", 3, 0, 2, {RUN(0, 0, 1), RUN(0, IPCI_RUN_LARGE, 1), 5}},
	};
	unsigned int i, n;
	int r;

	(void)state;
	for (i = 0; i < sizeof(truths) / sizeof(truths[0]); i++) {
		r = read_body(&truths[i], &n);
		if (r == 0 && n == truths[i].n_good)
			continue;
		(void)fprintf(stderr, "%s: %d after %u messages\n", truths[i].name, r, n);
		check(false);
	}
}

/* No flag is without meaning: those that have none yet are refused in every company. */
static void
flags_of_the_future(void **state)
{
	unsigned int flags, n;

	(void)state;
	for (flags = IPCI_RUN_ALL + 1; flags < 256; flags++) {
		struct lie body = {.n_words = 3, .n_fds = 1, .words = {RUN(0, flags, 1), 1, 1}};

		check_equal(read_body(&body, &n), -EPROTO);
		check_equal(n, 0);
		body.n_fds = 0;
		check_equal(read_body(&body, &n), -EPROTO);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(a_header_that_lies),
		channel_test(a_hello_is_understood),
		channel_test(each_bit_of_a_hello),
		channel_test(a_run_that_lies),
		channel_test(runs_at_their_limits),
		channel_test(flags_of_the_future),
	};

	return run_group(tests);
}
