/* SPDX-License-Identifier: MIT */

/* Ends: what was sent before a process died or closed arrives first, and then the end does. */

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static const unsigned char zeros[150000];

/* Send one or two messages and be gone, without a close. */
static void
say_and_exit(struct ipc_channel *channel, void *arg)
{
	unsigned int i = *(unsigned int *)arg;
	struct ipc_message message = {.data = &i, .size = sizeof(i)};

	if (i % 2) {
		check_equal(ipc_channel_post(channel, &message, 0), 0);
		check_equal(ipc_channel_flush(channel, 0), 0);
	}
	check_equal(ipc_channel_send(channel, &message, 0), 0);
	_exit(0);
}

static void
last_words_arrive(unsigned int rounds, bool leave_unread)
{
	struct ipc_message message;
	struct worker worker;
	unsigned int i, k;

	for (i = 0; i < rounds; i++) {
		worker = worker_start(NULL, say_and_exit, &i);
		/* What it leaves unread makes the kernel say ECONNRESET, before its words. */
		if (leave_unread)
			(void)ipc_channel_send(worker.channel, &(struct ipc_message){.size = 0}, 0);
		if (i % 4 == 0)
			child_end(worker.pid);
		for (k = 0; k < 1 + i % 2; k++) {
			check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
			check_equal(message.size, sizeof(i));
			check_equal(memcmp(message.data, &i, sizeof(i)), 0);
		}
		expect_end(worker.channel);
		if (i % 4)
			child_end(worker.pid);
		ipc_channel_close(worker.channel);
	}
}

static void
last_words_of_a_worker_arrive_every_time(void **state)
{
	(void)state;
	last_words_arrive(test_count(5000, 500), false);
}

static void
last_words_arrive_though_the_worker_left_data_unread(void **state)
{
	(void)state;
	last_words_arrive(test_count(5000, 500), true);
}

static void
a_reset_does_not_hide_what_was_sent(void **state)
{
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, NULL);
	send_text(a, "never read");
	for (i = 0; i < 5; i++)
		send_text(b, "last words");
	ipc_channel_close(b);
	for (i = 0; i < 5; i++)
		expect_text(a, "last words");
	expect_end(a);
	ipc_channel_close(a);
}

static void
a_reset_that_a_sender_met_does_not_hide_it_either(void **state)
{
	struct ipc_message message = text_message("too late");
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	send_text(a, "never read");
	send_text(b, "last words");
	ipc_channel_close(b);
	check_equal(ipc_channel_send(a, &message, TEST_WAIT_MS), -EPIPE);
	check_equal(ipc_channel_send(a, &message, TEST_WAIT_MS), -EPIPE);
	expect_text(a, "last words");
	expect_end(a);
	ipc_channel_close(a);
}

static void
sending_to_a_closed_peer_is_an_error_and_no_signal(void **state)
{
	struct ipc_message message = text_message("anyone?");
	struct ipc_channel *a, *b;
	int i;

	(void)state;
	/* SIGPIPE has its default action here, and would end this program. */
	check(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
	pair_open(&a, &b, NULL);
	ipc_channel_close(b);
	for (i = 0; i < 3; i++) {
		check_equal(ipc_channel_send(a, &message, TEST_WAIT_MS), -EPIPE);
		check_equal(ipc_channel_send(a, &message, 0), -EPIPE);
	}
	check_equal(ipc_channel_call(a, &message, &message, TEST_WAIT_MS), -EPIPE);
	ipc_channel_close(a);
}

static void
a_flush_to_a_closed_peer_tells(void **state)
{
	struct ipc_message message = text_message("gathered");
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	ipc_channel_close(b);
	check_equal(ipc_channel_flush(a, TEST_WAIT_MS), -EPIPE);
	check_equal(ipc_channel_flush(a, 0), -EPIPE);
	ipc_channel_close(a);
}

static void
posts_to_a_closed_peer_end(void **state)
{
	struct ipc_message message = {.data = zeros, .size = 1000};
	struct ipc_channel *a, *b;
	unsigned int i;
	int r = 0;

	(void)state;
	pair_open(&a, &b, NULL);
	ipc_channel_close(b);
	/* Gathered until a record is full, and no longer. */
	for (i = 0; i < 1000 && r == 0; i++)
		r = ipc_channel_post(a, &message, TEST_WAIT_MS);
	check_equal(r, -EPIPE);
	message.size = sizeof(zeros);
	check_equal(ipc_channel_post(a, &message, TEST_WAIT_MS), -EPIPE);
	ipc_channel_close(a);
}

static void
close_later(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	(void)arg;
	sleep_ms(50);
}

static void
a_waiting_receiver_sees_the_end(void **state)
{
	struct worker worker = worker_start(NULL, close_later, NULL);
	struct ipc_message message;

	(void)state;
	check_equal(ipc_channel_recv(worker.channel, &message, -1), -EPIPE);
	worker_end(&worker);
	worker = worker_start(NULL, close_later, NULL);
	check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), -EPIPE);
	worker_end(&worker);
}

