/* SPDX-License-Identifier: MIT */

/* The limits of both ends, the ranges of the options, and structs of other editions. */

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

#define MESSAGE_MAX 50000

static const unsigned char zeros[1U << 20];

static void
a_message_at_the_limit_passes_and_one_above_is_not_sent(void **state)
{
	struct ipc_message message = {.data = zeros, .size = MESSAGE_MAX}, received;
	struct ipc_channel_stats before;
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, OPTIONS(.message_max = MESSAGE_MAX));
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &received, 0), 0);
	check_equal(received.size, MESSAGE_MAX);

	before = stats_of(a);
	message.size++;
	check_equal(ipc_channel_send(a, &message, 0), -EMSGSIZE);
	check_equal(ipc_channel_post(a, &message, 0), -EMSGSIZE);
	check_equal(ipc_channel_call(a, &message, &received, 0), -EMSGSIZE);
	message.size = SIZE_MAX;
	check_equal(ipc_channel_send(a, &message, 0), -EMSGSIZE);
	check_equal(ipc_channel_post(a, &message, 0), -EMSGSIZE);
	check_equal(ipc_channel_flush(a, 0), 0);
	check_equal(stats_of(a).out.records, before.out.records);
	expect_nothing(b);

	send_text(a, "fine");
	expect_text(b, "fine");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
the_default_limit_is_16_mib(void **state)
{
	struct ipc_message message = {.data = zeros, .size = (16U << 20) + 1};
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_send(a, &message, 0), -EMSGSIZE);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* Two ends that differ. */
static void
open_two(struct ipc_channel **ret_a, const struct ipc_channel_options *options_a,
	struct ipc_channel **ret_b, const struct ipc_channel_options *options_b)
{
	int fds[2];

	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	check_equal(ipc_channel_open(ret_a, fds[0], options_a), 0);
	check_equal(ipc_channel_open(ret_b, fds[1], options_b), 0);
}

