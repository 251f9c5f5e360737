/* SPDX-License-Identifier: MIT */

/* Descriptors: the right ones with the right message, each with one owner, none lost or left. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support.h"

#define FDS_LIMIT IPC_MESSAGE_FDS_LIMIT

static const struct ipc_channel_options *const options = OPTIONS(.fds_max = FDS_LIMIT);

/* A file of its own that can be told from any other by its content. */
static int
marked_file(unsigned int mark)
{
	int fd = memfd_create("marked", MFD_CLOEXEC);

	check(fd >= 0);
	check_equal(write(fd, &mark, sizeof(mark)), sizeof(mark));
	return fd;
}

static void
expect_mark(int fd, unsigned int mark)
{
	unsigned int found = ~mark;

	check_equal(pread(fd, &found, sizeof(found), 0), sizeof(found));
	check_equal(found, mark);
}

static void
post_marked(struct ipc_channel *channel, unsigned int mark, unsigned int n)
{
	int fds[FDS_LIMIT];
	struct ipc_message message = {.data = &mark, .size = sizeof(mark), .fds = fds, .n_fds = n};
	unsigned int i;

	for (i = 0; i < n; i++)
		fds[i] = marked_file(mark + i);
	check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
	/* Borrowed: they are ours to close again. */
	for (i = 0; i < n; i++)
		check_equal(close(fds[i]), 0);
}

static void
expect_marked(struct ipc_channel *channel, unsigned int mark, unsigned int n)
{
	struct ipc_message message;
	unsigned int i;

	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.size, sizeof(mark));
	check_equal(memcmp(message.data, &mark, sizeof(mark)), 0);
	check_equal(message.n_fds, n);
	for (i = 0; i < n; i++)
		expect_mark(message.fds[i], mark + i);
}

static bool
is_cloexec(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	check(flags >= 0);
	return flags & FD_CLOEXEC;
}

static void
every_number_of_descriptors_arrives(void **state)
{
	static const unsigned int numbers[] = {0, 1, 2, 3, 16, 252, FDS_LIMIT};
	int fds[FDS_LIMIT];
	struct ipc_message message = {.data = "n", .size = 2, .fds = fds}, received;
	struct ipc_channel *a, *b;
	unsigned int i, k;

	(void)state;
	pair_open(&a, &b, options);
	for (i = 0; i < FDS_LIMIT; i++)
		fds[i] = marked_file(i);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		message.n_fds = numbers[i];
		check_equal(ipc_channel_send(a, &message, 0), 0);
		check_equal(ipc_channel_recv(b, &received, 0), 0);
		check_equal(received.n_fds, numbers[i]);
		for (k = 0; k < received.n_fds; k++) {
			check(received.fds[k] != fds[k]);
			check(is_same_file(received.fds[k], fds[k]));
			check(is_cloexec(received.fds[k]));
			expect_mark(received.fds[k], k);
		}
	}
	for (i = 0; i < FDS_LIMIT; i++)
		check_equal(close(fds[i]), 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
too_many_descriptors_are_refused(void **state)
{
	int fds[FDS_LIMIT + 1];
	struct ipc_message message = {.fds = fds, .n_fds = FDS_LIMIT + 1};
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	for (i = 0; i <= FDS_LIMIT; i++)
		fds[i] = STDIN_FILENO;
	pair_open(&a, &b, options);
	check_equal(ipc_channel_send(a, &message, 0), -E2BIG);
	check_equal(ipc_channel_post(a, &message, 0), -E2BIG);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_nothing(b);
	send_text(a, "still usable");
	expect_text(b, "still usable");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* One of each kind that can be passed. */
static void
open_kinds(int ret_fds[8])
{
	check_equal(pipe2(ret_fds, O_CLOEXEC), 0);
	check_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fds + 2), 0);
	ret_fds[4] = marked_file(4);
	ret_fds[5] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret_fds[6] = open("/dev/null", O_PATH | O_CLOEXEC);
	ret_fds[7] = ret_fds[0];
	check(ret_fds[5] >= 0 && ret_fds[6] >= 0);
}

