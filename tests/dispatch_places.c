/* SPDX-License-Identifier: MIT */

/*
 * Workers of a dispatch: when they are started, what they get, when they are closed and killed.
 * Each test is a sentence of pool.h or dispatch.h, in a world that stands still.
 */

#include <string.h>

#include "dispatch_world.h"
#include "support.h"

#define NS_PER_MS INT64_C(1000000)

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

static void
a_worker_gets_no_request_before_it_has_opened_its_end(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 2);
	struct asked a = {0}, b = {0};

	(void)state;
	world_begin(&world, &options);
	check_equal(world_stats(&world).ready, 0);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &b, -1, 0);
	expect_waiting(&a);
	be_writable(&world, 0);
	expect_waiting(&a);
	/* One that crashes at its start costs none. */
	die(&world, 0);
	expect_waiting(&a);
	be_ready(&world, 1);
	check_equal(a.worker, 1);
	expect_sent(&world, &b, 1);
	check_equal(world_stats(&world).ready, 1);
	world_end(&world);
}

static void
at_first_each_worker_has_one_until_all_are_there(void **state)
{
	const struct ipci_dispatch_options options = world_options(3, 4);
	struct asked a[8] = {0};
	unsigned int i;

	(void)state;
	world_begin(&world, &options);
	for (i = 0; i < 6; i++)
		ask_taken(&world, &a[i], -1, 0);
	be_ready(&world, 1);
	expect_sent(&world, &a[0], 1);
	check_equal(world_stats(&world).queued, 5);
	be_ready(&world, 0);
	expect_sent(&world, &a[1], 0);
	check_equal(world_stats(&world).queued, 4);
	answer(&world, &a[0]);
	expect_sent(&world, &a[2], 1);
	be_ready(&world, 2);
	check_equal(world_stats(&world).queued, 0);
	/* Others are started later: they are not waited for. */
	check_equal(ipci_dispatch_resize(&world.dispatch, 4), 0);
	ask_taken(&world, &a[6], -1, 0);
	ask_taken(&world, &a[7], -1, 0);
	check_equal(world_stats(&world).queued, 0);
	world_end(&world);
}

static void
those_that_are_not_there_in_time_are_not_waited_for(void **state)
{
	const struct ipci_dispatch_options options = world_options(2, 4);
	struct asked a[6] = {0};
	unsigned int i;

	(void)state;
	world_begin(&world, &options);
	for (i = 0; i < 3; i++)
		ask_taken(&world, &a[i], -1, 0);
	be_ready(&world, 0);
	check_equal(world_stats(&world).queued, 2);
	expect_next(&world, 100);
	world_tick(&world, 99);
	check_equal(world_stats(&world).queued, 2);
	world_tick(&world, 100);
	check_equal(world_stats(&world).queued, 0);
	/* One that has died is not there either, for a while. */
	world_end(&world);
	world_begin(&world, &options);
	for (i = 0; i < 3; i++)
		ask_taken(&world, &a[i + 3], -1, 0);
	be_ready(&world, 0);
	check_equal(world_stats(&world).queued, 2);
	die(&world, 1);
	check_equal(world_stats(&world).queued, 0);
	world_end(&world);
}

static void
those_that_workers_will_have_which_are_being_started_do_not_fill_the_queue(void **state)
{
	struct ipci_dispatch_options options = world_options(3, 2);
	struct asked a[12] = {0};
	unsigned int i;

	(void)state;
	options.queue_max = 4;
	options.restart_min_ns = options.restart_max_ns = INT64_C(1000000000);
	world_begin(&world, &options);
	for (i = 0; i < 10; i++)
		ask_taken(&world, &a[i], -1, 0);
	check_equal(ask(&world, &a[10], -1, 0), -EAGAIN);
	world_tick(&world, 10);
	be_ready(&world, 0);
	world_tick(&world, 100);
	check_equal(world_stats(&world).queued, 8);
	check_equal(ask(&world, &a[10], -1, 0), -EAGAIN);
	/* One that has failed to start lets nobody wait for it. */
	die(&world, 1);
	answer(&world, &a[0]);
	answer(&world, &a[1]);
	check_equal(world_stats(&world).queued, 6);
	check_equal(ask(&world, &a[10], -1, 0), -EAGAIN);
	answer(&world, &a[2]);
	ask_taken(&world, &a[10], -1, 0);
	check_equal(ask(&world, &a[11], -1, 0), -EAGAIN);
	be_ready(&world, 2);
	check_equal(world_stats(&world).queued, 4);
	check_equal(ask(&world, &a[11], -1, 0), -EAGAIN);
	check_equal(world.writables, 0);
	answer(&world, &a[3]);
	answer(&world, &a[4]);
	check_equal(world.writables, 1);
	world_end(&world);
}

