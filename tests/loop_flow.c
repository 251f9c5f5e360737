/* SPDX-License-Identifier: MIT */

/* What a channel may have outstanding: refused above a limit, told of room below half, and nothing
   is lost. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop_support.h"

/* Each message is a record of its own: no second one finds room in the smallest. */
#define LONE_SIZE 3000
static const struct ipc_channel_options *const lone_options =
	OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_MIN, .send_buffer = 4096, .fds_max = 4);

/* A pair of which one end is attached. */
struct fixture {
	struct ipc_loop *loop;
	struct ipc_channel *own, *peer;
	struct ear ear;
	uint64_t records_before;
};

static void
fixture_open(struct fixture *f, const struct ipc_loop_options *options,
	const struct ipc_channel_options *channel_options)
{
	*f = (struct fixture){.loop = loop_open(options)};
	pair_open(&f->own, &f->peer, channel_options);
	ear_attach(&f->ear, f->loop, f->own);
	(void)turn_out(f->loop);
	f->records_before = stats_of(f->own).out.records;
}

static void
fixture_close(struct fixture *f)
{
	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	ipc_loop_destroy(f->loop);
}

/* Receive messages that are filled with their numbers, turning the loop for more, up to n. */
static void
drain_filled(struct fixture *f, unsigned int n, size_t size)
{
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	struct ipc_message message;
	unsigned int i;

	for (i = 0; i < n; i++) {
		while (ipc_channel_recv(f->peer, &message, 0) == -EAGAIN) {
			check(ipc_loop_turn(f->loop, 1) >= 0);
			check(now_ms() < give_up_ms);
		}
		check_equal(message.size, size);
		check(is_filled(message.data, message.size, i));
	}
	(void)turn_out(f->loop);
	expect_nothing(f->peer);
}

static void
above_the_limit_of_bytes_nothing_is_taken(void **state)
{
	static const size_t sizes[] = {1, 8, 100, 5000, 40000, 100000};
	struct fixture f;
	unsigned int i, n;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fixture_open(&f, LOOP_OPTIONS(.out_bytes_max = 200000), NULL);
		n = gather_until_full(f.own, sizes[i]);
		check(n * sizes[i] <= 200000);
		/* Heads and padding are counted, and are not more than that. */
		check((n + 1) * (sizes[i] + 64) > 200000);
		drain_filled(&f, n, sizes[i]);
		check_equal(f.ear.writables, 1);
		fixture_close(&f);
	}
}

static void
above_the_limit_of_messages_nothing_is_taken(void **state)
{
	static const uint32_t limits[] = {1, 2, 3, 100, 5000};
	static const size_t sizes[] = {1, 8, 100};
	struct fixture f;
	unsigned int i, k;

	(void)state;
	for (i = 0; i < 5; i++) {
		for (k = 0; k < 3; k++) {
			fixture_open(&f,
				LOOP_OPTIONS(.out_messages_max = limits[i],
					.out_bytes_max = 1U << 20),
				NULL);
			check_equal(gather_until_full(f.own, sizes[k]), limits[i]);
			drain_filled(&f, limits[i], sizes[k]);
			check_equal(f.ear.writables, 1);
			/* And so again. */
			check_equal(gather_until_full(f.own, sizes[k]), limits[i]);
			drain_filled(&f, limits[i], sizes[k]);
			check_equal(f.ear.writables, 2);
			fixture_close(&f);
		}
	}
}

static void
mixed_messages_are_counted_too(void **state)
{
	struct ipc_message message = {.data = "12345678", .size = 0};
	struct fixture f;
	unsigned int n;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_messages_max = 50), NULL);
	for (n = 0; n < 1000; n++) {
		message.size = n % 7;
		message.type = (uint16_t)(n / 3);
		if (ipc_channel_post(f.own, &message, 0) < 0)
			break;
	}
	check_equal(n, 50);
	turn_until(f.loop, f.ear.writables == 1);
	fixture_close(&f);
}

