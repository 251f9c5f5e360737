/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_FANOUT_H
#define IPC_BENCH_FANOUT_H

/*
 * What the parts of the case fanout share: as many requests as are answered (case_fanout.c), and at
 * a rate (fanout_rate.c); to workers that are the run's receivers, or a pool's own (fanout_pool.c),
 * where the receivers have no part in it, and sleep.
 */

#include <libipc/pool.h>

#include "bench.h"

/* A worker of variants of libipc: receive all there is, send it back, and only then wait. */
void bench_fanout_work(struct bench_side *side);

/* The variant pool, and what its receivers do. */
void bench_fanout_pool(struct bench_side *side);
void bench_fanout_pool_rest(struct bench_side *side);

/* What a pool's worker has read, told at its end, and what the sender tells the receiver. */
struct bench_pool_total {
	uint64_t messages;
	uint64_t sum;
};

struct bench_pool {
	struct bench_side *side;
	struct ipc_loop *loop;
	struct ipc_pool *pool;
	struct bench_pool_total total; /* of the workers */
};

/* Holds pool until the end, which comes when no request is outstanding. */
void bench_pool_begin(struct bench_pool *pool, struct bench_side *side);
void bench_pool_end(struct bench_pool *pool);

#endif
