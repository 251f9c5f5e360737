/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_FANOUT_POOL_H
#define IPC_BENCH_FANOUT_POOL_H

/*
 * The variant pool of fanout: the same requests by a pool, whose workers are its own. The run's
 * receivers have no part in it, and sleep.
 */

#include "bench.h"

void bench_fanout_pool(struct bench_side *side);
void bench_fanout_pool_rest(struct bench_side *side);

#endif
