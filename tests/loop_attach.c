/* SPDX-License-Identifier: MIT */

/* A channel given to a loop and taken back: what it had, and what it has then. */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop_support.h"

/* Larger than a record, and than what a socket holds. */
#define LARGE 3000000

/* A pair of which one end is attached. */
struct fixture {
	struct ipc_loop *loop;
	struct ipc_channel *own, *peer;
	struct ear ear;
};

static void
fixture_open(struct fixture *f, const struct ipc_channel_options *options)
{
	*f = (struct fixture){.loop = loop_open(NULL)};
	pair_open(&f->own, &f->peer, options);
}

static void
fixture_close(struct fixture *f)
{
	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	ipc_loop_destroy(f->loop);
}

/* Messages with these ids, gathered and sent as one record. */
static void
send_ids(struct ipc_channel *channel, uint64_t from, uint64_t to)
{
	struct ipc_message message = {.data = NULL};

	for (message.id = from; message.id < to; message.id++)
		check_equal(ipc_channel_post(channel, &message, 0), 0);
	check_equal(ipc_channel_flush(channel, 0), 0);
}

static void
expect_ids(struct ipc_channel *channel, uint64_t from, uint64_t to)
{
	struct ipc_message message;

	for (; from < to; from++) {
		check_equal(ipc_channel_recv(channel, &message, 0), 0);
		check_equal(message.id, from);
	}
	expect_nothing(channel);
}

/* An ear that expects ids, one after the other; arg is the next one. */
static void
next_id(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	uint64_t *next = ear->arg;

	(void)channel;
	check_equal(message->id, *next);
	++*next;
}

static void
attach_for_ids(struct fixture *f, uint64_t *next)
{
	f->ear = (struct ear){.on_message = next_id, .arg = next};
	ear_attach(&f->ear, f->loop, f->own);
}

static void
what_had_arrived_is_given_out_first(void **state)
{
	struct fixture f;
	uint64_t next = 1;

	(void)state;
	fixture_open(&f, NULL);
	send_ids(f.peer, 1, 6);
	send_ids(f.peer, 6, 9);
	attach_for_ids(&f, &next);
	send_ids(f.peer, 9, 20);
	turn_until(f.loop, next == 20);
	fixture_close(&f);
}

static void
the_rest_of_a_half_given_record_is_given_out_first(void **state)
{
	struct ipc_message message;
	struct fixture f;
	uint64_t next = 3;

	(void)state;
	fixture_open(&f, NULL);
	send_ids(f.peer, 1, 10);
	check_equal(ipc_channel_recv(f.own, &message, 0), 0);
	check_equal(ipc_channel_recv(f.own, &message, 0), 0);
	attach_for_ids(&f, &next);
	turn_until(f.loop, next == 10);
	send_ids(f.peer, 10, 12);
	turn_until(f.loop, next == 12);
	fixture_close(&f);
}

static void
what_a_call_kept_is_given_out_first(void **state)
{
	struct ipc_message request = {.id = 100}, reply;
	struct fixture f;
	uint64_t next = 1;

	(void)state;
	fixture_open(&f, NULL);
	send_ids(f.peer, 1, 6);
	check_equal(ipc_channel_reply(f.peer, &request, &(struct ipc_message){.type = 9}, 0), 0);
	check_equal(ipc_channel_call(f.own, &request, &reply, TEST_WAIT_MS), 0);
	check_equal(reply.type, 9);
	attach_for_ids(&f, &next);
	send_ids(f.peer, 6, 8);
	turn_until(f.loop, next == 8);
	fixture_close(&f);
}

static void
what_a_call_kept_can_be_taken_back(void **state)
{
	struct ipc_message request = {.id = 100}, reply;
	struct fixture f;
	uint64_t next = 1;

	(void)state;
	fixture_open(&f, NULL);
	send_ids(f.peer, 1, 6);
	check_equal(ipc_channel_reply(f.peer, &request, &(struct ipc_message){.type = 9}, 0), 0);
	check_equal(ipc_channel_call(f.own, &request, &reply, TEST_WAIT_MS), 0);
	attach_for_ids(&f, &next);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	expect_ids(f.own, 1, 6);
	fixture_close(&f);
}

static void
send_large(struct ipc_channel *channel, void *arg)
{
	unsigned char *payload = malloc(LARGE);
	struct ipc_message message = {.data = payload, .size = LARGE, .id = 1};

	(void)arg;
	check(payload);
	fill(payload, LARGE, 1);
	check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_send(channel, &(struct ipc_message){.id = 2}, TEST_WAIT_MS), 0);
	free(payload);
}

