/* SPDX-License-Identifier: MIT */

/*
 * The tests of the channel over a loop: the linker's --wrap puts in place of each function of a
 * channel one that does the same through a loop, so that one suite says what both mean.
 *
 * Each channel has a loop of its own, which goes with it, so that nothing comes before somebody
 * waits for it. What the handler is given is copied, and given out by the next receives.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include <libipc/loop.h>

#include "support.h"

#define WRAP(type, name, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

/* Turns after which whatever one process can know of has come: sent, received, answered. */
#define TURNS 4

/* Descriptors of a loop: its io_uring or epoll, an eventfd. */
#define LOOP_FDS 2

/* A message that was given to the handler, or lost its descriptors. */
struct arrival {
	STAILQ_ENTRY(arrival) next;
	int result;
	struct ipc_message message;
	int fds[IPC_MESSAGE_FDS_LIMIT];
	_Alignas(8) unsigned char payload[];
};

struct user {
	LIST_ENTRY(user) all;
	struct ipc_channel *channel;
	struct ipc_loop *loop;
	bool has_ended;
	STAILQ_HEAD(, arrival) arrivals;
	struct arrival *given; /* the view of the latest receive */
};

static LIST_HEAD(, user) users = LIST_HEAD_INITIALIZER(users);
static pid_t users_pid;

/* An arrival with its descriptors, those that were not taken. */
static struct arrival *
drop(struct arrival *arrival)
{
	uint32_t i;

	if (!arrival)
		return NULL;
	for (i = 0; i < arrival->message.n_fds; i++)
		if (arrival->fds[i] >= 0)
			check_equal(close(arrival->fds[i]), 0);
	free(arrival);
	return NULL;
}

static struct arrival *
keep(struct user *user, const struct ipc_message *message, int result)
{
	struct arrival *arrival = malloc(sizeof(*arrival) + message->size);

	check(arrival);
	arrival->result = result;
	arrival->message = *message;
	if (message->size)
		memcpy(arrival->payload, message->data, message->size);
	arrival->message.data = arrival->payload;
	arrival->message.fds = arrival->fds;
	STAILQ_INSERT_TAIL(&user->arrivals, arrival, next);
	return arrival;
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *arg)
{
	struct user *user = arg;
	struct arrival *arrival;
	uint32_t i;

	check(user->channel == channel);
	arrival = keep(user, message, 0);
	for (i = 0; i < message->n_fds; i++) {
		arrival->fds[i] = ipc_message_take_fd(message, i);
		check(arrival->fds[i] >= 0);
	}
}

static void
on_lost(struct ipc_channel *channel, const struct ipc_message *head, void *arg)
{
	(void)channel;
	(void)keep(arg, head, -EBADMSG);
}

int __real_ipc_channel_recv(
	struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms);

static void
on_closed(struct ipc_channel *channel, int reason, void *arg)
{
	struct user *user = arg;
	struct ipc_message message;

	user->has_ended = true;
	/* Used directly it says the same. */
	check_equal(__real_ipc_channel_recv(channel, &message, 0), reason ? reason : -EPIPE);
}

static const struct ipc_channel_handler handler = {
	.message = on_message,
	.lost = on_lost,
	.closed = on_closed,
};

static struct user *
user_of(const struct ipc_channel *channel)
{
	struct user *user;

	LIST_FOREACH(user, &users, all)
	if (user->channel == channel)
		return user;
	return NULL;
}

/* A forked child has copies of its parent's loops, of no use but to be destroyed. */
static void
leave_parents_loops(void)
{
	struct user *user;

	if (users_pid == getpid())
		return;
	users_pid = getpid();
	LIST_FOREACH(user, &users, all)
	user->loop = ipc_loop_destroy(user->loop);
}

/* Have the channel driven by a loop. */
static struct user *
attach(struct ipc_channel *channel)
{
	struct user *user;

	leave_parents_loops();
	user = user_of(channel);
	if (!user) {
		user = calloc(1, sizeof(*user));
		check(user);
		user->channel = channel;
		STAILQ_INIT(&user->arrivals);
		LIST_INSERT_HEAD(&users, user, all);
	}
	if (!user->loop) {
		check_equal(ipc_loop_create(&user->loop, NULL), 0);
		if (!user->has_ended)
			check_equal(ipc_loop_attach(user->loop, channel, &handler, user), 0);
	}
	return user;
}

