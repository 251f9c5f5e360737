/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <math.h>

#include <jansson.h>

#include "peers.h"
#include "report.h"

#define SCHEMA "libipc-bench/1"

/* A blank is null; what is whole is written so. */
static json_t *
number(double value)
{
	if (isnan(value))
		return json_null();
	if (value == floor(value) && fabs(value) < 9e15)
		return json_integer((json_int_t)value);
	return json_real(value);
}

static json_t *
text_or_null(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

/* The engines that loops have here: true, or why there is none in words. */
static json_t *
engines_object(const struct bench_report *report)
{
	json_t *object = json_object();

	for (unsigned int i = 0; object && i < BENCH_ENGINES; i++) {
		const struct bench_engine *engine = &report->engines[i];

		json_object_set_new(object, bench_variant_names[engine->variant],
			engine->is_there ? json_true() : json_string(engine->reason));
	}
	return object;
}

static json_t *
host_object(const struct bench_report *report)
{
	const struct bench_host *host = report->host;

	return json_pack("{so, so, so, sb, si, so, so, so, so, so, so, so}", "cpu",
		text_or_null(host->cpu), "kernel", text_or_null(host->kernel), "machine",
		text_or_null(host->machine), "virtual", (int)host->is_virtual, "online_cpus",
		(int)host->n_cpus, "governor", text_or_null(host->governor), "load_1min",
		number(host->load_1min), "steal_percent", number(host->steal_percent),
		"others_cpu_percent", number(host->others_percent), "wmem_default",
		number((double)host->wmem_default), "wmem_max", number((double)host->wmem_max),
		"engines", engines_object(report));
}

static json_t *
options_object(const struct bench_report *report)
{
	const struct bench_options *options = report->options;

	return json_pack("{sb, si, si, s[ii], so, so, so, so}", "quick", (int)options->quick,
		"repeat", (int)options->repeat, "time_ms", (int)options->time_ms, "cpus",
		(int)options->cpus[BENCH_SENDER], (int)options->cpus[BENCH_RECEIVER], "record",
		number((double)options->record_max), "sndbuf",
		number(options->send_buffer ? (double)options->send_buffer : NAN), "burst",
		number(options->burst ? (double)options->burst : NAN), "rate",
		number(options->rate ? (double)options->rate : NAN));
}

/* From the fastest on: pairs of how many there are to one that takes longer, and a time. */
static json_t *
tail_array(const struct bench_result *result)
{
	json_t *array = json_array();

	for (unsigned int i = 0; array && i < BENCH_TAIL; i++) {
		const struct bench_tail *tail = &result->tail[i];

		if (tail->one_in && !isnan(tail->ns))
			json_array_append_new(array,
				json_pack("[oo]", number((double)tail->one_in), number(tail->ns)));
	}
	return array;
}

static json_t *
result_object(const struct bench_result *result)
{
	json_t *object = json_pack("{ss, ss, so, ss, ss, ss, ss, si}", "case", result->bench->name,
		"variant", bench_variant_names[result->variant], "size",
		number((double)result->size), "wait", bench_wait_names[result->wait], "waited_as",
		bench_wait_names[result->waited_as], "distance",
		bench_distance_names[result->distance], "unit", result->bench->unit, "repetitions",
		(int)result->repetitions);

	for (unsigned int i = 0; object && i < bench_n_fields; i++) {
		const struct bench_field *field = &bench_fields[i];

		if (bench_field_applies(field, result))
			json_object_set_new(object, field->name, number(field->get(result)));
	}
	if (object && result->bench->shape != BENCH_THROUGHPUT)
		json_object_set_new(object, "tail_ns", tail_array(result));
	if (object && result->reason[0])
		json_object_set_new(object, "reason", json_string(result->reason));
	return object;
}

/* What each of them is, in words. */
static json_t *
peers_object(void)
{
	json_t *object = json_object();

	for (int i = BENCH_PEER; object && i < BENCH_VARIANTS && bench_variant_names[i]; i++)
		json_object_set_new(object, bench_variant_names[i],
			json_string(bench_peer_about((enum bench_variant)i)));
	return object;
}

int
bench_report_json(const struct bench_report *report, FILE *file)
{
	const struct bench_results *results = report->results;
	json_t *array = json_array(), *root;
	int r = 0;

	for (unsigned int i = 0; array && i < results->n; i++)
		json_array_append_new(array, result_object(&results->results[i]));
	root = json_pack("{ss, ss, so, so, si, si, so}", "schema", SCHEMA, "version",
		BENCH_LIBIPC_VERSION, "host", host_object(report), "options",
		options_object(report), "repetitions", (int)results->repetitions,
		"dropped_repetitions", (int)results->dropped, "results", array);
	if (!root)
		return -ENOMEM;
	if (bench_peers_are_loaded())
		json_object_set_new(root, "peers", peers_object());

	if (json_dumpf(root, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) < 0)
		r = -EIO;
	fputc('\n', file);
	json_decref(root);
	return r;
}
