/* SPDX-License-Identifier: MIT */

#include <linux/io_uring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "loop_support.h"

/* Turns that go on giving out without a pause: more is no end of work but a loop that has none. */
#define TURN_OUT_MAX 100000

static enum ipc_engine engine;
static bool in_callback;

enum ipc_engine
engine_now(void)
{
	return engine;
}

bool
is_on_uring(void)
{
	return engine == IPC_ENGINE_URING;
}

int
loop_test_begin(void **state)
{
	/* A test that failed within a callback did not leave it. */
	in_callback = false;
	return test_begin(state);
}

static bool
is_chosen(const char *name)
{
	const char *chosen = getenv("LIBIPC_ENGINE");

	return !chosen || !*chosen || strcmp(chosen, name) == 0;
}

static int
run_on(enum ipc_engine on, const struct CMUnitTest *tests, size_t n)
{
	engine = on;
	(void)printf("on %s:\n", is_on_uring() ? "io_uring" : "epoll");
	return run_test_group(tests, n);
}

/* Is there not even the memory to lock for the smallest ring? */
static bool
has_no_memlock(void)
{
	struct io_uring_params params = {.flags = 0};
	long fd = syscall(SYS_io_uring_setup, 1, &params);

	if (fd >= 0)
		(void)close((int)fd);
	return fd < 0 && errno == ENOMEM;
}

/* It may have an io_uring that lacks what a loop needs. */
static bool
is_kernel_before(unsigned int major, unsigned int minor)
{
	unsigned int here_major, here_minor;
	struct utsname name;

	check_equal(uname(&name), 0);
	check_equal(sscanf(name.release, "%u.%u", &here_major, &here_minor), 2);
	return here_major < major || (here_major == major && here_minor < minor);
}

/* Or is it the library that refuses, where nothing is to be passed over? */
static bool
is_the_machines(int refused)
{
	return refused == -EPERM || refused == -EACCES || refused == -ENOSYS ||
	       (refused == -ENOMEM && has_no_memlock()) || is_kernel_before(6, 1);
}

/* What a loop says that may choose. */
static void
print_reason(void)
{
	const char *chosen = getenv("LIBIPC_ENGINE");
	char *before = chosen ? strdup(chosen) : NULL;
	struct ipc_loop *loop;

	check_equal(unsetenv("LIBIPC_ENGINE"), 0);
	check_equal(ipc_loop_create(&loop, NULL), 0);
	(void)printf("part skipped: this machine lacks io_uring for a loop: %s\n",
		ipc_loop_engine_reason(loop));
	ipc_loop_destroy(loop);
	if (before)
		check_equal(setenv("LIBIPC_ENGINE", before, 1), 0);
	free(before);
}

int
uring_refusal(void)
{
	const struct ipc_loop_options options = {
		.size = sizeof(options), .engine = IPC_ENGINE_URING};
	const char *chosen = getenv("LIBIPC_ENGINE");
	struct ipc_loop *loop;
	int r;

	/* The environment has the last word, and has said no. */
	if (chosen && strcmp(chosen, "epoll") == 0)
		return -EPERM;
	r = ipc_loop_create(&loop, &options);
	if (r == 0) {
		ipc_loop_destroy(loop);
		return 0;
	}
	if (!is_the_machines(r)) {
		(void)printf("FAILED: no loop on io_uring: %s\n", strerror(-r));
		exit(EXIT_FAILURE);
	}
	return r;
}

int
run_loop_group(const struct CMUnitTest *tests, size_t n)
{
	int failed = 0, refusal = 0;

	if (is_chosen("uring")) {
		refusal = uring_refusal();
		if (refusal == 0)
			failed += run_on(IPC_ENGINE_URING, tests, n);
		else
			print_reason();
	}
	if (is_chosen("epoll"))
		failed += run_on(IPC_ENGINE_EPOLL, tests, n);
	else if (refusal && !failed)
		return EXIT_SKIPPED;
	return failed;
}

struct ipc_loop *
loop_open(const struct ipc_loop_options *options)
{
	struct ipc_loop *loop;

	check_equal(ipc_loop_create(&loop, options ? options : LOOP_OPTIONS(.buffers = 0)), 0);
	return loop;
}

void
callback_enter(void)
{
	check(!in_callback);
	in_callback = true;
}

void
callback_leave(void)
{
	check(in_callback);
	in_callback = false;
}

static void
heard_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct ear *ear = user;
	size_t size = message->size < EAR_TEXT_MAX ? message->size : EAR_TEXT_MAX;

	callback_enter();
	check(!ear->closeds);
	ear->messages++;
	memset(ear->text, 0, EAR_TEXT_MAX);
	if (size)
		memcpy(ear->text, message->data, size);
	ear->text[EAR_TEXT_MAX - 1] = '\0';
	if (ear->on_message)
		ear->on_message(ear, channel, message);
	callback_leave();
}

static void
heard_writable(struct ipc_channel *channel, void *user)
{
	struct ear *ear = user;

	callback_enter();
	check(!ear->closeds);
	ear->writables++;
	if (ear->on_writable)
		ear->on_writable(ear, channel);
	callback_leave();
}

static void
heard_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct ear *ear = user;

	callback_enter();
	check(!ear->closeds);
	ear->closeds++;
	ear->reason = reason;
	if (ear->on_closed)
		ear->on_closed(ear, channel);
	callback_leave();
}

static void
heard_lost(struct ipc_channel *channel, const struct ipc_message *head, void *user)
{
	struct ear *ear = user;

	callback_enter();
	check(!ear->closeds);
	ear->losts++;
	if (ear->on_lost)
		ear->on_lost(ear, channel, head);
	callback_leave();
}

const struct ipc_channel_handler ear_handler = {
	.message = heard_message,
	.writable = heard_writable,
	.closed = heard_closed,
	.lost = heard_lost,
};

void
ear_attach(struct ear *ear, struct ipc_loop *loop, struct ipc_channel *channel)
{
	ear->loop = loop;
	check_equal(ipc_loop_attach(loop, channel, &ear_handler, ear), 0);
}

unsigned int
turn_out(struct ipc_loop *loop)
{
	unsigned int made = 0, turns, silent = 0;
	int r;

	/* A turn without a callback may have sent what the next one receives. */
	for (turns = 0; turns < TURN_OUT_MAX && silent < 3; turns++) {
		r = ipc_loop_turn(loop, 0);
		check(r >= 0);
		made += (unsigned int)r;
		silent = r ? 0 : silent + 1;
	}
	check(turns < TURN_OUT_MAX);
	return made;
}

void
gather_text(struct ipc_channel *channel, const char *text)
{
	struct ipc_message message = text_message(text);

	check_equal(ipc_channel_send(channel, &message, 0), 0);
}

unsigned int
gather_until_full(struct ipc_channel *channel, size_t size)
{
	unsigned char *payload = malloc(size + 1);
	struct ipc_message message = {.data = payload, .size = size};
	unsigned int n;
	int r;

	check(payload);
	for (n = 0;; n++) {
		fill(payload, size, n);
		r = ipc_channel_post(channel, &message, 0);
		if (r < 0)
			break;
	}
	free(payload);
	check_equal(r, -EAGAIN);
	return n;
}

bool
is_readable(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};

	check(poll(&entry, 1, 0) >= 0);
	return entry.revents & POLLIN;
}

struct ipc_loop_stats
loop_stats_of(const struct ipc_loop *loop)
{
	struct ipc_loop_stats stats = {.size = sizeof(stats)};

	ipc_loop_stats(loop, &stats);
	return stats;
}
