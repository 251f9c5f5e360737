/* SPDX-License-Identifier: MIT */

/* Stops from anywhere, and a loop that goes from thread to thread. */

#include <grp.h>
#include <poll.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "loop_support.h"

#define CROWD 150

static void
stop_before_run_ends_it_at_once(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		ipc_loop_stop(loop);
		check_equal(ipc_loop_run(loop), 0);
	}
	/* Two are as one. */
	ipc_loop_stop(loop);
	ipc_loop_stop(loop);
	check_equal(ipc_loop_run(loop), 0);
	ipc_loop_destroy(loop);
}

static void
a_stop_ends_a_turns_wait(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);

	(void)state;
	ipc_loop_stop(loop);
	check_equal(ipc_loop_turn(loop, -1), 0);
	/* It is spent with that. */
	check_equal(ipc_loop_turn(loop, 10), 0);
	ipc_loop_stop(loop);
	check_equal(ipc_loop_turn(loop, 0), 0);
	ipc_loop_destroy(loop);
}

static void
stop_in_message(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	(void)message;
	if (ear->messages == 5)
		ipc_loop_stop(ear->loop);
}

static void
a_stop_within_a_callback_ends_run(void **state)
{
	struct ear ear = {.on_message = stop_in_message};
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_channel *a, *b;
	int i;

	(void)state;
	pair_open(&a, &b, NULL);
	ear_attach(&ear, loop, a);
	for (i = 0; i < 10; i++)
		send_text(b, "text");
	gather_text(a, "gathered");
	check_equal(ipc_loop_run(loop), 0);
	check(ear.messages >= 5);
	/* What was gathered has gone. */
	expect_text(b, "gathered");
	turn_until(loop, ear.messages == 10);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

static void
stop_on_timer(struct ipc_timer *timer, void *user)
{
	(void)timer;
	ipc_loop_stop(user);
}

static void
run_did_not_end(struct ipc_timer *timer, void *user)
{
	(void)timer;
	(void)user;
	check(false);
}

static void
a_stop_within_a_turns_callback_ends_the_run_called_next(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_timer *timer;
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		check_equal(ipc_timer_start(NULL, loop, 0, 0, stop_on_timer, loop), 0);
		check_equal(ipc_loop_turn(loop, TEST_WAIT_MS), 1);
		check_equal(
			ipc_timer_start(&timer, loop, TEST_WAIT_MS, 0, run_did_not_end, NULL), 0);
		check_equal(ipc_loop_run(loop), 0);
		ipc_timer_stop(timer);
		/* It is spent with that. */
		check_equal(ipc_loop_turn(loop, 10), 0);
		check_equal(ipc_timer_start(NULL, loop, 5, 0, stop_on_timer, loop), 0);
		check_equal(ipc_loop_run(loop), 0);
	}
	ipc_loop_destroy(loop);
}

static void
run_goes_on_until_it_is_stopped(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	int i;

	(void)state;
	for (i = 0; i < 5; i++) {
		check_equal(ipc_timer_start(NULL, loop, 5, 0, stop_on_timer, loop), 0);
		check_equal(ipc_loop_run(loop), 0);
	}
	ipc_loop_destroy(loop);
}

/* A thread that stops the loop once for each time that it is wanted. */
struct stopper {
	struct ipc_loop *loop;
	atomic_uint wanted, made;
	atomic_bool done;
};

static void *
stop_when_wanted(void *arg)
{
	struct stopper *stopper = arg;

	while (!stopper->done) {
		if (stopper->wanted == stopper->made) {
			(void)sched_yield();
			continue;
		}
		ipc_loop_stop(stopper->loop);
		stopper->made++;
	}
	return NULL;
}

static void
a_stop_comes_from_any_thread(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct stopper stopper = {.loop = loop};
	unsigned int n = test_count(5000, 500), i;
	pthread_t thread;

	(void)state;
	check_equal(pthread_create(&thread, NULL, stop_when_wanted, &stopper), 0);
	for (i = 1; i <= n; i++) {
		/* Before the call, at its begin, or while it waits: none is missed. */
		stopper.wanted++;
		check_equal(i % 2 ? ipc_loop_run(loop) : ipc_loop_turn(loop, -1), 0);
		while (stopper.made != i)
			(void)sched_yield();
	}
	stopper.done = true;
	check_equal(pthread_join(thread, NULL), 0);
	ipc_loop_destroy(loop);
}

