/* SPDX-License-Identifier: MIT */

/* What is sent arrives: every size, in order, byte for byte; and how long it can be looked at. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

#define MESSAGE_MAX ((1U << 20) + 13)
#define RECORD_MAX  IPC_CHANNEL_RECORD_MAX_DEFAULT

static const struct ipc_channel_options *const options = OPTIONS(.message_max = MESSAGE_MAX);

static const size_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 2047, 2048, 2049, 4095, 4096, 4097, 16383,
	16384, 16385, 49151, 49152, 49153, 65535, 65536, 65537, RECORD_MAX - 1, RECORD_MAX,
	RECORD_MAX + 1, 199999, 200000, 200001, 212960, 212961, MESSAGE_MAX - 1, MESSAGE_MAX};

/* How messages leave: one by one, or gathered. */
typedef int put_fn(struct ipc_channel *channel, const struct ipc_message *message, int timeout_ms);

/* A sequence that both sides know, from a list of sizes. */
struct sequence {
	const size_t *sizes;
	size_t n;
	put_fn *put;
};

static unsigned char *
payload_new(size_t size)
{
	unsigned char *payload = malloc(size + 1);

	check(payload);
	return payload;
}

static void
send_sequence(struct ipc_channel *channel, void *arg)
{
	const struct sequence *sequence = arg;
	struct ipc_message message;
	unsigned char *payload;
	size_t i;

	for (i = 0; i < sequence->n; i++) {
		payload = payload_new(sequence->sizes[i]);
		fill(payload, sequence->sizes[i], i);
		message = (struct ipc_message){
			.data = payload,
			.size = sequence->sizes[i],
			.type = (uint16_t)i,
			.id = i % 3 ? 0 : i,
		};
		check_equal(sequence->put(channel, &message, TEST_WAIT_MS), 0);
		free(payload);
	}
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
}

static void
receive_sequence(struct ipc_channel *channel, const struct sequence *sequence)
{
	struct ipc_message message;
	size_t i;

	for (i = 0; i < sequence->n; i++) {
		check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
		check_equal(message.size, sequence->sizes[i]);
		check_equal(message.type, (uint16_t)i);
		check_equal(message.id, i % 3 ? 0 : i);
		check_equal(message.flags, 0);
		check_equal(message.n_fds, 0);
		check_equal((uintptr_t)message.data % 8, 0);
		check(is_filled(message.data, message.size, i));
	}
}

static void
transfer(const size_t *list, size_t n, put_fn *put)
{
	struct sequence sequence = {.sizes = list, .n = n, .put = put};
	struct worker worker = worker_start(options, send_sequence, &sequence);

	receive_sequence(worker.channel, &sequence);
	expect_end(worker.channel);
	worker_end(&worker);
}

static void
every_size_arrives_as_it_was_sent(void **state)
{
	(void)state;
	transfer(sizes, sizeof(sizes) / sizeof(sizes[0]), ipc_channel_send);
}

static void
every_size_arrives_as_it_was_posted(void **state)
{
	(void)state;
	transfer(sizes, sizeof(sizes) / sizeof(sizes[0]), ipc_channel_post);
}

static void
every_size_about_the_record_limit(void **state)
{
	size_t list[128], i;

	(void)state;
	for (i = 0; i < 128; i++)
		list[i] = RECORD_MAX - 96 + i;
	transfer(list, 128, ipc_channel_send);
	transfer(list, 128, ipc_channel_post);
}

static void
random_sizes_arrive_in_order(void **state)
{
	enum { N = 2000 };
	static const size_t limits[] = {1, 16, 300, 5000, 70000, 300000};
	size_t *list = calloc(N, sizeof(*list)), i;

	(void)state;
	check(list);
	for (i = 0; i < N; i++)
		list[i] = test_random_below(limits[test_random_below(i % 50 ? 5 : 6)]);
	transfer(list, N, ipc_channel_post);
	free(list);
}

static void
runs_of_like_messages_keep_order_and_content(void **state)
{
	enum { N = 20000 };
	size_t *list = calloc(N, sizeof(*list)), i, size = 0, left = 0;

	(void)state;
	check(list);
	for (i = 0; i < N; i++) {
		if (!left--) {
			left = test_random_below(200);
			size = test_random_below(64);
		}
		list[i] = size;
	}
	transfer(list, N, ipc_channel_post);
	free(list);
}