/* What waits by turning. */
struct wait {
	const struct user *user;
	int timeout_ms;
	int64_t end_ms;
	int turns;
};

static struct wait
wait_begin(const struct user *user, int timeout_ms)
{
	return (struct wait){
		.user = user,
		.timeout_ms = timeout_ms,
		.end_ms = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms,
	};
}

/* Turn, if that may help. Return: whether to try again; if not, ret_result is what to answer. */
static bool
again(struct wait *wait, int *ret_result)
{
	if (*ret_result != -EAGAIN || wait->user->has_ended)
		return false;
	if (++wait->turns > TURNS && (!wait->timeout_ms || now_ms() >= wait->end_ms)) {
		*ret_result = wait->timeout_ms ? -ETIMEDOUT : -EAGAIN;
		return false;
	}
	check(ipc_loop_turn(wait->user->loop, wait->turns > TURNS) >= 0);
	return true;
}

WRAP(int, ipc_channel_pair, struct ipc_channel **ret_a, struct ipc_channel **ret_b,
	const struct ipc_channel_options *options)
{
	int r = __real_ipc_channel_pair(ret_a, ret_b, options);

	if (r == 0) {
		(void)attach(*ret_a);
		(void)attach(*ret_b);
	}
	return r;
}

WRAP(int, ipc_channel_open, struct ipc_channel **ret, int fd,
	const struct ipc_channel_options *options)
{
	int r = __real_ipc_channel_open(ret, fd, options);

	if (r == 0)
		(void)attach(*ret);
	return r;
}

static void
user_free(struct user *user)
{
	struct arrival *arrival;

	while ((arrival = STAILQ_FIRST(&user->arrivals))) {
		STAILQ_REMOVE_HEAD(&user->arrivals, next);
		drop(arrival);
	}
	drop(user->given);
	LIST_REMOVE(user, all);
	ipc_loop_destroy(user->loop);
	free(user);
}

WRAP(struct ipc_channel *, ipc_channel_close, struct ipc_channel *channel)
{
	struct user *user = channel ? user_of(channel) : NULL;

	leave_parents_loops();
	(void)__real_ipc_channel_close(channel);
	if (user)
		user_free(user);
	return NULL;
}

int __real_ipc_channel_flush(struct ipc_channel *channel, int timeout_ms);

static int
flush(const struct user *user, int timeout_ms)
{
	struct wait wait = wait_begin(user, timeout_ms);
	int r;

	do
		r = __real_ipc_channel_flush(user->channel, 0);
	while (again(&wait, &r));
	return r;
}

WRAP(int, ipc_channel_flush, struct ipc_channel *channel, int timeout_ms)
{
	return flush(attach(channel), timeout_ms);
}

WRAP(int, ipc_channel_post, struct ipc_channel *channel, const struct ipc_message *message,
	int timeout_ms)
{
	struct wait wait = wait_begin(attach(channel), timeout_ms);
	int r;

	do
		r = __real_ipc_channel_post(channel, message, 0);
	while (again(&wait, &r));
	return r;
}

WRAP(int, ipc_channel_send, struct ipc_channel *channel, const struct ipc_message *message,
	int timeout_ms)
{
	struct wait wait = wait_begin(attach(channel), timeout_ms);
	int r;

	do
		r = __real_ipc_channel_send(channel, message, 0);
	while (again(&wait, &r));
	/* Direct ones send before they return; here it has been taken, if it be sent later. */
	if (r == 0)
		(void)flush(wait.user, timeout_ms);
	return r;
}

WRAP(int, ipc_channel_reply, struct ipc_channel *channel, const struct ipc_message *request,
	const struct ipc_message *reply, int timeout_ms)
{
	struct wait wait = wait_begin(attach(channel), timeout_ms);
	int r;

	do
		r = __real_ipc_channel_reply(channel, request, reply, 0);
	while (again(&wait, &r));
	if (r == 0)
		(void)flush(wait.user, timeout_ms);
	return r;
}

