/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_FAULTS_TRAFFIC_H
#define LIBIPC_TESTS_FAULTS_TRAFFIC_H

/*
 * A complete use of two channels in one process, and a model of what must arrive.
 *
 * Each call that fails must have a fault to blame that happened during that very call, must say
 * what the manual says, and works when it is made again after the fault has passed.
 */

#include "support.h"

enum making {
	MAKING_PAIR,
	MAKING_OPEN, /* one end opened, the other inherited */
};

struct use {
	const char *name;
	enum making making;
	struct ipc_channel_options options;
	bool every_call_works; /* the library must get over the fault by itself */
	size_t posted_max;     /* bytes of the largest message that is posted */
};

/* Make the channels, use them in every way, break and close them, with what is armed. */
void use_channels(const struct use *use);

#endif
