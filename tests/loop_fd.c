/* SPDX-License-Identifier: MIT */

/* A loop's descriptor: readable when, and only when, a turn has work. */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_support.h"

/* Both ends of a pair, one of them attached. */
struct fixture {
	struct ipc_loop *loop;
	int fd;
	struct ipc_channel *own, *peer;
	struct ear ear;
};

/* Turn until the descriptor is silent. Return: the callbacks made. */
static unsigned int
turn_while_readable(struct ipc_loop *loop, int fd)
{
	unsigned int made = 0, turns;
	int r;

	for (turns = 0; is_readable(fd); turns++) {
		/* Callbacks, or what stands in for them: sends that went, a stop. */
		check(turns < 10000);
		r = ipc_loop_turn(loop, 0);
		check(r >= 0);
		made += (unsigned int)r;
	}
	/* Then there is nothing to do. */
	check_equal(ipc_loop_turn(loop, 0), 0);
	check(!is_readable(fd));
	return made;
}

/* Wait for the descriptor as another event loop does. */
static void
wait_readable(int fd, int timeout_ms)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};

	check_equal(poll(&entry, 1, timeout_ms), 1);
	check(entry.revents & POLLIN);
}

static void
fixture_open(struct fixture *f, const struct ipc_loop_options *options,
	const struct ipc_channel_options *of)
{
	*f = (struct fixture){.loop = loop_open(options)};
	f->fd = ipc_loop_fd(f->loop);
	check(f->fd >= 0);
	pair_open(&f->own, &f->peer, of);
	ear_attach(&f->ear, f->loop, f->own);
	(void)turn_while_readable(f->loop, f->fd);
}

static void
fixture_close(struct fixture *f)
{
	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	ipc_loop_destroy(f->loop);
}

static void
it_is_silent_when_there_is_nothing(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct pollfd entry = {.events = POLLIN};
	struct fixture f;

	(void)state;
	entry.fd = ipc_loop_fd(loop);
	check(entry.fd >= 0);
	check(!is_readable(entry.fd));
	check_equal(poll(&entry, 1, 20), 0);
	ipc_loop_destroy(loop);

	fixture_open(&f, NULL, NULL);
	entry.fd = f.fd;
	check_equal(poll(&entry, 1, 20), 0);
	check_equal(ipc_loop_turn(f.loop, 0), 0);
	check_equal(poll(&entry, 1, 20), 0);
	check_equal(fcntl(f.fd, F_GETFD), FD_CLOEXEC);
	/* It is the same one each time. */
	check_equal(ipc_loop_fd(f.loop), f.fd);
	fixture_close(&f);
}

static void
messages_make_it_readable(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, NULL, NULL);
	for (i = 1; i <= 50; i++) {
		send_text(f.peer, "text");
		wait_readable(f.fd, TEST_WAIT_MS);
		check_equal(turn_while_readable(f.loop, f.fd), 1);
		check_equal(f.ear.messages, i);
	}
	for (i = 0; i < 5; i++)
		send_text(f.peer, "text");
	check_equal(turn_while_readable(f.loop, f.fd), 5);
	fixture_close(&f);
}

static void
messages_that_were_here_before_it_was_asked_for_do(void **state)
{
	struct fixture f = {.loop = loop_open(NULL)};

	(void)state;
	pair_open(&f.own, &f.peer, NULL);
	ear_attach(&f.ear, f.loop, f.own);
	(void)turn_out(f.loop);
	send_text(f.peer, "text");
	f.fd = ipc_loop_fd(f.loop);
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(turn_while_readable(f.loop, f.fd), 1);
	fixture_close(&f);
}

static void
what_a_turn_left_inside_makes_it_readable(void **state)
{
	struct ipc_message message = {.data = "12345678", .size = 8};
	struct fixture f;
	unsigned int n = 0;

	(void)state;
	/* More than a turn gives out in one record: nothing is in the socket afterwards. */
	fixture_open(&f, NULL, OPTIONS(.record_max = 200000));
	while (n < IPC_LOOP_TURN + 2000 && ipc_channel_post(f.peer, &message, 0) == 0)
		n++;
	check_equal(ipc_channel_flush(f.peer, 0), 0);
	check(n > IPC_LOOP_TURN);
	check_equal(ipc_loop_turn(f.loop, 0), IPC_LOOP_TURN);
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(turn_while_readable(f.loop, f.fd), n - IPC_LOOP_TURN);
	check_equal(f.ear.messages, n);
	fixture_close(&f);
}

