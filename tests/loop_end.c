/* SPDX-License-Identifier: MIT */

/* Ends in a loop: closed() comes once, last, after every message, and says why. */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop_support.h"
#include "raw.h"

static const unsigned char zeros[150000];

/* A pair of which one end is attached. */
struct fixture {
	struct ipc_loop *loop;
	struct ipc_channel *own, *peer;
	struct ear ear;
};

static void
fixture_open(struct fixture *f)
{
	*f = (struct fixture){.loop = loop_open(NULL)};
	pair_open(&f->own, &f->peer, NULL);
	ear_attach(&f->ear, f->loop, f->own);
	(void)turn_out(f->loop);
}

static void
fixture_close(struct fixture *f)
{
	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	ipc_loop_destroy(f->loop);
}

static void
closed_comes_once_after_every_message(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f);
	for (i = 0; i < 100; i++)
		send_text(f.peer, "text");
	f.peer = ipc_channel_close(f.peer);
	/* The ear checks that nothing follows. */
	turn_until(f.loop, f.ear.closeds);
	check_equal(f.ear.messages, 100);
	check_equal(f.ear.reason, 0);
	check_equal(turn_out(f.loop), 0);
	check_equal(f.ear.closeds, 1);
	fixture_close(&f);
}

static void
use_afterwards(struct ear *ear, struct ipc_channel *channel)
{
	struct ipc_message message;

	/* It is detached, and the callback's to close. */
	check_equal(ipc_loop_detach(ear->loop, channel), -ENOENT);
	check_equal(ipc_channel_recv(channel, &message, -1), -EPIPE);
	ipc_channel_close(channel);
	*(struct ipc_channel **)ear->arg = NULL;
}

static void
a_closed_channel_is_detached_and_the_users_to_close(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	f.ear.on_closed = use_afterwards;
	f.ear.arg = &f.own;
	send_text(f.peer, "text");
	f.peer = ipc_channel_close(f.peer);
	turn_until(f.loop, f.ear.closeds);
	check_equal(f.ear.messages, 1);
	check(!f.own);
	check_equal(turn_out(f.loop), 0);
	fixture_close(&f);
}

static void
a_closed_that_is_not_set_is_not_missed(void **state)
{
	struct ipc_channel_handler handler = {.message = ear_handler.message};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	check_equal(ipc_loop_attach(f.loop, f.own, &handler, &f.ear), 0);
	send_text(f.peer, "text");
	f.peer = ipc_channel_close(f.peer);
	turn_until(f.loop, f.ear.messages == 1);
	(void)turn_out(f.loop);
	check_equal(ipc_loop_detach(f.loop, f.own), -ENOENT);
	expect_end(f.own);
	fixture_close(&f);
}

static void
the_end_of_a_turned_loop_is_seen_at_once(void **state)
{
	struct fixture f;
	int64_t start_ms;

	(void)state;
	fixture_open(&f);
	f.peer = ipc_channel_close(f.peer);
	start_ms = now_ms();
	/* No timeout helps: it is an event as any other. */
	while (!f.ear.closeds)
		check(ipc_loop_turn(f.loop, -1) >= 0);
	check(now_ms() - start_ms < TEST_WAIT_MS);
	fixture_close(&f);
}

static void
the_peer_of_a_closed_channel_sees_the_end(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	/* A receive is armed. */
	f.own = ipc_channel_close(f.own);
	expect_end(f.peer);
	check_equal(f.ear.closeds, 0);
	check_equal(turn_out(f.loop), 0);
	fixture_close(&f);
}

