/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <math.h>

#include "report.h"

int
bench_report_csv(const struct bench_report *report, FILE *file)
{
	const struct bench_results *results = report->results;

	/* No text of ours has a comma or a quote in it. */
	fputs("case,variant,size,wait,waited_as,distance,unit,repetitions", file);
	for (unsigned int i = 0; i < bench_n_fields; i++)
		fprintf(file, ",%s", bench_fields[i].name);
	fputc('\n', file);

	for (unsigned int row = 0; row < results->n; row++) {
		const struct bench_result *result = &results->results[row];

		fprintf(file, "%s,%s,%zu,%s,%s,%s,%s,%u", result->bench->name,
			bench_variant_names[result->variant], result->size,
			bench_wait_names[result->wait], bench_wait_names[result->waited_as],
			bench_distance_names[result->distance], result->bench->unit,
			result->repetitions);
		for (unsigned int i = 0; i < bench_n_fields; i++) {
			const struct bench_field *field = &bench_fields[i];
			double value = field->get(result);

			if (isnan(value) || !bench_field_applies(field, result))
				fputc(',', file);
			else
				fprintf(file, ",%.9g", value);
		}
		fputc('\n', file);
	}
	return ferror(file) ? -EIO : 0;
}
