/* SPDX-License-Identifier: MIT */

/*
 * The hazards of io_uring that the engine meets, each by its name: what it does, or may do, to who
 * takes it for a socket. Epoll has to pass as well.
 */

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop_support.h"
#include "raw.h"

/* Nobody else's: locked memory is counted for each user. */
#define SOMEBODY 65433

/* Packets that a completion queue has room for, and some. */
#define CHANNELS_MAX 320

/* Many pairs of which one end each is attached. */
struct crowd {
	struct ipc_loop *loop;
	struct ipc_channel *owns[CHANNELS_MAX], *peers[CHANNELS_MAX];
	struct ear ears[CHANNELS_MAX];
	unsigned int n;
};

/* Takes the loop. */
static void
crowd_init(struct crowd *crowd, unsigned int n, struct ipc_loop *loop,
	const struct ipc_channel_options *options)
{
	unsigned int i;

	*crowd = (struct crowd){.loop = loop, .n = n};
	for (i = 0; i < n; i++)
		pair_open(&crowd->owns[i], &crowd->peers[i], options);
}

static void
crowd_open(struct crowd *crowd, unsigned int n, const struct ipc_loop_options *loop_options,
	const struct ipc_channel_options *options)
{
	crowd_init(crowd, n, loop_open(loop_options), options);
}

static void
crowd_attach(struct crowd *crowd)
{
	unsigned int i;

	for (i = 0; i < crowd->n; i++)
		ear_attach(&crowd->ears[i], crowd->loop, crowd->owns[i]);
}

static void
crowd_close(struct crowd *crowd)
{
	unsigned int i;

	for (i = 0; i < crowd->n; i++) {
		ipc_channel_close(crowd->owns[i]);
		ipc_channel_close(crowd->peers[i]);
	}
	ipc_loop_destroy(crowd->loop);
}

static unsigned int
messages_of(const struct crowd *crowd)
{
	unsigned int i, n = 0;

	for (i = 0; i < crowd->n; i++)
		n += crowd->ears[i].messages;
	return n;
}

static unsigned int
closeds_of(const struct crowd *crowd)
{
	unsigned int i, n = 0;

	for (i = 0; i < crowd->n; i++)
		n += crowd->ears[i].closeds;
	return n;
}

/* Turn until there were so many messages in all. No turn may wait for nothing. */
static void
expect_messages(const struct crowd *crowd, unsigned int n)
{
	while (messages_of(crowd) < n)
		check(ipc_loop_turn(crowd->loop, TEST_WAIT_MS) > 0);
	check_equal(messages_of(crowd), n);
}

static void
send_fd(struct ipc_channel *channel, int fd, uint64_t id)
{
	struct ipc_message message = {.id = id, .n_fds = 1, .fds = &fd};

	check_equal(ipc_channel_send(channel, &message, 0), 0);
}

/* Receive the next message, with this id, and check that its descriptor names the file of fd. */
static void
expect_fd(struct ipc_channel *channel, int fd, uint64_t id)
{
	struct ipc_message message;

	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.id, id);
	check_equal(message.n_fds, 1);
	check(is_same_file(message.fds[0], fd));
}

/* Sends beside a parked one would pass it. */
static void
order_with_a_full_socket(void **state)
{
	unsigned int n = test_count(50000, 3000), sent = 0, got = 0, some;
	unsigned char payload[2000];
	struct ipc_message message;
	struct crowd *c = malloc(sizeof(*c));
	int r;

	(void)state;
	crowd_open(c, 1, NULL, NULL);
	crowd_attach(c);
	while (got < n) {
		for (r = 0; sent < n && r == 0; sent += r == 0) {
			fill(payload, sizeof(payload), sent);
			message = (struct ipc_message){
				.data = payload, .size = sizeof(payload), .id = sent};
			r = ipc_channel_send(c->owns[0], &message, 0);
			check(r == 0 || r == -EAGAIN);
			/* Small records: as many sends as may be. */
			if (sent % 5 == 0)
				check(ipc_loop_turn(c->loop, 0) >= 0);
		}
		for (some = 1 + (unsigned int)test_random_below(60); some && got < n; some--) {
			r = ipc_channel_recv(c->peers[0], &message, 0);
			if (r == -EAGAIN)
				break;
			check_equal(r, 0);
			check_equal(message.id, got);
			check(is_filled(message.data, message.size, got));
			got++;
		}
		check(ipc_loop_turn(c->loop, 0) >= 0);
	}
	crowd_close(c);
	free(c);
}

