/* SPDX-License-Identifier: MIT */

/*
 * Everything at once, for long: requests of all sizes, with descriptors, in parts, with little time
 * and with much, cancelled, tried again; workers that are killed, stopped, too few and too many;
 * and a signal every millisecond. LIBIPC_TEST_SOAK_SECONDS says how long.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool_support.h"

#define SLOTS       100
#define WORKERS_MAX 6
#define FILES       4
#define PAYLOAD_MAX 400000U
/* What the parent may hold: for each worker the largest message and some packets, what is kept of
   requests, the loop's buffers, and the program itself. */
#define KEPT_MAX (4U << 20)
#define RESIDENT_MAX                                                                          \
	(2 * WORKERS_MAX * (size_t)(1U << 20) + KEPT_MAX + SLOTS * (size_t)PAYLOAD_MAX / 10 + \
		IPC_LOOP_BUFFERS_DEFAULT * (200U << 10) + (16U << 20))
/* And what it may grow by, once warm. */
#define GROWTH_MAX   (8U << 20)
#define WARM_SECONDS 60

enum load { ECHO, ECHO_LARGE, FILES_BACK, IN_PARTS, IN_TIME, LATE, ONCE, LOADS };

struct soak;

/* A request at a time. */
struct slot {
	struct call call; /* first: what a reply function gets */
	struct soak *soak;
	enum load load;
	unsigned int n;
	bool idle; /* was refused: goes on when there is room */
};

struct soak {
	struct desk desk; /* first: what a callback gets */
	struct slot slots[SLOTS];
	int files[FILES];
	ino_t inodes[FILES];
	unsigned char *payload;
	uint64_t begun, by_load[LOADS], bad[LOADS], refused, kills, resizes, cancels, stops;
	pid_t stopped;
	bool over;
};

static void
expect_files(const struct slot *slot, struct ipc_message *reply)
{
	struct stat stat;
	unsigned int i;

	check_equal(reply->n_fds, slot->n);
	for (i = 0; i < slot->n; i++) {
		check_equal(fstat(reply->fds[i], &stat), 0);
		check_equal(stat.st_ino, slot->soak->inodes[i]);
	}
	/* Some are taken, and closed by who took them. */
	if (slot->n && test_random_below(2))
		check_equal(close(ipc_message_take_fd(reply, slot->n - 1)), 0);
}

/* May it have ended so? */
static bool
is_fair(const struct slot *slot)
{
	switch (slot->call.result) {
	case 0:
	case -ECANCELED:
		return true;
	case -ETIMEDOUT:
		return slot->load == IN_TIME || slot->load == LATE;
	case -EOWNERDEAD:
		return slot->load == ONCE || slot->load == IN_PARTS || slot->load == LATE;
	default:
		return false;
	}
}

static void begin(struct slot *slot);

static void
on_end(struct call *call, struct ipc_message *reply)
{
	struct slot *slot = (struct slot *)call;

	check(is_fair(slot));
	slot->soak->bad[slot->load] += call->result != 0;
	if (reply && slot->load == FILES_BACK)
		expect_files(slot, reply);
	if (reply && slot->load == IN_PARTS)
		check_equal(call->parts, slot->n);
	if (!slot->soak->over)
		begin(slot);
}

static void
on_part(struct call *call, struct ipc_message *reply)
{
	const struct slot *slot = (const struct slot *)call;
	uint64_t n;

	check_equal(slot->load, IN_PARTS);
	memcpy(&n, reply->data, sizeof(n));
	check_equal(n, call->parts - 1);
}

/* The message of a slot's next request. */
static struct ipc_message
compose(struct slot *slot)
{
	struct soak *soak = slot->soak;
	struct ipc_message message = {.data = soak->payload, .id = test_random()};
	uint64_t n = slot->n;

	switch (slot->load) {
	case IN_PARTS:
	case LATE:
		message.type = slot->load == LATE ? TASK_SLEEP : TASK_PARTS;
		message.size = sizeof(n);
		memcpy(soak->payload, &n, sizeof(n));
		return message;
	case ECHO_LARGE:
		message.size = test_random_below(PAYLOAD_MAX);
		break;
	case FILES_BACK:
		message.n_fds = slot->n;
		message.fds = soak->files;
		message.size = test_random_below(100);
		break;
	default:
		message.size = test_random_below(test_random_below(10) ? 500 : 20000);
	}
	slot->call.key = test_random();
	slot->call.echo = message.size + 1;
	fill(soak->payload, message.size, slot->call.key);
	return message;
}