static void
limits_hold_for_messages_that_follow_those_before_attach(void **state)
{
	static const size_t sizes[] = {1, 8, 100};
	static const unsigned char payload[100];
	struct ipc_channel *own, *peer;
	struct ear ear = {.loop = NULL};
	struct ipc_message message = {.data = payload}, received;
	struct ipc_loop *loop;
	unsigned int i, k, n;

	(void)state;
	for (i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		loop = loop_open(i % 2 ? LOOP_OPTIONS(.out_messages_max = 4)
				       : LOOP_OPTIONS(.out_bytes_max = 400));
		memset(&ear, 0, sizeof(ear));
		pair_open(&own, &peer, NULL);
		message.size = sizes[i / 2];
		/* Those that are alike join a run. */
		for (k = 0; k < 3; k++)
			check_equal(ipc_channel_post(own, &message, 0), 0);
		ear_attach(&ear, loop, own);
		for (n = 0; n < 1000 && ipc_channel_post(own, &message, 0) == 0; n++)
			;
		check(i % 2 ? n <= 4 : n * message.size <= 400);
		turn_until(loop, ear.writables == 1);
		for (k = 0; k < 3 + n; k++) {
			check_equal(ipc_channel_recv(peer, &received, 0), 0);
			check_equal(received.size, message.size);
		}
		expect_nothing(peer);
		ipc_channel_close(own);
		ipc_channel_close(peer);
		ipc_loop_destroy(loop);
	}
}

static void
above_the_limit_of_descriptors_nothing_is_taken(void **state)
{
	int fds[4] = {0, 1, 2, 2};
	struct ipc_message message = {.n_fds = 4, .fds = fds}, received;
	unsigned int open = descriptors_open(), i;
	struct fixture f;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_fds_max = 10), OPTIONS(.fds_max = 4));
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	check_equal(ipc_channel_post(f.own, &message, 0), -EAGAIN);
	message.n_fds = 2;
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	message.n_fds = 1;
	check_equal(ipc_channel_post(f.own, &message, 0), -EAGAIN);
	/* One without is within all limits. */
	message = text_message("without");
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	turn_until(f.loop, f.ear.writables == 1);
	for (i = 0; i < 3; i++) {
		check_equal(ipc_channel_recv(f.peer, &received, TEST_WAIT_MS), 0);
		check_equal(received.n_fds, i < 2 ? 4 : 2);
	}
	expect_text(f.peer, "without");
	fixture_close(&f);
	check_equal(descriptors_open(), open);
}

static void
a_message_larger_than_all_limits_is_taken_when_nothing_is_outstanding(void **state)
{
	static unsigned char payload[500000];
	int fds[4] = {0, 1, 2, 2};
	struct ipc_message message = {
		.data = payload, .size = sizeof(payload), .n_fds = 4, .fds = fds};
	struct ipc_message received;
	struct fixture f;
	unsigned int i;

	(void)state;
	fill(payload, sizeof(payload), 3);
	fixture_open(&f,
		LOOP_OPTIONS(.out_bytes_max = 1000, .out_messages_max = 1, .out_fds_max = 1),
		OPTIONS(.fds_max = 4));
	for (i = 1; i < 4; i++) {
		check_equal(ipc_channel_send(f.own, &message, 0), 0);
		check_equal(ipc_channel_send(f.own, &message, 0), -EAGAIN);
		check_equal(ipc_channel_send(f.own, &(struct ipc_message){.size = 0}, 0), -EAGAIN);
		while (ipc_channel_recv(f.peer, &received, 0) == -EAGAIN)
			check(ipc_loop_turn(f.loop, 1) >= 0);
		check_equal(received.n_fds, 4);
		check_equal(received.size, sizeof(payload));
		check(is_filled(received.data, received.size, 3));
		turn_until(f.loop, f.ear.writables == i);
	}
	fixture_close(&f);
}

/* Of the messages that the ear's channel has taken: one is a record, so records tell. */
static unsigned int
outstanding(const struct fixture *f, unsigned int n_taken)
{
	return n_taken - (unsigned int)(stats_of(f->own).out.records - f->records_before);
}

struct half {
	struct fixture *f;
	unsigned int n_taken, limit;
};

static void
expect_below_half(struct ear *ear, struct ipc_channel *channel)
{
	struct half *half = ear->arg;

	(void)channel;
	check(2 * outstanding(half->f, half->n_taken) < half->limit);
}

