/* SPDX-License-Identifier: MIT */

/* Workers that die: at any time, at their start, of one request, after their last word. Every
   request ends exactly once, and nothing is left of the dead. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool_support.h"

/* Milliseconds in which a death must have been seen, whatever the machine does beside. */
#define SEEN_MS 5000

/* The number of a descriptor that a worker is given. */
#define FD_OF_CRASHES 20

/*
 * Workers killed at random, under load.
 */

#define CALLS 60

/* After so long so many deaths are enough. */
#define RAGE_MS  30000
#define RAGE_MIN 100

struct storm {
	struct desk *desk;
	struct call calls[CALLS];
	unsigned int once, many; /* requests of one attempt, and of many, that were taken */
	unsigned int lost;       /* of one attempt, that have ended with their worker */
	bool over;
};

static void
storm_next(struct call *call, struct ipc_message *reply)
{
	struct storm *storm = call->arg;
	bool once = (call - storm->calls) % 2;
	size_t size = test_random_below(20) ? test_random_below(3000) : test_random_below(300000);

	(void)reply;
	if (call->ends) {
		check(call->result == 0 || (once && call->result == -EOWNERDEAD));
		storm->lost += call->result != 0;
		call->ends = 0;
	}
	if (storm->over) {
		call->ends = 1;
		return;
	}
	check_equal(call_echo(storm->desk, call, size, once ? 1 : IPC_POOL_ATTEMPTS_LIMIT), 0);
	*(once ? &storm->once : &storm->many) += 1;
}

/* The process of a place that is ready, or -1. */
static pid_t
victim(const struct desk *desk, unsigned int n)
{
	struct ipc_pool_worker_stats stats = place_stats(desk, (unsigned int)test_random_below(n));

	return stats.state == IPC_POOL_READY ? stats.pid : -1;
}

/* Return: how many were killed. */
static unsigned int
rage(struct storm *storm, unsigned int kills)
{
	struct desk *desk = storm->desk;
	unsigned int killed = 0, turns;
	int64_t end_ms = now_ms() + RAGE_MS;
	pid_t pid;

	/* A machine that does other things, too, has fewer deaths. */
	while (killed < kills && (killed < RAGE_MIN || now_ms() < end_ms)) {
		for (turns = (unsigned int)test_random_below(4); turns; turns--)
			check(ipc_loop_turn(desk->loop, 5) >= 0);
		pid = victim(desk, 4);
		if (pid < 0) {
			check(ipc_loop_turn(desk->loop, 5) >= 0);
		} else if (kill(pid, SIGKILL) == 0) {
			killed++;
		}
	}
	return killed;
}

static void
workers_killed_at_random_lose_what_may_be_lost(void **state)
{
	struct storm *storm = calloc(1, sizeof(*storm));
	unsigned int kills = test_count(2000, 100), i;
	struct desk desk = {.loop = NULL};
	struct ipc_pool_stats stats;

	(void)state;
	check(storm);
	storm->desk = &desk;
	desk_open(&desk, POOL(.workers = 4, .depth = 8, .restart_min_ms = 1, .restart_max_ms = 1));
	await_ready(&desk, 4);
	for (i = 0; i < CALLS; i++) {
		storm->calls[i] = (struct call){.on_end = storm_next, .arg = storm};
		storm_next(&storm->calls[i], NULL);
	}
	kills = rage(storm, kills);
	storm->over = true;
	turn_until(desk.loop, desk.ends == storm->once + storm->many);
	stats = pool_stats(&desk);
	(void)printf("%u kills, %u deaths: %u requests of one attempt, of which %u were lost; %u "
		     "of many, given again %llu times\n",
		kills, desk.deaths, storm->once, storm->lost, storm->many,
		(unsigned long long)stats.retries);
	check_equal(stats.died, storm->lost);
	check(storm->lost && stats.retries);
	await_ready(&desk, 4);
	/* Some were killed twice before the first was seen. */
	check(desk.deaths <= kills && desk.deaths >= kills / 4);
	check_equal(stats.restarts, stats.starts - 4);
	expect_sums(&desk, true);
	desk_close(&desk);
	free(storm);
}