static void
begin(struct slot *slot)
{
	struct ipc_call_options options = {.size = sizeof(options)};
	const unsigned int limits[LOADS] = {1, 1, FILES + 1, 20, 1, 4, 1};
	struct soak *soak = slot->soak;
	struct ipc_message message;
	int timeout_ms = -1, r;

	slot->load = (enum load)test_random_below(LOADS);
	/* Large ones are rare, and so are those that make a worker wait. */
	if ((slot->load == ECHO_LARGE || slot->load == LATE) && test_random_below(10))
		slot->load = ECHO;
	slot->n = (unsigned int)test_random_below(limits[slot->load]);
	slot->call = (struct call){.on_end = on_end, .on_part = on_part};
	options.attempts = slot->load == ONCE || slot->load == LATE ? 1 : IPC_POOL_ATTEMPTS_LIMIT;
	if (slot->load == IN_TIME)
		timeout_ms = (int)test_random_below(20);
	if (slot->load == LATE)
		timeout_ms = 1;
	message = compose(slot);
	r = call_message(&soak->desk, &slot->call, &message, timeout_ms, &options);
	slot->idle = r == -EAGAIN;
	soak->refused += slot->idle;
	if (!slot->idle) {
		check_equal(r, 0);
		soak->begun++;
		soak->by_load[slot->load]++;
	}
}

static void
begin_idle(struct desk *desk)
{
	struct soak *soak = (struct soak *)desk;
	unsigned int i;

	for (i = 0; i < SLOTS && !soak->over; i++)
		if (soak->slots[i].idle)
			begin(&soak->slots[i]);
}

/* Go on with the worker that was stopped, if it still is one. */
static void
continue_it(struct soak *soak)
{
	struct ipc_pool_worker_stats stats = {.size = sizeof(stats)};
	unsigned int i;

	for (i = 0; ipc_pool_worker_stats(soak->desk.pool, i, &stats) == 0; i++)
		if (stats.pid > 1 && stats.pid == soak->stopped)
			check_equal(kill(stats.pid, SIGCONT), 0);
	soak->stopped = 0;
}

static void
disturb(struct ipc_timer *timer, void *user)
{
	struct soak *soak = user;
	struct ipc_pool_worker_stats stats = {.size = sizeof(stats)};
	unsigned int draw = (unsigned int)test_random_below(40), i;
	struct call *call;

	(void)timer;
	if (soak->over)
		return;
	for (i = 0; i < 3; i++) {
		call = &soak->slots[test_random_below(SLOTS)].call;
		if (!call->name || call->ends || test_random_below(5))
			continue;
		check_equal(ipc_pool_cancel(soak->desk.pool, call->name), 0);
		soak->cancels++;
	}
	if (draw == 0) {
		check_equal(ipc_pool_resize(soak->desk.pool,
				    1 + (unsigned int)test_random_below(WORKERS_MAX)),
			0);
		soak->resizes++;
	}
	if (draw == 1 && soak->stopped)
		continue_it(soak);
	if (draw > 2 || ipc_pool_worker_stats(soak->desk.pool,
				(unsigned int)test_random_below(WORKERS_MAX), &stats) < 0)
		return;
	if (stats.pid <= 1 || stats.state != IPC_POOL_READY)
		return;
	if (draw == 1) {
		check_equal(kill(stats.pid, SIGSTOP), 0);
		soak->stopped = stats.pid;
		soak->stops++;
	} else if (draw == 2) {
		check_equal(kill(stats.pid, SIGKILL), 0);
		soak->kills++;
	}
}

static unsigned int
soak_seconds(void)
{
	const char *text = getenv("LIBIPC_TEST_SOAK_SECONDS");

	return text ? (unsigned int)atoi(text) : test_count(8, 1);
}