static void
messages_come_before_what_broke_the_channel(void **state)
{
	static const unsigned char noise[64] = "this is no record at all";
	struct ipc_loop *loop = loop_open(NULL);
	struct ear ear = {.loop = NULL};
	struct ipc_message message = text_message("anyone?");
	struct ipc_channel *channel;
	int fd;

	(void)state;
	channel = raw_channel(&fd, NULL);
	ear_attach(&ear, loop, channel);
	raw_send_packet(fd, packet_text("before"));
	raw_send_packet(fd, packet_text("before"));
	raw_send(fd, noise, sizeof(noise));
	raw_send_packet(fd, packet_text("after"));
	turn_until(loop, ear.closeds);
	check_equal(ear.reason, -EPROTO);
	check_equal(ear.messages, 2);
	check_equal(strcmp(ear.text, "before"), 0);
	check_equal(ipc_channel_send(channel, &message, 0), -EPROTO);
	check_equal(ipc_channel_recv(channel, &message, 0), -EPROTO);

	/* And so again. */
	memset(&ear, 0, sizeof(ear));
	ear_attach(&ear, loop, channel);
	turn_until(loop, ear.closeds);
	check_equal(ear.reason, -EPROTO);
	ipc_channel_close(channel);
	check_equal(close(fd), 0);
	ipc_loop_destroy(loop);
}

static void
a_broken_channel_disturbs_no_other(void **state)
{
	static const unsigned char noise[64] = "neither is this";
	struct ear ear = {.loop = NULL};
	struct ipc_channel *broken;
	struct fixture f;
	int fd;

	(void)state;
	fixture_open(&f);
	broken = raw_channel(&fd, NULL);
	ear_attach(&ear, f.loop, broken);
	send_text(f.peer, "before");
	raw_send(fd, noise, sizeof(noise));
	send_text(f.peer, "after");
	turn_until(f.loop, ear.closeds && f.ear.messages == 2);
	check_equal(f.ear.closeds, 0);
	gather_text(f.own, "still here");
	(void)turn_out(f.loop);
	expect_text(f.peer, "still here");
	ipc_channel_close(broken);
	check_equal(close(fd), 0);
	fixture_close(&f);
}

static void
a_reset_does_not_hide_what_was_sent(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f);
	gather_text(f.own, "never read");
	(void)turn_out(f.loop);
	for (i = 0; i < 5; i++)
		send_text(f.peer, "last words");
	f.peer = ipc_channel_close(f.peer);
	turn_until(f.loop, f.ear.closeds);
	check_equal(f.ear.messages, 5);
	check_equal(f.ear.reason, 0);
	fixture_close(&f);
}

static void
a_reset_that_a_sender_met_does_not_hide_it_either(void **state)
{
	struct ipc_message message = text_message("too late");
	struct fixture f;
	unsigned int i;
	int r;

	(void)state;
	for (i = 0; i < 2; i++) {
		fixture_open(&f);
		gather_text(f.own, "never read");
		(void)turn_out(f.loop);
		send_text(f.peer, "last words");
		send_text(f.peer, "last words");
		f.peer = ipc_channel_close(f.peer);
		/* A send is under way when the end is met. */
		r = ipc_channel_send(f.own, &message, 0);
		check(r == 0 || r == -EPIPE);
		turn_until(f.loop, f.ear.closeds);
		check_equal(f.ear.messages, 2);
		check_equal(f.ear.reason, 0);
		check_equal(ipc_channel_send(f.own, &message, 0), -EPIPE);
		fixture_close(&f);
	}
}