static void
check_large(const struct ipc_message *message)
{
	check_equal(message->size, LARGE);
	check_equal(message->id, 1);
	check(is_filled(message->data, LARGE, 1));
}

static void
hear_large(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	if (ear->messages == 1)
		check_large(message);
	else
		check_equal(message->id, 2);
}

static void
a_large_message_half_received_is_completed_by_the_loop(void **state)
{
	struct worker worker = worker_start(NULL, send_large, NULL);
	struct ear ear = {.on_message = hear_large};
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_message message;

	(void)state;
	while (stats_of(worker.channel).in.bytes < 100000)
		check_equal(ipc_channel_recv(worker.channel, &message, 0), -EAGAIN);
	ear_attach(&ear, loop, worker.channel);
	turn_until(loop, ear.messages == 2);
	worker_end(&worker);
	ipc_loop_destroy(loop);
}

/* Stop a child, for sure, or let it go on until it has filled the socket. */
static void
halt(pid_t child)
{
	int status;

	check_equal(kill(child, SIGSTOP), 0);
	check_equal(waitpid(child, &status, WUNTRACED), child);
	check(WIFSTOPPED(status));
}

static void
go_on(const struct worker *worker)
{
	struct pollfd entry = {.fd = ipc_channel_fd(worker->channel), .events = POLLIN};

	check_equal(kill(worker->pid, SIGCONT), 0);
	check_equal(poll(&entry, 1, TEST_WAIT_MS), 1);
}

static void
a_large_message_half_received_can_be_taken_back(void **state)
{
	struct worker worker = worker_start(NULL, send_large, NULL);
	struct ear ear = {.loop = NULL};
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_message message;
	unsigned int i;

	(void)state;
	/* Back and forth, each time with what the socket holds of it. */
	for (i = 0; i < 4; i++) {
		go_on(&worker);
		halt(worker.pid);
		ear_attach(&ear, loop, worker.channel);
		(void)turn_out(loop);
		check_equal(ipc_loop_detach(loop, worker.channel), 0);
	}
	check(stats_of(worker.channel).in.bytes > 0);
	check_equal(ear.messages, 0);
	go_on(&worker);
	check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
	check_large(&message);
	check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.id, 2);
	worker_end(&worker);
	ipc_loop_destroy(loop);
}

static void
a_channel_is_attached_to_one_loop_at_a_time(void **state)
{
	struct ipc_loop *other = loop_open(NULL);
	struct fixture f;
	struct ear ear = {.loop = NULL};

	(void)state;
	fixture_open(&f, NULL);
	check_equal(ipc_loop_detach(f.loop, f.own), -ENOENT);
	ear_attach(&f.ear, f.loop, f.own);
	check_equal(ipc_loop_attach(f.loop, f.own, &ear_handler, &ear), -EBUSY);
	check_equal(ipc_loop_attach(other, f.own, &ear_handler, &ear), -EBUSY);
	check_equal(ipc_loop_detach(other, f.own), -ENOENT);
	send_text(f.peer, "to the first");
	turn_until(f.loop, f.ear.messages == 1);
	check_equal(ipc_loop_turn(other, 0), 0);
	check_equal(ear.messages, 0);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	check_equal(ipc_loop_detach(f.loop, f.own), -ENOENT);
	fixture_close(&f);
	ipc_loop_destroy(other);
}

static void
the_handler_is_copied(void **state)
{
	struct ipc_channel_handler *handler = malloc(sizeof(*handler));
	struct fixture f;

	(void)state;
	check(handler);
	fixture_open(&f, NULL);
	*handler = ear_handler;
	check_equal(ipc_loop_attach(f.loop, f.own, handler, &f.ear), 0);
	memset(handler, 0xEE, sizeof(*handler));
	free(handler);
	send_text(f.peer, "text");
	turn_until(f.loop, f.ear.messages == 1);
	check_equal(strcmp(f.ear.text, "text"), 0);
	fixture_close(&f);
}

static void
what_was_gathered_before_is_sent_by_the_loop(void **state)
{
	struct ipc_message message = text_message("gathered before");
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	ear_attach(&f.ear, f.loop, f.own);
	gather_text(f.own, "gathered after");
	(void)turn_out(f.loop);
	expect_text(f.peer, "gathered before");
	expect_text(f.peer, "gathered after");
	fixture_close(&f);
}

