/* SPDX-License-Identifier: MIT */

/*
 * A parent whose worker is written in another language: worker.py, which knows libipc
 * from docs/PROTOCOL.md alone.
 *
 *   python_worker [WORKER.PY]
 */

#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libipc.h>

#define FILES_MAX 16

/* A worker that takes longer to end is helped. */
#define GRACE_MS 10000

static int
start_worker(const char *script, struct ipc_worker **ret_worker)
{
	const struct ipc_channel_options channel = {.size = sizeof(channel), .fds_max = FILES_MAX};
	char *const argv[] = {(char *)"python3", (char *)script, NULL};
	const struct ipc_worker_options options = {
		.size = sizeof(options), .argv = argv, .channel = &channel};
	int r = ipc_worker_spawn(ret_worker, &options);

	if (r < 0)
		fprintf(stderr, "python_worker: python3: %s\n", strerror(-r));
	return r;
}

static int
call(struct ipc_channel *channel, const struct ipc_message *request, struct ipc_message *ret_reply)
{
	int r = ipc_channel_call(channel, request, ret_reply, -1);

	if (r < 0)
		fprintf(stderr, "python_worker: no answer: %s\n", strerror(-r));
	else if (ret_reply->type != request->type)
		fprintf(stderr, "python_worker: an answer of type %u\n", ret_reply->type);
	else
		return 0;
	return -1;
}

static unsigned char
upper(unsigned char c)
{
	return c >= 'a' && c <= 'z' ? (unsigned char)(c - 'a' + 'A') : c;
}

/* A payload of this size comes back in upper case. */
static int
shout(struct ipc_channel *channel, size_t size)
{
	struct ipc_message request = {.size = size, .type = 7}, reply;
	unsigned char *payload = malloc(size + 1);
	const unsigned char *answer;
	size_t i;

	if (!payload)
		return -1;
	for (i = 0; i < size; i++)
		payload[i] = (unsigned char)(i * 31 + i / 251);
	request.data = payload;
	if (call(channel, &request, &reply) < 0) {
		free(payload);
		return -1;
	}

	answer = reply.data;
	for (i = 0; i < size && i < reply.size; i++)
		if (answer[i] != upper(payload[i]))
			break;
	free(payload);
	if (reply.size != size || i != size) {
		fprintf(stderr, "python_worker: of %zu bytes, %zu came back, wrong from %zu on\n",
			size, reply.size, i);
		return -1;
	}
	printf("%zu bytes came back in upper case\n", size);
	return 0;
}

/* Many requests in one record; the answers come in their order. */
static int
shout_many(struct ipc_channel *channel)
{
	struct ipc_message reply;
	char text[32];
	unsigned int i;
	int length, r;

	for (i = 1; i <= 1000; i++) {
		length = snprintf(text, sizeof(text), "number %u", i);
		r = ipc_channel_post(channel,
			&(struct ipc_message){.data = text, .size = (size_t)length, .id = i}, -1);
		if (r < 0)
			goto fail;
	}
	r = ipc_channel_flush(channel, -1);
	for (i = 1; i <= 1000 && r == 0; i++) {
		length = snprintf(text, sizeof(text), "NUMBER %u", i);
		r = ipc_channel_recv(channel, &reply, -1);
		if (r == 0 && (reply.id != i || !(reply.flags & IPC_MESSAGE_REPLY) ||
				      reply.size != (size_t)length ||
				      memcmp(reply.data, text, reply.size) != 0)) {
			fprintf(stderr, "python_worker: a wrong answer to %s\n", text);
			return -1;
		}
	}
	if (r == 0) {
		printf("1000 requests at once came back in order\n");
		return 0;
	}
fail:
	fprintf(stderr, "python_worker: %s\n", strerror(-r));
	return -1;
}

/* The worker says the sizes of files, and gives the descriptors back. */
static int
measure(struct ipc_channel *channel, uint32_t n_fds, size_t payload_size)
{
	struct ipc_message request = {.type = 9, .n_fds = n_fds}, reply;
	struct stat sent, back;
	char *payload = calloc(payload_size + 1, 1);
	int fds[FILES_MAX], result = -1;
	int64_t size;
	uint32_t i;

	for (i = 0; i < n_fds; i++) {
		fds[i] = memfd_create("file", MFD_CLOEXEC);
		if (ftruncate(fds[i], (off_t)i * 1000 + 1) < 0)
			perror("python_worker: ftruncate");
	}
	request.fds = fds;
	request.data = payload;
	request.size = payload_size;
	if (!payload || call(channel, &request, &reply) < 0)
		goto finish;

	if (reply.size != n_fds * sizeof(size) || reply.n_fds != n_fds) {
		fprintf(stderr, "python_worker: %zu bytes and %u descriptors for %u files\n",
			reply.size, reply.n_fds, n_fds);
		goto finish;
	}
	for (i = 0; i < n_fds; i++) {
		memcpy(&size, (const char *)reply.data + i * sizeof(size), sizeof(size));
		if (size != (int64_t)i * 1000 + 1 || fstat(fds[i], &sent) < 0 ||
			fstat(reply.fds[i], &back) < 0 || sent.st_ino != back.st_ino) {
			fprintf(stderr, "python_worker: file %u is another one\n", i);
			goto finish;
		}
	}
	printf("%u files beside %zu bytes were measured and came back\n", n_fds, payload_size);
	result = 0;

finish:
	for (i = 0; i < n_fds; i++)
		close(fds[i]);
	free(payload);
	return result;
}

static int
use_worker(struct ipc_channel *channel)
{
	static const size_t sizes[] = {0, 5, 4096, 65536, 1 << 20, 5 << 20};
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		if (shout(channel, sizes[i]) < 0)
			return -1;
	if (shout_many(channel) < 0 || measure(channel, 1, 0) < 0)
		return -1;
	if (measure(channel, FILES_MAX, 3) < 0)
		return -1;
	/* Descriptors of a message in fragments travel with its head. */
	return measure(channel, 2, 1 << 20);
}

int
main(int argc, char **argv)
{
	struct ipc_worker *worker;
	int status, r;

	if (argc > 2) {
		fprintf(stderr, "usage: python_worker [WORKER.PY]\n");
		return 2;
	}
	if (start_worker(argc == 2 ? argv[1] : "worker.py", &worker) < 0)
		return 1;
	r = use_worker(ipc_worker_channel(worker));

	/* The worker's receive ends, and so does it. */
	if (ipc_worker_stop(worker, GRACE_MS, &status) == 0 && status == 0)
		printf("the worker ended with its channel\n");
	else
		r = -1;
	ipc_worker_free(worker);
	return r < 0;
}
