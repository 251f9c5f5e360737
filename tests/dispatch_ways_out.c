/* SPDX-License-Identifier: MIT */

/*
 * Every state of a place has a way out by time, whatever its worker says: each test is a line of
 * the list in places.h, in a world that stands still.
 */

#include <string.h>

#include "dispatch_world.h"
#include "support.h"

#define NS_PER_MS INT64_C(1000000)
#define HUNG_MS   40

static struct world world;

/* Tick as a timer would, until so many ms after the beginning. */
static void
pass(int64_t ms)
{
	int64_t end_ns = world.now_ns + (ms - world_ms(&world)) * NS_PER_MS, next_ns;

	while ((next_ns = ipci_dispatch_next_ns(&world.dispatch)) <= end_ns) {
		if (next_ns > world.now_ns)
			world.now_ns = next_ns;
		world_tick_now(&world);
	}
	world.now_ns = end_ns;
}

/* The same, and every ms worker 0 talks, and answers what nobody has asked it for. */
static void
pass_talking(int64_t ms)
{
	while (world_ms(&world) < ms) {
		speak(&world, 0);
		answer_with(&world, 0, test_random(), IPC_MESSAGE_MORE * (test_random() % 2), 0);
		pass(world_ms(&world) + 1);
	}
}

static void
begin(unsigned int workers, unsigned int depth)
{
	struct ipci_dispatch_options options = world_options(workers, depth);

	options.hung_ns = HUNG_MS * NS_PER_MS;
	world_begin_ready(&world, &options);
}

static void
a_full_channel_has_room_in_time_whatever_its_worker_says(void **state)
{
	struct asked a = {0};

	(void)state;
	begin(1, 4);
	pass(11);
	world.workers[0].send_result = -EAGAIN;
	ask_taken(&world, &a, -1, 0);
	expect_waiting(&a);
	pass_talking(11 + HUNG_MS - 1);
	check(!world.workers[0].is_killed);
	pass_talking(11 + HUNG_MS + HUNG_MS / 4 + 1);
	check(world.workers[0].is_killed);
	check_equal(world_stats(&world).hung, 1);
	/* Another takes it. */
	die(&world, 0);
	be_ready(&world, 1);
	expect_sent(&world, &a, 1);
	world_end(&world);
}

static void
one_that_has_room_again_and_one_that_answers_live(void **state)
{
	struct asked a[8] = {0}, waits = {0};
	unsigned int i;

	(void)state;
	begin(1, 16);
	for (i = 0; i < 8; i++)
		ask_taken(&world, &a[i], -1, 0);
	world.workers[0].send_result = -EAGAIN;
	ask_taken(&world, &waits, -1, 0);
	/* Whoever answers a request has read it. */
	for (i = 0; i < 8; i++) {
		pass(30 * (i + 1));
		answer(&world, &a[i]);
	}
	pass(270);
	check(!world.workers[0].is_killed);
	be_writable(&world, 0);
	expect_sent(&world, &waits, 0);
	pass(300);
	answer(&world, &waits);
	pass(1000);
	check(!world.workers[0].is_killed);
	world_end(&world);
}

static void
words_that_cannot_be_sent_do_not_make_a_full_channel_younger(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 16);
	struct asked a[16] = {0};
	unsigned int i;

	(void)state;
	options.hung_ns = HUNG_MS * NS_PER_MS;
	options.tell = true;
	world_begin_ready(&world, &options);
	for (i = 0; i < 16; i++)
		ask_taken(&world, &a[i], -1, 0);
	world.workers[0].send_result = -EAGAIN;
	for (i = 0; i < 16 && !world.workers[0].is_killed; i++) {
		check_equal(ipci_dispatch_cancel(&world.dispatch, a[i].name), 0);
		pass_talking(5 * (i + 1));
	}
	check(world.workers[0].is_killed);
	check(world_ms(&world) <= HUNG_MS + HUNG_MS / 4 + 5);
	world_end(&world);
}

