/* SPDX-License-Identifier: MIT */

/*
 * A loop's descriptor as a property: after each of many random calls that are made outside of a
 * turn, and after whatever the peers did, it is readable if, and only if, a turn has work.
 *
 * Work is a callback, and, of what needs none: a packet that is sent or taken in (a hello, a part
 * of a large message), and the first look at what was done outside of turns: a channel attached, a
 * message gathered for a socket that may be full, a call to stop.
 */

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <libipc/worker.h>

#include "loop_support.h"

#define CHANNELS 6
#define WATCHES  4
#define TIMERS   4
#define WORKERS  2

/* Turns after which there is nothing left to do, whatever was done before. */
#define TURNS_MAX 100000

struct place {
	struct ipc_channel *own, *peer;
	bool attached;
};

static struct world {
	struct ipc_loop *loop;
	int fd;
	struct place places[CHANNELS];
	struct {
		int fd;
		struct ipc_watch *watch;
	} watches[WATCHES];
	struct ipc_timer *timers[TIMERS];
	struct ipc_worker *workers[WORKERS];
	bool worker_attached[WORKERS];
	unsigned int callbacks;
	bool moved;  /* the last turn sent packets or took some in */
	bool is_new; /* what a turn is to look at, and may find to be nothing */
} world;

/* In callbacks nothing is done but what ends the reason. */

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	(void)user;
	world.callbacks++;
}

static void
on_room(struct ipc_channel *channel, void *user)
{
	(void)channel;
	(void)user;
	world.callbacks++;
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct place *place = user;

	(void)channel;
	check_equal(reason, 0);
	world.callbacks++;
	place->attached = false;
}

static const struct ipc_channel_handler handler = {
	.message = on_message,
	.writable = on_room,
	.closed = on_closed,
};

static void
on_watch(struct ipc_watch *watch, unsigned int events, void *user)
{
	uint64_t count;
	int *fd = user;

	(void)watch;
	world.callbacks++;
	check(events & POLLIN);
	check_equal(read(*fd, &count, sizeof(count)), (int)sizeof(count));
}

static void
on_timer(struct ipc_timer *timer, void *user)
{
	struct ipc_timer **place = user;

	check(*place == timer);
	world.callbacks++;
	*place = NULL;
}

static void
on_worker_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	(void)user;
	world.callbacks++;
}

static void
on_worker_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	(void)worker;
	(void)end;
	world.callbacks++;
	*(bool *)user = false;
}

static const struct ipc_worker_handler worker_handler = {
	.channel = {.message = on_worker_message},
	.died = on_worker_died,
};

static int
work(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;

	(void)arg;
	while (ipc_channel_recv(channel, &message, -1) == 0)
		(void)ipc_channel_send(channel, &message, -1);
	return 0;
}

/* What can be done outside of a turn. */

static struct place *
any_place(void)
{
	return &world.places[test_random_below(CHANNELS)];
}

static void
open_place(struct place *place)
{
	static const struct ipc_channel_options kinds[] = {
		{.size = sizeof(struct ipc_channel_options)},
		{.size = sizeof(struct ipc_channel_options), .fds_max = 4},
		{.size = sizeof(struct ipc_channel_options), .record_max = 1U << 20},
	};

	place->attached = false;
	pair_open(&place->own, &place->peer, &kinds[test_random_below(3)]);
}

static void
close_place(struct place *place)
{
	place->own = ipc_channel_close(place->own);
	if (test_random_below(2))
		(void)ipc_channel_flush(place->peer, 0);
	place->peer = ipc_channel_close(place->peer);
	open_place(place);
}

static void
attach_place(struct place *place)
{
	int r = ipc_loop_attach(world.loop, place->own, &handler, place);

	check_equal(r, place->attached ? -EBUSY : 0);
	world.is_new |= r == 0;
	place->attached = true;
}

static void
detach_place(struct place *place)
{
	check_equal(ipc_loop_detach(world.loop, place->own), place->attached ? 0 : -ENOENT);
	place->attached = false;
}

static void
peer_sends(struct place *place)
{
	static const size_t sizes[] = {1, 100, 3000, 70000, 400000};
	static unsigned char payload[400000];
	const struct ipc_message message = {.data = payload, .size = sizes[test_random_below(5)]};
	unsigned int n = 1 + (unsigned int)test_random_below(4);

	while (n-- && ipc_channel_post(place->peer, &message, 0) == 0)
		;
	(void)ipc_channel_flush(place->peer, 0);
}

static void
own_sends(struct place *place)
{
	static unsigned char payload[20000];
	const struct ipc_message message = {
		.data = payload, .size = test_random_below(sizeof(payload))};

	(void)ipc_channel_send(place->own, &message, 0);
	world.is_new |= place->attached;
}

/* To be able to send again. */
static void
peer_receives(struct place *place)
{
	struct ipc_message message;

	while (ipc_channel_recv(place->peer, &message, 0) == 0)
		;
}

