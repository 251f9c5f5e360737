/* SPDX-License-Identifier: MIT */

/* Descriptors through a loop: the right ones arrive, once, whatever became of the sender's; and
   the lost are told of. */

#include <fcntl.h>
#include <grp.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop_support.h"
#include "raw.h"

#define FDS_MAX IPC_MESSAGE_FDS_LIMIT
/* Those that nobody took are closed soon, all but so few before more is received. */
#define FDS_CLOSING 16U

/* Both ends of a pair in one loop. */
struct fixture {
	struct ipc_loop *loop;
	struct ipc_channel *a, *b;
	struct ear a_ear, b_ear;
};

static void
fixture_open(struct fixture *f, const struct ipc_loop_options *options, uint32_t fds_max)
{
	*f = (struct fixture){.loop = loop_open(options)};
	pair_open(&f->a, &f->b, OPTIONS(.fds_max = fds_max));
	ear_attach(&f->a_ear, f->loop, f->a);
	ear_attach(&f->b_ear, f->loop, f->b);
	(void)turn_out(f->loop);
}

static void
fixture_close(struct fixture *f)
{
	ipc_channel_close(f->a);
	ipc_channel_close(f->b);
	ipc_loop_destroy(f->loop);
}

static void
expect_same_fds(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	const struct ipc_message *sent = ear->arg;
	unsigned int i;

	(void)channel;
	check_equal(message->n_fds, sent->n_fds);
	for (i = 0; i < message->n_fds; i++) {
		check(message->fds[i] != sent->fds[i]);
		check(is_same_file(message->fds[i], sent->fds[i]));
		check_equal(fcntl(message->fds[i], F_GETFD), FD_CLOEXEC);
	}
}

static void
any_number_arrives_to_and_fro(void **state)
{
	static const unsigned int numbers[] = {0, 1, 2, 16, 252, 253};
	struct fixture f;
	int fds[FDS_MAX];
	struct ipc_message message = {.fds = fds};
	unsigned int i, k;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_fds_max = 1000), FDS_MAX);
	f.a_ear.on_message = f.b_ear.on_message = expect_same_fds;
	f.a_ear.arg = f.b_ear.arg = &message;
	for (k = 0; k < FDS_MAX; k++)
		fds[k] = (int)(k % 3);
	for (i = 0; i < 6; i++) {
		message.n_fds = numbers[i];
		check_equal(ipc_channel_send(f.a, &message, 0), 0);
		check_equal(ipc_channel_send(f.b, &message, 0), 0);
		turn_until(f.loop, f.a_ear.messages == i + 1 && f.b_ear.messages == i + 1);
	}
	fixture_close(&f);
}

