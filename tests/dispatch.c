/* SPDX-License-Identifier: MIT */

/*
 * Requests of a dispatch: who gets them, what waits, how they end. Each test is a sentence of
 * pool.h or dispatch.h, in a world that stands still.
 */

#include <string.h>

#include "dispatch_world.h"
#include "support.h"

#define NS_PER_MS INT64_C(1000000)

static struct world world;

static void
each_request_goes_to_the_worker_that_has_the_fewest(void **state)
{
	struct ipci_dispatch_options options = world_options(3, 4);
	struct asked a[8] = {0};
	unsigned int i;

	(void)state;
	world_begin_ready(&world, &options);
	for (i = 0; i < 6; i++) {
		ask_taken(&world, &a[i], -1, 0);
		expect_sent(&world, &a[i], i % 3);
	}
	answer(&world, &a[1]);
	expect_result(&a[1], 0);
	ask_taken(&world, &a[6], -1, 0);
	expect_sent(&world, &a[6], 1);
	answer(&world, &a[2]);
	answer(&world, &a[5]);
	ask_taken(&world, &a[7], -1, 0);
	expect_sent(&world, &a[7], 2);
	check_equal(world_stats(&world).outstanding, 5);
	world_end(&world);
}

static void
requests_wait_in_a_queue_while_all_workers_have_enough(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 2);
	struct asked a[8] = {0};
	unsigned int i;

	(void)state;
	world_begin_ready(&world, &options);
	for (i = 0; i < 8; i++)
		ask_taken(&world, &a[i], -1, 0);
	check_equal(world.n_sent, 4);
	check_equal(world_stats(&world).queued, 4);
	for (i = 4; i < 8; i++) {
		expect_waiting(&a[i]);
		answer(&world, &a[i - 4]);
		expect_sent(&world, &a[i], a[i - 4].worker);
	}
	check_equal(world_stats(&world).queued, 0);
	world_end(&world);
}

static void
the_reply_shows_the_callers_id_and_the_worker_sees_the_name(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a[2] = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a[0], -1, 0);
	ask_taken(&world, &a[1], -1, 0);
	check(a[0].wire_id == a[0].name && a[1].wire_id == a[1].name && a[0].name != a[1].name);
	check(!(a[0].name & IPC_MESSAGE_ID_CALL));
	answer(&world, &a[1]);
	expect_result(&a[1], 0);
	expect_no_end(&a[0]);
	answer(&world, &a[0]);
	expect_result(&a[0], 0);
	world_end(&world);
}

static void
all_but_the_last_reply_have_more(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a = {0};
	unsigned int i;

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	for (i = 1; i <= 3; i++) {
		answer_with(&world, 0, a.wire_id, IPC_MESSAGE_MORE, 0);
		check_equal(a.parts, i);
		expect_no_end(&a);
	}
	answer(&world, &a);
	expect_result(&a, 0);
	check_equal(world_stats(&world).completed, 1);
	check_equal(world_stats(&world).strays, 0);
	world_end(&world);
}

static void
answers_that_nobody_asked_this_worker_for_are_dropped(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 1);
	struct asked a = {0}, b = {0}, waits = {0};
	uint64_t old;

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	old = a.name;
	answer(&world, &a);
	memset(&a, 0, sizeof(a));
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &b, -1, 0);
	ask_taken(&world, &waits, -1, 0);
	check(a.worker != b.worker);
	answer_with(&world, a.worker, 0, 0, 0);
	answer_with(&world, a.worker, 12345, 0, 0);
	answer_with(&world, a.worker, UINT64_MAX, 0, 0);
	answer_with(&world, a.worker, old, 0, 0);
	answer_with(&world, a.worker, b.name, 0, 0);
	answer_with(&world, a.worker, b.name, IPC_MESSAGE_MORE, 0);
	answer_with(&world, a.worker, b.name, 0, -EBADMSG);
	answer_with(&world, a.worker, waits.name, 0, 0);
	expect_no_end(&a);
	expect_no_end(&b);
	expect_waiting(&waits);
	check_equal(b.parts, 0);
	check_equal(world_stats(&world).strays, 8);
	world_end(&world);
}