/* Gather until a send waits for room in the socket. Return: messages gathered, of 3000 bytes. */
static unsigned int
park_a_send(struct crowd *crowd)
{
	unsigned int n = gather_until_full(crowd->owns[0], 3000);

	(void)turn_out(crowd->loop);
	return n + gather_until_full(crowd->owns[0], 3000);
}

/* Receive n messages of the first peer; turn the loop whenever its socket is empty. */
static void
receive_some(const struct crowd *crowd, unsigned int n)
{
	struct ipc_message message;
	int r;

	while (n) {
		r = ipc_channel_recv(crowd->peers[0], &message, 0);
		check(r == 0 || r == -EAGAIN);
		if (r == 0)
			n--;
		else
			check(ipc_loop_turn(crowd->loop, 0) >= 0);
	}
}

/* The kernel looks the descriptor's number up when it sends. */
static void
descriptor_reused_while_a_send_is_parked(void **state)
{
	struct crowd *c = malloc(sizeof(*c));
	int ends[2], own, other;
	unsigned int n;

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	crowd_open(c, 1, LOOP_OPTIONS(.out_bytes_max = 1U << 20), OPTIONS(.fds_max = 1));
	crowd_attach(c);
	n = gather_until_full(c->owns[0], 3000);
	(void)turn_out(c->loop);

	/* The socket is full, and there is room to gather. */
	own = dup(ends[0]);
	send_fd(c->owns[0], own, 77);
	(void)turn_out(c->loop);
	other = open("/dev/null", O_RDONLY | O_CLOEXEC);
	check_equal(dup2(other, own), own);

	receive_some(c, n);
	(void)turn_out(c->loop);
	expect_fd(c->peers[0], ends[0], 77);
	check_equal(close(own), 0);
	check_equal(close(other), 0);
	check_equal(close(ends[0]), 0);
	check_equal(close(ends[1]), 0);
	crowd_close(c);
	free(c);
}

/* Completions that nobody reads have installed descriptors, and hold packets. */
static void
completions_at_destroy(bool polled)
{
	struct crowd *c = malloc(sizeof(*c));
	struct ipc_message message;
	unsigned int i, round;
	struct pollfd pollfd;
	int ends[2];

	check_equal(pipe2(ends, O_CLOEXEC), 0);
	crowd_open(c, 8, NULL, OPTIONS(.fds_max = 1));
	crowd_attach(c);
	pollfd = (struct pollfd){.fd = polled ? ipc_loop_fd(c->loop) : -1, .events = POLLIN};
	(void)turn_out(c->loop);
	for (round = 0; round < 3; round++)
		for (i = 0; i < c->n; i++)
			send_fd(c->peers[i], ends[0], round);
	/* Here the kernel completes what it can on its own. */
	check_equal(poll(&pollfd, 1, 1), polled);
	c->loop = ipc_loop_destroy(c->loop);

	for (i = 0; i < c->n; i++) {
		check_equal(c->ears[i].messages, 0);
		for (round = 0; round < 3; round++)
			expect_fd(c->owns[i], ends[0], round);
		check_equal(ipc_channel_recv(c->owns[i], &message, 0), -EAGAIN);
	}
	check_equal(close(ends[0]), 0);
	check_equal(close(ends[1]), 0);
	crowd_close(c);
	free(c);
}

