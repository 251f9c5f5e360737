/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_TIMERS_H
#define LIBIPC_INTERNAL_TIMERS_H

/*
 * Timers of a loop, in the order in which they are due.
 *
 * Knows times. Refuses to know who waits.
 */

#include <libipc/loop.h>

#include "heap.h"

/* When a timer is due that is not to come. */
#define IPCI_TIMER_NEVER INT64_MAX

/* Make the callbacks of those that are due. */
void ipci_timers_call(struct ipc_loop *loop, int64_t now_ns);

/* The callback that was being made never comes back. */
void ipci_timers_left(struct ipc_loop *loop);

void ipci_timers_finish(struct ipc_loop *loop);

/*
 * A timer that lasts: not to come until it is set, once each time, and freed by ipc_timer_stop().
 * Setting it needs no memory.
 *
 * Return: 0, or -ENOMEM.
 */
int ipci_timer_create(struct ipc_timer **ret, struct ipc_loop *loop, ipc_timer_fn *fn, void *user);
void ipci_timer_set(struct ipc_timer *timer, int64_t due_ns);

#endif
