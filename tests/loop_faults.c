/* SPDX-License-Identifier: MIT */

/*
 * Each system call, each call of liburing and each allocation that a loop makes fails once, at
 * every place where it is made, and from there on. Whatever was refused is said, works when it is
 * tried again, and all that was taken arrives.
 */

#include <poll.h>
#include <unistd.h>

#include "faults_each.h"
#include "loop_support.h"

/* Of each pair, both ways: small ones, a large one, some with a descriptor. */
#define PAIRS    2
#define ENDS     (2 * PAIRS)
#define MESSAGES 6
#define LARGE    300000

/* Turns in which all is done that can be while something fails. */
#define TURNS 8

static const struct fault_errors birth_errors[] = {
	{FAULTY_EPOLL_CREATE, {EMFILE, ENFILE, ENOMEM}, {EINTR}},
	{FAULTY_EVENTFD, {EMFILE, ENFILE, ENODEV, ENOMEM}, {EINTR}},
	{FAULTY_TIMERFD_CREATE, {EMFILE, ENFILE, ENODEV, ENOMEM}, {EINTR}},
	{FAULTY_MADVISE, {EINVAL, ENOMEM}, {EINTR}},
	{FAULTY_SOCKETPAIR, {EMFILE, ENFILE}, {EINTR}},
	{FAULTY_URING_INIT, {ENOMEM, EPERM, ENOSYS, EMFILE, EINVAL}, {EINTR}},
	{FAULTY_URING_DONTFORK, {ENOMEM}, {0}},
	{FAULTY_URING_BUFFERS, {ENOMEM, EINVAL}, {0}},
};

static const struct fault_errors use_errors[] = {
	{FAULTY_EPOLL_CTL, {ENOMEM, ENOSPC}, {EINTR}},
	{FAULTY_EPOLL_WAIT, {0}, {EINTR}},
	{FAULTY_TIMERFD_SETTIME, {0}, {EINTR}},
	{FAULTY_READ, {0}, {EINTR}},
	{FAULTY_WRITE, {0}, {EINTR}},
	{FAULTY_POLL, {ENOMEM}, {EINTR}},
	{FAULTY_FCNTL, {EMFILE}, {EINTR}},
	{FAULTY_URING_SUBMIT, {EAGAIN, EBUSY, ENOMEM}, {EINTR, EBADR}},
	{FAULTY_URING_WAIT, {EAGAIN, EBUSY, ENOMEM}, {EINTR, EBADR}},
};

static const struct fault_errors packet_errors[] = {
	{FAULTY_SENDMSG, {EAGAIN, ENOMEM, ETOOMANYREFS}, {EINTR, ENOBUFS}},
	{FAULTY_SEND, {EAGAIN, ENOMEM}, {EINTR, ENOBUFS}},
	{FAULTY_RECVMSG, {EAGAIN, ENOMEM, ENOBUFS}, {EINTR, ECONNRESET}},
	{FAULTY_RECV, {EAGAIN, ENOMEM, ENOBUFS}, {EINTR, ECONNRESET}},
};

static const struct fault_errors memory_errors[] = {
	{FAULTY_MMAP, {ENOMEM}, {0}},
	{FAULTY_MALLOC, {ENOMEM}, {0}},
	{FAULTY_CALLOC, {ENOMEM}, {0}},
	{FAULTY_REALLOC, {ENOMEM}, {0}},
};

struct end {
	struct ear ear;
	struct ipc_channel *channel;
	unsigned int index;
	unsigned int taken; /* of this end's messages */
	unsigned int next;  /* of its peer's that is to come */
	bool is_attached;
};

struct scene {
	struct ipc_loop *loop;
	struct end ends[ENDS];
	struct ipc_timer *timer;
	struct ipc_watch *watch;
	int pipe[2];
	unsigned int timers, watches;
};

static unsigned char payload[LARGE];

static uint64_t
key_of(unsigned int index, unsigned int place)
{
	return index * 1000 + place;
}

