/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_WHOLE_H
#define IPC_BENCH_WHOLE_H

/*
 * The same work as a whole program, several times: start WORKERS processes, have them add up the
 * bytes of REQUESTS requests, end. What each prints is the sum of all answers.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE_SIZE          64U /* bytes of a request */
#define WHOLE_DEPTH         16U /* requests outstanding at one worker */
#define WHOLE_WORKERS_LIMIT 64U

struct whole {
	bool has_flag;
	unsigned int workers;
	uint64_t requests;
};

/* Each program has one flag. */
static inline struct whole
whole_parse(int argc, char *argv[], const char *flag)
{
	struct whole whole = {.has_flag = argc > 1 && strcmp(argv[1], flag) == 0};
	char **numbers = argv + 1 + whole.has_flag;

	if (argc - whole.has_flag == 3) {
		whole.workers = (unsigned int)strtoul(numbers[0], NULL, 10);
		whole.requests = strtoull(numbers[1], NULL, 10);
	}
	if (whole.workers < 1 || whole.workers > WHOLE_WORKERS_LIMIT || whole.requests < 1) {
		fprintf(stderr, "usage: %s [%s] WORKERS REQUESTS\n", argv[0], flag);
		exit(2);
	}
	return whole;
}

static inline void
whole_request(uint8_t request[WHOLE_SIZE], uint64_t number)
{
	for (unsigned int i = 0; i < WHOLE_SIZE; i++)
		request[i] = (uint8_t)(number + i);
}

static inline uint64_t
whole_answer(const uint8_t request[WHOLE_SIZE])
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < WHOLE_SIZE; i++)
		sum += request[i];
	return sum;
}

#endif
