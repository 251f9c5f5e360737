/* SPDX-License-Identifier: MIT */

/*
 * Workers behind a strict seccomp filter: they serve with the system calls that worker.h names and
 * with no others. What a filter kills for is not passed over: such a worker dies.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../examples/confine.h"
#include "loop_support.h"
#include "worker_support.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER true
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER false
#endif

/* What worker.h says that a worker's channel needs. */
static const unsigned int always[] = {
	__NR_sendto,
	__NR_sendmsg,
	__NR_recvfrom,
	__NR_recvmsg,
#ifdef __NR_poll
	__NR_poll,
#endif
	__NR_ppoll,
	__NR_clock_gettime,
	__NR_futex,
	__NR_brk,
	__NR_mmap,
	__NR_munmap,
	__NR_mremap,
	__NR_madvise,
	__NR_shutdown,
	__NR_close,
	__NR_exit,
	__NR_exit_group,
};
static const unsigned int for_descriptors[] = {
	__NR_fcntl, __NR_fstat, __NR_newfstatat, __NR_close_range};
static const unsigned int for_learning[] = {
	__NR_sched_getaffinity, __NR_openat, __NR_read, __NR_close};

/* Sanitizers make calls of their own, for which they must not be killed. */
static const unsigned int for_sanitizers[] = {
	__NR_write, __NR_rt_sigreturn, __NR_sigaltstack, __NR_sched_yield, __NR_getpid};

#define N(array)  (sizeof(array) / sizeof((array)[0]))
#define CALLS_MAX (N(always) + N(for_descriptors) + N(for_learning) + N(for_sanitizers))

/* What a worker does before it serves, and what is sent to it. */
struct service {
	bool takes_fds, learns;
	bool is_refused; /* what is not allowed is an error, not the end */
	int32_t spin_us;
};

static unsigned int
allow(struct sock_filter *filter, unsigned int at, const unsigned int *calls, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		const struct sock_filter rule[] = {CONFINE_ALLOW(calls[i])};

		memcpy(filter + at, rule, sizeof(rule));
		at += N(rule);
	}
	return at;
}

static void
confine_strictly(const struct service *service)
{
	const bool is_refused = service->is_refused || HAS_SANITIZER;
	struct sock_filter filter[5 + 2 * CALLS_MAX] = {
		CONFINE_LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CONFINE_ARCH, 1, 0),
		CONFINE_RETURN(SECCOMP_RET_KILL_PROCESS),
		CONFINE_LOAD(nr),
	};
	const struct sock_filter last = CONFINE_RETURN(
		is_refused ? SECCOMP_RET_ERRNO | EPERM : (unsigned int)SECCOMP_RET_KILL_PROCESS);
	struct sock_fprog program = {.filter = filter};
	unsigned int at = allow(filter, 4, always, N(always));

	if (service->takes_fds)
		at = allow(filter, at, for_descriptors, N(for_descriptors));
	if (service->learns)
		at = allow(filter, at, for_learning, N(for_learning));
	if (HAS_SANITIZER)
		at = allow(filter, at, for_sanitizers, N(for_sanitizers));
	filter[at++] = last;
	program.len = (unsigned short)at;
	check_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	check_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* Sends each request back, its descriptors with it. */
static int
serve(struct ipc_channel *channel)
{
	struct ipc_message request;
	int r;

	while ((r = ipc_channel_recv(channel, &request, TEST_WAIT_MS)) == 0) {
		const struct ipc_message reply = request;

		r = ipc_channel_reply(channel, &request, &reply, TEST_WAIT_MS);
		if (r < 0)
			return 1;
	}
	return r == -EPIPE ? 0 : 2;
}

static int
serve_confined(struct ipc_channel *channel, void *arg)
{
	const struct service *service = arg;

	alarm(TEST_SECONDS_MAX);
	confine_strictly(service);
	return serve(channel);
}

/* A program, confined by what the examples use. */
static int
play_confined(char **argv)
{
	struct ipc_channel *channel;
	int status;

	(void)argv;
	check_equal(ipc_channel_inherit(&channel, OPTIONS(.fds_max = 1)), 0);
	check_equal(confine(), 0);
	check(open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC) < 0);
	status = serve(channel);
	ipc_channel_close(channel);
	_exit(status);
}

static const struct role roles[] = {{"confined", play_confined}};

/* The parent's side: so many requests, a few of them at a time. */
#define AT_ONCE 64

struct client {
	struct ear ear;
	struct ipc_channel *channel;
	unsigned int n, n_asked;
	size_t size_max;
	int fds[2]; /* go with each request; -1: none */
	unsigned char *payload;
};

static size_t
size_of(const struct client *client, uint64_t id)
{
	return (size_t)(id * 7919) % (client->size_max + 1);
}

static void
ask(struct client *client)
{
	struct ipc_message request = {.data = client->payload};
	int r = 0;

	while (r == 0 && client->n_asked < client->n &&
		client->n_asked < client->ear.messages + AT_ONCE) {
		request.id = client->n_asked + 1;
		request.size = size_of(client, request.id);
		request.fds = client->fds;
		request.n_fds = client->fds[0] >= 0 ? 2 : 0;
		fill(client->payload, request.size, request.id);
		r = ipc_channel_post(client->channel, &request, 0);
		client->n_asked += r == 0;
	}
	check(r == 0 || r == -EAGAIN);
}

