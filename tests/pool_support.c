/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

const struct ipc_channel_options wide = {
	.size = sizeof(struct ipc_channel_options),
	.fds_max = IPC_MESSAGE_FDS_LIMIT,
	.message_max = 32U << 20,
};

/*
 * In a worker.
 */

#define HELD_MAX 5000

static uint64_t held[HELD_MAX];
static unsigned int n_held, n_cancelled;

/* A pool may be gone at any time. */
static void
expect_sent(int r)
{
	if (r == -EPIPE)
		_exit(0);
	check_equal(r, 0);
}

static void
answer(struct ipc_channel *channel, uint64_t id, uint64_t n, uint16_t flags)
{
	struct ipc_message request = {.id = id};
	struct ipc_message reply = {.data = &n, .size = sizeof(n), .flags = flags};

	expect_sent(ipc_channel_reply(channel, &request, &reply, TEST_WAIT_MS));
}

static void
hold(uint64_t id)
{
	check(n_held < HELD_MAX);
	held[n_held++] = id;
}

static void
release(struct ipc_channel *channel)
{
	while (n_held) {
		n_held--;
		answer(channel, held[n_held], n_held, 0);
	}
}

/* The answer to a request is not waited for any more: it must be one that is here. */
static void
be_told(const struct ipc_message *message)
{
	unsigned int i;

	check_equal(message->size, 0);
	for (i = 0; i < n_held && held[i] != message->id; i++)
		;
	n_cancelled += i < n_held;
}

static void
talk(struct ipc_channel *channel, uint64_t n)
{
	struct ipc_message message = {.size = sizeof(n), .type = TASK_TALK};
	uint64_t i;

	for (i = 0; i < n; i++) {
		message.data = &i;
		expect_sent(ipc_channel_post(channel, &message, TEST_WAIT_MS));
	}
}

static uint64_t
ask_back(struct ipc_channel *channel)
{
	struct ipc_message question = text_message("what is it?"), reply;
	uint64_t n;

	question.type = TASK_ASK;
	expect_sent(ipc_channel_call(channel, &question, &reply, TEST_WAIT_MS));
	check_equal(reply.size, sizeof(n));
	memcpy(&n, reply.data, sizeof(n));
	return n;
}

/* Never returns. */
static void
end_badly(struct ipc_channel *channel, uint16_t task, uint64_t n)
{
	volatile unsigned int turns = 0;

	switch (task) {
	case TASK_EXIT:
		_exit((int)n);
	case TASK_CLOSE:
		check_equal(close(ipc_channel_fd(channel)), 0);
		break;
	case TASK_SPIN:
		for (;;)
			turns++;
	case TASK_HANG:
		break;
	default:
		(void)kill(getpid(), SIGKILL);
	}
	for (;;)
		(void)pause();
}

static uint64_t
number_in(const struct ipc_message *message)
{
	uint64_t n = 0;

	if (message->size == sizeof(n))
		memcpy(&n, message->data, sizeof(n));
	return n;
}

/* Do what comes before the answer. Return: what that is. */
static uint64_t
perform(struct ipc_channel *channel, const struct ipc_message *message)
{
	uint64_t n = number_in(message), i;

	switch (message->type) {
	case TASK_PARTS:
		for (i = 0; i < n; i++)
			answer(channel, message->id, i, IPC_MESSAGE_MORE);
		return n;
	case TASK_RELEASE:
		release(channel);
		return n;
	case TASK_DROP:
		n_held = 0;
		return n;
	case TASK_SLEEP:
		sleep_ms((int)n);
		return n;
	case TASK_PID:
		return (uint64_t)getpid();
	case TASK_STOP:
		(void)raise(SIGSTOP);
		return n;
	case TASK_TALK:
		talk(channel, n);
		return n;
	case TASK_ASK:
		return ask_back(channel);
	case TASK_CANCELS:
		return n_cancelled;
	default:
		return n;
	}
}

