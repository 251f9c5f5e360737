/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_SPAWN_H
#define LIBIPC_INTERNAL_SPAWN_H

/*
 * Starting a process: from a plan, made before, of what it begins with, by a child that does
 * nothing but carry it out.
 *
 * Knows processes and their surroundings. Refuses to know what becomes of a worker.
 */

#include <stdbool.h>
#include <sys/types.h>

#include <libipc/worker.h>

struct ipci_spawned {
	pid_t pid;
	int pidfd;
	int report;    /* how the setting up went, of a child with a copy of our memory */
	bool executes; /* such a child: a program */
};

/* Are they in their ranges? Return: 0, or -EINVAL. */
int ipci_spawn_check(const struct ipc_worker_options *options);

/* Is it a program that may be started by a child which shares our memory? */
bool ipci_spawn_shares(const struct ipc_worker_options *options);

/*
 * Start such a program with end, its end of the channel. Borrows end.
 * Return: 0: it was executed; or -errno: there is no process.
 */
int ipci_spawn_program(
	const struct ipc_worker_options *options, int end, struct ipci_spawned *ret_spawned);

/*
 * Start a child with a copy of our memory, for a program or the function. It waits until something
 * comes in at its end of the channel, the parent's hello: not before the parent has its pidfd can
 * it end. Takes ends[1], the child's, even on failure.
 * Return: 0, or -errno: there is no process.
 */
int ipci_spawn_copied(
	const struct ipc_worker_options *options, int ends[2], struct ipci_spawned *ret_spawned);

/* After the hello: wait until the program was executed, or the function is about to be called.
   Return: 0, or why it is not; -ETIMEDOUT: it takes too long. */
int ipci_spawn_confirm(struct ipci_spawned *spawned);

/* Kill and reap, and close what belongs to it. */
void ipci_spawn_undo(struct ipci_spawned *spawned);

#endif
