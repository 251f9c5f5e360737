/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "faults.h"
#include "faults_traffic.h"

/* Bytes of any message here, and messages that may be on their way. */
#define SIZE_MAX_USED 60000
#define EXPECTED_MAX  512

/* Long enough for what is there already, short enough to wait in vain very often. */
#define WAIT_MS 1

/* A message that was taken and is to arrive. */
struct expected {
	uint32_t key; /* of its content; its type is the lower half */
	uint32_t n_fds;
	size_t size;
	uint64_t id;
	uint16_t flags;
	bool maybe; /* its sender cannot know whether it was taken */
};

/* One direction. */
struct way {
	struct ipc_channel *from, *to;
	struct expected queue[EXPECTED_MAX];
	unsigned int first, end;
};

struct traffic {
	const struct use *use;
	struct ipc_channel *a, *b;
	struct way there, back; /* a to b, b to a */
	uint32_t keys;
	int file;  /* what is passed as a descriptor */
	bool dead; /* the fault broke a channel, as the manual says */
};

static unsigned char content[SIZE_MAX_USED];

/* What the manual says of an error of the kernel that the library cannot get over. */
static bool
is_explained(int error, int r)
{
	switch (error) {
	case EAGAIN:
	case ETOOMANYREFS:
		return r == -EAGAIN || r == -ETIMEDOUT;
	case ECONNRESET:
		return r == -EPIPE;
	case EPERM:
		/* The socket refuses descriptors that the hello took. */
		return r == -EPERM || r == -EPROTO;
	default:
		return r == -error;
	}
}

/*
 * Judge the failure of a call: the fault must have happened in it, and explain it. Return: whether
 * to make the call again. A fault that stays passes after it was met twice in a row.
 */
static bool
again(struct traffic *traffic, unsigned int happened_before, int r, unsigned int *failures)
{
	if (traffic->use->every_call_works || fault_count() == happened_before ||
		!is_explained(fault_error(), r)) {
		(void)fprintf(stderr, "result %d, %s, happened %u times in this call\n", r,
			fault_text(), fault_count() - happened_before);
		check(false);
	}
	if (r == -EPROTO)
		traffic->dead = true;
	if (++*failures == 2)
		fault_pass();
	return !traffic->dead;
}

/* Make a call of the library until no fault is in its way. waits: it may find that it had to
   wait in vain. */
#define attempt(traffic, waits, call)                                         \
	__extension__({                                                       \
		unsigned int failures_ = 0, happened_;                        \
		int r_;                                                       \
                                                                              \
		do {                                                          \
			happened_ = fault_count();                            \
			r_ = (traffic)->dead ? -EPROTO : LIBRARY(call);       \
		} while (r_ < 0 && !(traffic)->dead &&                        \
			 !((waits) && (r_ == -EAGAIN || r_ == -ETIMEDOUT)) && \
			 again((traffic), happened_, r_, &failures_));        \
		r_;                                                           \
	})

#define insist(traffic, call) ((void)attempt(traffic, false, call))

static struct expected *
expect_later(struct way *way, const struct ipc_message *message, uint32_t key)
{
	struct expected *expected = &way->queue[way->end++];

	check(way->end <= EXPECTED_MAX);
	*expected = (struct expected){
		.key = key,
		.n_fds = message->n_fds,
		.size = message->size,
		.id = message->id,
		.flags = message->flags,
	};
	return expected;
}

/* A new message that is like no other. */
static struct ipc_message
new_message(struct traffic *traffic, size_t size, unsigned int n_fds)
{
	static int fds[IPC_MESSAGE_FDS_LIMIT];
	unsigned int i;

	check(size <= sizeof(content));
	if (!traffic->use->options.fds_max)
		n_fds = 0;
	for (i = 0; i < n_fds; i++)
		fds[i] = traffic->file;
	traffic->keys++;
	fill(content, size, traffic->keys);
	return (struct ipc_message){
		.data = content,
		.size = size,
		.type = (uint16_t)traffic->keys,
		.fds = fds,
		.n_fds = n_fds,
	};
}

