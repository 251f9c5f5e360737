/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_HOST_H
#define IPC_BENCH_HOST_H

/*
 * The machine that figures come from, and what else it did meanwhile. Knows /proc and /sys.
 */

#include <stdbool.h>

#define BENCH_HOST_TEXT 128U

struct bench_host {
	char cpu[BENCH_HOST_TEXT];
	char kernel[2 * BENCH_HOST_TEXT];
	char machine[BENCH_HOST_TEXT];
	char governor[BENCH_HOST_TEXT]; /* of the sender's CPU; "" where there is none */
	bool is_virtual;
	unsigned int n_cpus; /* online */
	double load_1min;    /* when it began */
	long wmem_default, wmem_max;
	/* From begin to end, in percent of all CPUs: */
	double steal_percent;  /* the host of a virtual machine took it */
	double others_percent; /* other processes of this machine took it */
};

void bench_host_begin(struct bench_host *host, unsigned int cpu);
void bench_host_end(struct bench_host *host);

#endif
