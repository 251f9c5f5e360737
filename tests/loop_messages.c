/* SPDX-License-Identifier: MIT */

/*
 * Messages through a loop: every size, both ways, in order, byte for byte; and what the calls of
 * a channel mean while it is attached.
 */

#include <stdlib.h>
#include <string.h>

#include "loop_support.h"

#define MESSAGE_MAX ((1U << 20) + 13)
#define RECORD_MAX  IPC_CHANNEL_RECORD_MAX_DEFAULT

static const size_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 2047, 2048, 2049, 4095, 4096, 4097, 16383,
	16384, 16385, 49151, 49152, 49153, 65535, 65536, 65537, RECORD_MAX - 1, RECORD_MAX,
	RECORD_MAX + 1, 199999, 200000, 200001, 204671, 204672, 204799, 204800, 204801, 212960,
	212961, MESSAGE_MAX - 1, MESSAGE_MAX};

/* A sequence of messages from one end to the other: a sender that goes on when there is room, and
   a receiver that knows what must come. */
struct stream {
	const size_t *sizes;
	unsigned int n;
	unsigned int n_sent;
	unsigned int n_received;
	uint64_t key; /* tells streams apart */
	unsigned char *payload;
};

static void
stream_init(struct stream *stream, const size_t *list, unsigned int n, uint64_t key)
{
	unsigned int i;
	size_t largest = 0;

	for (i = 0; i < n; i++)
		largest = list[i] > largest ? list[i] : largest;
	*stream = (struct stream){.sizes = list, .n = n, .key = key};
	stream->payload = malloc(largest + 1);
	check(stream->payload);
}

static void
stream_finish(struct stream *stream)
{
	check_equal(stream->n_sent, stream->n);
	check_equal(stream->n_received, stream->n);
	free(stream->payload);
}

/* Send as much as is taken. */
static void
stream_send(struct stream *stream, struct ipc_channel *channel)
{
	struct ipc_message message;
	unsigned int i;
	int r;

	for (; stream->n_sent < stream->n; stream->n_sent++) {
		i = stream->n_sent;
		message = (struct ipc_message){
			.data = stream->payload,
			.size = stream->sizes[i],
			.type = (uint16_t)i,
			.id = i % 3 ? 0 : i,
			.flags = i % 6 == 3 ? IPC_MESSAGE_REPLY : 0,
		};
		fill(stream->payload, message.size, stream->key + i);
		r = i % 5 ? ipc_channel_post(channel, &message, 0)
		          : ipc_channel_send(channel, &message, 0);
		if (r == -EAGAIN)
			return;
		check_equal(r, 0);
	}
}

/* Both of an ear's streams: what is received by its channel, and what it sends. */
struct ends {
	struct stream *in;
	struct stream *out;
};

static void
stream_receive(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct stream *stream = ((struct ends *)ear->arg)->in;
	unsigned int i = stream->n_received++;

	(void)channel;
	check(i < stream->n);
	check_equal(message->size, stream->sizes[i]);
	check_equal(message->type, (uint16_t)i);
	check_equal(message->id, i % 3 ? 0 : i);
	check_equal(message->flags, i % 6 == 3 ? IPC_MESSAGE_REPLY : 0);
	check_equal(message->n_fds, 0);
	check_equal((uintptr_t)message->data % 8, 0);
	check(is_filled(message->data, message->size, stream->key + i));
}

static void
stream_goes_on(struct ear *ear, struct ipc_channel *channel)
{
	stream_send(((struct ends *)ear->arg)->out, channel);
}

/* The same list to and fro at the same time, the ends in these loops, which can be the same. */
static void
transfer(const size_t *list, size_t n, const struct ipc_channel_options *options,
	struct ipc_loop *loop_a, struct ipc_loop *loop_b)
{
	struct stream to, fro;
	struct ends a_ends = {.in = &fro, .out = &to}, b_ends = {.in = &to, .out = &fro};
	struct ear a_ear = {.on_message = stream_receive, .on_writable = stream_goes_on},
		   b_ear = a_ear;
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	struct ipc_channel *a, *b;

