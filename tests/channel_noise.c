/* SPDX-License-Identifier: MIT */

/* Packets without any plan, from a peer that knows the format well enough to come close. */

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "raw.h"

#define FDS_MAX     4
#define MESSAGE_MAX 150000

static const struct ipc_channel_options *const options =
	OPTIONS(.fds_max = FDS_MAX, .message_max = MESSAGE_MAX);

/* A packet that is right at first sight, with some bytes changed. */
static struct packet *
build_mutant(void)
{
	struct packet *packet =
		packet_begin(IPCI_KIND_MESSAGES, (unsigned int)test_random_below(3));
	unsigned int i, n = (unsigned int)test_random_below(4);
	size_t size;

	for (i = 0; i < n + 1; i++) {
		size = test_random_below(200);
		packet_run(packet, size, (unsigned int)test_random_below(16),
			1 + (unsigned int)test_random_below(2));
		packet_zeros(packet, (size + 7 + 8 * test_random_below(2)) & ~(size_t)7);
	}
	packet_end(packet);
	for (i = 0; i < test_random_below(4); i++)
		packet->bytes[test_random_below(packet->size)] ^= (unsigned char)test_random();
	if (test_random_below(4) == 0)
		packet->bytes[1] = IPCI_KIND_FRAGMENT;
	return packet;
}

static struct packet *
build_noise(void)
{
	struct packet *packet = packet_begin(IPCI_KIND_MESSAGES, 0);
	size_t i, size = 1 + test_random_below(300);

	for (i = 0; i < size; i += 8)
		packet_word(packet, test_random());
	packet->size = size;
	return packet;
}

/* Receive until the channel has nothing more to say; whatever comes out is within bounds. */
static void
drain(struct ipc_channel *channel)
{
	struct ipc_message message;
	volatile unsigned char byte;
	size_t i;
	int r;

	while ((r = ipc_channel_recv(channel, &message, 0)) == 0 || r == -EBADMSG) {
		if (r < 0)
			continue;
		check(message.size <= MESSAGE_MAX);
		check(message.n_fds <= FDS_MAX);
		check_equal((uintptr_t)message.data % 8, 0);
		for (i = 0; i < message.size; i++)
			byte = ((const unsigned char *)message.data)[i];
		(void)byte;
		for (i = 0; i < message.n_fds; i++)
			check(fcntl(message.fds[i], F_GETFD) >= 0);
	}
	check(r == -EAGAIN || r == -EPROTO || r == -EPIPE);
}

static void
bytes_without_a_plan_do_no_harm(void **state)
{
	unsigned int rounds = test_count(20000, 1000), i, k, n_fds;
	int peer;
	const struct packet *packet;
	struct ipc_channel *channel;

	(void)state;
	for (i = 0; i < rounds; i++) {
		channel = raw_channel(&peer, options);
		for (k = 0; k < 4; k++) {
			packet = test_random_below(8) ? build_mutant() : build_noise();
			n_fds = (unsigned int)test_random_below(3);
			if (n_fds)
				(void)raw_send_fds(peer, packet->bytes, packet->size, peer, n_fds);
			else
				(void)send(peer, packet->bytes, packet->size, MSG_NOSIGNAL);
			drain(channel);
		}
		ipc_channel_close(channel);
		check_equal(close(peer), 0);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(bytes_without_a_plan_do_no_harm),
	};

	return run_group(tests);
}