static void
where_nobody_waits_and_nothing_can_be_given_only_an_answer_counts(void **state)
{
	struct asked late = {0}, held[2] = {0}, next = {0};

	(void)state;
	/* Owed since its time was over: it gets nothing. */
	begin(1, 4);
	ask_taken(&world, &late, 5, 0);
	pass_talking(5);
	expect_result(&late, -ETIMEDOUT);
	while (world_ms(&world) < 5 + HUNG_MS + HUNG_MS / 4 + 1) {
		answer_with(&world, 0, late.wire_id, IPC_MESSAGE_MORE, 0);
		pass_talking(world_ms(&world) + 1);
	}
	check(world.workers[0].is_killed);
	world_end(&world);

	/* Cancelled, and as many as it may have. */
	begin(1, 2);
	ask_taken(&world, &held[0], -1, 0);
	ask_taken(&world, &held[1], -1, 0);
	check_equal(ipci_dispatch_cancel(&world.dispatch, held[0].name), 0);
	pass_talking(100);
	check(!world.workers[0].is_killed);
	check_equal(ipci_dispatch_cancel(&world.dispatch, held[1].name), 0);
	pass_talking(100 + HUNG_MS - 11);
	check(!world.workers[0].is_killed);
	/* That is an answer. */
	answer(&world, &held[0]);
	pass_talking(200);
	check(!world.workers[0].is_killed);
	ask_taken(&world, &next, -1, 0);
	expect_sent(&world, &next, 0);
	pass_talking(300);
	check(!world.workers[0].is_killed);
	world_end(&world);
}

static void
one_that_shall_go_is_closed_when_nobody_waits_for_what_it_has(void **state)
{
	struct asked a[4] = {0};
	unsigned int i;

	(void)state;
	begin(2, 4);
	for (i = 0; i < 4; i++)
		ask_taken(&world, &a[i], i < 2 ? 20 : -1, 0);
	check_equal(ipci_dispatch_resize(&world.dispatch, 1), 0);
	/* Both of the one that leaves are given up by the user, one way or the other. */
	for (i = 2; i < 4; i++)
		if (a[i].worker == 0)
			check_equal(ipci_dispatch_cancel(&world.dispatch, a[i].name), 0);
	check(!world.workers[0].is_closed);
	pass_talking(20);
	check(world.workers[0].is_closed);
	pass_talking(20 + 49);
	check(!world.workers[0].is_killed);
	pass_talking(20 + 50);
	check(world.workers[0].is_killed);
	world_end(&world);
}

static void
one_that_is_killed_and_does_not_die_is_given_up(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a = {0}, waits = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	pass(100);
	ipci_dispatch_closed(&world.dispatch, world.workers[0].place);
	expect_result(&a, -EOWNERDEAD);
	ask_taken(&world, &waits, -1, 0);
	pass(150);
	check(world.workers[0].is_killed);
	pass(219);
	check(!world.workers[0].is_given_up);
	check_equal(world.n_workers, 1);
	pass(220);
	check(world.workers[0].is_given_up);
	check_equal(world_stats(&world).given_up, 1);
	check_equal(world.n_workers, 2);
	be_ready(&world, 1);
	expect_sent(&world, &waits, 1);
	world_end(&world);
}

static void
where_too_many_are_given_up_the_place_waits_as_long_again(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a = {0};

	(void)state;
	world_begin_ready(&world, &options);
	world.keeps_undying = true;
	ask_taken(&world, &a, -1, 0);
	ipci_dispatch_closed(&world.dispatch, world.workers[0].place);
	pass(200);
	check(world.workers[0].is_killed && !world.workers[0].is_given_up);
	world.keeps_undying = false;
	pass(259);
	check(!world.workers[0].is_given_up);
	pass(260);
	check(world.workers[0].is_given_up);
	world_end(&world);
}

static void
a_drain_gives_up_whoever_does_not_die(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 4);
	struct asked a = {0};

	(void)state;
	world_begin_ready(&world, &options);
	/* Also where others must not be. */
	world.keeps_undying = true;
	ask_taken(&world, &a, -1, 0);
	check_equal(ipci_dispatch_drain(&world.dispatch, 1000), 0);
	pass(10);
	answer(&world, &a);
	expect_result(&a, 0);
	die(&world, 1);
	pass(10 + 50 + 69);
	check_equal(world.n_drained, 0);
	pass(10 + 50 + 70);
	check_equal(world.n_drained, 1);
	check_equal(world.drained, -ETIMEDOUT);
	expect_next(&world, -1);
	world_end(&world);
}

static void
another_drain_can_only_shorten_the_time(void **state)
{
	struct asked a = {0};

	(void)state;
	begin(1, 4);
	ask_taken(&world, &a, -1, 0);
	check_equal(ipci_dispatch_drain(&world.dispatch, 30), 0);
	check_equal(ipci_dispatch_drain(&world.dispatch, 100), -EALREADY);
	check_equal(ipci_dispatch_drain(&world.dispatch, -1), -EALREADY);
	pass(10);
	check_equal(ipci_dispatch_drain(&world.dispatch, 10), -EALREADY);
	pass(19);
	expect_no_end(&a);
	pass(20);
	expect_result(&a, -ECANCELED);
	world_end(&world);
}

