/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_PROBE_H
#define IPC_BENCH_PROBE_H

/*
 * How far apart are two CPUs right now?
 *
 * A virtual machine's CPUs are moved about by its host: for a while they share a cache,
 * then they do not, and everything that shares memory takes two to eight times as long.
 * Figures compare only within one such state, so each run stands between two
 * probes: a cache line passed to and fro for a millisecond.
 */

#include <stdint.h>

enum bench_distance {
	BENCH_NEAR, /* a cache in common */
	BENCH_FAR,
	BENCH_ONE_CPU, /* both sides share a CPU: there is no distance */
	BENCH_MIXED,   /* it changed during every repetition: one is shown as it is */
	BENCH_DISTANCES,
};

extern const char *const bench_distance_names[BENCH_DISTANCES];

/* A round trip from here on is far. CPUs with a common cache take 60 to 200 ns, those
   without from 350 ns on. */
#define BENCH_PROBE_FAR_NS 260U

/* The line passed to and fro; zero before the first use. */
struct bench_probe_line {
	_Alignas(128) uint32_t turn;
	_Alignas(128) uint32_t unused; /* nothing else shares the line */
};

/* Both processes call it, one as the asker. Return, to the asker: the time of a round trip. */
uint64_t bench_probe_ask_ns(struct bench_probe_line *line);
void bench_probe_answer(struct bench_probe_line *line);

enum bench_distance bench_probe_distance(uint64_t round_trip_ns);

#endif