static void
a_start_that_fails_at_first_is_said(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 2);

	(void)state;
	memset(&world, 0, sizeof(world));
	world.start_result = -EMFILE;
	check_equal(world_try(&world, &options), -EMFILE);
	world_end(&world);
}

static void
the_next_start_comes_ever_later_and_at_most_restart_max_later(void **state)
{
	static const int64_t delays_ms[] = {20, 40, 80, 100, 100, 100};
	struct ipci_dispatch_options options = world_options(1, 2);
	int64_t ms = 0;
	unsigned int i;

	(void)state;
	options.starts_max = 100;
	world_begin(&world, &options);
	for (i = 0; i < sizeof(delays_ms) / sizeof(delays_ms[0]); i++) {
		pass(ms + 5);
		die(&world, i);
		check_equal(world.dispatch.places[0]->failures, i + 1);
		ms += delays_ms[i];
		pass(ms - 1);
		check_equal(world.n_workers, i + 1);
		pass(ms);
		check_equal(world.n_workers, i + 2);
	}
	check_equal(world_stats(&world).starts, 7);
	check_equal(world_stats(&world).restarts, 6);
	world_end(&world);
}

static void
a_start_that_is_refused_counts_as_one_that_failed(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);

	(void)state;
	world_begin(&world, &options);
	pass(3);
	die(&world, 0);
	world.start_result = -EAGAIN;
	pass(20);
	expect_next(&world, 20 + 40);
	pass(60);
	expect_next(&world, 60 + 80);
	world.start_result = 0;
	pass(140);
	check_equal(world.n_workers, 2);
	check_equal(world_stats(&world).starts, 2);
	world_end(&world);
}

static void
one_that_has_lived_for_a_while_is_replaced_at_once(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0};

	(void)state;
	world_begin_ready(&world, &options);
	pass(5);
	die(&world, 0);
	pass(20);
	be_ready(&world, 1);
	ask_taken(&world, &a, -1, 0);
	answer(&world, &a);
	check_equal(world.dispatch.places[0]->failures, 0);
	/* Not even after a failure: it has ended a request. */
	pass(25);
	die(&world, 1);
	check_equal(world.n_workers, 2);
	expect_next(&world, 30);
	pass(30);
	be_ready(&world, 2);
	memset(&a, 0, sizeof(a));
	ask_taken(&world, &a, -1, 0);
	answer(&world, &a);
	pass(500);
	die(&world, 2);
	check_equal(world.n_workers, 4);
	/* One that has ended none has not proved itself, however long it was there. */
	be_ready(&world, 3);
	pass(505);
	die(&world, 3);
	expect_next(&world, 520);
	world_end(&world);
}

static void
when_no_worker_can_be_started_those_that_wait_end(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 1);
	struct asked a[3] = {0}, late = {0}, healed = {0};
	unsigned int i;

	(void)state;
	options.starts_max = 2;
	world_begin(&world, &options);
	for (i = 0; i < 3; i++)
		ask_taken(&world, &a[i], -1, 3);
	die(&world, 0);
	pass(5);
	die(&world, 1);
	pass(20);
	check_equal(world.n_workers, 4);
	die(&world, 2);
	expect_waiting(&a[0]);
	/* A start that is under way has not failed. */
	pass(60);
	check_equal(world.n_workers, 5);
	expect_waiting(&a[0]);
	die(&world, 3);
	pass(100);
	for (i = 0; i < 3; i++) {
		expect_result(&a[i], -EOWNERDEAD);
		check_equal(a[i].order, i + 1);
	}
	check_equal(ask(&world, &late, -1, 0), -EOWNERDEAD);
	/* Until a start succeeds. */
	be_ready(&world, world.n_workers - 1);
	ask_taken(&world, &healed, -1, 0);
	expect_sent(&world, &healed, world.n_workers - 1);
	check_equal(world_stats(&world).died, 3);
	check_equal(world_stats(&world).queued, 0);
	world_end(&world);
}

