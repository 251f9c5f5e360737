/* SPDX-License-Identifier: MIT */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "peers.h"
#include "report.h"

#define CELL 40U
#define PAIR (2 * CELL + 2)

/* Above these the figures are hard to believe. */
#define STEAL_PERCENT_MAX  1.0
#define OTHERS_PERCENT_MAX 5.0
#define RAW_SPREAD_MAX     0.25 /* between the quartiles of raw, of its median */
#define DROPPED_MAX        0.25 /* of all repetitions */

/* Three digits that count: 2.84, 47.1, 312, 4567. */
static const char *
three_digits(char text[CELL], double value)
{
	double size = fabs(value);

	if (isnan(value))
		return "-";
	snprintf(text, CELL, "%.*f", size < 9.995 ? 2 : size < 99.95 ? 1 : 0, value);
	return text;
}

static const char *
few_syscalls(char text[CELL], double value)
{
	if (isnan(value))
		return "-";
	snprintf(text, CELL, "%.*f", value < 0.1 ? 4 : 2, value);
	return text;
}

/* What every row says in the same way, as text. */
struct cells {
	char size[BENCH_SIZE_TEXT];
	char figure[CELL], spread[PAIR], calls[PAIR], cpu[PAIR];
};

/* scale and cpu_scale turn the figure and the CPU time into the units of the table. */
static void
fill_cells(struct cells *cells, const struct bench_result *result, double scale, double cpu_scale)
{
	const double *calls = result->syscalls_per_message, *cpu = result->cpu_ns_per_message;
	char one[CELL], other[CELL];

	bench_size_text(result->size, cells->size);
	snprintf(cells->figure, sizeof(cells->figure), "%s",
		three_digits(one, result->figure.median * scale));
	snprintf(cells->spread, sizeof(cells->spread), "%s..%s",
		three_digits(one, result->figure.min * scale),
		three_digits(other, result->figure.max * scale));
	snprintf(cells->calls, sizeof(cells->calls), "%s+%s",
		few_syscalls(one, calls[BENCH_SENDER]), few_syscalls(other, calls[BENCH_RECEIVER]));
	snprintf(cells->cpu, sizeof(cells->cpu), "%s+%s",
		three_digits(one, cpu[BENCH_SENDER] * cpu_scale),
		three_digits(other, cpu[BENCH_RECEIVER] * cpu_scale));
}

/* What every table begins with. */
static void
print_first_cells(const struct bench_result *result, const struct cells *cells, FILE *file)
{
	fprintf(file, "%5s %-5s %-5s %-10s %7s  %-12s ", cells->size,
		bench_wait_names[result->waited_as], bench_distance_names[result->distance],
		bench_variant_names[result->variant], cells->figure, cells->spread);
}

static void
print_latency_head(FILE *file)
{
	fprintf(file, "%5s %-5s %-5s %-10s %7s  %-12s %6s %5s %6s %7s  %-11s %s\n", "bytes",
		"waits", "CPUs", "variant", "p50 us", "min..max", "of raw", "chan.", "p99", "p99.9",
		"calls", "CPU us");
}

static void
print_latency(const struct bench_result *result, FILE *file)
{
	char ratio[CELL], channel_ratio[CELL], p99[CELL], p999[CELL];
	struct cells cells;

	fill_cells(&cells, result, 1e-3, 1e-3);
	print_first_cells(result, &cells, file);
	fprintf(file, "%6s %5s %6s %7s  %-11s %s\n", three_digits(ratio, result->ratios[BENCH_RAW]),
		three_digits(channel_ratio, result->ratios[BENCH_CHANNEL]),
		three_digits(p99, result->p99_ns / 1e3), three_digits(p999, result->p999_ns / 1e3),
		cells.calls, cells.cpu);
}

static void
print_throughput_head(const struct bench_case *bench, FILE *file)
{
	fprintf(file, "%5s %-5s %-5s %-10s %7s  %-12s %6s %5s %5s  %-15s %s\n", "bytes", "waits",
		"CPUs", "variant", bench->is_bulk ? "GB/s" : "M/s", "min..max", "of raw", "batch",
		"chan.", "calls", bench->is_bulk ? "CPU us" : "CPU ns");
}

static void
print_throughput(const struct bench_result *result, FILE *file)
{
	bool is_bulk = result->bench->is_bulk;
	char ratio[CELL], batch_ratio[CELL], channel_ratio[CELL];
	struct cells cells;

	fill_cells(&cells, result, is_bulk ? (double)result->size / 1e9 : 1e-6, is_bulk ? 1e-3 : 1);
	print_first_cells(result, &cells, file);
	fprintf(file, "%6s %5s %5s  %-15s %s\n", three_digits(ratio, result->ratios[BENCH_RAW]),
		three_digits(batch_ratio, result->ratios[BENCH_RAW_BATCH]),
		three_digits(channel_ratio, result->ratios[BENCH_CHANNEL]), cells.calls, cells.cpu);
}