static void
every_kind_arrives(void **state)
{
	int fds[9], ends[2], sockets[2], i;
	struct ipc_message message = {.fds = fds, .n_fds = 9};
	struct fixture f;

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	check_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	fds[0] = ends[0];
	fds[1] = ends[1];
	fds[2] = sockets[0];
	fds[3] = sockets[1];
	check((fds[4] = memfd_create("memfd", MFD_CLOEXEC)) >= 0);
	check((fds[5] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
	check((fds[6] = open("/", O_PATH | O_CLOEXEC)) >= 0);
	check((fds[7] = eventfd(0, EFD_CLOEXEC)) >= 0);
	fds[8] = fds[0];
	fixture_open(&f, NULL, 16);
	f.b_ear.on_message = expect_same_fds;
	f.b_ear.arg = &message;
	check_equal(ipc_channel_send(f.a, &message, 0), 0);
	turn_until(f.loop, f.b_ear.messages == 1);
	for (i = 0; i < 8; i++)
		check_equal(close(fds[i]), 0);
	fixture_close(&f);
}

static void
too_many_or_bad_ones_are_refused_and_nothing_is_taken(void **state)
{
	int fds[254] = {0}, closed;
	struct ipc_message message = {.fds = fds, .n_fds = 254};
	unsigned int open;
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL, FDS_MAX);
	check((closed = dup(0)) >= 0);
	check_equal(close(closed), 0);
	open = descriptors_open();
	check_equal(ipc_channel_post(f.a, &message, 0), -E2BIG);
	message.n_fds = 3;
	fds[2] = -1;
	check_equal(ipc_channel_post(f.a, &message, 0), -EBADF);
	fds[2] = closed;
	check_equal(ipc_channel_post(f.a, &message, 0), -EBADF);
	check_equal(descriptors_open(), open);
	gather_text(f.a, "after it");
	turn_until(f.loop, f.b_ear.messages == 1);
	check_equal(strcmp(f.b_ear.text, "after it"), 0);
	check_equal(f.b_ear.losts + f.b_ear.closeds, 0);
	fixture_close(&f);

	fixture_open(&f, NULL, 2);
	fds[2] = 0;
	check_equal(ipc_channel_post(f.a, &message, 0), -E2BIG);
	(void)turn_out(f.loop);
	check_equal(f.b_ear.messages + f.b_ear.losts, 0);
	fixture_close(&f);
}

static void
without_room_to_duplicate_nothing_is_taken(void **state)
{
	int fds[3] = {0, 1, 2};
	struct ipc_message message = {.fds = fds, .n_fds = 3};
	unsigned int open;
	struct fixture f;

	(void)state;
	skip_without_descriptor_limit();
	fixture_open(&f, NULL, 3);
	open = descriptors_open();
	descriptors_limit(2);
	check_equal(ipc_channel_send(f.a, &message, 0), -EMFILE);
	descriptors_unlimit();
	check_equal(descriptors_open(), open);
	check_equal(ipc_channel_send(f.a, &message, 0), 0);
	turn_until(f.loop, f.b_ear.messages == 1);
	fixture_close(&f);
}

static void
a_descriptor_that_the_kernel_does_not_pass_is_refused(void **state)
{
	struct io_uring_params params = {.flags = 0};
	int ring = (int)syscall(SYS_io_uring_setup, 4, &params), fds[2];
	struct ipc_message message = {.fds = fds, .n_fds = 2};
	unsigned int open;
	struct fixture f;

	(void)state;
	if (ring < 0) {
		test_lacks("io_uring: no descriptor that cannot be passed");
		return;
	}
	fixture_open(&f, NULL, 4);
	f.b_ear.on_message = expect_same_fds;
	f.b_ear.arg = &message;
	open = descriptors_open();
	fds[0] = 0;
	fds[1] = ring;
	check_equal(ipc_channel_send(f.a, &message, 0), -EINVAL);
	check_equal(descriptors_open(), open);
	(void)turn_out(f.loop);
	check_equal(f.b_ear.messages + f.b_ear.losts + f.b_ear.closeds, 0);

	/* Others without a file of their own are passed. */
	fds[1] = eventfd(0, EFD_CLOEXEC);
	check(fds[1] >= 0);
	check_equal(ipc_channel_send(f.a, &message, 0), 0);
	turn_until(f.loop, f.b_ear.messages == 1);
	check_equal(close(fds[1]), 0);
	check_equal(close(ring), 0);
	fixture_close(&f);
}

/* Files that can be told apart by their content. */
static int
numbered_file(unsigned int number)
{
	int fd = memfd_create("numbered", MFD_CLOEXEC);

	check(fd >= 0);
	check_equal(pwrite(fd, &number, sizeof(number), 0), sizeof(number));
	return fd;
}

static void
expect_number(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	unsigned int number;

	(void)channel;
	check_equal(message->n_fds, 1);
	check_equal(pread(message->fds[0], &number, sizeof(number), 0), sizeof(number));
	check_equal(number, ear->messages - 1);
	check_equal(message->id, ear->messages);
}

/* Each is closed as soon as it was sent, so that the next has its number. */
static unsigned int
send_and_reuse(struct ipc_channel *channel, unsigned int from, unsigned int limit, size_t size)
{
	static unsigned char payload[60000];
	struct ipc_message message = {.n_fds = 1, .data = payload, .size = size};
	int r = 0;

	for (; r == 0 && from < limit; from += r == 0) {
		int fd = numbered_file(from);

		message.fds = &fd;
		message.id = from + 1;
		r = ipc_channel_send(channel, &message, 0);
		check_equal(close(fd), 0);
	}
	check(r == 0 || r == -EAGAIN);
	return from;
}

static void
a_descriptor_may_be_closed_and_its_number_reused_at_once(void **state)
{
	struct fixture f;
	unsigned int n;

	(void)state;
	fixture_open(&f, NULL, 1);
	f.b_ear.on_message = expect_number;
	n = send_and_reuse(f.a, 0, 100, 10);
	check_equal(n, 100);
	turn_until(f.loop, f.b_ear.messages == n);
	fixture_close(&f);
}

static void
a_descriptor_may_be_closed_while_its_send_waits_for_a_full_socket(void **state)
{
	struct ipc_message message;
	struct fixture f;
	unsigned int n, i, number;
	int decoy;

	(void)state;
	fixture_open(&f, LOOP_OPTIONS(.out_bytes_max = 2U << 20), 1);
	check_equal(ipc_loop_detach(f.loop, f.b), 0);
	n = send_and_reuse(f.a, 0, 1000, 50000);
	check(n > 20);
	for (i = 0; i < 5; i++)
		check(ipc_loop_turn(f.loop, 0) >= 0);
	/* Whoever reads the number now reads this. */
	decoy = numbered_file(99999);
	for (i = 0; i < n; i++) {
		while (ipc_channel_recv(f.b, &message, 0) == -EAGAIN)
			check(ipc_loop_turn(f.loop, 10) >= 0);
		check_equal(message.n_fds, 1);
		check_equal(pread(message.fds[0], &number, sizeof(number), 0), sizeof(number));
		check_equal(number, i);
	}
	check_equal(close(decoy), 0);
	fixture_close(&f);
}

/* Of three messages the first one's descriptor is taken, the second one's left, the third is not
   looked at. */
struct claims {
	int taken[100];
	unsigned int n;
};

static void
claim_some(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct claims *claims = ear->arg;
	unsigned int number;

	(void)channel;
	if (ear->messages % 3 == 0)
		return;
	check_equal(message->n_fds, 1);
	check_equal(pread(message->fds[0], &number, sizeof(number), 0), sizeof(number));
	check_equal(number, ear->messages - 1);
	if (ear->messages % 3 == 1) {
		claims->taken[claims->n] = ipc_message_take_fd(message, 0);
		check(claims->taken[claims->n++] >= 0);
		check_equal(ipc_message_take_fd(message, 0), -EBADF);
	}
}

static void
unclaimed_descriptors_are_closed_and_claimed_ones_stay(void **state)
{
	struct claims claims = {.n = 0};
	unsigned int open, i, number;
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL, 1);
	f.b_ear.on_message = claim_some;
	f.b_ear.arg = &claims;
	open = descriptors_open();
	check_equal(send_and_reuse(f.a, 0, 99, 10), 99);
	turn_until(f.loop, f.b_ear.messages == 99);
	(void)turn_out(f.loop);
	check_equal(claims.n, 33);
	check_equal(descriptors_open(), open + 33);
	for (i = 0; i < 33; i++) {
		check_equal(pread(claims.taken[i], &number, sizeof(number), 0), sizeof(number));
		check_equal(number, 3 * i);
		check_equal(close(claims.taken[i]), 0);
	}
	fixture_close(&f);
}