	stream_init(&to, list, (unsigned int)n, 1000000);
	stream_init(&fro, list, (unsigned int)n, 2000000);
	pair_open(&a, &b, options);
	a_ear.arg = &a_ends;
	b_ear.arg = &b_ends;
	ear_attach(&a_ear, loop_a, a);
	ear_attach(&b_ear, loop_b, b);
	stream_send(&to, a);
	stream_send(&fro, b);
	while (to.n_received < n || fro.n_received < n) {
		check(ipc_loop_turn(loop_a, 1) >= 0);
		check(ipc_loop_turn(loop_b, 1) >= 0);
		check(now_ms() < give_up_ms);
	}
	stream_finish(&to);
	stream_finish(&fro);
	check_equal(a_ear.losts + b_ear.losts + a_ear.closeds + b_ear.closeds, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
transfer_in_one_loop(const size_t *list, size_t n, const struct ipc_channel_options *options)
{
	struct ipc_loop *loop = loop_open(NULL);

	transfer(list, n, options, loop, loop);
	ipc_loop_destroy(loop);
}

static void
every_size_arrives_to_and_fro_in_one_loop(void **state)
{
	(void)state;
	transfer_in_one_loop(
		sizes, sizeof(sizes) / sizeof(sizes[0]), OPTIONS(.message_max = MESSAGE_MAX));
}

static void
every_size_arrives_between_two_loops(void **state)
{
	struct ipc_loop *a = loop_open(NULL), *b = loop_open(LOOP_OPTIONS(.buffers = 8));

	(void)state;
	transfer(sizes, sizeof(sizes) / sizeof(sizes[0]), NULL, a, b);
	ipc_loop_destroy(a);
	ipc_loop_destroy(b);
}

static void
every_size_arrives_between_the_engines(void **state)
{
	struct ipc_loop *a = loop_open(NULL), *b;

	(void)state;
	check_equal(ipc_loop_create(&b, NULL), 0);
	transfer(sizes, sizeof(sizes) / sizeof(sizes[0]), NULL, a, b);
	ipc_loop_destroy(a);
	ipc_loop_destroy(b);
}

static void
small_records_carry_everything_too(void **state)
{
	(void)state;
	transfer_in_one_loop(sizes, sizeof(sizes) / sizeof(sizes[0]),
		OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_MIN, .send_buffer = 4096));
}

static void
records_larger_than_a_loops_buffers_carry_everything_too(void **state)
{
	(void)state;
	transfer_in_one_loop(sizes, sizeof(sizes) / sizeof(sizes[0]),
		OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_LIMIT, .send_buffer = 2U << 20));
}

static void
every_size_about_the_record_limit(void **state)
{
	size_t list[128], i;

	(void)state;
	for (i = 0; i < 128; i++)
		list[i] = RECORD_MAX - 96 + i;
	transfer_in_one_loop(list, 128, NULL);
}

static void
random_sizes_arrive_in_order(void **state)
{
	static const size_t limits[] = {1, 16, 300, 5000, 70000, 300000};
	unsigned int n = test_count(4000, 500), i;
	size_t *list = calloc(n, sizeof(*list));

	(void)state;
	check(list);
	for (i = 0; i < n; i++)
		list[i] = test_random_below(limits[test_random_below(i % 50 ? 5 : 6)]);
	transfer_in_one_loop(list, n, NULL);
	free(list);
}

static void
runs_of_like_messages_keep_order_and_content(void **state)
{
	unsigned int n = test_count(200000, 20000), i, left = 0;
	size_t *list = calloc(n, sizeof(*list)), size = 0;

	(void)state;
	check(list);
	for (i = 0; i < n; i++) {
		if (!left--) {
			left = (unsigned int)test_random_below(2000);
			size = test_random_below(64);
		}
		list[i] = size;
	}
	transfer_in_one_loop(list, n, NULL);
	free(list);
}

static void
the_largest_messages_arrive_to_and_fro(void **state)
{
	static const size_t list[] = {16U << 20, 5, 16U << 20, 16U << 20, 0};

	(void)state;
	transfer_in_one_loop(list, sizeof(list) / sizeof(list[0]), NULL);
}

/* What calls mean on an attached channel. */

struct fixture {
	struct ipc_loop *loop;
	struct ipc_channel *own, *peer;
	struct ear ear;
};

static void
fixture_open(struct fixture *f, const struct ipc_channel_options *options)
{
	*f = (struct fixture){.loop = loop_open(NULL)};
	pair_open(&f->own, &f->peer, options);
	ear_attach(&f->ear, f->loop, f->own);
	(void)turn_out(f->loop);
}