static void
writable_comes_below_half_and_not_before(
	const struct ipc_loop_options *options, unsigned int limit_messages)
{
	struct half half = {.limit = limit_messages};
	struct ipc_message message;
	struct fixture f;
	unsigned int i;

	fixture_open(&f, options, lone_options);
	half.f = &f;
	f.ear.on_writable = expect_below_half;
	f.ear.arg = &half;
	half.n_taken = gather_until_full(f.own, LONE_SIZE);
	check(half.n_taken >= limit_messages - 1);
	(void)turn_out(f.loop);
	/* The socket is full long before. */
	check(2 * outstanding(&f, half.n_taken) > half.limit);
	check_equal(f.ear.writables, 0);

	for (i = 0; !f.ear.writables; i++) {
		check(i < half.n_taken);
		check_equal(ipc_channel_recv(f.peer, &message, 0), 0);
		check(is_filled(message.data, LONE_SIZE, i));
		(void)turn_out(f.loop);
		/* If there is so much room, it was told. */
		check(f.ear.writables || 2 * outstanding(&f, half.n_taken) >= half.limit);
	}
	for (; i < half.n_taken; i++) {
		check_equal(ipc_channel_recv(f.peer, &message, 0), 0);
		check(is_filled(message.data, LONE_SIZE, i));
		(void)turn_out(f.loop);
	}
	/* Once for all that was refused. */
	check_equal(f.ear.writables, 1);
	fixture_close(&f);
}

static void
writable_comes_below_half_of_the_messages(void **state)
{
	(void)state;
	writable_comes_below_half_and_not_before(
		LOOP_OPTIONS(.out_messages_max = 40, .out_bytes_max = 1U << 20), 40);
	writable_comes_below_half_and_not_before(
		LOOP_OPTIONS(.out_messages_max = 41, .out_bytes_max = 1U << 20), 41);
}

static void
writable_comes_below_half_of_the_bytes(void **state)
{
	(void)state;
	/* Heads count too: 20 are more than half, 19 and their heads less. */
	writable_comes_below_half_and_not_before(LOOP_OPTIONS(.out_bytes_max = 40 * LONE_SIZE), 40);
}

/* What was outstanding at each call of writable(). */
struct told {
	struct half half;
	unsigned int n, outstanding[4];
};

static void
note_outstanding(struct ear *ear, struct ipc_channel *channel)
{
	struct told *told = ear->arg;

	(void)channel;
	check(told->n < 4);
	told->outstanding[told->n++] = outstanding(told->half.f, told->half.n_taken);
}

/* A message is refused and a flush, in this order or the other: there is room long before there is
   nothing outstanding, and both are told of. */
static void
refuse_both(bool flush_first)
{
	struct told told = {.half.limit = 40};
	struct fixture f;

	fixture_open(
		&f, LOOP_OPTIONS(.out_messages_max = 40, .out_bytes_max = 1U << 20), lone_options);
	told.half.f = &f;
	f.ear.on_writable = note_outstanding;
	f.ear.arg = &told;
	/* It goes with the first of the others. */
	gather_text(f.own, "first");
	if (flush_first)
		check_equal(ipc_channel_flush(f.own, 0), -EAGAIN);
	told.half.n_taken = gather_until_full(f.own, LONE_SIZE);
	(void)turn_out(f.loop);
	check_equal(told.n, 0);
	if (!flush_first)
		check_equal(ipc_channel_flush(f.own, 0), -EAGAIN);
	expect_text(f.peer, "first");
	drain_filled(&f, told.half.n_taken, LONE_SIZE);
	check_equal(told.n, 2);
	check(told.outstanding[0] && 2 * told.outstanding[0] < told.half.limit);
	check_equal(told.outstanding[1], 0);
	check_equal(ipc_channel_flush(f.own, 0), 0);
	(void)turn_out(f.loop);
	check_equal(told.n, 2);
	fixture_close(&f);
}

static void
after_a_refused_message_and_a_refused_flush_both_are_told(void **state)
{
	(void)state;
	refuse_both(false);
	refuse_both(true);
}

static void
without_a_refusal_nobody_is_told_of_room(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_messages_max = 10), NULL);
	for (i = 0; i < 10; i++)
		gather_text(f.own, "text");
	(void)turn_out(f.loop);
	for (i = 0; i < 10; i++)
		expect_text(f.peer, "text");
	check_equal(f.ear.writables, 0);
	fixture_close(&f);
}

