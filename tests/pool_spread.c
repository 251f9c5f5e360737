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

/* In a worker: a byte from it allows an answer. */
#define GATE 10

struct answers {
	pid_t pids[REQUESTS]; /* of who has answered each request */
	unsigned int n;
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
	const struct ipc_pool_options options = {
		.size = sizeof(options), .worker = &worker, .workers = WORKERS};
	struct ipc_pool_stats stats = {.size = sizeof(stats)};
	struct ipc_message request = {0};
	struct ipc_loop *loop = loop_open(NULL);
	struct answers answers = {0};
	struct ipc_pool *pool;
	int gate[2];

	check_equal(pipe2(gate, O_CLOEXEC), 0);
	worker.fds = &(const struct ipc_worker_fd){.fd = gate[0], .as = GATE};
	worker.n_fds = 1;
	check_equal(ipc_pool_create(&pool, loop, &options), 0);
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
	return answers;
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
functions_have_no_more_than_their_share(void **state)
{
	const struct answers answers = ask(*WORKER(.run = work));
	unsigned int i;

	(void)state;
	for (i = 0; i < REQUESTS; i++)
		check_equal(count(&answers, answers.pids[i]), REQUESTS / WORKERS);
}

static void
programs_have_no_more_than_their_share(void **state)
{
	const struct answers answers = ask(*WORKER(.argv = ROLE("work")));
	unsigned int i;

	(void)state;
	for (i = 0; i < REQUESTS; i++)
		check_equal(count(&answers, answers.pids[i]), REQUESTS / WORKERS);
}

#define spread_test(function) \
	cmocka_unit_test_setup_teardown(function, loop_test_begin, worker_test_end)

int
main(int argc, char **argv)
{
	static const struct role roles[] = {{"work", play_work}};
	const struct CMUnitTest tests[] = {
		spread_test(functions_have_no_more_than_their_share),
		spread_test(programs_have_no_more_than_their_share),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(*roles));
	return run_on_engines(tests);
}