static void
starts_that_are_refused_are_in_vain_too(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0};

	(void)state;
	options.starts_max = 3;
	world_begin(&world, &options);
	ask_taken(&world, &a, -1, 0);
	world.start_result = -EAGAIN;
	die(&world, 0);
	pass(20);
	expect_waiting(&a);
	pass(60);
	expect_result(&a, -EOWNERDEAD);
	world_end(&world);
}

static void
one_worker_that_lives_keeps_hope_for_all(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 1);
	struct asked a = {0}, waits = {0};
	unsigned int i;

	(void)state;
	options.starts_max = 1;
	world_begin(&world, &options);
	be_ready(&world, 1);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &waits, -1, 0);
	die(&world, 0);
	for (i = 2; i < 6; i++) {
		pass(200 * i);
		die(&world, i);
	}
	expect_waiting(&waits);
	answer(&world, &a);
	expect_sent(&world, &waits, 1);
	world_end(&world);
}

static void
a_silent_worker_is_killed_within_a_quarter_more(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0};
	int64_t asked_ms, spoke_ms;

	(void)state;
	options.hung_ns = 40 * NS_PER_MS;
	for (asked_ms = 11; asked_ms < 31; asked_ms += 3) {
		memset(&a, 0, sizeof(a));
		world_begin_ready(&world, &options);
		pass(asked_ms);
		ask_taken(&world, &a, -1, 0);
		spoke_ms = asked_ms + 33;
		pass(spoke_ms);
		speak(&world, 0);
		pass(spoke_ms + 39);
		check(!world.workers[0].is_killed);
		pass(spoke_ms + 50);
		check(world.workers[0].is_killed);
		/* Its request ends as by any death. */
		expect_no_end(&a);
		die(&world, 0);
		expect_result(&a, -EOWNERDEAD);
		check_equal(world_stats(&world).hung, 1);
		world_end(&world);
	}
}

static void
an_answer_breaks_the_silence_and_a_stray_does_not(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a = {0}, b = {0};

	(void)state;
	options.hung_ns = 40 * NS_PER_MS;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &b, -1, 0);
	pass(30);
	answer_with(&world, 0, b.wire_id, IPC_MESSAGE_MORE, 0);
	pass(60);
	answer(&world, &a);
	pass(90);
	answer_with(&world, 0, 12345, 0, 0);
	answer_with(&world, 0, a.wire_id, 0, 0);
	pass(99);
	check(!world.workers[0].is_killed);
	pass(110);
	check(world.workers[0].is_killed);
	world_end(&world);
}

static void
a_worker_without_requests_may_be_silent(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 2);
	struct asked a = {0};

	(void)state;
	options.hung_ns = 40 * NS_PER_MS;
	world_begin_ready(&world, &options);
	pass(1000);
	check(!world.workers[0].is_killed && !world.workers[1].is_killed);
	/* Nobody is waited for: no timer is needed. */
	expect_next(&world, -1);
	ask_taken(&world, &a, -1, 0);
	pass(1030);
	answer(&world, &a);
	pass(2000);
	check(!world.workers[0].is_killed && !world.workers[1].is_killed);
	world_end(&world);
}

static void
a_worker_that_owes_an_answer_may_not_be_silent_for_ever(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0};

	(void)state;
	options.hung_ns = 40 * NS_PER_MS;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, 5, 0);
	pass(50);
	expect_result(&a, -ETIMEDOUT);
	check(world.workers[0].is_killed);
	world_end(&world);
}

static void
a_worker_that_never_opens_its_end_is_killed(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);

	(void)state;
	options.hung_ns = 40 * NS_PER_MS;
	world_begin(&world, &options);
	pass(39);
	check(!world.workers[0].is_killed);
	pass(50);
	check(world.workers[0].is_killed);
	die(&world, 0);
	check_equal(world.dispatch.places[0]->failures, 1);
	world_end(&world);
}

static void
the_silence_before_it_opened_its_end_does_not_count(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0};

	(void)state;
	options.hung_ns = 40 * NS_PER_MS;
	world_begin(&world, &options);
	pass(35);
	be_ready(&world, 0);
	ask_taken(&world, &a, -1, 0);
	pass(35 + 39);
	check(!world.workers[0].is_killed);
	pass(35 + 50);
	check(world.workers[0].is_killed);
	world_end(&world);
}

