/* SPDX-License-Identifier: MIT */

/* A worker may be hostile. What it can do to the pool is to fail the requests that it has. */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

/* What a request's type tells a worker to do. n is the number in its payload. */
enum offence {
	OFFENCE_STRAYS = 2000, /* n replies that nobody asked for, then the answer */
	OFFENCE_OTHERS,        /* answers and parts to the request of the name n, then its own */
	OFFENCE_TWICE,         /* two answers, and a part after that */
	OFFENCE_QUESTION,      /* messages with the request's id that are no replies */
	OFFENCE_NOISE,         /* n packets of random bytes */
	OFFENCE_FLOOD,         /* messages without end */
	OFFENCE_PARTS,         /* parts of an answer without end */
	OFFENCE_GUESS,         /* answers, reads no more, and answers what it guesses */
	OFFENCE_SHUTDOWN,      /* closes what it sends on, and reads on */
};

static void
say(struct ipc_channel *channel, uint64_t id, uint16_t flags)
{
	struct ipc_message message = {.id = id, .flags = flags};

	check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
}

static void
say_strays(struct ipc_channel *channel, uint64_t id, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		/* Names that may have been, or will be, and such as never are: those from 2^63 on
		   would break the channel. */
		say(channel, id + (i + 1) * (i % 2 ? 1 : 1 << 24), IPC_MESSAGE_REPLY);
		say(channel, i % 5 ? test_random() >> 1 : 0, IPC_MESSAGE_REPLY);
	}
}

static void
make_noise(struct ipc_channel *channel, uint64_t n)
{
	unsigned char bytes[5000];

	fill(bytes, sizeof(bytes), n);
	while (n--)
		(void)send(ipc_channel_fd(channel), bytes, 1 + (size_t)n * 977 % sizeof(bytes),
			MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
flood(struct ipc_channel *channel, uint64_t id, uint16_t flags)
{
	struct ipc_message message = {.id = id, .flags = flags};
	static unsigned char payload[1000];

	message.data = payload;
	message.size = sizeof(payload);
	while (ipc_channel_post(channel, &message, -1) == 0)
		;
	_exit(0);
}

/* Names like the one it has read: of the next requests, if they were counted. */
static void
guess(struct ipc_channel *channel, uint64_t id)
{
	const uint64_t limit = 1U << 24;
	uint64_t use, index;

	for (;; sleep_ms(1)) {
		for (use = 0; use < 4; use++)
			for (index = 0; index < 8; index++)
				say(channel, id / limit * limit + use * limit + index,
					IPC_MESSAGE_REPLY);
		if (ipc_channel_flush(channel, TEST_WAIT_MS) < 0)
			_exit(0);
	}
}

static void
offend(struct ipc_channel *channel, struct ipc_message *message)
{
	uint64_t n = 0, id = message->id;

	check_equal(message->size, sizeof(n));
	memcpy(&n, message->data, sizeof(n));
	switch (message->type) {
	case OFFENCE_STRAYS:
		say_strays(channel, id, n);
		break;
	case OFFENCE_OTHERS:
		say(channel, n, IPC_MESSAGE_REPLY | IPC_MESSAGE_MORE);
		say(channel, n, IPC_MESSAGE_REPLY);
		break;
	case OFFENCE_TWICE:
		say(channel, id, IPC_MESSAGE_REPLY);
		say(channel, id, IPC_MESSAGE_REPLY);
		say(channel, id, IPC_MESSAGE_REPLY | IPC_MESSAGE_MORE);
		check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
		return;
	case OFFENCE_QUESTION:
		say(channel, id, 0);
		say(channel, id, IPC_MESSAGE_MORE);
		say(channel, id, IPC_MESSAGE_CANCEL);
		break;
	case OFFENCE_NOISE:
		make_noise(channel, n);
		return;
	case OFFENCE_FLOOD:
		flood(channel, 0, 0);
		return;
	case OFFENCE_PARTS:
		flood(channel, id, IPC_MESSAGE_REPLY | IPC_MESSAGE_MORE);
		return;
	case OFFENCE_GUESS:
		say(channel, id, IPC_MESSAGE_REPLY);
		guess(channel, id);
		return;
	default:
		check_equal(shutdown(ipc_channel_fd(channel), SHUT_WR), 0);
		return;
	}
	say(channel, id, IPC_MESSAGE_REPLY);
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
}

static int
serve_badly(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	while (ipc_channel_recv(channel, &message, -1) == 0) {
		if (message.type >= OFFENCE_STRAYS)
			offend(channel, &message);
		else
			obey(channel, &message);
	}
	return 0;
}

static const struct ipc_worker_options criminal = {
	.size = sizeof(criminal),
	.run = serve_badly,
	.channel = &wide,
	.parent_death_signal = SIGKILL,
};

static void
call_offence(struct desk *desk, struct call *call, enum offence offence, uint64_t n)
{
	call_task(desk, call, (enum task)offence, n);
}

static void
answers_that_nobody_asked_for_are_dropped(void **state)
{
	struct call holds[8], offence = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i, n = test_count(3000, 300);

	(void)state;
	memset(holds, 0, sizeof(holds));
	desk_open(&desk, POOL(.worker = &criminal, .workers = 2));
	await_ready(&desk, 2);
	for (i = 0; i < 8; i++)
		call_task(&desk, &holds[i], TASK_HOLD, 0);
	for (i = 1; i < 8; i += 2)
		cancel(&holds[i]);
	call_offence(&desk, &offence, OFFENCE_STRAYS, n);
	expect_call(&offence, 0);
	/* Not even its own by chance. */
	check_equal(pool_stats(&desk).strays, 2 * n);
	check_equal(desk.messages, 0);
	check_equal(desk.endeds, 0);
	for (i = 0; i < 8; i++)
		check_equal(holds[i].ends, i % 2);
	check_equal(ask(&desk, TASK_SLEEP, 1, 0), 1);
	desk_close(&desk);
}

static void
it_cannot_guess_what_it_has_not_read_and_keep_its_place(void **state)
{
	struct call offence = {.ends = 0}, calls[5];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.worker = &criminal, .workers = 1, .hung_ms = 400));
	await_ready(&desk, 1);
	call_offence(&desk, &offence, OFFENCE_GUESS, 0);
	expect_call(&offence, 0);
	for (i = 0; i < 5; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, 0);
	for (i = 0; i < 5; i++)
		expect_call(&calls[i], -EOWNERDEAD);
	check(pool_stats(&desk).strays > 0);
	check_equal(pool_stats(&desk).hung, 1);
	check_equal(ask(&desk, TASK_SLEEP, 7, 0), 7);
	desk_close(&desk);
}