static void
unread_completions_at_destroy(void **state)
{
	(void)state;
	completions_at_destroy(false);
	completions_at_destroy(true);
}

static void
wait_to_be_killed(void *arg)
{
	(void)arg;
	for (;;)
		(void)pause();
}

/* The ring lives on in the child, with everything that is armed. */
static void
fork_with_a_live_loop(void **state)
{
	struct crowd *c = malloc(sizeof(*c));
	unsigned int i, round;
	pid_t child;

	(void)state;
	crowd_open(c, 4, NULL, NULL);
	crowd_attach(c);
	(void)turn_out(c->loop);
	child = child_start(wait_to_be_killed, NULL);
	for (round = 1; round <= 100; round++) {
		if (round == 50) {
			check_equal(kill(child, SIGKILL), 0);
			child_end_by(child, SIGKILL);
		}
		for (i = 0; i < c->n; i++) {
			send_text(c->peers[i], "to");
			gather_text(c->owns[i], "fro");
		}
		expect_messages(c, round * c->n);
		for (i = 0; i < c->n; i++)
			expect_text(c->peers[i], "fro");
	}
	crowd_close(c);
	free(c);
}

static void
say_and_go(struct ipc_channel *channel, void *arg)
{
	unsigned int *n = arg;
	struct ipc_message message = {.type = 1};

	for (; *n; --*n)
		check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
}

/* The end wakes the receive that the last message has just woken. */
static void
end_of_stream_racing_with_data(void **state)
{
	unsigned int rounds = test_count(1500, 100), round, n;
	struct ipc_loop *loop = loop_open(NULL);
	struct worker worker;
	struct ear ear;

	(void)state;
	for (round = 0; round < rounds; round++) {
		n = round % 4;
		worker = worker_start(NULL, say_and_go, &n);
		ear = (struct ear){.loop = loop};
		ear_attach(&ear, loop, worker.channel);
		turn_until(loop, ear.closeds);
		check_equal(ear.messages, round % 4);
		check_equal(ear.reason, 0);
		worker_end(&worker);
	}
	ipc_loop_destroy(loop);
}

/* A peer that leaves something unread resets the connection; what it had said is behind that. */
static void
reset_before_the_last_words(void **state)
{
	struct crowd *c = malloc(sizeof(*c));
	unsigned int i, n;

	(void)state;
	crowd_open(c, 20, NULL, NULL);
	crowd_attach(c);
	for (i = 0; i < c->n; i++)
		gather_text(c->owns[i], "never read");
	(void)turn_out(c->loop);
	for (i = 0; i < c->n; i++) {
		for (n = 0; n < i; n++)
			send_text(c->peers[i], "last words");
		c->peers[i] = ipc_channel_close(c->peers[i]);
	}
	turn_until(c->loop, closeds_of(c) == c->n);
	for (i = 0; i < c->n; i++) {
		check_equal(c->ears[i].messages, i);
		check_equal(c->ears[i].reason, 0);
	}
	crowd_close(c);
	free(c);
}

/* Each of n rounds a packet from every peer, all before the first turn. */
static void
send_packets(const struct crowd *crowd, unsigned int rounds)
{
	unsigned int i, round;

	for (round = 0; round < rounds; round++)
		for (i = 0; i < crowd->n; i++)
			send_text(crowd->peers[i], "packet");
}

/* A receive without a buffer ends. */
static void
no_buffers(void **state)
{
	struct crowd *c = malloc(sizeof(*c));
	unsigned int round;

	(void)state;
	crowd_open(c, 40, LOOP_OPTIONS(.buffers = 8), NULL);
	crowd_attach(c);
	for (round = 1; round <= 20; round++) {
		send_packets(c, 5);
		expect_messages(c, round * 5 * c->n);
	}
	check(!is_on_uring() || loop_stats_of(c->loop).starved);
	crowd_close(c);
	free(c);
}

