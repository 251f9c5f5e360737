/* SPDX-License-Identifier: MIT */

/* Timers: never early, in order, as often as was asked for, and gone when stopped. */

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loop_support.h"

static int64_t
now_ns(void)
{
	struct timespec now;

	check_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A timer and what it is to find. */
struct alarm {
	struct ipc_loop *loop;
	struct ipc_timer *timer;
	int64_t due_ns; /* of the next one */
	int64_t period_ns;
	unsigned int calls;
	unsigned int stop_after; /* calls; 0: never */
	struct alarm *other;     /* to be stopped */
	unsigned int *order;     /* counts all; NULL: nobody does */
	unsigned int place;
};

static void
ring(struct ipc_timer *timer, void *user)
{
	struct alarm *alarm = user;

	callback_enter();
	check(now_ns() >= alarm->due_ns);
	alarm->due_ns += alarm->period_ns;
	alarm->calls++;
	if (alarm->timer)
		check(timer == alarm->timer);
	if (alarm->order)
		alarm->place = (*alarm->order)++;
	if (alarm->other)
		alarm->other->timer = ipc_timer_stop(alarm->other->timer);
	if (alarm->stop_after && alarm->calls == alarm->stop_after)
		alarm->timer = ipc_timer_stop(timer);
	callback_leave();
}

static void
alarm_start(struct alarm *alarm, struct ipc_loop *loop, int delay_ms, int period_ms)
{
	alarm->loop = loop;
	alarm->due_ns = now_ns() + (int64_t)delay_ms * 1000000;
	alarm->period_ns = (int64_t)period_ms * 1000000;
	check_equal(ipc_timer_start(&alarm->timer, loop, delay_ms, period_ms, ring, alarm), 0);
	check(alarm->timer);
}

static void
a_timer_is_called_once_and_never_early(void **state)
{
	static const int delays_ms[] = {0, 1, 2, 3, 5, 10, 25};
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm;
	unsigned int i, round;

	(void)state;
	for (round = 0; round < test_count(10, 2); round++) {
		for (i = 0; i < 7; i++) {
			memset(&alarm, 0, sizeof(alarm));
			alarm_start(&alarm, loop, delays_ms[i], 0);
			turn_until(loop, alarm.calls == 1);
			check_equal(ipc_loop_turn(loop, 2), 0);
			check_equal(alarm.calls, 1);
		}
	}
	ipc_loop_destroy(loop);
}

static void
a_turn_waits_no_longer_than_for_the_next_timer(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0}, late = {.calls = 0};

	(void)state;
	alarm_start(&late, loop, 1000000, 0);
	alarm_start(&alarm, loop, 10, 0);
	/* It would wait for ever. */
	check_equal(ipc_loop_turn(loop, -1), 1);
	check_equal(alarm.calls, 1);
	check_equal(late.calls, 0);
	ipc_loop_destroy(loop);
}

static void
a_timer_that_is_not_due_makes_no_turn_wait(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};
	unsigned int i;

	(void)state;
	alarm_start(&alarm, loop, 1000000, 0);
	for (i = 0; i < 10; i++)
		check_equal(ipc_loop_turn(loop, 0), 0);
	check_equal(ipc_loop_turn(loop, 5), 0);
	check_equal(alarm.calls, 0);
	ipc_loop_destroy(loop);
}

static void
a_delay_of_0_is_the_next_turn(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};

	(void)state;
	alarm_start(&alarm, loop, 0, 0);
	check_equal(alarm.calls, 0);
	check_equal(ipc_loop_turn(loop, 0), 1);
	check_equal(alarm.calls, 1);
	ipc_loop_destroy(loop);
}

static void
timers_are_called_in_the_order_in_which_they_are_due(void **state)
{
	enum { N = 300 };
	static struct alarm alarms[N];
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int order = 0, i, k;
	int delays_ms[N];

	(void)state;
	memset(alarms, 0, sizeof(alarms));
	for (i = 0; i < N; i++) {
		delays_ms[i] = 20 + 10 * (int)test_random_below(8);
		alarms[i].order = &order;
		alarm_start(&alarms[i], loop, delays_ms[i], 0);
	}
	turn_until(loop, order == N);
	for (i = 0; i < N; i++) {
		check_equal(alarms[i].calls, 1);
		for (k = 0; k < N; k++)
			if (alarms[i].due_ns + 9000000 < alarms[k].due_ns)
				check(alarms[i].place < alarms[k].place);
	}
	ipc_loop_destroy(loop);
}