static void
the_name_of_a_request_to_come_cannot_be_guessed(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0}, next = {0};
	uint64_t to_come;

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	to_come = a.name + IPCI_REQUESTS_LIMIT;
	answer(&world, &a);
	answer_with(&world, 0, to_come, 0, 0);
	answer_with(&world, 0, to_come, IPC_MESSAGE_MORE, 0);
	check_equal(ipci_dispatch_cancel(&world.dispatch, to_come), -ENOENT);
	check_equal(world_stats(&world).strays, 2);
	check_equal(a.ends, 1);
	ask_taken(&world, &next, -1, 0);
	/* It lies where the last one lay. */
	check((next.name - a.name) % IPCI_REQUESTS_LIMIT == 0);
	check(next.name != a.name && next.name != to_come);
	answer_with(&world, 0, to_come, 0, 0);
	check_equal(world_stats(&world).strays, 3);
	expect_no_end(&next);
	answer(&world, &next);
	expect_result(&next, 0);
	world_end(&world);
}

static void
a_reply_without_its_descriptors_ends_the_request(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0}, b = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &b, -1, 0);
	answer_with(&world, 0, a.wire_id, 0, -EBADMSG);
	expect_result(&a, -EBADMSG);
	check_equal(world_stats(&world).owed, 0);
	answer_with(&world, 0, b.wire_id, IPC_MESSAGE_MORE, -EBADMSG);
	expect_result(&b, -EBADMSG);
	/* The last one is still to come. */
	check_equal(world_stats(&world).owed, 1);
	answer(&world, &b);
	check_equal(world_stats(&world).owed, 0);
	check_equal(world_stats(&world).failed, 2);
	world_end(&world);
}

static void
a_request_ends_when_its_time_is_over_not_before(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked sent = {0}, waits = {0}, unbounded = {0}, now = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &sent, 20, 0);
	ask_taken(&world, &waits, 10, 0);
	ask_taken(&world, &unbounded, -1, 0);
	expect_next(&world, 10);
	world_tick(&world, 9);
	expect_no_end(&waits);
	world_tick(&world, 10);
	expect_result(&waits, -ETIMEDOUT);
	expect_next(&world, 20);
	world_tick(&world, 20);
	expect_result(&sent, -ETIMEDOUT);
	ask_taken(&world, &now, 0, 0);
	expect_next(&world, 20);
	world_tick_now(&world);
	expect_result(&now, -ETIMEDOUT);
	expect_next(&world, -1);
	expect_waiting(&unbounded);
	check_equal(world_stats(&world).timed_out, 3);
	world_end(&world);
}

static void
a_worker_that_owes_a_late_answer_gets_nothing_new_until_it_has_given_it(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked late = {0}, next = {0}, beside = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &beside, -1, 0);
	ask_taken(&world, &late, 10, 0);
	world_tick(&world, 10);
	expect_result(&late, -ETIMEDOUT);
	ask_taken(&world, &next, -1, 0);
	expect_waiting(&next);
	answer(&world, &beside);
	expect_waiting(&next);
	check_equal(world_stats(&world).owed, 1);
	answer_with(&world, 0, late.wire_id, IPC_MESSAGE_MORE, 0);
	expect_waiting(&next);
	answer(&world, &late);
	expect_sent(&world, &next, 0);
	check_equal(late.ends, 1);
	check_equal(late.parts, 0);
	check_equal(world_stats(&world).owed, 0);
	check_equal(world_stats(&world).strays, 2);
	world_end(&world);
}

static void
a_cancelled_request_goes_on_to_count_against_the_depth(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a[4] = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a[0], -1, 0);
	check_equal(ipci_dispatch_cancel(&world.dispatch, a[0].name), 0);
	expect_result(&a[0], -ECANCELED);
	check_equal(ipci_dispatch_cancel(&world.dispatch, a[0].name), -ENOENT);
	/* It is not late: the worker may get another. */
	ask_taken(&world, &a[1], -1, 0);
	expect_sent(&world, &a[1], 0);
	ask_taken(&world, &a[2], -1, 0);
	expect_waiting(&a[2]);
	answer(&world, &a[0]);
	expect_sent(&world, &a[2], 0);
	check_equal(a[0].ends, 1);
	check_equal(world_stats(&world).cancelled, 1);
	world_end(&world);
}

