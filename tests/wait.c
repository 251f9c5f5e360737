/* SPDX-License-Identifier: MIT */

/* Deadlines that are never early, and what a channel learns of its waits. */

#include <limits.h>
#include <sched.h>

#include "cpus.h"
#include "support.h"
#include "sys.h"
#include "wait.h"

#define MS ((int64_t)1000000)

/* Some time or other. */
#define NOW (5000 * MS)

static void
a_deadline_rounds_up(void **state)
{
	static const struct {
		int timeout_ms;
		int64_t after_ns;
		int left_ms;
	} cases[] = {
		{1, 0, 1},
		{1, 1, 1},
		{1, MS - 1, 1},
		{1, MS, 0},
		{1, MS + 1, 0},
		{10, 0, 10},
		{10, 1, 10},
		{10, MS, 9},
		{10, MS + 1, 9},
		{10, 10 * MS - 1, 1},
		{10, 10 * MS, 0},
		{10, 1000 * MS, 0},
		{INT_MAX, 0, INT_MAX},
		{INT_MAX, 1, INT_MAX},
		{INT_MAX, INT_MAX * MS, 0},
	};
	struct ipci_deadline deadline;
	int64_t start;
	unsigned int i;

	(void)state;
	for (start = 1; start < 100000 * MS; start = start * 7 + 3) {
		for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			deadline = ipci_deadline(cases[i].timeout_ms);
			ipci_deadline_start(&deadline, start);
			check_equal(ipci_deadline_left_ms(&deadline, start + cases[i].after_ns),
				cases[i].left_ms);
		}
	}
}

static void
it_begins_once(void **state)
{
	struct ipci_deadline deadline = ipci_deadline(5);

	(void)state;
	ipci_deadline_start(&deadline, 100 * MS);
	ipci_deadline_start(&deadline, 103 * MS);
	check_equal(ipci_deadline_left_ms(&deadline, 103 * MS), 2);
	check_equal(ipci_deadline_left_ms(&deadline, 105 * MS), 0);
}

static void
never_and_for_ever(void **state)
{
	struct ipci_deadline never = ipci_deadline(0), for_ever = ipci_deadline(-1),
			     negative = ipci_deadline(INT_MIN);

	(void)state;
	ipci_deadline_start(&never, MS);
	ipci_deadline_start(&for_ever, MS);
	ipci_deadline_start(&negative, MS);
	check_equal(ipci_deadline_left_ms(&never, 2 * MS), 0);
	check_equal(ipci_deadline_left_ms(&for_ever, INT64_MAX), -1);
	check_equal(ipci_deadline_left_ms(&negative, INT64_MAX), -1);
	check_equal(ipci_deadline_error(&never), -EAGAIN);
	check_equal(ipci_deadline_error(&(struct ipci_deadline){.timeout_ms = 1}), -ETIMEDOUT);
}

/* The time that is come to is never before the one that was named. */
static void
a_busy_wait_is_not_early(void **state)
{
	int64_t start, now, i;

	(void)state;
	for (i = 0; i < 200; i++) {
		start = ipci_sys_now_ns();
		now = ipci_wait_until(start + i * 1000);
		check(now >= start + i * 1000);
		check(ipci_sys_now_ns() >= now);
	}
	check(ipci_wait_until(0) > 0);
}

/* A wait that found out that it may spin, on whatever machine this is. */
static struct ipci_wait
wait_that_may(void)
{
	struct ipci_wait wait;

	ipci_wait_init(&wait, 0);
	wait.known = wait.quota_allows = wait.several_cpus = true;
	return wait;
}

static void
a_new_wait_spins(void **state)
{
	struct ipci_wait wait = wait_that_may();

	(void)state;
	check_equal(ipci_wait_spin_ns(&wait, NOW), IPCI_WAIT_SPIN_NS);
	check_equal(ipci_wait_gap_ns(&wait), 0);
	check(ipci_wait_learns(&wait));
}

static void
long_waits_end_spinning_and_short_ones_begin_it(void **state)
{
	struct ipci_wait wait = wait_that_may();
	int i;

	(void)state;
	for (i = 0; i < 100; i++)
		ipci_wait_learn(&wait, IPCI_WAIT_SHORT_NS + 1, true);
	wait.several_cpus = true;
	check_equal(ipci_wait_spin_ns(&wait, NOW), 0);

	/* Those that slept briefly would have been met. It takes a few, not many. */
	for (i = 0; i < 2 * IPCI_WAIT_SCORE_MAX && !ipci_wait_spin_ns(&wait, NOW); i++) {
		ipci_wait_learn(&wait, IPCI_WAIT_SHORT_NS, true);
		wait.several_cpus = true;
	}
	check(i > 0);
	check_equal(ipci_wait_spin_ns(&wait, NOW), IPCI_WAIT_SPIN_NS);
}

/* A spinning wait that took too long was interrupted: the CPU is wanted, for a while. */
static void
an_interrupted_spin_rests(void **state)
{
	struct ipci_wait wait = wait_that_may();

	(void)state;
	ipci_wait_learn_spin(&wait, NOW - IPCI_WAIT_PREEMPTED_NS, NOW);
	check_equal(ipci_wait_spin_ns(&wait, NOW), IPCI_WAIT_SPIN_NS);
	ipci_wait_learn_spin(&wait, NOW - IPCI_WAIT_PREEMPTED_NS - 1, NOW);
	check_equal(ipci_wait_spin_ns(&wait, NOW), 0);
	check_equal(ipci_wait_spin_ns(&wait, NOW + IPCI_WAIT_REST_NS - 1), 0);
	check_equal(ipci_wait_spin_ns(&wait, NOW + IPCI_WAIT_REST_NS), IPCI_WAIT_SPIN_NS);
}

