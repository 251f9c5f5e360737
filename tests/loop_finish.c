/* SPDX-License-Identifier: MIT */

/* The end of one direction of a channel in a loop: what was gathered before it is sent first. */

#include "../libipc/channel.h"
#include "loop_support.h"

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
what_is_gathered_comes_before_the_end(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	gather_text(f.own, "one");
	gather_text(f.own, "two");
	ipci_channel_finish_writing(f.own);
	(void)turn_out(f.loop);
	expect_text(f.peer, "one");
	expect_text(f.peer, "two");
	expect_end(f.peer);
	fixture_close(&f);
}

static void
it_comes_at_once_where_nothing_is_gathered(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	ipci_channel_finish_writing(f.own);
	expect_end(f.peer);
	fixture_close(&f);
}

/* The socket is full, and has room only while the loop turns. */
static void
what_a_full_socket_does_not_take_comes_before_the_end(void **state)
{
	struct ipc_message message;
	unsigned int n, i = 0;
	struct fixture f;
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	int r;

	(void)state;
	fixture_open(&f);
	n = gather_until_full(f.own, 1000);
	(void)ipc_loop_turn(f.loop, 0);
	n += gather_until_full(f.own, 1000);
	ipci_channel_finish_writing(f.own);
	for (;;) {
		check(ipc_loop_turn(f.loop, 0) >= 0);
		r = ipc_channel_recv(f.peer, &message, 0);
		check(now_ms() < give_up_ms);
		if (r == -EPIPE)
			break;
		check(r == 0 || r == -EAGAIN);
		i += r == 0;
	}
	check_equal(i, n);
	fixture_close(&f);
}

static void
nothing_is_taken_any_more(void **state)
{
	struct ipc_message message = text_message("one");
	struct fixture f;

	(void)state;
	fixture_open(&f);
	gather_text(f.own, "one");
	ipci_channel_finish_writing(f.own);
	/* The first would join the run of the one before. */
	check_equal(ipc_channel_post(f.own, &message, 0), -EPIPE);
	check_equal(ipc_channel_send(f.own, &message, 0), -EPIPE);
	(void)turn_out(f.loop);
	expect_text(f.peer, "one");
	expect_end(f.peer);
	check_equal(ipc_channel_post(f.own, &message, 0), -EPIPE);
	fixture_close(&f);
}

static void
the_other_direction_goes_on(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	gather_text(f.own, "question");
	ipci_channel_finish_writing(f.own);
	(void)turn_out(f.loop);
	expect_text(f.peer, "question");
	expect_end(f.peer);
	send_text(f.peer, "answer");
	turn_until(f.loop, f.ear.messages == 1);
	f.peer = ipc_channel_close(f.peer);
	turn_until(f.loop, f.ear.closeds == 1);
	check_equal(f.ear.reason, 0);
	fixture_close(&f);
}

/* A channel that is closed with packets in its queue. */
static void
what_goes_without_waiting_is_sent_by_a_close(void **state)
{
	struct ipc_message message;
	unsigned int n, i = 0;
	struct fixture f;
	int r;

	(void)state;
	fixture_open(&f);
	/* More than one packet, less than the socket takes. */
	message = (struct ipc_message){.data = &f, .size = sizeof(f)};
	for (n = 0; n < 500; n++)
		check_equal(ipc_channel_post(f.own, &message, 0), 0);
	f.own = ipc_channel_close(f.own);
	while ((r = ipc_channel_recv(f.peer, &message, TEST_WAIT_MS)) == 0)
		i++;
	check_equal(r, -EPIPE);
	check_equal(i, n);
	fixture_close(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(what_is_gathered_comes_before_the_end),
		loop_test(it_comes_at_once_where_nothing_is_gathered),
		loop_test(what_a_full_socket_does_not_take_comes_before_the_end),
		loop_test(nothing_is_taken_any_more),
		loop_test(the_other_direction_goes_on),
		loop_test(what_goes_without_waiting_is_sent_by_a_close),
	};

	return run_on_engines(tests);
}