void
obey(struct ipc_channel *channel, struct ipc_message *message)
{
	uint64_t n = number_in(message);

	if (message->flags & IPC_MESSAGE_CANCEL) {
		be_told(message);
		return;
	}
	if (!message->id) {
		(void)perform(channel, message);
		return;
	}
	switch (message->type) {
	case TASK_HOLD:
		hold(message->id);
		return;
	case TASK_PART_AND_KILL:
		answer(channel, message->id, n, IPC_MESSAGE_MORE);
		end_badly(channel, TASK_KILL, n);
		return;
	case TASK_KILL:
	case TASK_EXIT:
	case TASK_HANG:
	case TASK_SPIN:
	case TASK_CLOSE:
		end_badly(channel, message->type, n);
		return;
	default:
		break;
	}
	if (message->type == TASK_ECHO || message->type >= TASKS) {
		expect_sent(ipc_channel_reply(channel, message, message, TEST_WAIT_MS));
		return;
	}
	answer(channel, message->id, perform(channel, message), 0);
	if (message->type == TASK_LAST)
		_exit((int)n);
}

int
serve(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;
	int r;

	(void)arg;
	alarm(TEST_SECONDS_MAX);
	n_held = n_cancelled = 0;
	while ((r = ipc_channel_recv(channel, &message, -1)) == 0)
		obey(channel, &message);
	check_equal(r, -EPIPE);
	return 0;
}

int
play_serve(char **argv)
{
	struct ipc_channel *channel;
	int r;

	(void)argv;
	check_equal(ipc_channel_inherit(&channel, &wide), 0);
	r = serve(channel, NULL);
	ipc_channel_close(channel);
	return r;
}

/*
 * The desk.
 */

static void
enter(struct desk *desk, const struct ipc_pool *pool)
{
	check(pool == desk->pool || !desk->pool);
	check(!desk->calling);
	if (!desk->allowing)
		callback_enter();
	desk->allowing++;
}

static void
leave(struct desk *desk)
{
	if (!--desk->allowing)
		callback_leave();
}

static void
on_writable(struct ipc_pool *pool, void *user)
{
	struct desk *desk = user;

	enter(desk, pool);
	desk->writables++;
	if (desk->on_writable)
		desk->on_writable(desk);
	leave(desk);
}

static void
on_message(
	struct ipc_pool *pool, struct ipc_worker *worker, struct ipc_message *message, void *user)
{
	struct desk *desk = user;

	enter(desk, pool);
	check(worker);
	check(!(message->flags & IPC_MESSAGE_REPLY));
	desk->messages++;
	if (desk->on_message)
		desk->on_message(desk, worker, message);
	leave(desk);
}

static void
on_started(struct ipc_pool *pool, struct ipc_worker *worker, void *user)
{
	struct desk *desk = user;

	enter(desk, pool);
	check(worker && ipc_worker_channel(worker));
	desk->starteds++;
	desk->latest = worker;
	if (desk->on_started)
		desk->on_started(desk, worker);
	leave(desk);
}

static void
on_ended(struct ipc_pool *pool, struct ipc_worker *worker, const struct ipc_worker_end *end,
	void *user)
{
	struct desk *desk = user;

	enter(desk, pool);
	desk->endeds++;
	desk->deaths += WIFSIGNALED(end->status);
	desk->status = end->status;
	/* That of a check which did not hold. */
	if (!desk->fails)
		check(!WIFEXITED(end->status) || WEXITSTATUS(end->status) != 1);
	if (desk->on_ended)
		desk->on_ended(desk, worker, end);
	leave(desk);
}

static void
on_drained(struct ipc_pool *pool, int result, void *user)
{
	struct desk *desk = user;

	enter(desk, pool);
	check_equal(desk->draineds, 0);
	desk->draineds++;
	desk->drain_result = result;
	if (desk->on_drained)
		desk->on_drained(desk, result);
	leave(desk);
}

