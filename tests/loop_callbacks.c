/* SPDX-License-Identifier: MIT */

/* A callback may do anything with any object. */

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_support.h"

/* Three pairs of which one end each is attached, and a descriptor that is ready. */
#define N 3

struct fixture {
	struct ipc_loop *loop;
	struct ipc_channel *own[N], *peer[N];
	struct ear ears[N];
	struct ipc_timer *timer;
	struct ipc_watch *watch;
	int eventfd;
	unsigned int others; /* callbacks of timers and watches */
};

static void
fixture_open(struct fixture *f, const struct ipc_loop_options *options)
{
	unsigned int i;

	memset(f, 0, sizeof(*f));
	f->loop = loop_open(options);
	f->eventfd = eventfd(1, EFD_CLOEXEC);
	check(f->eventfd >= 0);
	for (i = 0; i < N; i++) {
		pair_open(&f->own[i], &f->peer[i], OPTIONS(.fds_max = 1));
		f->ears[i].arg = f;
		ear_attach(&f->ears[i], f->loop, f->own[i]);
	}
	(void)turn_out(f->loop);
}

static void
fixture_close(struct fixture *f)
{
	unsigned int i;

	for (i = 0; i < N; i++) {
		ipc_channel_close(f->own[i]);
		ipc_channel_close(f->peer[i]);
	}
	ipc_loop_destroy(f->loop);
	check_equal(close(f->eventfd), 0);
}

/* Some messages on every channel. */
static void
send_to_all(struct fixture *f, unsigned int n)
{
	unsigned int i, k;

	for (i = 0; i < N; i++) {
		for (k = 0; k < n; k++)
			check_equal(
				ipc_channel_post(f->peer[i], &(struct ipc_message){.id = k + 1}, 0),
				0);
		check_equal(ipc_channel_flush(f->peer[i], 0), 0);
	}
}

/* What was not given out comes directly. */
static void
expect_rest(struct fixture *f, unsigned int i, unsigned int n)
{
	struct ipc_message message;
	unsigned int k;

	for (k = f->ears[i].messages; k < n; k++) {
		check_equal(ipc_channel_recv(f->own[i], &message, 0), 0);
		check_equal(message.id, k + 1);
	}
	expect_nothing(f->own[i]);
}

/* Destruction within each kind of callback. */

static void
destroy_in_message(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;

	(void)channel;
	if (message->id != 3)
		return;
	f->loop = ipc_loop_destroy(f->loop);
	/* The view lasts until this returns. */
	check_equal(message->id, 3);
}

static void
destroyed_within_message_nothing_is_lost(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, NULL);
	for (i = 0; i < N; i++)
		f.ears[i].on_message = destroy_in_message;
	send_to_all(&f, 10);
	while (f.loop)
		check(ipc_loop_turn(f.loop, 1000) >= 0);
	for (i = 0; i < N; i++)
		expect_rest(&f, i, 10);
	fixture_close(&f);
}

static void
destroyed_within_message_run_ends(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, NULL);
	f.ears[1].on_message = destroy_in_message;
	send_to_all(&f, 3);
	gather_text(f.own[0], "gathered");
	check_equal(ipc_loop_run(f.loop), 0);
	check(!f.loop);
	for (i = 0; i < N; i++)
		expect_rest(&f, i, 3);
	/* What was gathered stays so, if no turn has sent it. */
	check_equal(ipc_channel_flush(f.own[0], 0), 0);
	expect_text(f.peer[0], "gathered");
	fixture_close(&f);
}

static void
destroy_now(struct ear *ear, struct ipc_channel *channel)
{
	struct fixture *f = ear->arg;

	(void)channel;
	f->loop = ipc_loop_destroy(f->loop);
}

static void
destroyed_within_writable_nothing_is_lost(void **state)
{
	struct fixture f;
	unsigned int n;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_messages_max = 20));
	f.ears[0].on_writable = destroy_now;
	n = gather_until_full(f.own[0], 100);
	while (f.loop)
		check(ipc_loop_turn(f.loop, 1000) >= 0);
	check_equal(ipc_channel_flush(f.own[0], TEST_WAIT_MS), 0);
	expect_posted(f.peer[0], n, 100);
	expect_nothing(f.peer[0]);
	fixture_close(&f);
}

