/* SPDX-License-Identifier: MIT */

/*
 * Callbacks that never come back: by the end of their thread the loop is as if they had; by a
 * longjmp(3) it cannot go on, and says so.
 */

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc/worker.h>

#include "loop_support.h"

static struct world {
	struct ipc_loop *loop;
	struct ipc_channel *own, *peer;
	unsigned int messages, others;
	bool leaves; /* the next callback does */
	bool detaches, destroys, stops;
	struct ipc_watch *watch;
	struct ipc_timer *timer;
} world;

static void
leave(void)
{
	if (!world.leaves)
		return;
	world.leaves = false;
	if (world.detaches)
		check_equal(ipc_loop_detach(world.loop, world.own), 0);
	if (world.destroys)
		world.loop = ipc_loop_destroy(world.loop);
	pthread_exit(NULL);
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	(void)user;
	world.messages++;
	leave();
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	(void)channel;
	(void)reason;
	(void)user;
	world.others++;
	leave();
}

static void
on_watch(struct ipc_watch *watch, unsigned int events, void *user)
{
	(void)user;
	(void)events;
	world.others++;
	if (world.stops)
		world.watch = ipc_watch_stop(watch);
	leave();
}

static void
on_timer(struct ipc_timer *timer, void *user)
{
	(void)user;
	world.others++;
	if (world.stops)
		world.timer = ipc_timer_stop(timer);
	leave();
}

static const struct ipc_channel_handler handler = {.message = on_message, .closed = on_closed};

static void *
turn_once(void *arg)
{
	(void)arg;
	(void)ipc_loop_turn(world.loop, TEST_WAIT_MS);
	return NULL;
}

/* In a thread that does not come back. */
static void
leave_a_turn(void)
{
	pthread_t thread;

	world.leaves = true;
	check_equal(pthread_create(&thread, NULL, turn_once, NULL), 0);
	check_equal(pthread_join(thread, NULL), 0);
	check(!world.leaves);
}

static void
world_open(void)
{
	memset(&world, 0, sizeof(world));
	world.loop = loop_open(NULL);
	pair_open(&world.own, &world.peer, OPTIONS(.fds_max = 1));
	check_equal(ipc_loop_attach(world.loop, world.own, &handler, NULL), 0);
	(void)turn_out(world.loop);
}

static void
world_close(void)
{
	ipc_channel_close(world.own);
	ipc_channel_close(world.peer);
	ipc_loop_destroy(world.loop);
}

static void
after_a_message_that_was_left_the_rest_is_given_out(void **state)
{
	unsigned int i;

	(void)state;
	world_open();
	for (i = 0; i < 10; i++) {
		check_equal(ipc_channel_post(
				    world.peer, &(struct ipc_message){.data = "x", .size = 1}, 0),
			0);
		if (i % 2)
			check_equal(ipc_channel_flush(world.peer, 0), 0);
	}
	leave_a_turn();
	check_equal(world.messages, 1);
	leave_a_turn();
	check_equal(world.messages, 2);
	(void)turn_out(world.loop);
	check_equal(world.messages, 10);
	send_text(world.peer, "more");
	(void)turn_out(world.loop);
	check_equal(world.messages, 11);
	world_close();
}

static void
after_a_message_that_detached_its_channel_and_was_left_it_has_the_rest(void **state)
{
	struct ipc_message message;

	(void)state;
	world_open();
	send_text(world.peer, "one");
	send_text(world.peer, "two");
	world.detaches = true;
	leave_a_turn();
	check_equal(world.messages, 1);
	check_equal(ipc_loop_turn(world.loop, 0), 0);
	check_equal(ipc_channel_recv(world.own, &message, 0), 0);
	check_equal(strcmp(message.data, "two"), 0);
	world_close();
}

static void
a_loop_that_was_destroyed_by_a_callback_that_was_left_is_freed(void **state)
{
	(void)state;
	world_open();
	send_text(world.peer, "one");
	world.destroys = true;
	leave_a_turn();
	check(!world.loop);
	world_close();
}

