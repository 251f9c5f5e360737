/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_SEAM_URING_H
#define LIBIPC_INTERNAL_SEAM_URING_H

/*
 * Where a test build alters what the io_uring engine asks of the kernel, and what it is told.
 * Elsewhere there is nothing here.
 */

#include <liburing.h>
#include <stdbool.h>

#ifdef LIBIPC_TEST_SEAM

/* A receive, hang-up watch or send, complete but for what the test changes. */
void ipci_seam_submit(struct io_uring_sqe *sqe);

/* Return: whether the engine is to be told; it may have been changed. */
bool ipci_seam_complete(struct io_uring_cqe *cqe);

#else

static inline void
ipci_seam_submit(struct io_uring_sqe *sqe)
{
	(void)sqe;
}

static inline bool
ipci_seam_complete(struct io_uring_cqe *cqe)
{
	(void)cqe;
	return true;
}

#endif

#endif
