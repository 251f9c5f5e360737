/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base.h"
#include "closer.h"
#include "sys.h"

/* How long the thread waits for more: a peer that sends descriptors has sent several. */
#define IDLE_NS 2000000

#define CAPACITY_MIN 64U

/* A socket lingers no longer than this: those behind it would stay open. */
#define LINGER_S_MAX 2

/* Memory that is given back within a few milliseconds. */
#define QUICK_BYTES_MAX (16U << 20)

struct ipci_closer {
	pthread_mutex_t lock; /* never held for long */
	pthread_cond_t change;
	unsigned int generation; /* a forked child has a copy of it, and no thread */
	bool has_thread;
	bool freed; /* by the channel: the thread frees it */
	unsigned int n, capacity;
	int *fds;
	bool is_busy;        /* one is being closed */
	bool is_awaited;     /* somebody waits until fewer are left */
	int64_t progress_ns; /* since when there has been something to close, and nothing was */
};

static void
close_at_once(int *fds, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue;
		/* What else can be done where there is no thread. */
		(void)ipci_sys_limit_linger(fds[i], 0);
		(void)ipci_sys_close(fds[i]);
		fds[i] = -1;
	}
}

/* Close those of kinds that are closed in no time. Return: how many are left. */
static unsigned int
close_quick(int *fds, unsigned int n)
{
	unsigned int i, left = 0;

	for (i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue;
		if (ipci_sys_is_plain_memory(fds[i], QUICK_BYTES_MAX)) {
			(void)ipci_sys_close(fds[i]);
			fds[i] = -1;
		} else {
			left++;
		}
	}
	return left;
}

static struct ipci_closer *
closer_new(void)
{
	struct ipci_closer *closer = calloc(1, sizeof(*closer));

	if (!closer)
		return NULL;
	closer->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	closer->change = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	closer->generation = ipci_sys_generation();
	return closer;
}

/* Locked. */
static unsigned int
n_left(const struct ipci_closer *closer)
{
	return closer->n + closer->is_busy;
}

static void
release(struct ipci_closer *closer)
{
	free(closer->fds);
	free(closer);
}

/* Locked. Wait until until_ns, or that something changes. */
static void
await_change(struct ipci_closer *closer, int64_t until_ns)
{
	struct timespec until = {
		.tv_sec = until_ns / 1000000000,
		.tv_nsec = until_ns % 1000000000,
	};

	(void)pthread_cond_clockwait(&closer->change, &closer->lock, CLOCK_MONOTONIC, &until);
}

/* Locked. Return: whether there is something to close. */
static bool
await_more(struct ipci_closer *closer)
{
	int64_t until_ns = ipci_sys_now_ns() + IDLE_NS;

	while (!closer->n && !closer->freed && ipci_sys_now_ns() < until_ns)
		await_change(closer, until_ns);
	return closer->n > 0;
}

static void *
run(void *arg)
{
	struct ipci_closer *closer = arg;
	bool freed;
	int fd, linger_s;

	pthread_mutex_lock(&closer->lock);
	while (closer->n || await_more(closer)) {
		fd = closer->fds[--closer->n];
		closer->is_busy = true;
		/* What nobody waits for any more is not to stay. */
		linger_s = closer->freed ? 0 : LINGER_S_MAX;
		pthread_mutex_unlock(&closer->lock);
		(void)ipci_sys_limit_linger(fd, linger_s);
		(void)ipci_sys_close(fd);
		pthread_mutex_lock(&closer->lock);
		closer->is_busy = false;
		closer->progress_ns = ipci_sys_now_ns();
		if (closer->is_awaited)
			pthread_cond_signal(&closer->change);
	}
	closer->has_thread = false;
	freed = closer->freed;
	pthread_mutex_unlock(&closer->lock);
	if (freed)
		release(closer);
	return NULL;
}

/* Locked. Have room for n more. */
static bool
reserve(struct ipci_closer *closer, unsigned int n)
{
	unsigned int capacity = IPCI_MAX(closer->capacity, CAPACITY_MIN);
	int *fds;

	while (capacity < closer->n + n)
		capacity *= 2;
	if (capacity == closer->capacity)
		return true;
	fds = realloc(closer->fds, capacity * sizeof(*fds));
	if (!fds)
		return false;
	closer->fds = fds;
	closer->capacity = capacity;
	return true;
}