static struct ipc_loop *signalled;

static void
stop_on_signal(int signal)
{
	(void)signal;
	ipc_loop_stop(signalled);
}

static void
a_stop_comes_from_a_signal_handler(void **state)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
	struct itimerspec times = {.it_value = {.tv_nsec = 5000000}};
	struct sigaction action = {.sa_handler = stop_on_signal}, before;
	timer_t timer;
	int i;

	(void)state;
	/* Until a call that it knows, and liburing makes none. */
	if (HAS_THREAD_SANITIZER && is_on_uring()) {
		test_lacks("signals in time: ThreadSanitizer puts them off");
		skip();
	}
	signalled = loop_open(NULL);
	check_equal(sigaction(SIGUSR2, &action, &before), 0);
	check_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	for (i = 0; i < 10; i++) {
		check_equal(timer_settime(timer, 0, &times, NULL), 0);
		check_equal(i % 2 ? ipc_loop_run(signalled) : ipc_loop_turn(signalled, -1), 0);
	}
	check_equal(timer_delete(timer), 0);
	check_equal(sigaction(SIGUSR2, &before, NULL), 0);
	ipc_loop_destroy(signalled);
}

/* A loop in the hands of other threads, one after the other. */

struct journey {
	struct ipc_loop *loop;
	struct ipc_channel *own, *peer;
	struct ear ear;
	unsigned int wanted; /* messages to be heard */
	int watched;
	unsigned int seen, rung;
};

static void
see(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct journey *journey = user;
	uint64_t value;

	(void)watch;
	check_equal(events, POLLIN);
	check_equal(read(journey->watched, &value, sizeof(value)), sizeof(value));
	journey->seen++;
}

static void
ring(struct ipc_timer *timer, void *user)
{
	(void)timer;
	((struct journey *)user)->rung++;
}

static void
expect_in_order(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	check_equal(message->id, ear->messages);
	check_equal(message->n_fds, 1);
}

static void *
create_elsewhere(void *arg)
{
	struct journey *journey = arg;
	struct ipc_watch *watch;

	journey->loop = loop_open(NULL);
	journey->ear.on_message = expect_in_order;
	ear_attach(&journey->ear, journey->loop, journey->own);
	check_equal(
		ipc_watch_start(&watch, journey->loop, journey->watched, POLLIN, see, journey), 0);
	return NULL;
}

static void *
turn_elsewhere(void *arg)
{
	struct journey *journey = arg;

	while (journey->ear.messages < journey->wanted)
		check(ipc_loop_turn(journey->loop, TEST_WAIT_MS) >= 0);
	return NULL;
}

static void *
destroy_elsewhere(void *arg)
{
	struct journey *journey = arg;

	journey->loop = ipc_loop_destroy(journey->loop);
	return NULL;
}

static void
in_thread(void *(*run)(void *arg), struct journey *journey)
{
	pthread_t thread;

	check_equal(pthread_create(&thread, NULL, run, journey), 0);
	check_equal(pthread_join(thread, NULL), 0);
}

static void
journey_begin(struct journey *journey)
{
	memset(journey, 0, sizeof(*journey));
	journey->watched = eventfd(0, EFD_CLOEXEC);
	check(journey->watched >= 0);
	pair_open(&journey->own, &journey->peer, OPTIONS(.fds_max = 1));
	in_thread(create_elsewhere, journey);
}

static void
journey_end(struct journey *journey)
{
	ipc_loop_destroy(journey->loop);
	ipc_channel_close(journey->own);
	ipc_channel_close(journey->peer);
	check_equal(close(journey->watched), 0);
}

/* Messages with a descriptor each, of a kind that whoever receives it closes at once. */
static void
send_more(struct journey *journey, unsigned int n)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct ipc_message message = {.n_fds = 1, .fds = &fd};

	check(fd >= 0);
	while (n--) {
		message.id = ++journey->wanted;
		check_equal(ipc_channel_send(journey->peer, &message, 0), 0);
	}
	check_equal(close(fd), 0);
}

static void
a_loop_is_created_turned_and_destroyed_by_different_threads(void **state)
{
	struct journey journey;
	unsigned int i;

	(void)state;
	journey_begin(&journey);
	for (i = 0; i < 10; i++) {
		send_more(&journey, 5);
		if (i % 3)
			in_thread(turn_elsewhere, &journey);
		else
			turn_elsewhere(&journey);
		check_equal(journey.ear.messages, journey.wanted);
	}
	in_thread(destroy_elsewhere, &journey);
	/* All that came is the channel's. */
	send_text(journey.peer, "directly");
	expect_text(journey.own, "directly");
	journey_end(&journey);
}