static void
one_that_leaves_gets_nothing_new_and_finishes_what_it_has(void **state)
{
	struct asked a[3] = {0}, next = {0};
	unsigned int i;

	(void)state;
	begin(1, 4);
	for (i = 0; i < 3; i++)
		ask_taken(&world, &a[i], -1, 0);
	pass(5);
	ipci_dispatch_leave(&world.dispatch, world.workers[0].place);
	ipci_dispatch_leave(&world.dispatch, world.workers[0].place);
	check_equal(world_stats(&world).left, 1);
	ask_taken(&world, &next, -1, 0);
	expect_waiting(&next);
	for (i = 0; i < 3; i++) {
		check(!world.workers[0].is_closed);
		answer(&world, &a[i]);
		expect_result(&a[i], 0);
	}
	check(world.workers[0].is_closed);
	/* Its place is not taken away, and it does not return. */
	check_equal(ipci_dispatch_resize(&world.dispatch, 2), 0);
	check_equal(world.n_workers, 2);
	pass(12);
	die(&world, 0);
	check_equal(world.dispatch.n_places, 2);
	check_equal(world.dispatch.places[0]->failures, 0);
	check_equal(world.n_workers, 3);
	world_end(&world);
}

static void
one_that_has_left_does_not_return_by_a_resize(void **state)
{
	struct asked a[2] = {0};
	unsigned int i;

	(void)state;
	begin(2, 4);
	for (i = 0; i < 2; i++)
		ask_taken(&world, &a[i], -1, 0);
	ipci_dispatch_leave(&world.dispatch, world.workers[1].place);
	/* It costs nothing to let it go. */
	check_equal(ipci_dispatch_resize(&world.dispatch, 1), 0);
	check(world.workers[1].place->is_leaving);
	check_equal(ipci_dispatch_resize(&world.dispatch, 2), 0);
	check_equal(world.n_workers, 3);
	check_equal(world.workers[1].place->state, IPC_POOL_STOPPING);
	world_end(&world);
}

static void
the_first_workers_are_waited_for_as_the_first_one_took(void **state)
{
	const struct ipci_dispatch_options options = world_options(3, 4);
	struct asked a[6] = {0};
	unsigned int i;

	(void)state;
	world_begin(&world, &options);
	for (i = 0; i < 6; i++)
		ask_taken(&world, &a[i], -1, 0);
	/* None is there: there is nothing to wait for. */
	expect_next(&world, -1);
	pass(5000);
	be_ready(&world, 1);
	check_equal(world_stats(&world).queued, 5);
	pass(14999);
	be_ready(&world, 0);
	check_equal(world_stats(&world).queued, 4);
	pass(15000);
	/* 10 s are enough: both have three. */
	check_equal(world_stats(&world).queued, 0);
	world_end(&world);

	world_begin(&world, &options);
	for (i = 0; i < 6; i++) {
		memset(&a[i], 0, sizeof(a[i]));
		ask_taken(&world, &a[i], -1, 0);
	}
	pass(300);
	be_ready(&world, 1);
	pass(1199);
	check_equal(world_stats(&world).queued, 5);
	pass(1200);
	check_equal(world_stats(&world).queued, 2);
	world_end(&world);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(a_full_channel_has_room_in_time_whatever_its_worker_says),
		channel_test(one_that_has_room_again_and_one_that_answers_live),
		channel_test(words_that_cannot_be_sent_do_not_make_a_full_channel_younger),
		channel_test(where_nobody_waits_and_nothing_can_be_given_only_an_answer_counts),
		channel_test(one_that_shall_go_is_closed_when_nobody_waits_for_what_it_has),
		channel_test(one_that_is_killed_and_does_not_die_is_given_up),
		channel_test(where_too_many_are_given_up_the_place_waits_as_long_again),
		channel_test(a_drain_gives_up_whoever_does_not_die),
		channel_test(another_drain_can_only_shorten_the_time),
		channel_test(one_that_leaves_gets_nothing_new_and_finishes_what_it_has),
		channel_test(one_that_has_left_does_not_return_by_a_resize),
		channel_test(the_first_workers_are_waited_for_as_the_first_one_took),
	};

	return run_group(tests);
}
