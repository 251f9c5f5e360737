/* SPDX-License-Identifier: MIT */

/* Workers that die: by themselves after their last words, or killed at any point, and the parent's
   loop goes on with all that they had said. */

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "loop_support.h"

/* What a worker says before it is gone, and how. */
struct words {
	unsigned int number;
	bool leave_unread;
};

/* Send one or two messages and be gone, without a close. */
static void
say_and_exit(struct ipc_channel *channel, void *arg)
{
	unsigned int i = ((struct words *)arg)->number;
	struct ipc_message message = {.data = &i, .size = sizeof(i)};

	if (i % 2) {
		check_equal(ipc_channel_post(channel, &message, 0), 0);
		check_equal(ipc_channel_flush(channel, 0), 0);
	}
	check_equal(ipc_channel_send(channel, &message, 0), 0);
	_exit(0);
}

static void
last_words_arrive(unsigned int rounds, bool leave_unread)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct words words = {.leave_unread = leave_unread};
	struct worker worker;
	struct ear ear;

	for (words.number = 0; words.number < rounds; words.number++) {
		worker = worker_start(NULL, say_and_exit, &words);
		ear = (struct ear){.loop = NULL};
		/* Before it has said anything, while it does, or afterwards. */
		if (words.number % 4 == 0)
			child_end(worker.pid);
		ear_attach(&ear, loop, worker.channel);
		/* What it leaves unread makes the kernel say ECONNRESET, before its words. */
		if (leave_unread)
			(void)ipc_channel_send(worker.channel, &(struct ipc_message){.size = 0}, 0);
		turn_until(loop, ear.closeds);
		check_equal(ear.reason, 0);
		check_equal(ear.messages, 1 + words.number % 2);
		check_equal(memcmp(ear.text, &words.number, sizeof(words.number)), 0);
		if (words.number % 4)
			child_end(worker.pid);
		ipc_channel_close(worker.channel);
	}
	ipc_loop_destroy(loop);
}

static void
last_words_of_a_worker_arrive_every_time(void **state)
{
	(void)state;
	last_words_arrive(test_count(5000, 300), false);
}

static void
last_words_arrive_though_the_worker_left_data_unread(void **state)
{
	(void)state;
	last_words_arrive(test_count(5000, 300), true);
}

static void
hang(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	(void)arg;
	for (;;)
		(void)pause();
}

static void
a_killed_worker_is_an_end(void **state)
{
	struct worker worker = worker_start(NULL, hang, NULL);
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct ear ear = {.loop = NULL};

	(void)state;
	ear_attach(&ear, loop, worker.channel);
	gather_text(worker.channel, "never read");
	(void)turn_out(loop);
	check_equal(kill(worker.pid, SIGKILL), 0);
	turn_until(loop, ear.closeds);
	check_equal(ear.reason, 0);
	ipc_channel_close(worker.channel);
	child_end_by(worker.pid, SIGKILL);
	ipc_loop_destroy(loop);
}

static void
die_within_a_large_message(struct ipc_channel *channel, void *arg)
{
	static const unsigned char payload[4000000];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};

	(void)arg;
	send_text(channel, "whole");
	(void)ipc_channel_send(channel, &message, 20);
	_exit(0);
}

static void
a_worker_that_dies_within_a_large_message_is_an_end(void **state)
{
	struct worker worker = worker_start(NULL, die_within_a_large_message, NULL);
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct ear ear = {.loop = NULL};

	(void)state;
	child_end(worker.pid);
	ear_attach(&ear, loop, worker.channel);
	turn_until(loop, ear.closeds);
	check_equal(ear.reason, 0);
	check_equal(ear.messages, 1);
	check_equal(strcmp(ear.text, "whole"), 0);
	check_equal(stats_of(worker.channel).in.dropped, 1);
	ipc_channel_close(worker.channel);
	ipc_loop_destroy(loop);
}

/* Another loop in the peer's place dies with what it was sent. */
static void
serve_once_and_exit(struct ipc_channel *channel, void *arg)
{
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct ear ear = {.loop = NULL};

	(void)arg;
	ear_attach(&ear, loop, channel);
	turn_until(loop, ear.messages);
	gather_text(channel, "one");
	gather_text(channel, "two");
	turn_until(loop, ipc_channel_flush(channel, 0) == 0);
	_exit(0);
}

static void
a_worker_that_dies_with_a_loop_is_an_end(void **state)
{
	unsigned int rounds = test_count(100, 30), i;
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	struct worker worker;
	struct ear ear;

	(void)state;
	for (i = 0; i < rounds; i++) {
		worker = worker_start(NULL, serve_once_and_exit, NULL);
		ear = (struct ear){.loop = NULL};
		ear_attach(&ear, loop, worker.channel);
		gather_text(worker.channel, "go");
		gather_text(worker.channel, "maybe never read");
		turn_until(loop, ear.closeds);
		check_equal(ear.messages, 2);
		check_equal(ear.reason, 0);
		ipc_channel_close(worker.channel);
		child_end(worker.pid);
	}
	ipc_loop_destroy(loop);
}

/* What a worker is doing when it is killed. */
enum labour { LABOUR_SMALL, LABOUR_LARGE, LABOUR_FDS, LABOUR_LOOP };

/* How often which: the kernel takes its time with a dead one's io_uring. */
static const enum labour labours[] = {LABOUR_SMALL, LABOUR_SMALL, LABOUR_SMALL, LABOUR_SMALL,
	LABOUR_SMALL, LABOUR_SMALL, LABOUR_FDS, LABOUR_FDS, LABOUR_FDS, LABOUR_FDS, LABOUR_LARGE,
	LABOUR_LARGE, LABOUR_LOOP};