static void
fixture_close(struct fixture *f)
{
	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	ipc_loop_destroy(f->loop);
}

static void
send_gathers_and_the_next_turn_sends(void **state)
{
	struct ipc_message message = text_message("posted");
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	gather_text(f.own, "sent");
	check_equal(ipc_channel_post(f.own, &message, -1), 0);
	expect_nothing(f.peer);
	check_equal(ipc_loop_turn(f.loop, 0), 0);
	expect_text(f.peer, "sent");
	expect_text(f.peer, "posted");
	expect_nothing(f.peer);
	fixture_close(&f);
}

static void
answer(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct ipc_message reply = text_message("reply");

	reply.type = 5;
	check_equal(ipc_channel_reply(channel, message, &reply, 0), 0);
	/* Gathered: the end of the turn sends. */
	expect_nothing(ear->arg);
}

static void
what_a_callback_sends_has_gone_when_the_turn_ends(void **state)
{
	struct ipc_message request = {.id = 77}, reply;
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	f.ear.on_message = answer;
	f.ear.arg = f.peer;
	check_equal(ipc_channel_send(f.peer, &request, 0), 0);
	turn_until(f.loop, f.ear.messages == 1);
	check_equal(ipc_channel_recv(f.peer, &reply, 0), 0);
	check_equal(reply.flags, IPC_MESSAGE_REPLY);
	check_equal(reply.type, 5);
	check_equal(reply.id, 77);
	check_equal(strcmp(reply.data, "reply"), 0);
	fixture_close(&f);
}

static void
a_reply_to_what_expects_none_is_refused(void **state)
{
	struct ipc_message request = {.id = 0}, reply = text_message("reply");
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	check_equal(ipc_channel_reply(f.own, &request, &reply, 0), -EINVAL);
	(void)turn_out(f.loop);
	expect_nothing(f.peer);
	fixture_close(&f);
}

static void
flush_is_0_when_the_kernel_has_everything(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	check_equal(ipc_channel_flush(f.own, 0), 0);
	gather_text(f.own, "text");
	check_equal(ipc_channel_flush(f.own, -1), -EAGAIN);
	expect_nothing(f.peer);
	turn_until(f.loop, ipc_channel_flush(f.own, 0) == 0);
	expect_text(f.peer, "text");
	fixture_close(&f);
}

static void
flush_is_not_0_while_the_socket_is_full(void **state)
{
	struct ipc_message message;
	struct fixture f;
	unsigned int n, i;

	(void)state;
	fixture_open(&f, NULL);
	n = gather_until_full(f.own, 60000);
	for (i = 0; i < 10; i++) {
		check(ipc_loop_turn(f.loop, 0) >= 0);
		check_equal(ipc_channel_flush(f.own, -1), -EAGAIN);
	}
	for (i = 0; i < n; i++) {
		while (ipc_channel_recv(f.peer, &message, 0) == -EAGAIN)
			check(ipc_loop_turn(f.loop, 10) >= 0);
		check_equal(message.size, 60000);
		check(is_filled(message.data, message.size, i));
	}
	turn_until(f.loop, ipc_channel_flush(f.own, 0) == 0);
	fixture_close(&f);
}

static void
receives_and_calls_are_the_handlers(void **state)
{
	struct ipc_message message = {.type = 1}, received;
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	send_text(f.peer, "for the handler");
	check_equal(ipc_channel_recv(f.own, &received, 0), -EBUSY);
	check_equal(ipc_channel_recv(f.own, &received, -1), -EBUSY);
	check_equal(ipc_channel_call(f.own, &message, &received, -1), -EBUSY);
	turn_until(f.loop, f.ear.messages == 1);
	check_equal(ipc_channel_recv(f.own, &received, -1), -EBUSY);
	(void)turn_out(f.loop);
	/* The call has sent nothing. */
	expect_nothing(f.peer);
	fixture_close(&f);
}

static void
limits_of_either_end_are_told_at_once(void **state)
{
	static unsigned char payload[100001];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};
	int fd = 2;
	struct fixture f;

	(void)state;
	fixture_open(&f, OPTIONS(.message_max = 100000));
	check_equal(ipc_channel_send(f.own, &message, 0), -EMSGSIZE);
	message.size--;
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	message = (struct ipc_message){.n_fds = 1, .fds = &fd};
	check_equal(ipc_channel_send(f.own, &message, 0), -E2BIG);
	(void)turn_out(f.loop);
	check_equal(ipc_channel_recv(f.peer, &message, 0), 0);
	check_equal(message.size, 100000);
	expect_nothing(f.peer);
	check_equal(f.ear.closeds + f.ear.writables, 0);
	fixture_close(&f);
}

