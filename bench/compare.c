/* SPDX-License-Identifier: MIT */

/*
 * Two files that --json wrote, side by side. What is in both is compared: by its ratio to the raw
 * variant of its own run where there is one, for a machine that has become slower slows both; else
 * by its figure. Knows the format of the results, and nothing of how they came about.
 */

#include <argp.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "compare.h"
#include "options.h"

#define SCHEMA "libipc-bench/1"

#define CELL 32

struct comparison {
	const char *paths[2];
	unsigned int n_paths;
	double limit; /* of what is worse, as a part of 1; NAN: none */
	json_t *runs[2];
	unsigned int n_compared, n_worse;
	unsigned int n_alone; /* of the first run, without one like it in the second */
};

enum {
	OPTION_FAIL_ABOVE = 0x200,
};

static const struct argp_option options_known[] = {
	{.name = "fail-above",
		.key = OPTION_FAIL_ABOVE,
		.arg = "PERCENT",
		.doc = "Exit with 1 if anything is worse by more than this"},
	{0},
};

static error_t
parse_option(int key, char *arg, struct argp_state *state)
{
	struct comparison *comparison = state->input;
	char *end;

	switch (key) {
	case OPTION_FAIL_ABOVE:
		comparison->limit = strtod(arg, &end) / 100;
		if (end == arg || (*end && strcmp(end, "%") != 0) || !(comparison->limit >= 0))
			argp_error(state, "--fail-above takes a percentage, such as 10%%, not '%s'",
				arg);
		return 0;
	case ARGP_KEY_ARG:
		if (comparison->n_paths == 2)
			argp_error(state, "two files are compared, not more");
		comparison->paths[comparison->n_paths++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (comparison->n_paths < 2)
			argp_error(state, "two files that --json wrote are wanted");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = options_known,
	.parser = parse_option,
	.args_doc = "A.json B.json",
	.doc = "Show two runs side by side: what is in both, with the middle half of its runs."
	       "\vA variant of libipc is judged by its ratio to raw, which was measured beside it; "
	       "one that "
	       "has none, by its figure. It counts as better or worse only where the middle halves "
	       "of the two runs do not overlap, and is marked so: + or -.",
};

/* Return: the file's results, or NULL with a line said. */
static json_t *
load(const char *path)
{
	json_error_t error;
	json_t *run = json_load_file(path, 0, &error);
	const char *schema = json_string_value(json_object_get(run, "schema"));

	if (!run)
		fprintf(stderr, "ipc-bench: %s: %s\n", path, error.text);
	else if (!schema || strcmp(schema, SCHEMA) != 0)
		fprintf(stderr, "ipc-bench: %s: no results of ipc-bench\n", path);
	else if (json_is_array(json_object_get(run, "results")))
		return run;
	else
		fprintf(stderr, "ipc-bench: %s: it has no results\n", path);
	json_decref(run);
	return NULL;
}

static const char *
text_of(const json_t *result, const char *key)
{
	const char *text = json_string_value(json_object_get(result, key));

	return text ? text : "";
}

static double
number_of(const json_t *result, const char *key)
{
	const json_t *number = json_object_get(result, key);

	return json_is_number(number) ? json_number_value(number) : NAN;
}

static bool
is_same(const json_t *a, const json_t *b)
{
	static const char *const keys[] = {"case", "variant", "size", "wait", "distance", "workers",
		"depth", "burst", "rate_per_s"};

	for (unsigned int i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const json_t *one = json_object_get(a, keys[i]),
			     *other = json_object_get(b, keys[i]);

		if (one != other && !json_equal(one, other))
			return false;
	}
	return true;
}

static const json_t *
find(const json_t *run, const json_t *like)
{
	json_t *results = json_object_get(run, "results"), *result;
	size_t i;

	/* What a change of the machine has disturbed proves nothing. */
	if (strcmp(text_of(like, "distance"), "mixed") == 0)
		return NULL;
	json_array_foreach(results, i, result) if (is_same(result, like)) return result;
	return NULL;
}

/* What the result is about, under whichever name; of a latency less is better. */
static double
figure_of(const json_t *result, bool *ret_less_is_better)
{
	double figure = number_of(result, "requests_per_s");

	if (isnan(figure))
		figure = number_of(result, "messages_per_s");
	*ret_less_is_better = isnan(figure);
	return isnan(figure) ? number_of(result, "p50_ns") : figure;
}

static bool
overlap(const json_t *a, const json_t *b)
{
	return number_of(a, "spread_q1") <= number_of(b, "spread_q3") &&
	       number_of(b, "spread_q1") <= number_of(a, "spread_q3");
}

/* How much better b is than a: 0.1 is 10 %; of raw itself, by its figure. */
static double
gain(const json_t *a, const json_t *b)
{
	double from = number_of(a, "ratio_to_raw"), to = number_of(b, "ratio_to_raw");
	bool less_is_better;
	double figure = figure_of(a, &less_is_better);

	if (isnan(from) || isnan(to)) {
		from = figure;
		to = figure_of(b, &less_is_better);
	}
	return less_is_better ? from / to - 1 : to / from - 1;
}

static const char *
spread_text(char text[CELL], const json_t *result)
{
	snprintf(text, CELL, "%.5g..%.5g", number_of(result, "spread_q1") * 1e-3,
		number_of(result, "spread_q3") * 1e-3);
	return text;
}

static const char *
ratio_text(char text[CELL], const json_t *result)
{
	double ratio = number_of(result, "ratio_to_raw");

	snprintf(text, CELL, isnan(ratio) ? "-" : "%.3g", ratio);
	return text;
}

static void
print_head(const struct comparison *comparison)
{
	printf("A: %s\nB: %s\n", comparison->paths[0], comparison->paths[1]);
	printf("Rates are in thousands a second, times in microseconds: the median, and the middle "
	       "half of the runs.\n\n");
	printf("%-9s %5s %-6s %-5s %-5s %-9s %8s %-17s %8s %-17s %6s %6s %7s\n", "case", "bytes",
		"K x D", "waits", "CPUs", "variant", "A", "", "B", "", "A/raw", "B/raw", "B to A");
}

static void
print_pair(const json_t *a, const json_t *b, double change, char mark)
{
	char size[BENCH_SIZE_TEXT], layout[CELL] = "", one[CELL], other[CELL], ra[CELL], rb[CELL];
	bool is_time;
	double from = figure_of(a, &is_time), to = figure_of(b, &is_time);

	if (!isnan(number_of(a, "workers")))
		snprintf(layout, sizeof(layout), "%.0fx%.0f", number_of(a, "workers"),
			number_of(a, "depth"));
	printf("%-9s %5s %-6s %-5s %-5s %-9s %8.5g %-17s %8.5g %-17s %6s %6s %+6.1f%% %c\n",
		text_of(a, "case"), bench_size_text((size_t)number_of(a, "size"), size), layout,
		text_of(a, "waited_as"), text_of(a, "distance"), text_of(a, "variant"), from * 1e-3,
		spread_text(one, a), to * 1e-3, spread_text(other, b), ratio_text(ra, a),
		ratio_text(rb, b), change * 100, mark);
}

static void
compare(struct comparison *comparison, const json_t *a, const json_t *b)
{
	bool less_is_better, is_raw = strcmp(text_of(a, "variant"), "raw") == 0;
	double change = gain(a, b);
	char mark = ' ';

	if (isnan(figure_of(a, &less_is_better)) || isnan(figure_of(b, &less_is_better)))
		return;
	if (!is_raw && !overlap(a, b))
		mark = change < 0 ? '-' : '+';
	comparison->n_compared++;
	if (mark == '-' && 1 / (1 + change) - 1 > comparison->limit)
		comparison->n_worse++;
	print_pair(a, b, change, mark);
}

/* Return: the status to exit with. */
static int
conclude(const struct comparison *comparison)
{
	if (!comparison->n_compared) {
		fprintf(stderr, "ipc-bench: the two have no result in common\n");
		return EXIT_FAILURE;
	}
	if (comparison->n_alone)
		printf("\n%u of A are left out: disturbed, or B has none like it.\n",
			comparison->n_alone);
	if (isnan(comparison->limit))
		return EXIT_SUCCESS;
	printf("\n%u of %u are worse by more than %g %%.\n", comparison->n_worse,
		comparison->n_compared, comparison->limit * 100);
	return comparison->n_worse ? EXIT_FAILURE : EXIT_SUCCESS;
}

int
bench_compare_main(int argc, char *argv[])
{
	struct comparison comparison = {.limit = NAN};
	json_t *results, *result;
	const json_t *other;
	int status = EXIT_FAILURE;
	size_t i;

	argv[0] = (char[]){"ipc-bench " BENCH_COMPARE};
	argp_err_exit_status = BENCH_EXIT_USAGE;
	argp_parse(&parser, argc, argv, 0, NULL, &comparison);
	for (i = 0; i < 2; i++)
		comparison.runs[i] = load(comparison.paths[i]);
	if (comparison.runs[0] && comparison.runs[1]) {
		print_head(&comparison);
		results = json_object_get(comparison.runs[0], "results");
		json_array_foreach(results, i, result)
		{
			other = find(comparison.runs[1], result);
			comparison.n_alone += !other;
			if (other)
				compare(&comparison, result, other);
		}
		status = conclude(&comparison);
	}
	json_decref(comparison.runs[0]);
	json_decref(comparison.runs[1]);
	return status;
}