int
desk_try(struct desk *desk, const struct ipc_pool_options *given)
{
	static const struct ipc_worker_options server = {
		.size = sizeof(server),
		.run = serve,
		.channel = &wide,
		.parent_death_signal = SIGKILL,
	};
	struct ipc_pool_options options = *given;
	struct ipc_pool *pool;
	int r;

	if (!options.worker)
		options.worker = &server;
	options.handler = (struct ipc_pool_handler){
		.writable = on_writable,
		.message = on_message,
		.started = on_started,
		.ended = on_ended,
		.drained = on_drained,
	};
	options.user = desk;
	desk->allowing = 0;
	r = ipc_pool_create(&pool, desk->loop, &options);
	if (r == 0)
		desk->pool = pool;
	return r;
}

void
desk_open(struct desk *desk, const struct ipc_pool_options *options)
{
	if (!desk->loop)
		desk->loop = loop_open(NULL);
	check_equal(desk_try(desk, options), 0);
}

void
desk_destroy(struct desk *desk)
{
	struct ipc_pool *pool = desk->pool;
	bool outermost = !desk->allowing;

	if (!pool)
		return;
	if (outermost)
		callback_enter();
	desk->allowing++;
	check(!ipc_pool_destroy(pool));
	desk->pool = NULL;
	desk->allowing--;
	if (outermost)
		callback_leave();
}

void
desk_close(struct desk *desk)
{
	desk_destroy(desk);
	desk->loop = ipc_loop_destroy(desk->loop);
}

/*
 * Calls.
 */

static void
verify(const struct call *call, const struct ipc_message *reply)
{
	check(reply);
	check_equal(reply->id, call->id);
	check(reply->flags & IPC_MESSAGE_REPLY);
	if (call->echo) {
		check_equal(reply->size, call->echo - 1);
		check(is_filled(reply->data, reply->size, call->key));
	}
}

static void
on_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct call *call = user;
	struct desk *desk = call->desk;

	enter(desk, pool);
	check_equal(call->ends, 0);
	if (result >= 0)
		verify(call, reply);
	else
		check(!reply);
	if (result == IPC_POOL_MORE) {
		check(reply->flags & IPC_MESSAGE_MORE);
		call->parts++;
		desk->parts++;
		if (call->on_part)
			call->on_part(call, reply);
	} else {
		check(result <= 0);
		call->ends++;
		call->at = ++desk->ends;
		call->result = result;
		desk->results[result < 0]++;
		call->n = result == 0 ? number_in(reply) : 0;
		call->size = result == 0 ? reply->size : 0;
		if (call->on_end)
			call->on_end(call, reply);
	}
	leave(desk);
}

int
call_message(struct desk *desk, struct call *call, const struct ipc_message *message,
	int timeout_ms, const struct ipc_call_options *options)
{
	struct ipc_call_options own = {.size = sizeof(own)};
	uint64_t name = 0;
	int r;

	if (options)
		own = *options;
	own.ret_request = &name;
	call->desk = desk;
	call->id = message->id;
	call->ends = call->parts = 0;
	desk->calling = true;
	r = ipc_pool_call_with(desk->pool, message, on_reply, call, timeout_ms, &own);
	desk->calling = false;
	check(r <= 0);
	check(r == 0 ? name != 0 : name == 0);
	call->name = name;
	return r;
}

static void
call_number(struct desk *desk, struct call *call, enum task task, uint64_t n, int timeout_ms,
	unsigned int attempts)
{
	static uint64_t id = 1000;
	struct ipc_message message = {
		.data = &n, .size = sizeof(n), .type = (uint16_t)task, .id = id++};
	struct ipc_call_options options = {.size = sizeof(options), .attempts = attempts};

	check_equal(call_message(desk, call, &message, timeout_ms, &options), 0);
}

void
call_task(struct desk *desk, struct call *call, enum task task, uint64_t n)
{
	call_number(desk, call, task, n, -1, 0);
}

void
call_task_within(struct desk *desk, struct call *call, enum task task, uint64_t n, int timeout_ms)
{
	call_number(desk, call, task, n, timeout_ms, 0);
}

