/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_ENGINES_H
#define IPC_BENCH_ENGINES_H

/*
 * Which engines loops have on this machine, and why not the others. Asks the library alone.
 */

#include "bench.h"

#define BENCH_ENGINES       2U
#define BENCH_ENGINE_REASON 192U

struct bench_engine {
	enum bench_variant variant; /* BENCH_EPOLL, BENCH_URING */
	bool is_there;
	char reason[BENCH_ENGINE_REASON]; /* why it is not; else "" */
};

void bench_engines_find(struct bench_engine ret_engines[BENCH_ENGINES]);

/* What the library calls the engine of a variant. */
enum ipc_engine bench_engine_of(enum bench_variant variant);

#endif