static void
hear_lost(struct ear *ear, struct ipc_channel *channel, const struct ipc_message *head)
{
	struct ipc_message reply = text_message("say again");

	(void)ear;
	check_equal(head->type, 12);
	check_equal(head->flags, 0);
	check_equal(head->id, 345);
	/* So that its sender knows. */
	check_equal(ipc_channel_reply(channel, head, &reply, 0), 0);
}

static void
lose_one(bool with_lost)
{
	struct ipc_channel_handler handler = ear_handler;
	int fds[3] = {0, 1, 2};
	struct ipc_message message = {.fds = fds, .n_fds = 3, .type = 12, .id = 345};
	unsigned int open;
	struct fixture f;

	fixture_open(&f, NULL, 3);
	if (!with_lost) {
		check_equal(ipc_loop_detach(f.loop, f.b), 0);
		handler.lost = NULL;
		check_equal(ipc_loop_attach(f.loop, f.b, &handler, &f.b_ear), 0);
	}
	f.b_ear.on_lost = hear_lost;
	open = descriptors_open();
	gather_text(f.a, "before");
	check_equal(ipc_channel_post(f.a, &message, 0), 0);
	gather_text(f.a, "after");
	/* Duplicates are open until they went: what is left then is room for them and one. */
	check(ipc_loop_detach(f.loop, f.a) == 0 && ipc_channel_flush(f.a, 0) == 0);
	ear_attach(&f.a_ear, f.loop, f.a);
	descriptors_limit(2);
	turn_until(f.loop, f.b_ear.messages == 2);
	descriptors_unlimit();
	check_equal(strcmp(f.b_ear.text, "after"), 0);
	check_equal(f.b_ear.losts, with_lost);
	turn_until(f.loop, !with_lost || f.a_ear.messages == 1);
	check_equal(descriptors_open(), open);

	/* The next one has its own. */
	f.b_ear.on_message = expect_same_fds;
	f.b_ear.arg = &message;
	check_equal(ipc_channel_post(f.a, &message, 0), 0);
	turn_until(f.loop, f.b_ear.messages == 3);
	check_equal(f.b_ear.closeds, 0);
	fixture_close(&f);
}

