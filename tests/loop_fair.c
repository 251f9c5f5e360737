/* SPDX-License-Identifier: MIT */

/* Fairness: a channel that floods, or many of them, keep nobody else waiting, and a turn ends. */

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_support.h"

/* A message as small as any, of which the most are in a socket. */
static const struct ipc_message small = {.data = "12345678", .size = 8};

#define CHANNELS_MAX 300

/* Channels in a loop with the order in which they were given messages: runs of one channel. */
struct fixture {
	struct ipc_loop *loop;
	unsigned int n;
	struct ipc_channel *own[CHANNELS_MAX], *peer[CHANNELS_MAX];
	struct ear ears[CHANNELS_MAX];
	const struct ear *latest;
	unsigned int run;
	unsigned int run_max; /* since it was set to 0 */
	unsigned int others;  /* timers and watches */
};

static struct fixture fixture;

static void
note_order(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;

	(void)channel;
	(void)message;
	f->run = ear == f->latest ? f->run + 1 : 1;
	f->latest = ear;
	f->run_max = f->run > f->run_max ? f->run : f->run_max;
}

static void
fixture_open(struct fixture *f, unsigned int n, const struct ipc_loop_options *options)
{
	unsigned int i;

	memset(f, 0, sizeof(*f));
	f->loop = loop_open(options);
	f->n = n;
	for (i = 0; i < n; i++) {
		pair_open(&f->own[i], &f->peer[i], NULL);
		f->ears[i] = (struct ear){.on_message = note_order, .arg = f};
		ear_attach(&f->ears[i], f->loop, f->own[i]);
	}
	(void)turn_out(f->loop);
}

static void
fixture_close(struct fixture *f)
{
	unsigned int i;

	for (i = 0; i < f->n; i++) {
		ipc_channel_close(f->own[i]);
		ipc_channel_close(f->peer[i]);
	}
	ipc_loop_destroy(f->loop);
}

/* As many as there is room for. */
static unsigned int
flood(struct ipc_channel *channel)
{
	unsigned int n = 0;

	while (ipc_channel_post(channel, &small, 0) == 0)
		n++;
	(void)ipc_channel_flush(channel, 0);
	return n;
}

static void
a_flood_keeps_no_message_of_another_waiting(void **state)
{
	struct fixture *f = &fixture;
	unsigned int i, before;

	(void)state;
	fixture_open(f, 10, NULL);
	for (i = 1; i < 10; i++) {
		check(flood(f->peer[0]) > 0 || i > 1);
		before = f->ears[0].messages;
		f->run_max = 0;
		send_text(f->peer[i], "small");
		/* In the turn that takes it in. */
		check(ipc_loop_turn(f->loop, 0) > 0);
		check_equal(f->ears[i].messages, 1);
		check(f->ears[0].messages > before);
	}
	fixture_close(f);
}

static void
while_others_wait_a_share_is_the_most_at_a_time(void **state)
{
	struct fixture *f = &fixture;
	unsigned int i, turns;

	(void)state;
	fixture_open(f, 4, NULL);
	for (turns = 0; turns < 4; turns++) {
		for (i = 0; i < 4; i++)
			(void)flood(f->peer[i]);
		f->run_max = f->run = 0;
		f->latest = NULL;
		check(ipc_loop_turn(f->loop, 0) > 0);
		check(f->run_max <= IPC_LOOP_SHARE);
		for (i = 0; i < 4; i++)
			check(f->ears[i].messages >= (turns + 1) * IPC_LOOP_SHARE);
	}
	fixture_close(f);
}

static void
a_turn_gives_out_no_more_than_it_may(void **state)
{
	static const unsigned int numbers[] = {1, 2, 5, 40};
	struct fixture *f = &fixture;
	unsigned int i, k, turns;
	int r;

	(void)state;
	for (k = 0; k < 4; k++) {
		fixture_open(f, numbers[k], NULL);
		for (turns = 0; turns < 10; turns++) {
			for (i = 0; i < f->n; i++)
				(void)flood(f->peer[i]);
			r = ipc_loop_turn(f->loop, 0);
			check(r > 0);
			check(r <= (int)IPC_LOOP_TURN);
		}
		fixture_close(f);
	}
}