static void
a_death_is_seen_though_others_live(void **state)
{
	unsigned int n = test_count(100, 10), i;
	int64_t start_ms, took_ms, worst_ms = 0;
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 3, .restart_min_ms = 1, .restart_max_ms = 1));
	for (i = 0; i < n; i++) {
		await_ready(&desk, 3);
		start_ms = now_ms();
		signal_place(&desk, i % 3, SIGKILL);
		turn_until(desk.loop, desk.endeds == i + 1);
		took_ms = now_ms() - start_ms;
		worst_ms = took_ms > worst_ms ? took_ms : worst_ms;
	}
	(void)printf("%u deaths were seen after %lld ms at most\n", n, (long long)worst_ms);
	check(worst_ms < SEEN_MS);
	desk_close(&desk);
}

/*
 * Workers that do not even begin.
 */

static int
crash(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	_exit(*(int *)arg);
}

static void
when_none_can_be_started_requests_end_with_eownerdead(void **state)
{
	static const char *const argv[] = {"/bin/false", NULL};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .argv = (char *const *)argv};
	struct ipc_message message = {.size = 0};
	struct desk desk = {.fails = true};
	struct call calls[10];
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.worker = &worker, .workers = 2, .restart_min_ms = 1,
				 .restart_max_ms = 4, .starts_max = 4, .attempts = 5));
	for (i = 0; i < 10; i++)
		call_task(&desk, &calls[i], TASK_ECHO, i);
	check_equal(desk.ends, 0);
	for (i = 0; i < 10; i++)
		expect_call(&calls[i], -EOWNERDEAD);
	check(pool_stats(&desk).starts >= 8);
	check_equal(pool_stats(&desk).retries, 0);
	check(WIFEXITED(desk.status));
	check_equal(WEXITSTATUS(desk.status), 1);
	check_equal(call_message(&desk, &calls[0], &message, -1, NULL), -EOWNERDEAD);
	expect_sums(&desk, true);
	/* It goes on to try. */
	i = desk.endeds;
	turn_until(desk.loop, desk.endeds >= i + 4);
	check_equal(call_message(&desk, &calls[0], &message, -1, NULL), -EOWNERDEAD);
	check_equal(desk.starteds, 0);
	check_equal(ipc_pool_drain(desk.pool, TEST_WAIT_MS), 0);
	desk_close(&desk);
}

static void
starts_are_ever_more_seldom(void **state)
{
	static int status = 5;
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker), .run = crash, .arg = &status, .channel = &wide};
	struct desk desk = {.loop = NULL};
	int64_t start_ms = now_ms();

	(void)state;
	desk_open(&desk,
		POOL(.worker = &worker, .workers = 1, .restart_min_ms = 10, .restart_max_ms = 35));
	/* 20 after the first, and then as long as it may be, and no longer. */
	turn_until(desk.loop, desk.endeds == 5);
	check(now_ms() - start_ms >= 20 + 35 + 35 + 35);
	check(now_ms() - start_ms < SEEN_MS);
	/* The next may have been started already. */
	check(place_stats(&desk, 0).failures >= 5);
	check(place_stats(&desk, 0).starts - place_stats(&desk, 0).failures <= 1);
	check(WIFEXITED(desk.status));
	check_equal(WEXITSTATUS(desk.status), 5);
	desk_close(&desk);
}

/* Another name for this program. */
static void
link_program(const char *name)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	check(n > 0);
	path[n] = '\0';
	check_equal(symlink(path, name), 0);
}

