/* SPDX-License-Identifier: MIT */

/* The first record: every wrong one is refused, and one of a later edition is understood. */

#include <string.h>
#include <sys/socket.h>
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

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(every_wrong_hello_is_refused),
		channel_test(a_hello_with_descriptors_is_refused),
		channel_test(a_hello_of_a_later_edition_is_understood),
	};

	return run_group(tests);
}
