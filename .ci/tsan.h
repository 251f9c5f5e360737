/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_CI_TSAN_H
#define LIBIPC_CI_TSAN_H

/*
 * Included before every source in the build under ThreadSanitizer.
 *
 * The sanitizers of gcc 12 and clang 14 do not know mremap(), nor close_range(): in their eyes who
 * gets the place, or the descriptor's number, races with who had it before.
 */

#include <liburing.h>
#include <sanitizer/tsan_interface.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* A call that no kernel has: descriptors are closed one by one. */
#undef SYS_close_range
#define SYS_close_range 100000

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

#define mremap tsan_mremap

/*
 * liburing maps and unmaps the memory of a ring by system calls of its own: whose ring comes to lie
 * where another thread's was would race with that one. The kernel gives a place to nobody before it
 * is free: an exit comes before each beginning that follows it.
 */
static inline int
tsan_queue_init_params(unsigned int entries, struct io_uring *ring, struct io_uring_params *params)
{
	int r = io_uring_queue_init_params(entries, ring, params);

	__tsan_acquire((void *)(uintptr_t)&io_uring_queue_exit);
	return r;
}

static inline void
tsan_queue_exit(struct io_uring *ring)
{
	__tsan_release((void *)(uintptr_t)&io_uring_queue_exit);
	io_uring_queue_exit(ring);
}

#define io_uring_queue_init_params tsan_queue_init_params
#define io_uring_queue_exit        tsan_queue_exit

#endif
