/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_SIDE_H
#define IPC_BENCH_SIDE_H

/*
 * One of the two processes of a run, from its CPU to its exit: gate, probe, the
 * case's function, probe. What a case may use of it is in bench.h.
 */

#include "bench.h"
#include "probe.h"
#include "runner.h"

/* Both sides pass it together, as often as they like. */
struct bench_gate {
	_Alignas(128) uint32_t arrived;
	_Alignas(128) struct bench_probe_line probe;
	pid_t pids[BENCH_ROLES];
};

/* Run the side; exits 0, or with 1 and run->error. */
__attribute__((noreturn)) void bench_side_main(struct bench_run *run, struct bench_gate *gate,
	const struct bench_config *config, enum bench_role role, int fd,
	struct ipc_channel *channel);

#endif