static void
a_program_that_is_gone_and_comes_back(void **state)
{
	char folder[] = "/tmp/libipc-pool-XXXXXX", program[64];
	const char *const argv[] = {program, "serve", NULL};
	const struct ipc_worker_options worker = {
		.size = sizeof(worker), .argv = (char *const *)argv, .channel = &wide};
	struct ipc_message message = {.size = 0};
	struct call call = {.ends = 0}, waits = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	check(mkdtemp(folder));
	(void)snprintf(program, sizeof(program), "%s/program", folder);
	link_program(program);
	desk_open(&desk, POOL(.worker = &worker, .workers = 2, .restart_min_ms = 1,
				 .restart_max_ms = 20, .starts_max = 5));
	await_ready(&desk, 2);
	check_equal(unlink(program), 0);
	(void)ask(&desk, TASK_KILL, 0, -EOWNERDEAD);
	/* The other goes on. */
	turn_until(desk.loop, desk.endeds == 1);
	turn_for(desk.loop, 60);
	check_equal(ask(&desk, TASK_SLEEP, 1, 0), 1);
	check_equal(place_stats(&desk, 0).pid == -1 || place_stats(&desk, 1).pid == -1, 1);
	call_task(&desk, &call, TASK_KILL, 0);
	call_task(&desk, &waits, TASK_SLEEP, 0);
	expect_call(&call, -EOWNERDEAD);
	expect_call(&waits, -EOWNERDEAD);
	turn_until(desk.loop, call_message(&desk, &call, &message, 0, NULL) == -EOWNERDEAD);
	link_program(program);
	await_ready(&desk, 2);
	check_equal(ask(&desk, TASK_SLEEP, 2, 0), 2);
	desk_close(&desk);
	check_equal(unlink(program), 0);
	check_equal(rmdir(folder), 0);
}

/* Crashes before it opens its end, while there is something in a pipe; then serves. */
static int
play_serve_at_last(char **argv)
{
	char c;

	if (read(FD_OF_CRASHES, &c, 1) == 1)
		return 7;
	sleep_ms(50);
	return play_serve(argv);
}

static void
one_that_crashes_at_its_start_costs_no_request(void **state)
{
	static const char *const argv[] = {"/proc/self/exe", "serve at last", NULL};
	int ends[2];
	struct ipc_worker_fd fd = {.as = FD_OF_CRASHES};
	const struct ipc_worker_options worker = {
		.size = sizeof(worker), .argv = (char *const *)argv, .fds = &fd, .n_fds = 1};
	struct desk desk = {.loop = NULL};
	struct call calls[20], other = {.ends = 0};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	check_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	check_equal(write(ends[1], "12345", 5), 5);
	fd.fd = ends[0];
	/* The last start that is allowed succeeds, which takes a while. */
	desk_open(&desk, POOL(.worker = &worker, .workers = 1, .restart_min_ms = 1,
				 .restart_max_ms = 2, .starts_max = 6));
	for (i = 0; i < 20; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, i % 3);
	call_task(&desk, &other, TASK_SLEEP, 0);
	turn_until(desk.loop, desk.endeds == 5 && pool_stats(&desk).starts == 6);
	cancel(&other);
	for (i = 0; i < 20; i++)
		expect_call(&calls[i], 0);
	check_equal(desk.endeds, 5);
	check_equal(pool_stats(&desk).retries, 0);
	expect_sums(&desk, true);
	desk_close(&desk);
	check_equal(close(ends[0]), 0);
	check_equal(close(ends[1]), 0);
}

/*
 * Requests that kill.
 */

static void
one_that_kills_every_worker_fails_by_itself(void **state)
{
	unsigned int n = test_count(1000, 200), i;
	struct call *calls = calloc(n, sizeof(*calls)), killer = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	check(calls);
	desk_open(&desk, POOL(.workers = 4, .attempts = 3, .restart_min_ms = 1));
	for (i = 0; i < n; i++) {
		if (i == n / 3)
			call_task(&desk, &killer, TASK_KILL, 0);
		check_equal(call_echo(&desk, &calls[i], test_random_below(500), 0), 0);
	}
	expect_call(&killer, -EOWNERDEAD);
	for (i = 0; i < n; i++)
		expect_call(&calls[i], 0);
	turn_until(desk.loop, desk.deaths == 3);
	check_equal(pool_stats(&desk).died, 1);
	check(pool_stats(&desk).retries >= 2);
	expect_sums(&desk, true);
	desk_close(&desk);
	free(calls);
}

