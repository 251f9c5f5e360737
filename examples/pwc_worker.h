/* SPDX-License-Identifier: MIT */
#ifndef PWC_WORKER_H
#define PWC_WORKER_H

/*
 * The worker's half of pwc: a confined process that counts the files which it is given.
 *
 * A request has an id and one descriptor; its reply is a struct pwc_counts.
 */

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <libipc.h>

#include "confine.h"
#include "say.h"

#define PWC_BUFFER_SIZE (256U << 10)

struct pwc_counts {
	uint64_t lines, words, bytes;
	int32_t error; /* 0, or an errno: what the file could not be read for */
	int32_t reserved;
};

/* What a byte means in the C locale. A word is what stands between spaces, if there is anything
   printable in it: so counts GNU wc. */
enum { PWC_OTHER, PWC_SPACE, PWC_PRINTABLE };

static void
pwc_classify(uint8_t class[256])
{
	int c;

	for (c = 0; c < 256; c++)
		class[c] = c > ' ' && c < 0x7F ? PWC_PRINTABLE : PWC_OTHER;
	for (c = '\t'; c <= '\r'; c++)
		class[c] = PWC_SPACE;
	class[' '] = PWC_SPACE;
}

static void
pwc_count(int fd, const uint8_t class[256], struct pwc_counts *ret_counts)
{
	static uint8_t buffer[PWC_BUFFER_SIZE];
	struct pwc_counts counts = {0};
	bool in_word = false;
	ssize_t n, i;

	/* Not read(2): a worker that died over the file has left its offset somewhere. */
	while ((n = pread(fd, buffer, sizeof(buffer), (off_t)counts.bytes)) != 0) {
		if (n < 0) {
			counts.error = errno;
			break;
		}
		for (i = 0; i < n; i++) {
			uint8_t is = class[buffer[i]];

			counts.lines += buffer[i] == '\n';
			counts.words += (is == PWC_PRINTABLE) & !in_word;
			in_word = (is == PWC_PRINTABLE) | (in_word & (is == PWC_OTHER));
		}
		counts.bytes += (uint64_t)n;
	}
	*ret_counts = counts;
}

/* The next request. Replies are gathered while more requests are here, and sent before a wait. */
static int
pwc_next_request(struct ipc_channel *channel, struct ipc_message *ret_request)
{
	int r = ipc_channel_recv(channel, ret_request, 0);

	if (r != -EAGAIN)
		return r;
	r = ipc_channel_flush(channel, -1);
	return r < 0 ? r : ipc_channel_recv(channel, ret_request, -1);
}

/* Serve until the parent closes the channel. Return: the exit status. */
static int
pwc_work(struct ipc_channel *channel, void *arg)
{
	struct pwc_counts counts;
	struct ipc_message request,
		reply = {.data = &counts, .size = sizeof(counts), .flags = IPC_MESSAGE_REPLY};
	uint8_t class[256];
	int r;

	(void)arg;
	/* Ctrl-C and a terminal that is closed are the parent's, which decides. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	r = confine();
	if (r < 0) {
		say("cannot confine a worker: %s", strerror(-r));
		return 1;
	}
	pwc_classify(class);
	while ((r = pwc_next_request(channel, &request)) == 0 || r == -EBADMSG) {
		/* -EBADMSG: the file did not arrive. */
		if (r == 0 && request.n_fds == 1)
			pwc_count(request.fds[0], class, &counts);
		else
			counts = (struct pwc_counts){.error = EBADMSG};
		reply.id = request.id;
		r = ipc_channel_post(channel, &reply, -1);
		if (r < 0)
			break;
	}
	return r == -EPIPE ? 0 : 1;
}

#endif