static void
expect_equal(struct traffic *traffic, struct ipc_message *message, const struct expected *expected)
{
	unsigned int i;
	int fd;

	check_equal(message->size, expected->size);
	check_equal(message->type, (uint16_t)expected->key);
	check_equal(message->flags, expected->flags);
	check_equal(message->n_fds, expected->n_fds);
	check_equal(message->size ? (uintptr_t)message->data % 8 : 0, 0);
	check(is_filled(message->data, message->size, expected->key));
	for (i = 0; i < message->n_fds; i++)
		check(is_same_file(message->fds[i], traffic->file));
	/* One is taken, the others are left to the channel. */
	if (message->n_fds) {
		fd = ipc_message_take_fd(message, message->n_fds / 2);
		check_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		check_equal(close(fd), 0);
	}
}

/* A message came: it is the next that was taken. */
static void
expect_next(struct traffic *traffic, struct way *way, struct ipc_message *message)
{
	check(way->first < way->end);
	while (way->queue[way->first].maybe &&
		message->type != (uint16_t)way->queue[way->first].key) {
		way->first++;
		check(way->first < way->end);
	}
	expect_equal(traffic, message, &way->queue[way->first++]);
}

/* Receive all that was taken, in order, once. */
static void
receive_all(struct traffic *traffic, struct way *way)
{
	struct ipc_message message;

	while (way->first < way->end && !traffic->dead) {
		insist(traffic, ipc_channel_recv(way->to, &message, WAIT_MS));
		if (!traffic->dead)
			expect_next(traffic, way, &message);
	}
	way->first = way->end = 0;
}

static void
send_one(struct traffic *traffic, struct way *way, size_t size, unsigned int n_fds)
{
	struct ipc_message message = new_message(traffic, size, n_fds);

	insist(traffic, ipc_channel_send(way->from, &message, WAIT_MS));
	expect_later(way, &message, traffic->keys);
}

static void
post_one(struct traffic *traffic, struct way *way, size_t size, unsigned int n_fds)
{
	struct ipc_message message = new_message(traffic, size, n_fds);

	insist(traffic, ipc_channel_post(way->from, &message, WAIT_MS));
	expect_later(way, &message, traffic->keys);
}

static void
flush(struct traffic *traffic, struct way *way)
{
	insist(traffic, ipc_channel_flush(way->from, WAIT_MS));
}

static void
use_small(struct traffic *traffic, struct way *way)
{
	unsigned int i;

	for (i = 0; i < 5; i++)
		post_one(traffic, way, i * 7, 0);
	flush(traffic, way);
	flush(traffic, way);
	send_one(traffic, way, 100, 0);
	receive_all(traffic, way);
}

static void
use_descriptors(struct traffic *traffic, struct way *way)
{
	post_one(traffic, way, 10, 1);
	post_one(traffic, way, 10, 0);
	post_one(traffic, way, 0, 3);
	post_one(traffic, way, 200, 0);
	send_one(traffic, way, 300, 2);
	send_one(traffic, way, 1, 1);
	receive_all(traffic, way);
}

/* A record that is rather full, with descriptors at its beginning, middle and end. */
static void
use_full_record(struct traffic *traffic, struct way *way)
{
	unsigned int i;

	for (i = 0; i < 40; i++)
		post_one(traffic, way, i % 4 * 333, i % 13 == 0 ? 2 : 0);
	flush(traffic, way);
	receive_all(traffic, way);
}

/* Sent where it lies, behind others; and larger than a record. */
static void
use_large(struct traffic *traffic, struct way *way)
{
	post_one(traffic, way, 5, 1);
	send_one(traffic, way, 3001, 2);
	send_one(traffic, way, 3000, 0);
	receive_all(traffic, way);
	post_one(traffic, way, 5, 0);
	send_one(traffic, way, 40001, 3);
	receive_all(traffic, way);
	post_one(traffic, way, traffic->use->posted_max, 0);
	flush(traffic, way);
	receive_all(traffic, way);
}

