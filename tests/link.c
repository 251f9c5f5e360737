/* SPDX-License-Identifier: MIT */

/* One packet out, one packet in: whole or told of, with its descriptors or told of, in time. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"
#include "raw.h"
#include "support.h"

#define PACKET_MAX 200000

/* Both ends of a socket, each with its lane. */
struct pair {
	struct ipci_lane out, in;
	struct ipc_channel_counts out_counts, in_counts;
};

static void
pair_begin(struct pair *pair, int32_t spin_us)
{
	int fds[2];

	raw_pair(fds);
	*pair = (struct pair){.out = {.fd = fds[0]}, .in = {.fd = fds[1]}};
	pair->out.counts = &pair->out_counts;
	pair->in.counts = &pair->in_counts;
	ipci_wait_init(&pair->out.wait, spin_us);
	ipci_wait_init(&pair->in.wait, spin_us);
}

static void
pair_end(struct pair *pair)
{
	if (pair->out.fd >= 0)
		check_equal(close(pair->out.fd), 0);
	check_equal(close(pair->in.fd), 0);
}

static int
send_packet(struct pair *pair, const void *bytes, size_t size, int timeout_ms)
{
	struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);

	return ipci_link_send(&pair->out, &part, 1, NULL, 0, &deadline);
}

static int
receive_packet(struct pair *pair, void *bytes, size_t size, struct ipci_fds *set,
	struct ipci_arrival *ret_arrival, int timeout_ms)
{
	struct iovec part = {.iov_base = bytes, .iov_len = size};
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);

	struct ipci_fds none = {0};
	int r;

	if (set)
		return ipci_link_recv(&pair->in, &part, 1, set, ret_arrival, &deadline);
	r = ipci_link_recv(&pair->in, &part, 1, &none, ret_arrival, &deadline);
	check_equal(none.n, 0);
	return r;
}

/* Send in n parts, receive in m, in each way there is to receive. */
static void
a_packet_arrives_whole(void **state)
{
	static const size_t sizes[] = {1, 8, 1000, 65536, PACKET_MAX};
	unsigned char *sent = malloc(PACKET_MAX), *got = malloc(PACKET_MAX);
	unsigned int i, way;

	(void)state;
	check(sent && got);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]) * 8; i++) {
		size_t size = sizes[i / 8], first = size / 3;
		struct iovec out[2] = {{sent, first}, {sent + first, size - first}};
		struct iovec in[2] = {{got, size / 2}, {got + size / 2, PACKET_MAX - size / 2}};
		struct ipci_deadline deadline = ipci_deadline(TEST_WAIT_MS);
		struct ipci_fds none = {0};
		struct ipci_arrival arrival;
		struct pair pair;

		way = i % 8;
		pair_begin(&pair, way & 1 ? -1 : 0);
		pair.in.fds_clean = way & 4;
		fill(sent, size, i);
		if (way & 2) {
			check_equal(ipci_link_send(&pair.out, out, 2, NULL, 0, &deadline), 0);
			check_equal(ipci_link_recv(&pair.in, in, 2, &none, &arrival, &deadline), 0);
		} else {
			check_equal(send_packet(&pair, sent, size, TEST_WAIT_MS), 0);
			check_equal(receive_packet(
					    &pair, got, PACKET_MAX, NULL, &arrival, TEST_WAIT_MS),
				0);
		}
		check_equal(arrival.size, size);
		check(!arrival.truncated && !arrival.fds_lost);
		check(memcmp(sent, got, size) == 0);
		check_equal(pair.out_counts.records, 1);
		check_equal(pair.out_counts.bytes, size);
		check_equal(pair.in_counts.records, 1);
		check_equal(pair.in_counts.bytes, size);
		pair_end(&pair);
	}
	free(sent);
	free(got);
}

static void
a_packet_too_large_is_told_of(void **state)
{
	unsigned char sent[64] = {0}, got[64];
	struct ipci_arrival arrival;
	struct pair pair;
	size_t room;
	int barred;

	(void)state;
	for (barred = 0; barred < 2; barred++) {
		pair_begin(&pair, 0);
		pair.in.fds_clean = barred;
		for (room = 60; room <= 64; room++) {
			check_equal(send_packet(&pair, sent, 62, 0), 0);
			memset(got, 0xAA, sizeof(got));
			check_equal(receive_packet(&pair, got, room, NULL, &arrival, 0), 0);
			check_equal(arrival.truncated, room < 62);
			check_equal(got[62], 0xAA);
			check(room >= 62 || got[room] == 0xAA);
		}
		/* The next one is untouched. */
		check_equal(send_packet(&pair, "next", 4, 0), 0);
		check_equal(receive_packet(&pair, got, 64, NULL, &arrival, 0), 0);
		check_equal(arrival.size, 4);
		pair_end(&pair);
	}
}

static void
send_fds(struct pair *pair, const int *fds, unsigned int n)
{
	struct iovec part = {.iov_base = (char[4]){"fds"}, .iov_len = 4};
	struct ipci_deadline at_once = ipci_deadline(0);

	check_equal(ipci_link_send(&pair->out, &part, 1, fds, n, &at_once), 0);
}