static void
a_change_of_threads_keeps_what_was_under_way(void **state)
{
	struct journey journey;
	unsigned int i;

	(void)state;
	journey_begin(&journey);
	check_equal(ipc_timer_start(NULL, journey.loop, 1, 1, ring, &journey), 0);
	for (i = 1; i <= 10; i++) {
		/* It comes while the loop is in nobody's hands. */
		send_more(&journey, 20);
		check_equal(eventfd_write(journey.watched, 1), 0);
		gather_text(journey.own, "gathered by the first");
		in_thread(turn_elsewhere, &journey);
		turn_until(journey.loop, journey.seen == i);
		expect_text(journey.peer, "gathered by the first");
	}
	turn_until(journey.loop, journey.rung > 0);
	journey_end(&journey);
}

static void *
turn_once_elsewhere(void *arg)
{
	check(ipc_loop_turn(((struct journey *)arg)->loop, 0) >= 0);
	return NULL;
}

static void
a_change_of_threads_keeps_what_waits_for_a_full_socket(void **state)
{
	struct journey journey;
	struct ipc_message message;
	unsigned int n, i, round;

	(void)state;
	for (round = 0; round < 4; round++) {
		journey_begin(&journey);
		(void)turn_out(journey.loop);
		n = gather_until_full(journey.own, round % 2 ? 40000 : 9);
		/* A send is parked in the first one's name. */
		for (i = 0; i < 3; i++)
			check(ipc_loop_turn(journey.loop, 0) >= 0);
		for (i = 0; i < n; i++) {
			while (ipc_channel_recv(journey.peer, &message, 0) == -EAGAIN)
				in_thread(turn_once_elsewhere, &journey);
			check(is_filled(message.data, message.size, i));
		}
		in_thread(destroy_elsewhere, &journey);
		expect_nothing(journey.peer);
		journey_end(&journey);
	}
}

static void
destroyed_by_another_thread_what_waits_stays_gathered(void **state)
{
	struct journey journey;
	struct ipc_message message;
	unsigned int n, i;

	(void)state;
	journey_begin(&journey);
	(void)turn_out(journey.loop);
	n = gather_until_full(journey.own, 40000);
	for (i = 0; i < 3; i++)
		check(ipc_loop_turn(journey.loop, 0) >= 0);
	send_more(&journey, 5);
	in_thread(destroy_elsewhere, &journey);
	for (i = 0; i < n; i++) {
		while (ipc_channel_recv(journey.peer, &message, 0) == -EAGAIN)
			(void)ipc_channel_flush(journey.own, 0);
		check(is_filled(message.data, message.size, i));
	}
	for (i = journey.ear.messages; i < 5; i++) {
		check_equal(ipc_channel_recv(journey.own, &message, 0), 0);
		check_equal(message.id, i + 1);
		check_equal(message.n_fds, 1);
	}
	journey_end(&journey);
}

static void
its_descriptor_goes_with_it(void **state)
{
	struct journey journey;
	struct pollfd entry = {.events = POLLIN};
	unsigned int i;

	(void)state;
	journey_begin(&journey);
	entry.fd = ipc_loop_fd(journey.loop);
	for (i = 0; i < 10; i++) {
		send_more(&journey, 1);
		check_equal(poll(&entry, 1, TEST_WAIT_MS), 1);
		in_thread(turn_elsewhere, &journey);
		turn_until(journey.loop, poll(&entry, 1, 0) == 0);
		check_equal(ipc_loop_fd(journey.loop), entry.fd);
	}
	journey_end(&journey);
}

/* As many channels as the engine cannot begin to receive from with one submit. */
struct crowd {
	struct ipc_loop *loop;
	struct ipc_channel *own[CROWD], *peer[CROWD];
	struct ear ears[CROWD];
};

/* It has all time that it wants, and needs none: a message waits. */
static void *
turn_a_crowd_elsewhere(void *arg)
{
	struct crowd *crowd = arg;
	int64_t start_ms = now_ms();

	check_equal(ipc_loop_turn(crowd->loop, TEST_WAIT_MS), 1);
	check(now_ms() - start_ms < TEST_WAIT_MS);
	return NULL;
}

