/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_PRIVILEGES_H
#define LIBIPC_INTERNAL_PRIVILEGES_H

/*
 * Giving a child to a user, for good. By bare system calls: a child may share its parent's memory,
 * and those of the C library would have all threads follow.
 */

#include <stdbool.h>

#include <libipc/worker.h>

/* Is it another user's than this process, by its real, effective and saved ids? */
bool ipci_privileges_differ(const struct ipc_worker_user *user);

/*
 * Become the user. One that differs has no capability from then on, and no way back.
 * Return: 0, or -errno.
 */
int ipci_privileges_become(const struct ipc_worker_user *user, bool differs);

#endif
