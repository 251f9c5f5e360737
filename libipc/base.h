/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_BASE_H
#define LIBIPC_INTERNAL_BASE_H

/* Small macros and functions. Knows nothing of libipc. */

#include <stddef.h>
#include <string.h>

#define IPCI_CACHE_LINE 64

#define ipci_likely(condition)   __builtin_expect(!!(condition), 1)
#define ipci_unlikely(condition) __builtin_expect(!!(condition), 0)

/* Out of the way of the path that its caller makes fast. */
#define IPCI_SLOW __attribute__((noinline))

#define IPCI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define IPCI_MAX(a, b) ((a) > (b) ? (a) : (b))

/*
 * A counter that its one writer bumps while others may read it: a plain load,
 * add and store on every machine, and no data race.
 */
#define ipci_count_add(counter, n) \
	__atomic_store_n(          \
		(counter), __atomic_load_n((counter), __ATOMIC_RELAXED) + (n), __ATOMIC_RELAXED)
#define ipci_count_read(counter) __atomic_load_n((counter), __ATOMIC_RELAXED)

/*
 * memcpy() for the sizes that small messages have, without the call and its choice among
 * ways for every size: a fifth of the time of a post. size may be 0, from may then be NULL.
 */
static inline void
ipci_copy(void *to, const void *from, size_t size)
{
	unsigned char *t = to;
	const unsigned char *f = from;

	if (size >= 16 && size <= 64) {
		memcpy(t, f, 16);
		memcpy(t + size - 16, f + size - 16, 16);
		if (size > 32) {
			memcpy(t + 16, f + 16, 16);
			memcpy(t + size - 32, f + size - 32, 16);
		}
	} else if (size) {
		memcpy(t, f, size);
	}
}

#endif