static void
destroyed_within_closed_nothing_is_lost(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	f.ears[1].on_closed = destroy_now;
	send_to_all(&f, 5);
	f.peer[1] = ipc_channel_close(f.peer[1]);
	while (f.loop)
		check(ipc_loop_turn(f.loop, 1000) >= 0);
	check_equal(f.ears[1].messages, 5);
	check_equal(f.ears[1].closeds, 1);
	expect_rest(&f, 0, 5);
	expect_rest(&f, 2, 5);
	fixture_close(&f);
}

static void
destroy_in_lost(struct ear *ear, struct ipc_channel *channel, const struct ipc_message *head)
{
	check_equal(head->id, 77);
	destroy_now(ear, channel);
}

static void
destroyed_within_lost_nothing_is_lost(void **state)
{
	int fd = STDERR_FILENO;
	struct ipc_message message = {.n_fds = 1, .fds = &fd, .id = 77};
	struct fixture f;

	(void)state;
	skip_without_descriptor_limit();
	fixture_open(&f, NULL);
	f.ears[0].on_lost = destroy_in_lost;
	check_equal(ipc_channel_send(f.peer[0], &message, 0), 0);
	send_text(f.peer[0], "after it");
	descriptors_limit(0);
	while (f.loop)
		check(ipc_loop_turn(f.loop, 1000) >= 0);
	descriptors_unlimit();
	expect_text(f.own[0], "after it");
	fixture_close(&f);
}

static void
destroy_in_timer(struct ipc_timer *timer, void *user)
{
	struct fixture *f = user;

	(void)timer;
	callback_enter();
	f->loop = ipc_loop_destroy(f->loop);
	callback_leave();
}

static void
count_timer(struct ipc_timer *timer, void *user)
{
	struct fixture *f = user;

	(void)timer;
	callback_enter();
	f->others++;
	callback_leave();
}

static void
destroyed_within_a_timer(void **state)
{
	struct fixture f;
	int period_ms;

	(void)state;
	for (period_ms = 0; period_ms < 2; period_ms++) {
		fixture_open(&f, NULL);
		check_equal(ipc_timer_start(NULL, f.loop, 1, period_ms, destroy_in_timer, &f), 0);
		/* Due at the same time, or never. */
		check_equal(ipc_timer_start(NULL, f.loop, 100000, 0, count_timer, &f), 0);
		check_equal(ipc_timer_start(NULL, f.loop, 2, 1, count_timer, &f), 0);
		sleep_ms(5);
		send_to_all(&f, 2);
		check_equal(ipc_loop_run(f.loop), 0);
		check(!f.loop);
		check_equal(f.others, 0);
		expect_rest(&f, 0, 2);
		fixture_close(&f);
	}
}

static void
destroy_in_watch(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct fixture *f = user;

	(void)watch;
	check(events & POLLIN);
	callback_enter();
	f->loop = ipc_loop_destroy(f->loop);
	callback_leave();
}

static void
count_watch(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct fixture *f = user;

	(void)watch;
	(void)events;
	callback_enter();
	f->others++;
	callback_leave();
}

static void
destroyed_within_a_watch(void **state)
{
	struct ipc_watch *other;
	struct fixture f;
	int second = eventfd(1, EFD_CLOEXEC);

	(void)state;
	check(second >= 0);
	fixture_open(&f, NULL);
	check_equal(ipc_watch_start(&f.watch, f.loop, f.eventfd, POLLIN, destroy_in_watch, &f), 0);
	check_equal(ipc_watch_start(&other, f.loop, second, POLLIN, count_watch, &f), 0);
	check_equal(ipc_timer_start(NULL, f.loop, 0, 0, count_timer, &f), 0);
	check_equal(ipc_loop_run(f.loop), 0);
	check(!f.loop);
	check(f.others <= 1);
	fixture_close(&f);
	check_equal(close(second), 0);
}

/* Turning within each. */

static void
turn_in_message(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	(void)message;
	check_equal(ipc_loop_turn(ear->loop, 0), -EBUSY);
	check_equal(ipc_loop_turn(ear->loop, -1), -EBUSY);
	check_equal(ipc_loop_run(ear->loop), -EBUSY);
}

static void
turn_in_event(struct ear *ear, struct ipc_channel *channel)
{
	turn_in_message(ear, channel, NULL);
}

static void
turn_in_timer(struct ipc_timer *timer, void *user)
{
	struct fixture *f = user;

	count_timer(timer, user);
	check_equal(ipc_loop_turn(f->loop, 0), -EBUSY);
	check_equal(ipc_loop_run(f->loop), -EBUSY);
}

