/* SPDX-License-Identifier: MIT */

/* The order in which faults are tried, and the look around each at what is left behind. */

#include <stdio.h>
#include <unistd.h>

#include "faults_each.h"
#include "support.h"

static const char *in_use;
static unsigned int open_before;

void
fail_each(const struct fault_trial *trial, struct fault fault)
{
	unsigned int step = test_count(trial->full_step, trial->quick_step);

	if (trial->quick_one_in && test_random_below(test_count(1, trial->quick_one_in)))
		return;
	/* A use that never comes to its end has gone round in circles. */
	alarm(TEST_SECONDS_MAX);
	fault.nth = 1 + (unsigned int)test_random_below(step);
	while (trial->run(&fault, trial->arg))
		fault.nth += step;
}

void
fail_lasting(const struct fault_trial *trial, enum faulty call, const int *errors)
{
	struct fault fault = {.call = call};

	for (; *errors; errors++) {
		fault.error = *errors;
		fault.onward = false;
		fail_each(trial, fault);
		fault.onward = true;
		fail_each(trial, fault);
	}
}

void
fail_passing(const struct fault_trial *trial, enum faulty call, const int *errors)
{
	for (; *errors; errors++)
		fail_each(trial, (struct fault){.call = call, .error = *errors});
}

void
fail_call(const struct fault_trial *trial, const struct fault_errors *errors)
{
	fail_lasting(trial, errors->call, errors->lasting);
	fail_passing(trial, errors->call, errors->passing);
}

void
fail_table(const struct fault_trial *trial, const struct fault_errors *table, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		fail_call(trial, &table[i]);
}

void
fault_trial_begin(const struct fault *fault, const char *name)
{
	open_before = descriptors_open();
	in_use = name;
	fault_arm(fault);
}

bool
fault_trial_end(void)
{
	check_equal(fault_memory(), 0);
	check_equal(descriptors_open(), open_before);
	in_use = NULL;
	return fault_count() > 0;
}

void
fault_over(void)
{
	if (in_use)
		(void)fprintf(stderr, "with %s, in use: %s\n", fault_text(), in_use);
	in_use = NULL;
	fault_inside(false);
	fault_arm(NULL);
}
