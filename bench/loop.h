/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_LOOP_H
#define IPC_BENCH_LOOP_H

/*
 * A side's channels in a loop, for the variants epoll and uring. Fails the side on any error.
 */

#include "bench.h"

/* A loop on the variant's engine, which waits as the run is told. */
struct ipc_loop *bench_loop_new(struct bench_side *side);

void bench_loop_attach(struct bench_side *side, struct ipc_loop *loop, struct ipc_channel *channel,
	const struct ipc_channel_handler *handler, void *user);

/* Turns, until a callback stops the loop. */
void bench_loop_run(struct bench_side *side, struct ipc_loop *loop);

/* Turn until the channel has nothing left to send. */
void bench_loop_flush(struct bench_side *side, struct ipc_loop *loop, struct ipc_channel *channel);

/* Add the loop's and the channels' counters to the account, free the one and close the others. */
void bench_loop_finish(struct bench_side *side, struct ipc_loop *loop);

/* Handlers' closed(), where user is the side: the peer may not leave yet. */
void bench_loop_closed(struct ipc_channel *channel, int reason, void *user);

#endif