static void
the_limit_of_either_end_counts(void **state)
{
	struct ipc_message message = {.data = zeros, .size = 20001};
	struct ipc_channel *a, *b;

	(void)state;
	open_two(&a, OPTIONS(.message_max = 30000), &b, OPTIONS(.message_max = 20000));
	check_equal(ipc_channel_send(a, &message, 0), -EMSGSIZE);
	check_equal(ipc_channel_send(b, &message, 0), -EMSGSIZE);
	expect_nothing(a);
	expect_nothing(b);
	message.size--;
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_send(b, &message, 0), 0);
	check_equal(ipc_channel_recv(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.size, 20000);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
the_descriptors_that_the_peer_takes_count(void **state)
{
	int fds[3] = {STDIN_FILENO, STDIN_FILENO, STDIN_FILENO};
	struct ipc_message message = {.fds = fds, .n_fds = 3};
	struct ipc_channel *a, *b;

	(void)state;
	open_two(&a, NULL, &b, OPTIONS(.fds_max = 2));
	check_equal(ipc_channel_send(a, &message, 0), -E2BIG);
	message.n_fds = 2;
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.n_fds, 2);
	check_equal(ipc_channel_send(b, &(struct ipc_message){.fds = fds, .n_fds = 1}, 0), -E2BIG);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
records_fit_the_smaller_end(void **state)
{
	struct ipc_message message = {.data = zeros, .size = 700};
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	open_two(&a, OPTIONS(.record_max = 200000), &b,
		OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_MIN));
	for (i = 0; i < 40; i++) {
		message.size = i * 237;
		check_equal(ipc_channel_post(a, &message, TEST_WAIT_MS), 0);
		check_equal(ipc_channel_flush(a, TEST_WAIT_MS), 0);
		check_equal(ipc_channel_recv(b, &message, 0), 0);
		check_equal(message.size, i * 237);
		message.data = zeros;
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
before_the_hello_small_messages_go_and_others_wait(void **state)
{
	struct ipc_message message = {.data = zeros, .size = IPC_CHANNEL_MESSAGE_FLOOR};
	int fds[2], passed = STDIN_FILENO;
	struct ipc_channel *a, *b;

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	check_equal(ipc_channel_open(&a, fds[0], OPTIONS(.fds_max = 1)), 0);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	message.size++;
	check_equal(ipc_channel_send(a, &message, 0), -EAGAIN);
	check_equal(ipc_channel_send(a, &message, 20), -ETIMEDOUT);
	check_equal(ipc_channel_post(a, &message, 0), -EAGAIN);
	message = (struct ipc_message){.fds = &passed, .n_fds = 1};
	check_equal(ipc_channel_send(a, &message, 0), -EAGAIN);
	check_equal(ipc_channel_post(a, &message, 20), -ETIMEDOUT);
	send_text(a, "small");

	check_equal(ipc_channel_open(&b, fds[1], OPTIONS(.fds_max = 1)), 0);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.size, IPC_CHANNEL_MESSAGE_FLOOR);
	expect_text(b, "small");
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.n_fds, 1);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
what_was_sent_before_the_hello_is_taken_whatever_the_limit(void **state)
{
	struct ipc_message message = {.data = zeros, .size = IPC_CHANNEL_MESSAGE_FLOOR};
	struct ipc_channel *a, *b;
	int fds[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	check_equal(ipc_channel_open(&a, fds[0], NULL), 0);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	check_equal(ipc_channel_flush(a, 0), 0);
	check_equal(ipc_channel_open(&b, fds[1],
			    OPTIONS(.message_max = 10, .record_max = IPC_CHANNEL_RECORD_MAX_MIN)),
		0);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.size, IPC_CHANNEL_MESSAGE_FLOOR);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	expect_nothing(b);

	/* Now it has been heard. */
	message = (struct ipc_message){.data = zeros, .size = 11};
	check_equal(ipc_channel_send(a, &message, 0), -EMSGSIZE);
	check_equal(ipc_channel_send(b, &message, 0), -EMSGSIZE);
	message.size = 10;
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_send(b, &message, 0), 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static int
try_options(const struct ipc_channel_options *options)
{
	struct ipc_channel *a = NULL, *b = NULL;
	int fds[2], r, opened;

	r = ipc_channel_pair(&a, &b, options);
	ipc_channel_close(a);
	ipc_channel_close(b);

	/* The same through open, which on failure leaves the descriptor to its owner. */
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	opened = ipc_channel_open(&a, fds[0], options);
	check_equal(opened, r);
	if (opened < 0)
		check_equal(close(fds[0]), 0);
	else
		ipc_channel_close(a);
	check_equal(close(fds[1]), 0);
	return r;
}

static void
options_out_of_range_are_refused(void **state)
{
	(void)state;
	check_equal(try_options(OPTIONS(.message_max = IPC_CHANNEL_MESSAGE_MAX_LIMIT)), 0);
	check_equal(try_options(OPTIONS(.message_max = 1)), 0);
	if (SIZE_MAX > IPC_CHANNEL_MESSAGE_MAX_LIMIT)
		check_equal(try_options(OPTIONS(.message_max =
							(size_t)IPC_CHANNEL_MESSAGE_MAX_LIMIT + 1)),
			-EINVAL);
	check_equal(try_options(OPTIONS(.message_max = SIZE_MAX)),
		SIZE_MAX > IPC_CHANNEL_MESSAGE_MAX_LIMIT ? -EINVAL : 0);
	check_equal(try_options(OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_MIN)), 0);
	check_equal(try_options(OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_MIN - 1)), -EINVAL);
	check_equal(try_options(OPTIONS(.record_max = 1)), -EINVAL);
	check_equal(try_options(OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_LIMIT)), 0);
	check_equal(try_options(OPTIONS(.record_max = IPC_CHANNEL_RECORD_MAX_LIMIT + 1)), -EINVAL);
	check_equal(try_options(OPTIONS(.record_max = SIZE_MAX)), -EINVAL);
	check_equal(try_options(OPTIONS(.fds_max = IPC_MESSAGE_FDS_LIMIT)), 0);
	check_equal(try_options(OPTIONS(.fds_max = IPC_MESSAGE_FDS_LIMIT + 1)), -EINVAL);
	check_equal(try_options(OPTIONS(.fds_max = UINT32_MAX)), -EINVAL);
	check_equal(try_options(OPTIONS(.spin_us = -1)), 0);
	check_equal(try_options(OPTIONS(.spin_us = -2)), -EINVAL);
	check_equal(try_options(OPTIONS(.spin_us = INT32_MIN)), -EINVAL);
	check_equal(try_options(OPTIONS(.spin_us = IPC_CHANNEL_SPIN_US_LIMIT)), 0);
	check_equal(try_options(OPTIONS(.spin_us = IPC_CHANNEL_SPIN_US_LIMIT + 1)), -EINVAL);
	check_equal(try_options(OPTIONS(.send_buffer = 1)), 0);
	check_equal(try_options(OPTIONS(.send_buffer = SIZE_MAX)), -EINVAL);
	check_equal(try_options(NULL), 0);
}