static void
alternating_sizes_keep_order_and_content(void **state)
{
	size_t list[4000], i;

	(void)state;
	for (i = 0; i < 4000; i++)
		list[i] = i % 2 ? 8 : 24;
	transfer(list, 4000, ipc_channel_post);
}

/* More than a run or a record can count: its borders must not show. */
static void
send_like_messages(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message = {.type = 7};
	size_t n = *(size_t *)arg, i;

	for (i = 0; i < n; i++)
		check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
}

static void
an_empty_message_is_a_message_however_many_there_are(void **state)
{
	size_t n = 200000, i;
	struct worker worker = worker_start(options, send_like_messages, &n);
	struct ipc_message message;

	(void)state;
	for (i = 0; i < n; i++) {
		check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
		check_equal(message.size, 0);
		check_equal(message.type, 7);
	}
	expect_end(worker.channel);
	worker_end(&worker);
}

static void
type_flags_and_id_arrive(void **state)
{
	static const uint16_t types[] = {0, 1, 255, 256, 65535};
	static const uint64_t ids[] = {0, 1, 0x7FFFFFFFFFFFFFFFULL};
	struct ipc_message message, received;
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, NULL);
	for (i = 0; i < 30; i++) {
		message = text_message("head");
		message.type = types[i % 5];
		message.id = ids[i / 5 % 3];
		message.flags = i / 15 ? IPC_MESSAGE_REPLY : 0;
		check_equal(ipc_channel_post(a, &message, 0), 0);
	}
	check_equal(ipc_channel_flush(a, 0), 0);
	for (i = 0; i < 30; i++) {
		check_equal(ipc_channel_recv(b, &received, 0), 0);
		check_equal(received.type, types[i % 5]);
		check_equal(received.id, ids[i / 5 % 3]);
		check_equal(received.flags, i / 15 ? IPC_MESSAGE_REPLY : 0);
		check_equal(received.size, 5);
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_large_message_keeps_type_flags_and_id(void **state)
{
	struct ipc_message message = {.size = 100000, .type = 40000, .id = 77}, received;
	unsigned char *payload = payload_new(message.size);
	struct ipc_channel *a, *b;

	(void)state;
	fill(payload, message.size, 5);
	message.data = payload;
	message.flags = IPC_MESSAGE_REPLY;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &received, 0), 0);
	check_equal(received.size, message.size);
	check_equal(received.type, 40000);
	check_equal(received.flags, IPC_MESSAGE_REPLY);
	check_equal(received.id, 77);
	check(is_filled(received.data, received.size, 5));
	free(payload);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