static struct ipc_message
message_of(const struct end *end, unsigned int index, unsigned int place, int *fd)
{
	struct ipc_message message = {
		.size = place == 4 ? LARGE : 100 * place,
		.id = key_of(index, place),
		.data = payload,
	};

	/* The first pair's, the large one among them. */
	if (end->index < 2 && place % 3 == 1) {
		message.n_fds = 1;
		message.fds = fd;
	}
	return message;
}

/* Callbacks are ours: nothing fails in them. */
static void
verify(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct end *end = ear->arg;
	unsigned int from = end->index ^ 1;
	struct ipc_message expected = message_of(end, from, end->next, NULL);

	(void)channel;
	fault_inside(false);
	check_equal(message->id, expected.id);
	check_equal(message->size, expected.size);
	check_equal(message->n_fds, expected.n_fds);
	check(is_filled(message->data, message->size, expected.id));
	end->next++;
	fault_inside(true);
}

static void
timer_due(struct ipc_timer *timer, void *arg)
{
	struct scene *scene = arg;

	(void)timer;
	scene->timers++;
}

static void
pipe_readable(struct ipc_watch *watch, unsigned int events, void *arg)
{
	struct scene *scene = arg;
	char byte;

	(void)watch;
	fault_inside(false);
	if (events & POLLIN)
		scene->watches += read(scene->pipe[0], &byte, 1) == 1;
	fault_inside(true);
}

/* Is that what a call may say while this fault is about? */
static void
check_refusal(int r)
{
	check(fault_count());
	if (r != -ENOMEM && r != -EMFILE)
		check_equal(r, -fault_error());
}

static bool
attach_all(struct scene *scene)
{
	bool all = true;
	unsigned int i;
	int r;

	for (i = 0; i < ENDS; i++) {
		struct end *end = &scene->ends[i];

		if (end->is_attached)
			continue;
		r = LIBRARY(ipc_loop_attach(scene->loop, end->channel, &ear_handler, &end->ear));
		end->is_attached = r == 0;
		all &= r == 0;
		if (r < 0)
			check_refusal(r);
	}
	return all;
}

static void
post_all(struct scene *scene)
{
	unsigned int i;
	int r;

	for (i = 0; i < ENDS; i++) {
		struct end *end = &scene->ends[i];
		struct ipc_message message;

		for (; end->taken < MESSAGES; end->taken++) {
			message = message_of(end, i, end->taken, &scene->pipe[1]);
			fill(payload, message.size, message.id);
			r = LIBRARY(ipc_channel_post(end->channel, &message, 0));
			if (r == -EAGAIN)
				break;
			if (r < 0) {
				check_refusal(r);
				break;
			}
		}
	}
}

static void
start_others(struct scene *scene)
{
	int r;

	if (!scene->timer && !scene->timers) {
		r = LIBRARY(ipc_timer_start(&scene->timer, scene->loop, 0, 0, timer_due, scene));
		if (r < 0) {
			check_refusal(r);
			scene->timer = NULL;
		}
	}
	if (!scene->watch) {
		r = LIBRARY(ipc_watch_start(
			&scene->watch, scene->loop, scene->pipe[0], POLLIN, pipe_readable, scene));
		if (r < 0) {
			check_refusal(r);
			scene->watch = NULL;
		}
	}
}

static bool
is_done(const struct scene *scene)
{
	unsigned int i;

	for (i = 0; i < ENDS; i++)
		if (scene->ends[i].next < MESSAGES)
			return false;
	return scene->timers == 1 && scene->watches == 1;
}

/* Whatever has not been done yet. */
static void
go_on(struct scene *scene)
{
	int r;

	if (!attach_all(scene))
		return;
	start_others(scene);
	post_all(scene);
	r = LIBRARY(ipc_loop_turn(scene->loop, 1));
	if (r < 0)
		check_refusal(r);
}

static void
ask_for_descriptor(struct scene *scene)
{
	int r = LIBRARY(ipc_loop_fd(scene->loop));

	if (r < 0)
		check_refusal(r);
}

