/* SPDX-License-Identifier: MIT */

/* Requests and what comes back: content, ids, types, descriptors, in any order, in several parts,
   and what nobody asked for. */

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

/* Types that are echoed. */
#define TYPE_FIRST 1000U

static void
the_reply_has_content_id_and_type(void **state)
{
	const size_t sizes[] = {
		0, 1, 7, 8, 63, 64, 65, 4095, 4096, 4097, 65535, 65536, 131072, 1 << 20, 20 << 20};
	struct ipc_message message = {.size = 0};
	struct call call = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned char *payload = malloc(20 << 20);
	unsigned int i;

	(void)state;
	check(payload);
	desk_open(&desk, POOL(.workers = 2));
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		message = (struct ipc_message){.size = sizes[i], .id = test_random()};
		message.data = sizes[i] ? payload : NULL;
		message.type = (uint16_t)(TYPE_FIRST + i);
		call = (struct call){.key = test_random(), .echo = sizes[i] + 1};
		fill(payload, sizes[i], call.key);
		check_equal(call_message(&desk, &call, &message, -1, NULL), 0);
		expect_call(&call, 0);
	}
	expect_sums(&desk, true);
	desk_close(&desk);
	free(payload);
}

static void
expect_type(struct call *call, struct ipc_message *reply)
{
	check(reply);
	check_equal(reply->type, (uintptr_t)call->arg);
}

static void
many_requests_each_get_their_own_reply(void **state)
{
	enum { N = 700 };
	struct call *calls = calloc(N, sizeof(*calls));
	unsigned int rounds = test_count(20, 2), round, i;
	struct ipc_message message = {.size = 0};
	struct desk desk = {.loop = NULL};
	unsigned char payload[3000];

	(void)state;
	check(calls);
	desk_open(&desk, POOL(.workers = 3));
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < N; i++) {
			/* The caller's ids need not differ. */
			message = (struct ipc_message){.data = payload, .id = i % 7};
			message.size = test_random_below(sizeof(payload));
			message.type = (uint16_t)(TYPE_FIRST + test_random_below(60000));
			calls[i] = (struct call){.key = test_random(), .echo = message.size + 1};
			calls[i].on_end = expect_type;
			calls[i].arg = (void *)(uintptr_t)message.type;
			fill(payload, message.size, calls[i].key);
			check_equal(call_message(&desk, &calls[i], &message, -1, NULL), 0);
		}
		turn_until(desk.loop, desk.ends == (round + 1) * N);
	}
	check_equal(desk.results[0], rounds * N);
	expect_sums(&desk, true);
	check_equal(pool_stats(&desk).strays, 0);
	desk_close(&desk);
	free(calls);
}

static void
replies_may_come_in_any_order(void **state)
{
	struct call holds[10], release = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(holds, 0, sizeof(holds));
	desk_open(&desk, POOL(.workers = 1));
	for (i = 0; i < 10; i++)
		call_task(&desk, &holds[i], TASK_HOLD, i);
	call_task(&desk, &release, TASK_RELEASE, 0);
	expect_call(&release, 0);
	for (i = 0; i < 10; i++) {
		expect_call(&holds[i], 0);
		check_equal(holds[i].n, i);
		check_equal(holds[i].at, 10 - i);
	}
	desk_close(&desk);
}

static void
expect_parts_in_order(struct call *call, struct ipc_message *reply)
{
	uint64_t n;

	check_equal(reply->size, sizeof(n));
	memcpy(&n, reply->data, sizeof(n));
	check_equal(n, call->parts - 1);
}

static void
all_but_the_last_of_several_replies_say_that_more_follow(void **state)
{
	struct call calls[4];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 2));
	for (i = 0; i < 4; i++) {
		calls[i].on_part = expect_parts_in_order;
		call_task(&desk, &calls[i], TASK_PARTS, i * 50);
	}
	for (i = 0; i < 4; i++) {
		expect_call(&calls[i], 0);
		check_equal(calls[i].parts, i * 50);
		check_equal(calls[i].n, i * 50);
	}
	check_equal(pool_stats(&desk).completed, 4);
	check_equal(pool_stats(&desk).strays, 0);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
