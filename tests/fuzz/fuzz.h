/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_FUZZ_H
#define LIBIPC_TESTS_FUZZ_H

/* What the fuzz targets share. Each defines one function, which never gives up on an input. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

#define require(condition)                                                                      \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			(void)fprintf(                                                          \
				stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

/* What a peer sent is closed by a thread of the library's: wait for it, for seconds. */
static inline bool
fuzz_comes_back(int (*measure)(void), int expected)
{
	unsigned int looks;

	for (looks = 0; measure() != expected && looks < 100000; looks++)
		(void)usleep(100);
	return measure() == expected;
}

#endif