posted_messages_wait_for_a_flush(void **state)
{
	struct ipc_message message = text_message("posted");
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	expect_nothing(b);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_text(b, "posted");
	expect_text(b, "posted");
	expect_nothing(b);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_full_record_is_sent_without_a_flush(void **state)
{
	static const unsigned char payload[1000];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, OPTIONS(.record_max = 8192));
	for (i = 0; i < 10; i++)
		check_equal(ipc_channel_post(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_send_goes_after_what_was_posted(void **state)
{
	struct ipc_message message = text_message("first");
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	send_text(a, "second");
	expect_text(b, "first");
	expect_text(b, "second");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_posted_payload_may_be_reused_at_once(void **state)
{
	static const size_t few[] = {10, 1000, 16384, 20000, 30, 60000, 70000, 5};
	unsigned char *payload = payload_new(70000);
	struct ipc_message message = {.data = payload};
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, OPTIONS(.send_buffer = 1U << 20));
	for (i = 0; i < 8; i++) {
		fill(payload, few[i], i);
		message.size = few[i];
		check_equal(ipc_channel_post(a, &message, TEST_WAIT_MS), 0);
		memset(payload, 0xEE, few[i]);
	}
	check_equal(ipc_channel_flush(a, TEST_WAIT_MS), 0);
	for (i = 0; i < 8; i++) {
		check_equal(ipc_channel_recv(b, &message, 0), 0);
		check_equal(message.size, few[i]);
		check(is_filled(message.data, message.size, i));
	}
	free(payload);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_view_lasts_until_the_next_receive(void **state)
{
	static const size_t few[] = {100, 20000, 100000};
	unsigned char *payload = payload_new(100000);
	struct ipc_message message = {.data = payload}, view;
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, NULL);
	for (i = 0; i < 3; i++) {
		message.size = few[i];
		fill(payload, few[i], i);
		check_equal(ipc_channel_send(a, &message, 0), 0);
		check_equal(ipc_channel_recv(b, &view, 0), 0);

		/* What is sent meanwhile, either way, leaves it alone. */
		send_text(b, "the other way");
		expect_text(a, "the other way");
		send_text(a, "behind it");
		check(is_filled(view.data, view.size, i));
		expect_text(b, "behind it");
	}
	free(payload);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
close_sends_what_is_gathered(void **state)
{
	struct ipc_message message = text_message("last words");
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	check(!ipc_channel_close(a));
	expect_text(b, "last words");
	expect_end(b);
	ipc_channel_close(b);
}

static void
use_and_close(void *arg)
{
	ipc_channel_close(arg);
}

static void
what_was_gathered_before_a_fork_is_sent_once(void **state)
{
	struct ipc_message message = text_message("the parent's");
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	child_end(child_start(use_and_close, a));
	expect_nothing(b);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_text(b, "the parent's");
	expect_text(b, "the parent's");
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
send_as_child(void *arg)
{
	struct ipc_message message = text_message("the child's");

	check_equal(ipc_channel_post(arg, &message, 0), 0);
	check_equal(ipc_channel_post(arg, &message, 0), 0);
	check_equal(ipc_channel_flush(arg, 0), 0);
	ipc_channel_close(arg);
}

static void
a_child_begins_with_an_empty_record(void **state)
{
	struct ipc_message message = text_message("the parent's");
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	child_end(child_start(send_as_child, a));
	expect_text(b, "the child's");
	expect_text(b, "the child's");
	expect_nothing(b);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_text(b, "the parent's");
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
small_records_carry_everything_too(void **state)
{
	static const size_t few[] = {0, 1, 4000, 4064, 4072, 4080, 4088, 4096, 5000, 30000, 100000};
	struct sequence sequence = {few, sizeof(few) / sizeof(few[0]), ipc_channel_post};
	struct worker worker =
		worker_start(OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_MIN, .send_buffer = 4096),
			send_sequence, &sequence);

	(void)state;
	receive_sequence(worker.channel, &sequence);
	worker_end(&worker);
}

static void
large_records_carry_everything_too(void **state)
{
	struct sequence sequence = {sizes, sizeof(sizes) / sizeof(sizes[0]), ipc_channel_post};
	struct worker worker =
		worker_start(OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_LIMIT,
				     .message_max = MESSAGE_MAX, .send_buffer = 2U << 20),
			send_sequence, &sequence);

	(void)state;
	receive_sequence(worker.channel, &sequence);
	worker_end(&worker);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(every_size_arrives_as_it_was_sent),
		channel_test(every_size_arrives_as_it_was_posted),
		channel_test(every_size_about_the_record_limit),
		channel_test(random_sizes_arrive_in_order),
		channel_test(runs_of_like_messages_keep_order_and_content),
		channel_test(alternating_sizes_keep_order_and_content),
		channel_test(an_empty_message_is_a_message_however_many_there_are),
		channel_test(type_flags_and_id_arrive),
		channel_test(a_large_message_keeps_type_flags_and_id),
		channel_test(posted_messages_wait_for_a_flush),
		channel_test(a_full_record_is_sent_without_a_flush),
		channel_test(a_send_goes_after_what_was_posted),
		channel_test(a_posted_payload_may_be_reused_at_once),
		channel_test(a_view_lasts_until_the_next_receive),
		channel_test(close_sends_what_is_gathered),
		channel_test(what_was_gathered_before_a_fork_is_sent_once),
		channel_test(a_child_begins_with_an_empty_record),
		channel_test(small_records_carry_everything_too),
		channel_test(large_records_carry_everything_too),
	};

	return run_group(tests);
}
