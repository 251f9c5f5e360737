/* SPDX-License-Identifier: MIT */

/* Adopting a descriptor: what is refused, who owns it then, and the hand-over to a worker. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "raw.h"

static int
open_fd(int fd)
{
	struct ipc_channel *channel = NULL;
	int r = ipc_channel_open(&channel, fd, NULL);

	/* Written only on success. */
	check(!channel == (r < 0));
	ipc_channel_close(channel);
	return r;
}

/* Refused, and still the caller's. */
static void
expect_refused(int fd, int result)
{
	check(fd >= 0);
	check_equal(open_fd(fd), result);
	check_equal(close(fd), 0);
}

static void
what_is_no_descriptor_is_refused(void **state)
{
	(void)state;
	check_equal(open_fd(-1), -EBADF);
	check_equal(open_fd(1 << 20), -EBADF);
	check_equal(open_fd(INT32_MIN), -EBADF);
}

static void
what_is_no_socket_is_refused(void **state)
{
	int fds[2];

	(void)state;
	check_equal(pipe2(fds, O_CLOEXEC), 0);
	expect_refused(fds[0], -ENOTSOCK);
	expect_refused(fds[1], -ENOTSOCK);
	expect_refused(open("/dev/null", O_RDWR | O_CLOEXEC), -ENOTSOCK);
	expect_refused(open("/", O_PATH | O_CLOEXEC), -EBADF);
}

static void
a_socket_of_another_kind_is_refused(void **state)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
	unsigned int i;
	int fds[2], inet;

	(void)state;
	for (i = 0; i < 2; i++) {
		check_equal(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, fds), 0);
		expect_refused(fds[0], -EPROTOTYPE);
		expect_refused(fds[1], -EPROTOTYPE);
	}
	inet = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (inet >= 0)
		expect_refused(inet, -EPROTOTYPE);
	else
		test_lacks("AF_INET");
}

static int
listening(struct sockaddr_un *ret_address, socklen_t *ret_size)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	/* An abstract name that the kernel chooses: nothing in the file system. */
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	*ret_size = sizeof(*ret_address);
	check(fd >= 0);
	check_equal(bind(fd, (struct sockaddr *)ret_address, sizeof(sa_family_t)), 0);
	check_equal(listen(fd, 1), 0);
	check_equal(getsockname(fd, (struct sockaddr *)ret_address, ret_size), 0);
	return fd;
}

static void
a_socket_that_is_not_connected_is_refused(void **state)
{
	struct sockaddr_un address;
	socklen_t size;

	(void)state;
	expect_refused(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), -ENOTCONN);
	expect_refused(listening(&address, &size), -ENOTCONN);
}

static void
a_socket_that_was_accepted_is_as_good_as_a_pair(void **state)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), listener;
	struct ipc_channel *a, *b;
	struct sockaddr_un address;
	socklen_t size;

	(void)state;
	listener = listening(&address, &size);
	check_equal(connect(fd, (struct sockaddr *)&address, size), 0);
	check_equal(ipc_channel_open(&a, fd, NULL), 0);
	check_equal(ipc_channel_open(&b, accept4(listener, NULL, NULL, SOCK_CLOEXEC), NULL), 0);
	send_text(a, "hello");
	expect_text(b, "hello");
	ipc_channel_close(a);
	ipc_channel_close(b);
	check_equal(close(listener), 0);
}

static void
fill_socket(int fd)
{
	static const unsigned char packet[1000];

	while (send(fd, packet, sizeof(packet), MSG_DONTWAIT) == sizeof(packet))
		;
	check_equal(errno, EAGAIN);
}

static void
a_socket_that_is_full_was_used_before(void **state)
{
	int fds[2];

	(void)state;
	raw_pair(fds);
	fill_socket(fds[0]);
	expect_refused(fds[0], -EAGAIN);
	check_equal(close(fds[1]), 0);
}

static void
a_peer_that_has_closed_already_is_no_failure(void **state)
{
	struct ipc_message message = text_message("to nobody");
	struct ipc_channel *a, *b;
	int fds[2];

	(void)state;
	raw_pair(fds);
	check_equal(ipc_channel_open(&a, fds[0], NULL), 0);
	send_text(a, "left behind");
	ipc_channel_close(a);
	check_equal(ipc_channel_open(&b, fds[1], NULL), 0);
	expect_text(b, "left behind");
	expect_end(b);
	check_equal(ipc_channel_send(b, &message, TEST_WAIT_MS), -EPIPE);
	ipc_channel_close(b);

	raw_pair(fds);
	check_equal(close(fds[0]), 0);
	check_equal(ipc_channel_open(&b, fds[1], NULL), 0);
	expect_end(b);
	ipc_channel_close(b);
}