static void
a_payload_may_be_reused_at_once(void **state)
{
	static const size_t few[] = {10, 1000, 16384, 20000, 30, 60000, 150000, 5, 400000};
	unsigned char *payload = malloc(400000);
	struct ipc_message message = {.data = payload};
	struct fixture f;
	unsigned int i;

	(void)state;
	check(payload);
	for (i = 0; i < 9; i++) {
		fixture_open(&f, NULL);
		gather_text(f.own, "before");
		fill(payload, few[i], i);
		message.data = payload;
		message.size = few[i];
		check_equal(ipc_channel_send(f.own, &message, -1), 0);
		memset(payload, 0xEE, few[i]);
		expect_nothing(f.peer);
		check(ipc_loop_turn(f.loop, 0) >= 0);
		expect_text(f.peer, "before");
		while (ipc_channel_recv(f.peer, &message, 0) == -EAGAIN)
			check(ipc_loop_turn(f.loop, 10) >= 0);
		check_equal(message.size, few[i]);
		check(is_filled(message.data, message.size, i));
		fixture_close(&f);
	}
	free(payload);
}

static void
keep_view(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct ipc_message other = {.data = NULL, .size = 0};
	unsigned int i;

	(void)ear;
	if (!message->id)
		return;
	/* Whatever is sent while it is looked at. */
	for (i = 0; i < 100; i++)
		check_equal(ipc_channel_send(channel, &other, 0), 0);
	check(is_filled(message->data, message->size, message->id));
}

static void
a_view_lasts_until_its_callback_returns(void **state)
{
	static const size_t few[] = {100, 20000, 100000, 400000};
	unsigned char *payload = malloc(400000);
	struct ear ear = {.loop = NULL};
	struct fixture f;
	unsigned int i;

	(void)state;
	check(payload);
	fixture_open(&f, NULL);
	ear_attach(&ear, f.loop, f.peer);
	f.ear.on_message = keep_view;
	for (i = 0; i < 4; i++) {
		fill(payload, few[i], i + 1);
		check_equal(
			ipc_channel_send(f.peer,
				&(struct ipc_message){.data = payload, .size = few[i], .id = i + 1},
				0),
			0);
		gather_text(f.peer, "behind it");
		turn_until(f.loop, f.ear.messages == 2 * i + 2);
	}
	free(payload);
	fixture_close(&f);
}

static void
close_sends_what_is_gathered(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	gather_text(f.own, "last");
	gather_text(f.own, "words");
	f.own = ipc_channel_close(f.own);
	expect_text(f.peer, "last");
	expect_text(f.peer, "words");
	expect_end(f.peer);
	check_equal(ipc_loop_turn(f.loop, 0), 0);
	check_equal(f.ear.closeds, 0);
	fixture_close(&f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(every_size_arrives_to_and_fro_in_one_loop),
		loop_test(every_size_arrives_between_two_loops),
		loop_test(every_size_arrives_between_the_engines),
		loop_test(small_records_carry_everything_too),
		loop_test(records_larger_than_a_loops_buffers_carry_everything_too),
		loop_test(every_size_about_the_record_limit),
		loop_test(random_sizes_arrive_in_order),
		loop_test(runs_of_like_messages_keep_order_and_content),
		loop_test(the_largest_messages_arrive_to_and_fro),
		loop_test(send_gathers_and_the_next_turn_sends),
		loop_test(what_a_callback_sends_has_gone_when_the_turn_ends),
		loop_test(a_reply_to_what_expects_none_is_refused),
		loop_test(flush_is_0_when_the_kernel_has_everything),
		loop_test(flush_is_not_0_while_the_socket_is_full),
		loop_test(receives_and_calls_are_the_handlers),
		loop_test(limits_of_either_end_are_told_at_once),
		loop_test(a_payload_may_be_reused_at_once),
		loop_test(a_view_lasts_until_its_callback_returns),
		loop_test(close_sends_what_is_gathered),
	};

	return run_on_engines(tests);
}
