/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_SIDE_H
#define IPC_BENCH_SIDE_H

/*
 * One of the processes of a run, from its CPU to its exit: gate, probe, the case's
 * function, probe. What a case may use of it is in bench.h.
 */

#include <semaphore.h>

#include "bench.h"
#include "probe.h"
#include "runner.h"

/* Where processes wait for each other. */
enum bench_moment {
	BENCH_READY,    /* all are on their CPUs */
	BENCH_PROBED,   /* sender and first receiver have met */
	BENCH_FINISHED, /* all have done their work */
	BENCH_MOMENTS,
};

struct bench_gate {
	_Alignas(128) uint32_t arrived[BENCH_MOMENTS];
	_Alignas(128) struct bench_probe_line probe;
	sem_t probed; /* the last probe is over: further receivers slept and may go */
	pid_t pids[BENCH_PROCESSES_LIMIT];
};

/* The ends of one role's processes: of each connection one, a socket or a channel. */
struct bench_ends {
	int fds[BENCH_WORKERS_LIMIT]; /* -1 where there is none */
	struct ipc_channel *channels[BENCH_WORKERS_LIMIT];
};

/* Run one process, 0 the sender; exits 0, or with 1 and run->error. */
__attribute__((noreturn)) void bench_side_main(struct bench_run *run, struct bench_gate *gate,
	const struct bench_config *config, unsigned int process, struct bench_ends *ends);

#endif