static void
what_a_cancel_makes_possible_is_done_by_the_next_tick(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 2);
	struct asked a = {0}, tried = {0}, behind = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &tried, -1, 2);
	/* It must be alone and waits; so do those behind it. */
	die(&world, tried.worker);
	ask_taken(&world, &behind, -1, 0);
	expect_waiting(&behind);
	check_equal(ipci_dispatch_cancel(&world.dispatch, tried.name), 0);
	expect_result(&tried, -ECANCELED);
	expect_waiting(&behind);
	check(ipci_dispatch_next_ns(&world.dispatch) <= world.now_ns);
	world_tick_now(&world);
	expect_sent(&world, &behind, a.worker);
	world_end(&world);
}

static void
a_worker_is_told_of_what_is_over(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a[3] = {0}, quiet = {0};

	(void)state;
	options.tell = true;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a[0], 10, 0);
	ask_taken(&world, &a[1], -1, 0);
	ask_taken(&world, &a[2], -1, 0);
	check_equal(ipci_dispatch_cancel(&world.dispatch, a[1].name), 0);
	check_equal(world.workers[0].n_told, 1);
	check(world.workers[0].told == a[1].name);
	world_tick(&world, 10);
	check_equal(world.workers[0].n_told, 2);
	check(world.workers[0].told == a[0].name);
	lose_channel(&world, 0);
	expect_result(&a[2], -EOWNERDEAD);
	check_equal(world.workers[0].n_told, 2);
	world_end(&world);

	options.tell = false;
	world_begin_ready(&world, &options);
	ask_taken(&world, &quiet, -1, 0);
	check_equal(ipci_dispatch_cancel(&world.dispatch, quiet.name), 0);
	check_equal(world.workers[0].n_told, 0);
	world_end(&world);
}

static void
a_word_that_does_not_fit_shuts_the_channel_until_it_is_writable(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a = {0}, b = {0};

	(void)state;
	options.tell = true;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	world.workers[0].send_result = -EAGAIN;
	check_equal(ipci_dispatch_cancel(&world.dispatch, a.name), 0);
	world.workers[0].send_result = 0;
	ask_taken(&world, &b, -1, 0);
	expect_waiting(&b);
	be_writable(&world, 0);
	expect_sent(&world, &b, 0);
	world_end(&world);
}

static void
a_request_whose_worker_died_ends_unless_it_may_be_tried_again(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 8);
	struct asked once = {0}, twice = {0}, parts = {0}, as_pool = {0};

	(void)state;
	options.attempts = 2;
	world_begin_ready(&world, &options);
	ask_taken(&world, &once, -1, 1);
	ask_taken(&world, &twice, -1, 2);
	ask_taken(&world, &parts, -1, 2);
	ask_taken(&world, &as_pool, -1, 0);
	answer_with(&world, 0, parts.wire_id, IPC_MESSAGE_MORE, 0);
	die(&world, 0);
	expect_result(&once, -EOWNERDEAD);
	expect_result(&parts, -EOWNERDEAD);
	/* In their order. */
	check(once.order < parts.order);
	expect_no_end(&twice);
	expect_no_end(&as_pool);
	world_tick(&world, 20);
	/* It is nobody's, not even of who is at the same place. */
	answer_with(&world, 1, twice.name, 0, 0);
	expect_no_end(&twice);
	be_ready(&world, 1);
	expect_sent(&world, &twice, 1);
	check_equal(twice.sends, 2);
	die(&world, 1);
	expect_result(&twice, -EOWNERDEAD);
	expect_no_end(&as_pool);
	check_equal(world_stats(&world).retries, 1);
	check_equal(world_stats(&world).died, 3);
	world_end(&world);
}

static void
nothing_is_left_of_what_a_dead_worker_owed(void **state)
{
	static struct asked a[200];
	struct ipci_dispatch_options options = world_options(1, 200);
	unsigned int round, i;

	(void)state;
	world_begin_ready(&world, &options);
	for (round = 0; round < 2; round++) {
		memset(a, 0, sizeof(a));
		for (i = 0; i < 200; i++) {
			ask_taken(&world, &a[i], 100, 2);
			check_equal(ipci_dispatch_cancel(&world.dispatch, a[i].name), 0);
		}
		check_equal(world_stats(&world).owed, 200);
		die(&world, round);
		check_equal(world_stats(&world).owed, 0);
		world_tick(&world, 1000 * (round + 1));
		be_ready(&world, round + 1);
	}
	check_equal(world.dispatch.requests.n_chunks, 1);
	check_equal(world.dispatch.kept_bytes, 0);
	world_end(&world);
}