static void
what_was_gathered_stays_so_when_detached(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	ear_attach(&f.ear, f.loop, f.own);
	gather_text(f.own, "first");
	gather_text(f.own, "second");
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	expect_nothing(f.peer);
	check_equal(ipc_channel_flush(f.own, 0), 0);
	expect_text(f.peer, "first");
	expect_text(f.peer, "second");
	expect_nothing(f.peer);
	fixture_close(&f);
}

static void
receive_filled(struct ipc_channel *channel, void *arg)
{
	const unsigned int *n = arg;
	struct ipc_message message;
	unsigned int i;

	/* The other side fills the socket first. */
	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.id, 1);
	sleep_ms(20);
	for (i = 0;; i++) {
		if (ipc_channel_recv(channel, &message, TEST_WAIT_MS) < 0 || message.id == 2)
			break;
		check_equal(message.size, *n);
		check(is_filled(message.data, message.size, i));
	}
	check_equal(message.id, 2);
	message = (struct ipc_message){.id = i};
	check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
}

static void
detach_with_a_full_socket(unsigned int size)
{
	struct worker worker = worker_start(NULL, receive_filled, &size);
	struct ipc_message end = {.id = 2}, message;
	struct ear ear = {.loop = NULL};
	struct ipc_loop *loop = loop_open(NULL);
	unsigned int n;

	ear_attach(&ear, loop, worker.channel);
	check_equal(ipc_channel_send(worker.channel, &(struct ipc_message){.id = 1}, 0), 0);
	check(ipc_loop_turn(loop, 0) >= 0);
	n = gather_until_full(worker.channel, size);
	check(ipc_loop_turn(loop, 0) >= 0);
	check_equal(ipc_loop_detach(loop, worker.channel), 0);
	check_equal(ipc_channel_send(worker.channel, &end, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.id, n);
	worker_end(&worker);
	ipc_loop_destroy(loop);
}

static void
what_was_gathered_for_a_full_socket_is_sent_in_order_when_detached(void **state)
{
	static const unsigned int sizes[] = {8, 100, 5000, 70000, 150000, 1000000};
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		detach_with_a_full_socket(sizes[i]);
}

static void
a_detached_channel_is_used_directly(void **state)
{
	struct ipc_message message = text_message("text");
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	ear_attach(&f.ear, f.loop, f.own);
	send_text(f.peer, "by the loop");
	turn_until(f.loop, f.ear.messages == 1);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);

	expect_nothing(f.own);
	check_equal(ipc_channel_recv(f.own, &message, 10), -ETIMEDOUT);
	message = text_message("text");
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	expect_nothing(f.peer);
	check_equal(ipc_channel_flush(f.own, 0), 0);
	expect_text(f.peer, "text");
	send_text(f.peer, "directly");
	check_equal(ipc_loop_turn(f.loop, 0), 0);
	expect_text(f.own, "directly");
	check_equal(post_until_full(f.own, 100000) > 0, true);
	check_equal(f.ear.messages, 1);
	fixture_close(&f);
}

static void
a_channel_goes_in_and_out_of_loops_with_its_traffic(void **state)
{
	struct ipc_loop *loops[3];
	struct fixture f;
	uint64_t next = 1, sent = 1, back = 1;
	struct ipc_message message;
	unsigned int i, k, n = test_count(600, 100);

	(void)state;
	fixture_open(&f, NULL);
	loops[0] = f.loop;
	loops[1] = loop_open(NULL);
	/* The other engine, or the same again. */
	check_equal(ipc_loop_create(&loops[2], NULL), 0);
	for (i = 0; i < n; i++) {
		f.loop = loops[test_random_below(3)];
		attach_for_ids(&f, &next);
		for (k = (unsigned int)test_random_below(4); k; k--, sent += 5) {
			send_ids(f.peer, sent, sent + 5);
			message = (struct ipc_message){.id = sent};
			check_equal(ipc_channel_send(f.own, &message, 0), 0);
			if (test_random_below(2))
				check(ipc_loop_turn(f.loop, 0) >= 0);
		}
		check_equal(ipc_loop_detach(f.loop, f.own), 0);
		if (test_random_below(3) == 0 && ipc_channel_recv(f.own, &message, 0) == 0)
			check_equal(message.id, next++);
		/* A turn may take in one record of several: the socket must not fill up. */
		while (i % 50 == 0 && ipc_channel_recv(f.own, &message, 0) == 0)
			check_equal(message.id, next++);
		while (ipc_channel_recv(f.peer, &message, 0) == 0) {
			check_equal(message.id, back);
			back += 5;
		}
	}
	check_equal(ipc_channel_flush(f.own, 0), 0);
	while (ipc_channel_recv(f.peer, &message, 0) == 0) {
		check_equal(message.id, back);
		back += 5;
	}
	check_equal(back, sent);
	expect_ids(f.own, next, sent);
	f.loop = loops[0];
	fixture_close(&f);
	ipc_loop_destroy(loops[1]);
	ipc_loop_destroy(loops[2]);
}

