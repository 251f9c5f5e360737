/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_OPTIONS_H
#define IPC_BENCH_OPTIONS_H

/*
 * The command line: what may be said, what it means when nothing is said, and one
 * clear line for what cannot be.
 */

#include "bench.h"

#define BENCH_EXIT_USAGE 2

#define BENCH_CASES_LIMIT 16U
#define BENCH_LIST_LIMIT  16U /* of --workers and --depth */

struct bench_options {
	bool quick, list;
	const char *json, *csv;
	bool has_engine;
	enum bench_variant engine; /* BENCH_EPOLL or BENCH_URING alone */
	size_t sizes[BENCH_SIZES_LIMIT];
	unsigned int n_sizes; /* 0: each case's own */
	unsigned int workers[BENCH_LIST_LIMIT], depths[BENCH_LIST_LIMIT];
	unsigned int n_workers, n_depths; /* both or neither; 0: the case's own */
	unsigned int burst;               /* 0: none */
	unsigned int rate;                /* 0: none */
	unsigned int repeat;
	unsigned int cpus[BENCH_ROLES];
	bool has_wait;
	enum bench_wait wait;
	size_t record_max, send_buffer;
	unsigned int time_ms;
	const struct bench_case *cases[BENCH_CASES_LIMIT];
	unsigned int n_cases;
};

/* Exits with BENCH_EXIT_USAGE and a line on stderr on what it does not understand. */
void bench_options_parse(int argc, char *argv[], struct bench_options *ret_options);

/* "64", "64K", "1M": how a size is written, here and in the tables. */
#define BENCH_SIZE_TEXT 24U
const char *bench_size_text(size_t size, char text[BENCH_SIZE_TEXT]);

#endif