static void
a_writable_that_is_not_set_is_not_missed(void **state)
{
	struct ipc_channel_handler handler = {.message = ear_handler.message};
	struct fixture f;
	unsigned int n;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_messages_max = 10), NULL);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	check_equal(ipc_loop_attach(f.loop, f.own, &handler, &f.ear), 0);
	n = gather_until_full(f.own, 100);
	drain_filled(&f, n, 100);
	check_equal(ipc_loop_turn(f.loop, 0), 0);
	fixture_close(&f);
}

static void
a_refused_message_does_not_arrive(void **state)
{
	struct ipc_message refused = text_message("refused");
	struct fixture f;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_messages_max = 2), NULL);
	gather_text(f.own, "first");
	gather_text(f.own, "second");
	check_equal(ipc_channel_send(f.own, &refused, -1), -EAGAIN);
	check_equal(ipc_channel_send(f.own, &refused, 1000), -EAGAIN);
	turn_until(f.loop, f.ear.writables == 1);
	gather_text(f.own, "third");
	(void)turn_out(f.loop);
	expect_text(f.peer, "first");
	expect_text(f.peer, "second");
	expect_text(f.peer, "third");
	expect_nothing(f.peer);
	fixture_close(&f);
}

/* A sender that goes on whenever it is told of room, with numbers for payload. */
struct pump {
	uint64_t n_sent, n;
	size_t size_max;
	int pipe_fd; /* goes with every 13th message; -1: none does */
	unsigned char *payload;
};

static size_t
pump_size(const struct pump *pump, uint64_t number)
{
	return number * 2654435761U % pump->size_max;
}

static void
pump_send(struct pump *pump, struct ipc_channel *channel)
{
	struct ipc_message message;
	int r;

	for (; pump->n_sent < pump->n; pump->n_sent++) {
		message = (struct ipc_message){
			.data = pump->payload,
			.size = pump_size(pump, pump->n_sent),
			.id = pump->n_sent,
			.fds = &pump->pipe_fd,
			.n_fds = pump->pipe_fd >= 0 && pump->n_sent % 13 == 0,
		};
		fill(pump->payload, message.size, pump->n_sent);
		r = ipc_channel_post(channel, &message, 0);
		if (r == -EAGAIN)
			return;
		check_equal(r, 0);
	}
}

static void
pump_goes_on(struct ear *ear, struct ipc_channel *channel)
{
	pump_send(ear->arg, channel);
}

static void
receive_pump(struct ipc_channel *channel, void *arg)
{
	const struct pump *pump = arg;
	struct ipc_message message;
	uint64_t i;

	for (i = 0; i < pump->n; i++) {
		check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
		check_equal(message.id, i);
		check_equal(message.size, pump_size(pump, i));
		check_equal(message.n_fds, pump->pipe_fd >= 0 && i % 13 == 0);
		check(is_filled(message.data, message.size, i));
		if (i % 5000 == 0)
			sleep_ms(2);
	}
	check_equal(ipc_channel_send(channel, &(struct ipc_message){.type = 1}, TEST_WAIT_MS), 0);
}

static void
nothing_is_lost(const struct ipc_loop_options *options, uint64_t n, size_t size_max, bool with_fds)
{
	struct pump pump = {.n = n, .size_max = size_max, .pipe_fd = with_fds ? 0 : -1};
	struct ear ear = {.on_writable = pump_goes_on, .arg = &pump};
	struct ipc_loop *loop = loop_open(options);
	struct worker worker;

	pump.payload = malloc(size_max);
	check(pump.payload);
	worker = worker_start(OPTIONS(.fds_max = with_fds), receive_pump, &pump);
	ear_attach(&ear, loop, worker.channel);
	pump_send(&pump, worker.channel);
	turn_until(loop, ear.messages == 1);
	check_equal(pump.n_sent, n);
	check(ear.writables);
	worker_end(&worker);
	free(pump.payload);
	ipc_loop_destroy(loop);
}

