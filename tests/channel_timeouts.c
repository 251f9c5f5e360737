/* SPDX-License-Identifier: MIT */

/*
 * Taken or not: what a full socket and a deadline leave behind. Times are checked from below
 * only; how soon something comes is a benchmark's affair.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "raw.h"

#define LARGE 1000000

static unsigned char *
large_payload(uint64_t key)
{
	unsigned char *payload = malloc(LARGE);

	check(payload);
	fill(payload, LARGE, key);
	return payload;
}

/* Receive what post_until_full() took; a receiver that finds nothing lets the rest follow. */
static void
expect_posted_and_flushed(struct ipc_channel *a, struct ipc_channel *b, unsigned int n, size_t size)
{
	struct ipc_message message;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (ipc_channel_recv(b, &message, 0) < 0) {
			check_equal(ipc_channel_flush(a, 0), 0);
			check_equal(ipc_channel_recv(b, &message, 0), 0);
		}
		check_equal(message.size, size);
		check(is_filled(message.data, message.size, i));
	}
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_nothing(b);
}

static void
what_a_full_socket_takes_arrives_and_nothing_else(void **state)
{
	static const size_t sizes[] = {1, 8, 64, 1000, 16384, 40000};
	struct ipc_channel *a, *b;
	unsigned int i, n;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		pair_open(&a, &b, OPTIONS(.send_buffer = 50000));
		n = post_until_full(a, sizes[i]);
		check(n > 0);
		expect_posted_and_flushed(a, b, n, sizes[i]);
		ipc_channel_close(a);
		ipc_channel_close(b);
	}
}