static void
a_message_that_lost_its_descriptors_is_told_of_and_the_next_is_intact(void **state)
{
	(void)state;
	skip_without_descriptor_limit();
	lose_one(true);
}

static void
a_lost_that_is_not_set_is_not_missed(void **state)
{
	(void)state;
	skip_without_descriptor_limit();
	lose_one(false);
}

static void
what_was_not_sent_is_closed_with_the_channel(void **state)
{
	struct fixture f;
	unsigned int open;

	(void)state;
	fixture_open(&f, NULL, 1);
	check_equal(ipc_loop_detach(f.loop, f.b), 0);
	open = descriptors_open();
	(void)send_and_reuse(f.a, 0, 1000, 50000);
	check(ipc_loop_turn(f.loop, 0) >= 0);
	check(descriptors_open() > open);
	f.a = ipc_channel_close(f.a);
	check_equal(descriptors_open(), open - 1);
	fixture_close(&f);
}

static void
what_had_arrived_is_closed_with_the_channel(void **state)
{
	static const unsigned char flood[1];
	struct ipc_message message = {.data = flood, .size = 0};
	struct fixture f;
	unsigned int open, i;

	(void)state;
	fixture_open(&f, NULL, 1);
	check_equal(ipc_loop_detach(f.loop, f.a), 0);
	open = descriptors_open();
	/* Before them more than a turn gives out. */
	for (i = 0; i < IPC_LOOP_TURN + 100; i++)
		check_equal(ipc_channel_post(f.a, &message, 0), 0);
	check_equal(ipc_channel_flush(f.a, 0), 0);
	check_equal(send_and_reuse(f.a, 0, 20, 10), 20);
	turn_until(f.loop, f.b_ear.messages);
	check(f.b_ear.messages < IPC_LOOP_TURN + 100);
	f.b = ipc_channel_close(f.b);
	check_equal(descriptors_open(), open - 1);
	fixture_close(&f);
}

/*
 * A peer that sends as many descriptors as it can, in more packets than this process could have
 * the descriptors of.
 */

/* Of a process, as most systems have it; and half of that. */
static const unsigned int table_sizes[] = {1024, 512};

struct greed {
	unsigned int open; /* before */
	int fd;            /* to be passed */
	unsigned int most; /* open at any time, above that */
};