/* An end of stream takes a buffer as a packet does. */
static void
end_of_streams_buffer_is_given_back(void **state)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.buffers = 8));
	unsigned int rounds = test_count(500, 50), round;
	struct ipc_channel *own, *peer;
	struct ear ear;

	(void)state;
	for (round = 0; round < rounds; round++) {
		pair_open(&own, &peer, round % 2 ? OPTIONS(.fds_max = 1) : NULL);
		ear = (struct ear){.loop = loop};
		ear_attach(&ear, loop, own);
		(void)turn_out(loop);
		if (round % 3)
			send_text(peer, "text");
		ipc_channel_close(peer);
		turn_until(loop, ear.closeds);
		check_equal(ear.messages, round % 3 != 0);
		ipc_channel_close(own);
	}
	ipc_loop_destroy(loop);
}

/* More completions than the queue has room for end the receives that they are of. */
static void
lost_multishot(void **state)
{
	struct crowd *c = malloc(sizeof(*c));
	unsigned int round;

	(void)state;
	crowd_open(c, CHANNELS_MAX, LOOP_OPTIONS(.buffers = 4096), NULL);
	crowd_attach(c);
	/* Here the kernel receives, and fills the queue, before the loop is turned. */
	check(ipc_loop_fd(c->loop) >= 0);
	(void)turn_out(c->loop);
	/* It is given more buffers each time, until they are more than the queue holds. */
	for (round = 1; round <= 8; round++) {
		send_packets(c, 10);
		expect_messages(c, round * 10 * c->n);
	}
	crowd_close(c);
	free(c);
}

/* What is armed holds the socket: its peer would wait for ever. */
static void
close_with_a_receive_armed(void **state)
{
	struct crowd *c = malloc(sizeof(*c));
	unsigned int i;

	(void)state;
	crowd_open(c, 30, NULL, NULL);
	crowd_attach(c);
	(void)turn_out(c->loop);
	for (i = 0; i < c->n; i++) {
		c->owns[i] = ipc_channel_close(c->owns[i]);
		expect_end(c->peers[i]);
	}
	check_equal(turn_out(c->loop), 0);
	check_equal(closeds_of(c), 0);
	crowd_close(c);
	free(c);
}

static void
use_a_small_ring(void *arg)
{
	static const rlim_t sizes[] = {256U << 10, 96U << 10, 64U << 10};
	struct rlimit limit;
	struct crowd *c;
	struct ipc_loop *loop;
	unsigned int i;
	int r;

	(void)arg;
	c = malloc(sizeof(*c));
	check_equal(setgroups(0, NULL), 0);
	check_equal(setgid(SOMEBODY), 0);
	check_equal(setuid(SOMEBODY), 0);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		limit = (struct rlimit){.rlim_cur = sizes[i], .rlim_max = sizes[i]};
		check_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
		/* The smallest may be too small, and what was locked for those before is free
		   some time later: then that is said. */
		r = ipc_loop_create(&loop, LOOP_OPTIONS(.buffers = 0));
		check(r == 0 || (i > 0 && r == -ENOMEM));
		if (r < 0)
			continue;
		crowd_init(c, 100, loop, NULL);
		crowd_attach(c);
		send_packets(c, 10);
		expect_messages(c, 10 * c->n);
		crowd_close(c);
		sleep_ms(50);
	}
	free(c);
}

static void
ring_shrinks_when_memlock_is_small(void **state)
{
	(void)state;
	if (geteuid()) {
		test_lacks("root, to be somebody whose locked memory counts");
		skip();
	}
	child_end(child_start(use_a_small_ring, NULL));
}

/* What the submission queue has no room for goes before, and brings what the wait would wait for.
 */
