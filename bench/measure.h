/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_MEASURE_H
#define IPC_BENCH_MEASURE_H

/*
 * From runs to figures: each repetition of a block runs every variant once; those
 * whose probes do not agree are dropped and repeated; the rest are grouped by
 * distance, and each group gives one result for each variant. Knows no processes and
 * no output.
 */

#include "bench.h"
#include "probe.h"

#define BENCH_REPEAT_LIMIT 1000U

struct bench_block {
	const struct bench_case *bench;
	size_t size;
	enum bench_wait wait;
	struct bench_layout layout;
};

/* A figure that there are too few samples for, or that does not apply, is NAN. */
struct bench_spread {
	double median, min, q1, q3, max;
};

#define BENCH_REASON_SIZE 160U

/* A time that one in 1, 2, 5, 10, 20 ... requests takes longer than. */
#define BENCH_TAIL 22U

struct bench_tail {
	uint64_t one_in;
	double ns; /* NAN: too few samples */
};

struct bench_result {
	const struct bench_case *bench;
	enum bench_variant variant;
	size_t size;
	struct bench_layout layout;
	unsigned int burst;        /* 0: none */
	unsigned int rate;         /* of a rated case: requests a second asked for, */
	double achieved;           /* got, */
	unsigned int missed;       /* and repetitions that got less than 99 % */
	enum bench_wait wait;      /* of the block */
	enum bench_wait waited_as; /* of this variant */
	enum bench_distance distance;
	unsigned int repetitions;
	struct bench_spread figure;    /* over repetitions: p50 in ns, or messages a second */
	double ratios[BENCH_VARIANTS]; /* to other variants: medians of those of each repetition */
	double p50_ns, p90_ns, p99_ns, p999_ns, max_ns; /* of all samples together */
	struct bench_tail tail[BENCH_TAIL];             /* likewise */
	uint64_t count;                                 /* round trips or messages measured */
	double syscalls_per_message[BENCH_ROLES];
	double cpu_ns_per_message[BENCH_ROLES];
	double idle_cpu_us_per_s;
	double probe_ns;
	size_t packet_size;             /* of raw-batch and bulk's raw: payload bytes; else 0 */
	char reason[BENCH_REASON_SIZE]; /* why a peer has no figures; else "" */
};

struct bench_results {
	struct bench_result *results;
	unsigned int n;
	unsigned int repetitions; /* that count */
	unsigned int dropped;     /* repetitions whose probes did not agree */
	unsigned int moved;       /* of those: a side was found on the wrong CPU */
	unsigned int given_up;    /* blocks with fewer repetitions than asked for */
};

/* What all blocks have in common. */
struct bench_plan {
	struct bench_config common;    /* record size, socket buffer, times, CPUs */
	bool left_out[BENCH_VARIANTS]; /* variants that are not run */
	unsigned int repeat;
	/* Told before each run, for a progress line; done and total count runs. */
	void (*progress)(const struct bench_config *config, unsigned int done, unsigned int total);
};

/*
 * Measure one block, which is number done of n_blocks, and append its results.
 *
 * Return: 0; the number of a signal that ended it; or -errno with text in ret_error, of
 * BENCH_ERROR_SIZE bytes.
 */
int bench_measure_block(struct bench_results *results, const struct bench_plan *plan,
	const struct bench_block *block, char *ret_error);

/* Runs of a block when no repetition is dropped. */
unsigned int bench_block_runs(const struct bench_plan *plan, const struct bench_block *block);

#endif
