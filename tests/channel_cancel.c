/* SPDX-License-Identifier: MIT */

/* Threads that are cancelled in a call: nothing is lost, doubled or left, and the channel goes on.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "raw.h"

/* Cancels at random moments. */
#define CANCELS test_count(2000, 200)

static void *
receive_for_ever(void *arg)
{
	struct ipc_message message;

	(void)ipc_channel_recv(arg, &message, -1);
	return NULL;
}

static void
cancel(pthread_t thread)
{
	void *result;

	check_equal(pthread_cancel(thread), 0);
	check_equal(pthread_join(thread, &result), 0);
	check(result == PTHREAD_CANCELED);
}

/* A channel that has not heard its peer, which is a plain socket. */
static struct ipc_channel *
unheard(int *ret_peer, const struct ipc_channel_options *options)
{
	struct ipci_hello theirs;
	struct ipc_channel *channel;
	int fds[2];

	raw_pair(fds);
	check_equal(ipc_channel_open(&channel, fds[0], options), 0);
	check_equal(raw_receive(fds[1], &theirs, sizeof(theirs)), sizeof(theirs));
	*ret_peer = fds[1];
	return channel;
}

static void
both_ways_go_on(struct ipc_channel *channel, int peer)
{
	struct ipci_hello hello = plain_hello();
	static struct packet packet;

	raw_send(peer, &hello, sizeof(hello));
	raw_send_packet(peer, packet_text("text"));
	expect_text(channel, "text");
	send_text(channel, "text");
	check(raw_receive(peer, packet.bytes, sizeof(packet.bytes)) > 0);
	ipc_channel_close(channel);
	check_equal(close(peer), 0);
}

static void
a_receiver_that_waits_for_the_hello_leaves_no_trace(void **state)
{
	static const int spins_us[] = {0, -1};
	struct ipc_channel *channel;
	pthread_t thread;
	int peer, i;

	(void)state;
	for (i = 0; i < 2; i++) {
		channel = unheard(&peer, OPTIONS(.spin_us = spins_us[i]));
		check_equal(pthread_create(&thread, NULL, receive_for_ever, channel), 0);
		sleep_ms(50);
		cancel(thread);
		both_ways_go_on(channel, peer);
	}
}

static void *
send_fd_for_ever(void *arg)
{
	int fd = STDERR_FILENO;
	struct ipc_message message = {.n_fds = 1, .fds = &fd};

	(void)ipc_channel_send(arg, &message, -1);
	return NULL;
}

/* One has the hello's turn, the other waits for the turn. */
static void
so_do_two_that_wait_for_it(void **state)
{
	struct ipc_channel *channel;
	pthread_t receiver, sender;
	int peer, i;

	(void)state;
	for (i = 0; i < 2; i++) {
		channel = unheard(&peer, NULL);
		check_equal(pthread_create(&receiver, NULL, receive_for_ever, channel), 0);
		sleep_ms(30);
		check_equal(pthread_create(&sender, NULL, send_fd_for_ever, channel), 0);
		sleep_ms(30);
		cancel(i ? receiver : sender);
		cancel(i ? sender : receiver);
		both_ways_go_on(channel, peer);
	}
}

/* What a thread does until it is cancelled, and how far it came. */
struct stream {
	struct ipc_channel *channel;
	atomic_uint next;
	int fd;
	unsigned int kind;
};

static void *
receive_stream(void *arg)
{
	struct stream *stream = arg;
	struct ipc_message message;
	unsigned int next;

	for (;;) {
		check_equal(ipc_channel_recv(stream->channel, &message, -1), 0);
		next = atomic_load(&stream->next);
		check_equal(message.id, next + 1);
		check_equal(message.n_fds, next % 3 == 0);
		check(is_filled(message.data, message.size, next));
		atomic_store(&stream->next, next + 1);
		pthread_testcancel();
	}
	return NULL;
}

static struct ipc_message
stream_message(struct stream *stream, unsigned int i, unsigned char *payload)
{
	struct ipc_message message = {
		.data = payload,
		.size = i % 50 == 7 ? 300000 : i % 7 * 100,
		.id = i + 1,
		.n_fds = i % 3 == 0,
		.fds = &stream->fd,
	};

	fill(payload, message.size, i);
	return message;
}