/* A number in each message's payload: nothing else takes so little room. */
static void
send_numbers(struct ipc_channel *channel, uint64_t from, uint64_t to)
{
	struct ipc_message message = {.data = &from, .size = sizeof(from)};

	for (; from < to; from++)
		check_equal(ipc_channel_post(channel, &message, 0), 0);
	check_equal(ipc_channel_flush(channel, 0), 0);
}

static void
expect_numbers(struct ipc_channel *channel, uint64_t from, uint64_t to)
{
	struct ipc_message message;

	for (; from < to; from++) {
		check_equal(ipc_channel_recv(channel, &message, 0), 0);
		check_equal(message.size, sizeof(from));
		check_equal(memcmp(message.data, &from, sizeof(from)), 0);
	}
	expect_nothing(channel);
}

static void
what_was_not_given_out_stays_in_the_channel(void **state)
{
	uint64_t n = IPC_LOOP_TURN + 3000;
	struct fixture f;

	(void)state;
	fixture_open(&f, NULL);
	ear_attach(&f.ear, f.loop, f.own);
	send_numbers(f.peer, 0, n);
	turn_until(f.loop, f.ear.messages);
	check(f.ear.messages < n);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	send_numbers(f.peer, n, n + 10);
	expect_numbers(f.own, f.ear.messages, n + 10);
	fixture_close(&f);
}

/* Detach at the message of the number in arg. */
static void
detach_at(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	check_equal(message->id, ear->messages);
	check(is_filled(message->data, message->size, message->id));
	if (ear->messages < *(const unsigned int *)ear->arg)
		return;
	check_equal(ipc_loop_detach(ear->loop, channel), 0);
	/* What the view shows is still there, whatever is sent now. */
	send_text(channel, "detached");
	check(is_filled(message->data, message->size, message->id));
}

static void
detached_within_message_the_rest_of_the_record_stays_in_the_channel(void **state)
{
	/* All of them lie in a socket that is as large as it may be everywhere: 416 KiB. */
	static const struct trial {
		size_t size;
		unsigned int n, at;
	} trials[] = {{10, 12, 5}, {1000, 12, 5}, {9000, 12, 5}, {60000, 5, 2}};
	unsigned char *payload = malloc(60000);
	struct ipc_message message = {.data = payload};
	const struct trial *trial;
	struct fixture f;
	unsigned int i, k, at;

	(void)state;
	check(payload);
	for (i = 0; i < 4; i++) {
		trial = &trials[i];
		at = trial->at;
		fixture_open(&f, OPTIONS(.send_buffer = 1U << 20));
		f.ear.on_message = detach_at;
		f.ear.arg = &at;
		ear_attach(&f.ear, f.loop, f.own);
		for (k = 1; k <= trial->n; k++) {
			fill(payload, trial->size, k);
			message.size = trial->size;
			message.id = k;
			check_equal(ipc_channel_post(f.peer, &message, TEST_WAIT_MS), 0);
		}
		check_equal(ipc_channel_flush(f.peer, TEST_WAIT_MS), 0);
		turn_until(f.loop, f.ear.messages == at);
		check_equal(ipc_loop_turn(f.loop, 0), 0);
		for (k = at + 1; k <= trial->n; k++) {
			check_equal(ipc_channel_recv(f.own, &message, 0), 0);
			check_equal(message.id, k);
			check(is_filled(message.data, message.size, k));
		}
		expect_nothing(f.own);
		message.data = payload;
		expect_text(f.peer, "detached");
		fixture_close(&f);
	}
	free(payload);
}

/* Six messages with a descriptor each, two in a record. */
static void
send_pipes(struct ipc_channel *channel, int pipes[6][2])
{
	struct ipc_message message = {.n_fds = 1};
	unsigned int i;

	for (i = 0; i < 6; i++) {
		check_equal(pipe2(pipes[i], O_CLOEXEC), 0);
		message.fds = &pipes[i][0];
		message.id = i + 1;
		check_equal(ipc_channel_post(channel, &message, 0), 0);
		if (i % 2)
			check_equal(ipc_channel_flush(channel, 0), 0);
	}
}