/* More than the socket takes: what is refused was not taken. */
static void
use_full_socket(struct traffic *traffic, struct way *way)
{
	struct ipc_message message;
	unsigned int i;
	int r = 0;

	for (i = 0; i < EXPECTED_MAX - 1 && r == 0; i++) {
		message = new_message(traffic, 4000, i % 8 == 0);
		r = attempt(
			traffic, true, ipc_channel_post(way->from, &message, i % 2 ? 0 : WAIT_MS));
		if (r == 0)
			expect_later(way, &message, traffic->keys);
	}
	check(traffic->dead || fault_count() || r < 0);

	/* Both sides go on by turns. */
	do {
		while (attempt(traffic, true, ipc_channel_recv(way->to, &message, 0)) == 0)
			expect_next(traffic, way, &message);
		r = attempt(traffic, true, ipc_channel_flush(way->from, 0));
		if (r == -EAGAIN && fault_count())
			fault_pass();
	} while (r == -EAGAIN);
	receive_all(traffic, way);
}

/* Nothing is there: neither at once nor in a while. */
static void
use_timeouts(struct traffic *traffic, struct way *way)
{
	struct ipc_message message;
	int timeout_ms, r;

	for (timeout_ms = 0; timeout_ms <= WAIT_MS; timeout_ms++) {
		r = attempt(traffic, true, ipc_channel_recv(way->to, &message, timeout_ms));
		check(traffic->dead || r == (timeout_ms ? -ETIMEDOUT : -EAGAIN));
	}
}

/* The answer is there before the question, behind messages that the call keeps. */
static void
use_call(struct traffic *traffic)
{
	struct ipc_message request = {.id = 77}, message, reply;
	struct way *there = &traffic->there, *back = &traffic->back;
	unsigned int at, happened, failures = 0;
	int r;

	post_one(traffic, back, 50, 0);
	post_one(traffic, back, 2000, 2);
	message = new_message(traffic, 500, 1);
	insist(traffic, ipc_channel_reply(back->from, &request, &message, WAIT_MS));
	message.id = request.id;
	message.flags = IPC_MESSAGE_REPLY;
	at = back->end;
	expect_later(back, &message, traffic->keys);
	send_one(traffic, back, 60, 0);

	do {
		/* Each question has its own content: one that failed may have been sent. */
		request = new_message(traffic, 30, 1);
		request.id = 77;
		expect_later(there, &request, traffic->keys)->maybe = true;
		happened = fault_count();
		r = traffic->dead
		            ? 0
		            : LIBRARY(ipc_channel_call(traffic->a, &request, &reply, WAIT_MS));
	} while (r < 0 && again(traffic, happened, r, &failures));
	if (traffic->dead)
		return;
	there->queue[there->end - 1].maybe = false;
	expect_equal(traffic, &reply, &back->queue[at]);
	memmove(&back->queue[at], &back->queue[at + 1],
		(back->end - at - 1) * sizeof(back->queue[0]));
	back->end--;
	receive_all(traffic, there);
	receive_all(traffic, back);
}

/* A call that does not wait, and the answer that comes too late: nobody sees it. */
static void
use_late_reply(struct traffic *traffic)
{
	struct ipc_message request = new_message(traffic, 30, 0), reply, message;
	int r;

	r = attempt(traffic, true, ipc_channel_call(traffic->a, &request, &message, 0));
	check(traffic->dead || r == -EAGAIN);
	r = attempt(traffic, true, ipc_channel_recv(traffic->b, &message, 0));
	if (r == -EAGAIN && fault_count()) {
		fault_pass();
		r = attempt(traffic, true, ipc_channel_recv(traffic->b, &message, 0));
	}
	if (r < 0) {
		check(traffic->dead || fault_count());
		return;
	}
	check(message.id >= IPC_MESSAGE_ID_CALL);
	reply = new_message(traffic, 10, 1);
	insist(traffic, ipc_channel_reply(traffic->b, &message, &reply, WAIT_MS));
	r = attempt(traffic, true, ipc_channel_recv(traffic->a, &message, 0));
	check(traffic->dead || r == -EAGAIN);
}

