/* SPDX-License-Identifier: MIT */

/*
 * A dispatch whose functions of the user call it, and its end, which may come from there. Each test
 * is a sentence of pool.h or dispatch.h, in a world that stands still.
 */

#include <string.h>

#include "dispatch_world.h"
#include "support.h"

static struct world world;

static struct asked inner[4];

static void
ask_inside(struct world *w, struct asked *asked, int result)
{
	(void)asked;
	(void)result;
	w->on_reply = NULL;
	ask_taken(w, &inner[0], -1, 0);
}

static void
a_call_from_within_is_behind_those_that_wait(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0}, waits = {0};

	(void)state;
	memset(inner, 0, sizeof(inner));
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &waits, -1, 0);
	world.on_reply = ask_inside;
	answer(&world, &a);
	expect_sent(&world, &waits, 0);
	expect_waiting(&inner[0]);
	answer(&world, &waits);
	expect_sent(&world, &inner[0], 0);
	world_end(&world);
}

static struct asked *victim;
static int victim_result;

static void
cancel_inside(struct world *w, struct asked *asked, int result)
{
	(void)asked;
	(void)result;
	w->on_reply = NULL;
	victim_result = ipci_dispatch_cancel(&w->dispatch, victim->name);
}

static void
cancel_from_within_ends_another_and_not_one_that_is_ending(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 4);
	struct asked a = {0}, b = {0}, c = {0};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 0);
	ask_taken(&world, &b, -1, 0);
	ask_taken(&world, &c, -1, 0);
	victim = &b;
	world.on_reply = cancel_inside;
	answer(&world, &a);
	check_equal(victim_result, 0);
	expect_result(&b, -ECANCELED);
	victim = &c;
	memset(&a, 0, sizeof(a));
	ask_taken(&world, &a, 10, 0);
	world.on_reply = cancel_inside;
	victim = &a;
	/* The first that ends by the death cancels the second, which has died, too. */
	die(&world, 0);
	check_equal(victim_result, -ENOENT);
	expect_result(&c, -EOWNERDEAD);
	expect_result(&a, -EOWNERDEAD);
	world_end(&world);
}

static void
finish_inside(struct world *w, struct asked *asked, int result)
{
	struct asked late = {0};

	(void)asked;
	(void)result;
	if (!w->dispatch.over) {
		ipci_dispatch_finish(&w->dispatch);
		return;
	}
	check_equal(ask(w, &late, -1, 0), -ESHUTDOWN);
	check_equal(ipci_dispatch_resize(&w->dispatch, 3), -ESHUTDOWN);
	check_equal(ipci_dispatch_drain(&w->dispatch, 0), -EALREADY);
	check_equal(ipci_dispatch_cancel(&w->dispatch, victim->name), -ENOENT);
}

static void
finish_from_within_ends_everything_once(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 2);
	struct asked a = {0}, b = {0}, c = {0}, d = {0};

	(void)state;
	victim = &b;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, -1, 1);
	ask_taken(&world, &b, -1, 1);
	ask_taken(&world, &c, -1, 1);
	ask_taken(&world, &d, 10, 1);
	world.on_reply = finish_inside;
	die(&world, 0);
	expect_result(&a, -EOWNERDEAD);
	expect_result(&b, -EOWNERDEAD);
	expect_result(&c, -ECANCELED);
	expect_result(&d, -ECANCELED);
	check(world.dispatch.over);
}

static void
finish_ends_all_that_is_left_and_calls_no_worker(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 1);
	struct asked a[6] = {0};
	unsigned int i;

	(void)state;
	options.tell = true;
	world_begin_ready(&world, &options);
	for (i = 0; i < 6; i++)
		ask_taken(&world, &a[i], 100, 3);
	victim = &a[5];
	world.on_reply = finish_inside;
	ipci_dispatch_finish(&world.dispatch);
	for (i = 0; i < 6; i++)
		expect_result(&a[i], -ECANCELED);
	check(!world.workers[0].is_closed && !world.workers[0].is_killed);
	check_equal(world.workers[0].n_told, 0);
	world_end(&world);
}

static void
count_inside(struct world *w, struct asked *asked, int result)
{
	struct ipc_pool_stats stats = world_stats(w);

	(void)asked;
	(void)result;
	check_equal(stats.cancelled, w->n_replies);
	check_equal(stats.outstanding + stats.queued, 6 - w->n_replies);
	check(stats.outstanding <= 2);
	check(stats.queued <= 4);
}

static void
the_counters_are_right_while_all_that_is_left_ends(void **state)
{
	struct ipci_dispatch_options options = world_options(2, 1);
	struct asked a[6] = {0};
	unsigned int i;

	(void)state;
	world_begin_ready(&world, &options);
	for (i = 0; i < 6; i++)
		ask_taken(&world, &a[i], 100, 3);
	world.on_reply = count_inside;
	ipci_dispatch_finish(&world.dispatch);
	check_equal(world.n_replies, 6);
}

static void
forget_calls_nobody(void **state)
{
	struct ipci_dispatch_options options = world_options(1, 1);
	struct asked a = {0}, b = {.n_fds = 2};

	(void)state;
	world_begin_ready(&world, &options);
	ask_taken(&world, &a, 100, 3);
	ask_taken(&world, &b, 100, 3);
	ipci_dispatch_forget(&world.dispatch);
	expect_no_end(&a);
	expect_no_end(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(a_call_from_within_is_behind_those_that_wait),
		channel_test(cancel_from_within_ends_another_and_not_one_that_is_ending),
		channel_test(finish_from_within_ends_everything_once),
		channel_test(finish_ends_all_that_is_left_and_calls_no_worker),
		channel_test(the_counters_are_right_while_all_that_is_left_ends),
		channel_test(forget_calls_nobody),
	};

	return run_group(tests);
}
