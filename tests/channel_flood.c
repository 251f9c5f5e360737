/* SPDX-License-Identifier: MIT */

/* A peer that takes or gives without end, descriptors above all: what it costs is bounded. */

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw.h"

#define FDS_EACH   10
#define NOBODY     65534
#define USERS      1000000
#define NOFILE     64
#define MEMORY_MAX ((size_t)8 << 20)

static const struct ipc_channel_options *const options = OPTIONS(.fds_max = FDS_EACH);

/* Message number i carries descriptors of a file that holds i. */
static int
put_marked(struct ipc_channel *channel, unsigned int i, bool flush, int timeout_ms)
{
	int fd = memfd_create("flood", MFD_CLOEXEC), fds[FDS_EACH];
	struct ipc_message message = {.data = &i, .size = sizeof(i), .fds = fds, .n_fds = FDS_EACH};
	unsigned int k;
	int r;

	check(fd >= 0);
	check_equal(write(fd, &i, sizeof(i)), sizeof(i));
	for (k = 0; k < FDS_EACH; k++)
		fds[k] = fd;
	r = flush ? ipc_channel_send(channel, &message, timeout_ms)
	          : ipc_channel_post(channel, &message, timeout_ms);
	check_equal(close(fd), 0);
	return r;
}

static void
get_marked(struct ipc_channel *channel, unsigned int i)
{
	struct ipc_message message;
	unsigned int k, mark;

	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(memcmp(message.data, &i, sizeof(i)), 0);
	check_equal(message.n_fds, FDS_EACH);
	for (k = 0; k < FDS_EACH; k++) {
		check_equal(pread(message.fds[k], &mark, sizeof(mark), 0), sizeof(mark));
		check_equal(mark, i);
	}
}

/* Put until there is no room. Return: how many were taken. */
static unsigned int
put_until_full(struct ipc_channel *channel, bool flush, int timeout_ms)
{
	unsigned int i;
	int r;

	for (i = 0; (r = put_marked(channel, i, flush, timeout_ms)) == 0; i++)
		;
	check_equal(r, timeout_ms ? -ETIMEDOUT : -EAGAIN);
	return i;
}

/* Counts what comes until the end and tells by its exit status if all of it was right. */
static void
drain(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	unsigned int i;
	int fds[2];

	(void)arg;
	/* Stop when all is set up, so that the flood meets nobody. A loop is set up by then, too:
	   it passes a descriptor to itself, and the flood may leave its user none. */
	expect_nothing(channel);
	check_equal(raise(SIGSTOP), 0);
	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	memcpy(fds, message.data, sizeof(fds));
	for (i = 0; i < (unsigned int)fds[0]; i++)
		get_marked(channel, i);
	expect_end(channel);
}