static void
nothing_is_lost_of_a_flood(void **state)
{
	unsigned int n = test_count(1000000, 100000);

	(void)state;
	nothing_is_lost(NULL, n, 9, false);
	nothing_is_lost(NULL, n / 10, 300, false);
	nothing_is_lost(NULL, n / 100, 30000, false);
	nothing_is_lost(NULL, n / 1000, 700000, false);
}

static void
nothing_is_lost_of_a_flood_with_descriptors(void **state)
{
	(void)state;
	nothing_is_lost(NULL, test_count(50000, 1000), 3000, true);
	nothing_is_lost(LOOP_OPTIONS(.out_fds_max = 3), test_count(20000, 500), 3000, true);
}

static void
nothing_is_lost_with_narrow_limits(void **state)
{
	unsigned int n = test_count(20000, 500);

	(void)state;
	nothing_is_lost(LOOP_OPTIONS(.out_messages_max = 1), n, 1000, false);
	nothing_is_lost(LOOP_OPTIONS(.out_bytes_max = 1), n, 1000, false);
	nothing_is_lost(LOOP_OPTIONS(.out_bytes_max = 4096, .out_messages_max = 3), n, 9000, false);
}

static void
a_peer_that_does_not_read_holds_up_nobody_else(void **state)
{
	struct ipc_channel *a, *b;
	struct ear ear = {.loop = NULL};
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_bytes_max = 2U << 20), NULL);
	(void)gather_until_full(f.own, 10000);
	(void)turn_out(f.loop);
	pair_open(&a, &b, NULL);
	ear_attach(&ear, f.loop, a);
	for (i = 1; i < 100; i++) {
		gather_text(a, "to");
		send_text(b, "fro");
		turn_until(f.loop, ear.messages == i);
		expect_text(b, "to");
	}
	check_equal(f.ear.writables, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
	fixture_close(&f);
}

static void
what_a_peer_does_not_read_takes_bounded_memory(void **state)
{
	enum { N = 16 };
	struct ipc_channel *a[N], *b[N];
	struct ear ears[N] = {{.loop = NULL}};
	size_t before = resident_bytes();
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int i, round;

	(void)state;
	for (i = 0; i < N; i++) {
		pair_open(&a[i], &b[i], NULL);
		ear_attach(&ears[i], loop, a[i]);
	}
	for (round = 0; round < 20; round++) {
		for (i = 0; i < N; i++)
			(void)gather_until_full(a[i], 1000);
		check(ipc_loop_turn(loop, 0) >= 0);
	}
	expect_resident_below(before + N * (size_t)(2U << 20));
	for (i = 0; i < N; i++) {
		ipc_channel_close(a[i]);
		ipc_channel_close(b[i]);
	}
	ipc_loop_destroy(loop);
}

/*
 * While a callback runs, a send that waited for a full socket is done and the peer has asked: what
 * was gathered behind it is prepared for sending, and not sent, when message() is called.
 */

/* Bytes of the message that waits, of those that are gathered behind it, and of what is outstanding
   at most: one of each. */
#define BEFORE_SIZE 30000
#define BEHIND_SIZE 40000
#define OUT_MAX     75000

enum answer { ANSWER_AT_ONCE, ANSWER_AFTER_FLUSH, ANSWER_AFTER_REFUSAL, ANSWER_N };

struct crossing {
	enum answer answer;
	int go[2], gone[2]; /* pipes: to the peer and back */
};

static void
pipe_put(const int ends[2])
{
	check_equal(write(ends[1], "!", 1), 1);
}

static void
pipe_get(const int ends[2])
{
	char byte;

	check_equal(read(ends[0], &byte, 1), 1);
}

/* The peer: read all that is here, ask, and wait for the answer. */
static void
ask_when_told(struct ipc_channel *channel, void *arg)
{
	const struct crossing *crossing = arg;
	struct ipc_message message;
	int r;

	pipe_get(crossing->go);
	while (ipc_channel_recv(channel, &message, 0) == 0)
		;
	send_text(channel, "ask");
	pipe_put(crossing->gone);
	do {
		r = ipc_channel_recv(channel, &message, TEST_WAIT_MS);
		check_equal(r, 0);
	} while (message.size != sizeof("answer"));
	check_equal(memcmp(message.data, "answer", message.size), 0);
	send_text(channel, "thanks");
}

