/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "bench.h"
#include "probe.h"

#define BATCHES     9U
#define ROUND_TRIPS 256U /* of a batch: 30 us near, 130 far */
#define TURNS       (2U * BATCHES * ROUND_TRIPS)

const char *const bench_distance_names[BENCH_DISTANCES] = {"near", "far", "one", "mixed"};

static void
wait_for_turn(const uint32_t *turn, uint32_t value)
{
	while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) != value)
		__asm__ __volatile__("" ::: "memory");
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

uint64_t
bench_probe_ask_ns(struct bench_probe_line *line)
{
	uint64_t batches[BATCHES];
	uint32_t turn = __atomic_load_n(&line->turn, __ATOMIC_ACQUIRE);

	for (unsigned int batch = 0; batch < BATCHES; batch++) {
		uint64_t start = bench_now_ns();

		for (unsigned int i = 0; i < ROUND_TRIPS; i++) {
			__atomic_store_n(&line->turn, ++turn, __ATOMIC_RELEASE);
			wait_for_turn(&line->turn, ++turn);
		}
		batches[batch] = (bench_now_ns() - start) / ROUND_TRIPS;
	}

	/* The median: one batch that was interrupted does not count. */
	qsort(batches, BATCHES, sizeof(batches[0]), compare);
	return batches[BATCHES / 2];
}

void
bench_probe_answer(struct bench_probe_line *line)
{
	/* A probe begins and ends where the turn is a multiple of TURNS, so the asker
	   may have begun already. */
	uint32_t turn = __atomic_load_n(&line->turn, __ATOMIC_ACQUIRE) / TURNS * TURNS;

	for (unsigned int i = 0; i < BATCHES * ROUND_TRIPS; i++) {
		wait_for_turn(&line->turn, ++turn);
		__atomic_store_n(&line->turn, ++turn, __ATOMIC_RELEASE);
	}
}

enum bench_distance
bench_probe_distance(uint64_t round_trip_ns)
{
	return round_trip_ns < BENCH_PROBE_FAR_NS ? BENCH_NEAR : BENCH_FAR;
}
