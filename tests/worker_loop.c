/* SPDX-License-Identifier: MIT */

/* Workers in a loop: every message, then closed(), then died(), once, whatever a callback does. */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop_support.h"
#include "worker_support.h"

#define worker_loop_test(function) \
	cmocka_unit_test_setup_teardown(function, worker_loop_test_begin, worker_test_end)

static int
worker_loop_test_begin(void **state)
{
	return loop_test_begin(state);
}

/* What a worker's callbacks were, in which order they must come, and what one of them is to do. */
struct watch_over {
	struct ipc_loop *loop;
	struct ipc_worker *worker;
	unsigned int messages, closeds, dieds;
	int reason;
	struct ipc_worker_end end;
	size_t size; /* of the latest message */
	void (*act)(struct watch_over *own);
	unsigned int act_after; /* so many messages; then closed, then died */
};

static void
act(struct watch_over *own)
{
	unsigned int step = own->messages + own->closeds + own->dieds;

	if (own->act && step == own->act_after)
		own->act(own);
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct watch_over *own = user;

	callback_enter();
	check(channel == ipc_worker_channel(own->worker));
	check(!own->closeds && !own->dieds);
	own->messages++;
	own->size = message->size;
	act(own);
	callback_leave();
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct watch_over *own = user;

	callback_enter();
	check(channel == ipc_worker_channel(own->worker));
	check(!own->closeds && !own->dieds);
	own->closeds++;
	own->reason = reason;
	act(own);
	callback_leave();
}

static void
on_died(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	struct watch_over *own = user;

	callback_enter();
	check(worker == own->worker);
	check(!own->dieds);
	own->dieds++;
	own->end = *end;
	act(own);
	callback_leave();
}

static const struct ipc_worker_handler handler = {
	.channel = {.message = on_message, .closed = on_closed},
	.died = on_died,
};

static void
attach(struct watch_over *own, struct ipc_loop *loop, struct ipc_worker *worker)
{
	own->loop = loop;
	own->worker = worker;
	check_equal(ipc_worker_attach(loop, worker, &handler, own), 0);
}

/* The number of a descriptor that a worker is given. */
#define HELD 20

/* How many messages of which size a worker sends, and what it leaves behind. */
struct script {
	unsigned int n;
	size_t size;
	int status;
	int held; /* a pipe's end that the grandchild holds; -1: there is no grandchild */
	bool floods;
};

static void
send_all(struct ipc_channel *channel, const struct script *script)
{
	unsigned char *payload = calloc(1, script->size + 1);
	struct ipc_message message = {.data = payload, .size = script->size};
	unsigned int i;

	check(payload);
	for (i = 0; i < script->n; i++)
		check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
	check_equal(ipc_channel_flush(channel, TEST_WAIT_MS), 0);
	free(payload);
}

/* Has the worker's end and will not give it back while the test has the other end of the pipe. */
static void
haunt(struct ipc_channel *channel, const struct script *script)
{
	struct ipc_message message = {.data = "more", .size = 5};
	struct pollfd pipe_end = {.fd = HELD};
	int r = 0;

	alarm(TEST_SECONDS_MAX);
	while (r == 0 && script->floods)
		r = ipc_channel_post(channel, &message, -1);
	if (script->floods)
		_exit(r == -EPIPE ? 0 : 1);
	check_equal(poll(&pipe_end, 1, -1), 1);
	_exit(0);
}

static int
play(struct ipc_channel *channel, void *arg)
{
	const struct script *script = arg;
	pid_t pid;

	send_all(channel, script);
	if (script->held >= 0) {
		pid = fork();
		check(pid >= 0);
		if (pid == 0)
			haunt(channel, script);
	}
	_exit(script->status);
}

static struct ipc_worker *
spawn_script(const struct script *script)
{
	struct ipc_worker_fd fd = {.fd = script->held, .as = HELD};

	/* The kernel doubles it: room for MANY. */
	return spawn(WORKER(.run = play, .arg = (void *)script, .fds = &fd,
		.n_fds = script->held >= 0, .channel = OPTIONS(.send_buffer = 212992)));
}

static void
expect_dead(const struct watch_over *own, unsigned int messages, int status)
{
	check_equal(own->messages, messages);
	check_equal(own->closeds, 1);
	check_equal(own->reason, 0);
	check_equal(own->dieds, 1);
	check_equal(own->end.size, sizeof(own->end));
	check(WIFEXITED(own->end.status));
	check_equal(WEXITSTATUS(own->end.status), status);
}