static void
expect_same_kinds(const struct ipc_message *message, const int *fds)
{
	struct stat sent, received;
	unsigned int i;

	check_equal(message->n_fds, 8);
	for (i = 0; i < 8; i++) {
		check_equal(fstat(fds[i], &sent), 0);
		check_equal(fstat(message->fds[i], &received), 0);
		check_equal(sent.st_ino, received.st_ino);
		check_equal(sent.st_dev, received.st_dev);
		check_equal(sent.st_mode, received.st_mode);
		check(is_same_file(fds[i], message->fds[i]));
		check(is_cloexec(message->fds[i]));
	}
	check(message->fds[0] != message->fds[7]);
	check(fcntl(message->fds[6], F_GETFL) & O_PATH);
}

static void
every_kind_of_descriptor_arrives(void **state)
{
	int fds[8];
	struct ipc_message message = {.fds = fds, .n_fds = 8}, received;
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, options);
	open_kinds(fds);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &received, 0), 0);
	expect_same_kinds(&received, fds);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	check_equal(ipc_channel_flush(a, 0), 0);
	check_equal(ipc_channel_recv(b, &received, 0), 0);
	expect_same_kinds(&received, fds);
	for (i = 0; i < 7; i++)
		check_equal(close(fds[i]), 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* Refused with this, by send and by post, and nothing is gone or spoilt. */
static void
expect_refusal(int *fds, unsigned int n, int result)
{
	struct ipc_message message = {.data = "bad", .size = 4, .fds = fds, .n_fds = n};
	struct ipc_channel *a, *b;

	pair_open(&a, &b, options);
	post_marked(a, 100, 2);
	check_equal(ipc_channel_post(a, &message, 0), result);
	post_marked(a, 200, 1);
	check_equal(ipc_channel_send(a, &message, 0), result);
	check_equal(ipc_channel_post(a, &message, 0), result);
	post_marked(a, 300, 3);
	check_equal(ipc_channel_flush(a, 0), 0);

	expect_marked(b, 100, 2);
	expect_marked(b, 200, 1);
	expect_marked(b, 300, 3);
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_descriptor_that_is_not_open_leaves_the_channel_usable(void **state)
{
	int closed = marked_file(0), fds[3] = {STDIN_FILENO, closed, STDIN_FILENO};

	(void)state;
	check_equal(close(closed), 0);
	/* The number is free for others meanwhile: take one that nobody gets. */
	fds[1] = 1 << 20;
	expect_refusal(fds, 3, -EBADF);
	fds[1] = -1;
	expect_refusal(fds, 3, -EBADF);
	expect_refusal(fds + 1, 1, -EBADF);
}

#ifdef SYS_io_uring_setup
static int
open_ring(void)
{
	/* struct io_uring_params, whose zero is legal. */
	unsigned int params[30] = {0};

	return (int)syscall(SYS_io_uring_setup, 4, params);
}
#endif

static void
an_io_uring_is_refused(void **state)
{
#ifdef SYS_io_uring_setup
	int fds[2] = {STDIN_FILENO, open_ring()};

	(void)state;
	if (fds[1] >= 0) {
		expect_refusal(fds, 2, -EINVAL);
		check_equal(close(fds[1]), 0);
		return;
	}
#endif
	(void)state;
	test_lacks("io_uring");
	skip();
}

static void
more_than_the_peer_takes_is_refused(void **state)
{
	int fds[3] = {STDIN_FILENO, STDIN_FILENO, STDIN_FILENO};
	struct ipc_message message = {.fds = fds, .n_fds = 3};
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 2));
	check_equal(ipc_channel_send(a, &message, 0), -E2BIG);
	check_equal(ipc_channel_post(a, &message, 0), -E2BIG);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_nothing(b);
	post_marked(a, 1, 2);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_marked(b, 1, 2);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
descriptors_are_off_unless_asked_for(void **state)
{
	int fd = STDIN_FILENO;
	struct ipc_message message = {.fds = &fd, .n_fds = 1};
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_send(a, &message, 0), -E2BIG);
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* The limit is for one message: many of them spread over as many records as it takes. */
static void
many_posted_descriptors_spread_over_records(void **state)
{
	struct ipc_channel *a, *b;
	unsigned int i, n;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 7));
	for (i = 0, n = 0; i < 200; i++) {
		post_marked(a, i * 1000, i % 8);
		n += i % 8;
	}
	check_equal(ipc_channel_flush(a, TEST_WAIT_MS), 0);
	check_equal(stats_of(a).out.fds, n);
	check(stats_of(a).out.records > n / FDS_LIMIT);
	for (i = 0; i < 200; i++)
		expect_marked(b, i * 1000, i % 8);
	check_equal(stats_of(b).in.fds, n);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
