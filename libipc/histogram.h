/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_HISTOGRAM_H
#define LIBIPC_INTERNAL_HISTOGRAM_H

/*
 * A log-linear histogram of durations in fixed memory: each power of two is divided
 * into equal buckets, so that a value is known to better than one part in 128, from a
 * nanosecond to eighteen minutes. Knows nothing of where the values come from.
 */

#include <stdbool.h>
#include <stdint.h>

#define IPCI_HISTOGRAM_BITS    7U  /* of each value that are kept */
#define IPCI_HISTOGRAM_OCTAVES 34U /* above the first 128 values, one bucket each */
#define IPCI_HISTOGRAM_BUCKETS ((IPCI_HISTOGRAM_OCTAVES + 1U) << IPCI_HISTOGRAM_BITS)

/* Samples that must lie beyond a percentile before it is believed. */
#define IPCI_HISTOGRAM_BEYOND_MIN 10U

/* Zero is an empty one. */
struct ipci_histogram {
	uint64_t count;
	uint64_t max;
	uint64_t buckets[IPCI_HISTOGRAM_BUCKETS];
};

/* Count a value; what is too large for the last bucket is counted there. */
void ipci_histogram_add(struct ipci_histogram *histogram, uint64_t value);

void ipci_histogram_merge(struct ipci_histogram *histogram, const struct ipci_histogram *other);

/*
 * The value below which per_mille thousandths of the samples lie.
 *
 * Return: whether there are enough samples to say.
 */
bool ipci_histogram_percentile(
	const struct ipci_histogram *histogram, unsigned int per_mille, uint64_t *ret_value);

/*
 * The value that one in so many samples exceeds: of 100 the 99th percentile, of a million what no
 * percentile of thousandths tells.
 *
 * Return: whether there are enough samples to say.
 */
bool ipci_histogram_one_in(
	const struct ipci_histogram *histogram, uint64_t one_in, uint64_t *ret_value);

#endif