/* Locked. Let the thread have them. Return: whether there is one, and room for them. */
static bool
hand_over(struct ipci_closer *closer, int *fds, unsigned int n)
{
	unsigned int i;

	if (!reserve(closer, n))
		return false;
	if (!closer->has_thread)
		closer->has_thread = ipci_sys_thread(IPCI_CLOSER_NAME, run, closer) == 0;
	if (!closer->has_thread)
		return false;
	if (!n_left(closer))
		closer->progress_ns = ipci_sys_now_ns();
	for (i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue;
		closer->fds[closer->n++] = fds[i];
		fds[i] = -1;
	}
	pthread_cond_signal(&closer->change);
	return true;
}

void
ipci_closer_close(struct ipci_closer **closer, int *fds, unsigned int n)
{
	bool handed = false;
	int state;

	if (!close_quick(fds, n))
		return;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	/* The parent's, which its thread may have locked, is left alone. */
	if (!*closer || (*closer)->generation != ipci_sys_generation())
		*closer = closer_new();
	if (*closer) {
		pthread_mutex_lock(&(*closer)->lock);
		handed = hand_over(*closer, fds, n);
		pthread_mutex_unlock(&(*closer)->lock);
	}
	if (!handed)
		close_at_once(fds, n);
	(void)pthread_setcancelstate(state, &state);
}

/* Locked. Return: until when to wait for fewer now, or the result of the whole wait, which is not
   greater than 0. */
static int64_t
next_wait(const struct ipci_closer *closer, int64_t grace_until_ns, bool patient,
	const struct ipci_deadline *deadline)
{
	int64_t now_ns = ipci_sys_now_ns(), until_ns = closer->progress_ns + IPCI_CLOSER_GRACE_NS;

	/* One that is stuck is waited for no more than once. */
	until_ns = IPCI_MIN(until_ns, grace_until_ns);
	if (now_ns < until_ns)
		return until_ns;
	until_ns = closer->progress_ns + (patient ? IPCI_CLOSER_PATIENCE_NS : 0);
	if (n_left(closer) <= IPCI_CLOSER_MAX && now_ns >= until_ns)
		return 0;
	until_ns = closer->progress_ns + IPCI_CLOSER_STUCK_NS;
	if (now_ns >= until_ns)
		return -EPROTO;
	if (!ipci_deadline_left_ms(deadline, now_ns))
		return ipci_deadline_error(deadline);
	return deadline->timeout_ms > 0 ? IPCI_MIN(until_ns, deadline->at_ns) : until_ns;
}

/* Locked. */
static int
await_fewer(struct ipci_closer *closer, bool patient, struct ipci_deadline *deadline)
{
	int64_t grace_until_ns, next_ns = 0;

	if (n_left(closer) <= IPCI_CLOSER_FEW)
		return 0;
	grace_until_ns = ipci_sys_now_ns() + IPCI_CLOSER_GRACE_NS;
	ipci_deadline_start(deadline, grace_until_ns - IPCI_CLOSER_GRACE_NS);
	closer->is_awaited = true;
	while (n_left(closer) > IPCI_CLOSER_FEW) {
		next_ns = next_wait(closer, grace_until_ns, patient, deadline);
		if (next_ns <= 0)
			break;
		await_change(closer, next_ns);
	}
	closer->is_awaited = false;
	return n_left(closer) > IPCI_CLOSER_FEW ? (int)next_ns : 0;
}

int
ipci_closer_await(struct ipci_closer *closer, bool patient, struct ipci_deadline *deadline)
{
	int state, r;

	if (!closer || closer->generation != ipci_sys_generation())
		return 0;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_mutex_lock(&closer->lock);
	r = await_fewer(closer, patient, deadline);
	pthread_mutex_unlock(&closer->lock);
	(void)pthread_setcancelstate(state, &state);
	return r;
}

void
ipci_closer_await_all(struct ipci_closer *closer)
{
	int64_t until_ns = ipci_sys_now_ns() + IPCI_CLOSER_ALL_NS;
	int state;

	if (!closer || closer->generation != ipci_sys_generation())
		return;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_mutex_lock(&closer->lock);
	closer->is_awaited = true;
	while (n_left(closer) && ipci_sys_now_ns() < until_ns)
		await_change(closer, until_ns);
	closer->is_awaited = false;
	pthread_mutex_unlock(&closer->lock);
	(void)pthread_setcancelstate(state, &state);
}

struct ipci_closer *
ipci_closer_free(struct ipci_closer *closer)
{
	bool has_thread;

	if (!closer || closer->generation != ipci_sys_generation())
		return NULL;
	pthread_mutex_lock(&closer->lock);
	closer->freed = true;
	has_thread = closer->has_thread;
	pthread_cond_signal(&closer->change);
	pthread_mutex_unlock(&closer->lock);
	if (!has_thread)
		release(closer);
	return NULL;
}