static void
sending_to_a_closed_peer_is_an_error_and_no_signal(void **state)
{
	struct ipc_message message = text_message("anyone?");
	struct fixture f;
	int i, r;

	(void)state;
	/* SIGPIPE has its default action here, and would end this program. */
	check(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
	fixture_open(&f);
	f.peer = ipc_channel_close(f.peer);
	for (i = 0; i < 3; i++) {
		r = ipc_channel_send(f.own, &message, 0);
		check(r == 0 || r == -EPIPE);
	}
	turn_until(f.loop, f.ear.closeds);
	check_equal(ipc_channel_send(f.own, &message, 0), -EPIPE);
	check_equal(ipc_channel_flush(f.own, 0), -EPIPE);
	fixture_close(&f);
}

static void
the_end_comes_though_much_is_gathered_for_the_peer(void **state)
{
	struct ipc_message message = text_message("anyone?");
	struct fixture f;

	(void)state;
	fixture_open(&f);
	send_text(f.peer, "last words");
	(void)gather_until_full(f.own, 50000);
	check(ipc_loop_turn(f.loop, 0) >= 0);
	check(ipc_loop_turn(f.loop, 0) >= 0);
	f.peer = ipc_channel_close(f.peer);
	turn_until(f.loop, f.ear.closeds);
	check_equal(f.ear.messages, 1);
	check_equal(f.ear.reason, 0);
	check_equal(ipc_channel_send(f.own, &message, 0), -EPIPE);
	fixture_close(&f);
}

static void
a_shutdown_by_the_peer_is_an_end(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	send_text(f.peer, "last words");
	check_equal(shutdown(ipc_channel_fd(f.peer), SHUT_WR), 0);
	turn_until(f.loop, f.ear.closeds);
	check_equal(f.ear.messages, 1);
	check_equal(f.ear.reason, 0);
	fixture_close(&f);
}

static void
the_end_comes_after_all_that_a_full_socket_holds(void **state)
{
	enum { N = 6 };
	static const uint32_t buffers[] = {8, 64, 1024};
	struct ipc_message message = {.data = zeros, .size = 100};
	struct ipc_channel *own[N], *peer[N];
	struct ipc_loop *loop;
	struct ear ears[N];
	unsigned int i, k, sent[N];

	(void)state;
	for (k = 0; k < 3; k++) {
		loop = loop_open(LOOP_OPTIONS(.buffers = buffers[k]));
		memset(ears, 0, sizeof(ears));
		for (i = 0; i < N; i++) {
			pair_open(&own[i], &peer[i], NULL);
			ear_attach(&ears[i], loop, own[i]);
			/* Some are armed before, some find all of it. */
			if (i % 2)
				(void)turn_out(loop);
		}
		for (i = 0; i < N; i++) {
			/* A packet each. */
			for (sent[i] = 0; ipc_channel_send(peer[i], &message, 0) == 0; sent[i]++)
				;
			check(sent[i] > 100);
			ipc_channel_close(peer[i]);
		}
		for (i = 0; i < N; i++) {
			turn_until(loop, ears[i].closeds);
			check_equal(ears[i].reason, 0);
			check_equal(ears[i].messages, sent[i]);
			ipc_channel_close(own[i]);
		}
		ipc_loop_destroy(loop);
	}
}

static void
channels_end_many_at_a_time(void **state)
{
	enum { N = 100 };
	struct ipc_channel *own[N], *peer[N];
	struct ear ears[N] = {{.loop = NULL}};
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.buffers = 8));
	unsigned int i, closed = 0;

	(void)state;
	for (i = 0; i < N; i++) {
		pair_open(&own[i], &peer[i], NULL);
		ear_attach(&ears[i], loop, own[i]);
		if (i % 2)
			(void)ipc_loop_turn(loop, 0);
		send_text(peer[i], "last words");
		if (i % 3)
			check_equal(
				ipc_channel_send(own[i],
					&(struct ipc_message){.data = zeros, .size = i * 700}, 0),
				0);
	}
	for (i = 0; i < N; i++)
		ipc_channel_close(peer[i]);
	while (closed < N) {
		check(ipc_loop_turn(loop, TEST_WAIT_MS) >= 0);
		for (closed = 0, i = 0; i < N; i++)
			closed += ears[i].closeds;
	}
	for (i = 0; i < N; i++) {
		check_equal(ears[i].messages, 1);
		check_equal(ears[i].reason, 0);
		ipc_channel_close(own[i]);
	}
	ipc_loop_destroy(loop);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(closed_comes_once_after_every_message),
		loop_test(a_closed_channel_is_detached_and_the_users_to_close),
		loop_test(a_closed_that_is_not_set_is_not_missed),
		loop_test(the_end_of_a_turned_loop_is_seen_at_once),
		loop_test(the_peer_of_a_closed_channel_sees_the_end),
		loop_test(messages_come_before_what_broke_the_channel),
		loop_test(a_broken_channel_disturbs_no_other),
		loop_test(a_reset_does_not_hide_what_was_sent),
		loop_test(a_reset_that_a_sender_met_does_not_hide_it_either),
		loop_test(sending_to_a_closed_peer_is_an_error_and_no_signal),
		loop_test(the_end_comes_though_much_is_gathered_for_the_peer),
		loop_test(a_shutdown_by_the_peer_is_an_end),
		loop_test(the_end_comes_after_all_that_a_full_socket_holds),
		loop_test(channels_end_many_at_a_time),
	};

	return run_on_engines(tests);
}