static void
descriptors_arrive_in_order(void **state)
{
	static const unsigned int numbers[] = {1, 2, 3, 253};
	int fds[IPC_MESSAGE_FDS_LIMIT], pipes[2];
	struct ipci_arrival arrival;
	struct ipci_fds set = {0};
	struct pair pair;
	unsigned int i, k;
	char bytes[8];

	(void)state;
	check_equal(pipe2(pipes, O_CLOEXEC), 0);
	pair_begin(&pair, 0);
	for (k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
		for (i = 0; i < numbers[k]; i++)
			fds[i] = pipes[i % 3 == 1];
		send_fds(&pair, fds, numbers[k]);
		check_equal(receive_packet(&pair, bytes, 8, &set, &arrival, TEST_WAIT_MS), 0);
		check(!arrival.fds_lost);
		check_equal(set.n, numbers[k]);
		for (i = 0; i < set.n; i++) {
			check(is_same_file(set.fds[i], fds[i]));
			check_equal(fcntl(set.fds[i], F_GETFD), FD_CLOEXEC);
		}
		ipci_fds_close(&set);
	}
	check_equal(pair.out_counts.fds, 1 + 2 + 3 + 253);
	check_equal(pair.in_counts.fds, 1 + 2 + 3 + 253);
	pair_end(&pair);
	check_equal(close(pipes[0]), 0);
	check_equal(close(pipes[1]), 0);
}

static void
lost_descriptors_are_told_of(void **state)
{
	struct ipci_arrival arrival;
	struct ipci_fds set = {0};
	int fds[4], zero;
	struct pair pair;
	char bytes[8];

	(void)state;
	check((zero = open("/dev/zero", O_RDONLY | O_CLOEXEC)) >= 0);
	fds[0] = fds[1] = fds[2] = fds[3] = zero;
	pair_begin(&pair, 0);

	/* No room in the process: some come. */
	send_fds(&pair, fds, 4);
	descriptors_limit(2);
	check_equal(receive_packet(&pair, bytes, 8, &set, &arrival, 0), 0);
	descriptors_unlimit();
	check(arrival.fds_lost);
	check_equal(set.n, 2);
	ipci_fds_close(&set);

	send_fds(&pair, fds, 4);
	check_equal(receive_packet(&pair, bytes, 8, &set, &arrival, 0), 0);
	check(!arrival.fds_lost);
	check_equal(set.n, 4);
	ipci_fds_close(&set);
	pair_end(&pair);
	check_equal(close(zero), 0);
}

static void
a_wrong_descriptor_is_refused(void **state)
{
	struct iovec part = {.iov_base = (char[4]){"fds"}, .iov_len = 4};
	struct ipci_deadline deadline = ipci_deadline(TEST_WAIT_MS);
	struct ipci_arrival arrival;
	struct pair pair;
	char bytes[8];

	(void)state;
	pair_begin(&pair, 0);
	check_equal(ipci_link_send(&pair.out, &part, 1, (int[1]){-1}, 1, &deadline), -EBADF);
	check_equal(receive_packet(&pair, bytes, 8, NULL, &arrival, 0), -EAGAIN);
	pair_end(&pair);
}

/* What was sent before the end comes first, in both ways to receive. */
static void
the_end_comes_last(void **state)
{
	struct ipci_arrival arrival;
	struct pair pair;
	char bytes[8];
	int way, i;

	(void)state;
	for (way = 0; way < 4; way++) {
		pair_begin(&pair, way & 2 ? -1 : 0);
		pair.in.fds_clean = way & 1;
		check_equal(send_packet(&pair, "last", 4, 0), 0);
		/* Unread data at its close: the kernel tells of a reset, before what it sent. */
		raw_send(pair.in.fd, "unread", 6);
		check_equal(close(pair.out.fd), 0);
		pair.out.fd = -1;
		check_equal(receive_packet(&pair, bytes, 8, NULL, &arrival, TEST_WAIT_MS), 0);
		check_equal(arrival.size, 4);
		for (i = 0; i < 2; i++) {
			check_equal(
				receive_packet(&pair, bytes, 8, NULL, &arrival, TEST_WAIT_MS), 0);
			check_equal(arrival.size, 0);
		}
		pair_end(&pair);
	}
}

static void
nobody_to_send_to(void **state)
{
	struct iovec parts[2] = {{(char[4]){"one"}, 4}, {(char[4]){"two"}, 4}};
	struct ipci_deadline deadline = ipci_deadline(TEST_WAIT_MS);
	struct pair pair;
	int i, unread;

	(void)state;
	for (unread = 0; unread < 2; unread++) {
		pair_begin(&pair, 0);
		if (unread)
			check_equal(send_packet(&pair, "unread", 6, 0), 0);
		check_equal(close(pair.in.fd), 0);
		for (i = 0; i < 2; i++) {
			check_equal(send_packet(&pair, "x", 1, TEST_WAIT_MS), -EPIPE);
			check_equal(
				ipci_link_send(&pair.out, parts, 2, NULL, 0, &deadline), -EPIPE);
		}
		check_equal(close(pair.out.fd), 0);
	}
}