static void
verify(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct client *client = ear->arg;
	uint32_t i;

	(void)channel;
	check_equal(message->id, ear->messages);
	check_equal(message->flags, IPC_MESSAGE_REPLY);
	check_equal(message->size, size_of(client, message->id));
	check(is_filled(message->data, message->size, message->id));
	check_equal(message->n_fds, client->fds[0] >= 0 ? 2 : 0);
	for (i = 0; i < message->n_fds; i++)
		check(is_same_file(message->fds[i], client->fds[i]));
	ask(client);
}

static void
writable(struct ear *ear, struct ipc_channel *channel)
{
	(void)channel;
	ask(ear->arg);
}

/* n requests, each answered; then the worker ends with its channel. */
static void
use_worker(struct ipc_worker *worker, unsigned int n, size_t size_max, int fd)
{
	struct client client = {
		.ear = {.on_message = verify, .on_writable = writable},
		.channel = ipc_worker_channel(worker),
		.n = n,
		.size_max = size_max,
		.fds = {fd, fd},
		.payload = malloc(size_max + 1),
	};
	struct ipc_loop *loop = loop_open(NULL);
	int status;

	check(client.payload);
	client.ear.arg = &client;
	ear_attach(&client.ear, loop, client.channel);
	ask(&client);
	turn_until(loop, client.ear.messages == n || client.ear.closeds);
	if (client.ear.closeds)
		expect_exit(worker, 0);
	check_equal(client.ear.messages, n);
	check_equal(ipc_loop_detach(loop, client.channel), 0);
	ipc_loop_destroy(loop);
	free(client.payload);
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, &status), 0);
	check_equal(status, 0);
	ipc_worker_free(worker);
}

static void
need_seccomp(void)
{
	if (prctl(PR_GET_SECCOMP) == 0)
		return;
	test_lacks("seccomp");
	skip();
}

static struct ipc_worker *
spawn_confined(struct service *service)
{
	return spawn(WORKER(.run = serve_confined, .arg = service,
		.channel = OPTIONS(.fds_max = service->takes_fds ? 2 : 0,
			.spin_us = service->spin_us)));
}

static void
a_worker_that_has_what_the_manual_names_serves(void **state)
{
	struct service service = {.spin_us = -1};

	(void)state;
	need_seccomp();
	use_worker(spawn_confined(&service), test_count(100000, 5000), 200, -1);
}

static void
a_program_confined_as_in_the_examples_serves(void **state)
{
	(void)state;
	need_seccomp();
	use_worker(spawn(WORKER(.argv = ROLE("confined"))), test_count(100000, 5000), 200, -1);
}

static void
one_that_learns_to_spin_needs_a_few_more(void **state)
{
	struct service service = {.learns = true};

	(void)state;
	need_seccomp();
	use_worker(spawn_confined(&service), test_count(20000, 2000), 200, -1);
}

static void
one_that_learns_does_without_them_where_they_are_refused(void **state)
{
	struct service service = {.is_refused = true};

	(void)state;
	need_seccomp();
	use_worker(spawn_confined(&service), test_count(20000, 2000), 200, -1);
}

static void
large_messages_need_no_more(void **state)
{
	struct service service = {.spin_us = -1};

	(void)state;
	need_seccomp();
	use_worker(spawn_confined(&service), test_count(100, 10), 3 << 20, -1);
}

static void
descriptors_need_a_few_more(void **state)
{
	struct service service = {.spin_us = -1, .takes_fds = true};
	int fd = memfd_create("file", MFD_CLOEXEC);

	(void)state;
	need_seccomp();
	check(fd >= 0);
	use_worker(spawn_confined(&service), test_count(20000, 1000), 5000, fd);
	check_equal(close(fd), 0);
}

static int
open_something(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	confine_strictly(arg);
	return open("/dev/null", O_RDONLY | O_CLOEXEC) < 0;
}

/* Else the others say nothing. */
static void
one_that_wants_more_dies(void **state)
{
	struct service service = {.spin_us = -1};
	struct ipc_worker *worker;

	(void)state;
	need_seccomp();
	if (HAS_SANITIZER) {
		test_lacks("a worker whose calls are its own: a sanitizer makes some");
		skip();
	}
	worker = spawn(WORKER(.run = open_something, .arg = &service));
	expect_killed(worker, SIGSYS);
	expect_end(ipc_worker_channel(worker));
	ipc_worker_free(worker);
}

#define confined_test(function) \
	cmocka_unit_test_setup_teardown(function, loop_test_begin, worker_test_end)

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		confined_test(a_worker_that_has_what_the_manual_names_serves),
		confined_test(a_program_confined_as_in_the_examples_serves),
		confined_test(one_that_learns_to_spin_needs_a_few_more),
		confined_test(one_that_learns_does_without_them_where_they_are_refused),
		confined_test(large_messages_need_no_more),
		confined_test(descriptors_need_a_few_more),
		confined_test(one_that_wants_more_dies),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_on_engines(tests);
}
