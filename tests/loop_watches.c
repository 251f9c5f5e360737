/* SPDX-License-Identifier: MIT */

/* Watches: called in every turn in which a descriptor has an event, until that is dealt with. */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop_support.h"

struct look {
	struct ipc_loop *loop;
	struct ipc_watch *watch;
	int fd;
	unsigned int calls;
	unsigned int events; /* of the latest call */
	unsigned int stop_after;
	bool drain;
	struct look *other; /* to be stopped */
};

static void
look(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct look *own = user;
	char bytes[64];

	callback_enter();
	check(watch == own->watch);
	own->calls++;
	own->events = events;
	if (own->drain)
		check(read(own->fd, bytes, sizeof(bytes)) > 0);
	if (own->other)
		own->other->watch = ipc_watch_stop(own->other->watch);
	if (own->stop_after && own->calls == own->stop_after)
		own->watch = ipc_watch_stop(watch);
	callback_leave();
}

static void
look_start(struct look *own, struct ipc_loop *loop, int fd, unsigned int events)
{
	own->loop = loop;
	own->fd = fd;
	check_equal(ipc_watch_start(&own->watch, loop, fd, events, look, own), 0);
}

static void
expect_calls(struct look *own, unsigned int turns, unsigned int calls)
{
	own->calls = 0;
	while (turns--)
		check(ipc_loop_turn(own->loop, 0) >= 0);
	check_equal(own->calls, calls);
}