static void
after_closed_was_left_the_loop_goes_on(void **state)
{
	(void)state;
	world_open();
	world.peer = ipc_channel_close(world.peer);
	leave_a_turn();
	check_equal(world.others, 1);
	check_equal(ipc_loop_turn(world.loop, 0), 0);
	world_close();
}

static void
watches_and_timers_that_were_left_go_on_or_are_gone(void **state)
{
	int fd = eventfd(1, EFD_CLOEXEC);
	unsigned int i;

	(void)state;
	check(fd >= 0);
	for (i = 0; i < 2; i++) {
		world_open();
		world.stops = i;
		check_equal(
			ipc_watch_start(&world.watch, world.loop, fd, POLLIN, on_watch, NULL), 0);
		leave_a_turn();
		check_equal(world.others, 1);
		if (i)
			check_equal(ipc_loop_turn(world.loop, 0), 0);
		else
			turn_until(world.loop, world.others == 2);
		if (world.watch)
			ipc_watch_stop(world.watch);
		check_equal(ipc_timer_start(&world.timer, world.loop, 0, 0, on_timer, NULL), 0);
		leave_a_turn();
		check_equal(ipc_timer_start(&world.timer, world.loop, 0, 1, on_timer, NULL), 0);
		leave_a_turn();
		world.others = 0;
		if (world.timer)
			turn_until(world.loop, world.others == 1);
		else
			check_equal(ipc_loop_turn(world.loop, 10), 0);
		world_close();
	}
	check_equal(close(fd), 0);
}

/* A worker's last words. */

static int
say_ten(struct ipc_channel *channel, void *arg)
{
	unsigned int i;

	(void)arg;
	for (i = 0; i < 10; i++)
		(void)ipc_channel_send(channel, &(struct ipc_message){.size = 0}, -1);
	return 0;
}

static void
on_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	(void)worker;
	(void)end;
	(void)user;
	world.others += 100;
}

static void
after_a_last_word_that_was_left_the_others_come_and_the_death(void **state)
{
	static const struct ipc_worker_options options = {.size = sizeof(options), .run = say_ten};
	static const struct ipc_worker_handler of_worker = {
		.channel = {.message = on_message}, .died = on_died};
	struct ipc_worker *worker;

	(void)state;
	world_open();
	check_equal(ipc_worker_spawn(&worker, &options), 0);
	check_equal(ipc_worker_wait(worker, TEST_WAIT_MS, NULL), 0);
	check_equal(ipc_worker_attach(world.loop, worker, &of_worker, NULL), 0);
	leave_a_turn();
	leave_a_turn();
	turn_until(world.loop, world.others == 100);
	check_equal(world.messages, 10);
	ipc_worker_free(worker);
	world_close();
}

static jmp_buf back;

static void
jump(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	(void)user;
	longjmp(back, 1);
}

static void
jump_out(void *arg)
{
	static const struct ipc_channel_handler jumps = {.message = jump};
	const struct rlimit none = {0, 0};

	(void)arg;
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
	check(freopen("/dev/null", "w", stderr));
	world_open();
	check_equal(ipc_loop_detach(world.loop, world.own), 0);
	check_equal(ipc_loop_attach(world.loop, world.own, &jumps, NULL), 0);
	send_text(world.peer, "text");
	if (setjmp(back) == 0)
		(void)ipc_loop_turn(world.loop, TEST_WAIT_MS);
	(void)ipc_loop_turn(world.loop, 0);
}

static void
a_callback_that_was_left_by_longjmp_is_told_of(void **state)
{
	(void)state;
	child_end_by(child_start(jump_out, NULL), SIGABRT);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(after_a_message_that_was_left_the_rest_is_given_out),
		loop_test(after_a_message_that_detached_its_channel_and_was_left_it_has_the_rest),
		loop_test(a_loop_that_was_destroyed_by_a_callback_that_was_left_is_freed),
		loop_test(after_closed_was_left_the_loop_goes_on),
		loop_test(watches_and_timers_that_were_left_go_on_or_are_gone),
		loop_test(after_a_last_word_that_was_left_the_others_come_and_the_death),
		loop_test(a_callback_that_was_left_by_longjmp_is_told_of),
	};

	return run_on_engines(tests);
}
