/* SPDX-License-Identifier: MIT */

/*
 * One parent, three workers, one loop: counts the primes below N.
 *
 * Each worker has two slices of the numbers: one in its hands, one that waits for it. Its answer
 * brings it the next. A timer ends what takes too long.
 *
 *   loop [N [SECONDS]]
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <libipc.h>

#include "workers.h"

#define WORKERS         3
#define SLICE           20000U
#define SLICES_AT_ONCE  2
#define NUMBERS_DEFAULT 1000000U
#define NUMBERS_LIMIT   4000000000U
#define SECONDS_DEFAULT 60
#define SECONDS_LIMIT   1000000

struct slice {
	uint32_t from, to;
};

struct count {
	struct ipc_loop *loop;
	uint32_t next, end;       /* what no worker has yet */
	unsigned int outstanding; /* slices that workers have */
	uint32_t primes;
	bool failed;
};

static int
fail(const char *what, int result)
{
	fprintf(stderr, "loop: %s: %s\n", what, strerror(-result));
	return 1;
}

/* The worker: it needs no loop, it has but one channel. */

static bool
is_prime(uint32_t n)
{
	uint32_t divisor;

	if (n < 4)
		return n > 1;
	if (n % 2 == 0)
		return false;
	for (divisor = 3; divisor <= n / divisor; divisor += 2)
		if (n % divisor == 0)
			return false;
	return true;
}

static int
serve(struct ipc_channel *channel)
{
	struct ipc_message request;
	struct slice slice;
	uint32_t n, primes;
	int r;

	while ((r = ipc_channel_recv(channel, &request, -1)) == 0) {
		memcpy(&slice, request.data, sizeof(slice));
		for (n = slice.from, primes = 0; n < slice.to; n++)
			primes += is_prime(n);
		r = ipc_channel_reply(channel, &request,
			&(struct ipc_message){.data = &primes, .size = sizeof(primes)}, -1);
		if (r < 0)
			break;
	}
	ipc_channel_close(channel);
	return r == -EPIPE ? 0 : fail("worker", r);
}

/* The parent. */

static void
give_up(struct count *count, const char *what, int result)
{
	if (!count->failed)
		fail(what, result);
	count->failed = true;
	ipc_loop_stop(count->loop);
}

static void
give_slice(struct count *count, struct ipc_channel *channel)
{
	struct slice slice = {.from = count->next, .to = count->end};
	struct ipc_message request = {.data = &slice, .size = sizeof(slice), .id = 1};
	int r;

	if (count->next == count->end)
		return;
	if (slice.to - slice.from > SLICE)
		slice.to = slice.from + SLICE;
	/* It is gathered; the end of the turn sends it, with those for the others. */
	r = ipc_channel_send(channel, &request, 0);
	if (r < 0) {
		give_up(count, "send", r);
		return;
	}
	count->next = slice.to;
	count->outstanding++;
}

static void
answered(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct count *count = user;
	uint32_t primes;

	if (message->size != sizeof(primes)) {
		give_up(count, "an answer", -EPROTO);
		return;
	}
	memcpy(&primes, message->data, sizeof(primes));
	count->primes += primes;
	count->outstanding--;
	give_slice(count, channel);
	if (!count->outstanding)
		ipc_loop_stop(count->loop);
}

/* The channel is detached already; end_workers() closes it. */
static void
died(struct ipc_channel *channel, int reason, void *user)
{
	(void)channel;
	give_up(user, "a worker has ended", reason ? reason : -EPIPE);
}

static void
took_too_long(struct ipc_timer *timer, void *user)
{
	(void)timer;
	give_up(user, "not done", -ETIMEDOUT);
}

static int
run(struct count *count, struct worker *workers, int seconds)
{
	static const struct ipc_channel_handler handler = {.message = answered, .closed = died};
	unsigned int i, k;
	int r;

	r = ipc_timer_start(NULL, count->loop, seconds * 1000, 0, took_too_long, count);
	for (i = 0; i < WORKERS && r == 0; i++) {
		r = ipc_loop_attach(count->loop, workers[i].channel, &handler, count);
		for (k = 0; k < SLICES_AT_ONCE && r == 0; k++)
			give_slice(count, workers[i].channel);
	}
	return r < 0 ? r : ipc_loop_run(count->loop);
}

static bool
parse(const char *text, unsigned long limit, unsigned long *ret_value)
{
	char *end;

	*ret_value = strtoul(text, &end, 10);
	return *text >= '1' && *text <= '9' && !*end && *ret_value <= limit;
}

int
main(int argc, char **argv)
{
	struct worker workers[WORKERS];
	struct count count = {.end = NUMBERS_DEFAULT};
	unsigned long n = NUMBERS_DEFAULT, seconds = SECONDS_DEFAULT;
	int r;

	if (argc > 3 || (argc > 1 && !parse(argv[1], NUMBERS_LIMIT, &n)) ||
		(argc > 2 && !parse(argv[2], SECONDS_LIMIT, &seconds))) {
		fprintf(stderr, "usage: loop [N [SECONDS]]\n");
		return 2;
	}
	count.end = (uint32_t)n;

	r = start_workers(workers, WORKERS, NULL, serve);
	if (r < 0)
		return fail("start_workers", r);
	r = ipc_loop_create(&count.loop, NULL);
	if (r == 0) {
		printf("engine %s: %s\n", ipc_loop_engine(count.loop),
			ipc_loop_engine_reason(count.loop));
		r = run(&count, workers, (int)seconds);
		/* Detaches the channels, too. */
		ipc_loop_destroy(count.loop);
	}
	if (r < 0)
		fail("the loop", r);
	if (!end_workers(workers, WORKERS) || r < 0 || count.failed)
		return 1;
	printf("%" PRIu32 " primes below %lu\n", count.primes, n);
	return 0;
}