static void
time_in_which_the_loop_was_held_up_is_not_silence(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0};

	(void)state;
	options.hung_ns = 40 * NS_PER_MS;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	pass(25);
	/* What it has sent meanwhile comes after the tick. */
	world_tick(&world, 1000);
	check(!world.workers[0].is_killed);
	speak(&world, 0);
	pass(1040);
	check(!world.workers[0].is_killed);
	/* But whoever turns the loop seldom gets rid of it, too. */
	world_tick(&world, 2000);
	world_tick(&world, 3000);
	world_tick(&world, 4000);
	world_tick(&world, 5000);
	check(world.workers[0].is_killed);
	world_end(&world);
}

static void
hung_0_is_never(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	expect_next(&world, -1);
	pass(1000000);
	check(!world.workers[0].is_killed);
	world_end(&world);
}

static void
a_worker_whose_channel_was_closed_is_killed_after_stop(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 1);
	pass(10);
	lose_channel(&world, 0);
	expect_result(&a, -EOWNERDEAD);
	expect_next(&world, 60);
	pass(59);
	check(!world.workers[0].is_killed);
	pass(60);
	check(world.workers[0].is_killed);
	/* It gets nothing, and is not replaced before it is dead. */
	memset(&a, 0, sizeof(a));
	ask_taken(&world, &a, -1, 1);
	pass(129);
	expect_waiting(&a);
	check_equal(world.n_workers, 1);
	die(&world, 0);
	check_equal(world.n_workers, 2);
	world_end(&world);
}

static void
a_worker_that_takes_nothing_any_more_is_let_go(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 4);
	struct asked had = {0}, a = {0}, waits = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &had, -1, 2);
	check_equal(had.worker, 0);
	world.workers[1].send_result = -EPIPE;
	ask_taken(&world, &a, -1, 0);
	expect_sent(&world, &a, 0);
	check_equal(world.dispatch.places[1]->state, IPC_POOL_ENDING);
	/* What it still sends is heard. */
	world.workers[0].send_result = -EPIPE;
	ask_taken(&world, &waits, -1, 0);
	expect_waiting(&waits);
	answer(&world, &had);
	expect_result(&had, 0);
	pass(50);
	check(world.workers[0].is_killed && world.workers[1].is_killed);
	world_end(&world);
}

static void
resize_starts_more_at_once(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0}, b = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &b, -1, 0);
	check_equal(ipci_dispatch_resize(&world.dispatch, 3), 0);
	check_equal(world.n_workers, 3);
	check_equal(world_stats(&world).workers, 3);
	be_ready(&world, 2);
	expect_sent(&world, &b, 2);
	check_equal(world_stats(&world).restarts, 0);
	/* One that cannot be started is tried again as after a death. */
	world.start_result = -ENOMEM;
	check_equal(ipci_dispatch_resize(&world.dispatch, 4), 0);
	world_tick_now(&world);
	expect_next(&world, 20);
	world.start_result = 0;
	pass(20);
	check_equal(world.n_workers, 4);
	world_end(&world);
}

static void
those_that_are_too_many_get_no_more_and_are_closed_when_they_have_answered(void **state)
{
	struct ipci_dispatch_options options = world_options(3, 2);
	struct asked a[6] = {0}, next = {0};
	unsigned int i;

	(void)state;
	world_begin_ready(&world, &options);
	for (i = 0; i < 5; i++)
		ask_taken(&world, &a[i], -1, 0);
	/* The last has one, the others two. */
	check_equal(ipci_dispatch_resize(&world.dispatch, 2), 0);
	check_equal(world_stats(&world).workers, 2);
	check_equal(world.dispatch.n_places, 3);
	ask_taken(&world, &next, -1, 0);
	expect_waiting(&next);
	check(!world.workers[2].is_closed);
	answer(&world, &a[2]);
	check(world.workers[2].is_closed);
	expect_waiting(&next);
	check_equal(world_stats(&world).ready, 2);
	/* It ends by itself or after stop. */
	pass(49);
	check(!world.workers[2].is_killed);
	pass(50);
	check(world.workers[2].is_killed);
	die(&world, 2);
	check_equal(world.dispatch.n_places, 2);
	check_equal(world.n_workers, 3);
	answer(&world, &a[0]);
	expect_sent(&world, &next, a[0].worker);
	world_end(&world);
}