static void
after_a_change_of_threads_no_turn_sleeps_on_a_message(void **state)
{
	static struct crowd crowd;
	pthread_t thread;
	unsigned int i;

	(void)state;
	memset(&crowd, 0, sizeof(crowd));
	crowd.loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	for (i = 0; i < CROWD; i++) {
		pair_open(&crowd.own[i], &crowd.peer[i],
			OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_MIN));
		ear_attach(&crowd.ears[i], crowd.loop, crowd.own[i]);
	}
	(void)turn_out(crowd.loop);
	/* What is begun first, last, and in between. */
	for (i = 0; i < CROWD; i += CROWD / 10) {
		send_text(crowd.peer[i], "text");
		check_equal(pthread_create(&thread, NULL, turn_a_crowd_elsewhere, &crowd), 0);
		check_equal(pthread_join(thread, NULL), 0);
		check_equal(crowd.ears[i].messages, 1);
	}
	ipc_loop_destroy(crowd.loop);
	for (i = 0; i < CROWD; i++) {
		ipc_channel_close(crowd.own[i]);
		ipc_channel_close(crowd.peer[i]);
	}
}

/* Everything that is under way, others may poll for, and was begun by this thread. */
static void *
begin_elsewhere(void *arg)
{
	struct journey *journey = arg;

	check(ipc_loop_fd(journey->loop) >= 0);
	send_more(journey, 1);
	(void)turn_elsewhere(journey);
	(void)turn_out(journey->loop);
	return NULL;
}

/* A thread that had the loop, and has other things to do now. */
struct busy {
	struct journey *journey;
	atomic_bool turned, done;
};

static void *
begin_and_be_busy(void *arg)
{
	struct busy *busy = arg;

	(void)begin_elsewhere(busy->journey);
	busy->turned = true;
	/* Without a system call, at whose end the kernel would do what was begun here. */
	while (!busy->done)
		;
	return NULL;
}

/* Each message that was sent is found by a turn that does not even wait. */
static void
expect_prompt(struct journey *journey)
{
	unsigned int i;

	for (i = 0; i < 50; i++) {
		send_more(journey, 1);
		check_equal(ipc_loop_turn(journey->loop, 0), 1);
	}
}

static void
polled_and_handed_on_it_does_not_wait_for_a_busy_thread(void **state)
{
	struct journey journey;
	struct busy busy = {.journey = &journey};
	pthread_t thread;

	(void)state;
	journey_begin(&journey);
	check_equal(pthread_create(&thread, NULL, begin_and_be_busy, &busy), 0);
	while (!busy.turned)
		(void)sched_yield();
	expect_prompt(&journey);
	busy.done = true;
	check_equal(pthread_join(thread, NULL), 0);
	expect_prompt(&journey);
	journey_end(&journey);
}

static void
polled_and_handed_on_it_does_not_wait_for_a_thread_that_is_gone(void **state)
{
	struct journey journey;
	unsigned int i;

	(void)state;
	journey_begin(&journey);
	for (i = 0; i < 10; i++) {
		in_thread(begin_elsewhere, &journey);
		expect_prompt(&journey);
	}
	journey_end(&journey);
}

/* Whose memory that is locked no other test counts. */
#define USER_OF_CHANGES 65432
/* Of a user, as Debian has it. */
#define MEMLOCK_MAX (8U << 20)

static void *
turn_for_one_elsewhere(void *arg)
{
	struct journey *journey = arg;

	check_equal(ipc_loop_turn(journey->loop, TEST_WAIT_MS), 1);
	return NULL;
}

static void
change_threads_often(void *arg)
{
	const struct rlimit limit = {.rlim_cur = MEMLOCK_MAX, .rlim_max = MEMLOCK_MAX};
	unsigned int n = test_count(600, 300), i;
	struct journey journey;

	(void)arg;
	check_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	check_equal(setgroups(0, NULL), 0);
	check_equal(setresgid(USER_OF_CHANGES, USER_OF_CHANGES, USER_OF_CHANGES), 0);
	check_equal(setresuid(USER_OF_CHANGES, USER_OF_CHANGES, USER_OF_CHANGES), 0);
	journey_begin(&journey);
	for (i = 0; i < n; i++) {
		send_more(&journey, 1);
		in_thread(turn_for_one_elsewhere, &journey);
	}
	journey_end(&journey);
}