static void
a_good_record_outlives_single_long_waits(void **state)
{
	struct ipci_wait wait = wait_that_may();
	int i, long_waits;

	(void)state;
	for (i = 0; i < 100; i++)
		ipci_wait_learn(&wait, 1000, false);
	check_equal(wait.score, IPCI_WAIT_SCORE_MAX);
	for (long_waits = 0;; long_waits++) {
		wait.several_cpus = true;
		if (!ipci_wait_spin_ns(&wait, NOW))
			break;
		check(long_waits < 100);
		ipci_wait_learn(&wait, 1000 * MS, true);
	}
	check(long_waits > 1);
}

/* Half of the waits long: spinning for them is not worth it. */
static void
every_other_wait_long(void **state)
{
	struct ipci_wait wait = wait_that_may();
	int i, spun = 0;

	(void)state;
	for (i = 0; i < 1000; i++) {
		wait.several_cpus = true;
		spun += ipci_wait_spin_ns(&wait, NOW) > 0;
		ipci_wait_learn(&wait, i % 2 ? 1000 * MS : 1000, true);
	}
	check(spun <= 520);
}

static void
a_named_time_is_kept(void **state)
{
	static const int32_t names_us[] = {1, 50, IPC_CHANNEL_SPIN_US_LIMIT};
	struct ipci_wait wait;
	unsigned int i, k;

	(void)state;
	for (i = 0; i < 3; i++) {
		ipci_wait_init(&wait, names_us[i]);
		check(!ipci_wait_learns(&wait));
		for (k = 0; k < 20; k++) {
			check_equal(ipci_wait_spin_ns(&wait, NOW), (int64_t)names_us[i] * 1000);
			check_equal(ipci_wait_gap_ns(&wait), 0);
			ipci_wait_learn(&wait, 1000 * MS, true);
			ipci_wait_learn(&wait, 40000, false);
		}
		check(!wait.known);
	}
	ipci_wait_init(&wait, -1);
	check(!ipci_wait_learns(&wait));
	for (k = 0; k < 20; k++) {
		check_equal(ipci_wait_spin_ns(&wait, NOW), 0);
		ipci_wait_learn(&wait, 10, false);
	}
}

/* Looks are rare where waits are long, and without a break where they are short. */
static void
the_gap_follows_typical_waits(void **state)
{
	struct ipci_wait wait = wait_that_may();
	int i;

	(void)state;
	for (i = 0; i < 200; i++)
		ipci_wait_learn(&wait, 30000, false);
	check(wait.typical_ns > 29000 && wait.typical_ns <= 30000);
	check_equal(ipci_wait_gap_ns(&wait), wait.typical_ns / IPCI_WAIT_LOOKS);

	/* A wait that slept says nothing of those that spinning meets. */
	ipci_wait_learn(&wait, 1000 * MS, true);
	check(wait.typical_ns <= 30000);

	for (i = 0; i < 200; i++)
		ipci_wait_learn(&wait, 2000, false);
	check(wait.typical_ns < 2100);
	check_equal(ipci_wait_gap_ns(&wait), 0);
}

static void
each_ban_is_enough(void **state)
{
	struct ipci_wait wait = wait_that_may();

	(void)state;
	wait.quota_allows = false;
	check_equal(ipci_wait_spin_ns(&wait, NOW), 0);
	wait = wait_that_may();
	wait.several_cpus = false;
	check_equal(ipci_wait_spin_ns(&wait, NOW), 0);
}

/* One CPU: a wait that learns never spins there, one with a named time does. */
static void
on_one_cpu(void **state)
{
	bool quota_allows =
		ipci_cpus_quota(IPCI_CGROUP_MEMBERSHIP, IPCI_CGROUP_ROOT) >= IPCI_WAIT_QUOTA_MIN;
	struct ipci_wait wait, early, named;
	cpu_set_t before, one;
	size_t cpu = 0;

	(void)state;
	check_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	if (CPU_COUNT(&before) < 2) {
		test_lacks("a second CPU");
		return;
	}
	ipci_wait_init(&early, 0);
	check_equal(ipci_wait_spin_ns(&early, NOW), quota_allows ? IPCI_WAIT_SPIN_NS : 0);

	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	check_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	ipci_wait_init(&wait, 0);
	check_equal(ipci_wait_spin_ns(&wait, NOW), 0);
	ipci_wait_init(&named, 20);
	check_equal(ipci_wait_spin_ns(&named, NOW), 20000);
	/* One that was spinning learns of it with its next sleep. */
	ipci_wait_learn(&early, 1000 * MS, true);
	check(early.score > 0);
	check_equal(ipci_wait_spin_ns(&early, NOW), 0);

	/* And of its end. */
	check_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	ipci_wait_learn(&wait, 1000 * MS, true);
	check(wait.score > 0);
	check_equal(ipci_wait_spin_ns(&wait, NOW), quota_allows ? IPCI_WAIT_SPIN_NS : 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(a_deadline_rounds_up),
		channel_test(it_begins_once),
		channel_test(never_and_for_ever),
		channel_test(a_busy_wait_is_not_early),
		channel_test(a_new_wait_spins),
		channel_test(long_waits_end_spinning_and_short_ones_begin_it),
		channel_test(an_interrupted_spin_rests),
		channel_test(a_good_record_outlives_single_long_waits),
		channel_test(every_other_wait_long),
		channel_test(a_named_time_is_kept),
		channel_test(the_gap_follows_typical_waits),
		channel_test(each_ban_is_enough),
		channel_test(on_one_cpu),
	};

	return run_group(tests);
}
