/* SPDX-License-Identifier: MIT */

/* Requests that are there before the workers are spread over all of them. */

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <libipc/pool.h>

#include "loop_support.h"
#include "worker_support.h"

#define WORKERS  4
#define REQUESTS (2 * WORKERS)

/* In a worker: a byte from it allows an answer, and one says how late it is. */
#define GATE  10
#define ORDER 11

/* How long a slow worker takes to start at least, and each longer than another. */
#define SLOW_MS   300
#define SLOWER_MS 100

/* A machine that starts some much later than others, having other things to do, may do so for a
   while. */
#define TRIES_MAX 40

struct answers {
	pid_t pids[REQUESTS]; /* of who has answered each request */
	unsigned int n;
	int64_t begin_ms, first_ms, last_ms; /* when the first and the last worker were there */
};

/* Answers each request with its own process id, when it may. */
static int
work(struct ipc_channel *channel, void *arg)
{
	struct ipc_message request;
	pid_t pid = getpid();
	char byte;
	int r = 0;

	(void)arg;
	while (r == 0 && ipc_channel_recv(channel, &request, -1) == 0) {
		check_equal(read(GATE, &byte, 1), 1);
		r = ipc_channel_reply(channel, &request,
			&(struct ipc_message){.data = &pid, .size = sizeof(pid)}, -1);
	}
	return r < 0;
}

static int
play_work(char **argv)
{
	(void)argv;
	return work(inherited(), NULL);
}

/* Its start takes a while. */
static int
play_work_later(char **argv)
{
	char byte;

	(void)argv;
	check_equal(read(ORDER, &byte, 1), 1);
	sleep_ms(SLOW_MS + byte * SLOWER_MS);
	return work(inherited(), NULL);
}

static void
on_started(struct ipc_pool *pool, struct ipc_worker *worker, void *user)
{
	struct answers *answers = user;

	(void)pool;
	(void)worker;
	answers->last_ms = now_ms();
	if (!answers->first_ms)
		answers->first_ms = answers->last_ms;
}

static void
on_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct answers *answers = user;

	(void)pool;
	check_equal(result, 0);
	check_equal(reply->size, sizeof(pid_t));
	memcpy(&answers->pids[reply->id], reply->data, sizeof(pid_t));
	answers->n++;
}

static struct answers
ask(struct ipc_worker_options worker)
{
	struct answers answers = {.n = 0};
	const struct ipc_pool_options options = {
		.size = sizeof(options),
		.worker = &worker,
		.workers = WORKERS,
		.handler = {.started = on_started},
		.user = &answers,
	};
	struct ipc_pool_stats stats = {.size = sizeof(stats)};
	struct ipc_message request = {0};
	struct ipc_loop *loop = loop_open(NULL);
	struct ipc_pool *pool;
	int gate[2], order[2];

	check_equal(pipe2(gate, O_CLOEXEC), 0);
	check_equal(pipe2(order, O_CLOEXEC), 0);
	check_equal(write(order[1], "\0\1\2\3", WORKERS), WORKERS);
	worker.fds = (const struct ipc_worker_fd[]){
		{.fd = gate[0], .as = GATE}, {.fd = order[0], .as = ORDER}};
	worker.n_fds = 2;
	check_equal(ipc_pool_create(&pool, loop, &options), 0);
	answers.begin_ms = now_ms();
	for (; request.id < REQUESTS; request.id++)
		check_equal(ipc_pool_call(pool, &request, on_reply, &answers, -1), 0);
	while (ipc_pool_stats(pool, &stats), stats.outstanding < REQUESTS)
		check(ipc_loop_turn(loop, 1) >= 0);
	check_equal(write(gate[1], "12345678", REQUESTS), REQUESTS);
	turn_until(loop, answers.n == REQUESTS);
	check_equal(ipc_pool_drain(pool, -1), 0);
	ipc_pool_destroy(pool);
	ipc_loop_destroy(loop);
	close(gate[0]);
	close(gate[1]);
	close(order[0]);
	close(order[1]);
	return answers;
}

/* Were all of them there before those that are late are not waited for? The pool's clock began
   before ours, so that ours allows them less. */
static bool
were_in_time(const struct answers *answers)
{
	int64_t took_ms = answers->first_ms - answers->begin_ms;

	return answers->last_ms - answers->begin_ms < (took_ms < 24 ? 70 : 3 * took_ms);
}

static unsigned int
count(const struct answers *answers, pid_t pid)
{
	unsigned int i, found = 0;

	for (i = 0; i < REQUESTS; i++)
		found += answers->pids[i] == pid;
	return found;
}

static void
expect_spread(const struct ipc_worker_options *worker)
{
	struct answers answers;
	unsigned int tries = 0, i;

	do
		answers = ask(*worker);
	while (!were_in_time(&answers) && ++tries < TRIES_MAX);
	if (tries == TRIES_MAX) {
		test_lacks("a machine that starts processes evenly");
		skip();
	}
	for (i = 0; i < REQUESTS; i++)
		check_equal(count(&answers, answers.pids[i]), REQUESTS / WORKERS);
}

static void
functions_have_no_more_than_their_share(void **state)
{
	(void)state;
	expect_spread(WORKER(.run = work));
}

static void
programs_have_no_more_than_their_share(void **state)
{
	(void)state;
	expect_spread(WORKER(.argv = ROLE("work")));
}

/* As with an emulator, valgrind or a slow disk. */
static void
those_that_start_slowly_have_no_more_than_their_share(void **state)
{
	(void)state;
	expect_spread(WORKER(.argv = ROLE("work_later")));
}

#define spread_test(function) \
	cmocka_unit_test_setup_teardown(function, loop_test_begin, worker_test_end)

int
main(int argc, char **argv)
{
	static const struct role roles[] = {
		{"work", play_work},
		{"work_later", play_work_later},
	};
	const struct CMUnitTest tests[] = {
		spread_test(functions_have_no_more_than_their_share),
		spread_test(programs_have_no_more_than_their_share),
		spread_test(those_that_start_slowly_have_no_more_than_their_share),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(*roles));
	return run_on_engines(tests);
}