expect_talk(struct desk *desk, struct ipc_worker *worker, struct ipc_message *message)
{
	uint64_t n;

	(void)worker;
	check_equal(message->type, TASK_TALK);
	check_equal(message->size, sizeof(n));
	memcpy(&n, message->data, sizeof(n));
	check_equal(n, desk->messages - 1);
}

static void
messages_of_a_workers_own_accord_go_to_message(void **state)
{
	struct desk desk = {.on_message = expect_talk};

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	check_equal(ask(&desk, TASK_TALK, 300, 0), 300);
	check_equal(desk.messages, 300);
	check_equal(pool_stats(&desk).strays, 0);
	desk_close(&desk);
}

static void
tell_what_it_is(struct desk *desk, struct ipc_worker *worker, struct ipc_message *message)
{
	uint64_t n = 4711;
	struct ipc_message reply = {.data = &n, .size = sizeof(n)};

	(void)desk;
	check_equal(message->type, TASK_ASK);
	check_equal(ipc_channel_reply(ipc_worker_channel(worker), message, &reply, 0), 0);
}

static void
a_request_of_a_worker_is_answered_on_its_channel(void **state)
{
	struct desk desk = {.on_message = tell_what_it_is};
	unsigned int i;

	(void)state;
	desk_open(&desk, POOL(.workers = 2));
	for (i = 0; i < 10; i++)
		check_equal(ask(&desk, TASK_ASK, 0, 0), 4711);
	check_equal(desk.messages, 10);
	desk_close(&desk);
}

/* Its first message must be the greeting; then it serves. */
static int
serve_who_greets(struct ipc_channel *channel, void *arg)
{
	expect_text(channel, "good morning");
	return serve(channel, arg);
}

static void
greet(struct desk *desk, struct ipc_worker *worker)
{
	struct ipc_pool_stats stats = pool_stats(desk);

	check(stats.ready < stats.workers);
	gather_text(ipc_worker_channel(worker), "good morning");
}

static void
what_started_sends_comes_before_any_request(void **state)
{
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = serve_who_greets, .channel = &wide};
	struct call calls[60];
	struct desk desk = {.on_started = greet};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.worker = &worker, .workers = 3));
	for (i = 0; i < 60; i++)
		check_equal(call_echo(&desk, &calls[i], i, 0), 0);
	for (i = 0; i < 60; i++)
		expect_call(&calls[i], 0);
	/* Each has, though all may have been done by the first. */
	turn_until(desk.loop, desk.starteds == 3);
	check_equal(desk.endeds, 0);
	desk_close(&desk);
}

static int
speak_at_once(struct ipc_channel *channel, void *arg)
{
	send_text(channel, "here I am");
	return serve(channel, arg);
}

static void
expect_started(struct desk *desk, struct ipc_worker *worker, struct ipc_message *message)
{
	(void)worker;
	(void)message;
	check(desk->starteds >= 1);
}

static void
started_comes_before_its_messages(void **state)
{
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = speak_at_once, .channel = &wide};
	struct desk desk = {.on_message = expect_started};
	unsigned int i;

	(void)state;
	for (i = 0; i < test_count(50, 5); i++) {
		desk.messages = desk.starteds = 0;
		desk_open(&desk, POOL(.worker = &worker, .workers = 1));
		turn_until(desk.loop, desk.messages == 1);
		check_equal(desk.starteds, 1);
		desk_destroy(&desk);
	}
	desk_close(&desk);
}

/* A file that can be known again. */
static int
file_open(ino_t *ret_inode)
{
	int fd = memfd_create("passed", MFD_CLOEXEC);
	struct stat stat;

	check(fd >= 0);
	check_equal(fstat(fd, &stat), 0);
	*ret_inode = stat.st_ino;
	return fd;
}

/* The files of a call, and whether to keep those that come. */
struct passed {
	unsigned int n;
	ino_t inodes[IPC_MESSAGE_FDS_LIMIT];
};