static void
many_timers_are_each_called_once(void **state)
{
	unsigned int n = test_count(20000, 2000), i, order = 0, expected = 0;
	struct alarm *alarms = calloc(n, sizeof(*alarms));
	struct ipc_loop *loop = loop_open(NULL);

	(void)state;
	check(alarms);
	for (i = 0; i < n; i++) {
		alarms[i].order = &order;
		alarm_start(&alarms[i], loop, (int)test_random_below(100), 0);
		/* Some are stopped before they are due, wherever they are kept. */
		if (i % 3 == 2 && alarms[i / 2].timer && alarms[i / 2].calls == 0)
			alarms[i / 2].timer = ipc_timer_stop(alarms[i / 2].timer);
	}
	for (i = 0; i < n; i++)
		expected += alarms[i].timer != NULL;
	turn_until(loop, order == expected);
	check_equal(ipc_loop_turn(loop, 5), 0);
	for (i = 0; i < n; i++)
		check_equal(alarms[i].calls, alarms[i].timer != NULL);
	free(alarms);
	ipc_loop_destroy(loop);
}

static void
a_periodic_timer_goes_on_until_it_is_stopped(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};

	(void)state;
	/* Each of its calls is after the time that its number gives. */
	alarm_start(&alarm, loop, 3, 2);
	turn_until(loop, alarm.calls == 20);
	check(!ipc_timer_stop(alarm.timer));
	check_equal(ipc_loop_turn(loop, 10), 0);
	check_equal(alarm.calls, 20);
	ipc_loop_destroy(loop);
}

static void
periods_that_were_missed_are_skipped(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};
	int64_t start_ns;
	unsigned int periods;

	(void)state;
	start_ns = now_ns();
	alarm_start(&alarm, loop, 10, 10);
	sleep_ms(85);
	check_equal(ipc_loop_turn(loop, 0), 1);
	check_equal(alarm.calls, 1);
	check_equal(ipc_loop_turn(loop, 0) <= 1, true);
	while (alarm.calls < 5)
		check(ipc_loop_turn(loop, 1000) >= 0);
	/* As many as there were times, less those that were missed. */
	periods = (unsigned int)((now_ns() - start_ns) / 10000000);
	check(alarm.calls <= periods - 6);
	ipc_loop_destroy(loop);
}

static void
a_timer_may_stop_itself_or_another(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm once = {.stop_after = 1}, third = {.stop_after = 3};
	struct alarm victim = {.calls = 0}, periodic_victim = {.calls = 0};
	struct alarm killer = {.other = &victim}, second = {.other = &periodic_victim};

	(void)state;
	alarm_start(&once, loop, 1, 0);
	alarm_start(&third, loop, 1, 1);
	alarm_start(&killer, loop, 2, 0);
	alarm_start(&second, loop, 2, 0);
	/* Due in the same turn as those that stop them, and a little later. */
	alarm_start(&victim, loop, 3, 0);
	alarm_start(&periodic_victim, loop, 3, 1);
	sleep_ms(6);
	turn_until(loop, third.calls == 3 && killer.calls && second.calls);
	check_equal(ipc_loop_turn(loop, 5), 0);
	check_equal(once.calls, 1);
	check_equal(third.calls, 3);
	check_equal(victim.calls, 0);
	check_equal(periodic_victim.calls, 0);
	ipc_loop_destroy(loop);
}

static void
again(struct ipc_timer *timer, void *user)
{
	struct alarm *alarm = user;

	(void)timer;
	alarm->calls++;
	check_equal(ipc_timer_start(&alarm->timer, alarm->loop, 0, 0, again, alarm), 0);
}

static void
a_timer_that_starts_another_for_now_keeps_no_turn_from_ending(void **state)
{
	struct alarm alarm = {.loop = loop_open(NULL)};
	unsigned int i;
	int r;

	(void)state;
	check_equal(ipc_timer_start(&alarm.timer, alarm.loop, 0, 0, again, &alarm), 0);
	for (i = 1; i <= 100; i++) {
		r = ipc_loop_turn(alarm.loop, 1000);
		check(r >= 1);
		check(r < 1000);
	}
	check(alarm.calls >= 100);
	ipc_loop_destroy(alarm.loop);
}

static void
start_many(struct ipc_timer *timer, void *user)
{
	struct alarm *alarms = user;
	unsigned int i;

	(void)timer;
	/* What is started while timers are called. */
	for (i = 1; i < 100; i++)
		alarm_start(&alarms[i], alarms[0].loop, (int)(i % 5), 0);
	for (i = 1; i < 100; i += 2)
		alarms[i].timer = ipc_timer_stop(alarms[i].timer);
}