static void
start_or_stop_watch(void)
{
	size_t i = test_random_below(WATCHES);

	if (world.watches[i].watch)
		world.watches[i].watch = ipc_watch_stop(world.watches[i].watch);
	else
		check_equal(ipc_watch_start(&world.watches[i].watch, world.loop,
				    world.watches[i].fd, POLLIN, on_watch, &world.watches[i].fd),
			0);
}

static void
raise_watched(void)
{
	const uint64_t one = 1;

	check_equal(write(world.watches[test_random_below(WATCHES)].fd, &one, sizeof(one)),
		(int)sizeof(one));
}

/* A timer is due now or not while this test runs: what is between depends on who looks when. */
static void
start_or_stop_timer(void)
{
	struct ipc_timer **timer = &world.timers[test_random_below(TIMERS)];

	if (*timer)
		*timer = ipc_timer_stop(*timer);
	else
		check_equal(ipc_timer_start(timer, world.loop, test_random_below(2) ? 0 : 1000000,
				    0, on_timer, timer),
			0);
}

static void
change_worker(void)
{
	static const struct ipc_worker_options options = {.size = sizeof(options), .run = work};
	size_t i = test_random_below(WORKERS);
	int r;

	if (!world.workers[i]) {
		check_equal(ipc_worker_spawn(&world.workers[i], &options), 0);
		check_equal(ipc_worker_attach(world.loop, world.workers[i], &worker_handler,
				    &world.worker_attached[i]),
			0);
		world.worker_attached[i] = world.is_new = true;
		return;
	}
	if (test_random_below(3) == 0) {
		r = ipc_worker_detach(world.loop, world.workers[i]);
		check_equal(r, world.worker_attached[i] ? 0 : -ENOENT);
	}
	world.workers[i] = ipc_worker_free(world.workers[i]);
	world.worker_attached[i] = false;
}

static void
do_anything(void)
{
	switch (test_random_below(24)) {
	case 0:
		close_place(any_place());
		break;
	case 1:
	case 2:
	case 3:
		attach_place(any_place());
		break;
	case 4:
		detach_place(any_place());
		break;
	case 5:
	case 6:
	case 7:
		peer_sends(any_place());
		break;
	case 8:
	case 9:
		own_sends(any_place());
		break;
	case 10:
	case 11:
		peer_receives(any_place());
		break;
	case 12:
	case 13:
		start_or_stop_watch();
		break;
	case 14:
	case 15:
		raise_watched();
		break;
	case 16:
	case 17:
	case 18:
		start_or_stop_timer();
		break;
	case 19:
		ipc_loop_stop(world.loop);
		world.is_new = true;
		break;
	case 20:
		if (test_random_below(8) == 0)
			change_worker();
		break;
	case 21:
		(void)ipc_channel_flush(any_place()->own, 0);
		break;
	case 22:
		check_equal(ipc_loop_fd(world.loop), world.fd);
		break;
	}
}

/* Packets that the loop has sent and taken in; what a peer cannot be the reason of. */
static uint64_t
packets(void)
{
	uint64_t n = 0;
	struct ipc_channel_stats stats;
	unsigned int i;

	for (i = 0; i < CHANNELS; i++) {
		stats = stats_of(world.places[i].own);
		n += stats.out.records + stats.in.records;
	}
	for (i = 0; i < WORKERS; i++) {
		if (!world.workers[i])
			continue;
		stats = stats_of(ipc_worker_channel(world.workers[i]));
		n += stats.out.records + stats.in.records;
	}
	return n;
}

/*
 * Compare what the descriptor says with what a turn does.
 *
 * A worker is another process and may send or die between the two looks. The end of a turn on
 * io_uring may have taken in packets for the next one already: what moved them counts for both.
 */
static bool
compare(void)
{
	uint64_t before = packets();
	bool moved = world.moved;
	unsigned int callbacks = world.callbacks;
	bool was_readable = is_readable(world.fd), is_new = world.is_new, lives = false, did;
	unsigned int i;
	int r;

	for (i = 0; i < WORKERS; i++)
		lives |= world.worker_attached[i];
	world.is_new = false;
	r = ipc_loop_turn(world.loop, 0);
	check(r >= 0);
	world.moved = packets() != before;
	did = r > 0 || world.callbacks != callbacks;
	if (!was_readable)
		check(!did || lives);
	else
		check(did || is_new || lives || moved || world.moved);
	return was_readable || did;
}