static void
what_was_left_in_an_attached_channel_makes_it_readable(void **state)
{
	struct ipc_message message = text_message("text");
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, NULL, NULL);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	for (i = 0; i < 3; i++)
		check_equal(ipc_channel_post(f.peer, &message, 0), 0);
	check_equal(ipc_channel_flush(f.peer, 0), 0);
	expect_text(f.own, "text");
	/* Two more are in the channel; its socket is empty. */
	ear_attach(&f.ear, f.loop, f.own);
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(turn_while_readable(f.loop, f.fd), 2);
	fixture_close(&f);
}

static void
messages_sent_outside_of_a_turn_make_it_readable(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, NULL, NULL);
	for (i = 0; i < 20; i++) {
		gather_text(f.own, "text");
		gather_text(f.own, "text");
		wait_readable(f.fd, TEST_WAIT_MS);
		check_equal(turn_while_readable(f.loop, f.fd), 0);
		expect_text(f.peer, "text");
		expect_text(f.peer, "text");
	}
	check_equal(ipc_channel_flush(f.own, 0), 0);
	fixture_close(&f);
}

static void
echo(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct ipc_message reply = {.data = message->data, .size = message->size};

	(void)ear;
	check_equal(ipc_channel_send(channel, &reply, 0), 0);
}

static void
messages_sent_within_a_turn_have_gone_when_it_is_silent(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	fixture_open(&f, NULL, NULL);
	f.ear.on_message = echo;
	for (i = 0; i < 50; i++) {
		send_text(f.peer, "echo");
		wait_readable(f.fd, TEST_WAIT_MS);
		check_equal(turn_while_readable(f.loop, f.fd), 1);
		expect_text(f.peer, "echo");
		check(!is_readable(f.fd));
	}
	fixture_close(&f);
}

static void
room_after_a_refusal_makes_it_readable(void **state)
{
	struct fixture f;
	struct ipc_message message;
	unsigned int n, i;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_bytes_max = 1U << 20), NULL);
	n = gather_until_full(f.own, 30000);
	(void)turn_while_readable(f.loop, f.fd);
	check_equal(f.ear.writables, 0);
	for (i = 0; i < n; i++) {
		while (ipc_channel_recv(f.peer, &message, 0) == -EAGAIN) {
			/* The loop can send more, and says so. */
			wait_readable(f.fd, TEST_WAIT_MS);
			check(ipc_loop_turn(f.loop, 0) >= 0);
		}
		check(is_filled(message.data, message.size, i));
	}
	(void)turn_while_readable(f.loop, f.fd);
	check_equal(f.ear.writables, 1);
	fixture_close(&f);
}

static void
the_end_of_a_channel_makes_it_readable(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL, NULL);
	f.peer = ipc_channel_close(f.peer);
	wait_readable(f.fd, TEST_WAIT_MS);
	/* Its messages first; then this. */
	while (!f.ear.closeds) {
		wait_readable(f.fd, TEST_WAIT_MS);
		check(ipc_loop_turn(f.loop, 0) >= 0);
	}
	(void)turn_while_readable(f.loop, f.fd);
	fixture_close(&f);
}

static void
count_timer(struct ipc_timer *timer, void *user)
{
	(void)timer;
	++*(unsigned int *)user;
}

static void
a_timer_that_is_due_makes_it_readable(void **state)
{
	struct ipc_timer *timer;
	unsigned int calls = 0;
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL, NULL);
	check_equal(ipc_timer_start(NULL, f.loop, 0, 0, count_timer, &calls), 0);
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(turn_while_readable(f.loop, f.fd), 1);

	check_equal(ipc_timer_start(NULL, f.loop, 30, 0, count_timer, &calls), 0);
	check(!is_readable(f.fd));
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(turn_while_readable(f.loop, f.fd), 1);

	check_equal(ipc_timer_start(&timer, f.loop, 5, 5, count_timer, &calls), 0);
	while (calls < 7) {
		wait_readable(f.fd, TEST_WAIT_MS);
		/* Readable means due. */
		check_equal(ipc_loop_turn(f.loop, 0), 1);
	}
	ipc_timer_stop(timer);
	fixture_close(&f);
}

static void
a_timer_that_was_started_before_it_was_asked_for_does(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int calls = 0;
	int fd;

	(void)state;
	check_equal(ipc_timer_start(NULL, loop, 10, 0, count_timer, &calls), 0);
	fd = ipc_loop_fd(loop);
	check(fd >= 0);
	wait_readable(fd, TEST_WAIT_MS);
	check_equal(turn_while_readable(loop, fd), 1);
	ipc_loop_destroy(loop);
}