static void
turn_in_watch(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct fixture *f = user;
	uint64_t value;

	count_watch(watch, events, user);
	check_equal(ipc_loop_turn(f->loop, 0), -EBUSY);
	check_equal(ipc_loop_run(f->loop), -EBUSY);
	check_equal(read(f->eventfd, &value, sizeof(value)), sizeof(value));
}

static void
a_turn_within_a_callback_is_refused(void **state)
{
	struct ipc_loop *other = loop_open(NULL);
	struct fixture f;
	unsigned int n;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_messages_max = 4));
	f.ears[0].on_message = turn_in_message;
	f.ears[0].on_writable = turn_in_event;
	f.ears[0].on_closed = turn_in_event;
	check_equal(ipc_watch_start(&f.watch, f.loop, f.eventfd, POLLIN, turn_in_watch, &f), 0);
	check_equal(ipc_timer_start(NULL, f.loop, 0, 0, turn_in_timer, &f), 0);
	n = gather_until_full(f.own[0], 10);
	send_to_all(&f, 2);
	turn_until(f.loop, f.ears[0].writables);
	expect_posted(f.peer[0], n, 10);
	f.peer[0] = ipc_channel_close(f.peer[0]);
	turn_until(f.loop, f.ears[0].closeds && f.others == 2);
	check_equal(f.ears[0].messages, 2);
	/* It is fine again afterwards. */
	check_equal(ipc_loop_turn(f.loop, 0), 0);
	check_equal(ipc_loop_turn(other, 0), 0);
	fixture_close(&f);
	ipc_loop_destroy(other);
}

static void
turn_the_other(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	(void)message;
	check_equal(ipc_loop_turn(ear->arg, 0), 0);
}

static void
another_loop_may_be_turned_within_a_callback(void **state)
{
	struct ipc_loop *other = loop_open(NULL);
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	f.ears[0].on_message = turn_the_other;
	f.ears[0].arg = other;
	send_to_all(&f, 2);
	turn_until(f.loop, f.ears[0].messages == 2);
	fixture_close(&f);
	ipc_loop_destroy(other);
}

/* Closing and detaching within message(). */

static void
close_itself(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;

	if (message->id != 2)
		return;
	f->own[ear - f->ears] = ipc_channel_close(channel);
}

static void
closed_within_its_message_no_more_comes(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	f.ears[1].on_message = close_itself;
	send_to_all(&f, 10);
	turn_until(f.loop, f.ears[0].messages == 10 && f.ears[2].messages == 10);
	(void)turn_out(f.loop);
	check_equal(f.ears[1].messages, 2);
	check_equal(f.ears[1].closeds, 0);
	expect_end(f.peer[1]);
	fixture_close(&f);
}

/* The first that is called closes the others. */
static void
close_others(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;
	unsigned int i;

	(void)message;
	for (i = 0; i < N; i++)
		if (f->own[i] != channel)
			f->own[i] = ipc_channel_close(f->own[i]);
}

static void
closed_within_anothers_message_no_more_comes(void **state)
{
	struct fixture f;
	unsigned int i, alive = 0;

	(void)state;
	fixture_open(&f, NULL);
	for (i = 0; i < N; i++)
		f.ears[i].on_message = close_others;
	send_to_all(&f, 10);
	turn_until(f.loop, f.ears[0].messages + f.ears[1].messages + f.ears[2].messages == 10);
	(void)turn_out(f.loop);
	for (i = 0; i < N; i++) {
		alive += f.own[i] != NULL;
		check_equal(f.ears[i].messages, f.own[i] ? 10 : 0);
		check_equal(f.ears[i].closeds, 0);
	}
	check_equal(alive, 1);
	fixture_close(&f);
}

/* The first that is called takes the others back and looks at what they have. */
static void
detach_others(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;
	struct ipc_message theirs;
	unsigned int i;

	check(is_filled(message->data, message->size, 9));
	if (ear->messages > 1)
		return;
	for (i = 0; i < N; i++) {
		if (f->own[i] == channel)
			continue;
		check_equal(ipc_loop_detach(f->loop, f->own[i]), 0);
		check_equal(ipc_channel_recv(f->own[i], &theirs, TEST_WAIT_MS), 0);
		check(is_filled(theirs.data, theirs.size, 9));
		f->ears[i].arg = NULL;
	}
	/* Its own view is not touched by that. */
	check(is_filled(message->data, message->size, 9));
}

