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

#include "loop_support.h"

#define WRAP(type, name, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

/* Turns after which whatever one process can know of has come: sent, received, answered. */
#define TURNS 4

/* What calls without an id of their own take: neither the library's nor a test's. */
#define CALL_ID 0x4000000000000000ULL

/* Descriptors of a loop: its io_uring or epoll, an eventfd. */
#define LOOP_FDS 2

/* Workers that end, of one test. The kernel closes what had a ring 10 ms after its process has
   ended, and much later where others are busy. */
#define URING_ENDS_MAX 100

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
		check_equal(ipc_loop_create(&user->loop, LOOP_OPTIONS(.buffers = 0)), 0);
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

/*
 * Turn, if that may help, for as long as the caller would wait: what a turn does not wake for, a
 * test waits for in vain. Return: whether to try again; if not, ret_result is what to answer.
 */
static bool
again(struct wait *wait, int *ret_result)
{
	int64_t left_ms = wait->timeout_ms < 0 ? -1 : wait->end_ms - now_ms();

	if (*ret_result != -EAGAIN || wait->user->has_ended)
		return false;
	if (++wait->turns <= TURNS)
		left_ms = 0;
	else if (wait->timeout_ms >= 0 && left_ms <= 0) {
		*ret_result = wait->timeout_ms ? -ETIMEDOUT : -EAGAIN;
		return false;
	}
	check(ipc_loop_turn(wait->user->loop, (int)left_ms) >= 0);
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

/* Direct sends end when the kernel has the message, or the channel has ended. On a loop one that is
   taken stays so, if the kernel has no room for it yet. */
static int
sent(const struct user *user, int result, int timeout_ms)
{
	int r = result == 0 ? flush(user, timeout_ms) : result;

	return result == 0 && (r == -EAGAIN || r == -ETIMEDOUT) ? 0 : r;
}

WRAP(int, ipc_channel_send, struct ipc_channel *channel, const struct ipc_message *message,
	int timeout_ms)
{
	struct wait wait = wait_begin(attach(channel), timeout_ms);
	int r;

	do
		r = __real_ipc_channel_send(channel, message, 0);
	while (again(&wait, &r));
	return sent(wait.user, r, timeout_ms);
}

WRAP(int, ipc_channel_reply, struct ipc_channel *channel, const struct ipc_message *request,
	const struct ipc_message *reply, int timeout_ms)
{
	struct wait wait = wait_begin(attach(channel), timeout_ms);
	int r;

	do
		r = __real_ipc_channel_reply(channel, request, reply, 0);
	while (again(&wait, &r));
	return sent(wait.user, r, timeout_ms);
}

static int
give(struct user *user, struct arrival *arrival, struct ipc_message *ret_message)
{
	STAILQ_REMOVE(&user->arrivals, arrival, arrival, next);
	user->given = arrival;
	*ret_message = arrival->message;
	return arrival->result;
}

WRAP(int, ipc_channel_recv, struct ipc_channel *channel, struct ipc_message *ret_message,
	int timeout_ms)
{
	struct user *user = attach(channel);
	struct wait wait = wait_begin(user, timeout_ms);
	int r = -EAGAIN;

	user->given = drop(user->given);
	while (STAILQ_EMPTY(&user->arrivals) && again(&wait, &r))
		;
	if (!STAILQ_EMPTY(&user->arrivals))
		return give(user, STAILQ_FIRST(&user->arrivals), ret_message);
	return user->has_ended ? __real_ipc_channel_recv(channel, ret_message, timeout_ms) : r;
}

static struct arrival *
reply_to(const struct user *user, uint64_t id)
{
	struct arrival *arrival;

	STAILQ_FOREACH(arrival, &user->arrivals, next)
	if (arrival->message.id == id && arrival->message.flags & IPC_MESSAGE_REPLY)
		break;
	return arrival;
}

/* Who has a loop calls by a request and by waiting for the message that is its reply. */
WRAP(int, ipc_channel_call, struct ipc_channel *channel, const struct ipc_message *request,
	struct ipc_message *ret_reply, int timeout_ms)
{
	static uint64_t last_id = CALL_ID;
	struct ipc_message message = *request;
	struct user *user = attach(channel);
	struct wait wait = wait_begin(user, timeout_ms);
	struct arrival *arrival;
	int r;

	message.flags = 0;
	if (!message.id)
		message.id = ++last_id;
	r = __wrap_ipc_channel_send(channel, &message, timeout_ms);
	if (r < 0)
		return r;
	user->given = drop(user->given);
	r = -EAGAIN;
	while (!(arrival = reply_to(user, message.id)) && again(&wait, &r))
		;
	if (arrival)
		return give(user, arrival, ret_reply);
	return user->has_ended ? __real_ipc_channel_recv(channel, ret_reply, 0) : r;
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

/* What one turn brings lies in copies until it is received. */
WRAP(void, expect_resident_below, size_t limit)
{
	__real_expect_resident_below(limit + IPC_LOOP_TURN * sizeof(struct arrival));
}

static const char *
program(void)
{
	return strrchr(program_invocation_short_name, '_') + 1;
}

WRAP(unsigned int, test_count, unsigned int full, unsigned int quick)
{
	unsigned int n = __real_test_count(full, quick);
	bool many = n > URING_ENDS_MAX && is_on_uring() && strcmp(program(), "end") == 0;

	return many ? URING_ENDS_MAX : n;
}

/* What is meant for channels alone, by its program. */
static const struct {
	const char *program, *test, *reason;
} excluded[] = {
	{"call", "more_messages_than_are_kept_lose_nothing", "the handler keeps, no call"},
	{"call", "more_bytes_than_are_kept_lose_nothing", "the handler keeps, no call"},
	{"call", "a_late_reply_is_dropped", "replies go to the handler"},
	{"call", "a_late_reply_is_dropped_by_a_receive_too", "replies go to the handler"},
	{"call", "late_replies_are_dropped_from_among_others", "replies go to the handler"},
	{"descriptors", "a_large_message_brings_its_descriptors", "a turn's end sends"},
	{"descriptors", "a_sender_at_its_limit_can_still_send", "a send duplicates, too"},
	{"flood", "the_limit_of_descriptors_in_flight_is_no_room", "a send duplicates, too"},
	{"flood", "who_waits_at_the_limit_in_flight_goes_on_when_some_are_taken",
		"a send duplicates, too"},
	{"hello", "a_hello_of_small_records_finds_a_sender_at_work", "one thread has the loop"},
	{"hello", "a_forked_child_closes_a_channel_that_waits_for_the_hello",
		"one thread has the loop"},
	{"limits", "what_was_sent_before_the_hello_is_taken_whatever_the_limit",
		"a turn brings the hello"},
	{"messages", "a_full_record_is_sent_without_a_flush", "a turn's end sends"},
	{"stats", "gathering_saves_system_calls", "the loop makes them"},
	{"stats", "waits_are_counted_as_they_were_met", "the loop waits"},
	{"timeouts", "what_a_full_socket_takes_arrives_and_nothing_else", "more is outstanding"},
	{"timeouts", "what_a_full_socket_takes_of_single_sends_arrives", "more is outstanding"},
	{"timeouts", "a_sender_waits_as_long_as_it_was_told", "more is outstanding"},
	{"timeouts", "flush_keeps_what_is_gathered", "more is outstanding"},
	{"timeouts", "a_large_message_that_did_not_begin_leaves_what_was_gathered",
		"more is outstanding"},
	{"timeouts", "a_large_message_cut_short_is_never_seen", "it is taken whole"},
	{"timeouts", "a_voided_message_leaves_the_next_large_one_intact", "it is taken whole"},
};
#define N_EXCLUDED (sizeof(excluded) / sizeof(excluded[0]))

static bool
is_excluded(const char *test)
{
	size_t i;

	for (i = 0; i < N_EXCLUDED; i++) {
		if (strcmp(excluded[i].test, test))
			continue;
		(void)printf("not on a loop: %s: %s\n", test, excluded[i].reason);
		return true;
	}
	return false;
}

/* Those of this program: else one has another name now, and nobody knows that it is left out. */
static size_t
excluded_here(void)
{
	size_t i, n = 0;

	for (i = 0; i < N_EXCLUDED; i++)
		n += strcmp(excluded[i].program, program()) == 0;
	return n;
}

/* Run those that mean something on a loop, by way of who knows which engines are here. */
WRAP(int, run_test_group, const struct CMUnitTest *tests, size_t n)
{
	static bool has_engine;
	struct CMUnitTest *chosen;
	size_t i, n_chosen = 0;
	int r;

	if (!has_engine) {
		has_engine = true;
		return run_loop_group(tests, n);
	}
	chosen = calloc(n, sizeof(*chosen));
	check(chosen);
	for (i = 0; i < n; i++)
		if (!is_excluded(tests[i].name))
			chosen[n_chosen++] = tests[i];
	check_equal(n - n_chosen, excluded_here());
	r = __real_run_test_group(chosen, n_chosen);
	free(chosen);
	return r;
}