static void
last_words_come_then_closed_then_died(void **state)
{
	unsigned int i, n = test_count(1000, 50);
	struct ipc_loop *loop = loop_open(NULL);
	struct script script = {.size = 16, .held = -1};
	struct watch_over own;

	(void)state;
	for (i = 0; i < n; i++) {
		script.n = (unsigned int)test_random_below(4);
		script.status = (int)test_random_below(100);
		own = (struct watch_over){.reason = -1};
		attach(&own, loop, spawn_script(&script));
		if (test_random_below(2))
			check_equal(ipc_channel_send(ipc_worker_channel(own.worker),
					    &(struct ipc_message){.data = "unread", .size = 7}, 0),
				0);
		/* It has ended before the loop looks, or not. */
		if (test_random_below(2))
			expect_exit(own.worker, script.status);
		turn_until(loop, own.dieds);
		expect_dead(&own, script.n, script.status);
		check_equal(turn_out(loop), 0);
		ipc_worker_free(own.worker);
	}
	ipc_loop_destroy(loop);
}

static void
large_messages_and_many_are_given_out_before_died(void **state)
{
	const struct script scripts[] = {
		{.n = 3, .size = 6U << 20, .held = -1},
		{.n = 60000, .size = 0, .held = -1},
		{.n = 20000, .size = 100, .held = -1},
	};
	struct ipc_loop *loop = loop_open(NULL);
	struct watch_over own;
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		own = (struct watch_over){.reason = -1};
		attach(&own, loop, spawn_script(&scripts[i]));
		turn_until(loop, own.dieds);
		expect_dead(&own, scripts[i].n, 0);
		check_equal(own.size, scripts[i].size);
		ipc_worker_free(own.worker);
	}
	ipc_loop_destroy(loop);
}

static int
close_and_wait(struct ipc_channel *channel, void *arg)
{
	char byte;

	(void)arg;
	/* The library closes it once more: it is no descriptor of another's by then. */
	check_equal(shutdown(ipc_channel_fd(channel), SHUT_RDWR), 0);
	check_equal(read(HELD, &byte, 1), 1);
	return 9;
}

static void
one_that_closes_its_end_dies_later(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct watch_over own = {.reason = -1};
	struct ipc_worker_fd fd = {.as = HELD};
	int ends[2];

	(void)state;
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	fd.fd = ends[0];
	attach(&own, loop, spawn(WORKER(.run = close_and_wait, .fds = &fd, .n_fds = 1)));
	turn_until(loop, own.closeds);
	check_equal(ipc_loop_turn(loop, 20), 0);
	check(!own.dieds);
	check_equal(write(ends[1], "x", 1), 1);
	turn_until(loop, own.dieds);
	expect_dead(&own, 0, 9);
	ipc_worker_free(own.worker);
	check_equal(close(ends[0]) + close(ends[1]), 0);
	ipc_loop_destroy(loop);
}

/* A worker that leaves a grandchild with its end. held is a pipe that the grandchild has. */
static struct ipc_worker *
spawn_haunted(struct script *script, int *ret_pipe)
{
	struct ipc_worker *worker;
	int ends[2];

	check_equal(pipe2(ends, O_CLOEXEC), 0);
	script->held = ends[1];
	worker = spawn_script(script);
	check_equal(close(ends[1]), 0);
	*ret_pipe = ends[0];
	return worker;
}

static void
a_grandchild_with_the_end_delays_nothing(void **state)
{
	struct script script = {.n = 5, .size = 16, .status = 1};
	struct ipc_loop *loop = loop_open(NULL);
	struct watch_over own = {.reason = -1};
	int held;

	(void)state;
	attach(&own, loop, spawn_haunted(&script, &held));
	turn_until(loop, own.dieds);
	expect_dead(&own, 5, 1);
	check(!is_readable(held));
	check_equal(close(held), 0);
	ipc_worker_free(own.worker);
	ipc_loop_destroy(loop);
}

static void
a_grandchild_that_floods_delays_nothing(void **state)
{
	struct script script = {.n = 5, .size = 16, .status = 1, .floods = true};
	unsigned int i, n = test_count(50, 5);
	struct ipc_loop *loop = loop_open(NULL);
	struct pollfd gone = {.events = POLLIN};
	struct watch_over own;
	char byte;

	(void)state;
	for (i = 0; i < n; i++) {
		own = (struct watch_over){.reason = -1};
		attach(&own, loop, spawn_haunted(&script, &gone.fd));
		turn_until(loop, own.dieds);
		expect_dead(&own, own.messages, 1);
		check(own.messages >= 5);
		/* What it sends from then on is refused. */
		check_equal(poll(&gone, 1, TEST_WAIT_MS), 1);
		check_equal(read(gone.fd, &byte, 1), 0);
		check_equal(close(gone.fd), 0);
		ipc_worker_free(own.worker);
	}
	ipc_loop_destroy(loop);
}

/* Messages that a turn cannot give out all, and no end of stream after them: the first are given
   out by the loop, the others at the worker's death. */
#define MANY 36000