static void
detached_within_anothers_message_what_it_had_stays_in_it(void **state)
{
	unsigned char payload[5000];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)}, rest;
	struct fixture f;
	unsigned int i, k;

	(void)state;
	fill(payload, sizeof(payload), 9);
	fixture_open(&f, NULL);
	for (i = 0; i < N; i++) {
		f.ears[i].on_message = detach_others;
		for (k = 0; k < 4; k++)
			check_equal(ipc_channel_post(f.peer[i], &message, 0), 0);
		check_equal(ipc_channel_flush(f.peer[i], 0), 0);
	}
	turn_until(f.loop, f.ears[0].messages + f.ears[1].messages + f.ears[2].messages == 4);
	for (i = 0; i < N; i++) {
		if (f.ears[i].arg)
			continue;
		for (k = 1; k < 4; k++) {
			check_equal(ipc_channel_recv(f.own[i], &rest, 0), 0);
			check(is_filled(rest.data, rest.size, 9));
		}
		expect_nothing(f.own[i]);
	}
	fixture_close(&f);
}

/* Go to another loop and come back, with every message. */
static void
change_loops(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct ipc_loop **loops = ear->arg;

	check_equal(message->id, ear->messages);
	check_equal(ipc_loop_detach(ear->loop, channel), 0);
	ear_attach(ear, loops[ear->loop == loops[0]], channel);
	/* Taken back does not mean given back: the view is still there. */
	check_equal(message->id, ear->messages);
}

static void
a_channel_may_change_loops_with_every_message(void **state)
{
	struct ipc_loop *loops[2] = {loop_open(NULL), NULL};
	struct ear ear = {.on_message = change_loops, .arg = loops};
	struct ipc_channel *own, *peer;
	unsigned int i;

	(void)state;
	check_equal(ipc_loop_create(&loops[1], NULL), 0);
	pair_open(&own, &peer, NULL);
	ear_attach(&ear, loops[0], own);
	for (i = 1; i <= 50; i++)
		check_equal(ipc_channel_post(peer, &(struct ipc_message){.id = i}, 0), 0);
	check_equal(ipc_channel_flush(peer, 0), 0);
	while (ear.messages < 50)
		check(ipc_loop_turn(ear.loop, 1000) >= 0);
	check_equal(ipc_loop_turn(loops[0], 0), 0);
	check_equal(ipc_loop_turn(loops[1], 0), 0);
	ipc_channel_close(own);
	ipc_channel_close(peer);
	ipc_loop_destroy(loops[0]);
	ipc_loop_destroy(loops[1]);
}

/* Each message makes a pair and a timer; the pair brings the next one. */
struct grower {
	struct ipc_channel *own[40], *peer[40];
	struct ear ears[40];
	unsigned int n, timers;
};

static void grow(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message);

static void
count_grown(struct ipc_timer *timer, void *user)
{
	struct grower *grower = user;

	(void)timer;
	grower->timers++;
}

static void
grow_one(struct grower *grower, struct ipc_loop *loop)
{
	unsigned int i = grower->n++;

	pair_open(&grower->own[i], &grower->peer[i], NULL);
	grower->ears[i] = (struct ear){.on_message = grow, .arg = grower};
	ear_attach(&grower->ears[i], loop, grower->own[i]);
	send_text(grower->peer[i], "next");
	check_equal(ipc_timer_start(NULL, loop, 0, 0, count_grown, grower), 0);
}

static void
grow(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct grower *grower = ear->arg;

	(void)channel;
	(void)message;
	if (grower->n < 40)
		grow_one(grower, ear->loop);
}

static void
channels_and_timers_may_be_added_within_message(void **state)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.buffers = 8));
	struct grower grower = {.n = 0};
	unsigned int i;

	(void)state;
	grow_one(&grower, loop);
	turn_until(loop, grower.n == 40 && grower.timers == 40 && grower.ears[39].messages);
	for (i = 0; i < 40; i++) {
		check_equal(grower.ears[i].messages, 1);
		ipc_channel_close(grower.own[i]);
		ipc_channel_close(grower.peer[i]);
	}
	ipc_loop_destroy(loop);
}

/* A new channel may have the address and the descriptor of one that was closed: nothing that was
   meant for that one comes to it. */
static void
replace(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;
	unsigned int i = (unsigned int)(ear - f->ears);

	check_equal(message->type, 1);
	ipc_channel_close(channel);
	ipc_channel_close(f->peer[i]);
	pair_open(&f->own[i], &f->peer[i], NULL);
	ear->on_message = NULL;
	ear_attach(ear, f->loop, f->own[i]);
}