static void
it_cannot_answer_the_requests_of_others(void **state)
{
	struct call hold = {.ends = 0}, offence = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.worker = &criminal, .workers = 2, .depth = 1));
	await_ready(&desk, 2);
	call_task(&desk, &hold, TASK_HOLD, 0);
	call_offence(&desk, &offence, OFFENCE_OTHERS, hold.name);
	expect_call(&offence, 0);
	check_equal(hold.ends + hold.parts, 0);
	check_equal(pool_stats(&desk).strays, 2);
	expect_sums(&desk, false);
	desk_close(&desk);
	check_equal(hold.result, -ECANCELED);
}

static void
it_cannot_answer_a_request_that_waits(void **state)
{
	struct call hold = {.ends = 0}, waits = {.ends = 0};
	struct desk desk = {.loop = NULL};
	struct ipc_message message = {.size = sizeof(uint64_t), .type = OFFENCE_OTHERS};

	(void)state;
	desk_open(&desk, POOL(.worker = &criminal, .workers = 1, .depth = 1));
	await_ready(&desk, 1);
	call_task(&desk, &hold, TASK_HOLD, 0);
	call_task(&desk, &waits, TASK_SLEEP, 5);
	/* It is told the name by a message that is no request. */
	message.data = &waits.name;
	check_equal(ipc_channel_post(ipc_worker_channel(desk.latest), &message, 0), 0);
	turn_until(desk.loop, pool_stats(&desk).strays == 3);
	check_equal(waits.ends + waits.parts, 0);
	tell_latest(&desk, TASK_RELEASE);
	expect_call(&waits, 0);
	check_equal(waits.n, 5);
	expect_call(&hold, 0);
	desk_close(&desk);
}

static void
a_second_answer_is_dropped(void **state)
{
	struct call twice = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.worker = &criminal, .workers = 1));
	call_offence(&desk, &twice, OFFENCE_TWICE, 0);
	expect_call(&twice, 0);
	turn_until(desk.loop, pool_stats(&desk).strays == 2);
	check_equal(twice.parts, 0);
	check_equal(place_stats(&desk, 0).outstanding, 0);
	check_equal(ask(&desk, TASK_SLEEP, 1, 0), 1);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
what_is_no_reply_answers_nothing(void **state)
{
	struct call question = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.worker = &criminal, .workers = 1));
	call_offence(&desk, &question, OFFENCE_QUESTION, 0);
	expect_call(&question, 0);
	check_equal(desk.messages, 3);
	check_equal(question.parts, 0);
	check_equal(pool_stats(&desk).strays, 0);
	desk_close(&desk);
}