static void
expect_files(struct call *call, struct ipc_message *reply)
{
	const struct passed *passed = call->arg;
	struct stat stat;
	unsigned int i;

	check(reply);
	check_equal(reply->n_fds, passed->n);
	for (i = 0; i < passed->n; i++) {
		check_equal(fstat(reply->fds[i], &stat), 0);
		check_equal(stat.st_ino, passed->inodes[i]);
		check(fcntl(reply->fds[i], F_GETFD) & FD_CLOEXEC);
	}
}

/* Call with n files, which the pool borrows. Return: as the call. */
static int
pass(struct desk *desk, struct call *call, struct passed *passed, unsigned int n, int timeout_ms)
{
	int fds[IPC_MESSAGE_FDS_LIMIT], r;
	struct ipc_message message = {.n_fds = n, .fds = fds, .id = n};
	unsigned int i;

	passed->n = n;
	for (i = 0; i < n; i++)
		fds[i] = file_open(&passed->inodes[i]);
	call->arg = passed;
	call->on_end = expect_files;
	r = call_message(desk, call, &message, timeout_ms, NULL);
	for (i = 0; i < n; i++)
		check_equal(close(fds[i]), 0);
	return r;
}

static void
descriptors_go_both_ways_those_that_wait_too(void **state)
{
	const unsigned int numbers[] = {1, 2, 16, 252, 253};
	struct call calls[20], busy = {.ends = 0};
	struct desk desk = {.loop = NULL};
	struct passed passed[20];
	unsigned int i, open;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .depth = 1));
	await_ready(&desk, 1);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		check_equal(pass(&desk, &calls[0], &passed[0], numbers[i], -1), 0);
		expect_call(&calls[0], 0);
	}
	(void)turn_out(desk.loop);
	open = descriptors_open();
	call_task(&desk, &busy, TASK_SLEEP, 20);
	for (i = 0; i < 20; i++)
		check_equal(pass(&desk, &calls[i], &passed[i], i % 5, -1), 0);
	check_equal(pool_stats(&desk).queued, 20);
	check_equal(descriptors_open(), open + 40);
	for (i = 0; i < 20; i++)
		expect_call(&calls[i], 0);
	(void)turn_out(desk.loop);
	check_equal(descriptors_open(), open);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
take_it(struct call *call, struct ipc_message *reply)
{
	check(reply);
	check_equal(reply->n_fds, 2);
	*(int *)call->arg = ipc_message_take_fd(reply, 1);
}

static void
descriptors_of_a_reply_can_be_taken(void **state)
{
	struct call call = {.on_end = take_it};
	struct desk desk = {.loop = NULL};
	int fds[2], taken = -1;
	struct ipc_message message = {.n_fds = 2, .fds = fds};
	ino_t inode;

	(void)state;
	desk_open(&desk, POOL(.workers = 1));
	fds[0] = file_open(&inode);
	fds[1] = file_open(&inode);
	call.arg = &taken;
	check_equal(call_message(&desk, &call, &message, -1, NULL), 0);
	expect_call(&call, 0);
	desk_close(&desk);
	check(is_same_file(taken, fds[1]));
	check_equal(close(taken), 0);
	check_equal(close(fds[0]), 0);
	check_equal(close(fds[1]), 0);
}

/* Answers with the read ends of n pipes of its own, as parts or at once. */
static int
give_files(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message, reply = {.n_fds = 4};
	int fds[4], i;

	alarm(TEST_SECONDS_MAX);
	while (ipc_channel_recv(channel, &message, -1) == 0) {
		for (i = 0; i < 4; i++)
			check((fds[i] = dup(STDERR_FILENO)) >= 0);
		reply.fds = fds;
		reply.flags = message.type == TASK_PARTS ? IPC_MESSAGE_MORE : 0;
		reply.n_fds = message.type == TASK_PID ? 0 : 4;
		check_equal(ipc_channel_reply(channel, &message, &reply, TEST_WAIT_MS), 0);
		reply.flags = 0;
		if (message.type == TASK_PARTS)
			check_equal(ipc_channel_reply(channel, &message, &reply, TEST_WAIT_MS), 0);
		for (i = 0; i < 4; i++)
			check_equal(close(fds[i]), 0);
	}
	return *(int *)arg;
}