static void
a_flood_alone_is_given_more_than_a_share(void **state)
{
	struct fixture *f = &fixture;

	(void)state;
	fixture_open(f, 1, NULL);
	check(flood(f->peer[0]) > 2 * IPC_LOOP_SHARE);
	check(ipc_loop_turn(f->loop, 0) > (int)IPC_LOOP_SHARE);
	fixture_close(f);
}

static void
floods_are_given_the_same(void **state)
{
	struct fixture *f = &fixture;
	unsigned int i, turns, least = UINT32_MAX, most = 0;

	(void)state;
	/* More than have a share in one turn. */
	fixture_open(f, 40, NULL);
	for (turns = 0; turns < 30; turns++) {
		for (i = 0; i < 40; i++)
			(void)flood(f->peer[i]);
		check(ipc_loop_turn(f->loop, 0) > 0);
	}
	for (i = 0; i < 40; i++) {
		least = f->ears[i].messages < least ? f->ears[i].messages : least;
		most = f->ears[i].messages > most ? f->ears[i].messages : most;
	}
	check(least > 0);
	check(most - least <= 3 * IPC_LOOP_SHARE);
	fixture_close(f);
}

static void
count_timer(struct ipc_timer *timer, void *user)
{
	(void)timer;
	((struct fixture *)user)->others++;
}

static void
count_watch(struct ipc_watch *watch, unsigned int events, void *user)
{
	(void)watch;
	(void)events;
	((struct fixture *)user)->others++;
}

static void
floods_keep_no_timer_or_watch_waiting(void **state)
{
	struct fixture *f = &fixture;
	int fd = eventfd(1, EFD_CLOEXEC);
	struct ipc_watch *watch;
	unsigned int i, turns;

	(void)state;
	check(fd >= 0);
	fixture_open(f, 20, NULL);
	check_equal(ipc_watch_start(&watch, f->loop, fd, POLLIN, count_watch, f), 0);
	(void)ipc_loop_turn(f->loop, 0);
	for (turns = 0; turns < 10; turns++) {
		for (i = 0; i < 20; i++)
			(void)flood(f->peer[i]);
		check_equal(ipc_timer_start(NULL, f->loop, 0, 0, count_timer, f), 0);
		f->others = 0;
		check(ipc_loop_turn(f->loop, 0) > 2);
		check_equal(f->others, 2);
	}
	fixture_close(f);
	check_equal(close(fd), 0);
}

/* Each message is answered by another one. */
static void
bounce(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)ear;
	(void)message;
	check_equal(ipc_channel_send(channel, &small, 0), 0);
}

static void
ends_that_answer_each_other_for_ever_keep_no_turn_from_ending(void **state)
{
	struct ear ears[2] = {{.on_message = bounce}, {.on_message = bounce}};
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, NULL);
	ear_attach(&ears[0], loop, a);
	ear_attach(&ears[1], loop, b);
	for (i = 0; i < 10; i++)
		check_equal(ipc_channel_send(a, &small, 0), 0);
	/* It returns. */
	for (i = 0; i < 100; i++)
		check(ipc_loop_turn(loop, 1000) <= (int)IPC_LOOP_TURN);
	check(ears[0].messages >= 10);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
a_channel_that_gives_back_its_rest_is_not_served_twice(void **state)
{
	struct fixture *f = &fixture;
	unsigned int i, total = 0, sent = 0;

	(void)state;
	/* What a turn leaves for the next one is neither lost nor doubled. */
	fixture_open(f, 30, NULL);
	for (i = 0; i < 30; i++)
		sent += flood(f->peer[i]);
	for (;;) {
		(void)turn_out(f->loop);
		for (total = 0, i = 0; i < 30; i++) {
			(void)ipc_channel_flush(f->peer[i], 0);
			total += f->ears[i].messages;
		}
		if (total == sent)
			break;
		check(total < sent);
	}
	check_equal(turn_out(f->loop), 0);
	fixture_close(f);
}

/* Many channels, few buffers. */

struct sequence {
	uint64_t next_in, next_out;
};

static struct sequence sequences[CHANNELS_MAX];

static void
expect_next(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct sequence *sequence = ear->arg;

	(void)channel;
	check_equal(message->id, sequence->next_in);
	check(is_filled(message->data, message->size, message->id));
	sequence->next_in++;
}

