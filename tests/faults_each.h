/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_FAULTS_EACH_H
#define LIBIPC_TESTS_FAULTS_EACH_H

/*
 * One use of the library, run again and again, each time with another fault: each error that a
 * call can give, at each place where the use makes that call, and from there on.
 *
 * Knows neither the uses nor which errors they must get over.
 */

#include "faults.h"

/* What is run with each fault. */
struct fault_trial {
	/* From fault_trial_begin() to fault_trial_end(). Return: whether the fault has happened. */
	bool (*run)(const struct fault *fault, const void *arg);
	const void *arg;
	/* From one place to the next that is tried, by LIBIPC_TEST_SCALE; 1: each */
	unsigned int full_step, quick_step;
	/* Where it is quick one error in so many is tried, drawn by lot; 0: each */
	unsigned int quick_one_in;
};

/* The errors that a call can give for good, and those that pass by themselves. 0 ends a list. */
struct fault_errors {
	enum faulty call;
	int lasting[10], passing[3];
};

/* Fail the first call, the second ...: until the use does not come to that one. */
void fail_each(const struct fault_trial *trial, struct fault fault);

/* With each error of a list, once and from there on; or once only. */
void fail_lasting(const struct fault_trial *trial, enum faulty call, const int *errors);
void fail_passing(const struct fault_trial *trial, enum faulty call, const int *errors);

/* With all errors of a call; of a table of calls. */
void fail_call(const struct fault_trial *trial, const struct fault_errors *errors);
void fail_table(const struct fault_trial *trial, const struct fault_errors *table, size_t n);
#define fail_all(trial, table) fail_table((trial), (table), sizeof(table) / sizeof((table)[0]))

/* Arm a fault, or none with NULL. The name is for those who look for why a test failed. */
void fault_trial_begin(const struct fault *fault, const char *name);
/* Check that no memory and no descriptor is left. Return: whether the fault has happened. */
bool fault_trial_end(void);

/* After a test, before any other look at what it has left: nothing fails any more. Where the test
   failed, say with which fault. */
void fault_over(void);

#endif
