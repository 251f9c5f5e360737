/* SPDX-License-Identifier: MIT */

/*
 * Each allocation of a dispatch fails once, and so does each duplicate of a descriptor: a clean
 * error, nothing changed, and the same works when it is asked for again.
 */

#include <stdio.h>
#include <string.h>

#include "dispatch_world.h"
#include "faults.h"
#include "support.h"

static struct world world;

static const struct {
	enum faulty call;
	int error;
} faults[] = {
	{FAULTY_MALLOC, ENOMEM},
	{FAULTY_CALLOC, ENOMEM},
	{FAULTY_REALLOC, ENOMEM},
	{FAULTY_FCNTL, EMFILE},
};

#define FAULTS (sizeof(faults) / sizeof(faults[0]))

/* Run it with each call of each kind failing once. Return: how many of those there were. */
static unsigned int
with_each_fault(void (*run)(int error))
{
	struct fault fault;
	unsigned int n = 0, i;

	for (i = 0; i < FAULTS; i++) {
		fault = (struct fault){.call = faults[i].call, .error = faults[i].error, .nth = 1};
		for (;; fault.nth++, n++) {
			fault_arm(&fault);
			run(-fault.error);
			if (!fault_count())
				break;
			check_equal(fault_memory(), 0);
		}
	}
	fault_arm(NULL);
	return n;
}

static void
end_world(void)
{
	fault_pass();
	fault_inside(true);
	world_end(&world);
	fault_inside(false);
}

static void
begin_with_fault(int error)
{
	struct ipci_dispatch_options options = world_options(3, 4);
	int r;

	memset(&world, 0, sizeof(world));
	r = LIBRARY(world_try(&world, &options));
	check_equal(r, fault_count() ? error : 0);
	if (r < 0)
		check_equal(world.n_workers, 0);
	end_world();
}

static void
each_allocation_of_init_fails_once(void **state)
{
	(void)state;
	check(with_each_fault(begin_with_fault) >= 5);
}

/* How the next call goes differs by what there is already. */
static unsigned int before, n_ready;

static void
call_with_fault(int error)
{
	static struct asked a[600];
	struct ipci_dispatch_options options = world_options(1, 280);
	struct asked *last = &a[before];
	struct ipc_pool_stats stats;
	unsigned int i;
	int r;

	memset(a, 0, sizeof(a));
	options.queue_max = 600;
	fault_hold(true);
	fault_inside(true);
	world_begin(&world, &options);
	for (i = 0; i < n_ready; i++)
		be_ready(&world, i);
	for (i = 0; i < before; i++)
		ask_taken(&world, &a[i], 100, 1);
	last->n_fds = 2;
	fault_hold(false);
	r = ask(&world, last, 100, 2);
	fault_inside(false);
	check_equal(r, fault_count() ? error : 0);
	fault_pass();
	stats = world_stats(&world);
	check_equal(stats.calls, before + (r == 0));
	check_equal(stats.outstanding + stats.queued, before + (r == 0));
	check_equal(world.dispatch.deadlines.n, before + (r == 0));
	check_equal(world.dispatch.kept_fds, r == 0 ? 2 : 0);
	check_equal(last->sends, r == 0 && n_ready && before < 280);
	if (r < 0) {
		fault_inside(true);
		ask_taken(&world, last, 100, 2);
		fault_inside(false);
	}
	end_world();
	check_equal(last->ends, 1);
}

static void
each_allocation_of_a_call_fails_once_and_nothing_was_taken(void **state)
{
	(void)state;
	n_ready = 1;
	before = 0;
	/* The table and a chunk of requests, the heap, the copy, two descriptors. */
	check_equal(with_each_fault(call_with_fault), 6);
	before = 1;
	check_equal(with_each_fault(call_with_fault), 3);
	before = 256;
	check(with_each_fault(call_with_fault) >= 4);
	before = 300;
	check_equal(with_each_fault(call_with_fault), 3);
	n_ready = 0;
	before = 5;
	check_equal(with_each_fault(call_with_fault), 3);
}

/* Which places there are, and in which state. */
static uint64_t
places_hash(void)
{
	const struct ipci_place *place;
	uint64_t hash = world.dispatch.workers;
	unsigned int i;

	for (i = 0; i < world.dispatch.n_places; i++) {
		place = world.dispatch.places[i];
		hash = hash * 31 + (uintptr_t)place;
		hash = hash * 31 + place->state * 2 + place->is_leaving;
	}
	return hash;
}

static void
resize_with_fault(int error)
{
	struct ipci_dispatch_options options = world_options(3, 4);
	struct asked a[6] = {0};
	unsigned int i, n_workers;
	uint64_t hash;
	int r;

	fault_hold(true);
	fault_inside(true);
	world_begin_ready(&world, &options);
	for (i = 0; i < 6; i++)
		ask_taken(&world, &a[i], -1, 1);
	check_equal(ipci_dispatch_resize(&world.dispatch, 2), 0);
	/* One leaves, and could return; another has nothing to do. */
	for (i = 0; i < 6; i++)
		if (a[i].worker == 2)
			answer(&world, &a[i]);
	hash = places_hash();
	n_workers = world.n_workers;
	fault_hold(false);
	r = ipci_dispatch_resize(&world.dispatch, 7);
	fault_inside(false);
	check_equal(r, fault_count() ? error : 0);
	fault_pass();
	if (r < 0) {
		check(places_hash() == hash);
		check_equal(world.n_workers, n_workers);
		for (i = 0; i < 3; i++)
			check(!world.workers[i].is_closed && !world.workers[i].is_killed);
		fault_inside(true);
		check_equal(ipci_dispatch_resize(&world.dispatch, 7), 0);
		fault_inside(false);
	}
	check_equal(world.dispatch.workers, 7);
	check_equal(world.n_workers, 7);
	end_world();
}

static void
each_allocation_of_resize_fails_once_and_nothing_changed(void **state)
{
	(void)state;
	check_equal(with_each_fault(resize_with_fault), 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(each_allocation_of_init_fails_once),
		channel_test(each_allocation_of_a_call_fails_once_and_nothing_was_taken),
		channel_test(each_allocation_of_resize_fails_once_and_nothing_changed),
	};

	return run_group(tests);
}