static void
a_waiting_sender_sees_the_end(void **state)
{
	static const int timeouts[] = {-1, TEST_WAIT_MS};
	struct ipc_message message = {.data = zeros, .size = sizeof(zeros)};
	struct worker worker;
	unsigned int i;
	int r;

	(void)state;
	for (i = 0; i < 2; i++) {
		worker = worker_start(NULL, close_later, NULL);
		while ((r = ipc_channel_send(worker.channel, &message, timeouts[i])) == 0)
			;
		check_equal(r, -EPIPE);
		worker_end(&worker);
	}
}

static void
hang(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	(void)arg;
	for (;;)
		(void)pause();
}

static void
a_killed_worker_is_an_end(void **state)
{
	struct worker worker = worker_start(NULL, hang, NULL);

	(void)state;
	send_text(worker.channel, "never read");
	check_equal(kill(worker.pid, SIGKILL), 0);
	expect_end(worker.channel);
	ipc_channel_close(worker.channel);
	child_end_by(worker.pid, SIGKILL);
}

static void
die_within_a_large_message(struct ipc_channel *channel, void *arg)
{
	static const unsigned char payload[4000000];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};

	(void)arg;
	send_text(channel, "whole");
	(void)ipc_channel_send(channel, &message, 20);
	_exit(0);
}

static void
a_worker_that_dies_within_a_large_message_is_an_end(void **state)
{
	struct worker worker = worker_start(NULL, die_within_a_large_message, NULL);

	(void)state;
	child_end(worker.pid);
	expect_text(worker.channel, "whole");
	expect_end(worker.channel);
	check_equal(stats_of(worker.channel).in.dropped, 1);
	ipc_channel_close(worker.channel);
}

static void
closing_nothing_is_fine(void **state)
{
	(void)state;
	check(!ipc_channel_close(NULL));
}

static void
close_gives_back_what_a_channel_holds(void **state)
{
	struct ipc_message message = {.data = zeros, .size = sizeof(zeros)};
	unsigned int open = descriptors_open(), i;
	struct ipc_channel *a, *b;
	size_t before = 0;

	(void)state;
	for (i = 0; i < 300; i++) {
		if (i == 50)
			before = resident_bytes();
		pair_open(&a, &b, NULL);
		check_equal(ipc_channel_send(a, &message, 0), 0);
		if (i % 2)
			check_equal(ipc_channel_recv(b, &message, 0), 0);
		message = (struct ipc_message){.data = zeros, .size = sizeof(zeros)};
		check(!ipc_channel_close(i % 3 ? a : b));
		check(!ipc_channel_close(i % 3 ? b : a));
		check_equal(descriptors_open(), open);
	}
	expect_resident_below(before + (4U << 20));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(last_words_of_a_worker_arrive_every_time),
		channel_test(last_words_arrive_though_the_worker_left_data_unread),
		channel_test(a_reset_does_not_hide_what_was_sent),
		channel_test(a_reset_that_a_sender_met_does_not_hide_it_either),
		channel_test(sending_to_a_closed_peer_is_an_error_and_no_signal),
		channel_test(a_flush_to_a_closed_peer_tells),
		channel_test(posts_to_a_closed_peer_end),
		channel_test(a_waiting_receiver_sees_the_end),
		channel_test(a_waiting_sender_sees_the_end),
		channel_test(a_killed_worker_is_an_end),
		channel_test(a_worker_that_dies_within_a_large_message_is_an_end),
		channel_test(closing_nothing_is_fine),
		channel_test(close_gives_back_what_a_channel_holds),
	};

	return run_group(tests);
}
