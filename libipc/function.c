/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <unistd.h>

#include "channel.h"
#include "function.h"

/* A child that the function forks has a copy, in which nothing is gathered. */
static struct ipc_channel *open_channel;

void
ipci_function_forget(void)
{
	__fpurge(stdin);
	__fpurge(stdout);
	__fpurge(stderr);
}

void
ipci_function_end(int status)
{
	struct ipc_channel *channel = open_channel;

	(void)fflush(stdout);
	(void)fflush(stderr);
	/* A handler that exits meanwhile finds no channel, and ends the process at once. */
	open_channel = NULL;
	if (channel) {
		(void)ipc_channel_flush(channel, -1);
		(void)ipc_channel_close(channel);
	}
	_exit(status);
}

#ifdef __GLIBC__
static void
on_exit_called(int status, void *arg)
{
	(void)arg;
	ipci_function_end(status);
}
#endif

/*
 * What exit(3) does comes in the reverse of the order in which it was asked for: the function's own
 * handlers before this one, which does not return. So the parent's handlers are not called, and the
 * C library does not write what the parent had in the buffers of its files, to numbers that are
 * other files' in this process.
 */
int
ipci_function_begin(struct ipc_channel *channel)
{
	open_channel = channel;
#ifdef __GLIBC__
	return on_exit(on_exit_called, NULL) ? -ENOMEM : 0;
#else
	return 0;
#endif
}