static void
send_is_refused(struct watch_over *own)
{
	const struct ipc_message message = {.data = "late", .size = 5};
	static char large[1 << 20];
	const struct ipc_message more = {.data = large, .size = sizeof(large)};
	struct ipc_channel *channel = ipc_worker_channel(own->worker);

	/* It does not wait, though nobody receives it. */
	check_equal(ipc_channel_send(channel, &message, -1), -EPIPE);
	check_equal(ipc_channel_send(channel, &more, -1), -EPIPE);
	check_equal(ipc_loop_turn(own->loop, 0), -EBUSY);
}

static void
detach(struct watch_over *own)
{
	check_equal(ipc_worker_detach(own->loop, own->worker), own->dieds ? -ENOENT : 0);
	check_equal(ipc_worker_detach(own->loop, own->worker), -ENOENT);
}

static void
attach_again(struct watch_over *own)
{
	detach(own);
	if (!own->dieds)
		attach(own, own->loop, own->worker);
}

static void
free_worker(struct watch_over *own)
{
	own->worker = ipc_worker_free(own->worker);
}

static void
stop_worker(struct watch_over *own)
{
	int status;

	check_equal(ipc_worker_stop(own->worker, 0, &status), 0);
	check(!ipc_worker_channel(own->worker));
}

static void
destroy_loop(struct watch_over *own)
{
	own->loop = ipc_loop_destroy(own->loop);
}

static void
destroy_loop_and_worker(struct watch_over *own)
{
	destroy_loop(own);
	free_worker(own);
}

static void
worker_and_then_loop(struct watch_over *own)
{
	free_worker(own);
	destroy_loop(own);
}

/* Of a haunted worker's MANY messages, let one callback act. */
static void
act_at(void (*function)(struct watch_over *own), unsigned int step, struct watch_over *own)
{
	struct script script = {.n = MANY, .status = 1};
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_worker *worker;
	int held, turns;

	*own = (struct watch_over){.act = function, .act_after = step};
	worker = spawn_haunted(&script, &held);
	expect_exit(worker, 1);
	attach(own, loop, worker);
	for (turns = 0; own->loop && turns < 200; turns++)
		check(ipc_loop_turn(own->loop, 0) >= 0);
	check_equal(close(held), 0);
}

/* Receive what a loop gave back. */
static unsigned int
receive_rest(struct ipc_channel *channel)
{
	struct ipc_message message;
	unsigned int n;

	for (n = 0; ipc_channel_recv(channel, &message, 0) == 0; n++)
		;
	return n;
}

static void
act_at_all_steps(void (*function)(struct watch_over *own))
{
	const unsigned int steps[] = {1, 20000, MANY, MANY + 1, MANY + 2};
	struct watch_over own;
	unsigned int i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		act_at(function, steps[i], &own);
		/* Nothing came after it. */
		check_equal(own.messages + own.closeds + own.dieds, steps[i]);
		if (own.worker && ipc_worker_channel(own.worker))
			check_equal(
				own.messages + receive_rest(ipc_worker_channel(own.worker)), MANY);
		ipc_worker_free(own.worker);
		ipc_loop_destroy(own.loop);
	}
}

static void
a_callback_may_detach_the_worker(void **state)
{
	(void)state;
	act_at_all_steps(detach);
}

static void
a_callback_may_stop_the_worker(void **state)
{
	(void)state;
	act_at_all_steps(stop_worker);
}

static void
a_callback_may_free_the_worker(void **state)
{
	(void)state;
	act_at_all_steps(free_worker);
}

static void
a_callback_may_destroy_the_loop(void **state)
{
	(void)state;
	act_at_all_steps(destroy_loop);
	act_at_all_steps(destroy_loop_and_worker);
	act_at_all_steps(worker_and_then_loop);
}

static void
a_callback_may_attach_the_worker_again(void **state)
{
	const unsigned int steps[] = {1, 20000, MANY};
	struct watch_over own;
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		act_at(attach_again, steps[i], &own);
		expect_dead(&own, MANY, 1);
		ipc_worker_free(own.worker);
		ipc_loop_destroy(own.loop);
	}
}

static void
while_the_last_is_given_out_sends_do_not_wait(void **state)
{
	struct watch_over own;

	(void)state;
	act_at(send_is_refused, 30000, &own);
	expect_dead(&own, MANY, 1);
	ipc_worker_free(own.worker);
	ipc_loop_destroy(own.loop);
}

static void
a_child_forked_in_a_callback_goes_on_alone(struct watch_over *own)
{
	pid_t pid = fork();

	check(pid >= 0);
	if (pid) {
		child_end(pid);
		return;
	}
	/* Its copies are freed, and its turn ends without a further callback. */
	own->act_after = 0;
	own->worker = ipc_worker_free(own->worker);
	own->loop = ipc_loop_destroy(own->loop);
	_exit(0);
}

