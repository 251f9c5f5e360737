/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_RUNNER_H
#define IPC_BENCH_RUNNER_H

/*
 * One run: fresh processes on their CPUs, a gate so that all begin together, a probe before and
 * after, and nothing left behind, whatever happens. Knows processes and signals; refuses to
 * know what a case does with its connections.
 */

#include "bench.h"
#include "../libipc/histogram.h"
#include "probe.h"

#define BENCH_ERROR_SIZE 256U

/* A run's processes: the sender, and then the receivers. */
#define BENCH_PROCESSES_LIMIT (1U + BENCH_WORKERS_LIMIT)

/* What a run gave, in memory that its processes share. */
struct bench_run {
	struct bench_window window;
	/* Of each process; of both roles once the run is over: several receivers are added up. */
	struct bench_account accounts[BENCH_PROCESSES_LIMIT];
	struct ipci_histogram histogram;
	uint64_t idle_cpu_us;
	uint64_t probes_ns[2]; /* before and after */
	enum bench_distance distances[2];
	int moved;                    /* a side was found on another CPU than its own */
	char error[BENCH_ERROR_SIZE]; /* of whichever side failed first */
	int failed;
};

/* Hold SIGINT, SIGTERM and SIGHUP back from here on: they are asked for while a run lasts. */
void bench_runner_begin(void);
/* Let them through again. Return: one that came meanwhile, or 0. */
int bench_runner_end(void);

struct bench_run *bench_run_new(void);
struct bench_run *bench_run_free(struct bench_run *run);

/*
 * Return: 0; the number of a signal that ended it; or -EIO with run->error.
 */
int bench_run_once(struct bench_run *run, const struct bench_config *config);

#endif
