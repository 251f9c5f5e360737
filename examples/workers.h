/* SPDX-License-Identifier: MIT */
#ifndef WORKERS_H
#define WORKERS_H

/*
 * A few forked workers with a channel each, for the examples of loops.
 *
 * They are started before the loop is made: so they have nothing of it.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc.h>

struct worker {
	struct ipc_channel *channel; /* the parent's end */
	pid_t pid;
};

/* Serve until the parent closes its end. Return: the worker's exit status. */
typedef int serve_fn(struct ipc_channel *channel);

/* Let the workers end, and wait for them. Return: whether all of them served to the end. */
static inline bool
end_workers(struct worker *workers, unsigned int n)
{
	bool good = true;
	unsigned int i;
	int status;

	for (i = 0; i < n; i++)
		workers[i].channel = ipc_channel_close(workers[i].channel);
	for (i = 0; i < n; i++)
		if (waitpid(workers[i].pid, &status, 0) < 0 || status != 0)
			good = false;
	return good;
}

/* Return: 0, or -errno; then no worker is left. */
static inline int
start_workers(struct worker *workers, unsigned int n, const struct ipc_channel_options *options,
	serve_fn *serve)
{
	struct ipc_channel *its;
	unsigned int i, k;
	int r;

	for (i = 0; i < n; i++) {
		r = ipc_channel_pair(&workers[i].channel, &its, options);
		if (r < 0)
			break;
		/* What is buffered would be written by both. */
		fflush(NULL);
		workers[i].pid = fork();
		if (workers[i].pid == 0) {
			/* Also the parent's ends of the workers before it: it would keep them open.
			 */
			for (k = 0; k <= i; k++)
				ipc_channel_close(workers[k].channel);
			_exit(serve(its));
		}
		r = -errno;
		ipc_channel_close(its);
		if (workers[i].pid < 0) {
			workers[i].channel = ipc_channel_close(workers[i].channel);
			break;
		}
	}
	if (i == n)
		return 0;
	end_workers(workers, i);
	return r;
}

#endif