static void
flood_a_stopped_worker(bool flush)
{
	struct worker worker = worker_start(options, drain, NULL);
	unsigned int open = descriptors_open(), n, i;
	struct ipc_channel *a, *b;
	int counts[2], status;

	/* How many a socket takes, from one that is alike. */
	pair_open(&a, &b, options);
	n = put_until_full(a, flush, 0);
	check(n > 1);
	/* What waits in this process is one record's. */
	check(descriptors_open() <= open + 2 + IPC_MESSAGE_FDS_LIMIT);
	for (i = 0; i < n / 2; i++)
		get_marked(b, i);
	ipc_channel_close(a);
	ipc_channel_close(b);
	check_equal(descriptors_open(), open);

	check_equal(waitpid(worker.pid, &status, WUNTRACED), worker.pid);
	check(WIFSTOPPED(status));
	counts[0] = (int)n * 2;
	check_equal(ipc_channel_send(worker.channel,
			    &(struct ipc_message){.data = counts, .size = sizeof(counts)}, 0),
		0);
	for (i = 0; put_marked(worker.channel, i, flush, i % 2 ? 0 : 1) == 0; i++)
		check(i < 2 * n);
	check_equal(kill(worker.pid, SIGCONT), 0);
	for (; i < 2 * n; i++)
		check_equal(put_marked(worker.channel, i, flush, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_flush(worker.channel, TEST_WAIT_MS), 0);
	worker_end(&worker);
}

static void
a_flood_of_descriptors_waits_for_a_stopped_receiver(void **state)
{
	(void)state;
	flood_a_stopped_worker(true);
}

static void
a_flood_of_posted_descriptors_waits_too(void **state)
{
	(void)state;
	flood_a_stopped_worker(false);
}

/* Become someone whose descriptors in flight are limited. */
static void
become_nobody(void)
{
	check_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){NOFILE, NOFILE}), 0);
	if (getuid() == 0) {
		check_equal(setgroups(0, NULL), 0);
		check_equal(setgid(NOBODY), 0);
		/* What is in flight is the user's: one of our own, if this namespace has many. */
		if (setuid(USERS + (uid_t)getpid()) < 0)
			check_equal(setuid(NOBODY), 0);
		/* Else /proc/self/fd is root's. */
		check_equal(prctl(PR_SET_DUMPABLE, 1), 0);
		check_equal(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
	}
}

struct meeting {
	bool flush;
	int timeout_ms;
	int taken[2]; /* a pipe: how many were taken */
};

static void
meet_the_limit_in_flight(struct ipc_channel *channel, void *arg)
{
	const struct meeting *meeting = arg;
	unsigned int n;

	become_nobody();
	n = put_until_full(channel, meeting->flush, meeting->timeout_ms);
	/* It was this limit, not the socket's: posts can gather as many again. */
	check(n >= 1 && n <= 3 * NOFILE / FDS_EACH);
	check_equal(write(meeting->taken[1], &n, sizeof(n)), sizeof(n));
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
}

static void
the_limit_of_descriptors_in_flight_is_no_room(void **state)
{
	struct meeting meeting;
	struct worker worker;
	unsigned int round, n, i;

	(void)state;
	check_equal(pipe2(meeting.taken, O_CLOEXEC), 0);
	for (round = 0; round < 8; round++) {
		meeting.flush = round % 2;
		meeting.timeout_ms = round / 2 % 2 ? 20 : 0;
		worker = worker_start(options, meet_the_limit_in_flight, &meeting);
		check_equal(read(meeting.taken[0], &n, sizeof(n)), sizeof(n));
		for (i = 0; i < n; i++)
			get_marked(worker.channel, i);
		expect_end(worker.channel);
		worker_end(&worker);
	}
	check_equal(close(meeting.taken[0]), 0);
	check_equal(close(meeting.taken[1]), 0);
}

#define SENT_BY_NOBODY 500U

static void
send_as_nobody(struct ipc_channel *channel, void *arg)
{
	unsigned int i;

	become_nobody();
	for (i = 0; i < SENT_BY_NOBODY; i++)
		check_equal(put_marked(channel, i, *(bool *)arg, i % 2 ? -1 : TEST_WAIT_MS), 0);
	check_equal(ipc_channel_flush(channel, -1), 0);
}

static void
who_waits_at_the_limit_in_flight_goes_on_when_some_are_taken(void **state)
{
	struct worker worker;
	bool flush = false;
	unsigned int i, k;

	(void)state;
	for (k = 0; k < 2; k++) {
		flush = k;
		worker = worker_start(options, send_as_nobody, &flush);
		sleep_ms(50);
		for (i = 0; i < SENT_BY_NOBODY; i++)
			get_marked(worker.channel, i);
		expect_end(worker.channel);
		worker_end(&worker);
	}
}

static void
send_without_end(struct ipc_channel *channel, void *arg)
{
	static const unsigned char payload[100000];
	struct ipc_message message = {.data = payload};
	unsigned int i;
	int r = 0;

	(void)arg;
	for (i = 0; r == 0; i++) {
		message.size = i % 100 ? i % 1000 : sizeof(payload);
		r = ipc_channel_post(channel, &message, -1);
	}
	check_equal(r, -EPIPE);
}