static void
timers_may_be_started_and_stopped_within_a_timer(void **state)
{
	static struct alarm alarms[100];
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int i, order = 0;

	(void)state;
	memset(alarms, 0, sizeof(alarms));
	for (i = 0; i < 100; i++)
		alarms[i].order = &order;
	alarms[0].loop = loop;
	check_equal(ipc_timer_start(NULL, loop, 0, 0, start_many, alarms), 0);
	turn_until(loop, order == 49);
	check_equal(ipc_loop_turn(loop, 5), 0);
	for (i = 1; i < 100; i++)
		check_equal(alarms[i].calls, i % 2 == 0);
	ipc_loop_destroy(loop);
}

static void
stop_in_message(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct alarm *alarm = ear->arg;

	(void)channel;
	(void)message;
	alarm->timer = ipc_timer_stop(alarm->timer);
}

static void
a_timer_stopped_by_a_message_of_the_same_turn_is_not_called(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};
	struct ear ear = {.on_message = stop_in_message, .arg = &alarm};
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	ear_attach(&ear, loop, a);
	(void)turn_out(loop);
	send_text(b, "stop it");
	alarm_start(&alarm, loop, 0, 0);
	turn_until(loop, ear.messages == 1);
	check_equal(ipc_loop_turn(loop, 5), 0);
	check_equal(alarm.calls, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
negative_times_are_refused(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};
	struct ipc_timer *timer = NULL;

	(void)state;
	check_equal(ipc_timer_start(&timer, loop, -1, 0, ring, &alarm), -EINVAL);
	check_equal(ipc_timer_start(&timer, loop, 0, -1, ring, &alarm), -EINVAL);
	check_equal(ipc_timer_start(NULL, loop, INT_MIN, INT_MIN, ring, &alarm), -EINVAL);
	check(!timer);
	check_equal(ipc_loop_turn(loop, 2), 0);
	check_equal(alarm.calls, 0);
	ipc_loop_destroy(loop);
}

static void
the_longest_times_are_taken(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};

	(void)state;
	alarm_start(&alarm, loop, INT_MAX, INT_MAX);
	alarm_start(&alarm, loop, 0, INT_MAX);
	check_equal(ipc_loop_turn(loop, 0), 1);
	check_equal(ipc_loop_turn(loop, 2), 0);
	check_equal(alarm.calls, 1);
	ipc_loop_destroy(loop);
}

static void
nobody_needs_to_keep_a_timer(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct alarm alarm = {.calls = 0};

	(void)state;
	check(!ipc_timer_stop(NULL));
	check_equal(ipc_timer_start(NULL, loop, 0, 0, ring, &alarm), 0);
	check_equal(ipc_timer_start(NULL, loop, 0, 1, ring, &alarm), 0);
	turn_until(loop, alarm.calls == 5);
	/* The loop frees what is left. */
	check_equal(ipc_timer_start(NULL, loop, 100000, 0, ring, &alarm), 0);
	ipc_loop_destroy(loop);
}

static void
timers_are_called_in_every_run(void **state)
{
	struct ipc_loop *loops[2] = {loop_open(NULL), loop_open(NULL)};
	struct alarm alarms[2] = {{.calls = 0}, {.calls = 0}};

	(void)state;
	alarm_start(&alarms[0], loops[0], 1, 1);
	alarm_start(&alarms[1], loops[1], 5, 0);
	/* One loop's time is not the other's. */
	turn_until(loops[1], alarms[1].calls == 1);
	check_equal(alarms[0].calls, 0);
	turn_until(loops[0], alarms[0].calls == 3);
	ipc_loop_destroy(loops[0]);
	ipc_loop_destroy(loops[1]);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(a_timer_is_called_once_and_never_early),
		loop_test(a_turn_waits_no_longer_than_for_the_next_timer),
		loop_test(a_timer_that_is_not_due_makes_no_turn_wait),
		loop_test(a_delay_of_0_is_the_next_turn),
		loop_test(timers_are_called_in_the_order_in_which_they_are_due),
		loop_test(many_timers_are_each_called_once),
		loop_test(a_periodic_timer_goes_on_until_it_is_stopped),
		loop_test(periods_that_were_missed_are_skipped),
		loop_test(a_timer_may_stop_itself_or_another),
		loop_test(a_timer_that_starts_another_for_now_keeps_no_turn_from_ending),
		loop_test(timers_may_be_started_and_stopped_within_a_timer),
		loop_test(a_timer_stopped_by_a_message_of_the_same_turn_is_not_called),
		loop_test(negative_times_are_refused),
		loop_test(the_longest_times_are_taken),
		loop_test(nobody_needs_to_keep_a_timer),
		loop_test(timers_are_called_in_every_run),
	};

	return run_on_engines(tests);
}