void
call_task_attempts(
	struct desk *desk, struct call *call, enum task task, uint64_t n, unsigned int attempts)
{
	call_number(desk, call, task, n, -1, attempts);
}

int
call_echo(struct desk *desk, struct call *call, size_t size, unsigned int attempts)
{
	struct ipc_call_options options = {.size = sizeof(options), .attempts = attempts};
	struct ipc_message message = {.size = size, .id = test_random()};
	unsigned char *payload = malloc(size + 1);
	int r;

	check(payload);
	call->key = test_random();
	call->echo = size + 1;
	fill(payload, size, call->key);
	message.data = payload;
	r = call_message(desk, call, &message, -1, &options);
	/* The message is borrowed: nothing looks at it any more. */
	memset(payload, 0xEE, size);
	free(payload);
	return r;
}

void
tell_latest(const struct desk *desk, enum task task)
{
	struct ipc_message message = {.type = (uint16_t)task};

	check_equal(ipc_channel_post(ipc_worker_channel(desk->latest), &message, 0), 0);
}

void
expect_call(struct call *call, int result)
{
	turn_until(call->desk->loop, call->ends);
	check_equal(call->ends, 1);
	check_equal(call->result, result);
}

uint64_t
ask(struct desk *desk, enum task task, uint64_t n, int result)
{
	struct call call = {.ends = 0};

	call_task(desk, &call, task, n);
	expect_call(&call, result);
	return call.n;
}

void
cancel(struct call *call)
{
	struct desk *desk = call->desk;
	bool outermost = !desk->allowing;

	if (outermost)
		callback_enter();
	desk->allowing++;
	check_equal(ipc_pool_cancel(desk->pool, call->name), 0);
	desk->allowing--;
	if (outermost)
		callback_leave();
	check_equal(call->ends, 1);
	check_equal(call->result, -ECANCELED);
}

void
turn_for(struct ipc_loop *loop, int ms)
{
	int64_t end_ms = now_ms() + ms;

	while (now_ms() < end_ms)
		check(ipc_loop_turn(loop, (int)(end_ms - now_ms()) + 1) >= 0);
}

void
await_ready(struct desk *desk, unsigned int n)
{
	turn_until(desk->loop, pool_stats(desk).ready == n);
}

void
await_places(struct desk *desk, unsigned int n)
{
	struct ipc_pool_worker_stats stats = {.size = sizeof(stats)};

	turn_until(desk->loop, pool_stats(desk).ready == n &&
				       ipc_pool_worker_stats(desk->pool, n, &stats) == -ENOENT);
}

struct ipc_pool_stats
pool_stats(const struct desk *desk)
{
	struct ipc_pool_stats stats = {.size = sizeof(stats)};

	ipc_pool_stats(desk->pool, &stats);
	check_equal(stats.size, sizeof(stats));
	return stats;
}

struct ipc_pool_worker_stats
place_stats(const struct desk *desk, unsigned int index)
{
	struct ipc_pool_worker_stats stats = {.size = sizeof(stats)};

	check_equal(ipc_pool_worker_stats(desk->pool, index, &stats), 0);
	check_equal(stats.size, sizeof(stats));
	return stats;
}

void
signal_place(const struct desk *desk, unsigned int index, int signal)
{
	pid_t pid = place_stats(desk, index).pid;

	/* Others are the whole machine's. */
	check(pid > 1);
	check_equal(kill(pid, signal), 0);
}

void
expect_sums(const struct desk *desk, bool idle)
{
	struct ipc_pool_stats stats = pool_stats(desk);
	uint64_t ended =
		stats.completed + stats.timed_out + stats.cancelled + stats.died + stats.failed;

	check_equal(ended + stats.outstanding + stats.queued, stats.calls);
	check_equal(ended, desk->ends);
	check_equal(stats.completed, desk->results[0]);
	check(stats.restarts <= stats.starts);
	if (idle)
		check_equal(stats.outstanding + stats.queued, 0);
}