static void
a_peer_that_sends_without_reading_costs_nothing_more(void **state)
{
	struct worker worker = worker_start(NULL, send_without_end, NULL);
	size_t before = resident_bytes();
	struct ipc_message message;
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	/* It reads nothing, so this ends. */
	(void)post_until_full(worker.channel, 1000);
	pair_open(&a, &b, NULL);
	for (i = 0; i < 100; i++) {
		sleep_ms(1);
		send_text(a, "others go on");
		expect_text(b, "others go on");
	}
	expect_resident_below(before + MEMORY_MAX);
	for (i = 0; i < 100000; i++)
		check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
	expect_resident_below(before + MEMORY_MAX);
	ipc_channel_close(a);
	ipc_channel_close(b);
	worker_end(&worker);
}

static void
read_without_end(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	int r;

	(void)arg;
	while ((r = ipc_channel_recv(channel, &message, -1)) == 0)
		;
	check_equal(r, -EPIPE);
}

static void
a_peer_that_reads_without_end_costs_nothing_more(void **state)
{
	static const unsigned char payload[100000];
	struct worker worker = worker_start(NULL, read_without_end, NULL);
	struct ipc_message message = {.data = payload};
	size_t before = resident_bytes();
	unsigned int i;

	(void)state;
	for (i = 0; i < 200000; i++) {
		message.size = i % 200 ? i % 1000 : sizeof(payload);
		check_equal(ipc_channel_post(worker.channel, &message, TEST_WAIT_MS), 0);
	}
	expect_resident_below(before + MEMORY_MAX);
	worker_end(&worker);
}

/* A hostile one begins large messages, with descriptors, and completes none. */
static void
large_messages_that_are_never_whole_are_bounded(void **state)
{
	enum { TOTAL = 1000000, PIECE = 100000 };
	struct ipc_channel *channel;
	struct packet *packet;
	unsigned int i, k, open;
	size_t before;
	int peer;

	(void)state;
	channel = raw_channel(&peer, OPTIONS(.fds_max = 2, .message_max = TOTAL));
	open = descriptors_open();
	before = resident_bytes();
	for (i = 0; i < 100; i++) {
		packet = packet_begin(IPCI_KIND_MESSAGES, 2);
		packet_run(packet, 0, IPCI_RUN_LARGE | IPCI_RUN_FDS, 2);
		packet_word(packet, TOTAL);
		packet_end(packet);
		check_equal(raw_send_fds(peer, packet->bytes, packet->size, peer, 2), packet->size);
		for (k = 0; k < 9; k++) {
			packet = packet_begin(IPCI_KIND_FRAGMENT, 0);
			packet_zeros(packet, PIECE);
			raw_send_packet(peer, packet_end(packet));
			expect_nothing(channel);
			check_equal(descriptors_open(), open + 2);
		}
		raw_send_packet(peer, packet_end(packet_begin(IPCI_KIND_VOID, 0)));
		expect_nothing(channel);
		check_equal(descriptors_open(), open);
	}
	expect_resident_below(before + TOTAL + MEMORY_MAX);
	ipc_channel_close(channel);
	check_equal(close(peer), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(a_flood_of_descriptors_waits_for_a_stopped_receiver),
		channel_test(a_flood_of_posted_descriptors_waits_too),
		channel_test(the_limit_of_descriptors_in_flight_is_no_room),
		channel_test(who_waits_at_the_limit_in_flight_goes_on_when_some_are_taken),
		channel_test(a_peer_that_sends_without_reading_costs_nothing_more),
		channel_test(a_peer_that_reads_without_end_costs_nothing_more),
		channel_test(large_messages_that_are_never_whole_are_bounded),
	};

	return run_group(tests);
}
