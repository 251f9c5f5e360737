/* SPDX-License-Identifier: MIT */

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "loop.h"
#include "sys.h"
#include "timers.h"

#define NS_PER_MS 1000000

#define CAPACITY_MIN 16

struct ipc_timer {
	struct ipc_loop *loop;
	int64_t due_ns;
	int64_t period_ns;
	size_t index; /* in the heap; NOWHERE while it is called and will not be again */
	bool stopped; /* within its callback */
	ipc_timer_fn *fn;
	void *user;
};

#define NOWHERE SIZE_MAX

static void
place(struct ipci_timers *timers, struct ipc_timer *timer, size_t index)
{
	timers->heap[index] = timer;
	timer->index = index;
}

/* Let the timer find its place from index towards the top, then towards the bottom. */
static void
sift(struct ipci_timers *timers, struct ipc_timer *timer, size_t index)
{
	size_t parent, child;

	for (; index; index = parent) {
		parent = (index - 1) / 2;
		if (timers->heap[parent]->due_ns <= timer->due_ns)
			break;
		place(timers, timers->heap[parent], index);
	}
	for (;; index = child) {
		child = 2 * index + 1;
		if (child >= timers->n)
			break;
		if (child + 1 < timers->n &&
			timers->heap[child + 1]->due_ns < timers->heap[child]->due_ns)
			child++;
		if (timers->heap[child]->due_ns >= timer->due_ns)
			break;
		place(timers, timers->heap[child], index);
	}
	place(timers, timer, index);
}

static int
insert(struct ipci_timers *timers, struct ipc_timer *timer)
{
	size_t capacity = timers->capacity ? 2 * timers->capacity : CAPACITY_MIN;
	struct ipc_timer **heap;

	if (timers->n == timers->capacity) {
		heap = realloc(timers->heap, capacity * sizeof(struct ipc_timer *));
		if (!heap)
			return -ENOMEM;
		timers->heap = heap;
		timers->capacity = capacity;
	}
	sift(timers, timer, timers->n++);
	return 0;
}

static void
take_out(struct ipci_timers *timers, struct ipc_timer *timer)
{
	struct ipc_timer *last = timers->heap[--timers->n];

	if (last != timer)
		sift(timers, last, timer->index);
	timer->index = NOWHERE;
}

int64_t
ipci_timers_next_ns(const struct ipci_timers *timers)
{
	return timers->n ? timers->heap[0]->due_ns : INT64_MAX;
}

/* A periodic timer keeps its place in the heap, and so needs no memory to go on. */
static void
advance(struct ipci_timers *timers, struct ipc_timer *timer, int64_t now_ns)
{
	int64_t missed = (now_ns - timer->due_ns) / timer->period_ns;

	timer->due_ns += (missed + 1) * timer->period_ns;
	sift(timers, timer, timer->index);
}

void
ipci_timers_call(struct ipc_loop *loop, int64_t now_ns)
{
	struct ipci_timers *timers = &loop->timers;
	struct ipc_timer *timer;

	while (!ipci_loop_is_over(loop) && timers->n && timers->heap[0]->due_ns <= now_ns) {
		timer = timers->heap[0];
		if (timer->period_ns)
			advance(timers, timer, now_ns);
		else
			take_out(timers, timer);

		loop->stats.events++;
		loop->current_timer = timer;
		timer->fn(timer, timer->user);
		loop->current_timer = NULL;
		if (timer->stopped || timer->index == NOWHERE)
			free(timer);
	}
}

void
ipci_timers_finish(struct ipci_timers *timers)
{
	struct ipc_timer *timer;

	while (timers->n) {
		timer = timers->heap[--timers->n];
		/* The one that is being called is freed when that has returned. */
		if (timer == timer->loop->current_timer)
			timer->stopped = true;
		else
			free(timer);
	}
	free(timers->heap);
	*timers = (struct ipci_timers){0};
}

int
ipc_timer_start(struct ipc_timer **ret, struct ipc_loop *loop, int delay_ms, int period_ms,
	ipc_timer_fn *fn, void *user)
{
	struct ipc_timer *timer;
	int r;

	assert(loop);
	assert(fn);
	if (delay_ms < 0 || period_ms < 0)
		return -EINVAL;
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	timer = malloc(sizeof(*timer));
	if (!timer)
		return -ENOMEM;
	*timer = (struct ipc_timer){
		.loop = loop,
		.due_ns = ipci_sys_now_ns() + (int64_t)delay_ms * NS_PER_MS,
		.period_ns = (int64_t)period_ms * NS_PER_MS,
		.fn = fn,
		.user = user,
	};
	r = insert(&loop->timers, timer);
	if (r < 0) {
		free(timer);
		return r;
	}
	ipci_loop_set_alarm(loop);
	if (ret)
		*ret = timer;
	return 0;
}

struct ipc_timer *
ipc_timer_stop(struct ipc_timer *timer)
{
	struct ipc_loop *loop;

	if (!timer)
		return NULL;
	loop = timer->loop;
	if (timer->index != NOWHERE) {
		take_out(&loop->timers, timer);
		ipci_loop_set_alarm(loop);
	}
	if (timer == loop->current_timer)
		timer->stopped = true;
	else
		free(timer);
	return NULL;
}