static void
let_the_peer_ask(struct ipc_timer *timer, void *user)
{
	const struct crossing *crossing = user;

	(void)timer;
	pipe_put(crossing->go);
	pipe_get(crossing->gone);
}

static void
answer_later(struct ear *ear, struct ipc_channel *channel)
{
	(void)ear;
	gather_text(channel, "answer");
}

static void
answer_as_told(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	static const unsigned char payload[BEHIND_SIZE];
	struct ipc_message another = {.data = payload, .size = sizeof(payload)};
	const struct crossing *crossing = ear->arg;
	int r = 0;

	(void)message;
	if (ear->messages == 2) {
		ipc_loop_stop(ear->loop);
		return;
	}
	if (crossing->answer == ANSWER_AFTER_FLUSH)
		r = ipc_channel_flush(channel, 0);
	else if (crossing->answer == ANSWER_AFTER_REFUSAL)
		r = ipc_channel_post(channel, &another, 0);
	check(r == 0 || r == -EAGAIN);
	/* Who was refused waits to be told of room. */
	if (r == 0)
		gather_text(channel, "answer");
}

static void
stop_at_end(struct ear *ear, struct ipc_channel *channel)
{
	(void)channel;
	ipc_loop_stop(ear->loop);
}

/* Send until one message waits in the kernel, with another behind it. */
static void
fill_socket(struct ipc_loop *loop, struct ipc_channel *channel)
{
	static const unsigned char payload[BEHIND_SIZE];
	struct ipc_message before = {.data = payload, .size = BEFORE_SIZE};
	struct ipc_message behind = {.data = payload, .size = BEHIND_SIZE};
	uint64_t records;

	do {
		records = stats_of(channel).out.records;
		check_equal(ipc_channel_post(channel, &before, 0), 0);
		(void)turn_out(loop);
	} while (stats_of(channel).out.records > records);
	check_equal(ipc_channel_post(channel, &behind, 0), 0);
	(void)turn_out(loop);
}

static void
cross(enum answer how, int spin_us, bool with_run)
{
	struct crossing crossing = {.answer = how};
	struct ear ear = {.on_message = answer_as_told,
		.on_writable = answer_later,
		.on_closed = stop_at_end,
		.arg = &crossing};
	struct ipc_loop *loop =
		loop_open(LOOP_OPTIONS(.spin_us = spin_us, .out_bytes_max = OUT_MAX));
	struct worker worker;

	check_equal(pipe2(crossing.go, O_CLOEXEC) + pipe2(crossing.gone, O_CLOEXEC), 0);
	worker = worker_start(OPTIONS(.spin_us = -1), ask_when_told, &crossing);
	ear_attach(&ear, loop, worker.channel);
	fill_socket(loop, worker.channel);
	check_equal(ipc_timer_start(NULL, loop, 0, 0, let_the_peer_ask, &crossing), 0);
	if (with_run)
		check_equal(ipc_loop_run(loop), 0);
	else
		while (ear.messages < 2 && !ear.closeds)
			check(ipc_loop_turn(loop, -1) >= 0);
	check_equal(ear.messages, 2);
	worker_end(&worker);
	check_equal(close(crossing.go[0]) + close(crossing.go[1]), 0);
	check_equal(close(crossing.gone[0]) + close(crossing.gone[1]), 0);
	ipc_loop_destroy(loop);
}

static void
what_a_callback_sends_behind_a_send_that_waited_goes_too(void **state)
{
	static const int spins_us[] = {-1, 0, 50};
	unsigned int i, how;

	(void)state;
	for (how = 0; how < ANSWER_N; how++) {
		for (i = 0; i < 3; i++) {
			cross(how, spins_us[i], true);
			cross(how, spins_us[i], false);
		}
	}
}

/* Two messages for each request, each gathered by itself, and nothing else comes that would end a
   wait. */
static void
answer_twice(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct ipc_message reply = {.data = message->data, .size = message->size};
	const unsigned int *n = ear->arg;

	reply.type = 1;
	check_equal(ipc_channel_post(channel, &reply, 0), 0);
	reply.type = 2;
	check_equal(ipc_channel_reply(channel, message, &reply, 0), 0);
	if (ear->messages == *n)
		ipc_loop_stop(ear->loop);
}