static void
a_reply_without_its_descriptors_is_ebadmsg(void **state)
{
	static int status = 0;
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = give_files, .arg = &status, .channel = &wide};
	struct call whole = {.ends = 0}, parts = {.ends = 0}, plain = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	skip_without_descriptor_limit();
	desk_open(&desk, POOL(.worker = &worker, .workers = 1));
	await_ready(&desk, 1);
	check_equal(ask(&desk, TASK_ECHO, 0, 0), 0);
	descriptors_limit(2);
	call_task(&desk, &whole, TASK_ECHO, 0);
	expect_call(&whole, -EBADMSG);
	call_task(&desk, &parts, TASK_PARTS, 0);
	call_task(&desk, &plain, TASK_PID, 0);
	expect_call(&parts, -EBADMSG);
	expect_call(&plain, 0);
	descriptors_unlimit();
	check_equal(parts.parts, 0);
	check_equal(pool_stats(&desk).failed, 2);
	/* The rest of an answer that has failed is nobody's. */
	check_equal(pool_stats(&desk).strays, 1);
	check_equal(pool_stats(&desk).owed, 0);
	check_equal(ask(&desk, TASK_ECHO, 0, 0), 0);
	expect_sums(&desk, true);
	desk_close(&desk);
}

/* What is refused at once: nothing was taken, and the next call is served. */
static void
what_nobody_would_take_is_refused_at_once(void **state)
{
	static const struct ipc_channel_options narrow = {
		.size = sizeof(narrow), .fds_max = 4, .message_max = 8192};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = serve, .channel = &narrow};
	int fds[IPC_MESSAGE_FDS_LIMIT + 1], i;
	struct ipc_message message = {.data = calloc(1, 8193), .fds = fds};
	struct call call = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	check(message.data);
	for (i = 0; i <= (int)IPC_MESSAGE_FDS_LIMIT; i++)
		fds[i] = STDERR_FILENO;
	desk_open(&desk, POOL(.worker = &worker, .workers = 1));
	message.size = 8193;
	check_equal(call_message(&desk, &call, &message, -1, NULL), -EMSGSIZE);
	message.size = 0;
	message.n_fds = IPC_MESSAGE_FDS_LIMIT + 1;
	check_equal(call_message(&desk, &call, &message, -1, NULL), -E2BIG);
	await_ready(&desk, 1);
	message.n_fds = 5;
	check_equal(call_message(&desk, &call, &message, -1, NULL), -E2BIG);
	message.n_fds = 4;
	fds[2] = 9999;
	check_equal(call_message(&desk, &call, &message, -1, NULL), -EBADF);
	fds[2] = -1;
	check_equal(call_message(&desk, &call, &message, -1, NULL), -EBADF);
	check_equal(pool_stats(&desk).calls, 0);
	check_equal(pool_stats(&desk).refused, 0);
	fds[2] = STDERR_FILENO;
	check_equal(call_message(&desk, &call, &message, -1, NULL), 0);
	expect_call(&call, 0);
	check_equal(call_echo(&desk, &call, 8192, 0), 0);
	turn_until(desk.loop, desk.ends == 2);
	expect_sums(&desk, true);
	desk_close(&desk);
	free((void *)message.data);
}

static void
one_that_waits_learns_later_why_it_cannot_be_sent(void **state)
{
	struct call busy = {.ends = 0}, large = {.ends = 0}, many = {.ends = 0}, next = {.ends = 0};
	/* Its own end takes less than the parent's would give. */
	static const char *const argv[] = {"/proc/self/exe", "small", NULL};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .argv = (char *const *)argv, .channel = &wide};
	int fds[3] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};
	struct ipc_message message = {.data = calloc(1, 65536), .size = 65536, .fds = fds};
	struct desk desk = {.loop = NULL};
	unsigned int open;

	(void)state;
	check(message.data);
	desk_open(&desk, POOL(.worker = &worker, .workers = 1, .depth = 1));
	call_task(&desk, &busy, TASK_SLEEP, 10);
	check_equal(call_message(&desk, &large, &message, -1, NULL), 0);
	message.size = 0;
	message.n_fds = 3;
	check_equal(call_message(&desk, &many, &message, -1, NULL), 0);
	call_task(&desk, &next, TASK_ECHO, 5);
	open = descriptors_open();
	expect_call(&next, 0);
	expect_call(&busy, 0);
	expect_call(&large, -EMSGSIZE);
	expect_call(&many, -E2BIG);
	check_equal(descriptors_open(), open - 3);
	check_equal(pool_stats(&desk).failed, 2);
	expect_sums(&desk, true);
	/* At once, now that it is known. */
	check_equal(call_message(&desk, &many, &message, -1, NULL), -E2BIG);
	desk_close(&desk);
	free((void *)message.data);
}

