/* SPDX-License-Identifier: MIT */

/*
 * The histogram against the plain way: keep every value, sort, count.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "histogram.h"

#define SAMPLES 200000U

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void
check_against_sorted(uint64_t *values, size_t count)
{
	static const unsigned int per_milles[] = {1, 10, 250, 500, 900, 990, 999};
	static struct ipci_histogram histogram;

	histogram = (struct ipci_histogram){0};
	for (size_t i = 0; i < count; i++)
		ipci_histogram_add(&histogram, values[i]);
	qsort(values, count, sizeof(*values), compare);

	assert_int_equal(histogram.count, count);
	assert_int_equal(histogram.max, values[count - 1]);
	for (size_t i = 0; i < sizeof(per_milles) / sizeof(per_milles[0]); i++) {
		uint64_t exact = values[count * per_milles[i] / 1000], found;

		assert_true(ipci_histogram_percentile(&histogram, per_milles[i], &found));
		if (found > exact + exact / 128 || found < exact - exact / 128)
			fail_msg("p%u of %zu: %llu, sorted %llu", per_milles[i], count,
				(unsigned long long)found, (unsigned long long)exact);
	}
}

/* One in so many samples is what a percentile leaves. */
static void
test_one_in_many_is_a_percentile(void **state)
{
	static const unsigned int one_in[] = {1, 2, 4, 5, 10, 20, 100, 1000};
	static struct ipci_histogram histogram;
	uint64_t random = 11, expected, found = 77;

	(void)state;
	for (unsigned int i = 0; i < SAMPLES; i++)
		ipci_histogram_add(&histogram, next_random(&random) >> 40);
	for (size_t i = 0; i < sizeof(one_in) / sizeof(one_in[0]); i++) {
		assert_true(
			ipci_histogram_percentile(&histogram, 1000 - 1000 / one_in[i], &expected));
		assert_true(ipci_histogram_one_in(&histogram, one_in[i], &found));
		assert_int_equal(found, expected);
	}
	assert_true(ipci_histogram_one_in(&histogram, SAMPLES / 10, &found));
	assert_true(found >= expected);
	found = 77;
	assert_false(ipci_histogram_one_in(&histogram, SAMPLES / 10 + SAMPLES / 100, &found));
	assert_int_equal(found, 77);
}

/* Values of every magnitude from 1 to 2^40, evenly over their logarithms. */
static void
test_all_magnitudes(void **state)
{
	uint64_t *values = calloc(SAMPLES, sizeof(*values)), random = 0x9E3779B97F4A7C15U;

	(void)state;
	assert_non_null(values);
	for (size_t i = 0; i < SAMPLES; i++)
		values[i] = (next_random(&random) >> 24) >> (next_random(&random) % 40);
	check_against_sorted(values, SAMPLES);
	free(values);
}

/* What a benchmark sees: a narrow hill, and a long tail of a few. */
static void
test_hill_and_tail(void **state)
{
	uint64_t *values = calloc(SAMPLES, sizeof(*values)), random = 88172645463325252U;

	(void)state;
	assert_non_null(values);
	for (size_t i = 0; i < SAMPLES; i++) {
		values[i] = 2700 + next_random(&random) % 300;
		if (next_random(&random) % 500 == 0)
			values[i] *= 1 + next_random(&random) % 1000;
	}
	check_against_sorted(values, SAMPLES);
	free(values);
}

/* Every bucket's border: the value below it, it, and the value above. */
static void
test_borders(void **state)
{
	(void)state;
	for (unsigned int shift = 0; shift <= 40; shift++) {
		for (int64_t offset = -1; offset <= 1; offset++) {
			static struct ipci_histogram histogram;
			uint64_t value = (uint64_t)((INT64_C(1) << shift) + offset), found;

			histogram = (struct ipci_histogram){0};
			for (unsigned int i = 0; i < 2 * IPCI_HISTOGRAM_BEYOND_MIN; i++)
				ipci_histogram_add(&histogram, value);
			ipci_histogram_add(&histogram, UINT64_MAX);
			assert_true(ipci_histogram_percentile(&histogram, 500, &found));
			assert_in_range(found, value - value / 128, value + value / 128);
		}
	}
}

static void
test_too_few_is_blank(void **state)
{
	static struct ipci_histogram histogram;
	uint64_t found = 77;

	(void)state;
	assert_false(ipci_histogram_percentile(&histogram, 500, &found));
	for (unsigned int i = 0; i < 9999; i++)
		ipci_histogram_add(&histogram, i);
	assert_true(ipci_histogram_percentile(&histogram, 990, &found));
	found = 77;
	assert_false(ipci_histogram_percentile(&histogram, 999, &found));
	assert_int_equal(found, 77);
	ipci_histogram_add(&histogram, 10000);
	assert_true(ipci_histogram_percentile(&histogram, 999, &found));
}

static void
test_huge_is_counted(void **state)
{
	static struct ipci_histogram histogram;
	uint64_t found;

	(void)state;
	for (unsigned int i = 0; i < 100; i++)
		ipci_histogram_add(&histogram, UINT64_MAX - i);
	assert_int_equal(histogram.count, 100);
	assert_int_equal(histogram.max, UINT64_MAX);
	assert_true(ipci_histogram_percentile(&histogram, 500, &found));
}

/* Merging is adding every value of both. */
static void
test_merge(void **state)
{
	static struct ipci_histogram one, two, both;
	uint64_t random = 7, expected, found;

	(void)state;
	for (unsigned int i = 0; i < SAMPLES; i++) {
		uint64_t value = next_random(&random) >> 40;

		ipci_histogram_add(i % 3 ? &one : &two, value);
		ipci_histogram_add(&both, value);
	}
	ipci_histogram_merge(&one, &two);
	assert_int_equal(one.count, both.count);
	assert_int_equal(one.max, both.max);
	for (unsigned int per_mille = 1; per_mille < 1000; per_mille++) {
		assert_true(ipci_histogram_percentile(&both, per_mille, &expected));
		assert_true(ipci_histogram_percentile(&one, per_mille, &found));
		assert_int_equal(found, expected);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_magnitudes),
		cmocka_unit_test(test_hill_and_tail),
		cmocka_unit_test(test_borders),
		cmocka_unit_test(test_too_few_is_blank),
		cmocka_unit_test(test_huge_is_counted),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_one_in_many_is_a_percentile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