static void
ask_again_and_again(struct ipc_channel *channel, void *arg)
{
	unsigned int n = *(unsigned int *)arg, i, k;
	struct ipc_message request, reply;

	for (i = 1; i <= n; i++) {
		request = (struct ipc_message){.id = i, .data = &i, .size = i % 5};
		check_equal(ipc_channel_send(channel, &request, TEST_WAIT_MS), 0);
		for (k = 1; k <= 2; k++) {
			check_equal(ipc_channel_recv(channel, &reply, TEST_WAIT_MS), 0);
			check_equal(reply.type, k);
			check_equal(reply.size, i % 5);
			check(!reply.size || memcmp(reply.data, &i, reply.size) == 0);
		}
		check_equal(reply.id, i);
	}
}

static void
each_request_is_answered_though_the_loop_sleeps_in_between(void **state)
{
	static const int spins_us[] = {-1, 0, 50};
	unsigned int n = test_count(5000, 500), i;
	struct ear ear;
	struct ipc_loop *loop;
	struct worker worker;

	(void)state;
	for (i = 0; i < 6; i++) {
		ear = (struct ear){.on_message = answer_twice, .on_closed = stop_at_end, .arg = &n};
		loop = loop_open(LOOP_OPTIONS(.spin_us = spins_us[i % 3]));
		worker = worker_start(NULL, ask_again_and_again, &n);
		ear_attach(&ear, loop, worker.channel);
		if (i < 3)
			check_equal(ipc_loop_run(loop), 0);
		else
			while (ear.messages < n && !ear.closeds)
				check(ipc_loop_turn(loop, -1) >= 0);
		check_equal(ear.messages, n);
		worker_end(&worker);
		ipc_loop_destroy(loop);
	}
}

/* Between two ends that both only send until they are refused nothing hangs: a refusal does not
   stop receiving. */
static void
two_ends_that_flood_each_other_both_go_on(void **state)
{
	unsigned int n = test_count(20000, 1000);
	struct pump to = {.n = n, .size_max = 5000, .pipe_fd = -1}, fro = to;
	struct ear ear = {.on_writable = pump_goes_on, .arg = &fro};
	struct fixture f;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_messages_max = 100), NULL);
	to.payload = malloc(to.size_max);
	fro.payload = malloc(fro.size_max);
	check(to.payload && fro.payload);
	f.ear.on_writable = pump_goes_on;
	f.ear.arg = &to;
	ear_attach(&ear, f.loop, f.peer);
	pump_send(&to, f.own);
	pump_send(&fro, f.peer);
	turn_until(f.loop, f.ear.messages == n && ear.messages == n);
	free(to.payload);
	free(fro.payload);
	fixture_close(&f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(above_the_limit_of_bytes_nothing_is_taken),
		loop_test(above_the_limit_of_messages_nothing_is_taken),
		loop_test(mixed_messages_are_counted_too),
		loop_test(limits_hold_for_messages_that_follow_those_before_attach),
		loop_test(above_the_limit_of_descriptors_nothing_is_taken),
		loop_test(a_message_larger_than_all_limits_is_taken_when_nothing_is_outstanding),
		loop_test(writable_comes_below_half_of_the_messages),
		loop_test(writable_comes_below_half_of_the_bytes),
		loop_test(after_a_refused_message_and_a_refused_flush_both_are_told),
		loop_test(without_a_refusal_nobody_is_told_of_room),
		loop_test(a_writable_that_is_not_set_is_not_missed),
		loop_test(a_refused_message_does_not_arrive),
		loop_test(nothing_is_lost_of_a_flood),
		loop_test(nothing_is_lost_of_a_flood_with_descriptors),
		loop_test(nothing_is_lost_with_narrow_limits),
		loop_test(a_peer_that_does_not_read_holds_up_nobody_else),
		loop_test(what_a_peer_does_not_read_takes_bounded_memory),
		loop_test(what_a_callback_sends_behind_a_send_that_waited_goes_too),
		loop_test(each_request_is_answered_though_the_loop_sleeps_in_between),
		loop_test(two_ends_that_flood_each_other_both_go_on),
	};

	return run_on_engines(tests);
}
