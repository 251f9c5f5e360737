/* SPDX-License-Identifier: MIT */

/*
 * One thread sends while another receives on the same channel; ThreadSanitizer looks on where
 * the build has it.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw.h"

#define SIZE_MAX_SENT 300000

static size_t
size_of(unsigned int i)
{
	return i % 500 == 499 ? SIZE_MAX_SENT - i % 7 : i % 300;
}

struct job {
	struct ipc_channel *channel;
	unsigned int n;
	_Atomic bool done;
	int result;
};

static pthread_t
thread_start(void *(*run)(void *), struct job *job)
{
	pthread_t thread;

	check_equal(pthread_create(&thread, NULL, run, job), 0);
	return thread;
}

static void
thread_end(pthread_t thread)
{
	check_equal(pthread_join(thread, NULL), 0);
}

static void *
send_all(void *arg)
{
	struct job *job = arg;
	unsigned char *payload = malloc(SIZE_MAX_SENT);
	struct ipc_message message = {.data = payload};
	unsigned int i;

	check(payload);
	for (i = 0; i < job->n; i++) {
		message.size = size_of(i);
		message.type = (uint16_t)i;
		message.id = i % 10 ? 0 : i;
		fill(payload, message.size, i);
		if (i % 100 == 0)
			check_equal(ipc_channel_send(job->channel, &message, TEST_WAIT_MS), 0);
		else
			check_equal(ipc_channel_post(job->channel, &message, TEST_WAIT_MS), 0);
	}
	check_equal(ipc_channel_flush(job->channel, TEST_WAIT_MS), 0);
	free(payload);
	return NULL;
}

static void *
receive_all(void *arg)
{
	struct job *job = arg;
	struct ipc_message message;
	unsigned int i;

	for (i = 0; i < job->n; i++) {
		check_equal(ipc_channel_recv(job->channel, &message, i % 2 ? -1 : TEST_WAIT_MS), 0);
		check_equal(message.size, size_of(i));
		check_equal(message.type, (uint16_t)i);
		check(is_filled(message.data, message.size, i));
	}
	return NULL;
}

/* Reads the counters of a channel that two other threads use. */
static void *
watch(void *arg)
{
	struct ipc_channel_stats stats = {.size = 0}, before;
	struct job *job = arg;

	do {
		before = stats;
		stats = stats_of(job->channel);
		check(stats.out.messages >= before.out.messages);
		check(stats.in.messages >= before.in.messages);
		check(stats.in.messages <= job->n);
	} while (!job->done);
	return NULL;
}

static void
one_sends_while_another_receives(void **state)
{
	unsigned int n = test_count(50000, 5000), i;
	struct job jobs[2] = {{.n = n}, {.n = n}}, watched = {.n = n};
	pthread_t threads[4], watcher;

	(void)state;
	pair_open(&jobs[0].channel, &jobs[1].channel, NULL);
	watched.channel = jobs[0].channel;
	for (i = 0; i < 2; i++) {
		threads[i] = thread_start(send_all, &jobs[i]);
		threads[2 + i] = thread_start(receive_all, &jobs[i]);
	}
	watcher = thread_start(watch, &watched);
	for (i = 0; i < 4; i++)
		thread_end(threads[i]);
	watched.done = true;
	thread_end(watcher);
	for (i = 0; i < 2; i++) {
		check_equal(stats_of(jobs[i].channel).out.messages, n);
		check_equal(stats_of(jobs[i].channel).in.messages, n);
		ipc_channel_close(jobs[i].channel);
	}
}

/* Whoever of them needs the hello first takes it in for both. */
static void
sender_and_receiver_both_wait_for_the_hello(void **state)
{
	unsigned int round, i;
	struct job jobs[2];
	pthread_t threads[4];
	int fds[2];

	(void)state;
	for (round = 0; round < test_count(200, 20); round++) {
		check_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
		for (i = 0; i < 2; i++) {
			jobs[i] = (struct job){.n = 600};
			if (i && round % 4 == 0)
				sleep_ms(2);
			check_equal(ipc_channel_open(&jobs[i].channel, fds[i], NULL), 0);
			threads[i] = thread_start(send_all, &jobs[i]);
			threads[2 + i] = thread_start(receive_all, &jobs[i]);
		}
		for (i = 0; i < 4; i++)
			thread_end(threads[i]);
		for (i = 0; i < 2; i++)
			ipc_channel_close(jobs[i].channel);
	}
}

