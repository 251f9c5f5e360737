/* SPDX-License-Identifier: MIT */

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "loop.h"
#include "sys.h"
#include "timers.h"

#define NS_PER_MS 1000000

struct ipc_timer {
	struct ipci_heap_node node; /* in ipc_loop.timers by when it is due; nowhere while it is
	                               called and will not be again */
	struct ipc_loop *loop;
	int64_t period_ns;
	bool lasts;   /* stays in the heap when it was called */
	bool stopped; /* within its callback */
	ipc_timer_fn *fn;
	void *user;
};

static struct ipc_timer *
timer_of(struct ipci_heap_node *node)
{
	return (struct ipc_timer *)(void *)((char *)node - offsetof(struct ipc_timer, node));
}

/* Those that go on keep their place in the heap, and so need no memory for it. */
static void
advance(struct ipci_heap *timers, struct ipc_timer *timer, int64_t now_ns)
{
	struct ipci_heap_node *node = &timer->node;

	if (timer->period_ns)
		node->key += ((now_ns - node->key) / timer->period_ns + 1) * timer->period_ns;
	else
		node->key = IPCI_TIMER_NEVER;
	ipci_heap_update(timers, node);
}

void
ipci_timers_call(struct ipc_loop *loop, int64_t now_ns)
{
	struct ipci_heap *timers = &loop->timers;
	struct ipc_timer *timer;

	while (!ipci_loop_is_over(loop) && ipci_heap_first_key(timers) <= now_ns) {
		timer = timer_of(timers->nodes[0]);
		if (timer->period_ns || timer->lasts)
			advance(timers, timer, now_ns);
		else
			ipci_heap_remove(timers, &timer->node);

		/* Those that last are the library's own. */
		loop->stats.events += !timer->lasts;
		loop->current_timer = timer;
		timer->fn(timer, timer->user);
		loop->current_timer = NULL;
		if (timer->stopped || timer->node.index == IPCI_HEAP_NOWHERE)
			free(timer);
	}
}

void
ipci_timers_left(struct ipc_loop *loop)
{
	struct ipc_timer *timer = loop->current_timer;

	loop->current_timer = NULL;
	if (timer && (timer->stopped || timer->node.index == IPCI_HEAP_NOWHERE))
		free(timer);
}

void
ipci_timers_finish(struct ipc_loop *loop)
{
	struct ipc_timer *timer;

	while (loop->timers.n) {
		timer = timer_of(loop->timers.nodes[0]);
		ipci_heap_remove(&loop->timers, &timer->node);
		/* The one that is being called is freed when that has returned. */
		if (timer == loop->current_timer)
			timer->stopped = true;
		else
			free(timer);
	}
	ipci_heap_finish(&loop->timers);
}

/* Start a timer, of which everything but its loop is set in what. */
static int
start(struct ipc_timer **ret, struct ipc_loop *loop, const struct ipc_timer *what)
{
	struct ipc_timer *timer = malloc(sizeof(*timer));
	int r;

	if (!timer)
		return -ENOMEM;
	*timer = *what;
	timer->loop = loop;
	r = ipci_heap_insert(&loop->timers, &timer->node);
	if (r < 0) {
		free(timer);
		return r;
	}
	ipci_loop_settle(loop);
	if (ret)
		*ret = timer;
	return 0;
}

int
ipci_timer_create(struct ipc_timer **ret, struct ipc_loop *loop, ipc_timer_fn *fn, void *user)
{
	const struct ipc_timer timer = {
		.node = {.key = IPCI_TIMER_NEVER},
		.lasts = true,
		.fn = fn,
		.user = user,
	};

	return start(ret, loop, &timer);
}

void
ipci_timer_set(struct ipc_timer *timer, int64_t due_ns)
{
	timer->node.key = due_ns;
	ipci_heap_update(&timer->loop->timers, &timer->node);
	ipci_loop_settle(timer->loop);
}

int
ipc_timer_start(struct ipc_timer **ret, struct ipc_loop *loop, int delay_ms, int period_ms,
	ipc_timer_fn *fn, void *user)
{
	struct ipc_timer timer;

	assert(loop);
	assert(fn);
	if (delay_ms < 0 || period_ms < 0)
		return -EINVAL;
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	timer = (struct ipc_timer){
		.node = {.key = ipci_sys_now_ns() + (int64_t)delay_ms * NS_PER_MS},
		.period_ns = (int64_t)period_ms * NS_PER_MS,
		.fn = fn,
		.user = user,
	};
	return start(ret, loop, &timer);
}

struct ipc_timer *
ipc_timer_stop(struct ipc_timer *timer)
{
	struct ipc_loop *loop;

	if (!timer)
		return NULL;
	loop = timer->loop;
	if (timer->node.index != IPCI_HEAP_NOWHERE) {
		ipci_heap_remove(&loop->timers, &timer->node);
		ipci_loop_settle(loop);
	}
	if (timer == loop->current_timer)
		timer->stopped = true;
	else
		free(timer);
	return NULL;
}