/* "16x1"; "" where there is but one pair. */
static const char *
layout_text(char text[CELL], const struct bench_result *result)
{
	text[0] = '\0';
	if (bench_has_workers(result->bench))
		snprintf(text, CELL, "%ux%u", result->layout.workers, result->layout.depth);
	return text;
}

static void
print_fanout_head(FILE *file)
{
	fprintf(file, "%5s %-6s %-5s %-5s %-7s %7s  %-12s %6s %5s %5s %6s %6s  %-6s %s\n", "bytes",
		"K x D", "waits", "CPUs", "variant", "k/s", "min..max", "of raw", "epoll", "uring",
		"p50 us", "p99", "calls", "CPU ns");
}

static void
print_fanout(const struct bench_result *result, FILE *file)
{
	char ratio[CELL], epoll_ratio[CELL], uring_ratio[CELL], p50[CELL], p99[CELL], calls[CELL],
		cpu[CELL];
	char layout[CELL];
	struct cells cells;

	fill_cells(&cells, result, 1e-3, 1);
	fprintf(file, "%5s %-6s %-5s %-5s %-7s %7s  %-12s %6s %5s %5s %6s %6s  %-6s %s\n",
		cells.size, layout_text(layout, result), bench_wait_names[result->waited_as],
		bench_distance_names[result->distance], bench_variant_names[result->variant],
		cells.figure, cells.spread, three_digits(ratio, result->ratios[BENCH_RAW]),
		three_digits(epoll_ratio, result->ratios[BENCH_EPOLL]),
		three_digits(uring_ratio, result->ratios[BENCH_URING]),
		three_digits(p50, result->p50_ns / 1e3), three_digits(p99, result->p99_ns / 1e3),
		few_syscalls(calls, result->syscalls_per_message[BENCH_SENDER]),
		three_digits(cpu, result->cpu_ns_per_message[BENCH_SENDER]));
}

static void
print_rated_head(FILE *file)
{
	fprintf(file, "%5s %-6s %-5s %-7s %7s  %-12s %6s %6s %7s %7s  %s\n", "bytes", "K x D",
		"CPUs", "variant", "p50 us", "min..max", "of raw", "p99", "p99.9", "k/s", "CPU ns");
}

static void
print_rated(const struct bench_result *result, FILE *file)
{
	char ratio[CELL], p99[CELL], p999[CELL], achieved[CELL], cpu[CELL], layout[CELL];
	char mark[CELL] = "";
	struct cells cells;

	fill_cells(&cells, result, 1e-3, 1);
	if (result->missed)
		snprintf(mark, CELL, "  MISSED %.0f k/s %u of %u times", result->rate / 1e3,
			result->missed, result->repetitions);
	fprintf(file, "%5s %-6s %-5s %-7s %7s  %-12s %6s %6s %7s %7s  %s%s\n", cells.size,
		layout_text(layout, result), bench_distance_names[result->distance],
		bench_variant_names[result->variant], cells.figure, cells.spread,
		three_digits(ratio, result->ratios[BENCH_RAW]),
		three_digits(p99, result->p99_ns / 1e3), three_digits(p999, result->p999_ns / 1e3),
		three_digits(achieved, result->achieved / 1e3),
		three_digits(cpu, result->cpu_ns_per_message[BENCH_SENDER]), mark);
}

static void
print_head(const struct bench_case *bench, FILE *file)
{
	switch (bench->shape) {
	case BENCH_LATENCY:
		print_latency_head(file);
		break;
	case BENCH_FANOUT:
		print_fanout_head(file);
		break;
	case BENCH_RATED:
		print_rated_head(file);
		break;
	default:
		print_throughput_head(bench, file);
	}
}

/* A row without figures says why. */
static void
print_reason(const struct bench_result *result, FILE *file)
{
	struct cells cells;

	fill_cells(&cells, result, 1, 1);
	strcpy(cells.spread, "-");
	print_first_cells(result, &cells, file);
	fprintf(file, "%s\n", result->reason);
}

static void
print_result(const struct bench_result *result, FILE *file)
{
	if (result->reason[0]) {
		print_reason(result, file);
		return;
	}
	switch (result->bench->shape) {
	case BENCH_LATENCY:
		print_latency(result, file);
		break;
	case BENCH_FANOUT:
		print_fanout(result, file);
		break;
	case BENCH_RATED:
		print_rated(result, file);
		break;
	default:
		print_throughput(result, file);
	}
}

static bool
is_same_block(const struct bench_result *a, const struct bench_result *b)
{
	return a->size == b->size && a->wait == b->wait && a->layout.workers == b->layout.workers &&
	       a->layout.depth == b->layout.depth;
}