static void
world_open(void)
{
	unsigned int i;

	memset(&world, 0, sizeof(world));
	world.loop = loop_open(LOOP_OPTIONS(.spin_us = -1, .buffers = IPC_LOOP_BUFFERS_MIN));
	for (i = 0; i < CHANNELS; i++)
		open_place(&world.places[i]);
	for (i = 0; i < WATCHES; i++) {
		world.watches[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		check(world.watches[i].fd >= 0);
	}
	world.fd = ipc_loop_fd(world.loop);
	check(world.fd >= 0);
}

static void
world_close(void)
{
	unsigned int i;

	for (i = 0; i < WORKERS; i++)
		world.workers[i] = ipc_worker_free(world.workers[i]);
	for (i = 0; i < CHANNELS; i++) {
		ipc_channel_close(world.places[i].own);
		ipc_channel_close(world.places[i].peer);
	}
	ipc_loop_destroy(world.loop);
	for (i = 0; i < WATCHES; i++)
		check_equal(close(world.watches[i].fd), 0);
}

static void
the_descriptor_is_readable_when_and_only_when_a_turn_has_work(void **state)
{
	unsigned int round, step, turns, calls;

	(void)state;
	for (round = 0; round < test_count(20, 5); round++) {
		world_open();
		for (step = 0; step < test_count(600, 200); step++) {
			for (calls = 1 + (unsigned int)test_random_below(4); calls; calls--)
				do_anything();
			if (test_random_below(3))
				(void)compare();
		}
		/* It does not stay readable for nothing. */
		for (turns = 0; compare(); turns++)
			check(turns < TURNS_MAX);
		world_close();
	}
}

/* The same, of each call alone: with a message that has come, and with none. */

static void
expect_told(void (*call)(void), bool with_message)
{
	struct pollfd entry = {.events = POLLIN};

	world_open();
	entry.fd = world.fd;
	attach_place(&world.places[0]);
	attach_place(&world.places[1]);
	check_equal(ipc_watch_start(&world.watches[0].watch, world.loop, world.watches[0].fd,
			    POLLIN, on_watch, &world.watches[0].fd),
		0);
	check_equal(ipc_timer_start(
			    &world.timers[0], world.loop, 1000000, 0, on_timer, &world.timers[0]),
		0);
	while (compare())
		;
	if (with_message)
		send_text(world.places[1].peer, "text");
	call();
	if (with_message) {
		check_equal(poll(&entry, 1, TEST_WAIT_MS), 1);
		check_equal(ipc_loop_turn(world.loop, 0), 1);
	}
	while (compare())
		;
	/* Nor is it deaf. */
	send_text(world.places[1].peer, "text");
	check_equal(poll(&entry, 1, TEST_WAIT_MS), 1);
	check_equal(ipc_loop_turn(world.loop, 0), 1);
	world_close();
}

static void
call_close(void)
{
	close_place(&world.places[0]);
}

static void
call_detach(void)
{
	detach_place(&world.places[0]);
}

static void
call_attach(void)
{
	attach_place(&world.places[2]);
}

static void
call_watch_stop(void)
{
	world.watches[0].watch = ipc_watch_stop(world.watches[0].watch);
}

static void
call_watch_start(void)
{
	check_equal(ipc_watch_start(&world.watches[1].watch, world.loop, world.watches[1].fd,
			    POLLIN, on_watch, &world.watches[1].fd),
		0);
}

static void
call_timer_stop(void)
{
	world.timers[0] = ipc_timer_stop(world.timers[0]);
}

static void
call_timer_start(void)
{
	check_equal(ipc_timer_start(
			    &world.timers[1], world.loop, 1000000, 0, on_timer, &world.timers[1]),
		0);
}

static void
call_send(void)
{
	own_sends(&world.places[0]);
}

static void
call_send_and_detach(void)
{
	own_sends(&world.places[0]);
	detach_place(&world.places[0]);
}

static void
call_due_timer_and_stop_it(void)
{
	struct ipc_timer *timer;

	check_equal(ipc_timer_start(&timer, world.loop, 0, 0, on_timer, &timer), 0);
	ipc_timer_stop(timer);
}

static void
each_call_outside_of_a_turn_leaves_it_true(void **state)
{
	static void (*const calls[])(void) = {call_close, call_detach, call_attach, call_watch_stop,
		call_watch_start, call_timer_stop, call_timer_start, call_send,
		call_send_and_detach, call_due_timer_and_stop_it};
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		expect_told(calls[i], true);
		expect_told(calls[i], false);
	}
}

static void
taking_a_worker_away_leaves_it_true(void **state)
{
	static const struct ipc_worker_options options = {.size = sizeof(options), .run = work};
	struct pollfd entry = {.events = POLLIN};
	struct ipc_worker *worker;
	bool attached = true;
	unsigned int round;

	(void)state;
	for (round = 0; round < 4; round++) {
		world_open();
		entry.fd = world.fd;
		attach_place(&world.places[0]);
		check_equal(ipc_worker_spawn(&worker, &options), 0);
		check_equal(ipc_worker_attach(world.loop, worker, &worker_handler, &attached), 0);
		/* Its hello comes some time. */
		while (poll(&entry, 1, 100))
			check_equal(ipc_loop_turn(world.loop, 0), 0);
		send_text(world.places[0].peer, "text");
		if (round % 2)
			check_equal(ipc_worker_detach(world.loop, worker), 0);
		if (round / 2)
			check_equal(ipc_worker_stop(worker, 1000, NULL), 0);
		else
			worker = ipc_worker_free(worker);
		check_equal(poll(&entry, 1, TEST_WAIT_MS), 1);
		check_equal(ipc_loop_turn(world.loop, 0), 1);
		ipc_worker_free(worker);
		world_close();
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(each_call_outside_of_a_turn_leaves_it_true),
		loop_test(taking_a_worker_away_leaves_it_true),
		loop_test(the_descriptor_is_readable_when_and_only_when_a_turn_has_work),
	};

	return run_on_engines(tests);
}