/* One of several offends; the others serve all the rest, and it is replaced. */
static void
expect_only_its_own_to_fail(enum offence offence)
{
	enum { N = 60 };
	struct call calls[N], crime = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.worker = &criminal, .workers = 3, .depth = 4, .stop_ms = 20));
	await_ready(&desk, 3);
	call_offence(&desk, &crime, offence, 50);
	for (i = 0; i < N; i++)
		check_equal(
			call_echo(&desk, &calls[i], test_random_below(4000), i < 11 ? 2 : 1), 0);
	/* Those after the first eleven have waited, and none of them for this worker. */
	expect_call(&crime, -EOWNERDEAD);
	for (i = 0; i < N; i++) {
		turn_until(desk.loop, calls[i].ends);
		check(calls[i].result == 0 || i >= 11);
	}
	check_equal(pool_stats(&desk).died, 1 + N - desk.results[0]);
	turn_until(desk.loop, desk.endeds == 1 && pool_stats(&desk).ready == 3);
	check_equal(pool_stats(&desk).restarts, 1);
	check_equal(ask(&desk, TASK_SLEEP, 1, 0), 1);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
noise_breaks_its_own_channel_only(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < test_count(20, 3); i++)
		expect_only_its_own_to_fail(OFFENCE_NOISE);
}

static void
who_stops_to_speak_is_replaced(void **state)
{
	(void)state;
	expect_only_its_own_to_fail(OFFENCE_SHUTDOWN);
}

/* One floods without end while the others serve. */
static void
serve_beside_a_flood(enum offence offence, bool parts)
{
	unsigned int n = test_count(300, 60), i;
	struct call crime = {.ends = 0};
	struct desk desk = {.loop = NULL};

	desk_open(&desk, POOL(.worker = &criminal, .workers = 2, .depth = 1));
	await_ready(&desk, 2);
	call_offence(&desk, &crime, offence, 0);
	for (i = 0; i < n; i++)
		check_equal(ask(&desk, TASK_SLEEP, i % 2, 0), i % 2);
	check_equal(crime.ends, 0);
	check(parts ? crime.parts > n : desk.messages > n);
	expect_resident_below(200U << 20);
	if (parts)
		cancel(&crime);
	i = crime.parts;
	check_equal(ask(&desk, TASK_SLEEP, 1, 0), 1);
	check_equal(crime.parts, i);
	desk_close(&desk);
	check_equal(crime.ends, 1);
}

static void
a_flood_keeps_nobody_from_being_served(void **state)
{
	(void)state;
	serve_beside_a_flood(OFFENCE_FLOOD, false);
	serve_beside_a_flood(OFFENCE_PARTS, true);
}

static void
one_that_does_not_read_delays_its_own_requests_only(void **state)
{
	enum { N = 200, SIZE = 60000 };
	struct call *calls = calloc(N, sizeof(*calls));
	struct desk desk = {.loop = NULL};
	unsigned int i, left, done;

	(void)state;
	check(calls);
	desk_open(&desk, POOL(.workers = 2, .depth = 1000, .kept_bytes_max = N * SIZE));
	await_ready(&desk, 2);
	signal_place(&desk, 0, SIGSTOP);
	for (i = 0; i < N; i++)
		check_equal(call_echo(&desk, &calls[i], SIZE, 0), 0);
	left = N;
	while (pool_stats(&desk).queued || place_stats(&desk, 1).outstanding) {
		check(ipc_loop_turn(desk.loop, TEST_WAIT_MS) >= 0);
		left = place_stats(&desk, 0).outstanding;
	}
	/* As many as its socket and the loop hold for it, and not half of all. */
	done = desk.ends;
	check_equal(done + left, N);
	check(left > 0 && left < N / 3);
	signal_place(&desk, 0, SIGCONT);
	for (i = 0; i < N; i++)
		expect_call(&calls[i], 0);
	expect_sums(&desk, true);
	desk_close(&desk);
	free(calls);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		pool_test(answers_that_nobody_asked_for_are_dropped),
		pool_test(it_cannot_guess_what_it_has_not_read_and_keep_its_place),
		pool_test(it_cannot_answer_the_requests_of_others),
		pool_test(it_cannot_answer_a_request_that_waits),
		pool_test(a_second_answer_is_dropped),
		pool_test(what_is_no_reply_answers_nothing),
		pool_test(noise_breaks_its_own_channel_only),
		pool_test(who_stops_to_speak_is_replaced),
		pool_test(a_flood_keeps_nobody_from_being_served),
		pool_test(one_that_does_not_read_delays_its_own_requests_only),
	};

	return run_on_engines(tests);
}