static void
one_that_is_tried_again_is_alone(void **state)
{
	struct call kills[2], sleeps[6];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(kills, 0, sizeof(kills));
	memset(sleeps, 0, sizeof(sleeps));
	desk_open(&desk, POOL(.workers = 1, .attempts = 2, .restart_min_ms = 1));
	await_ready(&desk, 1);
	for (i = 0; i < 2; i++)
		call_task(&desk, &kills[i], TASK_KILL, 0);
	for (i = 0; i < 6; i++)
		call_task(&desk, &sleeps[i], TASK_SLEEP, i);
	/* Each has one that it cannot take anybody along with. */
	while (desk.ends < 8) {
		check(ipc_loop_turn(desk.loop, TEST_WAIT_MS) >= 0);
		if (desk.endeds && desk.ends < 8)
			check(place_stats(&desk, 0).outstanding <= 1);
	}
	check_equal(kills[0].result, -EOWNERDEAD);
	check_equal(kills[1].result, -EOWNERDEAD);
	check_equal(desk.results[0], 6);
	check_equal(desk.deaths, 3);
	check_equal(pool_stats(&desk).retries, 8);
	desk_close(&desk);
}

static void
nobody_joins_it(void **state)
{
	struct call kill = {.ends = 0}, calls[6];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .restart_min_ms = 1));
	await_ready(&desk, 1);
	call_task_attempts(&desk, &kill, TASK_KILL, 0, 4);
	turn_until(desk.loop, desk.endeds == 1);
	/* These may be given to a worker once only. */
	for (i = 0; i < 6; i++)
		call_task(&desk, &calls[i], TASK_SLEEP, i);
	expect_call(&kill, -EOWNERDEAD);
	for (i = 0; i < 6; i++)
		expect_call(&calls[i], 0);
	check_equal(desk.deaths, 4);
	desk_close(&desk);
}

static void
it_does_not_join_another(void **state)
{
	struct call hold = {.ends = 0}, kill = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	desk_open(&desk, POOL(.workers = 2, .attempts = 2, .restart_min_ms = TEST_WAIT_MS));
	await_ready(&desk, 2);
	call_task(&desk, &hold, TASK_HOLD, 0);
	call_task(&desk, &kill, TASK_KILL, 0);
	turn_until(desk.loop, desk.endeds == 1);
	turn_for(desk.loop, 10);
	check_equal(pool_stats(&desk).queued, 1);
	check_equal(pool_stats(&desk).retries, 0);
	for (i = 0; i < 2; i++)
		check(place_stats(&desk, i).outstanding <= 1);
	check_equal(hold.ends + kill.ends, 0);
	desk_close(&desk);
	check_equal(desk.ends, 2);
}

/* Calls again until what it waits for has ended. */
static void
press_on(struct call *call, struct ipc_message *reply)
{
	const struct call *awaited = call->arg;

	(void)reply;
	if (!awaited->ends)
		check_equal(call_echo(call->desk, call, 100, 0), 0);
}

static void
one_that_shall_be_alone_has_its_turn(void **state)
{
	struct call calls[6], awaited = {.ends = 0};
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 2, .restart_min_ms = TEST_WAIT_MS));
	await_ready(&desk, 2);
	/* These keep the workers busy, of which there soon is one alone. */
	for (i = 0; i < 6; i++) {
		calls[i].on_end = press_on;
		calls[i].arg = &awaited;
		check_equal(call_echo(&desk, &calls[i], 100, 0), 0);
	}
	turn_until(desk.loop, desk.ends > 20);
	call_task_attempts(&desk, &awaited, TASK_KILL, 0, 2);
	expect_call(&awaited, -EOWNERDEAD);
	desk_close(&desk);
}