static void
send_next(struct sequence *sequence, struct ipc_channel *channel, size_t size_max)
{
	static unsigned char payload[100000];
	struct ipc_message message = {.data = payload, .id = sequence->next_out};

	message.size = test_random_below(size_max);
	fill(payload, message.size, message.id);
	if (ipc_channel_send(channel, &message, 0) == 0)
		sequence->next_out++;
}

static unsigned int
still_to_come(const struct fixture *f)
{
	unsigned int n = 0, i;

	for (i = 0; i < f->n; i++)
		n += sequences[i].next_in < sequences[i].next_out;
	return n;
}

static void
many_channels(unsigned int buffers, unsigned int rounds, size_t size_max)
{
	struct fixture *f = &fixture;
	unsigned int i, round;

	memset(sequences, 0, sizeof(sequences));
	fixture_open(f, CHANNELS_MAX, LOOP_OPTIONS(.buffers = buffers));
	for (i = 0; i < CHANNELS_MAX; i++) {
		f->ears[i].on_message = expect_next;
		f->ears[i].arg = &sequences[i];
	}
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < CHANNELS_MAX; i++)
			if (test_random_below(4) || !round)
				send_next(&sequences[i], f->peer[i], size_max);
		if (round % 3 == 2)
			check(ipc_loop_turn(f->loop, 0) >= 0);
	}
	/* The last turn may have brought all of it. */
	while (still_to_come(f))
		check(ipc_loop_turn(f->loop, TEST_WAIT_MS) > 0);
	for (i = 0; i < CHANNELS_MAX; i++)
		check_equal(sequences[i].next_in, sequences[i].next_out);
	if (is_on_uring() && buffers == IPC_LOOP_BUFFERS_MIN)
		check(loop_stats_of(f->loop).starved > 0);
	if (!is_on_uring())
		check_equal(loop_stats_of(f->loop).starved, 0);
	fixture_close(f);
}

static void
many_channels_with_few_buffers_lose_nothing(void **state)
{
	(void)state;
	many_channels(IPC_LOOP_BUFFERS_MIN, test_count(60, 12), 200);
	many_channels(IPC_LOOP_BUFFERS_MIN, test_count(20, 6), 20000);
	many_channels(2 * IPC_LOOP_BUFFERS_MIN, test_count(10, 3), 100000);
}

static void
many_channels_with_many_buffers_lose_nothing(void **state)
{
	(void)state;
	many_channels(1024, test_count(60, 12), 2000);
}

/* Channels with much that waits take buffers only in their turn: one with little gets one, too. */
static void
with_few_buffers_endless_floods_keep_nobody_waiting_for_ever(void **state)
{
	struct fixture *f = &fixture;
	unsigned int i, k, turns, heard;

	(void)state;
	fixture_open(f, 20, LOOP_OPTIONS(.buffers = IPC_LOOP_BUFFERS_MIN));
	for (k = 1; k <= test_count(10, 2); k++) {
		for (i = 10; i < 20; i++)
			send_text(f->peer[i], "small");
		/* A socket's worth of each flood, a share at a time, goes before it. */
		for (turns = 0, heard = 0; heard < 10; turns++) {
			check(turns < 10 * 64);
			for (i = 0; i < 10; i++)
				(void)flood(f->peer[i]);
			check(ipc_loop_turn(f->loop, 0) >= 0);
			for (heard = 0, i = 10; i < 20; i++)
				heard += f->ears[i].messages == k;
		}
	}
	fixture_close(f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(a_flood_keeps_no_message_of_another_waiting),
		loop_test(while_others_wait_a_share_is_the_most_at_a_time),
		loop_test(a_turn_gives_out_no_more_than_it_may),
		loop_test(a_flood_alone_is_given_more_than_a_share),
		loop_test(floods_are_given_the_same),
		loop_test(floods_keep_no_timer_or_watch_waiting),
		loop_test(ends_that_answer_each_other_for_ever_keep_no_turn_from_ending),
		loop_test(a_channel_that_gives_back_its_rest_is_not_served_twice),
		loop_test(many_channels_with_few_buffers_lose_nothing),
		loop_test(many_channels_with_many_buffers_lose_nothing),
		loop_test(with_few_buffers_endless_floods_keep_nobody_waiting_for_ever),
	};

	return run_on_engines(tests);
}
