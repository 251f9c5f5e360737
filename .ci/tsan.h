/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_CI_TSAN_H
#define LIBIPC_CI_TSAN_H

/*
 * Included before every source in the build under ThreadSanitizer.
 *
 * The sanitizers of gcc 12 and clang 14 do not know pthread_mutex_clocklock(): a mutex taken by
 * it is not locked in their eyes, and what it guards races. pthread_mutex_timedlock() they know.
 * Nor do they know mremap(): who gets the place that it left races with who had it before.
 */

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static inline int
tsan_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until)
{
	struct timespec now, at;

	clock_gettime(clock, &now);
	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += until->tv_sec - now.tv_sec;
	at.tv_nsec += until->tv_nsec - now.tv_nsec;
	if (at.tv_nsec < 0) {
		at.tv_sec--;
		at.tv_nsec += 1000000000;
	} else if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return pthread_mutex_timedlock(mutex, &at);
}

/* Of memory that grows: private and anonymous, and it may move. */
static inline void *
tsan_mremap(void *memory, size_t old_size, size_t new_size, int flags)
{
	void *moved =
		mmap(NULL, new_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)flags;
	if (moved == MAP_FAILED)
		return moved;
	memcpy(moved, memory, old_size);
	(void)munmap(memory, old_size);
	return moved;
}

#define pthread_mutex_clocklock tsan_mutex_clocklock
#define mremap                  tsan_mremap

#endif
