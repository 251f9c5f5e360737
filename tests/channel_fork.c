/* SPDX-License-Identifier: MIT */

/*
 * A child of fork(2) and the copies of ends that it has: whichever process goes on with an end does
 * so as if there were no other, and a copy that is only closed does nothing.
 */

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libipc/loop.h>

#include "raw.h"

#define LARGE 2000000

/* A pair in one direction of which a large message is stuck halfway, and given up. */
struct stuck {
	struct ipc_channel *a, *b;
};

static void
stuck_open(struct stuck *stuck)
{
	struct ipc_message message = {.data = calloc(1, LARGE), .size = LARGE};

	check(message.data);
	pair_open(&stuck->a, &stuck->b, NULL);
	send_text(stuck->a, "before");
	check_equal(ipc_channel_send(stuck->a, &message, 20), -ETIMEDOUT);
	free((void *)message.data);
}

static void
stuck_close(struct stuck *stuck)
{
	ipc_channel_close(stuck->a);
	ipc_channel_close(stuck->b);
}

static void
send_from_copy(void *arg)
{
	struct stuck *stuck = arg;

	ipc_channel_close(stuck->b);
	send_text(stuck->a, "after");
	ipc_channel_close(stuck->a);
}

/* The void that is owed, or the peer takes what follows for a part of the message. */
static void
what_the_parent_owes_is_sent_by_a_child_that_goes_on(void **state)
{
	struct stuck stuck;
	pid_t pid;

	(void)state;
	stuck_open(&stuck);
	pid = child_start(send_from_copy, &stuck);
	expect_text(stuck.b, "before");
	expect_text(stuck.b, "after");
	child_end(pid);
	/* It is sent once: the parent does not owe it any more, whatever it does. */
	check_equal(ipc_channel_flush(stuck.a, TEST_WAIT_MS), 0);
	send_text(stuck.a, "from the parent");
	expect_text(stuck.b, "from the parent");
	stuck_close(&stuck);
}

static void
post_from_copy(void *arg)
{
	struct stuck *stuck = arg;
	struct ipc_message message = text_message("after");

	ipc_channel_close(stuck->b);
	check_equal(ipc_channel_post(stuck->a, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_post(stuck->a, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_flush(stuck->a, TEST_WAIT_MS), 0);
	ipc_channel_close(stuck->a);
}

static void
also_where_the_child_gathers(void **state)
{
	struct stuck stuck;
	pid_t pid;

	(void)state;
	stuck_open(&stuck);
	pid = child_start(post_from_copy, &stuck);
	expect_text(stuck.b, "before");
	expect_text(stuck.b, "after");
	expect_text(stuck.b, "after");
	child_end(pid);
	stuck_close(&stuck);
}

static void
flush_and_close_copy(void *arg)
{
	struct stuck *stuck = arg;

	check_equal(ipc_channel_flush(stuck->a, 0), 0);
	ipc_channel_close(stuck->a);
	ipc_channel_close(stuck->b);
}

static void
a_copy_that_is_flushed_and_closed_sends_nothing(void **state)
{
	struct stuck stuck;

	(void)state;
	stuck_open(&stuck);
	expect_text(stuck.b, "before");
	expect_nothing(stuck.b);
	child_end(child_start(flush_and_close_copy, &stuck));
	expect_nothing(stuck.b);
	check_equal(stats_of(stuck.b).in.dropped, 0);
	send_text(stuck.a, "after");
	expect_text(stuck.b, "after");
	check_equal(stats_of(stuck.b).in.dropped, 1);
	stuck_close(&stuck);
}

static void
hear(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	(void)user;
}

/* Of a loop's queue the head and some of the message are sent, the rest is not. */
static void
a_large_message_that_a_loop_has_not_sent_ends_in_a_child_that_goes_on(void **state)
{
	static const struct ipc_channel_handler handler = {.message = hear};
	struct ipc_message message = {.data = calloc(1, LARGE), .size = LARGE};
	struct ipc_loop *loop;
	struct stuck stuck;
	pid_t pid;
	int i;

	(void)state;
	check(message.data);
	check_equal(ipc_loop_create(&loop, NULL), 0);
	pair_open(&stuck.a, &stuck.b, NULL);
	check_equal(ipc_loop_attach(loop, stuck.a, &handler, NULL), 0);
	check_equal(ipc_channel_post(stuck.a, &message, 0), 0);
	for (i = 0; i < 20; i++)
		check_equal(ipc_loop_turn(loop, 0), 0);
	check_equal(ipc_loop_detach(loop, stuck.a), 0);
	pid = child_start(send_from_copy, &stuck);
	expect_text(stuck.b, "after");
	child_end(pid);
	stuck_close(&stuck);
	ipc_loop_destroy(loop);
	free((void *)message.data);
}

/* An end that has not heard its peer, and a thread of which waits for that. */
struct waiting {
	struct ipc_channel *channel;
	int peer;
	int gone[2]; /* a pipe: the thread is */
};

static void *
wait_for_hello(void *arg)
{
	struct waiting *waiting = arg;
	struct ipc_message message;

	check_equal(ipc_channel_recv(waiting->channel, &message, 1000), -ETIMEDOUT);
	return NULL;
}

static void
go_on_before_hello(void *arg)
{
	struct waiting *waiting = arg;
	struct ipci_hello hello = plain_hello();
	const struct packet *packet;
	char byte;

	/* The parent's thread would take it. */
	check_equal(read(waiting->gone[0], &byte, 1), 1);
	raw_send(waiting->peer, &hello, sizeof(hello));
	packet = packet_text("for the child");
	raw_send_packet(waiting->peer, packet);
	expect_text(waiting->channel, "for the child");
}

/* It waits for the hello while the process is forked. */
static void
a_child_does_not_wait_for_a_thread_that_it_has_not(void **state)
{
	struct ipci_hello theirs;
	struct waiting waiting;
	pthread_t thread;
	int fds[2];
	pid_t pid;

	(void)state;
	raw_pair(fds);
	check_equal(pipe(waiting.gone), 0);
	waiting.peer = fds[1];
	check_equal(ipc_channel_open(&waiting.channel, fds[0], NULL), 0);
	check_equal(raw_receive(fds[1], &theirs, sizeof(theirs)), sizeof(theirs));
	check_equal(pthread_create(&thread, NULL, wait_for_hello, &waiting), 0);
	sleep_ms(100);
	pid = child_start(go_on_before_hello, &waiting);
	check_equal(pthread_join(thread, NULL), 0);
	check_equal(write(waiting.gone[1], "", 1), 1);
	child_end(pid);
	ipc_channel_close(waiting.channel);
	check_equal(close(fds[1]), 0);
	check_equal(close(waiting.gone[0]), 0);
	check_equal(close(waiting.gone[1]), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(what_the_parent_owes_is_sent_by_a_child_that_goes_on),
		channel_test(also_where_the_child_gathers),
		channel_test(a_copy_that_is_flushed_and_closed_sends_nothing),
		channel_test(a_large_message_that_a_loop_has_not_sent_ends_in_a_child_that_goes_on),
		channel_test(a_child_does_not_wait_for_a_thread_that_it_has_not),
	};

	return run_group(tests);
}