/* In each callback there is room in the table, and little of it in use. */
static void
look_at_table(struct greed *greed)
{
	unsigned int n = descriptors_open() - greed->open;
	int fd = open("/", O_PATH | O_CLOEXEC);

	check(fd >= 0);
	check_equal(close(fd), 0);
	greed->most = n > greed->most ? n : greed->most;
}

static void
look_in_greedy(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	check_equal(message->n_fds, FDS_MAX);
	look_at_table(ear->arg);
}

static void
look_in_other(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct greed *greed = ear->arg;

	(void)channel;
	check_equal(message->n_fds, 1);
	check(is_same_file(message->fds[0], greed->fd));
	look_at_table(greed);
}

/* Return: how many the kernel took; it lets a user have so many in flight and no more. */
static unsigned int
send_greedily(int fd, int passed, unsigned int n)
{
	struct packet *packet = packet_begin(IPCI_KIND_MESSAGES, FDS_MAX);
	unsigned int i;
	ssize_t r;

	packet_run(packet, 8, IPCI_RUN_FDS, FDS_MAX);
	packet_zeros(packet, 8);
	packet_end(packet);
	for (i = 0; i < n; i++) {
		r = raw_send_fds(fd, packet->bytes, packet->size, passed, FDS_MAX);
		if (r == -ETOOMANYREFS)
			break;
		check_equal(r, packet->size);
	}
	return i;
}

static void
withstand_greed(unsigned int table_size)
{
	struct rlimit limit;
	struct greed greed = {.fd = STDERR_FILENO};
	struct ear greedy_ear = {.on_message = look_in_greedy, .arg = &greed};
	struct ear other_ear = {.on_message = look_in_other, .arg = &greed};
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_message message = {.data = "other", .size = 6, .n_fds = 1, .fds = &greed.fd};
	struct ipc_channel *greedy, *own, *peer;
	unsigned int i, sent = 0;
	int fd, r;

	greedy = raw_channel(&fd, OPTIONS(.fds_max = FDS_MAX));
	pair_open(&own, &peer, OPTIONS(.fds_max = 1));
	ear_attach(&greedy_ear, loop, greedy);
	ear_attach(&other_ear, loop, own);
	(void)turn_out(loop);
	check_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = table_size;
	check_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	greed.open = descriptors_open();
	for (i = 1; i <= 20; i++) {
		/* At least some of them wait when the other one's comes. */
		sent += send_greedily(fd, greed.fd, 8);
		while ((r = ipc_channel_send(peer, &message, 0)) == -EAGAIN)
			check(ipc_loop_turn(loop, 0) >= 0);
		check_equal(r, 0);
		turn_until(loop, other_ear.messages == i);
	}
	check(sent >= 20);
	turn_until(loop, greedy_ear.messages == sent);
	check_equal(greedy_ear.losts + greedy_ear.closeds + other_ear.losts + other_ear.closeds, 0);
	/* One packet's, a few of the one before that are being closed, and the other channel's. */
	check(greed.most >= FDS_MAX);
	check(greed.most <= FDS_MAX + FDS_CLOSING + 2);
	(void)turn_out(loop);
	check_equal(descriptors_open(), greed.open);
	descriptors_unlimit();
	ipc_channel_close(greedy);
	ipc_channel_close(own);
	ipc_channel_close(peer);
	check_equal(close(fd), 0);
	ipc_loop_destroy(loop);
}

static void
a_peer_with_many_descriptors_takes_none_of_anothers_or_of_the_program(void **state)
{
	unsigned int i;

	(void)state;
	skip_without_descriptor_limit();
	for (i = 0; i < sizeof(table_sizes) / sizeof(table_sizes[0]); i++)
		withstand_greed(table_sizes[i]);
}