static void
an_event_is_told_in_every_turn_until_it_is_dealt_with(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	int ends[2];

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	look_start(&own, loop, ends[0], POLLIN);
	expect_calls(&own, 3, 0);
	check_equal(ipc_loop_turn(loop, 5), 0);
	check_equal(write(ends[1], "text", 4), 4);
	expect_calls(&own, 10, 10);
	check_equal(own.events, POLLIN);
	own.drain = true;
	expect_calls(&own, 1, 1);
	own.drain = false;
	expect_calls(&own, 3, 0);
	/* And so again. */
	check_equal(write(ends[1], "text", 4), 4);
	check_equal(ipc_loop_turn(loop, -1), 1);
	check_equal(own.calls, 1);
	check(!ipc_watch_stop(own.watch));
	expect_calls(&own, 3, 0);
	check_equal(close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

static void
an_event_that_was_dealt_with_between_turns_is_not_told(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.drain = true};
	char bytes[4];
	int ends[2], i;

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	look_start(&own, loop, ends[0], POLLIN);
	for (i = 0; i < 5; i++) {
		check_equal(ipc_loop_turn(loop, 5), 0);
		check_equal(write(ends[1], "text", 4), 4);
		check_equal(read(ends[0], bytes, 4), 4);
		/* A callback would wait in its read for ever. */
		expect_calls(&own, 3, 0);
		check_equal(ipc_loop_turn(loop, 5), 0);
		check_equal(write(ends[1], "text", 4), 4);
		expect_calls(&own, 3, 1);
	}
	ipc_watch_stop(own.watch);
	check_equal(close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

static void
drain_anothers(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	char bytes[64];

	(void)channel;
	(void)message;
	check_equal(read(((struct look *)ear->arg)->fd, bytes, sizeof(bytes)), 4);
}

static void
an_event_that_another_callback_dealt_with_is_not_told(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.drain = true};
	struct ear ear = {.on_message = drain_anothers, .arg = &own};
	struct ipc_channel *a, *b;
	unsigned int i;
	int ends[2];

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	pair_open(&a, &b, NULL);
	ear_attach(&ear, loop, a);
	look_start(&own, loop, ends[0], POLLIN);
	(void)turn_out(loop);
	for (i = 1; i <= 5; i++) {
		check_equal(write(ends[1], "text", 4), 4);
		send_text(b, "read it");
		/* Channels come first. */
		turn_until(loop, ear.messages == i);
		expect_calls(&own, 2, 0);
	}
	ipc_watch_stop(own.watch);
	ipc_channel_close(a);
	ipc_channel_close(b);
	check_equal(close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

struct writer {
	int fd;
};

static void
write_later(void *arg)
{
	struct writer *writer = arg;

	sleep_ms(30);
	check_equal(write(writer->fd, "text", 4), 4);
}

static void
a_turn_that_waits_is_ended_by_an_event(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.drain = true};
	struct writer writer;
	int ends[2];
	pid_t child;

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	look_start(&own, loop, ends[0], POLLIN);
	writer.fd = ends[1];
	child = child_start(write_later, &writer);
	while (!own.calls)
		check(ipc_loop_turn(loop, TEST_WAIT_MS) > 0);
	check_equal(own.calls, 1);
	child_end(child);
	check_equal(close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

static void
room_for_writing_is_an_event(void **state)
{
	static const char block[4096];
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	char bytes[4096];
	int ends[2];

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	look_start(&own, loop, ends[1], POLLOUT);
	expect_calls(&own, 3, 3);
	check_equal(own.events, POLLOUT);
	while (write(ends[1], block, sizeof(block)) > 0)
		;
	/* One completion may have been on its way. */
	check(ipc_loop_turn(loop, 0) <= 1);
	expect_calls(&own, 3, 0);
	while (read(ends[0], bytes, sizeof(bytes)) > 0)
		;
	expect_calls(&own, 3, 3);
	check_equal(close(ends[0]), 0);
	expect_calls(&own, 1, 1);
	check(own.events & POLLERR);
	ipc_watch_stop(own.watch);
	check_equal(close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

static void
a_hang_up_and_an_error_are_told_unasked(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0}, none = {.calls = 0};
	int ends[2], others[2];

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	check_equal(pipe2(others, O_CLOEXEC), 0);
	look_start(&own, loop, ends[0], POLLIN);
	look_start(&none, loop, others[0], 0);
	check_equal(write(others[1], "text", 4), 4);
	expect_calls(&none, 3, 0);
	check_equal(close(ends[1]) + close(others[1]), 0);
	expect_calls(&own, 3, 3);
	check_equal(own.events, POLLHUP);
	check(none.calls > 0);
	check_equal(none.events, POLLHUP);
	ipc_watch_stop(own.watch);
	ipc_watch_stop(none.watch);
	check_equal(close(ends[0]) + close(others[0]), 0);
	ipc_loop_destroy(loop);
}

static void
half_a_hang_up_is_told_to_who_asks(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	int ends[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	look_start(&own, loop, ends[0], POLLRDHUP);
	check_equal(write(ends[1], "text", 4), 4);
	expect_calls(&own, 3, 0);
	check_equal(shutdown(ends[1], SHUT_WR), 0);
	expect_calls(&own, 2, 2);
	check_equal(own.events, POLLRDHUP);
	ipc_watch_stop(own.watch);
	check_equal(close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

static void
urgent_data_is_an_event(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	int ends[2];
	char byte;

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	if (send(ends[1], "!", 1, MSG_OOB) != 1) {
		test_lacks("urgent data over local sockets");
	} else {
		look_start(&own, loop, ends[0], POLLPRI);
		expect_calls(&own, 2, 2);
		check_equal(own.events, POLLPRI);
		check_equal(recv(ends[0], &byte, 1, MSG_OOB), 1);
		ipc_watch_stop(own.watch);
	}
	check_equal(close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

static void
wait_for_the_end(void *arg)
{
	char byte;

	check_equal(read(*(int *)arg, &byte, 1), 1);
}

static void
a_pidfd_is_readable_once_its_process_has_ended(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	int ends[2], pidfd;
	pid_t child;

	(void)state;
	pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (pidfd < 0 && errno == ENOSYS) {
		ipc_loop_destroy(loop);
		test_lacks("pidfd_open(2)");
		skip();
	}
	check_equal(close(pidfd), 0);
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	child = child_start(wait_for_the_end, &ends[0]);
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	check(pidfd >= 0);
	look_start(&own, loop, pidfd, POLLIN);
	expect_calls(&own, 3, 0);
	check_equal(write(ends[1], "!", 1), 1);
	while (!own.calls)
		check(ipc_loop_turn(loop, TEST_WAIT_MS) > 0);
	check(own.events & POLLIN);
	/* It has not been waited for: its status is the user's. */
	child_end(child);
	ipc_watch_stop(own.watch);
	check_equal(close(pidfd) + close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

static void
what_cannot_be_watched_is_refused(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	int file = memfd_create("file", MFD_CLOEXEC), null, path, directory, fd, closed;
	struct ipc_watch *watch = NULL;

	(void)state;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	path = open("/dev/null", O_PATH | O_CLOEXEC);
	directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = eventfd(1, EFD_CLOEXEC);
	closed = dup(fd);
	check(file >= 0 && directory >= 0 && fd >= 0 && closed >= 0 && null >= 0 && path >= 0);
	check_equal(close(closed), 0);
	check_equal(ipc_watch_start(&watch, loop, file, POLLIN, look, &own), -EPERM);
	check_equal(ipc_watch_start(&watch, loop, directory, POLLIN, look, &own), -EPERM);
	check_equal(ipc_watch_start(&watch, loop, null, POLLIN, look, &own), -EPERM);
	check_equal(ipc_watch_start(&watch, loop, path, POLLIN, look, &own), -EBADF);
	check_equal(ipc_watch_start(&watch, loop, closed, POLLIN, look, &own), -EBADF);
	check_equal(ipc_watch_start(&watch, loop, -1, POLLIN, look, &own), -EBADF);
	check_equal(ipc_watch_start(&watch, loop, fd, POLLIN | POLLERR, look, &own), -EINVAL);
	check_equal(ipc_watch_start(&watch, loop, fd, 1U << 30, look, &own), -EINVAL);
	check_equal(ipc_watch_start(&watch, loop, fd, UINT32_MAX, look, &own), -EINVAL);
	check(!watch);
	look_start(&own, loop, fd, POLLIN);
	check_equal(ipc_watch_start(&watch, loop, fd, POLLIN, look, &own), -EEXIST);
	check_equal(ipc_watch_start(&watch, loop, fd, POLLOUT, look, &own), -EEXIST);
	check(!watch);
	expect_calls(&own, 2, 2);
	ipc_watch_stop(own.watch);
	/* It is free again. */
	look_start(&own, loop, fd, POLLIN);
	expect_calls(&own, 2, 2);
	ipc_loop_destroy(loop);
	check_equal(close(file) + close(directory) + close(fd) + close(null) + close(path), 0);
}

static void
a_descriptor_may_be_watched_by_several_loops(void **state)
{
	struct ipc_loop *loops[2] = {loop_open(NULL), NULL};
	struct look looks[2] = {{.calls = 0}, {.calls = 0}};
	int fd = eventfd(1, EFD_CLOEXEC);

	(void)state;
	check(fd >= 0);
	check_equal(ipc_loop_create(&loops[1], NULL), 0);
	look_start(&looks[0], loops[0], fd, POLLIN);
	look_start(&looks[1], loops[1], fd, POLLIN);
	expect_calls(&looks[0], 2, 2);
	expect_calls(&looks[1], 2, 2);
	ipc_loop_destroy(loops[0]);
	expect_calls(&looks[1], 2, 2);
	ipc_loop_destroy(loops[1]);
	check_equal(close(fd), 0);
}

static void
a_watch_may_stop_itself_or_another(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.stop_after = 2}, victim = {.calls = 0}, killer = {.other = &victim};
	int fds[3], i;

	(void)state;
	check(!ipc_watch_stop(NULL));
	for (i = 0; i < 3; i++)
		check((fds[i] = eventfd(1, EFD_CLOEXEC)) >= 0);
	look_start(&own, loop, fds[0], POLLIN);
	expect_calls(&own, 5, 2);

	/* Both have an event; which one is called first is not said. */
	look_start(&killer, loop, fds[1], POLLIN);
	look_start(&victim, loop, fds[2], POLLIN);
	expect_calls(&killer, 1, 1);
	check(victim.calls <= 1);
	expect_calls(&victim, 3, 0);
	ipc_watch_stop(killer.watch);
	for (i = 0; i < 3; i++)
		check_equal(close(fds[i]), 0);
	ipc_loop_destroy(loop);
}

static void
a_stopped_watchs_descriptor_is_free_at_once(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look looks[2] = {{.calls = 0}, {.calls = 0}};
	unsigned int i;
	int ends[2], fd;

	(void)state;
	for (i = 0; i < 100; i++) {
		check_equal(pipe2(ends, O_CLOEXEC), 0);
		look_start(&looks[0], loop, ends[0], POLLIN);
		if (i % 2)
			check(ipc_loop_turn(loop, 0) >= 0);
		/* Its event is on its way, and comes to nobody. */
		check_equal(write(ends[1], "!", 1), 1);
		check(!ipc_watch_stop(looks[0].watch));
		check_equal(close(ends[0]), 0);
		/* The number is another file's now. */
		fd = eventfd(0, EFD_CLOEXEC);
		check_equal(fd, ends[0]);
		look_start(&looks[1], loop, fd, POLLIN);
		expect_calls(&looks[1], 3, 0);
		check_equal(eventfd_write(fd, 1), 0);
		expect_calls(&looks[1], 2, 2);
		check(!ipc_watch_stop(looks[1].watch));
		check_equal(close(fd) + close(ends[1]), 0);
	}
	check_equal(looks[0].calls, 0);
	ipc_loop_destroy(loop);
}

static void
what_a_stopped_watch_watched_is_held_no_longer(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	int ends[2];
	char byte;

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	look_start(&own, loop, ends[1], 0);
	check(ipc_loop_turn(loop, 0) >= 0);
	ipc_watch_stop(own.watch);
	check_equal(close(ends[1]), 0);
	/* Nobody has the writing end any more. */
	check_equal(read(ends[0], &byte, 1), 0);
	check_equal(close(ends[0]), 0);
	ipc_loop_destroy(loop);
}

static void
many_descriptors_are_watched(void **state)
{
	enum { N = 150 };
	static struct look looks[N];
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int i, round, called;

	(void)state;
	memset(looks, 0, sizeof(looks));
	for (i = 0; i < N; i++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		check(fd >= 0);
		looks[i].drain = true;
		look_start(&looks[i], loop, fd, POLLIN);
	}
	for (round = 1; round <= 5; round++) {
		for (i = 0; i < N; i++)
			check_equal(eventfd_write(looks[i].fd, 1), 0);
		do {
			check(ipc_loop_turn(loop, TEST_WAIT_MS) > 0);
			for (called = 0, i = 0; i < N; i++)
				called += looks[i].calls == round;
		} while (called < N);
		check_equal(ipc_loop_turn(loop, 0), 0);
	}
	for (i = 0; i < N; i++) {
		if (i % 2)
			ipc_watch_stop(looks[i].watch);
	}
	ipc_loop_destroy(loop);
	for (i = 0; i < N; i++)
		check_equal(close(looks[i].fd), 0);
}

static void
a_turn_that_begins_many_watches_does_not_sleep_on_an_event(void **state)
{
	/* More than an engine begins with one submit. */
	enum { N = 400 };
	static struct look looks[N];
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	unsigned int i, ready;
	int64_t start_ms;

	(void)state;
	memset(looks, 0, sizeof(looks));
	for (ready = 0; ready < N; ready += N / 8) {
		for (i = 0; i < N; i++) {
			int fd = eventfd(i == ready, EFD_CLOEXEC);

			check(fd >= 0);
			looks[i].drain = true;
			look_start(&looks[i], loop, fd, POLLIN);
		}
		start_ms = now_ms();
		check_equal(ipc_loop_turn(loop, TEST_WAIT_MS), 1);
		check(now_ms() - start_ms < TEST_WAIT_MS);
		for (i = 0; i < N; i++) {
			ipc_watch_stop(looks[i].watch);
			check_equal(close(looks[i].fd), 0);
		}
	}
	ipc_loop_destroy(loop);
}

struct starter {
	struct ipc_loop *loop;
	struct look looks[10];
	unsigned int n;
	int fd;
};

static void
start_another(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct starter *starter = user;
	struct look *next;
	uint64_t value;

	(void)watch;
	check_equal(events, POLLIN);
	check_equal(read(starter->fd, &value, sizeof(value)), sizeof(value));
	next = &starter->looks[starter->n++];
	look_start(next, starter->loop, eventfd(1, EFD_CLOEXEC), POLLIN);
}

static void
a_watch_may_be_started_within_a_callback(void **state)
{
	struct starter starter = {.loop = loop_open(NULL)};
	struct ipc_watch *watch;
	unsigned int i;

	(void)state;
	check((starter.fd = eventfd(0, EFD_CLOEXEC)) >= 0);
	check_equal(
		ipc_watch_start(&watch, starter.loop, starter.fd, POLLIN, start_another, &starter),
		0);
	for (i = 0; i < 10; i++) {
		check_equal(eventfd_write(starter.fd, 1), 0);
		turn_until(starter.loop, starter.n == i + 1);
		turn_until(starter.loop, starter.looks[i].calls);
		expect_calls(&starter.looks[0], 2, 2);
	}
	ipc_loop_destroy(starter.loop);
	for (i = 0; i < 10; i++)
		check_equal(close(starter.looks[i].fd), 0);
	check_equal(close(starter.fd), 0);
}

/* A channel's own socket, of a loop that does not drive it, is a descriptor as any other. */
static void
an_unattached_channel_may_be_watched(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	look_start(&own, loop, ipc_channel_fd(a), POLLIN);
	expect_nothing(a);
	expect_calls(&own, 2, 0);
	send_text(b, "text");
	expect_calls(&own, 2, 2);
	expect_text(a, "text");
	expect_calls(&own, 2, 0);
	ipc_loop_destroy(loop);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
hear(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	++*(unsigned int *)user;
}

static void
an_attached_channels_socket_is_not_watched_twice(void **state)
{
	static const struct ipc_channel_handler handler = {.message = hear};
	struct ipc_loop *loop = loop_open(NULL);
	struct look own = {.calls = 0};
	struct ipc_watch *watch = NULL;
	struct ipc_channel *a, *b;
	unsigned int heard = 0;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_loop_attach(loop, a, &handler, &heard), 0);
	check_equal(ipc_watch_start(&watch, loop, ipc_channel_fd(a), POLLIN, look, &own), -EEXIST);
	check(!watch);
	send_text(b, "text");
	turn_until(loop, heard == 1);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(an_event_is_told_in_every_turn_until_it_is_dealt_with),
		loop_test(an_event_that_was_dealt_with_between_turns_is_not_told),
		loop_test(an_event_that_another_callback_dealt_with_is_not_told),
		loop_test(a_turn_that_waits_is_ended_by_an_event),
		loop_test(room_for_writing_is_an_event),
		loop_test(a_hang_up_and_an_error_are_told_unasked),
		loop_test(half_a_hang_up_is_told_to_who_asks),
		loop_test(urgent_data_is_an_event),
		loop_test(a_pidfd_is_readable_once_its_process_has_ended),
		loop_test(what_cannot_be_watched_is_refused),
		loop_test(a_descriptor_may_be_watched_by_several_loops),
		loop_test(a_watch_may_stop_itself_or_another),
		loop_test(a_stopped_watchs_descriptor_is_free_at_once),
		loop_test(what_a_stopped_watch_watched_is_held_no_longer),
		loop_test(many_descriptors_are_watched),
		loop_test(a_turn_that_begins_many_watches_does_not_sleep_on_an_event),
		loop_test(a_watch_may_be_started_within_a_callback),
		loop_test(an_unattached_channel_may_be_watched),
		loop_test(an_attached_channels_socket_is_not_watched_twice),
	};

	return run_on_engines(tests);
}