static void *
wait_for_the_hello(void *arg)
{
	struct job *job = arg;
	struct ipc_message message;

	job->result = ipc_channel_recv(job->channel, &message, 300);
	return NULL;
}

static void
a_wait_for_the_hello_ends_in_time_while_another_waits(void **state)
{
	static const unsigned char payload[IPC_CHANNEL_MESSAGE_FLOOR + 1];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};
	struct job job = {.n = 0};
	pthread_t thread;
	int64_t start_ms;
	int fds[2];

	(void)state;
	raw_pair(fds);
	check_equal(ipc_channel_open(&job.channel, fds[0], NULL), 0);
	thread = thread_start(wait_for_the_hello, &job);
	sleep_ms(20);
	check_equal(ipc_channel_send(job.channel, &message, 0), -EAGAIN);
	start_ms = now_ms();
	check_equal(ipc_channel_send(job.channel, &message, 50), -ETIMEDOUT);
	check(now_ms() - start_ms >= 49);
	/* Small ones need no hello, and wait for nobody. */
	send_text(job.channel, "small");
	thread_end(thread);
	check_equal(job.result, -ETIMEDOUT);
	ipc_channel_close(job.channel);
	check_equal(close(fds[1]), 0);
}

static void *
send_until_it_ends(void *arg)
{
	static const unsigned char payload[50000];
	struct ipc_message message = {.data = payload, .size = sizeof(payload)};
	struct job *job = arg;

	do
		job->result = ipc_channel_send(job->channel, &message, -1);
	while (job->result == 0);
	return NULL;
}

/* A peer that goes wrong while this end waits for it to read. */
static void
a_sender_that_waits_is_woken_when_the_receiver_finds_the_channel_broken(void **state)
{
	struct job job = {.n = 0};
	struct ipc_message message;
	pthread_t thread;
	int peer;

	(void)state;
	job.channel = raw_channel(&peer, NULL);
	thread = thread_start(send_until_it_ends, &job);
	sleep_ms(30);
	raw_send(peer, "nonsense", 8);
	check_equal(ipc_channel_recv(job.channel, &message, -1), -EPROTO);
	thread_end(thread);
	check(job.result == -EPROTO || job.result == -EPIPE);
	message = text_message("too late");
	check_equal(ipc_channel_send(job.channel, &message, 0), -EPROTO);
	ipc_channel_close(job.channel);
	check_equal(close(peer), 0);
}

static void
fork_a_little(void)
{
	int status;
	pid_t pid = fork();

	check(pid >= 0);
	/* Past what a sanitizer would do at _exit(): the threads are not this process's. */
	if (!pid)
		(void)syscall(SYS_exit_group, 0);
	check_equal(waitpid(pid, &status, 0), pid);
}

static void
a_fork_by_another_thread_loses_nothing(void **state)
{
	unsigned int n = test_count(50000, 5000), i;
	struct job jobs[2] = {{.n = n}, {.n = n}};
	pthread_t threads[2];

	(void)state;
	pair_open(&jobs[0].channel, &jobs[1].channel, NULL);
	threads[0] = thread_start(send_all, &jobs[0]);
	threads[1] = thread_start(receive_all, &jobs[1]);
	for (i = 0; i < test_count(200, 20); i++)
		fork_a_little();
	for (i = 0; i < 2; i++)
		thread_end(threads[i]);
	for (i = 0; i < 2; i++)
		ipc_channel_close(jobs[i].channel);
}

static void
signals_lose_nothing_between_threads(void **state)
{
	unsigned int n = test_count(50000, 5000), i;
	struct job jobs[2] = {{.n = n}, {.n = n}};
	pthread_t threads[4];

	(void)state;
	pair_open(&jobs[0].channel, &jobs[1].channel, NULL);
	signals_start();
	for (i = 0; i < 2; i++) {
		threads[i] = thread_start(send_all, &jobs[i]);
		threads[2 + i] = thread_start(receive_all, &jobs[i]);
	}
	for (i = 0; i < 4; i++)
		thread_end(threads[i]);
	(void)signals_stop();
	for (i = 0; i < 2; i++)
		ipc_channel_close(jobs[i].channel);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(one_sends_while_another_receives),
		channel_test(sender_and_receiver_both_wait_for_the_hello),
		channel_test(a_wait_for_the_hello_ends_in_time_while_another_waits),
		channel_test(
			a_sender_that_waits_is_woken_when_the_receiver_finds_the_channel_broken),
		channel_test(a_fork_by_another_thread_loses_nothing),
		channel_test(signals_lose_nothing_between_threads),
	};

	return run_group(tests);
}