static void
the_socket_is_made_close_on_exec(void **state)
{
	struct ipc_channel *channel, *a, *b;
	int fds[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	check_equal(fcntl(fds[0], F_GETFD), 0);
	check_equal(ipc_channel_open(&channel, fds[0], NULL), 0);
	check_equal(ipc_channel_fd(channel), fds[0]);
	check_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	ipc_channel_close(channel);
	check_equal(close(fds[1]), 0);

	pair_open(&a, &b, NULL);
	check_equal(fcntl(ipc_channel_fd(a), F_GETFD), FD_CLOEXEC);
	check_equal(fcntl(ipc_channel_fd(b), F_GETFD), FD_CLOEXEC);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
options_of_the_socket_that_change_what_arrives_are_undone(void **state)
{
	static const int options[] = {SO_PASSCRED, SO_PASSSEC};
	struct ipc_channel *a, *b;
	int fds[2], on = 1, value, passed = STDERR_FILENO;
	struct ipc_message message = {.fds = &passed, .n_fds = 1};
	socklen_t size = sizeof(value);
	unsigned int i;

	(void)state;
	raw_pair(fds);
	for (i = 0; i < 2; i++)
		check_equal(setsockopt(fds[1], SOL_SOCKET, options[i], &on, sizeof(on)), 0);
	check_equal(ipc_channel_open(&a, fds[0], OPTIONS(.fds_max = 1)), 0);
	check_equal(ipc_channel_open(&b, fds[1], OPTIONS(.fds_max = 1)), 0);
	for (i = 0; i < 2; i++) {
		check_equal(getsockopt(fds[1], SOL_SOCKET, options[i], &value, &size), 0);
		check_equal(value, 0);
	}
	/* The hello had credentials with it; descriptors come all the same. */
	check_equal(ipc_channel_send(a, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_recv(b, &message, TEST_WAIT_MS), 0);
	check_equal(message.n_fds, 1);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_socket_that_does_not_block_makes_no_difference(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message;
	int64_t start_ms;
	int fds[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	check_equal(ipc_channel_open(&a, fds[0], OPTIONS(.spin_us = -1)), 0);
	check_equal(ipc_channel_open(&b, fds[1], OPTIONS(.spin_us = -1)), 0);
	start_ms = now_ms();
	check_equal(ipc_channel_recv(b, &message, 50), -ETIMEDOUT);
	check(now_ms() - start_ms >= 49);
	send_text(a, "hello");
	expect_text(b, "hello");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
speak_later(void *arg)
{
	struct ipc_channel *channel;

	sleep_ms(50);
	check_equal(ipc_channel_open(&channel, *(int *)arg, NULL), 0);
	send_text(channel, "now");
	ipc_channel_close(channel);
}

static void
a_wait_for_ever_on_a_socket_that_does_not_block_waits(void **state)
{
	struct ipc_message message;
	struct ipc_channel *a;
	int fds[2];
	pid_t pid;

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	check_equal(ipc_channel_open(&a, fds[0], OPTIONS(.spin_us = -1)), 0);
	pid = child_start(speak_later, &fds[1]);
	check_equal(ipc_channel_recv(a, &message, -1), 0);
	check_equal(message.size, 4);
	child_end(pid);
	check_equal(close(fds[1]), 0);
	ipc_channel_close(a);
}

static void
set_variable(const char *format, int fd, int pid)
{
	char text[128];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)snprintf(text, sizeof(text), format, fd, pid);
#pragma GCC diagnostic pop
	check_equal(setenv("LIBIPC_CHANNEL", text, 1), 0);
}

static void
an_end_can_be_inherited(void **state)
{
	struct ipc_channel *a, *b = NULL;
	int fds[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	check_equal(ipc_channel_open(&a, fds[0], NULL), 0);
	set_variable("%d:%d", fds[1], getpid());
	check_equal(ipc_channel_inherit(&b, NULL), 0);
	check(!getenv("LIBIPC_CHANNEL"));
	check_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
	check_equal(ipc_channel_inherit(&b, NULL), -ENOENT);
	send_text(a, "to the worker");
	expect_text(b, "to the worker");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* Refused, and variable and descriptor are as they were. */
static void
expect_not_inherited(
	const char *format, int fd, int pid, const struct ipc_channel_options *options, int result)
{
	struct ipc_channel *channel = NULL;
	char before[128];

	set_variable(format, fd, pid);
	(void)snprintf(before, sizeof(before), "%s", getenv("LIBIPC_CHANNEL"));
	check_equal(ipc_channel_inherit(&channel, options), result);
	check(!channel);
	check(getenv("LIBIPC_CHANNEL"));
	check_equal(strcmp(before, getenv("LIBIPC_CHANNEL")), 0);
	if (result != -EBADF)
		check_equal(fcntl(fd, F_GETFD), 0);
	check_equal(unsetenv("LIBIPC_CHANNEL"), 0);
}

static void
a_hand_over_that_is_another_process_is_left_alone(void **state)
{
	struct ipc_channel *channel;
	int fds[2];

	(void)state;
	check_equal(unsetenv("LIBIPC_CHANNEL"), 0);
	check_equal(ipc_channel_inherit(&channel, NULL), -ENOENT);
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	expect_not_inherited("%d:%d", fds[0], getppid(), NULL, -ENOENT);
	expect_not_inherited("%d:%d", fds[0], 1, NULL, -ENOENT);
	expect_not_inherited("%d:%d", fds[0], 0, NULL, -ENOENT);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
}

static void
a_variable_that_is_malformed_is_refused(void **state)
{
	static const char *const formats[] = {"", ":", "%d", "%d:", ":%d", "%d:%dx", "x%d:%d",
		"-%d:%d", "+%d:%d", " %d:%d", "%d :%d", "%d: %d", "%d:-%d", "%d:+%d", "%d:%d ",
		"%d:%d\n", "%d.%d", "0x%d:%d", "%d99999999999999999999:%d",
		"%d:%d99999999999999999999", "%d:%d:1", "9999999999:%d:%d"};
	unsigned int i;
	int fds[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	for (i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		expect_not_inherited(formats[i], fds[0], getpid(), NULL, -EINVAL);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
}

static void
what_cannot_be_opened_cannot_be_inherited(void **state)
{
	int fds[2];

	(void)state;
	expect_not_inherited("%d:%d", 1 << 20, getpid(), NULL, -EBADF);
	check_equal(pipe(fds), 0);
	expect_not_inherited("%d:%d", fds[0], getpid(), NULL, -ENOTSOCK);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
	check_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	expect_not_inherited("%d:%d", fds[0], getpid(), NULL, -EPROTOTYPE);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	expect_not_inherited("%d:%d", fds[0], getpid(), OPTIONS(.record_max = 1), -EINVAL);
	fill_socket(fds[0]);
	expect_not_inherited("%d:%d", fds[0], getpid(), NULL, -EAGAIN);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
}

static void
inherit_as_grandchild(void *arg)
{
	struct ipc_channel *channel;

	(void)arg;
	/* The variable came down from a parent of another number. */
	check_equal(ipc_channel_inherit(&channel, NULL), -ENOENT);
}

static void
a_grandchild_does_not_take_its_parents_end(void **state)
{
	struct ipc_channel *a, *b;
	int fds[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	set_variable("%d:%d", fds[1], getpid());
	child_end(child_start(inherit_as_grandchild, NULL));
	check_equal(ipc_channel_open(&a, fds[0], NULL), 0);
	check_equal(ipc_channel_inherit(&b, NULL), 0);
	send_text(a, "still ours");
	expect_text(b, "still ours");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_pair_at_the_descriptor_limit_fails_cleanly(void **state)
{
	struct ipc_channel *a = NULL, *b = NULL;
	unsigned int i;

	(void)state;
	skip_without_descriptor_limit();
	for (i = 0; i < 2; i++) {
		descriptors_limit(i);
		check_equal(ipc_channel_pair(&a, &b, NULL), -EMFILE);
		descriptors_unlimit();
		check(!a && !b);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(what_is_no_descriptor_is_refused),
		channel_test(what_is_no_socket_is_refused),
		channel_test(a_socket_of_another_kind_is_refused),
		channel_test(a_socket_that_is_not_connected_is_refused),
		channel_test(a_socket_that_was_accepted_is_as_good_as_a_pair),
		channel_test(a_socket_that_is_full_was_used_before),
		channel_test(a_peer_that_has_closed_already_is_no_failure),
		channel_test(the_socket_is_made_close_on_exec),
		channel_test(options_of_the_socket_that_change_what_arrives_are_undone),
		channel_test(a_socket_that_does_not_block_makes_no_difference),
		channel_test(a_wait_for_ever_on_a_socket_that_does_not_block_waits),
		channel_test(an_end_can_be_inherited),
		channel_test(a_hand_over_that_is_another_process_is_left_alone),
		channel_test(a_variable_that_is_malformed_is_refused),
		channel_test(what_cannot_be_opened_cannot_be_inherited),
		channel_test(a_grandchild_does_not_take_its_parents_end),
		channel_test(a_pair_at_the_descriptor_limit_fails_cleanly),
	};

	return run_group(tests);
}