static void
a_request_that_is_tried_again_is_alone_with_its_worker(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 4);
	struct asked busy = {0}, a = {0}, next = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &busy, -1, 0);
	ask_taken(&world, &a, -1, 3);
	check_equal(a.worker, 1);
	die(&world, 1);
	/* The other worker has one, and does not get it beside. */
	check_equal(a.sends, 1);
	ask_taken(&world, &next, -1, 0);
	expect_waiting(&next);
	answer(&world, &busy);
	expect_sent(&world, &a, 0);
	check_equal(a.sends, 2);
	/* Nor is anything given beside it. */
	expect_waiting(&next);
	answer(&world, &a);
	expect_sent(&world, &next, 0);
	world_end(&world);
}

static void
what_is_tried_again_comes_first_and_in_its_order(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 3);
	struct asked a[5] = {0};
	unsigned int i;

	(void)state;
	world_begin_ready(&world, &options);
	for (i = 0; i < 5; i++)
		ask_taken(&world, &a[i], -1, 2);
	check_equal(world.n_sent, 3);
	lose_channel(&world, 0);
	check_equal(world_stats(&world).queued, 5);
	die(&world, 0);
	world_tick(&world, 20);
	be_ready(&world, 1);
	for (i = 0; i < 3; i++) {
		expect_sent(&world, &a[i], 1);
		answer(&world, &a[i]);
	}
	check_equal(a[3].sends, 1);
	check_equal(a[4].sends, 1);
	world_end(&world);
}

static void
one_that_kills_every_worker_it_meets_fails_by_itself(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 8);
	struct asked poison = {0}, healthy[4] = {0};
	unsigned int worker = 0, i;
	int64_t ms = 0;

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &healthy[0], -1, 2);
	ask_taken(&world, &poison, -1, 3);
	for (i = 1; i < 4; i++)
		ask_taken(&world, &healthy[i], -1, 2);
	for (; !poison.ends; worker++) {
		die(&world, worker);
		world_tick(&world, ms += 200);
		be_ready(&world, worker + 1);
		for (i = 0; i < 4; i++)
			if (healthy[i].worker == worker + 1 && !healthy[i].ends)
				answer(&world, &healthy[i]);
	}
	expect_result(&poison, -EOWNERDEAD);
	check_equal(poison.sends, 3);
	for (i = 0; i < 4; i++) {
		if (!healthy[i].ends)
			answer(&world, &healthy[i]);
		expect_result(&healthy[i], 0);
		check_equal(healthy[i].sends, 2);
	}
	world_end(&world);
}

static void
above_queue_max_calls_are_refused_and_writable_follows_at_half(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a[8] = {0};
	unsigned int i;

	(void)state;
	options.queue_max = 4;
	world_begin_ready(&world, &options);
	for (i = 0; i < 5; i++)
		ask_taken(&world, &a[i], -1, 0);
	answer(&world, &a[0]);
	ask_taken(&world, &a[5], -1, 0);
	check_equal(world.writables, 0);
	check_equal(ask(&world, &a[6], -1, 0), -EAGAIN);
	check_equal(ask(&world, &a[6], -1, 0), -EAGAIN);
	check_equal(a[6].name, 0);
	answer(&world, &a[1]);
	check_equal(world.writables, 0);
	answer(&world, &a[2]);
	check_equal(world.writables, 1);
	answer(&world, &a[3]);
	answer(&world, &a[4]);
	check_equal(world.writables, 1);
	check_equal(world_stats(&world).refused, 2);
	expect_no_end(&a[6]);
	/* Nothing is left of those that were not taken. */
	answer(&world, &a[5]);
	for (i = 0; i < 1000; i++) {
		world.workers[0].send_result = -EMSGSIZE;
		check_equal(ask(&world, &a[7], 1000, 2), -EMSGSIZE);
	}
	check_equal(world.dispatch.requests.n_chunks, 1);
	check_equal(world.dispatch.deadlines.n, 0);
	world_end(&world);
}

static void
ask_from_writable(struct world *w)
{
	static struct asked again;

	memset(&again, 0, sizeof(again));
	again.size = 100;
	check_equal(ask(w, &again, -1, 2), -EAGAIN);
}