/* Those from the first one on come, the others went; close all. */
static void
expect_pipes(struct ipc_channel *channel, int pipes[6][2], unsigned int first)
{
	struct ipc_message message;
	unsigned int i;
	int taken;

	for (i = 0; i < 6; i++) {
		if (i >= first) {
			check_equal(ipc_channel_recv(channel, &message, 0), 0);
			check_equal(message.id, i + 1);
			check_equal(message.n_fds, 1);
			taken = ipc_message_take_fd(&message, 0);
			check(taken >= 0);
			check(is_same_file(taken, pipes[i][0]));
			check_equal(close(taken), 0);
		}
		check_equal(close(pipes[i][0]), 0);
		check_equal(close(pipes[i][1]), 0);
	}
	expect_nothing(channel);
}

static void
what_was_not_given_out_keeps_its_descriptors(void **state)
{
	struct ipc_message message;
	uint64_t n = IPC_LOOP_TURN + 100, i;
	struct fixture f;
	int pipes[6][2];

	(void)state;
	fixture_open(&f, OPTIONS(.fds_max = 1));
	ear_attach(&f.ear, f.loop, f.own);
	/* More than a turn gives out is before them. */
	send_numbers(f.peer, 0, n);
	send_pipes(f.peer, pipes);
	turn_until(f.loop, f.ear.messages);
	check(f.ear.messages < n);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	for (i = f.ear.messages; i < n; i++)
		check_equal(ipc_channel_recv(f.own, &message, 0), 0);
	expect_pipes(f.own, pipes, 0);
	fixture_close(&f);
}

static void
detach_at_third(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	check_equal(message->id, ear->messages);
	if (ear->messages < 3)
		return;
	check_equal(ipc_loop_detach(ear->loop, channel), 0);
	/* The view has its descriptors still. */
	check(is_same_file(message->fds[0], ((int(*)[2])ear->arg)[2][0]));
}

static void
detached_within_message_the_rest_keeps_its_descriptors(void **state)
{
	struct fixture f;
	int pipes[6][2];

	(void)state;
	fixture_open(&f, OPTIONS(.fds_max = 1));
	f.ear = (struct ear){.on_message = detach_at_third, .arg = pipes};
	ear_attach(&f.ear, f.loop, f.own);
	send_pipes(f.peer, pipes);
	turn_until(f.loop, f.ear.messages == 3);
	expect_pipes(f.own, pipes, 3);
	fixture_close(&f);
}

static void
receive_within(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct ipc_message next;

	(void)message;
	check_equal(ipc_loop_detach(ear->loop, channel), 0);
	check_equal(ipc_channel_recv(channel, &next, 0), 0);
	check_equal(next.id, 2);
	check_equal(ipc_channel_recv(channel, &next, 0), 0);
	check_equal(next.id, 3);
	check_equal(ipc_loop_attach(ear->loop, channel, &ear_handler, ear), 0);
	ear->on_message = next_id;
}

static void
detached_and_attached_again_within_message_nothing_is_skipped(void **state)
{
	struct fixture f;
	uint64_t next = 4;

	(void)state;
	fixture_open(&f, NULL);
	f.ear = (struct ear){.on_message = receive_within, .arg = &next};
	ear_attach(&f.ear, f.loop, f.own);
	send_ids(f.peer, 1, 7);
	send_ids(f.peer, 7, 10);
	turn_until(f.loop, next == 10);
	check_equal(f.ear.messages, 7);
	fixture_close(&f);
}

/* Two ends of which one has not said hello yet. */
static void
half_open(struct fixture *f, int *ret_fd)
{
	int fds[2];

	*f = (struct fixture){.loop = loop_open(NULL)};
	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	check_equal(ipc_channel_open(&f->own, fds[0], OPTIONS(.fds_max = 4)), 0);
	*ret_fd = fds[1];
}

static void
before_the_peers_hello_small_messages_go(void **state)
{
	struct fixture f;
	int fd;

	(void)state;
	half_open(&f, &fd);
	ear_attach(&f.ear, f.loop, f.own);
	gather_text(f.own, "early");
	(void)turn_out(f.loop);
	check_equal(ipc_channel_open(&f.peer, fd, NULL), 0);
	expect_text(f.peer, "early");
	send_text(f.peer, "answer");
	turn_until(f.loop, f.ear.messages == 1);
	fixture_close(&f);
}