static void
a_closed_descriptor_is_refused_where_it_would_wait(void **state)
{
	struct call busy = {.ends = 0}, call = {.ends = 0};
	struct desk desk = {.loop = NULL};
	int fds[2] = {STDERR_FILENO, 9999};
	struct ipc_message message = {.n_fds = 2, .fds = fds};
	unsigned int open;

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .depth = 1, .attempts = 2));
	open = descriptors_open();
	check_equal(call_message(&desk, &call, &message, -1, NULL), -EBADF);
	await_ready(&desk, 1);
	check_equal(call_message(&desk, &call, &message, -1, NULL), -EBADF);
	call_task(&desk, &busy, TASK_SLEEP, 10);
	check_equal(call_message(&desk, &call, &message, -1, NULL), -EBADF);
	expect_call(&busy, 0);
	check_equal(descriptors_open(), open);
	check_equal(pool_stats(&desk).calls, 1);
	desk_close(&desk);
}

static void
requests_wait_until_the_loop_first_turns(void **state)
{
	struct call calls[20];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 2));
	for (i = 0; i < 20; i++)
		check_equal(call_echo(&desk, &calls[i], 100 + i, 0), 0);
	check_equal(pool_stats(&desk).queued, 20);
	check_equal(pool_stats(&desk).ready, 0);
	check_equal(place_stats(&desk, 0).state, IPC_POOL_STARTING);
	check_equal(desk.ends, 0);
	for (i = 0; i < 20; i++)
		expect_call(&calls[i], 0);
	desk_close(&desk);
}

/* A chain: each end calls the next. */
static void
call_next(struct call *call, struct ipc_message *reply)
{
	unsigned int *left = call->arg;

	check(reply);
	if (!*left)
		return;
	--*left;
	check_equal(call_echo(call->desk, call, test_random_below(300), 0), 0);
}

static void
a_reply_function_may_call(void **state)
{
	unsigned int n = test_count(5000, 300), left = n, i;
	struct desk desk = {.loop = NULL};
	struct call chains[5];

	(void)state;
	memset(chains, 0, sizeof(chains));
	desk_open(&desk, POOL(.workers = 2));
	for (i = 0; i < 5; i++) {
		chains[i].on_end = call_next;
		chains[i].arg = &left;
		check_equal(call_echo(&desk, &chains[i], i, 0), 0);
	}
	turn_until(desk.loop, desk.ends == n + 5);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static struct call from_callbacks[8];

static void
call_from_message(struct desk *desk, struct ipc_worker *worker, struct ipc_message *message)
{
	(void)worker;
	(void)message;
	check_equal(call_echo(desk, &from_callbacks[0], 10, 0), 0);
}

static void
call_from_started(struct desk *desk, struct ipc_worker *worker)
{
	(void)worker;
	if (desk->starteds == 1)
		check_equal(call_echo(desk, &from_callbacks[1], 10, 0), 0);
}

static void
call_from_ended(struct desk *desk, struct ipc_worker *worker, const struct ipc_worker_end *end)
{
	(void)worker;
	(void)end;
	if (desk->endeds == 1)
		check_equal(call_echo(desk, &from_callbacks[2], 10, 0), 0);
}

static void
call_from_part(struct call *call, struct ipc_message *reply)
{
	(void)reply;
	if (call->parts == 1)
		check_equal(call_echo(call->desk, &from_callbacks[3], 10, 0), 0);
}

static void
every_callback_may_call(void **state)
{
	struct desk desk = {
		.on_message = call_from_message,
		.on_started = call_from_started,
		.on_ended = call_from_ended,
	};
	struct call parts = {.on_part = call_from_part};
	unsigned int i;

	(void)state;
	memset(from_callbacks, 0, sizeof(from_callbacks));
	desk_open(&desk, POOL(.workers = 2));
	check_equal(ask(&desk, TASK_TALK, 1, 0), 1);
	(void)ask(&desk, TASK_KILL, 0, -EOWNERDEAD);
	call_task(&desk, &parts, TASK_PARTS, 3);
	expect_call(&parts, 0);
	turn_until(desk.loop, desk.endeds);
	for (i = 0; i < 4; i++)
		expect_call(&from_callbacks[i], 0);
	expect_sums(&desk, true);
	desk_close(&desk);
}

static void
a_worker_may_be_a_program(void **state)
{
	static const char *const argv[] = {"/proc/self/exe", "serve", NULL};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .argv = (char *const *)argv, .channel = &wide};
	struct desk desk = {.loop = NULL};
	struct passed passed[10];
	struct call calls[30];
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.worker = &worker, .workers = 2));
	for (i = 0; i < 20; i++)
		check_equal(call_echo(&desk, &calls[i], i * 1000, 0), 0);
	for (i = 20; i < 30; i++)
		check_equal(pass(&desk, &calls[i], &passed[i - 20], i, -1), 0);
	for (i = 0; i < 30; i++)
		expect_call(&calls[i], 0);
	check(ask(&desk, TASK_PID, 0, 0) != (uint64_t)getpid());
	check_equal(ipc_pool_drain(desk.pool, -1), 0);
	check_equal(desk.status, 0);
	desk_close(&desk);
}