/* A caller who was compiled against another edition of the header. */
static void
the_size_of_the_options_tells_what_they_hold(void **state)
{
	struct {
		struct ipc_channel_options known;
		unsigned char tail[16];
	} newer = {.known = {.size = sizeof(newer), .message_max = 20000}};
	struct ipc_channel_options older = {
		.size = offsetof(struct ipc_channel_options, fds_max),
		.message_max = 20000,
		/* Beyond its size: not there. */
		.fds_max = UINT32_MAX,
		.spin_us = INT32_MIN,
	};
	struct ipc_message message = {.data = zeros, .size = 20001};
	struct ipc_channel *a, *b;

	(void)state;
	check_equal(try_options(&(struct ipc_channel_options){.size = 0}), -EINVAL);
	check_equal(try_options(&(struct ipc_channel_options){.size = 1}), -EINVAL);
	check_equal(try_options(&(struct ipc_channel_options){.size = sizeof(size_t)}), 0);

	check_equal(try_options(&newer.known), 0);
	newer.tail[15] = 1;
	check_equal(try_options(&newer.known), -EINVAL);

	check_equal(try_options(&older), 0);
	pair_open(&a, &b, &older);
	check_equal(ipc_channel_send(a, &message, 0), -EMSGSIZE);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
the_send_buffer_is_what_was_asked_for(void **state)
{
	struct ipc_channel *a, *b;
	socklen_t size = sizeof(int);
	int value = 0;

	(void)state;
	pair_open(&a, &b, OPTIONS(.send_buffer = 20000));
	check_equal(getsockopt(ipc_channel_fd(a), SOL_SOCKET, SO_SNDBUF, &value, &size), 0);
	check_equal(value, 40000);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
the_descriptor_of_a_channel_can_be_polled(void **state)
{
	struct ipc_channel *a, *b;
	struct pollfd pollfd;

	(void)state;
	pair_open(&a, &b, NULL);
	pollfd = (struct pollfd){.fd = ipc_channel_fd(b), .events = POLLIN};
	check_equal(poll(&pollfd, 1, 0), 0);
	send_text(a, "look");
	check_equal(poll(&pollfd, 1, TEST_WAIT_MS), 1);
	check_equal(pollfd.revents, POLLIN);
	expect_text(b, "look");
	check_equal(poll(&pollfd, 1, 0), 0);
	ipc_channel_close(a);
	check_equal(poll(&pollfd, 1, TEST_WAIT_MS), 1);
	expect_end(b);
	ipc_channel_close(b);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(a_message_at_the_limit_passes_and_one_above_is_not_sent),
		channel_test(the_default_limit_is_16_mib),
		channel_test(the_limit_of_either_end_counts),
		channel_test(the_descriptors_that_the_peer_takes_count),
		channel_test(records_fit_the_smaller_end),
		channel_test(before_the_hello_small_messages_go_and_others_wait),
		channel_test(what_was_sent_before_the_hello_is_taken_whatever_the_limit),
		channel_test(options_out_of_range_are_refused),
		channel_test(the_size_of_the_options_tells_what_they_hold),
		channel_test(the_send_buffer_is_what_was_asked_for),
		channel_test(the_descriptor_of_a_channel_can_be_polled),
	};

	return run_group(tests);
}
