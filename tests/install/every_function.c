/* SPDX-License-Identifier: MIT */
/*
 * A program of a user: every function of the installed headers is called once and
 * its result looked at. Knows libipc by its installation alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc.h>

#define WAIT_MS 10000

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

static void
receive_text(struct ipc_channel *channel, const char *text)
{
	struct ipc_message message;

	CHECK(ipc_channel_recv(channel, &message, WAIT_MS) == 0);
	CHECK(message.size == strlen(text) && memcmp(message.data, text, message.size) == 0);
}

/* pair, post, flush, send, recv, fd, stats, close */
static void
messages_over_a_pair(void)
{
	struct ipc_channel *a, *b;
	struct ipc_channel_stats stats = {.size = sizeof(stats)};
	struct ipc_message message = {.data = "posted", .size = 6};
	struct pollfd readable = {.events = POLLIN};

	CHECK(ipc_channel_pair(&a, &b, NULL) == 0);
	CHECK(ipc_channel_post(a, &message, WAIT_MS) == 0);
	CHECK(ipc_channel_flush(a, WAIT_MS) == 0);
	message = (struct ipc_message){.data = "sent", .size = 4};
	CHECK(ipc_channel_send(a, &message, WAIT_MS) == 0);

	readable.fd = ipc_channel_fd(b);
	CHECK(poll(&readable, 1, WAIT_MS) == 1);
	receive_text(b, "posted");
	receive_text(b, "sent");

	ipc_channel_stats(b, &stats);
	CHECK(stats.in.messages == 2 && stats.out.messages == 0);

	CHECK(ipc_channel_close(a) == NULL);
	CHECK(ipc_channel_close(b) == NULL);
}

/* recv and reply in a child; open and call in its parent, which takes a descriptor */
static int
serve_one_request(int fd)
{
	struct ipc_channel *channel;
	struct ipc_message request, reply = {.n_fds = 1};
	int ends[2];

	CHECK(ipc_channel_open(&channel, fd, NULL) == 0);
	CHECK(ipc_channel_recv(channel, &request, WAIT_MS) == 0);
	CHECK(pipe(ends) == 0);
	CHECK(write(ends[1], request.data, request.size) == (ssize_t)request.size);
	reply.fds = &ends[0];
	CHECK(ipc_channel_reply(channel, &request, &reply, WAIT_MS) == 0);
	ipc_channel_close(channel);
	return 0;
}

static void
call_to_a_child(void)
{
	const struct ipc_channel_options options = {.size = sizeof(options), .fds_max = 1};
	const struct ipc_message request = {.data = "through a pipe", .size = 14};
	struct ipc_channel *channel;
	struct ipc_message reply;
	int ends[2], taken, status;
	char text[14];
	pid_t child;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(ends[0]);
		_exit(serve_one_request(ends[1]));
	}
	close(ends[1]);

	CHECK(ipc_channel_open(&channel, ends[0], &options) == 0);
	CHECK(ipc_channel_call(channel, &request, &reply, WAIT_MS) == 0);
	CHECK((reply.flags & IPC_MESSAGE_REPLY) != 0 && reply.n_fds == 1);
	taken = ipc_message_take_fd(&reply, 0);
	CHECK(taken >= 0);
	ipc_channel_close(channel);

	CHECK(read(taken, text, sizeof(text)) == (ssize_t)sizeof(text));
	CHECK(memcmp(text, request.data, sizeof(text)) == 0);
	close(taken);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* inherit, as a worker does it */
static void
inherit_an_end(void)
{
	const struct ipc_message message = {.data = "hello, worker", .size = 13};
	struct ipc_channel *parent, *worker;
	char variable[32];
	int ends[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	CHECK(ipc_channel_open(&parent, ends[0], NULL) == 0);
	snprintf(variable, sizeof(variable), "%d:%ld", ends[1], (long)getpid());
	CHECK(setenv("LIBIPC_CHANNEL", variable, 1) == 0);
	CHECK(ipc_channel_inherit(&worker, NULL) == 0);
	CHECK(getenv("LIBIPC_CHANNEL") == NULL);

	CHECK(ipc_channel_send(parent, &message, WAIT_MS) == 0);
	receive_text(worker, "hello, worker");
	ipc_channel_close(parent);
	ipc_channel_close(worker);
}

/* loop_create, engine, engine_reason, attach, run, stop, fd, turn, detach, stats and destroy */
struct seen {
	struct ipc_loop *loop;
	unsigned int messages, ends, ticks, events;
};

static void
see_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct seen *seen = user;

	CHECK(ipc_channel_recv(channel, message, 0) == -EBUSY);
	seen->messages++;
	ipc_loop_stop(seen->loop);
}