static void
above_kept_bytes_max_calls_are_refused_but_one_alone_is_kept(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 8);
	struct asked a = {.size = 1000}, b = {.size = 8}, small = {.size = 40}, c = {.size = 60};

	(void)state;
	options.kept_bytes_max = 100;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 2);
	check_equal(ask(&world, &b, -1, 2), -EAGAIN);
	/* What is given at once and not tried again is not kept. */
	ask_taken(&world, &b, -1, 1);
	answer(&world, &a);
	check_equal(world.writables, 1);
	check_equal(world.dispatch.kept_bytes, 0);
	ask_taken(&world, &small, -1, 2);
	ask_taken(&world, &c, -1, 2);
	memset(&a, 0, sizeof(a));
	check_equal(ask(&world, &a, -1, 2), -EAGAIN);
	answer(&world, &small);
	check_equal(world.writables, 1);
	answer(&world, &c);
	check_equal(world.writables, 2);
	world_end(&world);

	/* Refused again from within: told again, once there is occasion. */
	world_begin_ready(&world, &options);
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	a.size = 40;
	ask_taken(&world, &a, -1, 2);
	ask_taken(&world, &b, -1, 1);
	world.on_writable = ask_from_writable;
	ask_from_writable(&world);
	answer(&world, &b);
	check_equal(world.writables, 1);
	world.on_writable = NULL;
	answer(&world, &a);
	check_equal(world.writables, 2);
	world_end(&world);
}

static void
above_kept_fds_max_calls_are_refused_but_one_alone_is_kept(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 8);
	struct asked a = {.n_fds = 6}, b = {.n_fds = 1}, c = {.n_fds = 3}, d = {.n_fds = 2};
	struct asked e = {.n_fds = 0};

	(void)state;
	options.kept_fds_max = 4;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 2);
	check_equal(world.dispatch.kept_fds, 6);
	check_equal(ask(&world, &b, -1, 2), -EAGAIN);
	/* One without any takes none of the room. */
	ask_taken(&world, &e, -1, 2);
	answer(&world, &e);
	answer(&world, &a);
	check_equal(world.writables, 1);
	ask_taken(&world, &c, -1, 2);
	check_equal(ask(&world, &d, -1, 2), -EAGAIN);
	ask_taken(&world, &b, -1, 2);
	answer(&world, &b);
	check_equal(world.writables, 1);
	answer(&world, &c);
	check_equal(world.writables, 2);
	check_equal(world.dispatch.kept_fds, 0);
	world_end(&world);
}

static void
what_is_not_sent_again_is_not_kept(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {.size = 100}, parts = {.size = 50}, waits = {.size = 30};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 1);
	check_equal(world.dispatch.kept_bytes, 0);
	ask_taken(&world, &parts, -1, 2);
	check_equal(world.dispatch.kept_bytes, 50);
	ask_taken(&world, &waits, -1, 1);
	check_equal(world.dispatch.kept_bytes, 80);
	answer_with(&world, 0, parts.wire_id, IPC_MESSAGE_MORE, 0);
	check_equal(world.dispatch.kept_bytes, 30);
	answer(&world, &a);
	expect_sent(&world, &waits, 0);
	check_equal(world.dispatch.kept_bytes, 0);
	world_end(&world);
}

static void
why_a_request_cannot_be_sent_is_answered_or_ends_one_that_has_waited(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0}, too_large = {0}, waits = {0}, next = {0};

	(void)state;
	world_begin_ready(&world, &options);
	world.workers[0].send_result = -EMSGSIZE;
	check_equal(ask(&world, &too_large, 100, 2), -EMSGSIZE);
	check_equal(world.dispatch.kept_bytes, 0);
	expect_next(&world, -1);
	check_equal(world_stats(&world).calls, 0);
	world.workers[0].send_result = 0;
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &waits, -1, 0);
	world.workers[0].send_result = -E2BIG;
	answer(&world, &a);
	expect_result(&waits, -E2BIG);
	world.workers[0].send_result = 0;
	ask_taken(&world, &next, -1, 0);
	expect_sent(&world, &next, 0);
	check_equal(world_stats(&world).failed, 1);
	world_end(&world);
}

static void
a_channel_that_is_full_gets_nothing_until_it_is_writable(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 4);
	struct asked a = {0}, b = {0}, c = {0};

	(void)state;
	world_begin_ready(&world, &options);
	world.workers[0].send_result = -EAGAIN;
	ask_taken(&world, &a, -1, 0);
	expect_sent(&world, &a, 1);
	world.workers[0].send_result = 0;
	ask_taken(&world, &b, -1, 0);
	expect_sent(&world, &b, 1);
	world.workers[1].send_result = -EAGAIN;
	ask_taken(&world, &c, -1, 0);
	expect_waiting(&c);
	be_writable(&world, 0);
	expect_sent(&world, &c, 0);
	world_end(&world);
}