static void
take_back(struct scene *scene)
{
	struct end *end = &scene->ends[0];
	int r;

	if (!end->is_attached)
		return;
	r = LIBRARY(ipc_loop_detach(scene->loop, end->channel));
	end->is_attached = r < 0;
	if (r < 0)
		check_refusal(r);
}

static bool
scene_open(struct scene *scene)
{
	const struct ipc_loop_options *options = LOOP_OPTIONS(.spin_us = -1, .buffers = 8);
	unsigned int i;
	int r;

	*scene = (struct scene){.loop = NULL};
	r = LIBRARY(ipc_loop_create(&scene->loop, options));
	if (r < 0) {
		check_refusal(r);
		return false;
	}
	fault_hold(true);
	check_equal(pipe(scene->pipe), 0);
	check_equal(write(scene->pipe[1], "x", 1), 1);
	for (i = 0; i < ENDS; i += 2)
		check_equal(LIBRARY(ipc_channel_pair(&scene->ends[i].channel,
				    &scene->ends[i + 1].channel, OPTIONS(.fds_max = i == 0))),
			0);
	for (i = 0; i < ENDS; i++) {
		scene->ends[i].index = i;
		scene->ends[i].ear = (struct ear){
			.loop = scene->loop, .on_message = verify, .arg = &scene->ends[i]};
	}
	fault_hold(false);
	return true;
}

static void
scene_close(struct scene *scene)
{
	unsigned int i;

	(void)LIBRARY(ipc_loop_destroy(scene->loop));
	for (i = 0; i < ENDS; i++) {
		check(!scene->ends[i].ear.closeds);
		check(!scene->ends[i].ear.losts);
		(void)LIBRARY(ipc_channel_close(scene->ends[i].channel));
	}
	check_equal(close(scene->pipe[0]), 0);
	check_equal(close(scene->pipe[1]), 0);
}

static bool
use_loop(const struct fault *fault, const void *arg)
{
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	struct scene scene;
	unsigned int turns;

	(void)arg;
	fault_trial_begin(fault, "a loop");
	if (scene_open(&scene)) {
		for (turns = 0; turns < TURNS && !is_done(&scene); turns++) {
			if (turns == 1)
				ask_for_descriptor(&scene);
			if (turns == 2)
				take_back(&scene);
			go_on(&scene);
		}
		/* The second attempt. */
		fault_pass();
		while (!is_done(&scene)) {
			check(now_ms() < give_up_ms);
			go_on(&scene);
		}
		scene_close(&scene);
	}
	return fault_trial_end();
}

static const struct fault_trial loop_trial = {.run = use_loop, .full_step = 1, .quick_step = 7};

static void
without_any_fault(void **state)
{
	(void)state;
	(void)use_loop(NULL, NULL);
	/* A wrapper that never saw a call is one that the linker has not put in place. */
	check(fault_calls(FAULTY_EVENTFD) && fault_calls(FAULTY_CALLOC));
	check(fault_calls(is_on_uring() ? FAULTY_URING_SUBMIT : FAULTY_EPOLL_WAIT));
}

static void
births_fail(void **state)
{
	(void)state;
	fail_all(&loop_trial, birth_errors);
}

static void
uses_fail(void **state)
{
	(void)state;
	fail_all(&loop_trial, use_errors);
}

static void
packets_fail(void **state)
{
	(void)state;
	fail_all(&loop_trial, packet_errors);
}

static void
allocations_fail(void **state)
{
	(void)state;
	fail_all(&loop_trial, memory_errors);
}

static int
fault_end(void **state)
{
	fault_over();
	return test_end(state);
}

#define fault_test(function) cmocka_unit_test_setup_teardown(function, loop_test_begin, fault_end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		fault_test(without_any_fault),
		fault_test(births_fail),
		fault_test(uses_fail),
		fault_test(packets_fail),
		fault_test(allocations_fail),
	};

	return run_on_engines(tests);
}