static void
send_stream(struct ipc_channel *channel, void *arg)
{
	struct stream *stream = arg;
	unsigned char *payload = malloc(300000);
	struct ipc_message message;
	unsigned int i;
	int r = 0;

	check(payload);
	for (i = 0; r == 0; i++) {
		message = stream_message(stream, i, payload);
		r = i % 4 ? ipc_channel_send(channel, &message, -1)
		          : ipc_channel_post(channel, &message, -1);
		if (i % 16 == 0)
			sleep_ms(1);
	}
	check_equal(r, -EPIPE);
	free(payload);
}

static void
pass_random_time(void)
{
	usleep((unsigned int)test_random_below(3000));
}

static void
a_cancelled_receiver_has_lost_nothing(void **state)
{
	struct stream stream = {.fd = memfd_create("passed", MFD_CLOEXEC)};
	struct worker worker;
	pthread_t thread;
	unsigned int i;

	(void)state;
	check(stream.fd >= 0);
	worker = worker_start(OPTIONS(.fds_max = 1), send_stream, &stream);
	stream.channel = worker.channel;
	for (i = 0; i < CANCELS; i++) {
		check_equal(pthread_create(&thread, NULL, receive_stream, &stream), 0);
		pass_random_time();
		cancel(thread);
	}
	check(atomic_load(&stream.next) > 0);
	worker_end(&worker);
	check_equal(close(stream.fd), 0);
}

static void *
send_until_cancelled(void *arg)
{
	struct stream *stream = arg;
	unsigned char *payload = malloc(300000);
	struct ipc_message message;
	unsigned int i;
	int state;

	check(payload);
	pthread_cleanup_push(free, payload);
	for (;;) {
		(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
		i = atomic_load(&stream->next);
		message = stream_message(stream, i, payload);
		(void)pthread_setcancelstate(state, &state);
		pthread_testcancel();
		check_equal(i % 4 ? ipc_channel_send(stream->channel, &message, -1)
				  : ipc_channel_post(stream->channel, &message, -1),
			0);
		atomic_store(&stream->next, i + 1);
	}
	pthread_cleanup_pop(1);
	return NULL;
}

static void
receive_slowly(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	unsigned int i = 0;
	int r;

	(void)arg;
	while ((r = ipc_channel_recv(channel, &message, -1)) == 0) {
		check_equal(message.id, i + 1);
		check_equal(message.n_fds, i % 3 == 0);
		check(is_filled(message.data, message.size, i));
		i++;
		if (i % 16 == 0)
			sleep_ms(1);
	}
	check_equal(r, -EPIPE);
}

/* What its last call was to send is offered again: it arrives once. */
static void
a_cancelled_senders_message_was_not_taken(void **state)
{
	struct stream stream = {.fd = memfd_create("passed", MFD_CLOEXEC)};
	struct worker worker;
	pthread_t thread;
	unsigned int i;

	(void)state;
	check(stream.fd >= 0);
	worker = worker_start(OPTIONS(.fds_max = 1, .send_buffer = 20000), receive_slowly, &stream);
	stream.channel = worker.channel;
	for (i = 0; i < CANCELS; i++) {
		check_equal(pthread_create(&thread, NULL, send_until_cancelled, &stream), 0);
		pass_random_time();
		cancel(thread);
	}
	check_equal(ipc_channel_flush(worker.channel, TEST_WAIT_MS), 0);
	worker_end(&worker);
	check_equal(close(stream.fd), 0);
}

/* AddressSanitizer takes the end of a cancelled thread for an error of its stack. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_CANCEL false
#else
#define CAN_CANCEL true
#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(a_receiver_that_waits_for_the_hello_leaves_no_trace),
		channel_test(so_do_two_that_wait_for_it),
		channel_test(a_cancelled_receiver_has_lost_nothing),
		channel_test(a_cancelled_senders_message_was_not_taken),
	};

	if (!CAN_CANCEL) {
		test_lacks("threads that a sanitizer lets be cancelled");
		return EXIT_SKIPPED;
	}
	return run_group(tests);
}