static void
once_a_part_was_given_out_it_is_not_tried_again(void **state)
{
	struct call part = {.ends = 0}, beside = {.ends = 0};
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .attempts = 10, .restart_min_ms = 1));
	call_task(&desk, &part, TASK_PART_AND_KILL, 0);
	call_task(&desk, &beside, TASK_SLEEP, 9);
	expect_call(&part, -EOWNERDEAD);
	check_equal(part.parts, 1);
	expect_call(&beside, 0);
	check_equal(beside.n, 9);
	check_equal(desk.deaths, 1);
	check_equal(pool_stats(&desk).retries, 1);
	desk_close(&desk);
}

static void
by_default_it_is_not_tried_again(void **state)
{
	struct call calls[5];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1));
	await_ready(&desk, 1);
	for (i = 0; i < 5; i++)
		call_task(&desk, &calls[i], i == 2 ? TASK_KILL : TASK_SLEEP, i);
	for (i = 0; i < 5; i++)
		expect_call(&calls[i], i < 2 ? 0 : -EOWNERDEAD);
	turn_until(desk.loop, desk.endeds);
	check_equal(desk.deaths, 1);
	check_equal(pool_stats(&desk).retries, 0);
	check_equal(ask(&desk, TASK_SLEEP, 1, 0), 1);
	desk_close(&desk);
}

static void
those_that_are_tried_again_keep_their_order(void **state)
{
	struct call kill = {.ends = 0}, calls[10];
	struct desk desk = {.loop = NULL};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .depth = 6, .restart_min_ms = 1));
	await_ready(&desk, 1);
	call_task(&desk, &kill, TASK_KILL, 0);
	for (i = 0; i < 10; i++)
		call_task_attempts(&desk, &calls[i], TASK_SLEEP, i, 2);
	expect_call(&kill, -EOWNERDEAD);
	for (i = 0; i < 10; i++) {
		expect_call(&calls[i], 0);
		check_equal(calls[i].at, i + 2);
	}
	check_equal(pool_stats(&desk).retries, 5);
	desk_close(&desk);
}

/*
 * Last words.
 */

static void
one_that_answers_and_exits_has_answered(void **state)
{
	unsigned int n = test_count(1000, 100), i;
	struct call *calls = calloc(n, sizeof(*calls));
	struct desk desk = {.loop = NULL};

	(void)state;
	check(calls);
	desk_open(&desk, POOL(.workers = 4, .depth = 1, .attempts = 1000, .restart_min_ms = 1,
				 .restart_max_ms = 1));
	for (i = 0; i < n; i++)
		call_task(&desk, &calls[i], TASK_LAST, 3);
	for (i = 0; i < n; i++)
		expect_call(&calls[i], 0);
	/* No answer was lost, else more than one worker would have ended for it. What it was given
	   after its answer was given to another. */
	turn_until(desk.loop, desk.endeds >= n);
	(void)turn_out(desk.loop);
	check_equal(desk.endeds, n);
	check_equal(desk.deaths, 0);
	check_equal(WEXITSTATUS(desk.status), 3);
	check_equal(pool_stats(&desk).died, 0);
	expect_sums(&desk, true);
	desk_close(&desk);
	free(calls);
}

static void
ended_tells_how(void **state)
{
	struct desk desk = {.loop = NULL};

	(void)state;
	desk_open(&desk, POOL(.workers = 1, .restart_min_ms = 1, .restart_max_ms = 1));
	(void)ask(&desk, TASK_EXIT, 42, -EOWNERDEAD);
	turn_until(desk.loop, desk.endeds == 1);
	check(WIFEXITED(desk.status));
	check_equal(WEXITSTATUS(desk.status), 42);
	(void)ask(&desk, TASK_KILL, 0, -EOWNERDEAD);
	turn_until(desk.loop, desk.endeds == 2);
	check(WIFSIGNALED(desk.status));
	check_equal(WTERMSIG(desk.status), SIGKILL);
	desk_close(&desk);
}

