/* SPDX-License-Identifier: MIT */

/*
 * Order and integrity, for long: several workers, mixed sizes, descriptors among them, sockets
 * full most of the time. What message number n of a worker is, both sides know.
 */

#include <poll.h>
#include <stdio.h>

#include "support.h"
#include "traffic.h"

#define WORKERS 3
/* What a process may grow by, once warm: less than one message in a thousand could leak. */
#define GROWTH_MAX ((size_t)4 << 20)

static const struct ipc_channel_options *const options = OPTIONS(.fds_max = TRAFFIC_FDS_MAX);

static uint64_t
key_of(unsigned int worker, unsigned int number)
{
	return (uint64_t)worker << 32 | number;
}

static void
put(struct ipc_channel *channel, uint64_t key)
{
	struct ipc_message message = traffic_message(key);
	bool flush = message.type % 64 == 0;

	check_equal(flush ? ipc_channel_send(channel, &message, TEST_WAIT_MS)
			  : ipc_channel_post(channel, &message, TEST_WAIT_MS),
		0);
}

struct share {
	unsigned int worker, n;
};

static void
send_share(struct ipc_channel *channel, void *arg)
{
	const struct share *share = arg;
	unsigned int open = descriptors_open(), i;
	size_t warm = 0;

	for (i = 0; i < share->n; i++) {
		if (i == share->n / 10)
			warm = resident_bytes();
		put(channel, key_of(share->worker, i));
	}
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
	check_equal(descriptors_open(), open);
	expect_resident_below(warm + GROWTH_MAX);
}

/* Receive what is here from one worker. Return: whether it has ended. */
static bool
take(struct ipc_channel *channel, unsigned int worker, unsigned int *received)
{
	struct ipc_message message;
	int r;

	while ((r = ipc_channel_recv(channel, &message, 0)) == 0)
		traffic_verify(&message, key_of(worker, (*received)++));
	check(r == -EAGAIN || r == -EPIPE);
	return r == -EPIPE;
}

static void
take_all(struct worker *workers, unsigned int *received, unsigned int total)
{
	struct pollfd pollfds[WORKERS];
	unsigned int open = descriptors_open(), i, sum = 0, left = WORKERS;
	size_t warm = 0;

	for (i = 0; i < WORKERS; i++)
		pollfds[i] = (struct pollfd){ipc_channel_fd(workers[i].channel), POLLIN, 0};
	while (left) {
		check(poll(pollfds, WORKERS, TEST_WAIT_MS) > 0);
		for (i = 0, sum = 0; i < WORKERS; i++) {
			if (pollfds[i].revents && take(workers[i].channel, i, &received[i])) {
				pollfds[i].fd = -1;
				left--;
			}
			sum += received[i];
		}
		if (!warm && sum > total / 10)
			warm = resident_bytes();
	}
	check_equal(descriptors_open(), open);
	expect_resident_below(warm + GROWTH_MAX);
}

static void
nothing_is_lost_doubled_or_out_of_order(void **state)
{
	unsigned int per_worker = test_count(1000000, 30000) / WORKERS, i;
	unsigned int received[WORKERS] = {0};
	struct worker workers[WORKERS];
	struct share share = {.n = per_worker};
	struct ipc_channel_stats stats;

	(void)state;
	traffic_open();
	for (i = 0; i < WORKERS; i++) {
		share.worker = i;
		workers[i] = worker_start(options, send_share, &share);
	}
	take_all(workers, received, WORKERS * per_worker);
	for (i = 0; i < WORKERS; i++) {
		check_equal(received[i], per_worker);
		stats = stats_of(workers[i].channel);
		(void)printf("worker %u: %llu messages in %llu records, %llu descriptors\n", i,
			(unsigned long long)stats.in.messages, (unsigned long long)stats.in.records,
			(unsigned long long)stats.in.fds);
		worker_end(&workers[i]);
	}
	traffic_close();
}

static void
echo(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	int r;

	(void)arg;
	for (;;) {
		r = ipc_channel_recv(channel, &message, 0);
		if (r == -EAGAIN) {
			check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
			r = ipc_channel_recv(channel, &message, TEST_WAIT_MS);
		}
		if (r == -EPIPE)
			return;
		check_equal(r, 0);
		check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
	}
}

/* Both ways at once, each as full as the other allows: whoever waited to send would hang. */
static void
a_full_channel_in_both_directions_goes_on(void **state)
{
	enum { SIZE = 200 };
	unsigned int n = test_count(300000, 20000), sent = 0, received = 0;
	struct worker worker = worker_start(options, echo, NULL);
	unsigned char payload[SIZE];
	struct ipc_message message;
	bool full;
	int r;

	(void)state;
	while (received < n) {
		full = sent == n;
		while (!full) {
			message = (struct ipc_message){.data = payload, .size = sent % SIZE};
			fill(payload, message.size, sent);
			r = ipc_channel_post(worker.channel, &message, 0);
			check(r == 0 || r == -EAGAIN);
			full = r < 0 || ++sent == n;
		}
		r = ipc_channel_flush(worker.channel, 0);
		check(r == 0 || r == -EAGAIN);
		check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
		do {
			check_equal(message.size, received % SIZE);
			check(is_filled(message.data, message.size, received));
			received++;
		} while ((r = ipc_channel_recv(worker.channel, &message, 0)) == 0);
		check_equal(r, -EAGAIN);
	}
	worker_end(&worker);
}

static void
send_share_with_signals(struct ipc_channel *channel, void *arg)
{
	const struct share *share = arg;
	unsigned int i;

	signals_start();
	for (i = 0; i < share->n; i++)
		put(channel, key_of(share->worker, i));
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
	(void)signals_stop();
}

static void
signals_lose_nothing(void **state)
{
	struct share share = {.n = test_count(200000, 20000)};
	struct worker worker;
	struct ipc_message message;
	unsigned int i;

	(void)state;
	traffic_open();
	worker = worker_start(options, send_share_with_signals, &share);
	signals_start();
	for (i = 0; i < share.n; i++) {
		check_equal(
			ipc_channel_recv(worker.channel, &message, i % 2 ? -1 : TEST_WAIT_MS), 0);
		traffic_verify(&message, key_of(0, i));
	}
	check_equal(ipc_channel_recv(worker.channel, &message, -1), -EPIPE);
	check(signals_stop() > 0);
	worker_end(&worker);
	traffic_close();
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(nothing_is_lost_doubled_or_out_of_order),
		channel_test(a_full_channel_in_both_directions_goes_on),
		channel_test(signals_lose_nothing),
	};

	return run_group(tests);
}
