/* SPDX-License-Identifier: MIT */

#include <errno.h>

#include "privileges.h"
#include "sys.h"

bool
ipci_privileges_differ(const struct ipc_worker_user *user)
{
	uid_t uids[3];

	return ipci_sys_get_uids(uids) < 0 || uids[0] != user->uid || uids[1] != user->uid ||
	       uids[2] != user->uid;
}

/* The kernel has said that it was done. A sandbox that only says so, or a capability that was kept
   where nobody looked, would leave a worker that its parent takes for harmless. */
static int
check_no_way_back(const struct ipc_worker_user *user)
{
	gid_t gids[3];
	int r;

	if (ipci_privileges_differ(user))
		return -EPERM;
	r = ipci_sys_get_gids(gids);
	if (r < 0)
		return r;
	if (gids[0] != user->gid || gids[1] != user->gid || gids[2] != user->gid)
		return -EPERM;
	r = ipci_sys_has_capabilities();
	if (r)
		return r < 0 ? r : -EPERM;
	return user->uid && ipci_sys_set_ids(0, user->gid) == 0 ? -EPERM : 0;
}

/*
 * The kernel drops capabilities by itself only where one of the ids before was 0 and none is after,
 * and not then if the parent has asked it to keep them (PR_SET_KEEPCAPS, securebits). A parent that
 * has CAP_SETUID and is not root would hand on all of its own.
 */
static int
give_up(const struct ipc_worker_user *user)
{
	int r = ipci_sys_drop_capabilities();

	return r < 0 ? r : check_no_way_back(user);
}

int
ipci_privileges_become(const struct ipc_worker_user *user, bool differs)
{
	int r = ipci_sys_set_groups(user->groups, user->n_groups);

	if (r == 0)
		r = ipci_sys_set_ids(user->uid, user->gid);
	if (r == 0 && differs)
		r = give_up(user);
	/* Nor by a program that is set-user-ID or has capabilities of its file. */
	return r < 0 ? r : ipci_sys_set_no_new_privs();
}