static void
print_host(const struct bench_report *report, FILE *file)
{
	const struct bench_host *host = report->host;
	const struct bench_options *options = report->options;

	fprintf(file, "%s, %s%s, %u CPUs\nGovernor %s, load %.2f at the start, steal %.1f %%\n",
		host->cpu, host->kernel, host->is_virtual ? " in a virtual machine" : "",
		host->n_cpus, host->governor[0] ? host->governor : "none", host->load_1min,
		host->steal_percent);
	if (options->cpus[BENCH_SENDER] == options->cpus[BENCH_RECEIVER])
		fprintf(file, "Parent and child share CPU %u: they take turns, nothing spins.\n",
			options->cpus[BENCH_SENDER]);
	else
		fprintf(file, "Parent on CPU %u, children on CPU %u.\n",
			options->cpus[BENCH_SENDER], options->cpus[BENCH_RECEIVER]);
	fprintf(file, "Each figure: the median of up to %u runs of %u ms in fresh processes.\n",
		options->repeat, options->time_ms);
}

static void
print_idle(const struct bench_result *result, FILE *file)
{
	if (!isnan(result->idle_cpu_us_per_s))
		fprintf(file, "  A learning receiver used %.0f us of CPU in one idle second.\n",
			result->idle_cpu_us_per_s);
}

static void
print_case(const struct bench_report *report, const struct bench_case *bench, FILE *file)
{
	const struct bench_results *results = report->results;
	const struct bench_result *before = NULL;

	for (unsigned int i = 0; i < results->n; i++) {
		const struct bench_result *result = &results->results[i];

		if (result->bench != bench)
			continue;
		if (!before) {
			fprintf(file, "\n%s: %s\n", bench->name, bench->teaches);
			print_head(bench, file);
		}
		if (before && !is_same_block(before, result))
			fputc('\n', file);
		print_result(result, file);
		before = result;
	}
	for (unsigned int i = 0; i < results->n; i++)
		if (results->results[i].bench == bench)
			print_idle(&results->results[i], file);
}

/* What stands behind the names. */
static void
print_peers(FILE *file)
{
	if (bench_peers_are_loaded())
		fputc('\n', file);
	for (int i = BENCH_PEER; i < BENCH_VARIANTS && bench_variant_names[i]; i++)
		fprintf(file, "%-10s %s\n", bench_variant_names[i],
			bench_peer_about((enum bench_variant)i));
}

void
bench_report_table(const struct bench_report *report, FILE *file)
{
	print_host(report, file);
	for (unsigned int i = 0; i < report->options->n_cases; i++)
		print_case(report, report->options->cases[i], file);
	print_peers(file);
	fputs("\nof raw: times raw's figure, each run beside its own raw run (p50: less is "
	      "better; else more).\n"
	      "batch, chan., epoll, uring: times that of raw-batch, channel ..., likewise.\n"
	      "calls: system calls that moved data, for each round trip or message, "
	      "sender + receiver; fanout: of the parent.\n"
	      "CPU: time for each round trip or message, likewise. "
	      "-: does not apply, or too few samples.\n",
		file);
}

static void
warn_of_spread(const struct bench_result *result, FILE *file)
{
	const struct bench_spread *figure = &result->figure;
	double spread = (figure->q3 - figure->q1) / figure->median;
	char size[BENCH_SIZE_TEXT], layout[CELL];

	if (result->variant != BENCH_RAW || !(spread > RAW_SPREAD_MAX))
		return;
	layout_text(layout, result);
	fprintf(file,
		"warning: %s raw, %s%s%s bytes, %s: the middle half of its runs spreads over %.0f "
		"%%.\n",
		result->bench->name, layout, layout[0] ? ", " : "",
		bench_size_text(result->size, size), bench_wait_names[result->waited_as],
		spread * 100);
}

void
bench_report_warnings(const struct bench_report *report, FILE *file)
{
	const struct bench_host *host = report->host;
	const struct bench_results *results = report->results;
	unsigned int all = results->repetitions + results->dropped;

	if (host->steal_percent > STEAL_PERCENT_MAX)
		fprintf(file,
			"warning: the host of this virtual machine took %.1f %% of its CPU time.\n",
			host->steal_percent);
	if (host->others_percent > OTHERS_PERCENT_MAX)
		fprintf(file, "warning: other programs took %.1f %% of the CPU time.\n",
			host->others_percent);
	if (results->dropped > DROPPED_MAX * all)
		fprintf(file,
			"warning: %u of %u repetitions were dropped: the machine changed "
			"meanwhile%s.\n",
			results->dropped, all, results->moved ? ", or a process moved" : "");
	if (results->given_up)
		fprintf(file,
			"warning: %u figures have too few runs; a mixed one has one, disturbed by "
			"a change.\n",
			results->given_up);
	for (unsigned int i = 0; i < results->n; i++)
		warn_of_spread(&results->results[i], file);
}