static void
many_changes_of_threads_do_with_a_users_memory_to_lock(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		test_lacks("a user of its own: this is not root");
		skip();
	}
	child_end(child_start(change_threads_often, NULL));
}

/* A channel may be detached or closed by another thread than the one that turned. */
static void *
detach_elsewhere(void *arg)
{
	struct journey *journey = arg;

	check_equal(ipc_loop_detach(journey->loop, journey->own), 0);
	return NULL;
}

static void
detached_by_another_thread_nothing_is_lost(void **state)
{
	struct ipc_message message;
	struct journey journey;
	unsigned int i, round;

	(void)state;
	journey_begin(&journey);
	for (round = 0; round < 20; round++) {
		(void)turn_out(journey.loop);
		send_more(&journey, 10);
		gather_text(journey.own, "gathered");
		in_thread(detach_elsewhere, &journey);
		for (i = journey.ear.messages; i < journey.wanted; i++) {
			check_equal(ipc_channel_recv(journey.own, &message, 0), 0);
			check_equal(message.id, i + 1);
		}
		check_equal(ipc_channel_flush(journey.own, 0), 0);
		expect_text(journey.peer, "gathered");
		ear_attach(&journey.ear, journey.loop, journey.own);
		journey.ear.messages = journey.wanted;
	}
	journey_end(&journey);
}

/* Loops of different threads share nothing. */
struct lonely {
	unsigned int rounds, heard;
	struct ipc_channel *a, *b;
};

static void
bounce(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct lonely *lonely = user;

	(void)message;
	lonely->heard++;
	check_equal(ipc_channel_send(channel, &(struct ipc_message){.size = 0}, 0), 0);
}

static void *
live_alone(void *arg)
{
	static const struct ipc_channel_handler handler = {.message = bounce};
	struct lonely *lonely = arg;
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.buffers = 8));

	pair_open(&lonely->a, &lonely->b, NULL);
	check_equal(ipc_loop_attach(loop, lonely->a, &handler, lonely), 0);
	check_equal(ipc_loop_attach(loop, lonely->b, &handler, lonely), 0);
	check_equal(ipc_channel_send(lonely->a, &(struct ipc_message){.size = 0}, 0), 0);
	while (lonely->heard < lonely->rounds)
		check(ipc_loop_turn(loop, TEST_WAIT_MS) >= 0);
	ipc_channel_close(lonely->a);
	ipc_channel_close(lonely->b);
	ipc_loop_destroy(loop);
	return NULL;
}

static void
loops_of_several_threads_share_nothing(void **state)
{
	enum { N = 4 };
	struct lonely lonely[N] = {{.rounds = 0}};
	pthread_t threads[N];
	unsigned int i;

	(void)state;
	for (i = 0; i < N; i++) {
		lonely[i].rounds = test_count(20000, 1000);
		check_equal(pthread_create(&threads[i], NULL, live_alone, &lonely[i]), 0);
	}
	for (i = 0; i < N; i++)
		check_equal(pthread_join(threads[i], NULL), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(stop_before_run_ends_it_at_once),
		loop_test(a_stop_ends_a_turns_wait),
		loop_test(a_stop_within_a_callback_ends_run),
		loop_test(a_stop_within_a_turns_callback_ends_the_run_called_next),
		loop_test(run_goes_on_until_it_is_stopped),
		loop_test(a_stop_comes_from_any_thread),
		loop_test(a_stop_comes_from_a_signal_handler),
		loop_test(a_loop_is_created_turned_and_destroyed_by_different_threads),
		loop_test(a_change_of_threads_keeps_what_was_under_way),
		loop_test(a_change_of_threads_keeps_what_waits_for_a_full_socket),
		loop_test(destroyed_by_another_thread_what_waits_stays_gathered),
		loop_test(its_descriptor_goes_with_it),
		loop_test(after_a_change_of_threads_no_turn_sleeps_on_a_message),
		loop_test(polled_and_handed_on_it_does_not_wait_for_a_busy_thread),
		loop_test(polled_and_handed_on_it_does_not_wait_for_a_thread_that_is_gone),
		loop_test(many_changes_of_threads_do_with_a_users_memory_to_lock),
		loop_test(detached_by_another_thread_nothing_is_lost),
		loop_test(loops_of_several_threads_share_nothing),
	};

	return run_on_engines(tests);
}