static void
a_callback_may_fork(void **state)
{
	const unsigned int steps[] = {1, 20000, MANY + 1, MANY + 2};
	struct watch_over own;
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		act_at(a_child_forked_in_a_callback_goes_on_alone, steps[i], &own);
		expect_dead(&own, MANY, 1);
		ipc_worker_free(own.worker);
		ipc_loop_destroy(own.loop);
	}
}

static void
a_worker_is_attached_once_and_not_when_stopped(void **state)
{
	struct ipc_loop *loop = loop_open(NULL), *other = loop_open(NULL);
	struct watch_over own = {.reason = -1};
	struct ipc_worker *worker = spawn(WORKER(.run = echo));
	struct ear ear = {.loop = loop};

	(void)state;
	check_equal(ipc_worker_detach(loop, worker), -ENOENT);
	attach(&own, loop, worker);
	check_equal(ipc_worker_attach(loop, worker, &handler, &own), -EBUSY);
	check_equal(ipc_worker_attach(other, worker, &handler, &own), -EBUSY);
	check_equal(ipc_worker_detach(other, worker), -ENOENT);
	check_equal(ipc_worker_detach(loop, worker), 0);
	expect_echo(worker);
	ear_attach(&ear, loop, ipc_worker_channel(worker));
	check_equal(ipc_worker_attach(loop, worker, &handler, &own), -EBUSY);
	check_equal(ipc_loop_detach(loop, ipc_worker_channel(worker)), 0);
	attach(&own, other, worker);
	gather_text(ipc_worker_channel(worker), "through the other");
	turn_until(other, own.messages);
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, NULL), 0);
	expect_exit(worker, 0);
	check_equal(turn_out(other), 0);
	check_equal(own.messages + own.closeds + own.dieds, 1);
	check_equal(ipc_worker_attach(loop, worker, &handler, &own), -EPIPE);
	ipc_worker_free(worker);
	ipc_loop_destroy(other);
	ipc_loop_destroy(loop);
}

static void
loop_and_worker_go_in_any_order(void **state)
{
	struct watch_over own = {.reason = -1};
	struct ipc_loop *loop = loop_open(NULL);

	(void)state;
	attach(&own, loop, spawn(WORKER(.run = echo)));
	ipc_loop_destroy(loop);
	expect_echo(own.worker);
	loop = loop_open(NULL);
	check_equal(ipc_worker_detach(loop, own.worker), -ENOENT);
	attach(&own, loop, own.worker);
	check_equal(ipc_loop_turn(loop, 0), 0);
	ipc_worker_free(own.worker);
	check_equal(turn_out(loop), 0);
	ipc_loop_destroy(loop);
	check_equal(own.messages + own.closeds + own.dieds, 0);
}

/* A death is work for who polls the loop's descriptor. */
static void
the_loops_descriptor_tells_of_a_death(void **state)
{
	struct ipc_loop *loop = loop_open(NULL);
	struct watch_over own = {.reason = -1};
	struct pollfd readable = {.fd = ipc_loop_fd(loop), .events = POLLIN};

	(void)state;
	attach(&own, loop, spawn(WORKER(.run = echo)));
	(void)turn_out(loop);
	check_equal(poll(&readable, 1, 0), 0);
	check_equal(ipc_worker_kill(own.worker, SIGKILL), 0);
	while (!own.dieds) {
		check_equal(poll(&readable, 1, TEST_WAIT_MS), 1);
		check(ipc_loop_turn(loop, 0) >= 0);
	}
	check_equal(own.closeds, 1);
	ipc_worker_free(own.worker);
	ipc_loop_destroy(loop);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		worker_loop_test(last_words_come_then_closed_then_died),
		worker_loop_test(large_messages_and_many_are_given_out_before_died),
		worker_loop_test(one_that_closes_its_end_dies_later),
		worker_loop_test(a_grandchild_with_the_end_delays_nothing),
		worker_loop_test(a_grandchild_that_floods_delays_nothing),
		worker_loop_test(while_the_last_is_given_out_sends_do_not_wait),
		worker_loop_test(a_callback_may_detach_the_worker),
		worker_loop_test(a_callback_may_stop_the_worker),
		worker_loop_test(a_callback_may_free_the_worker),
		worker_loop_test(a_callback_may_destroy_the_loop),
		worker_loop_test(a_callback_may_attach_the_worker_again),
		worker_loop_test(a_callback_may_fork),
		worker_loop_test(a_worker_is_attached_once_and_not_when_stopped),
		worker_loop_test(loop_and_worker_go_in_any_order),
		worker_loop_test(the_loops_descriptor_tells_of_a_death),
	};

	return run_on_engines(tests);
}