WRAP(int, ipc_channel_recv, struct ipc_channel *channel, struct ipc_message *ret_message,
	int timeout_ms)
{
	struct user *user = attach(channel);
	struct wait wait = wait_begin(user, timeout_ms);
	struct arrival *arrival;
	int r = -EAGAIN;

	user->given = drop(user->given);
	while (STAILQ_EMPTY(&user->arrivals) && again(&wait, &r))
		;
	arrival = STAILQ_FIRST(&user->arrivals);
	if (!arrival)
		return user->has_ended ? __real_ipc_channel_recv(channel, ret_message, timeout_ms)
		                       : r;
	STAILQ_REMOVE_HEAD(&user->arrivals, next);
	user->given = arrival;
	*ret_message = arrival->message;
	return arrival->result;
}

/* The tests know nothing of loops. */
WRAP(unsigned int, descriptors_open, void)
{
	unsigned int n = __real_descriptors_open();
	const struct user *user;

	LIST_FOREACH(user, &users, all)
	if (user->loop)
		n -= LOOP_FDS;
	return n;
}

static const struct {
	const char *test, *reason;
} excluded[] = {
	{"posted_messages_wait_for_a_flush", "a turn's end sends"},
	{"a_large_message_brings_its_descriptors", "a turn's end sends"},
	{"a_full_record_is_sent_without_a_flush", "a turn's end sends"},
	{"what_was_sent_before_the_hello_is_taken_whatever_the_limit", "a turn brings the hello"},
	{"a_hello_of_small_records_finds_a_sender_at_work", "one thread has the loop"},
	{"a_forked_child_closes_a_channel_that_waits_for_the_hello", "one thread has the loop"},
	{"what_was_gathered_before_a_fork_is_sent_once", "a turn's end sends"},
	{"a_child_begins_with_an_empty_record", "a turn's end sends"},
	{"gathered_descriptors_stay_the_parents_after_a_fork", "a turn's end sends"},
	{"a_sender_at_its_limit_can_still_send", "what is gathered holds duplicates"},
	{"a_reset_that_a_sender_met_does_not_hide_it_either", "closed() tells, no send"},
	{"sending_to_a_closed_peer_is_an_error_and_no_signal", "closed() tells, no send"},
	{"every_wrong_hello_is_refused", "closed() tells, no send"},
	{"replies_nobody_asked_for_end_a_call", "there are no calls"},
	{"a_message_at_the_limit_passes_and_one_above_is_not_sent", "there are no calls"},
	{"the_descriptor_of_a_channel_can_be_polled", "the loop's descriptor is polled"},
};
#define N_EXCLUDED (sizeof(excluded) / sizeof(excluded[0]))

static bool
is_engine_here(void)
{
	struct ipc_loop *loop;
	int r = ipc_loop_create(&loop, NULL);

	if (r == -EPERM || r == -ENOSYS)
		return false;
	check_equal(r, 0);
	ipc_loop_destroy(loop);
	return true;
}

/* Run those that mean something on a loop. */
WRAP(int, run_test_group, const struct CMUnitTest *tests, size_t n)
{
	struct CMUnitTest *chosen;
	size_t i, k, n_chosen = 0;
	int r;

	if (!is_engine_here()) {
		test_lacks("io_uring");
		return EXIT_SKIPPED;
	}
	chosen = calloc(n, sizeof(*chosen));
	check(chosen);
	for (i = 0; i < n; i++) {
		for (k = 0; k < N_EXCLUDED; k++)
			if (strcmp(tests[i].name, excluded[k].test) == 0)
				break;
		if (k < N_EXCLUDED)
			(void)printf(
				"not on a loop: %s: %s\n", excluded[k].test, excluded[k].reason);
		else
			chosen[n_chosen++] = tests[i];
	}
	r = __real_run_test_group(chosen, n_chosen);
	free(chosen);
	return r;
}