static void
before_the_peers_hello_others_are_refused_until_there_is_room(void **state)
{
	static const unsigned char payload[IPC_CHANNEL_MESSAGE_FLOOR + 1];
	struct ipc_message large = {.data = payload, .size = sizeof(payload)};
	int fd, passed = STDERR_FILENO;
	struct ipc_message with = {.fds = &passed, .n_fds = 1}, message;
	struct fixture f;

	(void)state;
	half_open(&f, &fd);
	ear_attach(&f.ear, f.loop, f.own);
	check_equal(ipc_channel_send(f.own, &large, 0), -EAGAIN);
	check_equal(ipc_channel_send(f.own, &with, -1), -EAGAIN);
	(void)turn_out(f.loop);
	check_equal(f.ear.writables, 0);
	check_equal(ipc_channel_open(&f.peer, fd, OPTIONS(.fds_max = 4)), 0);
	turn_until(f.loop, f.ear.writables == 1);
	check_equal(ipc_channel_send(f.own, &large, 0), 0);
	check_equal(ipc_channel_send(f.own, &with, 0), 0);
	(void)turn_out(f.loop);
	check_equal(ipc_channel_recv(f.peer, &message, TEST_WAIT_MS), 0);
	check_equal(message.size, sizeof(payload));
	check_equal(ipc_channel_recv(f.peer, &message, TEST_WAIT_MS), 0);
	check_equal(message.n_fds, 1);
	check_equal(f.ear.messages, 0);
	fixture_close(&f);
}

static void
an_ended_channel_is_attached_and_closed_follows(void **state)
{
	struct fixture f;
	uint64_t next = 1;

	(void)state;
	fixture_open(&f, NULL);
	send_ids(f.peer, 1, 4);
	f.peer = ipc_channel_close(f.peer);
	attach_for_ids(&f, &next);
	turn_until(f.loop, f.ear.closeds);
	check_equal(next, 4);
	check_equal(f.ear.reason, 0);

	/* The end was seen, and is seen again. */
	expect_end(f.own);
	attach_for_ids(&f, &next);
	check_equal(f.ear.closeds, 0);
	turn_until(f.loop, f.ear.closeds);
	check_equal(f.ear.reason, 0);
	check_equal(f.ear.messages, 0);
	fixture_close(&f);
}

static void
both_ends_of_a_pair_may_be_in_one_loop(void **state)
{
	struct fixture f;
	struct ear ear = {.loop = NULL};
	unsigned int i;

	(void)state;
	fixture_open(&f, NULL);
	ear_attach(&f.ear, f.loop, f.own);
	ear_attach(&ear, f.loop, f.peer);
	for (i = 0; i < 100; i++) {
		gather_text(f.own, "to");
		gather_text(f.peer, "fro");
		turn_until(f.loop, ear.messages == i + 1 && f.ear.messages == i + 1);
	}
	check_equal(strcmp(ear.text, "to"), 0);
	check_equal(strcmp(f.ear.text, "fro"), 0);
	fixture_close(&f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(what_had_arrived_is_given_out_first),
		loop_test(the_rest_of_a_half_given_record_is_given_out_first),
		loop_test(what_a_call_kept_is_given_out_first),
		loop_test(what_a_call_kept_can_be_taken_back),
		loop_test(a_large_message_half_received_is_completed_by_the_loop),
		loop_test(a_large_message_half_received_can_be_taken_back),
		loop_test(a_channel_is_attached_to_one_loop_at_a_time),
		loop_test(the_handler_is_copied),
		loop_test(what_was_gathered_before_is_sent_by_the_loop),
		loop_test(what_was_gathered_stays_so_when_detached),
		loop_test(what_was_gathered_for_a_full_socket_is_sent_in_order_when_detached),
		loop_test(a_detached_channel_is_used_directly),
		loop_test(a_channel_goes_in_and_out_of_loops_with_its_traffic),
		loop_test(what_was_not_given_out_stays_in_the_channel),
		loop_test(detached_within_message_the_rest_of_the_record_stays_in_the_channel),
		loop_test(what_was_not_given_out_keeps_its_descriptors),
		loop_test(detached_within_message_the_rest_keeps_its_descriptors),
		loop_test(detached_and_attached_again_within_message_nothing_is_skipped),
		loop_test(before_the_peers_hello_small_messages_go),
		loop_test(before_the_peers_hello_others_are_refused_until_there_is_room),
		loop_test(an_ended_channel_is_attached_and_closed_follows),
		loop_test(both_ends_of_a_pair_may_be_in_one_loop),
	};

	return run_on_engines(tests);
}
