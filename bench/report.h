/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_REPORT_H
#define IPC_BENCH_REPORT_H

/*
 * Results as people and as programs read them. Knows only what was measured, not how.
 */

#include <stdio.h>

#include "engines.h"
#include "host.h"
#include "measure.h"
#include "options.h"

/* All that a report tells. */
struct bench_report {
	const struct bench_host *host;
	const struct bench_options *options;
	const struct bench_results *results;
	const struct bench_engine *engines; /* BENCH_ENGINES */
};

/* A number of a result under its name in JSON and CSV; NAN is a blank. */
struct bench_field {
	const char *name;
	double (*get)(const struct bench_result *result);
	unsigned int shapes; /* which cases have it: a bit for each enum bench_shape */
};

extern const struct bench_field bench_fields[];
extern const unsigned int bench_n_fields;

/* Has a result's case this number? */
bool bench_field_applies(const struct bench_field *field, const struct bench_result *result);

void bench_report_table(const struct bench_report *report, FILE *file);

/* What makes the figures hard to believe, a plain line each; nothing if nothing does. */
void bench_report_warnings(const struct bench_report *report, FILE *file);

/* Return: 0, or -ENOMEM or -EIO; the file tells the rest when it is closed. */
int bench_report_json(const struct bench_report *report, FILE *file);
int bench_report_csv(const struct bench_report *report, FILE *file);

#endif
