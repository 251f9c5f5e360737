/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_ROUDI_H
#define IPC_BENCH_ROUDI_H

/*
 * The daemon that iceoryx cannot do without, iox-roudi: one for each run, with memory for the
 * run's messages, which it takes seconds to clear if it is much. There is one on a machine: where
 * one runs already there can be no other, and iceoryx is left out.
 */

#include "peer.h"

/* What the two sides call themselves before it. */
extern const char *const bench_roudi_names[BENCH_ROLES];

unsigned int bench_roudi_queue(const struct bench_config *config);

/* Return once it is ready: 0, or -errno. */
int bench_roudi_start(struct bench_meeting *meeting, const struct bench_config *config);
void bench_roudi_stop(struct bench_meeting *meeting);

#endif