static void
see_end(struct ipc_channel *channel, int reason, void *user)
{
	struct seen *seen = user;

	CHECK(channel && reason == 0);
	seen->ends++;
	ipc_loop_stop(seen->loop);
}

static void
channels_on_a_loop(void)
{
	static const struct ipc_channel_handler handler = {
		.message = see_message, .closed = see_end};
	const struct ipc_message message = {.data = "sent", .size = 4};
	struct ipc_loop_options options = {.size = sizeof(options), .buffers = 8};
	struct ipc_loop_stats stats = {.size = sizeof(stats)};
	struct ipc_channel *here, *there;
	struct seen seen = {0};
	struct pollfd readable = {.events = POLLIN};
	const char *engine;

	CHECK(ipc_loop_create(&seen.loop, &options) == 0);
	engine = ipc_loop_engine(seen.loop);
	CHECK(strcmp(engine, "io_uring") == 0 || strcmp(engine, "epoll") == 0);
	CHECK(ipc_loop_engine_reason(seen.loop)[0] != 0);

	CHECK(ipc_channel_pair(&here, &there, NULL) == 0);
	CHECK(ipc_loop_attach(seen.loop, here, &handler, &seen) == 0);
	CHECK(ipc_channel_send(there, &message, WAIT_MS) == 0);
	CHECK(ipc_loop_run(seen.loop) == 0 && seen.messages == 1);

	readable.fd = ipc_loop_fd(seen.loop);
	CHECK(poll(&readable, 1, 0) == 0);
	CHECK(ipc_channel_send(here, &message, 0) == 0);
	CHECK(poll(&readable, 1, WAIT_MS) == 1);
	CHECK(ipc_loop_turn(seen.loop, 0) >= 0);
	receive_text(there, "sent");

	CHECK(ipc_loop_detach(seen.loop, here) == 0);
	CHECK(ipc_channel_send(there, &message, WAIT_MS) == 0);
	receive_text(here, "sent");
	CHECK(ipc_loop_attach(seen.loop, here, &handler, &seen) == 0);
	ipc_channel_close(there);
	CHECK(ipc_loop_run(seen.loop) == 0 && seen.ends == 1 && seen.messages == 1);

	ipc_loop_stats(seen.loop, &stats);
	CHECK(stats.events == 2 && stats.turns >= 3);
	CHECK(ipc_loop_destroy(seen.loop) == NULL);
	ipc_channel_close(here);
}

/* timer_start and stop, watch_start and stop */
static void
see_tick(struct ipc_timer *timer, void *user)
{
	struct seen *seen = user;

	if (++seen->ticks == 3)
		CHECK(ipc_timer_stop(timer) == NULL);
}

static void
see_event(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct seen *seen = user;

	CHECK((events & POLLIN) != 0);
	seen->events++;
	CHECK(ipc_watch_stop(watch) == NULL);
}

static void
timers_and_watches(void)
{
	struct seen seen = {0};
	struct ipc_timer *timer;
	struct ipc_watch *watch;
	int ends[2], i;

	CHECK(ipc_loop_create(&seen.loop, NULL) == 0);
	CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
	CHECK(ipc_timer_start(&timer, seen.loop, 1, 1, see_tick, &seen) == 0);
	CHECK(ipc_watch_start(&watch, seen.loop, ends[0], POLLIN, see_event, &seen) == 0);
	for (i = 0; i < 1000 && (seen.ticks < 3 || seen.events < 1); i++)
		CHECK(ipc_loop_turn(seen.loop, WAIT_MS) >= 0);
	CHECK(seen.ticks == 3 && seen.events == 1);
	ipc_loop_destroy(seen.loop);
	close(ends[0]);
	close(ends[1]);
}

/* worker_spawn, channel, pid, pidfd, wait, kill, attach, detach, stop and free */
static int
serve(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;

	while (ipc_channel_recv(channel, &message, WAIT_MS) == 0)
		CHECK(ipc_channel_send(channel, &message, WAIT_MS) == 0);
	return *(int *)arg;
}

static void
see_death(struct ipc_worker *worker, const struct ipc_worker_end *end, void *user)
{
	struct seen *seen = user;

	CHECK(worker && WIFSIGNALED(end->status) && WTERMSIG(end->status) == SIGKILL);
	seen->events++;
}

