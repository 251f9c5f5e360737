/* SPDX-License-Identifier: MIT */

/*
 * A program that was started without standard input, output and error: no descriptor of the
 * library's takes their numbers, for whatever somebody prints would go there.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop_support.h"
#include "raw.h"
#include "worker_support.h"

static void
close_standard(void)
{
	int fd;

	for (fd = 0; fd < 3; fd++)
		(void)close(fd);
}

/* It is what nobody has opened. */
static void
expect_none_low(void)
{
	int fd;

	for (fd = 0; fd < 3; fd++)
		check(fcntl(fd, F_GETFD) < 0);
}

static void
use_pair(void *arg)
{
	int fd = memfd_create("passed", MFD_CLOEXEC), taken, i;
	struct ipc_message message = {.n_fds = 1, .fds = &fd};
	struct ipc_channel *a, *b;

	(void)arg;
	close_standard();
	pair_open(&a, &b, OPTIONS(.fds_max = 2));
	check(ipc_channel_fd(a) > 2 && ipc_channel_fd(b) > 2);
	for (i = 0; i < 3; i++) {
		message = (struct ipc_message){.n_fds = 1, .fds = &fd};
		check_equal(ipc_channel_post(a, &message, 0), 0);
		expect_none_low();
		check_equal(ipc_channel_flush(a, TEST_WAIT_MS), 0);
		check_equal(ipc_channel_recv(b, &message, TEST_WAIT_MS), 0);
		check_equal(message.n_fds, 1);
		check(message.fds[0] > 2);
		check(is_same_file(message.fds[0], fd));
		check_equal(fcntl(message.fds[0], F_GETFD), FD_CLOEXEC);
		expect_none_low();
	}
	taken = ipc_message_take_fd(&message, 0);
	check(taken > 2);
	ipc_channel_close(a);
	ipc_channel_close(b);
	check(is_same_file(taken, fd));
}

static void
a_pair_and_what_it_receives_are_elsewhere(void **state)
{
	(void)state;
	child_end(child_start(use_pair, NULL));
}

/* All but these numbers are taken. */
static void
use_pair_at_the_limit(void *arg)
{
	struct rlimit limit = {.rlim_cur = 0};
	int fds[2], fd = memfd_create("passed", MFD_CLOEXEC), last;
	struct ipc_message message = {.n_fds = 2, .fds = fds, .type = 7};
	struct ipc_channel *a, *b;

	(void)arg;
	fds[0] = fds[1] = fd;
	pair_open(&a, &b, OPTIONS(.fds_max = 2));
	check_equal(ipc_channel_send(a, &message, 0), 0);
	send_text(a, "next");
	check_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	while ((last = dup(fd)) >= 0 && last < 60)
		continue;
	limit.rlim_cur = 61;
	check_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close_standard();
	check_equal(ipc_channel_recv(b, &message, TEST_WAIT_MS), -EBADMSG);
	check_equal(message.type, 7);
	expect_none_low();
	expect_text(b, "next");
	check_equal(ipc_channel_pair(&a, &b, NULL), -EMFILE);
	expect_none_low();
}

static void
a_received_one_without_another_number_is_lost_and_told(void **state)
{
	(void)state;
	skip_without_descriptor_limit();
	child_end(child_start(use_pair_at_the_limit, NULL));
}

static void
open_low(void *arg)
{
	struct ipc_channel *a, *b;
	int fds[2];
	char text[64];

	(void)arg;
	close_standard();
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	check(fds[0] < 3 && fds[1] < 3);
	check_equal(ipc_channel_open(&a, fds[0], NULL), 0);
	check(ipc_channel_fd(a) > 2);
	(void)snprintf(text, sizeof(text), "%d:%d", fds[1], getpid());
	check_equal(setenv("LIBIPC_CHANNEL", text, 1), 0);
	check_equal(ipc_channel_inherit(&b, NULL), 0);
	check(ipc_channel_fd(b) > 2);
	expect_none_low();
	check_equal(fcntl(ipc_channel_fd(b), F_GETFD), FD_CLOEXEC);
	send_text(a, "text");
	expect_text(b, "text");
	ipc_channel_close(a);
	expect_end(b);
	ipc_channel_close(b);
	/* On failure it is the caller's still, where it was. */
	check_equal(open("/dev/null", O_RDWR), 0);
	check_equal(ipc_channel_open(&a, 0, NULL), -ENOTSOCK);
	check_equal(fcntl(0, F_GETFD), 0);
}

static void
a_socket_at_such_a_number_moves_to_another(void **state)
{
	(void)state;
	child_end(child_start(open_low, NULL));
}

static void
never(struct ipc_timer *timer, void *user)
{
	(void)timer;
	(void)user;
	check(false);
}

static void
use_loop(void *arg)
{
	struct ipc_channel *a, *b;
	struct ear ear = {.messages = 0};
	struct ipc_timer *timer;
	struct ipc_loop *loop;

	(void)arg;
	close_standard();
	loop = loop_open(NULL);
	expect_none_low();
	check(ipc_loop_fd(loop) > 2);
	expect_none_low();
	pair_open(&a, &b, NULL);
	ear_attach(&ear, loop, a);
	check_equal(ipc_timer_start(&timer, loop, 60000, 0, never, NULL), 0);
	send_text(b, "text");
	turn_until(loop, ear.messages == 1);
	expect_none_low();
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
	expect_none_low();
}

static void
a_loop_is_elsewhere(void **state)
{
	(void)state;
	child_end(child_start(use_loop, NULL));
}

static int
expect_high_and_echo(struct ipc_channel *channel, void *arg)
{
	(void)arg;
	check(ipc_channel_fd(channel) > 2);
	return echo(channel, NULL);
}

static void
use_worker(void *arg)
{
	struct ipc_worker *worker;

	(void)arg;
	close_standard();
	worker = spawn(WORKER(.run = expect_high_and_echo));
	check(ipc_worker_pidfd(worker) > 2);
	check(ipc_channel_fd(ipc_worker_channel(worker)) > 2);
	expect_none_low();
	send_text(ipc_worker_channel(worker), "text");
	expect_text(ipc_worker_channel(worker), "text");
	ipc_worker_free(worker);
	worker = spawn(WORKER(.argv = ROLE("echo")));
	check(ipc_worker_pidfd(worker) > 2);
	expect_none_low();
	send_text(ipc_worker_channel(worker), "text");
	expect_text(ipc_worker_channel(worker), "text");
	ipc_worker_free(worker);
	expect_none_low();
}

static void
a_worker_is_elsewhere(void **state)
{
	(void)state;
	skip_without_pidfds();
	child_end(child_start(use_worker, NULL));
}

static int
echo_role(char **argv)
{
	(void)argv;
	return echo(inherited(), NULL);
}

int
main(int argc, char **argv)
{
	static const struct role roles[] = {{"echo", echo_role}};
	const struct CMUnitTest tests[] = {
		loop_test(a_pair_and_what_it_receives_are_elsewhere),
		loop_test(a_received_one_without_another_number_is_lost_and_told),
		loop_test(a_socket_at_such_a_number_moves_to_another),
		loop_test(a_loop_is_elsewhere),
		loop_test(a_worker_is_elsewhere),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_on_engines(tests);
}
