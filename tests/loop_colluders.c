/* SPDX-License-Identifier: MIT */

/*
 * Many channels whose peers flood, all at once, and one that does not: how long that one waits has
 * a bound, none of its descriptors is lost, and what came before a timer was due is given out
 * first.
 */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loop_support.h"

#define CHANNELS_MAX 200

/* The first is the good one. */
static struct fixture {
	struct ipc_loop *loop;
	unsigned int n;
	struct ipc_channel *own[CHANNELS_MAX], *peer[CHANNELS_MAX];
	struct ear ears[CHANNELS_MAX];
	uint64_t others;  /* messages */
	unsigned int due; /* timers called */
} fixture;

static void
count_other(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	(void)message;
	((struct fixture *)ear->arg)->others++;
}

static struct fixture *
fixture_open(unsigned int n, const struct ipc_channel_options *options)
{
	struct fixture *f = &fixture;
	unsigned int i;

	memset(f, 0, sizeof(*f));
	f->loop = loop_open(NULL);
	f->n = n;
	for (i = 0; i < n; i++) {
		pair_open(&f->own[i], &f->peer[i], options);
		f->ears[i] = (struct ear){.on_message = i ? count_other : NULL, .arg = f};
		ear_attach(&f->ears[i], f->loop, f->own[i]);
	}
	(void)turn_out(f->loop);
	return f;
}

static void
fixture_close(struct fixture *f)
{
	unsigned int i;

	for (i = 0; i < f->n; i++) {
		ipc_channel_close(f->own[i]);
		ipc_channel_close(f->peer[i]);
	}
	ipc_loop_destroy(f->loop);
}

/* As many as there is room for, of which a packet has so many. */
static void
flood(struct ipc_channel *channel, unsigned int each)
{
	static const struct ipc_message message = {.data = "12345678", .size = 8};
	unsigned int i;

	do {
		for (i = 0; i < each; i++)
			if (ipc_channel_post(channel, &message, 0) < 0)
				return;
	} while (ipc_channel_flush(channel, 0) == 0);
}

static void
floods(struct fixture *f, unsigned int each)
{
	unsigned int i;

	for (i = 1; i < f->n; i++)
		flood(f->peer[i], each);
}

/* However large the packets are that others send. */
static void
one_waits_for_a_round(unsigned int n, unsigned int each)
{
	struct fixture *f = fixture_open(n, NULL);
	unsigned int round;

	for (round = 1; round <= 8; round++) {
		floods(f, each);
		check(ipc_loop_turn(f->loop, 0) > 0);
		floods(f, each);
		f->others = 0;
		send_text(f->peer[0], "good");
		turn_until(f->loop, f->ears[0].messages == round);
		/* The rest of the round that was under way, on io_uring the one in which no
		   buffer was free, and the next. */
		check(f->others <= 3 * IPC_LOOP_TURN);
	}
	fixture_close(f);
}

static void
the_wait_is_bounded_by_a_round_however_many_others_flood(void **state)
{
	static const unsigned int numbers[] = {2, 17, 64, CHANNELS_MAX};
	unsigned int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		one_waits_for_a_round(numbers[i], 1);
		one_waits_for_a_round(numbers[i], 256);
		one_waits_for_a_round(numbers[i], 10000);
	}
}

/* Let this process have so many descriptors. Return: how many it could have. */
static rlim_t
limit_descriptors(rlim_t max)
{
	struct rlimit limit;
	rlim_t before;

	check_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = max < limit.rlim_max ? max : limit.rlim_max;
	check_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return before;
}

/* A loop sees some time that the limit has become lower. */
static void
settle_limit(struct fixture *f)
{
	unsigned int i;

	for (i = 0; i < 200; i++) {
		send_text(f->peer[0], "text");
		turn_until(f->loop, f->ears[0].messages == i + 1);
	}
	f->ears[0].messages = 0;
}

/* Packets full of descriptors, as many as go. */
static void
flood_fds(struct ipc_channel *channel, int fd)
{
	int fds[IPC_MESSAGE_FDS_LIMIT];
	struct ipc_message message = {.n_fds = IPC_MESSAGE_FDS_LIMIT, .fds = fds};
	unsigned int i;

	for (i = 0; i < IPC_MESSAGE_FDS_LIMIT; i++)
		fds[i] = fd;
	for (i = 0; i < 3 && ipc_channel_send(channel, &message, 0) == 0; i++)
		;
}

static void
send_good_fd(struct fixture *f, int fd, unsigned int number)
{
	struct ipc_message message = {.id = number, .n_fds = 1, .fds = &fd};

	/* Of all that is under way a user may have only so many. */
	while (ipc_channel_send(f->peer[0], &message, 0) == -EAGAIN)
		check(ipc_loop_turn(f->loop, 0) >= 0);
}

static void
check_losts(const struct fixture *f, unsigned int from)
{
	unsigned int i;

	check_equal(f->ears[0].losts, 0);
	for (i = from; i < f->n; i++)
		check_equal(f->ears[i].losts, 0);
}

static void
floods_of_descriptors(rlim_t limit)
{
	rlim_t before;
	struct fixture *f = fixture_open(10, OPTIONS(.fds_max = IPC_MESSAGE_FDS_LIMIT));
	unsigned int round, i;
	int fd;

	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	before = limit_descriptors(limit);
	settle_limit(f);
	for (round = 1; round <= 20; round++) {
		for (i = 1; i < f->n; i++)
			flood_fds(f->peer[i], fd);
		send_good_fd(f, fd, round);
		turn_until(f->loop, f->ears[0].messages + f->ears[0].losts == round);
		check_losts(f, 1);
	}
	(void)turn_out(f->loop);
	check_losts(f, 1);
	(void)limit_descriptors(before);
	check_equal(close(fd), 0);
	fixture_close(f);
}