posted_descriptors_may_be_closed_at_once(void **state)
{
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, options);
	/* Each closes its files after the post; their numbers serve the next again. */
	post_marked(a, 10, 3);
	post_marked(a, 20, 3);
	post_marked(a, 30, 3);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_marked(b, 10, 3);
	expect_marked(b, 20, 3);
	expect_marked(b, 30, 3);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_taken_descriptor_is_the_callers(void **state)
{
	struct ipc_message message;
	struct ipc_channel *a, *b;
	int taken;

	(void)state;
	pair_open(&a, &b, options);
	post_marked(a, 50, 3);
	send_text(a, "next");
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	taken = ipc_message_take_fd(&message, 1);
	check(taken >= 0);
	check_equal(ipc_message_take_fd(&message, 1), -EBADF);
	check_equal(ipc_message_take_fd(&message, 3), -EINVAL);
	check_equal(ipc_message_take_fd(&message, UINT32_MAX), -EINVAL);
	check(fcntl(message.fds[0], F_GETFD) >= 0);

	expect_text(b, "next");
	ipc_channel_close(a);
	ipc_channel_close(b);
	expect_mark(taken, 51);
	check_equal(close(taken), 0);
}

static void
a_message_without_descriptors_has_none_to_take(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message;

	(void)state;
	pair_open(&a, &b, options);
	send_text(a, "none");
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(ipc_message_take_fd(&message, 0), -EINVAL);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
unclaimed_descriptors_are_closed_by_the_next_receive(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message;
	unsigned int open;

	(void)state;
	pair_open(&a, &b, options);
	open = descriptors_open();
	post_marked(a, 1, 5);
	check_equal(ipc_channel_flush(a, 0), 0);
	check_equal(descriptors_open(), open);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(descriptors_open(), open + 5);
	/* Even one that brings nothing. */
	expect_nothing(b);
	check_equal(descriptors_open(), open);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
close_closes_what_was_gathered_arrived_and_given(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message;
	unsigned int open;

	(void)state;
	open = descriptors_open();
	pair_open(&a, &b, options);
	post_marked(a, 1, 2);
	post_marked(a, 2, 3);
	check_equal(ipc_channel_flush(a, 0), 0);
	post_marked(a, 3, 4);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	ipc_channel_close(b);
	ipc_channel_close(a);
	check_equal(descriptors_open(), open);
}

static void
the_ones_that_are_not_looked_at_do_not_shift_the_others(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, options);
	for (i = 0; i < 300; i++) {
		post_marked(a, i * 10, 1 + i % 4);
		if (i % 20 == 19)
			check_equal(ipc_channel_flush(a, TEST_WAIT_MS), 0);
	}
	for (i = 0; i < 300; i++) {
		if (i % 3 == 2)
			check_equal(ipc_channel_recv(b, &message, TEST_WAIT_MS), 0);
		else
			expect_marked(b, i * 10, 1 + i % 4);
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_large_message_brings_its_descriptors(void **state)
{
	static const unsigned char payload[150000];
	int fd = marked_file(9);
	struct ipc_message message = {
		.data = payload, .size = sizeof(payload), .fds = &fd, .n_fds = 1};
	struct ipc_channel *a, *b;

	(void)state;
	/* Room for all of it: nobody receives meanwhile. */
	pair_open(&a, &b, OPTIONS(.fds_max = 2, .send_buffer = 1U << 20));
	post_marked(a, 1, 2);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	check_equal(close(fd), 0);
	expect_marked(b, 1, 2);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.size, sizeof(payload));
	check_equal(message.n_fds, 1);
	expect_mark(message.fds[0], 9);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* The kernel drops what does not fit, silently; the channel notices. */
static void
a_receiver_at_its_limit_loses_that_message_alone(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message;
	unsigned int open, room;

	(void)state;
	skip_without_descriptor_limit();
	pair_open(&a, &b, options);
	for (room = 0; room < 4; room++) {
		open = descriptors_open();
		post_marked(a, 1, 4);
		check_equal(ipc_channel_flush(a, 0), 0);
		post_marked(a, 2, 1);
		check_equal(ipc_channel_flush(a, 0), 0);
		send_text(a, "plain");

		descriptors_limit(room);
		check_equal(ipc_channel_recv(b, &message, 0), -EBADMSG);
		descriptors_unlimit();
		check_equal(descriptors_open(), open);
		expect_marked(b, 2, 1);
		expect_text(b, "plain");
		check_equal(stats_of(b).in.dropped, room + 1);
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* So that it can be answered. */
static void
a_message_without_its_descriptors_still_has_type_flags_and_id(void **state)
{
	int fd = STDERR_FILENO;
	struct ipc_message message = {
		.data = "text",
		.size = 4,
		.type = 77,
		.flags = IPC_MESSAGE_REPLY,
		.fds = &fd,
		.n_fds = 1,
		.id = 99,
	};
	struct ipc_channel *a, *b;

	(void)state;
	skip_without_descriptor_limit();
	pair_open(&a, &b, options);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	descriptors_limit(0);
	check_equal(ipc_channel_recv(b, &message, 0), -EBADMSG);
	descriptors_unlimit();
	check_equal(message.type, 77);
	check_equal(message.flags, IPC_MESSAGE_REPLY);
	check_equal(message.id, 99);
	check_equal(message.n_fds, 0);
	check_equal(message.size, 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
in_a_record_only_those_after_the_limit_are_lost(void **state)
{
	struct ipc_message message;
	struct ipc_channel *a, *b;

	(void)state;
	skip_without_descriptor_limit();
	pair_open(&a, &b, options);
	post_marked(a, 10, 2);
	post_marked(a, 20, 2);
	post_marked(a, 30, 2);
	message = text_message("between");
	check_equal(ipc_channel_post(a, &message, 0), 0);
	post_marked(a, 40, 1);
	check_equal(ipc_channel_flush(a, 0), 0);

	descriptors_limit(3);
	expect_marked(b, 10, 2);
	descriptors_unlimit();
	check_equal(ipc_channel_recv(b, &message, 0), -EBADMSG);
	check_equal(ipc_channel_recv(b, &message, 0), -EBADMSG);
	expect_text(b, "between");
	check_equal(ipc_channel_recv(b, &message, 0), -EBADMSG);
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_large_message_that_lost_its_descriptors_is_dropped_whole(void **state)
{
	static const unsigned char payload[150000];
	int fd;
	struct ipc_message message = {
		.data = payload, .size = sizeof(payload), .fds = &fd, .n_fds = 1};
	struct ipc_channel *a, *b;

	(void)state;
	skip_without_descriptor_limit();
	fd = marked_file(9);
	/* Room for all of it: nobody receives meanwhile. */
	pair_open(&a, &b, OPTIONS(.fds_max = 2, .send_buffer = 1U << 20));
	check_equal(ipc_channel_send(a, &message, 0), 0);
	send_text(a, "after it");
	check_equal(close(fd), 0);
	descriptors_limit(0);
	check_equal(ipc_channel_recv(b, &message, 0), -EBADMSG);
	descriptors_unlimit();
	expect_text(b, "after it");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_sender_at_its_limit_can_still_send(void **state)
{
	int fds[2];
	unsigned int mark = 70;
	struct ipc_message message = {.data = &mark, .size = sizeof(mark), .fds = fds, .n_fds = 2};
	struct ipc_channel *a, *b;
	int r;

	(void)state;
	skip_without_descriptor_limit();
	fds[0] = marked_file(70);
	fds[1] = marked_file(71);
	pair_open(&a, &b, options);
	descriptors_limit(0);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	/* A post has to duplicate; it may find another way. */
	r = ipc_channel_post(a, &message, 0);
	check(r == 0 || r == -EMFILE);
	check_equal(ipc_channel_flush(a, 0), 0);
	descriptors_unlimit();

	expect_marked(b, 70, 2);
	if (r == 0)
		expect_marked(b, 70, 2);
	expect_nothing(b);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
close_as_child(void *arg)
{
	ipc_channel_close(arg);
}

static void
gathered_descriptors_stay_the_parents_after_a_fork(void **state)
{
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, options);
	post_marked(a, 80, 2);
	child_end(child_start(close_as_child, a));
	expect_nothing(b);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_marked(b, 80, 2);
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* A channel can be carried over another; what waits in it comes along. */
static void
an_end_of_a_channel_can_be_passed(void **state)
{
	struct ipc_message message = {.n_fds = 1};
	struct ipc_channel *a, *b, *inner_a, *inner_b;
	int fds[2];

	(void)state;
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	check_equal(ipc_channel_open(&inner_a, fds[0], NULL), 0);
	send_text(inner_a, "inside");
	pair_open(&a, &b, options);
	message.fds = &fds[1];
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(close(fds[1]), 0);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(ipc_channel_open(&inner_b, ipc_message_take_fd(&message, 0), NULL), 0);
	expect_text(inner_b, "inside");
	ipc_channel_close(inner_a);
	ipc_channel_close(inner_b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(every_number_of_descriptors_arrives),
		channel_test(too_many_descriptors_are_refused),
		channel_test(every_kind_of_descriptor_arrives),
		channel_test(a_descriptor_that_is_not_open_leaves_the_channel_usable),
		channel_test(an_io_uring_is_refused),
		channel_test(more_than_the_peer_takes_is_refused),
		channel_test(descriptors_are_off_unless_asked_for),
		channel_test(many_posted_descriptors_spread_over_records),
		channel_test(posted_descriptors_may_be_closed_at_once),
		channel_test(a_taken_descriptor_is_the_callers),
		channel_test(a_message_without_descriptors_has_none_to_take),
		channel_test(unclaimed_descriptors_are_closed_by_the_next_receive),
		channel_test(close_closes_what_was_gathered_arrived_and_given),
		channel_test(the_ones_that_are_not_looked_at_do_not_shift_the_others),
		channel_test(a_large_message_brings_its_descriptors),
		channel_test(a_receiver_at_its_limit_loses_that_message_alone),
		channel_test(a_message_without_its_descriptors_still_has_type_flags_and_id),
		channel_test(in_a_record_only_those_after_the_limit_are_lost),
		channel_test(a_large_message_that_lost_its_descriptors_is_dropped_whole),
		channel_test(a_sender_at_its_limit_can_still_send),
		channel_test(gathered_descriptors_stay_the_parents_after_a_fork),
		channel_test(an_end_of_a_channel_can_be_passed),
	};

	return run_group(tests);
}