static void
those_leave_first_that_cost_least(void **state)
{
	struct ipci_dispatch_options options = world_options(4, 4);
	struct asked a = {0};

	(void)state;
	world_begin(&world, &options);
	be_ready(&world, 0);
	be_ready(&world, 1);
	be_ready(&world, 2);
	ask_taken(&world, &a, -1, 0);
	check_equal(a.worker, 0);
	die(&world, 1);
	/* 0 is busy, 1 dead, 2 idle, 3 starting. */
	check_equal(ipci_dispatch_resize(&world.dispatch, 3), 0);
	check_equal(world.dispatch.n_places, 3);
	check(!world.workers[2].is_closed && !world.workers[3].is_closed);
	check_equal(ipci_dispatch_resize(&world.dispatch, 2), 0);
	check(world.workers[3].is_closed && !world.workers[2].is_closed);
	check_equal(ipci_dispatch_resize(&world.dispatch, 1), 0);
	check(world.workers[2].is_closed && !world.workers[0].is_closed);
	pass(1000);
	check_equal(world.n_workers, 4);
	world_end(&world);
}

static void
what_is_leaving_and_still_open_returns(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 2);
	struct asked a = {0}, b = {0}, c[3] = {0};
	unsigned int i;

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &b, -1, 0);
	check_equal(ipci_dispatch_resize(&world.dispatch, 1), 0);
	for (i = 0; i < 3; i++)
		ask_taken(&world, &c[i], -1, 0);
	check_equal(world_stats(&world).queued, 2);
	check_equal(ipci_dispatch_resize(&world.dispatch, 2), 0);
	check_equal(world.n_workers, 2);
	check_equal(world_stats(&world).queued, 2);
	check(ipci_dispatch_next_ns(&world.dispatch) <= world.now_ns);
	world_tick_now(&world);
	check_equal(world_stats(&world).queued, 1);
	check_equal(world_stats(&world).ready, 2);
	world_end(&world);
}

static void
a_drain_has_answered_what_there_is_and_stops_the_workers(void **state)
{
	struct ipci_dispatch_options options = world_options(3, 1);
	struct asked a = {0}, waits = {0}, late = {0};

	(void)state;
	world_begin(&world, &options);
	be_ready(&world, 0);
	die(&world, 2);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &waits, -1, 0);
	world.is_quiet = true;
	check_equal(ipci_dispatch_drain(&world.dispatch, -1), 0);
	check_equal(ipci_dispatch_drain(&world.dispatch, -1), -EALREADY);
	world.is_quiet = false;
	check_equal(ask(&world, &late, -1, 0), -ESHUTDOWN);
	check_equal(ipci_dispatch_resize(&world.dispatch, 5), -ESHUTDOWN);
	world_tick_now(&world);
	check(!world.workers[0].is_closed);
	answer(&world, &a);
	expect_sent(&world, &waits, 0);
	answer(&world, &waits);
	expect_result(&waits, 0);
	/* All are closed, those that only start as well; nobody is there at the third place. */
	check(world.workers[0].is_closed && world.workers[1].is_closed);
	check_equal(world.dispatch.n_places, 2);
	die(&world, 0);
	check_equal(world.n_drained, 0);
	pass(49);
	check(!world.workers[1].is_killed);
	pass(50);
	check(world.workers[1].is_killed);
	die(&world, 1);
	check_equal(world.n_drained, 1);
	check_equal(world.drained, 0);
	check_equal(world.n_workers, 3);
	check_equal(ipci_dispatch_drain(&world.dispatch, -1), -EALREADY);
	/* A timer that was set before may still come. */
	world_tick(&world, 100);
	check_equal(world.n_drained, 1);
	expect_next(&world, -1);
	world_end(&world);
}

static void
a_drain_of_nobody_ends_with_the_next_tick(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);

	(void)state;
	world_begin(&world, &options);
	die(&world, 0);
	check_equal(ipci_dispatch_drain(&world.dispatch, 100), 0);
	check_equal(world.n_drained, 0);
	check(ipci_dispatch_next_ns(&world.dispatch) <= world.now_ns);
	world_tick_now(&world);
	check_equal(world.n_drained, 1);
	check_equal(world.drained, 0);
	world_end(&world);
}

