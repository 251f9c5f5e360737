/* SPDX-License-Identifier: MIT */

#include <stddef.h>

#include "histogram.h"

#define FIRST (UINT64_C(1) << IPCI_HISTOGRAM_BITS)

static size_t
bucket_of(uint64_t value)
{
	unsigned int octave;
	size_t index;

	if (value < FIRST)
		return (size_t)value;
	octave = 63U - (unsigned int)__builtin_clzll(value) - IPCI_HISTOGRAM_BITS;
	index = ((size_t)octave << IPCI_HISTOGRAM_BITS) + (size_t)(value >> octave);
	return index < IPCI_HISTOGRAM_BUCKETS ? index : IPCI_HISTOGRAM_BUCKETS - 1;
}

/* The middle of a bucket: the error is half of its width at most. */
static uint64_t
value_of(size_t bucket)
{
	unsigned int octave;
	uint64_t low;

	if (bucket < FIRST)
		return bucket;
	octave = (unsigned int)(bucket >> IPCI_HISTOGRAM_BITS) - 1;
	low = (FIRST + (bucket & (FIRST - 1))) << octave;
	return low + ((UINT64_C(1) << octave) >> 1);
}

void
ipci_histogram_add(struct ipci_histogram *histogram, uint64_t value)
{
	histogram->buckets[bucket_of(value)]++;
	histogram->count++;
	if (value > histogram->max)
		histogram->max = value;
}

void
ipci_histogram_merge(struct ipci_histogram *histogram, const struct ipci_histogram *other)
{
	for (size_t i = 0; i < IPCI_HISTOGRAM_BUCKETS; i++)
		histogram->buckets[i] += other->buckets[i];
	histogram->count += other->count;
	if (other->max > histogram->max)
		histogram->max = other->max;
}

/* The value of the sample of that rank, of all in their order; there are more than that. */
static uint64_t
value_at(const struct ipci_histogram *histogram, uint64_t rank)
{
	uint64_t seen = 0, value;
	size_t bucket;

	for (bucket = 0; bucket < IPCI_HISTOGRAM_BUCKETS; bucket++) {
		seen += histogram->buckets[bucket];
		if (seen > rank)
			break;
	}

	value = value_of(bucket);
	return value < histogram->max ? value : histogram->max;
}

bool
ipci_histogram_percentile(
	const struct ipci_histogram *histogram, unsigned int per_mille, uint64_t *ret_value)
{
	if (histogram->count * (1000 - per_mille) < UINT64_C(1000) * IPCI_HISTOGRAM_BEYOND_MIN)
		return false;
	*ret_value = value_at(histogram, histogram->count * per_mille / 1000);
	return true;
}

bool
ipci_histogram_one_in(const struct ipci_histogram *histogram, uint64_t one_in, uint64_t *ret_value)
{
	if (histogram->count / one_in < IPCI_HISTOGRAM_BEYOND_MIN)
		return false;
	*ret_value = value_at(histogram, histogram->count - histogram->count / one_in);
	return true;
}