static struct soak *
soak_open(void)
{
	struct soak *soak = calloc(1, sizeof(*soak));
	struct stat stat;
	unsigned int i;

	check(soak);
	soak->payload = malloc(PAYLOAD_MAX);
	check(soak->payload);
	for (i = 0; i < FILES; i++) {
		soak->files[i] = memfd_create("soak", MFD_CLOEXEC);
		check_equal(fstat(soak->files[i], &stat), 0);
		soak->inodes[i] = stat.st_ino;
	}
	soak->desk.on_writable = begin_idle;
	desk_open(&soak->desk,
		POOL(.workers = 3, .depth = 6, .queue_max = 60, .kept_bytes_max = KEPT_MAX,
			.kept_fds_max = 100, .hung_ms = 1000, .restart_min_ms = 1,
			.restart_max_ms = 20, .stop_ms = 500, .tell = 1));
	return soak;
}

static void
soak_close(struct soak *soak)
{
	unsigned int i;

	desk_close(&soak->desk);
	for (i = 0; i < FILES; i++)
		check_equal(close(soak->files[i]), 0);
	free(soak->payload);
	free(soak);
}

static void
run_for_a_while(struct soak *soak)
{
	int64_t start_ms = now_ms(), length_ms = (int64_t)soak_seconds() * 1000;
	struct desk *desk = &soak->desk;
	struct ipc_timer *timer;
	size_t warm = 0;
	unsigned int i;

	check_equal(ipc_timer_start(&timer, desk->loop, 2, 2, disturb, soak), 0);
	for (i = 0; i < SLOTS; i++) {
		soak->slots[i].soak = soak;
		begin(&soak->slots[i]);
	}
	while (now_ms() < start_ms + length_ms) {
		check(ipc_loop_turn(desk->loop, TEST_WAIT_MS) > 0);
		if (!warm && now_ms() > start_ms + WARM_SECONDS * 1000)
			warm = resident_bytes();
	}
	soak->over = true;
	continue_it(soak);
	ipc_timer_stop(timer);
	turn_until(desk->loop, desk->ends == soak->begun);
	expect_resident_below(warm ? warm + GROWTH_MAX : RESIDENT_MAX);
}

static void
report(const struct soak *soak)
{
	static const char *const names[LOADS] = {"echoed", "large", "with files", "in parts",
		"in some time", "late", "of one attempt"};
	struct ipc_pool_stats stats = pool_stats(&soak->desk);
	unsigned int i;

	for (i = 0; i < LOADS; i++)
		(void)printf("%llu %s, %llu of them without an answer\n",
			(unsigned long long)soak->by_load[i], names[i],
			(unsigned long long)soak->bad[i]);
	(void)printf("%llu kills, %llu stops, %llu hung, %llu resizes, %llu cancels, %llu times "
		     "no room; %llu given again, %llu answers dropped\n",
		(unsigned long long)soak->kills, (unsigned long long)soak->stops,
		(unsigned long long)stats.hung, (unsigned long long)soak->resizes,
		(unsigned long long)soak->cancels, (unsigned long long)soak->refused,
		(unsigned long long)stats.retries, (unsigned long long)stats.strays);
}

static void
every_request_ends_once_and_nothing_grows(void **state)
{
	struct soak *soak;
	struct desk *desk;
	struct ipc_pool_stats stats;
	unsigned int open;

	(void)state;
	alarm(soak_seconds() + TEST_SECONDS_MAX);
	soak = soak_open();
	desk = &soak->desk;
	await_ready(desk, 3);
	open = descriptors_open();
	signals_start();
	run_for_a_while(soak);
	check(signals_stop() > 100);
	report(soak);
	expect_sums(desk, true);
	stats = pool_stats(desk);
	check_equal(stats.refused, soak->refused);
	check(!soak->refused || desk->writables);
	check_equal(ipc_pool_resize(desk->pool, 3), 0);
	await_places(desk, 3);
	(void)turn_out(desk->loop);
	check_equal(descriptors_open(), open);
	check_equal(ipc_pool_drain(desk->pool, TEST_WAIT_MS), 0);
	soak_close(soak);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		pool_test(every_request_ends_once_and_nothing_grows),
	};

	return run_on_engines(tests);
}