static void
a_stopped_timer_does_not(void **state)
{
	unsigned int calls = 0;
	struct ipc_timer *timer;
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL, NULL);
	check_equal(ipc_timer_start(&timer, f.loop, 10, 0, count_timer, &calls), 0);
	ipc_timer_stop(timer);
	sleep_ms(30);
	check(!is_readable(f.fd));

	/* The next one still does. */
	check_equal(ipc_timer_start(NULL, f.loop, 40, 0, count_timer, &calls), 0);
	check_equal(ipc_timer_start(&timer, f.loop, 10, 0, count_timer, &calls), 0);
	ipc_timer_stop(timer);
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(ipc_loop_turn(f.loop, 0), 1);
	fixture_close(&f);
}

struct seen {
	int fd;
	unsigned int calls;
	bool drain;
};

static void
see(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct seen *seen = user;
	uint64_t value;

	(void)watch;
	(void)events;
	seen->calls++;
	if (seen->drain)
		check_equal(read(seen->fd, &value, sizeof(value)), sizeof(value));
}

static void
a_watched_event_makes_it_readable(void **state)
{
	struct seen seen = {.fd = eventfd(0, EFD_CLOEXEC)};
	struct ipc_watch *watch;
	struct fixture f;
	unsigned int i;

	(void)state;
	check(seen.fd >= 0);
	fixture_open(&f, NULL, NULL);
	check_equal(ipc_watch_start(&watch, f.loop, seen.fd, POLLIN, see, &seen), 0);
	(void)turn_while_readable(f.loop, f.fd);
	check_equal(eventfd_write(seen.fd, 1), 0);
	for (i = 1; i <= 5; i++) {
		/* It goes on until it is dealt with. */
		wait_readable(f.fd, TEST_WAIT_MS);
		check_equal(ipc_loop_turn(f.loop, 0), 1);
		check_equal(seen.calls, i);
	}
	seen.drain = true;
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(ipc_loop_turn(f.loop, 0), 1);
	(void)turn_while_readable(f.loop, f.fd);
	check_equal(seen.calls, 6);
	ipc_watch_stop(watch);
	check_equal(eventfd_write(seen.fd, 1), 0);
	check(!is_readable(f.fd));
	fixture_close(&f);
	check_equal(close(seen.fd), 0);
}

static void
a_watch_started_outside_of_a_turn_is_watched_at_once(void **state)
{
	struct seen seen = {.fd = eventfd(0, EFD_CLOEXEC), .drain = true};
	struct ipc_watch *watch;
	struct fixture f;

	(void)state;
	check(seen.fd >= 0);
	fixture_open(&f, NULL, NULL);
	check_equal(ipc_watch_start(&watch, f.loop, seen.fd, POLLIN, see, &seen), 0);
	check_equal(eventfd_write(seen.fd, 1), 0);
	/* Whoever polls first turns only when told to. */
	while (!seen.calls) {
		wait_readable(f.fd, 2000);
		check(ipc_loop_turn(f.loop, 0) >= 0);
	}
	fixture_close(&f);
	check_equal(close(seen.fd), 0);
}

static void
a_channel_attached_outside_of_a_turn_is_received_at_once(void **state)
{
	struct ipc_channel *a, *b;
	struct ear ear = {.loop = NULL};
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL, NULL);
	pair_open(&a, &b, NULL);
	ear_attach(&ear, f.loop, a);
	send_text(b, "text");
	while (!ear.messages) {
		wait_readable(f.fd, 2000);
		check(ipc_loop_turn(f.loop, 0) >= 0);
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
	(void)turn_while_readable(f.loop, f.fd);
	fixture_close(&f);
}

static void
a_stop_makes_it_readable(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL, NULL);
	ipc_loop_stop(f.loop);
	wait_readable(f.fd, TEST_WAIT_MS);
	check_equal(ipc_loop_turn(f.loop, 0), 0);
	check(!is_readable(f.fd));
	fixture_close(&f);
}

static void
a_large_message_comes_by_it_alone(void **state)
{
	struct ipc_message large = {.size = 3000000};
	struct ear ear = {.loop = NULL};
	unsigned char *payload = malloc(large.size);
	struct fixture f;

	(void)state;
	check(payload);
	fill(payload, large.size, 4);
	large.data = payload;
	fixture_open(&f, NULL, NULL);
	ear_attach(&ear, f.loop, f.peer);
	(void)turn_while_readable(f.loop, f.fd);
	check_equal(ipc_channel_send(f.own, &large, 0), 0);
	/* Both ends are in this loop: it has work until all of it came. */
	while (!ear.messages) {
		wait_readable(f.fd, 2000);
		check(ipc_loop_turn(f.loop, 0) >= 0);
	}
	(void)turn_while_readable(f.loop, f.fd);
	check_equal(ipc_channel_flush(f.own, 0), 0);
	free(payload);
	fixture_close(&f);
}

