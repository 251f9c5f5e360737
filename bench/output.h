/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_OUTPUT_H
#define IPC_BENCH_OUTPUT_H

/*
 * A file for results: opened before anything is measured, so that a path that cannot be
 * written is told at once, and written only when there is something to write. What stood
 * there stays until then.
 */

#include <stdbool.h>
#include <stdio.h>

struct bench_output {
	const char *path; /* borrowed; NULL: no file */
	FILE *file;
	bool is_new; /* did not exist before */
};

/* Return: 0 or -errno. A NULL path opens nothing. */
int bench_output_open(struct bench_output *output, const char *path);

/* Empty the file, for output->file to be written. Return: 0 or -errno. */
int bench_output_begin(struct bench_output *output);

/* Return: 0 when all of it is with the kernel, or -errno. The file is closed. */
int bench_output_end(struct bench_output *output);

/* Leave things as they were before bench_output_open(). */
void bench_output_abandon(struct bench_output *output);

#endif
