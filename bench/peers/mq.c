/* SPDX-License-Identifier: MIT */

/*
 * A POSIX message queue each way, as mq_overview(7) describes them: as long as an unprivileged
 * process may have them, and with messages as large. Their names are gone before a run begins.
 */

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "peer.h"

struct end {
	struct bench_side *side;
	mqd_t in, out;
	size_t size;
	char *buffer;
};

static long
limit(const char *path, long usual)
{
	FILE *file = fopen(path, "re");
	long value;

	if (!file)
		return usual;
	if (fscanf(file, "%ld", &value) != 1)
		value = usual;
	fclose(file);
	return value;
}

static const char *
refuse_size(const struct bench_config *config)
{
	static char reason[80];
	long max = limit("/proc/sys/fs/mqueue/msgsize_max", 8192);

	if (config->size <= (size_t)max)
		return NULL;
	snprintf(reason, sizeof(reason), "a message has at most %ld bytes (fs.mqueue.msgsize_max)",
		max);
	return reason;
}

static int
create(mqd_t *ret_queue, const struct bench_config *config)
{
	struct mq_attr attributes = {
		.mq_maxmsg = limit("/proc/sys/fs/mqueue/msg_max", 10),
		.mq_msgsize = (long)config->size,
	};
	char name[48];

	snprintf(name, sizeof(name), "/ipc-bench-%ld", (long)getpid());
	*ret_queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
	if (*ret_queue < 0)
		return -errno;
	mq_unlink(name);
	return 0;
}

static int
prepare(struct bench_meeting *meeting, const struct bench_config *config)
{
	mqd_t there, back;
	int r = create(&there, config);

	if (r < 0)
		return r;
	meeting->fds[BENCH_SENDER][BENCH_OUT] = there;
	r = create(&back, config);
	if (r < 0)
		return r;
	meeting->fds[BENCH_SENDER][BENCH_IN] = back;
	return 0;
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	const int *fds = meeting->fds[BENCH_SENDER];
	bool is_sender = side->role == BENCH_SENDER;
	struct mq_attr attributes = {.mq_flags = side->spins ? O_NONBLOCK : 0};
	struct end *end = calloc(1, sizeof(*end));

	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->in = fds[is_sender ? BENCH_IN : BENCH_OUT];
	end->out = fds[is_sender ? BENCH_OUT : BENCH_IN];
	end->size = side->config->size;
	end->buffer = bench_side_payload(side, end->size);
	if (mq_setattr(end->in, &attributes, NULL) < 0 ||
		mq_setattr(end->out, &attributes, NULL) < 0)
		bench_side_fail(side, "mq_setattr", -errno);
	return end;
}

static void
check(const struct end *end, const char *what)
{
	if (errno != EINTR && !(end->side->spins && errno == EAGAIN))
		bench_side_fail(end->side, what, -errno);
}

static void
send_message(void *to, const void *data)
{
	struct end *end = to;

	for (;;) {
		end->side->account->syscalls++;
		if (mq_send(end->out, data, end->size, 0) == 0)
			return;
		check(end, "mq_send");
	}
}

static const void *
receive_message(void *from)
{
	struct end *end = from;

	for (;;) {
		end->side->account->syscalls++;
		if (mq_receive(end->in, end->buffer, end->size, NULL) >= 0)
			return end->buffer;
		check(end, "mq_receive");
	}
}

const struct bench_peer bench_peers[] = {
	{
		.name = "mq",
		.about = "a POSIX message queue each way, as long as fs.mqueue.msg_max allows",
		.waits = BENCH_WAITS_SPINNING | BENCH_WAITS_SLEEPING,
		.refuses = refuse_size,
		.prepare = prepare,
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
	},
	{0},
};