static unsigned int
fill_socket(struct pair *pair)
{
	static const unsigned char block[4096];
	unsigned int n;
	int r;

	for (n = 0; (r = send_packet(pair, block, sizeof(block), 0)) == 0; n++)
		;
	check_equal(r, -EAGAIN);
	return n;
}

/* Neither early nor much late, whichever way it waits; and the packet was not sent after all. */
static void
in_vain_takes_its_time(void **state)
{
	static const int32_t ways[] = {0, -1, 100, 20000};
	static unsigned char bytes[4096];
	struct ipci_arrival arrival;
	unsigned int i, n;
	struct pair pair;
	int64_t start;

	(void)state;
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		pair_begin(&pair, ways[i]);
		check_equal(receive_packet(&pair, bytes, 8, NULL, &arrival, 0), -EAGAIN);
		start = now_ms();
		check_equal(receive_packet(&pair, bytes, 8, NULL, &arrival, 30), -ETIMEDOUT);
		check(now_ms() - start >= 29);

		n = fill_socket(&pair);
		start = now_ms();
		check_equal(send_packet(&pair, bytes, 64, 30), -ETIMEDOUT);
		check(now_ms() - start >= 29);
		check(now_ms() - start < TEST_WAIT_MS);
		for (; n; n--) {
			check_equal(
				receive_packet(&pair, bytes, sizeof(bytes), NULL, &arrival, 0), 0);
			check_equal(arrival.size, sizeof(bytes));
		}
		check_equal(receive_packet(&pair, bytes, 8, NULL, &arrival, 0), -EAGAIN);
		check(pair.in_counts.waits_slept + pair.in_counts.waits_spun > 0);
		pair_end(&pair);
	}
}

/* The sender of a packet that comes while the other end waits. */
static void
send_later(void *arg)
{
	struct pair *pair = arg;

	sleep_ms(20);
	check_equal(send_packet(pair, "later", 5, 0), 0);
}

static void
receive_later(void *arg)
{
	struct pair *pair = arg;
	static unsigned char bytes[4096];
	struct ipci_arrival arrival;
	int i;

	sleep_ms(20);
	for (i = 0; i < 1000; i++)
		if (receive_packet(pair, bytes, sizeof(bytes), NULL, &arrival, 0) < 0)
			break;
}

/* Met while spinning or sleeping, with a deadline and without one, signals or not. */
static void
a_wait_is_met(void **state)
{
	static const int32_t ways[] = {0, -1, 100, IPC_CHANNEL_SPIN_US_LIMIT};
	static const int timeouts_ms[] = {-1, TEST_WAIT_MS};
	struct ipci_arrival arrival;
	unsigned int i;
	struct pair pair;
	char bytes[8];
	bool plain;
	pid_t pid;

	(void)state;
	for (i = 0; i < 16; i++) {
		pair_begin(&pair, ways[i / 4]);
		pair.in.fds_clean = i & 2;
		pid = child_start(send_later, &pair);
		signals_start();
		check_equal(receive_packet(&pair, bytes, 8, NULL, &arrival, timeouts_ms[i % 2]), 0);
		check_equal(arrival.size, 5);
		child_end(pid);

		(void)fill_socket(&pair);
		pid = child_start(receive_later, &pair);
		check_equal(send_packet(&pair, "room", 5, timeouts_ms[i % 2]), 0);
		signals_stop();
		child_end(pid);
		/* A call that blocks at once cannot tell whether it slept. */
		plain = ways[i / 4] < 0 && timeouts_ms[i % 2] < 0;
		check_equal(pair.in_counts.waits_spun + pair.in_counts.waits_slept, !plain);
		check_equal(pair.out_counts.waits_spun + pair.out_counts.waits_slept, !plain);
		pair_end(&pair);
	}
}

/* Without a deadline it is one system call, and nobody asks the time. */
static void
the_plain_way_is_one_call(void **state)
{
	struct ipci_arrival arrival;
	struct pair pair;
	char bytes[8];

	(void)state;
	pair_begin(&pair, -1);
	check_equal(send_packet(&pair, "one", 3, -1), 0);
	check_equal(receive_packet(&pair, bytes, 8, NULL, &arrival, -1), 0);
	check_equal(pair.out_counts.syscalls, 1);
	check_equal(pair.in_counts.syscalls, 1);
	check_equal(pair.in_counts.waits_slept, 0);
	pair_end(&pair);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(a_packet_arrives_whole),
		channel_test(a_packet_too_large_is_told_of),
		channel_test(descriptors_arrive_in_order),
		channel_test(lost_descriptors_are_told_of),
		channel_test(a_wrong_descriptor_is_refused),
		channel_test(the_end_comes_last),
		channel_test(nobody_to_send_to),
		channel_test(in_vain_takes_its_time),
		channel_test(a_wait_is_met),
		channel_test(the_plain_way_is_one_call),
	};

	return run_group(tests);
}