static void
a_drain_whose_time_is_over_cancels_what_is_left_and_kills_its_workers(void **state)
{
	struct ipci_dispatch_options options = world_options(3, 1);
	struct asked a = {0}, b = {0}, waits[2] = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 3);
	ask_taken(&world, &b, -1, 3);
	check_equal(ipci_dispatch_drain(&world.dispatch, 30), 0);
	pass(29);
	expect_no_end(&a);
	answer(&world, &b);
	expect_next(&world, 30);
	pass(30);
	expect_result(&a, -ECANCELED);
	check(world.workers[a.worker].is_killed && !world.workers[a.worker].is_closed);
	check(world.workers[b.worker].is_closed && !world.workers[b.worker].is_killed);
	die(&world, 0);
	die(&world, 1);
	die(&world, 2);
	check_equal(world.n_drained, 1);
	check_equal(world.drained, -ETIMEDOUT);
	check_equal(world_stats(&world).cancelled, 1);
	world_end(&world);

	options = world_options(1, 1);
	world_begin(&world, &options);
	ask_taken(&world, &waits[0], -1, 1);
	check_equal(ipci_dispatch_drain(&world.dispatch, 0), 0);
	world_tick_now(&world);
	expect_result(&waits[0], -ECANCELED);
	world_end(&world);
}

static void
a_drain_goes_on_with_workers_that_are_replaced(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 2);
	check_equal(ipci_dispatch_drain(&world.dispatch, -1), 0);
	world_tick_now(&world);
	die(&world, 0);
	pass(20);
	be_ready(&world, 1);
	expect_sent(&world, &a, 1);
	answer(&world, &a);
	check(world.workers[1].is_closed);
	die(&world, 1);
	check_equal(world.n_drained, 1);
	world_end(&world);
}

static void
a_worker_that_owes_a_late_answer_is_closed_by_a_drain(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, 5, 1);
	check_equal(ipci_dispatch_drain(&world.dispatch, 100), 0);
	pass(5);
	expect_result(&a, -ETIMEDOUT);
	check(world.workers[0].is_closed && !world.workers[0].is_killed);
	pass(55);
	check(world.workers[0].is_killed);
	die(&world, 0);
	check_equal(world.drained, 0);
	world_end(&world);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(a_worker_gets_no_request_before_it_has_opened_its_end),
		channel_test(at_first_each_worker_has_one_until_all_are_there),
		channel_test(those_that_are_not_there_in_time_are_not_waited_for),
		channel_test(
			those_that_workers_will_have_which_are_being_started_do_not_fill_the_queue),
		channel_test(a_start_that_fails_at_first_is_said),
		channel_test(the_next_start_comes_ever_later_and_at_most_restart_max_later),
		channel_test(a_start_that_is_refused_counts_as_one_that_failed),
		channel_test(one_that_has_lived_for_a_while_is_replaced_at_once),
		channel_test(when_no_worker_can_be_started_those_that_wait_end),
		channel_test(starts_that_are_refused_are_in_vain_too),
		channel_test(one_worker_that_lives_keeps_hope_for_all),
		channel_test(a_silent_worker_is_killed_within_a_quarter_more),
		channel_test(an_answer_breaks_the_silence_and_a_stray_does_not),
		channel_test(a_worker_without_requests_may_be_silent),
		channel_test(a_worker_that_owes_an_answer_may_not_be_silent_for_ever),
		channel_test(a_worker_that_never_opens_its_end_is_killed),
		channel_test(the_silence_before_it_opened_its_end_does_not_count),
		channel_test(time_in_which_the_loop_was_held_up_is_not_silence),
		channel_test(hung_0_is_never),
		channel_test(a_worker_whose_channel_was_closed_is_killed_after_stop),
		channel_test(a_worker_that_takes_nothing_any_more_is_let_go),
		channel_test(resize_starts_more_at_once),
		channel_test(
			those_that_are_too_many_get_no_more_and_are_closed_when_they_have_answered),
		channel_test(those_leave_first_that_cost_least),
		channel_test(what_is_leaving_and_still_open_returns),
		channel_test(a_drain_has_answered_what_there_is_and_stops_the_workers),
		channel_test(a_drain_of_nobody_ends_with_the_next_tick),
		channel_test(a_drain_whose_time_is_over_cancels_what_is_left_and_kills_its_workers),
		channel_test(a_drain_goes_on_with_workers_that_are_replaced),
		channel_test(a_worker_that_owes_a_late_answer_is_closed_by_a_drain),
	};

	return run_group(tests);
}
