/* SPDX-License-Identifier: MIT */

/* The first record: every wrong one is refused, and one of a later edition is understood. */

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw.h"

static const struct ipc_channel_options *const options = OPTIONS(.fds_max = 4);

/* Open a channel whose peer begins with these bytes. */
static struct ipc_channel *
greeted_with(const void *bytes, size_t size, int *ret_peer)
{
	struct ipc_channel *channel;
	int fds[2];

	raw_pair(fds);
	check_equal(ipc_channel_open(&channel, fds[0], options), 0);
	raw_send(fds[1], bytes, size);
	*ret_peer = fds[1];
	return channel;
}

static void
expect_refused(const void *bytes, size_t size)
{
	struct ipc_message message;
	struct ipc_channel *channel;
	int peer;

	channel = greeted_with(bytes, size, &peer);
	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), -EPROTO);
	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), -EPROTO);
	ipc_channel_close(channel);
	check_equal(close(peer), 0);

	/* A sender hears the hello too. */
	channel = greeted_with(bytes, size, &peer);
	message = text_message("to whom?");
	check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), -EPROTO);
	ipc_channel_close(channel);
	check_equal(close(peer), 0);
}

static void
every_wrong_hello_is_refused(void **state)
{
	struct ipci_hello hello;
	unsigned char longest[1024] = {0};
	const struct packet *packet;
	size_t i;

	(void)state;
#define WRONG_HELLO(member, value)                     \
	do {                                           \
		hello = plain_hello();                 \
		hello.member = value;                  \
		expect_refused(&hello, sizeof(hello)); \
	} while (0)
	WRONG_HELLO(header.magic, 0);
	WRONG_HELLO(header.kind, IPCI_KIND_MESSAGES);
	WRONG_HELLO(header.n_fds, 1);
	WRONG_HELLO(header.size, sizeof(hello) - 8);
	WRONG_HELLO(header.size, sizeof(hello) + 8);
	WRONG_HELLO(magic, 0);
	WRONG_HELLO(version, 0);
	WRONG_HELLO(version, IPCI_WIRE_VERSION + 1);
	WRONG_HELLO(reserved, 1);
	WRONG_HELLO(reserved_2, 1);
	WRONG_HELLO(fds_max, IPC_MESSAGE_FDS_LIMIT + 1);
	WRONG_HELLO(record_max, IPC_CHANNEL_RECORD_MAX_MIN - 1);
	WRONG_HELLO(record_max, 0);
#undef WRONG_HELLO

	for (i = 1; i < sizeof(hello); i++) {
		hello = plain_hello();
		hello.header.size = (uint32_t)i;
		expect_refused(&hello, i);
	}
	hello = plain_hello();
	hello.header.size = sizeof(longest);
	memcpy(longest, &hello, sizeof(hello));
	expect_refused(longest, sizeof(longest));

	packet = packet_text("no hello at all");
	expect_refused(packet->bytes, packet->size);
}

static void
a_hello_with_descriptors_is_refused(void **state)
{
	struct ipci_hello hello = plain_hello();
	struct ipc_channel *channel;
	struct ipc_message message;
	int fds[2];

	(void)state;
	raw_pair(fds);
	check_equal(ipc_channel_open(&channel, fds[0], options), 0);
	check_equal(raw_send_fds(fds[1], &hello, sizeof(hello), fds[1], 1), sizeof(hello));
	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), -EPROTO);
	ipc_channel_close(channel);
	check_equal(close(fds[1]), 0);
}

static void
a_hello_of_a_later_edition_is_understood(void **state)
{
	struct ipci_hello hello = plain_hello();
	unsigned char longer[sizeof(hello) + 64] = {0};
	struct ipc_channel *channel;
	int peer;

	(void)state;
	hello.features = 0xFFFFFFFFU;
	hello.header.size = sizeof(longer);
	memcpy(longer, &hello, sizeof(hello));
	channel = greeted_with(longer, sizeof(longer), &peer);
	raw_send_packet(peer, packet_text("from the future"));
	expect_text(channel, "from the future");
	ipc_channel_close(channel);
	check_equal(close(peer), 0);
}

static void *
receive_once(void *arg)
{
	struct ipc_message message;

	(void)ipc_channel_recv(arg, &message, -1);
	return NULL;
}

static void *
send_large(void *arg)
{
	static unsigned char payload[100000];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};

	(void)ipc_channel_send(arg, &message, -1);
	return NULL;
}

/* The late hello of a peer that then takes all. */
static void *
greet_late(void *arg)
{
	static unsigned char packet[1 << 18];
	struct ipci_hello hello = plain_hello();
	int fd = *(int *)arg;
	ssize_t n;

	hello.record_max = IPC_CHANNEL_RECORD_MAX_MIN;
	sleep_ms(50);
	raw_send(fd, &hello, sizeof(hello));
	sleep_ms(50);
	while ((n = recv(fd, packet, sizeof(packet), 0)) > 0)
		check(n <= IPCI_RECORD_FLOOR);
	return NULL;
}

/* The sender waits with a full socket while the receiver hears that records are to be small. */
static void
a_hello_of_small_records_finds_a_sender_at_work(void **state)
{
	static unsigned char payload[4096];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};
	struct ipc_channel *channel;
	pthread_t receiver, peer;
	int fds[2], i;

	(void)state;
	raw_pair(fds);
	check_equal(ipc_channel_open(&channel, fds[0], NULL), 0);
	check_equal(pthread_create(&receiver, NULL, receive_once, channel), 0);
	check_equal(pthread_create(&peer, NULL, greet_late, &fds[1]), 0);
	for (i = 0; i < 2000; i++)
		check_equal(ipc_channel_post(channel, &message, -1), 0);
	check_equal(ipc_channel_flush(channel, -1), 0);
	check_equal(shutdown(fds[1], SHUT_RDWR), 0);
	check_equal(pthread_join(peer, NULL), 0);
	check_equal(pthread_join(receiver, NULL), 0);
	ipc_channel_close(channel);
	check_equal(close(fds[1]), 0);
}

/* While one direction waits for the hello and the other for its turn. */
static void
a_forked_child_closes_a_channel_that_waits_for_the_hello(void **state)
{
	struct ipc_channel *channel;
	pthread_t receiver, sender;
	int fds[2], status;
	pid_t child;

	(void)state;
	raw_pair(fds);
	check_equal(ipc_channel_open(&channel, fds[0], NULL), 0);
	check_equal(pthread_create(&receiver, NULL, receive_once, channel), 0);
	sleep_ms(20);
	check_equal(pthread_create(&sender, NULL, send_large, channel), 0);
	sleep_ms(20);
	child = fork();
	check(child >= 0);
	if (child == 0) {
		alarm(10);
		ipc_channel_close(channel);
		_exit(0);
	}
	check_equal(waitpid(child, &status, 0), child);
	check_equal(status, 0);
	check_equal(close(fds[1]), 0);
	check_equal(pthread_join(receiver, NULL), 0);
	check_equal(pthread_join(sender, NULL), 0);
	ipc_channel_close(channel);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(every_wrong_hello_is_refused),
		channel_test(a_hello_with_descriptors_is_refused),
		channel_test(a_hello_of_a_later_edition_is_understood),
		channel_test(a_hello_of_small_records_finds_a_sender_at_work),
		channel_test(a_forked_child_closes_a_channel_that_waits_for_the_hello),
	};

	return run_group(tests);
}