static void
workers(void)
{
	static const struct ipc_worker_handler handler = {
		.channel = {.message = see_message, .closed = see_end},
		.died = see_death,
	};
	int status = 7;
	struct ipc_worker_options options = {.size = sizeof(options), .run = serve, .arg = &status};
	struct ipc_worker_end end = {.size = sizeof(end)};
	const struct ipc_message message = {.data = "sent", .size = 4};
	struct seen seen = {0};
	struct ipc_worker *first, *second;
	int i;

	CHECK(ipc_loop_create(&seen.loop, NULL) == 0);
	CHECK(ipc_worker_spawn(&first, &options) == 0);
	CHECK(ipc_worker_spawn(&second, &options) == 0);
	CHECK(ipc_worker_pid(first) > 0 && ipc_worker_pidfd(first) >= 0);
	CHECK(ipc_worker_attach(seen.loop, first, &handler, &seen) == 0);
	CHECK(ipc_worker_detach(seen.loop, first) == 0);
	CHECK(ipc_channel_send(ipc_worker_channel(first), &message, WAIT_MS) == 0);
	receive_text(ipc_worker_channel(first), "sent");

	CHECK(ipc_worker_attach(seen.loop, second, &handler, &seen) == 0);
	CHECK(ipc_worker_kill(second, SIGKILL) == 0);
	for (i = 0; i < 1000 && !seen.events; i++)
		CHECK(ipc_loop_turn(seen.loop, WAIT_MS) >= 0);
	CHECK(seen.events == 1 && seen.ends == 1);
	CHECK(ipc_worker_free(second) == NULL);

	CHECK(ipc_worker_wait(first, 0, &end) == -EAGAIN);
	CHECK(ipc_worker_stop(first, WAIT_MS, &status) == 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(ipc_worker_wait(first, 0, &end) == 0 && end.status == status);
	CHECK(ipc_worker_free(first) == NULL);
	ipc_loop_destroy(seen.loop);
}

/* pool_create, call, call_with, cancel, resize, stats, worker_stats, drain, leave and destroy */
static int
answer(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message;

	(void)arg;
	CHECK(ipc_pool_leave(channel, WAIT_MS) == 0);
	while (ipc_channel_recv(channel, &message, WAIT_MS) == 0)
		CHECK(ipc_channel_reply(channel, &message, &message, WAIT_MS) == 0);
	return 0;
}

static void
see_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct seen *seen = user;

	CHECK(pool);
	if (result == 0)
		CHECK(reply->size == 4 && !memcmp(reply->data, "sent", 4));
	else
		CHECK(result == -ECANCELED && !reply);
	seen->events++;
}

static void
pools(void)
{
	const struct ipc_worker_options worker = {.size = sizeof(worker), .run = answer};
	const struct ipc_pool_options options = {
		.size = sizeof(options), .worker = &worker, .workers = 1};
	struct ipc_pool_worker_stats worker_stats = {.size = sizeof(worker_stats)};
	struct ipc_pool_stats stats = {.size = sizeof(stats)};
	const struct ipc_message message = {.data = "sent", .size = 4};
	struct seen seen = {0};
	struct ipc_pool *pool;
	uint64_t request;
	struct ipc_call_options call = {.size = sizeof(call), .ret_request = &request};

	CHECK(ipc_loop_create(&seen.loop, NULL) == 0);
	CHECK(ipc_pool_create(&pool, seen.loop, &options) == 0);
	CHECK(ipc_pool_call_with(pool, &message, see_reply, &seen, WAIT_MS, &call) == 0);
	CHECK(ipc_pool_cancel(pool, request) == 0 && seen.events == 1);
	CHECK(ipc_pool_call(pool, &message, see_reply, &seen, WAIT_MS) == 0);
	CHECK(ipc_pool_resize(pool, 2) == 0);
	CHECK(ipc_pool_worker_stats(pool, 1, &worker_stats) == 0 && worker_stats.pid > 0);
	CHECK(ipc_pool_drain(pool, WAIT_MS) == 0 && seen.events == 2);
	ipc_pool_stats(pool, &stats);
	CHECK(stats.left > 0);
	CHECK(stats.calls == 2 && stats.completed == 1 && stats.cancelled == 1);
	CHECK(ipc_pool_destroy(pool) == NULL);
	ipc_loop_destroy(seen.loop);
}

int
main(void)
{
	messages_over_a_pair();
	call_to_a_child();
	inherit_an_end();
	channels_on_a_loop();
	timers_and_watches();
	workers();
	pools();
	puts("every function answers");
	return 0;
}
