/* SPDX-License-Identifier: MIT */
#ifndef DUPS_WORKER_H
#define DUPS_WORKER_H

/*
 * The worker's half of dups: a confined process that computes the SHA-256 of files.
 *
 * A request has a file's size and its descriptor. Its replies are how many bytes are done, as long
 * as more follow, and then a struct answer.
 */

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

#include <libipc.h>

#include "confine.h"
#include "sha256.h"

#define PIECE_SIZE (16U << 20) /* bytes: after each a worker tells how far it is */

struct answer {
	int32_t error; /* 0, or an errno */
	unsigned char digest[SHA256_SIZE];
};

static int
hash_file(struct ipc_channel *channel, const struct ipc_message *request,
	unsigned char ret_digest[SHA256_SIZE])
{
	uint64_t size = *(const uint64_t *)request->data, done = 0;
	struct ipc_message progress = {
		.data = &done, .size = sizeof(done), .flags = IPC_MESSAGE_MORE};
	struct sha256 hash;
	size_t piece;
	void *bytes;

	sha256_init(&hash);
	while (done < size) {
		piece = size - done < PIECE_SIZE ? (size_t)(size - done) : PIECE_SIZE;
		/* A file that is cut short meanwhile, or whose disk fails, is a bus error here: it
		   kills this process, and no other. */
		bytes = mmap(NULL, piece, PROT_READ, MAP_PRIVATE, request->fds[0], (off_t)done);
		if (bytes == MAP_FAILED)
			return errno;
		sha256_add(&hash, bytes, piece);
		munmap(bytes, piece);
		done += piece;
		if (done < size && ipc_channel_reply(channel, request, &progress, -1) < 0)
			return EPIPE;
	}
	sha256_finish(&hash, ret_digest);
	return 0;
}

static int
work(struct ipc_channel *channel, void *arg)
{
	struct ipc_message request;
	int r;

	(void)arg;
	/* Ctrl-C is the parent's, which gives its workers time to finish. */
	signal(SIGINT, SIG_IGN);
	if (confine() < 0)
		return 1;
	while ((r = ipc_channel_recv(channel, &request, -1)) == 0 || r == -EBADMSG) {
		struct answer answer = {.error = EBADMSG};
		struct ipc_message reply = {.data = &answer, .size = sizeof(answer)};

		/* -EBADMSG: the descriptor was lost on its way. */
		if (r == 0)
			answer.error = hash_file(channel, &request, answer.digest);
		r = ipc_channel_reply(channel, &request, &reply, -1);
		if (r < 0)
			break;
	}
	return r == -EPIPE ? 0 : 1;
}

#endif
