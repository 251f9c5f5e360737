/* SPDX-License-Identifier: MIT */

/*
 * Descriptors that take long to be closed: a TCP socket that lingers, which its sender has nothing
 * to do with any more, keeps whoever closes it waiting. No call of the library waits for that, and
 * no other channel does.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop_support.h"
#include "raw.h"

#define LINGER_S 3
/* What a call may take: far less than a close, far more than it does on a busy machine. */
#define CALL_MS 1500

/* The other end, which never reads, and the one that lingers. */
struct lingering {
	int other, fd;
};

#define OTHERS_MAX 8
static int others[OTHERS_MAX];
static unsigned int n_others;

static struct lingering
lingering_open(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct linger linger = {.l_onoff = 1, .l_linger = LINGER_S};
	socklen_t size = sizeof(address);
	struct lingering lingering;
	static char bytes[65536];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(listener >= 0);
	check_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	check_equal(listen(listener, 1), 0);
	check_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	lingering.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(lingering.fd >= 0);
	check_equal(connect(lingering.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	lingering.other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	check(lingering.other >= 0);
	check_equal(close(listener), 0);
	check_equal(setsockopt(lingering.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	while (send(lingering.fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		continue;
	return lingering;
}

/* The receiver has the last one now. */
static void
lingering_pass(int socket, const struct packet *packet)
{
	struct lingering lingering = lingering_open();

	check_equal(raw_send_fds(socket, packet->bytes, packet->size, lingering.fd, 1),
		(ssize_t)packet->size);
	check_equal(close(lingering.fd), 0);
	/* It lingers as long as this process has it and does not read. */
	check(n_others < OTHERS_MAX);
	others[n_others++] = lingering.other;
}

/* Let them be closed: who reads no more is reset. */
static void
lingering_end(void)
{
	while (n_others)
		check_equal(close(others[--n_others]), 0);
}

/* A record that says nothing of descriptors, or of one with its message. */
static const struct packet *
text_packet(const char *text, bool announced)
{
	struct packet *packet;

	if (!announced)
		return packet_text(text);
	packet = packet_begin(IPCI_KIND_MESSAGES, 1);
	packet_run(packet, 0, IPCI_RUN_FDS, 1);
	return packet_end(packet);
}

static struct packet *
hello_packet(void)
{
	static struct packet packet;
	struct ipci_hello hello = plain_hello();

	packet.size = sizeof(hello);
	memcpy(packet.bytes, &hello, sizeof(hello));
	return &packet;
}

/* What came before the kernel was asked to let no descriptors in, or where it cannot. */
static void
send_forbidden(int peer, unsigned int kind)
{
	struct ipci_hello hello = plain_hello();

	if (kind == 0) {
		lingering_pass(peer, hello_packet());
		return;
	}
	raw_send(peer, &hello, sizeof(hello));
	lingering_pass(peer, text_packet("text", kind == 2));
}

static void
to_an_end_that_takes_none_they_are_an_error(void **state)
{
	struct ipc_message message;
	struct ipc_channel *channel;
	int64_t start_ms;
	unsigned int kind;
	int fds[2];

	(void)state;
	for (kind = 0; kind < 3; kind++) {
		raw_pair(fds);
		send_forbidden(fds[1], kind);
		start_ms = now_ms();
		check_equal(ipc_channel_open(&channel, fds[0], NULL), 0);
		check_equal(ipc_channel_recv(channel, &message, 1000), -EPROTO);
		ipc_channel_close(channel);
		check(now_ms() - start_ms < CALL_MS);
		check_equal(close(fds[1]), 0);
	}
	lingering_end();
}

static void
so_they_are_in_a_loop(void **state)
{
	struct ipc_channel *channel;
	struct ipc_loop *loop;
	struct ear ear;
	int64_t start_ms;
	unsigned int kind;
	int fds[2];

	(void)state;
	for (kind = 0; kind < 3; kind++) {
		loop = loop_open(NULL);
		ear = (struct ear){.messages = 0};
		raw_pair(fds);
		send_forbidden(fds[1], kind);
		start_ms = now_ms();
		check_equal(ipc_channel_open(&channel, fds[0], NULL), 0);
		ear_attach(&ear, loop, channel);
		turn_until(loop, ear.closeds);
		check_equal(ear.reason, -EPROTO);
		ipc_channel_close(channel);
		ipc_loop_destroy(loop);
		check(now_ms() - start_ms < CALL_MS);
		check_equal(close(fds[1]), 0);
	}
	lingering_end();
}

static void
unread_ones_do_not_hold_up_a_close(void **state)
{
	static const uint32_t fds_max[] = {0, 1};
	struct ipc_channel *channel;
	int64_t start_ms;
	unsigned int i, attached;
	struct ipc_loop *loop;
	struct ear ear;
	int fds[2];

	(void)state;
	for (i = 0; i < 4; i++) {
		attached = i / 2;
		loop = loop_open(NULL);
		ear = (struct ear){.messages = 0};
		raw_pair(fds);
		send_forbidden(fds[1], 2);
		check_equal(
			ipc_channel_open(&channel, fds[0], OPTIONS(.fds_max = fds_max[i % 2])), 0);
		start_ms = now_ms();
		if (attached)
			ear_attach(&ear, loop, channel);
		ipc_channel_close(channel);
		check(now_ms() - start_ms < CALL_MS);
		ipc_loop_destroy(loop);
		check_equal(close(fds[1]), 0);
	}
	lingering_end();
}

/* The application looks at the message and does not take the descriptor. */
static void
what_nobody_took_does_not_hold_up_what_follows(void **state)
{
	struct ipc_channel *channel;
	struct ipc_message message;
	int64_t start_ms;
	int peer;

	(void)state;
	channel = raw_channel(&peer, OPTIONS(.fds_max = 1));
	lingering_pass(peer, text_packet("text", true));
	raw_send_packet(peer, packet_text("next"));
	raw_send_packet(peer, packet_text("last"));
	start_ms = now_ms();
	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.n_fds, 1);
	expect_text(channel, "next");
	expect_text(channel, "last");
	ipc_channel_close(channel);
	check(now_ms() - start_ms < CALL_MS);
	check_equal(close(peer), 0);
	lingering_end();
}

static void
nor_anything_else_in_a_loop(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_channel *channel, *own, *other;
	struct ear ear = {.messages = 0}, own_ear = {.messages = 0};
	int64_t start_ms, sent_ms;
	unsigned int i;
	int peer;

	(void)state;
	channel = raw_channel(&peer, OPTIONS(.fds_max = 1));
	pair_open(&own, &other, OPTIONS(.fds_max = 1));
	ear_attach(&ear, loop, channel);
	ear_attach(&own_ear, loop, own);
	lingering_pass(peer, text_packet("text", true));
	raw_send_packet(peer, packet_text("next"));
	turn_until(loop, ear.messages > 0);
	start_ms = now_ms();
	for (i = 1; i <= 10; i++) {
		send_text(other, "text");
		sent_ms = now_ms();
		turn_until(loop, own_ear.messages == i);
		check(now_ms() - sent_ms < CALL_MS);
	}
	turn_until(loop, ear.messages == 2);
	ipc_channel_close(channel);
	check(now_ms() - start_ms < CALL_MS);
	ipc_channel_close(own);
	ipc_channel_close(other);
	ipc_loop_destroy(loop);
	check_equal(close(peer), 0);
	lingering_end();
}

/* Their number is bounded: the peer that goes on and on ends its channel. */
static void
a_peer_that_sends_more_and_more_of_them_ends(void **state)
{
	struct lingering lingering = lingering_open();
	const struct packet *packet;
	struct ipc_channel *channel;
	struct ipc_message message;
	unsigned int i;
	int peer, r = 0;

	(void)state;
	channel = raw_channel(&peer, OPTIONS(.fds_max = IPC_MESSAGE_FDS_LIMIT));
	/* The first one is stuck, the others are behind it. */
	packet = text_packet("text", true);
	check_equal(raw_send_fds(peer, packet->bytes, packet->size, lingering.fd, 1),
		(ssize_t)packet->size);
	check_equal(close(lingering.fd), 0);
	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_recv(channel, &message, 0), -EAGAIN);
	for (i = 0; i < 3 * IPC_MESSAGE_FDS_LIMIT && r == 0; i++) {
		check_equal(raw_send_fds(peer, packet->bytes, packet->size, peer, 1),
			(ssize_t)packet->size);
		r = ipc_channel_recv(channel, &message, TEST_WAIT_MS);
	}
	check_equal(r, -EPROTO);
	check(i > IPC_MESSAGE_FDS_LIMIT);
	ipc_channel_close(channel);
	check_equal(close(peer), 0);
	check_equal(close(lingering.other), 0);
}

/* The head of a large message with as many duplicates of a socket that lingers, and no more of it.
 */
static void
send_head_with_many(int peer)
{
	struct packet *packet = packet_begin(IPCI_KIND_MESSAGES, IPC_MESSAGE_FDS_LIMIT);
	struct lingering lingering = lingering_open();

	packet_run(packet, 0, IPCI_RUN_FDS | IPCI_RUN_LARGE, IPC_MESSAGE_FDS_LIMIT);
	packet_word(packet, 1000);
	packet = packet_end(packet);
	check_equal(raw_send_fds(
			    peer, packet->bytes, packet->size, lingering.fd, IPC_MESSAGE_FDS_LIMIT),
		(ssize_t)packet->size);
	check_equal(close(lingering.fd), 0);
	check(n_others < OTHERS_MAX);
	others[n_others++] = lingering.other;
}

/* A loop takes the descriptors of such messages away where they are in the way of others. */
static void
nor_what_a_loop_takes_away(void **state)
{
	struct ipc_channel *bad[3], *good;
	struct ear bad_ears[3] = {{.messages = 0}}, ear = {.messages = 0};
	int peers[3], peer, i;
	struct ipc_loop *loop = loop_open(NULL);
	struct rlimit limit;
	int64_t start_ms;

	(void)state;
	skip_without_descriptor_limit();
	check_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 1024;
	check_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	good = raw_channel(&peer, OPTIONS(.fds_max = 1));
	ear_attach(&ear, loop, good);
	for (i = 0; i < 3; i++) {
		bad[i] = raw_channel(&peers[i], OPTIONS(.fds_max = IPC_MESSAGE_FDS_LIMIT));
		ear_attach(&bad_ears[i], loop, bad[i]);
	}
	start_ms = now_ms();
	for (i = 0; i < 3; i++) {
		send_head_with_many(peers[i]);
		(void)ipc_loop_turn(loop, 50);
	}
	raw_send_packet(peer, packet_text("text"));
	turn_until(loop, ear.messages);
	check(now_ms() - start_ms < CALL_MS);
	lingering_end();
	for (i = 0; i < 3; i++) {
		ipc_channel_close(bad[i]);
		check_equal(close(peers[i]), 0);
	}
	ipc_channel_close(good);
	check_equal(close(peer), 0);
	ipc_loop_destroy(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(to_an_end_that_takes_none_they_are_an_error),
		loop_test(so_they_are_in_a_loop),
		loop_test(unread_ones_do_not_hold_up_a_close),
		loop_test(what_nobody_took_does_not_hold_up_what_follows),
		loop_test(nor_anything_else_in_a_loop),
		loop_test(nor_what_a_loop_takes_away),
		loop_test(a_peer_that_sends_more_and_more_of_them_ends),
	};

	return run_on_engines(tests);
}
