/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_TIMERS_H
#define LIBIPC_INTERNAL_TIMERS_H

/*
 * Timers in the order in which they are due: a binary heap.
 *
 * Knows times. Refuses to know who waits.
 */

#include <stddef.h>
#include <stdint.h>

struct ipc_loop;
struct ipc_timer;

/* Zero is valid and empty. */
struct ipci_timers {
	struct ipc_timer **heap;
	size_t n;
	size_t capacity;
};

/* When the first is due, or INT64_MAX. */
int64_t ipci_timers_next_ns(const struct ipci_timers *timers);

/* Make the callbacks of those that are due. */
void ipci_timers_call(struct ipc_loop *loop, int64_t now_ns);

void ipci_timers_finish(struct ipci_timers *timers);

#endif