static size_t
answer_size(enum labour labour, uint64_t id)
{
	return labour == LABOUR_LARGE ? 200000 + id % 50000 : id * 7919 % 500;
}

static void
answer_one(struct ipc_channel *channel, const struct ipc_message *request, enum labour labour)
{
	static unsigned char payload[250000];
	int fd = STDERR_FILENO;
	struct ipc_message answer = {
		.data = payload,
		.size = answer_size(labour, request->id),
		.fds = &fd,
		.n_fds = labour == LABOUR_FDS,
	};
	int r;

	fill(payload, answer.size, request->id);
	r = ipc_channel_reply(channel, request, &answer, TEST_WAIT_MS);
	/* A loop's limits are far above what is asked for. */
	check_equal(r, 0);
}

static void
answer_in_loop(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)ear;
	answer_one(channel, message, LABOUR_LOOP);
}

/* Answer until it is killed. */
static void
labour_on(struct ipc_channel *channel, void *arg)
{
	enum labour labour = *(enum labour *)arg;
	struct ear ear = {.on_message = answer_in_loop};
	struct ipc_message request;
	struct ipc_loop *loop;

	if (labour == LABOUR_LOOP) {
		loop = loop_open(NULL);
		ear_attach(&ear, loop, channel);
		check_equal(ipc_loop_run(loop), 0);
	}
	while (ipc_channel_recv(channel, &request, TEST_WAIT_MS) == 0)
		answer_one(channel, &request, labour);
}

/* A worker, and what the parent has of it. */
struct labourer {
	struct worker worker;
	enum labour labour;
	struct ear ear;
	uint64_t n_asked;
	unsigned int kill_at; /* with the answer of this number; 0: after a while */
};

static void
ask_more(struct labourer *own)
{
	unsigned char payload[200];
	struct ipc_message request = {.data = payload};
	int r = 0;

	while (r == 0 && own->n_asked < own->ear.messages + 4) {
		request.id = own->n_asked + 1;
		request.size = own->n_asked % sizeof(payload);
		fill(payload, request.size, request.id);
		r = ipc_channel_post(own->worker.channel, &request, 0);
		own->n_asked += r == 0;
	}
	/* It may have gone. */
	check(r == 0 || r == -EAGAIN || r == -EPIPE);
}

static void
hear_answer(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct labourer *own = ear->arg;

	(void)channel;
	check_equal(message->flags, IPC_MESSAGE_REPLY);
	check_equal(message->id, ear->messages);
	check(message->id <= own->n_asked);
	check_equal(message->size, answer_size(own->labour, message->id));
	check(is_filled(message->data, message->size, message->id));
	check_equal(message->n_fds, own->labour == LABOUR_FDS);
	if (ear->messages == own->kill_at)
		check_equal(kill(own->worker.pid, SIGKILL), 0);
	ask_more(own);
}

static void
labourer_start(struct labourer *own, struct ipc_loop *loop)
{
	*own = (struct labourer){
		.labour = labours[test_random_below(sizeof(labours) / sizeof(labours[0]))],
		.kill_at = (unsigned int)test_random_below(8),
	};
	own->ear.on_message = hear_answer;
	own->ear.arg = own;
	own->worker = worker_start(OPTIONS(.fds_max = 1, .spin_us = -1), labour_on, &own->labour);
	ear_attach(&own->ear, loop, own->worker.channel);
	ask_more(own);
}

static void
labourer_end(struct labourer *own)
{
	check_equal(own->ear.closeds, 1);
	check_equal(own->ear.reason, 0);
	check_equal(own->ear.losts, 0);
	ipc_channel_close(own->worker.channel);
	child_end_by(own->worker.pid, SIGKILL);
}

static void
workers_killed_at_any_point_are_ends_and_nothing_is_left(void **state)
{
	/* The other one lives on, and holds no end of what is killed. */
	struct labourer pair[2], *dies;
	unsigned int rounds = test_count(2000, 100), open, i;
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.spin_us = -1));
	int turns;

	(void)state;
	open = descriptors_open();
	labourer_start(&pair[1], loop);
	for (i = 0; i < rounds; i++) {
		labourer_start(&pair[i % 2], loop);
		dies = &pair[(i + 1) % 2];
		if (!dies->kill_at) {
			for (turns = (int)test_random_below(10); turns; turns--)
				check(ipc_loop_turn(loop, 0) >= 0);
			check_equal(kill(dies->worker.pid, SIGKILL), 0);
		}
		turn_until(loop, dies->ear.closeds);
		labourer_end(dies);
	}
	dies = &pair[(i + 1) % 2];
	if (!dies->kill_at)
		check_equal(kill(dies->worker.pid, SIGKILL), 0);
	turn_until(loop, dies->ear.closeds);
	labourer_end(dies);
	check_equal(descriptors_open(), open);
	ipc_loop_destroy(loop);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(last_words_of_a_worker_arrive_every_time),
		loop_test(last_words_arrive_though_the_worker_left_data_unread),
		loop_test(a_killed_worker_is_an_end),
		loop_test(a_worker_that_dies_within_a_large_message_is_an_end),
		loop_test(a_worker_that_dies_with_a_loop_is_an_end),
		loop_test(workers_killed_at_any_point_are_ends_and_nothing_is_left),
	};

	return run_on_engines(tests);
}