static void
a_channel_in_a_closed_ones_place_gets_only_its_own(void **state)
{
	struct ipc_message old = {.type = 1};
	struct fixture f;
	unsigned int round, i, k;

	(void)state;
	fixture_open(&f, NULL);
	for (round = 0; round < 50; round++) {
		for (i = 0; i < N; i++) {
			f.ears[i].messages = 0;
			f.ears[i].on_message = replace;
			for (k = 0; k < 5; k++)
				check_equal(ipc_channel_send(f.peer[i], &old, 0), 0);
		}
		turn_until(f.loop, f.ears[0].messages && f.ears[1].messages && f.ears[2].messages);
		(void)turn_out(f.loop);
		for (i = 0; i < N; i++) {
			check_equal(f.ears[i].messages, 1);
			check_equal(f.ears[i].closeds, 0);
			send_text(f.peer[i], "new");
		}
		turn_until(f.loop, f.ears[0].messages == 2 && f.ears[1].messages == 2 &&
					   f.ears[2].messages == 2);
		for (i = 0; i < N; i++)
			check_equal(strcmp(f.ears[i].text, "new"), 0);
	}
	fixture_close(&f);
}

/* Everything at random: what the model says about each channel must hold. */
static void
act_at_random(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;
	unsigned int i = (unsigned int)test_random_below(N);

	(void)channel;
	(void)message;
	switch (test_random_below(6)) {
	case 0:
		(void)ipc_loop_detach(f->loop, f->own[i]);
		break;
	case 1:
		(void)ipc_loop_attach(f->loop, f->own[i], &ear_handler, &f->ears[i]);
		break;
	case 2:
		(void)ipc_channel_send(f->own[i], &(struct ipc_message){.id = 1}, 0);
		break;
	case 3:
		f->own[i] = ipc_channel_close(f->own[i]);
		f->peer[i] = ipc_channel_close(f->peer[i]);
		pair_open(&f->own[i], &f->peer[i], NULL);
		f->ears[i].closeds = 0;
		(void)ipc_loop_attach(f->loop, f->own[i], &ear_handler, &f->ears[i]);
		break;
	case 4:
		(void)ipc_timer_start(NULL, f->loop, (int)test_random_below(3), 0, count_timer, f);
		break;
	default:
		f->watch = ipc_watch_stop(f->watch);
		break;
	}
}

static void
anything_may_be_done_at_any_time(void **state)
{
	unsigned int rounds = test_count(20000, 2000), round, i;
	struct ipc_message message;
	struct fixture f;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.buffers = 8));
	for (i = 0; i < N; i++)
		f.ears[i].on_message = act_at_random;
	for (round = 0; round < rounds; round++) {
		i = (unsigned int)test_random_below(N);
		(void)ipc_channel_send(f.peer[i], &(struct ipc_message){.id = 2}, 0);
		while (ipc_channel_recv(f.peer[i], &message, 0) == 0)
			;
		if (!f.watch)
			check_equal(ipc_watch_start(
					    &f.watch, f.loop, f.eventfd, POLLIN, count_watch, &f),
				0);
		/* Those that are not attached get theirs directly. */
		(void)ipc_channel_recv(f.own[i], &message, 0);
		if (round % 3 == 0)
			check(ipc_loop_turn(f.loop, 0) >= 0);
	}
	check(f.others > 0);
	fixture_close(&f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(destroyed_within_message_nothing_is_lost),
		loop_test(destroyed_within_message_run_ends),
		loop_test(destroyed_within_writable_nothing_is_lost),
		loop_test(destroyed_within_closed_nothing_is_lost),
		loop_test(destroyed_within_lost_nothing_is_lost),
		loop_test(destroyed_within_a_timer),
		loop_test(destroyed_within_a_watch),
		loop_test(a_turn_within_a_callback_is_refused),
		loop_test(another_loop_may_be_turned_within_a_callback),
		loop_test(closed_within_its_message_no_more_comes),
		loop_test(closed_within_anothers_message_no_more_comes),
		loop_test(detached_within_anothers_message_what_it_had_stays_in_it),
		loop_test(a_channel_may_change_loops_with_every_message),
		loop_test(channels_and_timers_may_be_added_within_message),
		loop_test(a_channel_in_a_closed_ones_place_gets_only_its_own),
		loop_test(anything_may_be_done_at_any_time),
	};

	return run_on_engines(tests);
}