static void
many_channels_in_one_submit(void **state)
{
	struct crowd *c = malloc(sizeof(*c));

	(void)state;
	crowd_open(c, CHANNELS_MAX, NULL, NULL);
	send_text(c->peers[0], "to the first that is armed");
	crowd_attach(c);
	expect_messages(c, 1);
	send_packets(c, 2);
	expect_messages(c, 1 + 2 * c->n);
	crowd_close(c);
	free(c);
}

static void *
turn_elsewhere(void *arg)
{
	struct crowd *crowd = arg;

	check(ipc_loop_turn(crowd->loop, 1) >= 0);
	(void)turn_out(crowd->loop);
	return NULL;
}

/* The ring that knows of the send is the other thread's, and goes with it. */
static void
another_thread_takes_the_loop_while_a_send_is_parked(void **state)
{
	struct crowd *c = malloc(sizeof(*c));
	unsigned int n, some, i;
	struct ipc_message message;
	pthread_t thread;
	int ends[2];

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	crowd_open(c, 1, NULL, OPTIONS(.fds_max = 1));
	crowd_attach(c);
	n = park_a_send(c);
	for (i = 0; i < n; i += some) {
		check_equal(pthread_create(&thread, NULL, turn_elsewhere, c), 0);
		check_equal(pthread_join(thread, NULL), 0);
		for (some = 0; some < 20 && i + some < n; some++)
			check_equal(ipc_channel_recv(c->peers[0], &message, TEST_WAIT_MS), 0);
		(void)turn_out(c->loop);
	}
	send_fd(c->owns[0], ends[1], 5);
	(void)turn_out(c->loop);
	expect_fd(c->peers[0], ends[1], 5);
	expect_nothing(c->peers[0]);
	check_equal(close(ends[0]), 0);
	check_equal(close(ends[1]), 0);
	crowd_close(c);
	free(c);
}

/* The end was told before all was read, and more lies there than one look at a large message takes.
 */
static void
a_peer_that_is_gone_is_read_to_its_end_in_many_looks(void **state)
{
	struct ipci_hello hello = plain_hello();
	struct ear ear = {.messages = 0};
	struct ipc_channel *channel;
	struct packet *packet;
	struct ipc_loop *loop;
	int fds[2], i;

	(void)state;
	raw_pair(fds);
	raw_send(fds[1], &hello, sizeof(hello));
	check_equal(send(fds[1], "", 0, MSG_NOSIGNAL), 0);
	packet = packet_begin(IPCI_KIND_MESSAGES, 0);
	packet_run(packet, 0, IPCI_RUN_LARGE, 1);
	packet_word(packet, 1000);
	raw_send_packet(fds[1], packet_end(packet));
	for (i = 0; i < 40; i++) {
		packet = packet_begin(IPCI_KIND_FRAGMENT, 0);
		packet_zeros(packet, 1);
		raw_send_packet(fds[1], packet_end(packet));
	}
	check_equal(close(fds[1]), 0);
	check_equal(ipc_channel_open(&channel, fds[0], OPTIONS(.fds_max = 1)), 0);
	loop = loop_open(NULL);
	ear_attach(&ear, loop, channel);
	turn_until(loop, ear.closeds);
	check_equal(ear.messages, 0);
	ipc_channel_close(channel);
	ipc_loop_destroy(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(a_peer_that_is_gone_is_read_to_its_end_in_many_looks),
		loop_test(order_with_a_full_socket),
		loop_test(descriptor_reused_while_a_send_is_parked),
		loop_test(unread_completions_at_destroy),
		loop_test(fork_with_a_live_loop),
		loop_test(end_of_stream_racing_with_data),
		loop_test(reset_before_the_last_words),
		loop_test(no_buffers),
		loop_test(end_of_streams_buffer_is_given_back),
		loop_test(lost_multishot),
		loop_test(close_with_a_receive_armed),
		loop_test(ring_shrinks_when_memlock_is_small),
		loop_test(many_channels_in_one_submit),
		loop_test(another_thread_takes_the_loop_while_a_send_is_parked),
	};

	return run_on_engines(tests);
}
