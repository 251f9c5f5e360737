/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_WORKER_H
#define LIBIPC_INTERNAL_WORKER_H

/*
 * A worker's end without waiting for it, for who has many: he kills all, then waits for all, with
 * one deadline.
 */

#include <libipc/worker.h>

/* Reap it, without waiting. Return: 0: it is dead and reaped; -EAGAIN: it lives, or a tracer has it
   still; -ECHILD: it is another process's. */
int ipci_worker_reap(struct ipc_worker *worker);

/* As ipc_worker_free(), but never waits: one that has not ended by then stays the process's child,
   killed and not reaped. Return: NULL. */
struct ipc_worker *ipci_worker_free_now(struct ipc_worker *worker);

#endif