static void
by_default_there_is_a_worker_for_each_usable_cpu(void **state)
{
	struct desk desk = {.loop = NULL};
	cpu_set_t cpus, one;
	size_t i;

	(void)state;
	check_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	desk_open(&desk, POOL(.workers = 0));
	/* A quota of the group may make it fewer. */
	check(pool_stats(&desk).workers >= 1);
	check(pool_stats(&desk).workers <= (unsigned int)CPU_COUNT(&cpus));
	desk_destroy(&desk);
	for (i = 0; !CPU_ISSET(i, &cpus); i++)
		;
	CPU_ZERO(&one);
	CPU_SET(i, &one);
	check_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	desk_open(&desk, POOL(.workers = 0));
	check_equal(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	check_equal(pool_stats(&desk).workers, 1);
	desk_close(&desk);
}

static int
play_small(char **argv)
{
	struct ipc_channel *channel;

	(void)argv;
	check_equal(ipc_channel_inherit(&channel, OPTIONS(.message_max = 8192, .fds_max = 2)), 0);
	return serve(channel, NULL);
}

int
main(int argc, char **argv)
{
	static const struct role roles[] = {{"serve", play_serve}, {"small", play_small}};
	static const struct CMUnitTest tests[] = {
		pool_test(the_reply_has_content_id_and_type),
		pool_test(many_requests_each_get_their_own_reply),
		pool_test(replies_may_come_in_any_order),
		pool_test(all_but_the_last_of_several_replies_say_that_more_follow),
		pool_test(messages_of_a_workers_own_accord_go_to_message),
		pool_test(a_request_of_a_worker_is_answered_on_its_channel),
		pool_test(what_started_sends_comes_before_any_request),
		pool_test(started_comes_before_its_messages),
		pool_test(descriptors_go_both_ways_those_that_wait_too),
		pool_test(descriptors_of_a_reply_can_be_taken),
		pool_test(a_reply_without_its_descriptors_is_ebadmsg),
		pool_test(what_nobody_would_take_is_refused_at_once),
		pool_test(one_that_waits_learns_later_why_it_cannot_be_sent),
		pool_test(a_closed_descriptor_is_refused_where_it_would_wait),
		pool_test(requests_wait_until_the_loop_first_turns),
		pool_test(a_reply_function_may_call),
		pool_test(every_callback_may_call),
		pool_test(a_worker_may_be_a_program),
		pool_test(by_default_there_is_a_worker_for_each_usable_cpu),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_on_engines(tests);
}