/*
 * Times of requests.
 */

static void
latency_is_from_the_call_to_the_end(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0}, waited = {0}, late = {0};

	(void)state;
	world_begin_ready(&world, &options);
	world.now_ns += 20 * NS_PER_MS;
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &waited, -1, 0);
	world.now_ns += 3 * NS_PER_MS;
	answer(&world, &a);
	world.now_ns += 4 * NS_PER_MS;
	answer(&world, &waited);
	check_equal(world_stats(&world).latency.count, 2);
	check_equal(world_stats(&world).latency.max_ns, 7 * NS_PER_MS);
	check_equal(world_stats(&world).latency.p50_ns, 0);
	/* Others are not counted. */
	ask_taken(&world, &late, 10, 0);
	world.now_ns += 10 * NS_PER_MS;
	world_tick_now(&world);
	answer(&world, &late);
	memset(&a, 0, sizeof(a));
	ask_taken(&world, &a, -1, 0);
	answer_with(&world, 0, a.wire_id, 0, -EBADMSG);
	check_equal(world_stats(&world).latency.count, 2);
	world_end(&world);
}

static void
all_are_timed_while_few_are_outstanding_else_one_in_13(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 200);
	static struct asked a[146];
	unsigned int i;

	(void)state;
	memset(a, 0, sizeof(a));
	world_begin_ready(&world, &options);
	for (i = 0; i < 146; i++)
		ask_taken(&world, &a[i], -1, 0);
	world.now_ns += NS_PER_MS;
	for (i = 0; i < 146; i++)
		answer(&world, &a[i]);
	/* 0 to 15, and 26, 39 ... 143. */
	check_equal(world_stats(&world).latency.count, 16 + 10);
	check_equal(world_stats(&world).latency.max_ns, NS_PER_MS);
	check(world_stats(&world).latency.p50_ns > NS_PER_MS - NS_PER_MS / 128);
	check(world_stats(&world).latency.p50_ns <= NS_PER_MS);
	world_end(&world);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(each_request_goes_to_the_worker_that_has_the_fewest),
		channel_test(requests_wait_in_a_queue_while_all_workers_have_enough),
		channel_test(the_reply_shows_the_callers_id_and_the_worker_sees_the_name),
		channel_test(all_but_the_last_reply_have_more),
		channel_test(answers_that_nobody_asked_this_worker_for_are_dropped),
		channel_test(the_name_of_a_request_to_come_cannot_be_guessed),
		channel_test(a_reply_without_its_descriptors_ends_the_request),
		channel_test(a_request_ends_when_its_time_is_over_not_before),
		channel_test(
			a_worker_that_owes_a_late_answer_gets_nothing_new_until_it_has_given_it),
		channel_test(a_cancelled_request_goes_on_to_count_against_the_depth),
		channel_test(what_a_cancel_makes_possible_is_done_by_the_next_tick),
		channel_test(a_worker_is_told_of_what_is_over),
		channel_test(a_word_that_does_not_fit_shuts_the_channel_until_it_is_writable),
		channel_test(a_request_whose_worker_died_ends_unless_it_may_be_tried_again),
		channel_test(nothing_is_left_of_what_a_dead_worker_owed),
		channel_test(a_request_that_is_tried_again_is_alone_with_its_worker),
		channel_test(what_is_tried_again_comes_first_and_in_its_order),
		channel_test(one_that_kills_every_worker_it_meets_fails_by_itself),
		channel_test(above_queue_max_calls_are_refused_and_writable_follows_at_half),
		channel_test(above_kept_bytes_max_calls_are_refused_but_one_alone_is_kept),
		channel_test(above_kept_fds_max_calls_are_refused_but_one_alone_is_kept),
		channel_test(what_is_not_sent_again_is_not_kept),
		channel_test(why_a_request_cannot_be_sent_is_answered_or_ends_one_that_has_waited),
		channel_test(a_channel_that_is_full_gets_nothing_until_it_is_writable),
		channel_test(latency_is_from_the_call_to_the_end),
		channel_test(all_are_timed_while_few_are_outstanding_else_one_in_13),
	};

	return run_group(tests);
}