static void
floods_of_descriptors_take_nobodys(void **state)
{
	(void)state;
	skip_without_descriptor_limit();
	floods_of_descriptors(600);
	floods_of_descriptors(1200);
	floods_of_descriptors(5000);
}

/* Each peer begins a large message with descriptors and does not go on. */
static void
large_messages_that_never_end_keep_no_descriptors_from_others(void **state)
{
	static unsigned char payload[4U << 20];
	struct fixture *f =
		fixture_open(10, OPTIONS(.fds_max = IPC_MESSAGE_FDS_LIMIT, .send_buffer = 200000));
	int fds[IPC_MESSAGE_FDS_LIMIT], fd;
	struct ipc_message large = {.data = payload,
		.size = sizeof(payload),
		.n_fds = IPC_MESSAGE_FDS_LIMIT,
		.fds = fds};
	unsigned int i;
	rlim_t before;

	(void)state;
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	for (i = 0; i < IPC_MESSAGE_FDS_LIMIT; i++)
		fds[i] = fd;
	before = limit_descriptors(700);
	settle_limit(f);
	for (i = 1; i < f->n; i++) {
		check_equal(ipc_channel_send(f->peer[i], &large, 0), -EAGAIN);
		(void)turn_out(f->loop);
	}
	for (i = 1; i <= 10; i++) {
		send_good_fd(f, fd, i);
		turn_until(f->loop, f->ears[0].messages + f->ears[0].losts == i);
		check_equal(f->ears[0].losts, 0);
	}
	(void)limit_descriptors(before);
	check_equal(close(fd), 0);
	fixture_close(f);
}

/* Its turn comes again after another one has been received from for long. */
static void
channels_that_take_turns_lose_no_descriptor(void **state)
{
	struct fixture *f = fixture_open(10, OPTIONS(.fds_max = 1));
	unsigned int round, i, n = 0;
	rlim_t before;
	int fd;

	(void)state;
	skip_without_descriptor_limit();
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	check(fd >= 0);
	before = limit_descriptors(1500);
	settle_limit(f);
	for (round = 0; round < 200; round++) {
		struct ipc_message message = {.n_fds = 1, .fds = &fd};

		i = (unsigned int)test_random_below(round % 50 < 25 ? 2 : f->n);
		check_equal(ipc_channel_send(f->peer[i], &message, 0), 0);
		n++;
		if (test_random_below(2))
			check(ipc_loop_turn(f->loop, 0) >= 0);
	}
	(void)turn_out(f->loop);
	for (i = 0; i < f->n; i++)
		n -= f->ears[i].messages;
	check_equal(n, 0);
	check_losts(f, 1);
	(void)limit_descriptors(before);
	check_equal(close(fd), 0);
	fixture_close(f);
}

/* Timers. */

static void
note_due(struct ipc_timer *timer, void *user)
{
	struct fixture *f = user;

	(void)timer;
	f->due++;
	/* All that had come. */
	check_equal(f->ears[0].messages, (unsigned int)(uintptr_t)f->ears[0].arg);
}

static void
expect_before_timer(unsigned int n_packets, unsigned int n_others)
{
	struct fixture *f = fixture_open(1 + n_others, NULL);
	unsigned int i;

	f->ears[0].arg = (void *)(uintptr_t)n_packets;
	check_equal(ipc_timer_start(NULL, f->loop, 1, 0, note_due, f), 0);
	for (i = 0; i < n_packets; i++)
		send_text(f->peer[0], "in time");
	floods(f, 300);
	sleep_ms(20);
	turn_until(f->loop, f->due == 1);
	check_equal(f->ears[0].messages, n_packets);
	fixture_close(f);
}

static void
what_has_arrived_comes_before_a_timer_that_is_due(void **state)
{
	(void)state;
	expect_before_timer(1, 0);
	expect_before_timer(12, 0);
	expect_before_timer(200, 0);
	expect_before_timer(12, 30);
	expect_before_timer(100, 150);
}

static void
flood_for_ever(struct ipc_channel *channel, void *arg)
{
	static const struct ipc_message message = {.data = "12345678", .size = 8};

	(void)arg;
	while (ipc_channel_post(channel, &message, -1) == 0)
		;
}

static void
count_due(struct ipc_timer *timer, void *user)
{
	(void)timer;
	((struct fixture *)user)->due++;
}

static void
an_endless_flood_holds_no_timer(void **state)
{
	struct fixture *f = fixture_open(1, NULL);
	struct worker worker = worker_start(NULL, flood_for_ever, NULL);
	struct ear ear = {.on_message = count_other, .arg = f};
	unsigned int i;

	(void)state;
	ear_attach(&ear, f->loop, worker.channel);
	turn_until(f->loop, f->others > 0);
	for (i = 1; i <= 20; i++) {
		check_equal(ipc_timer_start(NULL, f->loop, 0, 0, count_due, f), 0);
		check(ipc_loop_turn(f->loop, TEST_WAIT_MS) > 0);
		check_equal(f->due, i);
	}
	worker_end(&worker);
	fixture_close(f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(the_wait_is_bounded_by_a_round_however_many_others_flood),
		loop_test(floods_of_descriptors_take_nobodys),
		loop_test(large_messages_that_never_end_keep_no_descriptors_from_others),
		loop_test(channels_that_take_turns_lose_no_descriptor),
		loop_test(what_has_arrived_comes_before_a_timer_that_is_due),
		loop_test(an_endless_flood_holds_no_timer),
	};

	return run_on_engines(tests);
}
