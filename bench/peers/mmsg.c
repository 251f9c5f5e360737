/* SPDX-License-Identifier: MIT */

/*
 * sendmmsg(2) and recvmmsg(2) over SOCK_SEQPACKET: a packet a message, and a system call for many.
 * The receiver takes what is there and waits for the first alone (MSG_WAITFORONE). A round trip
 * has one message to send.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "peer.h"
#include "../raw.h"

/* Messages of one call. */
#define BATCH 64U

struct end {
	struct bench_side *side;
	unsigned int batch; /* how many are sent at once */
	unsigned int n_out, n_in, next_in;
	struct iovec iov_out[BATCH], iov_in[BATCH];
	struct mmsghdr out[BATCH], in[BATCH];
};

static const char *
refuse_size(const struct bench_config *config)
{
	size_t packet_max;

	if (bench_raw_packet_max(config->send_buffer, &packet_max) < 0 || config->size > packet_max)
		return "a packet must fit into the socket buffer: 208 KiB by default";
	return NULL;
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	struct end *end = calloc(1, sizeof(*end));
	size_t size = side->config->size;
	uint8_t *buffer = bench_side_payload(side, size * BATCH);

	(void)meeting;
	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->batch = side->config->bench->shape == BENCH_LATENCY ? 1 : BATCH;
	for (unsigned int i = 0; i < BATCH; i++) {
		end->iov_in[i] = (struct iovec){.iov_base = buffer + i * size, .iov_len = size};
		end->in[i].msg_hdr.msg_iov = &end->iov_in[i];
		end->in[i].msg_hdr.msg_iovlen = 1;
		end->out[i].msg_hdr.msg_iov = &end->iov_out[i];
		end->out[i].msg_hdr.msg_iovlen = 1;
	}
	return end;
}

static bool
is_passing(const struct bench_side *side)
{
	return errno == EINTR || (side->spins && errno == EAGAIN);
}

static void
flush(void *to)
{
	struct end *end = to;
	int flags = MSG_NOSIGNAL | (end->side->spins ? MSG_DONTWAIT : 0);

	for (unsigned int at = 0; at < end->n_out;) {
		int n = sendmmsg(end->side->fd, end->out + at, end->n_out - at, flags);

		end->side->account->syscalls++;
		if (n > 0)
			at += (unsigned int)n;
		else if (!is_passing(end->side))
			bench_side_fail(end->side, "sendmmsg", -errno);
	}
	end->n_out = 0;
}

static void
send_batch(void *to, const void *data)
{
	struct end *end = to;

	end->iov_out[end->n_out++] = (struct iovec){
		.iov_base = (void *)(uintptr_t)data, .iov_len = end->side->config->size};
	if (end->n_out == end->batch)
		flush(end);
}

static const void *
receive_batch(void *from)
{
	struct end *end = from;
	int n;

	if (end->next_in < end->n_in)
		return end->iov_in[end->next_in++].iov_base;
	do {
		n = recvmmsg(end->side->fd, end->in, BATCH,
			MSG_WAITFORONE | (end->side->spins ? MSG_DONTWAIT : 0), NULL);
		end->side->account->syscalls++;
	} while (n < 0 && is_passing(end->side));
	if (n <= 0 || end->in[0].msg_len == 0)
		bench_side_fail(end->side, "recvmmsg", n < 0 ? -errno : -EPIPE);
	end->n_in = (unsigned int)n;
	end->next_in = 1;
	return end->iov_in[0].iov_base;
}

const struct bench_peer bench_peers[] = {
	{
		.name = "mmsg",
		.about = "sendmmsg and recvmmsg over SOCK_SEQPACKET, up to 64 messages a call",
		.waits = BENCH_WAITS_SPINNING | BENCH_WAITS_SLEEPING,
		.refuses = refuse_size,
		.open = open_end,
		.send = send_batch,
		.receive = receive_batch,
		.flush = flush,
	},
	{0},
};
