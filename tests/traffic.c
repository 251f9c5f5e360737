/* SPDX-License-Identifier: MIT */

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"
#include "traffic.h"

/* So many messages are alike but for their payloads and ids, one row of two: they share a run. */
#define ROW 16

static int files[TRAFFIC_FDS_MAX];
static ino_t inodes[TRAFFIC_FDS_MAX];

void
traffic_open(void)
{
	struct stat stat;
	int i;

	for (i = 0; i < TRAFFIC_FDS_MAX; i++) {
		files[i] = memfd_create("traffic", MFD_CLOEXEC);
		check_equal(fstat(files[i], &stat), 0);
		inodes[i] = stat.st_ino;
	}
}

void
traffic_close(void)
{
	int i;

	for (i = 0; i < TRAFFIC_FDS_MAX; i++)
		check_equal(close(files[i]), 0);
}

/* All but the payload. */
static struct ipc_message
head_of(uint64_t key)
{
	static const uint16_t flags[] = {0, 0, IPC_MESSAGE_REPLY, IPC_MESSAGE_MORE};
	static const size_t limits[] = {1, 9, 65, 300, 300, 300, 2000, 9000};
	struct ipc_message message = {.size = 0};
	uint64_t draw;
	bool is_alone;

	fill(&draw, sizeof(draw), ~(key / ROW));
	is_alone = draw >> 32 & 1;
	if (is_alone)
		fill(&draw, sizeof(draw), ~key);
	message.size = (size_t)(draw >> 8) % limits[draw % 8];
	if (is_alone && draw % 1024 == 0)
		message.size = (size_t)(draw >> 11) % TRAFFIC_SIZE_MAX;
	message.type = (uint16_t)(draw >> 40);
	message.flags = flags[(draw >> 56) % 4];
	if (draw >> 60 == 0)
		message.n_fds = (uint32_t)(draw >> 58) % TRAFFIC_FDS_MAX + 1;
	message.id = draw >> 63 ? key : 0;
	return message;
}

struct ipc_message
traffic_message(uint64_t key)
{
	static unsigned char payload[TRAFFIC_SIZE_MAX];
	struct ipc_message message = head_of(key);

	message.data = payload;
	message.fds = files;
	fill(payload, message.size, key);
	return message;
}

void
traffic_verify(const struct ipc_message *message, uint64_t key)
{
	struct ipc_message expected = head_of(key);
	struct stat stat;
	uint32_t i;

	check_equal(message->size, expected.size);
	check_equal(message->type, expected.type);
	check_equal(message->flags, expected.flags);
	check_equal(message->id, expected.id);
	check_equal(message->n_fds, expected.n_fds);
	check(is_filled(message->data, message->size, key));
	for (i = 0; i < message->n_fds; i++) {
		check_equal(fstat(message->fds[i], &stat), 0);
		check_equal(stat.st_ino, inodes[i]);
	}
}