static void
expect_all_ended(struct desk *desk, struct ipc_worker *worker, const struct ipc_worker_end *end)
{
	(void)worker;
	check_equal(end->size, sizeof(*end));
	check_equal(desk->ends, 5);
	check_equal(pool_stats(desk).outstanding, 0);
	check_equal(pool_stats(desk).queued, 1);
	check(!ipc_worker_channel(worker) || ipc_worker_pid(worker) > 0);
}

static void
when_ended_comes_its_requests_have_or_wait(void **state)
{
	struct call calls[6];
	struct desk desk = {.on_ended = expect_all_ended};
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .restart_min_ms = 1));
	await_ready(&desk, 1);
	for (i = 0; i < 6; i++)
		call_task_attempts(&desk, &calls[i], i == 5 ? TASK_SLEEP : TASK_HOLD, 0, 1 + i / 5);
	signal_place(&desk, 0, SIGKILL);
	turn_until(desk.loop, desk.ends == 6);
	desk.on_ended = NULL;
	check_equal(calls[5].result, 0);
	desk_close(&desk);
}

static void
one_that_closes_its_end_loses_its_requests_and_is_killed(void **state)
{
	struct call calls[5], closes = {.ends = 0};
	struct desk desk = {.loop = NULL};
	int64_t start_ms;
	unsigned int i;

	(void)state;
	memset(calls, 0, sizeof(calls));
	desk_open(&desk, POOL(.workers = 1, .stop_ms = 60, .restart_min_ms = 1));
	await_ready(&desk, 1);
	start_ms = now_ms();
	call_task(&desk, &closes, TASK_CLOSE, 0);
	for (i = 0; i < 5; i++)
		call_task_attempts(&desk, &calls[i], TASK_SLEEP, 0, 1 + i % 2);
	expect_call(&closes, -EOWNERDEAD);
	check_equal(desk.endeds, 0);
	for (i = 0; i < 5; i++)
		expect_call(&calls[i], i % 2 ? 0 : -EOWNERDEAD);
	check(now_ms() - start_ms >= 60);
	check_equal(desk.endeds, 1);
	check_equal(WTERMSIG(desk.status), SIGKILL);
	expect_sums(&desk, true);
	desk_close(&desk);
}

int
main(int argc, char **argv)
{
	static const struct role roles[] = {
		{"serve", play_serve}, {"serve at last", play_serve_at_last}};
	static const struct CMUnitTest tests[] = {
		pool_test(workers_killed_at_random_lose_what_may_be_lost),
		pool_test(a_death_is_seen_though_others_live),
		pool_test(when_none_can_be_started_requests_end_with_eownerdead),
		pool_test(starts_are_ever_more_seldom),
		pool_test(a_program_that_is_gone_and_comes_back),
		pool_test(one_that_crashes_at_its_start_costs_no_request),
		pool_test(one_that_kills_every_worker_fails_by_itself),
		pool_test(one_that_is_tried_again_is_alone),
		pool_test(nobody_joins_it),
		pool_test(it_does_not_join_another),
		pool_test(one_that_shall_be_alone_has_its_turn),
		pool_test(once_a_part_was_given_out_it_is_not_tried_again),
		pool_test(by_default_it_is_not_tried_again),
		pool_test(those_that_are_tried_again_keep_their_order),
		pool_test(one_that_answers_and_exits_has_answered),
		pool_test(ended_tells_how),
		pool_test(when_ended_comes_its_requests_have_or_wait),
		pool_test(one_that_closes_its_end_loses_its_requests_and_is_killed),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_on_engines(tests);
}
