/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_FUZZ_H
#define LIBIPC_TESTS_FUZZ_H

/* What the fuzz targets share. Each defines one function, which never gives up on an input. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

#define require(condition)                                                                      \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			(void)fprintf(                                                          \
				stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

#endif