/* A sender in its own process, at its own pace; the receiver turns only when it is told to. */
static void
send_at_random(struct ipc_channel *channel, void *arg)
{
	static unsigned char payload[300000];
	unsigned int n = *(unsigned int *)arg, i;
	struct ipc_message message = {.data = payload};

	for (i = 0; i < n; i++) {
		message.id = i + 1;
		message.size = test_random_below(i % 50 ? 3000 : sizeof(payload));
		check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
		if (test_random_below(3) == 0)
			check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
		if (test_random_below(100) == 0)
			sleep_ms(1);
	}
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
	/* Replies, one for each. */
	for (i = 0; i < n; i++)
		check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
}

static void
count_and_answer(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	check_equal(message->id, ear->messages);
	check_equal(ipc_channel_send(channel, &(struct ipc_message){.id = message->id}, 0), 0);
}

static void
whoever_turns_only_when_told_to_misses_nothing(void **state)
{
	unsigned int n = test_count(20000, 2000);
	struct ear ears[2] = {{.on_message = count_and_answer}, {.on_message = count_and_answer}};
	struct worker workers[2];
	struct ipc_loop *loop;
	int fd, i;

	(void)state;
	for (i = 0; i < 2; i++)
		workers[i] = worker_start(NULL, send_at_random, &n);
	loop = loop_open(LOOP_OPTIONS(.buffers = 8));
	fd = ipc_loop_fd(loop);
	for (i = 0; i < 2; i++)
		ear_attach(&ears[i], loop, workers[i].channel);
	while (!ears[0].closeds || !ears[1].closeds) {
		wait_readable(fd, TEST_WAIT_MS);
		check(ipc_loop_turn(loop, 0) >= 0);
	}
	check_equal(ears[0].messages, n);
	check_equal(ears[1].messages, n);
	for (i = 0; i < 2; i++)
		worker_end(&workers[i]);
	ipc_loop_destroy(loop);
}

static void
it_may_lie_in_another_loop(void **state)
{
	struct ipc_loop *outer = loop_open(NULL);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	struct seen seen = {.calls = 0};
	struct ipc_watch *watch;
	struct fixture f;
	int edge = epoll_create1(EPOLL_CLOEXEC);
	unsigned int i;

	(void)state;
	check(edge >= 0);
	fixture_open(&f, NULL, NULL);
	check_equal(ipc_watch_start(&watch, outer, f.fd, POLLIN, see, &seen), 0);
	check_equal(epoll_ctl(edge, EPOLL_CTL_ADD, f.fd, &event), 0);
	for (i = 1; i <= 10; i++) {
		check_equal(turn_out(outer), 0);
		seen.calls = 0;
		send_text(f.peer, "text");
		while (!seen.calls)
			check(ipc_loop_turn(outer, TEST_WAIT_MS) > 0);
		/* An edge, too. */
		check_equal(epoll_wait(edge, &event, 1, TEST_WAIT_MS), 1);
		(void)turn_while_readable(f.loop, f.fd);
		check_equal(f.ear.messages, i);
	}
	ipc_loop_destroy(outer);
	check_equal(close(edge), 0);
	fixture_close(&f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(it_is_silent_when_there_is_nothing),
		loop_test(messages_make_it_readable),
		loop_test(messages_that_were_here_before_it_was_asked_for_do),
		loop_test(what_a_turn_left_inside_makes_it_readable),
		loop_test(what_was_left_in_an_attached_channel_makes_it_readable),
		loop_test(messages_sent_outside_of_a_turn_make_it_readable),
		loop_test(messages_sent_within_a_turn_have_gone_when_it_is_silent),
		loop_test(room_after_a_refusal_makes_it_readable),
		loop_test(the_end_of_a_channel_makes_it_readable),
		loop_test(a_timer_that_is_due_makes_it_readable),
		loop_test(a_timer_that_was_started_before_it_was_asked_for_does),
		loop_test(a_stopped_timer_does_not),
		loop_test(a_watched_event_makes_it_readable),
		loop_test(a_watch_started_outside_of_a_turn_is_watched_at_once),
		loop_test(a_channel_attached_outside_of_a_turn_is_received_at_once),
		loop_test(a_stop_makes_it_readable),
		loop_test(a_large_message_comes_by_it_alone),
		loop_test(whoever_turns_only_when_told_to_misses_nothing),
		loop_test(it_may_lie_in_another_loop),
	};

	return run_on_engines(tests);
}
