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

/* Return: whether the engine is to be told now; it may have been changed. One of a send that has
   IOSQE_CQE_SKIP_SUCCESS must be. */
bool ipci_seam_complete(struct io_uring_cqe *cqe);

/* Completions that the engine was not told of: there are some; it is told of one now. */
bool ipci_seam_keeps(void);
bool ipci_seam_late(struct io_uring_cqe *ret_cqe);

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

static inline bool
ipci_seam_keeps(void)
{
	return false;
}

static inline bool
ipci_seam_late(struct io_uring_cqe *ret_cqe)
{
	(void)ret_cqe;
	return false;
}

#endif

#endif