/* The same message by message, each a packet of its own. */
static void
what_a_full_socket_takes_of_single_sends_arrives(void **state)
{
	static unsigned char payload[150000];
	struct ipc_message message = {.data = payload};
	struct ipc_channel *a, *b;
	unsigned int i, n;
	int r;

	(void)state;
	pair_open(&a, &b, NULL);
	for (i = 0; i < 6; i++) {
		message.size = (size_t[]){0, 64, 4096, 16384, 60000, 150000}[i];
		for (n = 0; n < 10000; n++) {
			fill(payload, message.size, n);
			message.data = payload;
			r = ipc_channel_send(a, &message, 0);
			if (r < 0)
				break;
		}
		check_equal(r, -EAGAIN);
		check(n > 0);
		expect_posted_and_flushed(a, b, n, message.size);
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* What a model of the channel holds: the messages that were taken and not yet received. */
struct model {
	size_t sizes[1 << 16];
	unsigned char n_fds[1 << 16];
	unsigned int taken, received;
	unsigned int refused;
};

static void
model_put(struct model *model, struct ipc_channel *channel)
{
	static const size_t limits[] = {1, 20, 300, 5000, 20000, 70000};
	static unsigned char payload[300000];
	int fds[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
	unsigned int i = model->taken & 0xFFFF;
	struct ipc_message message = {.data = payload, .fds = fds};
	int r, timeout_ms = test_random_below(40) ? 0 : 1;

	message.size = test_random_below(limits[test_random_below(6)]);
	if (test_random_below(30) == 0)
		message.size = test_random_below(sizeof(payload));
	message.n_fds = test_random_below(4) ? 0 : (uint32_t)test_random_below(4);
	fill(payload, message.size, model->taken);

	if (test_random_below(3))
		r = ipc_channel_post(channel, &message, timeout_ms);
	else
		r = ipc_channel_send(channel, &message, timeout_ms);
	/* Borrowed for the call only. */
	memset(payload, 0, message.size);
	if (r < 0) {
		check_equal(r, timeout_ms ? -ETIMEDOUT : -EAGAIN);
		model->refused++;
		return;
	}
	model->sizes[i] = message.size;
	model->n_fds[i] = (unsigned char)message.n_fds;
	model->taken++;
}

/* Receive one. Return: whether there was one. */
static bool
model_get(struct model *model, struct ipc_channel *channel)
{
	struct ipc_message message;
	unsigned int i = model->received & 0xFFFF;
	int r = ipc_channel_recv(channel, &message, 0);

	if (r == -EAGAIN)
		return false;
	check_equal(r, 0);
	check(model->received < model->taken);
	check_equal(message.size, model->sizes[i]);
	check_equal(message.n_fds, model->n_fds[i]);
	check(is_filled(message.data, message.size, model->received));
	model->received++;
	return true;
}

static void
a_channel_agrees_with_its_model_whatever_is_done(void **state)
{
	unsigned int steps = test_count(40000, 4000), i, n;
	struct model *model = calloc(1, sizeof(*model));
	struct ipc_channel *a, *b;

	(void)state;
	check(model);
	pair_open(&a, &b, OPTIONS(.fds_max = 3, .send_buffer = 60000));
	for (i = 0; i < steps; i++) {
		n = (unsigned int)test_random_below(20);
		/* Long stretches of mostly sending, then of mostly receiving. */
		if (n < ((i / 500) % 2 ? 14U : 5U))
			model_put(model, a);
		else if (n < 19)
			(void)model_get(model, b);
		else
			(void)ipc_channel_flush(a, 0);
	}
	do {
		while (model_get(model, b))
			;
	} while (ipc_channel_flush(a, 0) < 0 || model_get(model, b));
	check_equal(model->received, model->taken);
	check(model->refused > 0);
	free(model);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_receive_waits_as_long_as_it_was_told(void **state)
{
	static const int32_t spins[] = {0, -1, 100000};
	struct ipc_message message;
	struct ipc_channel *a, *b;
	int64_t start_ms;
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		pair_open(&a, &b, OPTIONS(.spin_us = spins[i]));
		start_ms = now_ms();
		check_equal(ipc_channel_recv(b, &message, 50), -ETIMEDOUT);
		check(now_ms() - start_ms >= 49);
		check_equal(ipc_channel_recv(b, &message, 1), -ETIMEDOUT);
		send_text(a, "late");
		expect_text(b, "late");
		ipc_channel_close(a);
		ipc_channel_close(b);
	}
}

static void
a_sender_waits_as_long_as_it_was_told(void **state)
{
	struct ipc_message message = text_message("no room");
	struct ipc_channel *a, *b;
	int64_t start_ms;
	unsigned int n;

	(void)state;
	pair_open(&a, &b, NULL);
	n = post_until_full(a, 64);
	start_ms = now_ms();
	check_equal(ipc_channel_send(a, &message, 30), -ETIMEDOUT);
	check(now_ms() - start_ms >= 29);
	start_ms = now_ms();
	check_equal(ipc_channel_flush(a, 30), -ETIMEDOUT);
	check(now_ms() - start_ms >= 29);
	message = (struct ipc_message){.data = large_payload(0), .size = 30000};
	start_ms = now_ms();
	check_equal(ipc_channel_post(a, &message, 30), -ETIMEDOUT);
	check(now_ms() - start_ms >= 29);
	free((void *)message.data);

	expect_posted(b, 1, 64);
	check(n > 1);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* Receives what post_until_full() sent, but only after a while. */
static void
receive_later(struct ipc_channel *channel, void *arg)
{
	sleep_ms(100);
	expect_posted(channel, *(unsigned int *)arg, 1000);
	expect_text(channel, "and this");
	expect_end(channel);
}

static void
a_sender_that_waits_goes_on_when_there_is_room(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message = text_message("and this");
	struct worker worker;
	unsigned int n;

	(void)state;
	pair_open(&a, &b, NULL);
	n = post_until_full(a, 1000);
	ipc_channel_close(a);
	ipc_channel_close(b);

	/* The socket is alike, so it takes as many. */
	worker = worker_start(NULL, receive_later, &n);
	check_equal(post_until_full(worker.channel, 1000), n);
	check_equal(ipc_channel_send(worker.channel, &message, TEST_WAIT_MS), 0);
	worker_end(&worker);
}

static void
flush_keeps_what_is_gathered(void **state)
{
	struct ipc_channel *a, *b;
	unsigned int n, i;

	(void)state;
	pair_open(&a, &b, NULL);
	n = post_until_full(a, 100);
	for (i = 0; i < 10; i++)
		check_equal(ipc_channel_flush(a, 0), -EAGAIN);
	check_equal(ipc_channel_flush(a, 5), -ETIMEDOUT);
	expect_posted_and_flushed(a, b, n, 100);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
void_large(struct ipc_channel *a, int timeout_ms, int result, unsigned int with_fds)
{
	int fd = memfd_create("voided", MFD_CLOEXEC);
	struct ipc_message message = {
		.data = large_payload(1), .size = LARGE, .fds = &fd, .n_fds = with_fds};

	check_equal(ipc_channel_post(a, &message, timeout_ms), result);
	free((void *)message.data);
	check_equal(close(fd), 0);
}

static void
a_large_message_cut_short_is_never_seen(void **state)
{
	struct ipc_message message = text_message("before");
	struct ipc_channel *a, *b;
	unsigned int open, i;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	open = descriptors_open();
	for (i = 0; i < 6; i++) {
		check_equal(ipc_channel_post(a, &message, 0), 0);
		void_large(a, i % 2 ? 20 : 0, i % 2 ? -ETIMEDOUT : -EAGAIN, i / 2 % 2);
		/* The socket is full of it: the next waits behind. */
		expect_text(b, "before");
		expect_nothing(b);
		send_text(a, "after");
		expect_text(b, "after");
		expect_nothing(b);
		check_equal(descriptors_open(), open);
		check_equal(stats_of(a).out.dropped, i + 1);
		check_equal(stats_of(b).in.dropped, i + 1);
	}
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_large_message_that_did_not_begin_leaves_what_was_gathered(void **state)
{
	struct ipc_channel *a, *b;
	unsigned int n;

	(void)state;
	pair_open(&a, &b, NULL);
	n = post_until_full(a, 500);
	void_large(a, 0, -EAGAIN, 0);
	void_large(a, 5, -ETIMEDOUT, 0);
	expect_posted_and_flushed(a, b, n, 500);
	send_text(a, "after");
	expect_text(b, "after");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_voided_message_leaves_the_next_large_one_intact(void **state)
{
	struct ipc_message message = {.data = large_payload(2), .size = 150000};
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	void_large(a, 0, -EAGAIN, 0);
	expect_nothing(b);
	check_equal(ipc_channel_send(a, &message, TEST_WAIT_MS), 0);
	free((void *)message.data);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.size, 150000);
	check(is_filled(message.data, message.size, 2));
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
what_came_of_a_large_message_is_kept_by_a_receive_in_vain(void **state)
{
	struct packet *packet = packet_begin(IPCI_KIND_MESSAGES, 0);
	struct ipc_channel *channel;
	struct ipc_message message;
	unsigned char content[3000];
	unsigned int i;
	int peer;

	(void)state;
	fill(content, sizeof(content), 3);
	channel = raw_channel(&peer, NULL);
	packet_run(packet, 0, IPCI_RUN_LARGE, 1);
	packet_word(packet, sizeof(content));
	raw_send_packet(peer, packet_end(packet));
	for (i = 0; i < 3; i++) {
		check_equal(ipc_channel_recv(channel, &message, 0), -EAGAIN);
		check_equal(ipc_channel_recv(channel, &message, 1), -ETIMEDOUT);
		packet = packet_begin(IPCI_KIND_FRAGMENT, 0);
		packet_zeros(packet, 1000);
		memcpy(packet->bytes + packet->size - 1000, content + 1000 * (size_t)i, 1000);
		raw_send_packet(peer, packet_end(packet));
	}
	check_equal(ipc_channel_recv(channel, &message, 0), 0);
	check_equal(message.size, sizeof(content));
	check(is_filled(message.data, message.size, 3));
	ipc_channel_close(channel);
	check_equal(close(peer), 0);
}

static void
a_signal_does_not_end_a_wait(void **state)
{
	struct ipc_message message = text_message("no room");
	struct ipc_channel *a, *b;
	int64_t start_ms;

	(void)state;
	pair_open(&a, &b, NULL);
	signals_start();
	start_ms = now_ms();
	check_equal(ipc_channel_recv(b, &message, 100), -ETIMEDOUT);
	check(now_ms() - start_ms >= 99);

	(void)post_until_full(a, 64);
	start_ms = now_ms();
	check_equal(ipc_channel_flush(a, 100), -ETIMEDOUT);
	check(now_ms() - start_ms >= 99);
	check(signals_stop() > 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static int64_t
cpu_time_us(void)
{
	struct rusage usage;

	check_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
	       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* Of a second: one that polls uses all of it, and an emulator much for what is done at its end. */
#define IDLE_CPU_MAX_US 100000

static void
idle_then_answer(struct ipc_channel *channel, void *arg)
{
	int64_t before_us;

	(void)arg;
	/* Busy first, so that it has learned to spin. */
	for (;;) {
		struct ipc_message message;

		check_equal(ipc_channel_recv(channel, &message, -1), 0);
		check_equal(ipc_channel_send(channel, &message, -1), 0);
		if (message.type)
			break;
	}
	before_us = cpu_time_us();
	expect_text(channel, "after an idle second");
	check(cpu_time_us() - before_us < IDLE_CPU_MAX_US);
}

static void
an_idle_channel_uses_no_cpu_time(void **state)
{
	struct worker worker = worker_start(NULL, idle_then_answer, NULL);
	struct ipc_message ping = {.size = 0}, pong;
	unsigned int i;

	(void)state;
	for (i = 0; i <= 1000; i++) {
		ping.type = i == 1000;
		check_equal(ipc_channel_send(worker.channel, &ping, -1), 0);
		check_equal(ipc_channel_recv(worker.channel, &pong, -1), 0);
	}
	sleep_ms(1000);
	send_text(worker.channel, "after an idle second");
	worker_end(&worker);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(what_a_full_socket_takes_arrives_and_nothing_else),
		channel_test(what_a_full_socket_takes_of_single_sends_arrives),
		channel_test(a_channel_agrees_with_its_model_whatever_is_done),
		channel_test(a_receive_waits_as_long_as_it_was_told),
		channel_test(a_sender_waits_as_long_as_it_was_told),
		channel_test(a_sender_that_waits_goes_on_when_there_is_room),
		channel_test(flush_keeps_what_is_gathered),
		channel_test(a_large_message_cut_short_is_never_seen),
		channel_test(a_large_message_that_did_not_begin_leaves_what_was_gathered),
		channel_test(a_voided_message_leaves_the_next_large_one_intact),
		channel_test(what_came_of_a_large_message_is_kept_by_a_receive_in_vain),
		channel_test(a_signal_does_not_end_a_wait),
		channel_test(an_idle_channel_uses_no_cpu_time),
	};

	return run_group(tests);
}