/* It looks like the end of stream. */
static void
descriptors_that_come_with_an_empty_packet_are_closed(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct ear ear = {.loop = NULL};
	struct ipc_channel *channel;
	unsigned int open;
	int fd;

	(void)state;
	channel = raw_channel(&fd, OPTIONS(.fds_max = FDS_MAX));
	ear_attach(&ear, loop, channel);
	(void)turn_out(loop);
	open = descriptors_open();
	check_equal(raw_send_fds(fd, "", 0, STDERR_FILENO, FDS_MAX), 0);
	turn_until(loop, ear.closeds);
	check_equal(ear.reason, 0);
	check_equal(descriptors_open(), open);
	ipc_channel_close(channel);
	check_equal(close(fd), 0);
	ipc_loop_destroy(loop);
}

#define NOBODY 65534
#define NOFILE 64
#define FLOOD  2000

/* What the kernel holds in flight for a user is limited; its own limit, or it would be root's. */
static void
become_nobody(void)
{
	check_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){NOFILE, NOFILE}), 0);
	if (getuid() == 0) {
		check_equal(setgroups(0, NULL), 0);
		check_equal(setgid(NOBODY), 0);
		check_equal(setuid(NOBODY), 0);
	}
}

static void
receive_flood(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	unsigned int i;

	(void)arg;
	/* It is full before this looks. */
	sleep_ms(50);
	for (i = 0; i < FLOOD; i++) {
		check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
		check_equal(message.id, i);
		check_equal(message.n_fds, 1);
		if (i % 500 == 0)
			sleep_ms(5);
	}
	check_equal(ipc_channel_send(channel, &(struct ipc_message){.size = 0}, TEST_WAIT_MS), 0);
}

/* Send with a descriptor each, as many as go. */
static void
flood_fds(struct ear *ear, struct ipc_channel *channel)
{
	unsigned int *n = ear->arg;
	int fd = STDERR_FILENO, r = 0;
	struct ipc_message message = {.n_fds = 1, .fds = &fd};

	for (; r == 0 && *n < FLOOD; *n += r == 0) {
		message.id = *n;
		r = ipc_channel_send(channel, &message, 0);
	}
	check(r == 0 || r == -EAGAIN);
}

static void
flood_as_nobody(struct ipc_channel *channel, void *arg)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.out_fds_max = 20));
	unsigned int n = 0;
	struct ear ear = {.on_writable = flood_fds, .arg = &n};

	(void)arg;
	become_nobody();
	ear_attach(&ear, loop, channel);
	flood_fds(&ear, channel);
	turn_until(loop, ear.messages == 1);
	check_equal(n, FLOOD);
	ipc_loop_destroy(loop);
}

static void
a_flood_of_descriptors_waits_for_the_kernel_and_loses_none(void **state)
{
	struct worker worker;

	(void)state;
	skip_without_descriptor_limit();
	worker = worker_start(OPTIONS(.fds_max = 1), flood_as_nobody, NULL);
	receive_flood(worker.channel, NULL);
	worker_end(&worker);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(any_number_arrives_to_and_fro),
		loop_test(every_kind_arrives),
		loop_test(too_many_or_bad_ones_are_refused_and_nothing_is_taken),
		loop_test(without_room_to_duplicate_nothing_is_taken),
		loop_test(a_descriptor_that_the_kernel_does_not_pass_is_refused),
		loop_test(a_descriptor_may_be_closed_and_its_number_reused_at_once),
		loop_test(a_descriptor_may_be_closed_while_its_send_waits_for_a_full_socket),
		loop_test(unclaimed_descriptors_are_closed_and_claimed_ones_stay),
		loop_test(a_message_that_lost_its_descriptors_is_told_of_and_the_next_is_intact),
		loop_test(a_lost_that_is_not_set_is_not_missed),
		loop_test(what_was_not_sent_is_closed_with_the_channel),
		loop_test(what_had_arrived_is_closed_with_the_channel),
		loop_test(a_peer_with_many_descriptors_takes_none_of_anothers_or_of_the_program),
		loop_test(descriptors_that_come_with_an_empty_packet_are_closed),
		loop_test(a_flood_of_descriptors_waits_for_the_kernel_and_loses_none),
	};

	return run_on_engines(tests);
}