/* A peer that writes nonsense behind its channel's back. */
static void
use_broken(struct traffic *traffic)
{
	struct ipc_message message;
	unsigned int happened, failures = 0;
	int r;

	/* What either end has when it ends is closed with it. */
	post_one(traffic, &traffic->back, 5, 2);
	post_one(traffic, &traffic->there, 5, 2);
	post_one(traffic, &traffic->there, 5, 1);
	flush(traffic, &traffic->there);
	insist(traffic, ipc_channel_recv(traffic->b, &message, WAIT_MS));
	post_one(traffic, &traffic->there, 6, 1);
	if (traffic->dead)
		return;

	check_equal(send(ipc_channel_fd(traffic->b), "nonsense", 8, MSG_NOSIGNAL), 8);
	do {
		happened = fault_count();
		r = LIBRARY(ipc_channel_recv(traffic->a, &message, WAIT_MS));
		/* One that could not be gathered was sent at once. */
		if (r == 0)
			expect_next(traffic, &traffic->back, &message);
	} while (r == 0 || (r != -EPROTO && again(traffic, happened, r, &failures)));
	message = new_message(traffic, 1, 0);
	check_equal(LIBRARY(ipc_channel_send(traffic->a, &message, WAIT_MS)), -EPROTO);
	check_equal(LIBRARY(ipc_channel_recv(traffic->a, &message, 0)), -EPROTO);
}

static void
make_pair(struct traffic *traffic)
{
	struct ipc_channel *a = NULL, *b = NULL;
	unsigned int open = descriptors_open(), happened, failures = 0;
	int r;

	do {
		check(!a && !b);
		check_equal(descriptors_open(), open);
		check_equal(fault_memory(), 0);
		happened = fault_count();
		r = LIBRARY(ipc_channel_pair(&a, &b, &traffic->use->options));
	} while (r < 0 && again(traffic, happened, r, &failures));
	traffic->a = a;
	traffic->b = b;
}

/* An end that another program would have been given. */
static void
inherit(struct traffic *traffic, int fd)
{
	unsigned int open = descriptors_open(), happened, failures = 0;
	long memory = fault_memory();
	char text[64];
	int r;

	(void)snprintf(text, sizeof(text), "%d:%d", fd, getpid());
	check_equal(setenv("LIBIPC_CHANNEL", text, 1), 0);
	do {
		check_equal(descriptors_open(), open);
		check_equal(fault_memory(), memory);
		check(getenv("LIBIPC_CHANNEL"));
		happened = fault_count();
		r = LIBRARY(ipc_channel_inherit(&traffic->b, &traffic->use->options));
	} while (r < 0 && again(traffic, happened, r, &failures));
	check(!getenv("LIBIPC_CHANNEL"));
}

static void
make_apart(struct traffic *traffic)
{
	unsigned int happened, failures = 0;
	int fds[2], r;

	check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	do {
		check_equal(fault_memory(), 0);
		check(fcntl(fds[0], F_GETFD) >= 0);
		happened = fault_count();
		r = LIBRARY(ipc_channel_open(&traffic->a, fds[0], &traffic->use->options));
	} while (r < 0 && again(traffic, happened, r, &failures));
	inherit(traffic, fds[1]);
	check_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	check_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
}

static void
make_channels(struct traffic *traffic)
{
	/* Neither end can be gone before it is there. */
	fault_hold(fault_error() == EPIPE || fault_error() == ECONNRESET);
	if (traffic->use->making == MAKING_PAIR)
		make_pair(traffic);
	else
		make_apart(traffic);
	fault_hold(false);
	traffic->there = (struct way){.from = traffic->a, .to = traffic->b};
	traffic->back = (struct way){.from = traffic->b, .to = traffic->a};
}

void
use_channels(const struct use *use)
{
	static struct traffic traffic;
	unsigned int n_open = descriptors_open();
	int i;

	traffic = (struct traffic){.use = use};
	check((traffic.file = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
	make_channels(&traffic);
	for (i = 0; i < 2; i++) {
		use_small(&traffic, i ? &traffic.back : &traffic.there);
		use_descriptors(&traffic, i ? &traffic.back : &traffic.there);
	}
	use_timeouts(&traffic, &traffic.there);
	use_full_record(&traffic, &traffic.there);
	use_large(&traffic, &traffic.there);
	use_call(&traffic);
	use_full_socket(&traffic, &traffic.there);
	use_small(&traffic, &traffic.there);
	use_late_reply(&traffic);
	use_broken(&traffic);

	check(!LIBRARY(ipc_channel_close(traffic.a)));
	check(!LIBRARY(ipc_channel_close(traffic.b)));
	check_equal(close(traffic.file), 0);
	check_equal(fault_memory(), 0);
	check_equal(descriptors_open(), n_open);
}
