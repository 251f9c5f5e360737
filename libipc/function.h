/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_FUNCTION_H
#define LIBIPC_INTERNAL_FUNCTION_H

/*
 * A function worker in its process, a copy of the parent's: what of that copy must not be used, and
 * how the process ends.
 */

#include <libipc/worker.h>

/* What the parent has in its buffers is the parent's to write, or to read. */
void ipci_function_forget(void);

/* From now on exit(3) ends the process as ipci_function_end() does. Return: 0, or -ENOMEM. */
int ipci_function_begin(struct ipc_channel *channel);

/* Send what is gathered and printed, and end the process. */
_Noreturn void ipci_function_end(int status);

#endif
