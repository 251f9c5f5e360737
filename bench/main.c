/* SPDX-License-Identifier: MIT */

/*
 * ipc-bench: libipc beside the bare kernel. The table of cases, and the way from the
 * command line to a report.
 */

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "compare.h"
#include "engines.h"
#include "measure.h"
#include "options.h"
#include "output.h"
#include "peers.h"
#include "raw.h"
#include "report.h"
#include "runner.h"
#include "spawned.h"

#define WARM_MS_PART 5U  /* the warm-up is a fifth of the measured time, but */
#define WARM_MS_MIN  20U /* long enough to fault in the pages and to learn how to wait */

const char *bench_variant_names[BENCH_VARIANTS] = {
	"raw", "raw-batch", "fork", "channel", "epoll", "uring", "pool"};
const char *const bench_wait_names[BENCH_WAITS] = {"spin", "sleep", "learn"};

const struct bench_case *const bench_cases[] = {
	&bench_roundtrip,
	&bench_stream,
	&bench_bulk,
	&bench_fds,
	&bench_fanout,
	&bench_spawn,
	&bench_peers_cases[0],
	&bench_peers_cases[1],
	&bench_peers_cases[2],
};
const unsigned int bench_n_cases = BENCH_ARRAY_SIZE(bench_cases);

/* The whole of what is to be done. */
struct work {
	struct bench_options options;
	struct bench_plan plan;
	size_t packet_max; /* of a raw packet */
	struct bench_block *blocks;
	unsigned int n_blocks;
	struct bench_engine engines[BENCH_ENGINES];
	struct bench_output json, csv;
};

/* For the progress line: runs of earlier blocks, and of all. */
static struct {
	bool is_shown;
	unsigned int before, total;
	uint64_t start_ns;
} progress;

__attribute__((format(printf, 1, 2))) static void
complain(const char *format, ...)
{
	va_list arguments;

	if (progress.is_shown)
		fputs("\r\033[K", stderr);
	fputs("ipc-bench: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

static void
show_progress(const struct bench_config *config, unsigned int done, unsigned int total)
{
	unsigned int all_done = progress.before + (done < total ? done : total);
	uint64_t elapsed_ns = bench_now_ns() - progress.start_ns;
	char size[BENCH_SIZE_TEXT];

	if (!progress.is_shown)
		return;
	fprintf(stderr, "\r\033[K%3u %%  %s %s, %s bytes, %s", all_done * 100 / progress.total,
		config->bench->name, bench_variant_names[config->variant],
		bench_size_text(config->size, size), bench_wait_names[config->wait]);
	if (bench_has_workers(config->bench))
		fprintf(stderr, ", %u workers", config->workers);
	if (all_done)
		fprintf(stderr, ", %llu s left",
			(unsigned long long)(elapsed_ns / all_done * (progress.total - all_done) /
					     1000000000));
	fflush(stderr);
}

static void
list_cases(void)
{
	for (unsigned int i = 0; i < bench_n_cases; i++) {
		const struct bench_case *bench = bench_cases[i];
		char size[BENCH_SIZE_TEXT];

		printf("%-10s %s; variants", bench->name, bench->summary);
		for (int variant = 0; variant < BENCH_VARIANTS; variant++)
			if (bench->sides[variant][BENCH_SENDER])
				printf(" %s", bench_variant_names[variant]);
		printf("; bytes");
		for (unsigned int n = 0; n < BENCH_ARRAY_SIZE(bench->sizes) && bench->sizes[n]; n++)
			printf(" %s", bench_size_text(bench->sizes[n], size));
		putchar('\n');
	}
}

/* Does a case of the same name take it? */
static bool
is_taken_elsewhere(const struct bench_case *bench, size_t size)
{
	for (unsigned int i = 0; i < bench_n_cases; i++)
		if (bench_cases[i] != bench && strcmp(bench_cases[i]->name, bench->name) == 0 &&
			size >= bench_cases[i]->size_min && size <= bench_cases[i]->size_max)
			return true;
	return false;
}

static bool
takes_size(const struct work *work, const struct bench_case *bench, size_t size)
{
	char text[BENCH_SIZE_TEXT], min[BENCH_SIZE_TEXT], max[BENCH_SIZE_TEXT];
	size_t size_max = bench->size_max;

	if (!bench->is_bulk && !bench->is_memory && work->packet_max < size_max)
		size_max = work->packet_max;
	if (bench->sides[BENCH_RAW_BATCH][BENCH_SENDER] && work->plan.common.record_max < size_max)
		size_max = work->plan.common.record_max;
	if (size >= bench->size_min && size <= size_max)
		return true;
	if (is_taken_elsewhere(bench, size))
		return false;
	complain("%s leaves out %s bytes: it takes %s to %s", bench->name,
		bench_size_text(size, text), bench_size_text(bench->size_min, min),
		bench_size_text(size_max, max));
	return false;
}

static bool
takes_wait(const struct work *work, const struct bench_case *bench, enum bench_wait wait)
{
	const unsigned int *cpus = work->options.cpus;

	if (wait != BENCH_SPIN && bench->shape == BENCH_RATED) {
		complain("%s leaves out --wait %s: with --rate the parent spins", bench->name,
			bench_wait_names[wait]);
		return false;
	}
	if (wait != BENCH_SPIN || cpus[BENCH_SENDER] != cpus[BENCH_RECEIVER])
		return true;
	complain("%s leaves out --wait spin: on one CPU each side would spin away the other's time",
		bench->name);
	return false;
}

/* An option that changes what is measured leaves out what it says nothing of. */
static bool
takes_options(const struct bench_options *options, unsigned int i)
{
	const struct bench_case *bench = options->cases[i];
	const char *left_out_by = NULL;

	if (options->burst && !bench->takes_burst)
		left_out_by = "burst";
	if (options->rate && bench->shape != BENCH_RATED)
		left_out_by = "rate";
	/* Once for several cases of one name. */
	if (left_out_by && (!i || strcmp(options->cases[i - 1]->name, bench->name) != 0))
		complain("%s is left out: it takes no --%s", bench->name, left_out_by);
	return !left_out_by;
}

static int
add_block(struct work *work, const struct bench_block *block)
{
	size_t size = (work->n_blocks + 1) * sizeof(*work->blocks);
	struct bench_block *grown = realloc(work->blocks, size);

	if (!grown)
		return -ENOMEM;
	work->blocks = grown;
	work->blocks[work->n_blocks++] = *block;
	progress.total += bench_block_runs(&work->plan, block);
	return 0;
}

static int
add_own_layouts(struct work *work, struct bench_block *block)
{
	const struct bench_case *bench = block->bench;
	int r = 0;

	for (unsigned int i = 0; i < bench->n_layouts && r == 0; i++) {
		block->layout = bench->layouts[i];
		if (block->layout.is_quick || !work->options.quick)
			r = add_block(work, block);
	}
	return r;
}

static int
add_layouts(struct work *work, struct bench_block *block)
{
	const struct bench_options *options = &work->options;
	int r = 0;

	if (!bench_has_workers(block->bench)) {
		block->layout = (struct bench_layout){.workers = 1, .depth = 1};
		return add_block(work, block);
	}
	if (!options->n_workers)
		return add_own_layouts(work, block);
	for (unsigned int w = 0; w < options->n_workers; w++) {
		for (unsigned int d = 0; d < options->n_depths && r == 0; d++) {
			block->layout = (struct bench_layout){
				.workers = options->workers[w],
				.depth = options->depths[d],
			};
			r = add_block(work, block);
		}
	}
	return r;
}

static int
add_blocks(struct work *work, const struct bench_case *bench, enum bench_wait wait)
{
	const struct bench_options *options = &work->options;
	const size_t *sizes = options->n_sizes ? options->sizes : bench->sizes;
	unsigned int n = options->n_sizes ? options->n_sizes : BENCH_ARRAY_SIZE(bench->sizes);
	int r = 0;

	/* The rest takes its time, and more memory than some have. */
	if (bench->is_memory && options->quick && !options->n_sizes)
		n = 1;
	for (unsigned int i = 0; i < n && sizes[i] && r == 0; i++) {
		struct bench_block block = {.bench = bench, .size = sizes[i], .wait = wait};

		if (takes_size(work, bench, sizes[i]))
			r = add_layouts(work, &block);
	}
	return r;
}

/* Return: whether what --engine asks for can be measured. */
static bool
plan_engines(struct work *work)
{
	const struct bench_options *options = &work->options;
	bool can = true;

	bench_engines_find(work->engines);
	for (unsigned int i = 0; i < BENCH_ENGINES; i++) {
		const struct bench_engine *engine = &work->engines[i];
		bool is_wanted = !options->has_engine || options->engine == engine->variant;

		/* A loop flushes at the end of its turn, and not before. */
		work->plan.left_out[engine->variant] =
			!is_wanted || !engine->is_there || options->burst;
		if (!options->has_engine || !is_wanted || engine->is_there)
			continue;
		complain("there is no engine %s: %s", bench_variant_names[engine->variant],
			engine->reason);
		can = false;
	}
	return can;
}

/* Tell of an engine that is missing, if it is missed. */
static void
tell_of_engine(const struct work *work, const struct bench_engine *engine)
{
	if (engine->is_there || work->options.has_engine)
		return;
	for (unsigned int i = 0; i < work->options.n_cases; i++) {
		if (!work->options.cases[i]->sides[engine->variant][BENCH_SENDER])
			continue;
		complain("leaves out %s: %s", bench_variant_names[engine->variant], engine->reason);
		return;
	}
}

static int
plan_blocks(struct work *work)
{
	const struct bench_options *options = &work->options;

	for (unsigned int i = 0; i < options->n_cases; i++) {
		const struct bench_case *bench = options->cases[i];

		if (!takes_options(options, i))
			continue;
		for (unsigned int n = 0; n < (options->has_wait ? 1 : bench->n_waits); n++) {
			enum bench_wait wait = options->has_wait ? options->wait : bench->waits[n];
			int r;

			if (!takes_wait(work, bench, wait))
				continue;
			r = add_blocks(work, bench, wait);
			if (r < 0) {
				complain("%s", strerror(-r));
				return EXIT_FAILURE;
			}
		}
	}
	/* What was left out, and why, was told. */
	return work->n_blocks ? EXIT_SUCCESS : BENCH_EXIT_USAGE;
}

static int
plan_work(struct work *work)
{
	const struct bench_options *options = &work->options;
	unsigned int warm_ms = options->time_ms / WARM_MS_PART;
	int r = bench_raw_packet_max(options->send_buffer, &work->packet_max);

	if (r < 0) {
		complain("socketpair: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	work->plan = (struct bench_plan){
		.common =
			{
				.record_max = options->record_max < work->packet_max
	                                              ? options->record_max
	                                              : work->packet_max,
				.send_buffer = options->send_buffer,
				.burst = options->burst,
				.rate = options->rate,
				.warm_ns = (uint64_t)1000000 *
	                                   (warm_ms > WARM_MS_MIN ? warm_ms : WARM_MS_MIN),
				.time_ns = (uint64_t)1000000 * options->time_ms,
				.cpus = {options->cpus[0], options->cpus[1]},
				.pool_engine = options->has_engine
	                                               ? bench_engine_of(options->engine)
	                                               : IPC_ENGINE_AUTO,
			},
		.repeat = options->repeat,
		.progress = show_progress,
	};

	return plan_engines(work) ? plan_blocks(work) : EXIT_FAILURE;
}

static int
open_output(struct bench_output *output, const char *path)
{
	int r = bench_output_open(output, path);

	if (r == 0)
		return EXIT_SUCCESS;
	complain("cannot write %s: %s", path, strerror(-r));
	return EXIT_FAILURE;
}

static int
write_output(struct bench_output *output, const struct bench_report *report,
	int (*write)(const struct bench_report *report, FILE *file))
{
	int r, end;

	if (!output->path)
		return EXIT_SUCCESS;
	r = bench_output_begin(output);
	if (r == 0)
		r = write(report, output->file);
	end = bench_output_end(output);
	/* The file knows best why it could not be written. */
	if (end < 0)
		r = end;
	if (r == 0)
		return EXIT_SUCCESS;
	complain("cannot write %s: %s", output->path, strerror(-r));
	return EXIT_FAILURE;
}

/* End as the signal would have ended this program, after one line. */
static int
die_of(int signal_number)
{
	complain("ended by %s; no process is left", strsignal(signal_number));
	signal(signal_number, SIG_DFL);
	raise(signal_number);
	return 128 + signal_number;
}

/* Return: 0; the number of a signal; or -errno, told. */
static int
measure(struct work *work, struct bench_results *results)
{
	char error[BENCH_ERROR_SIZE];
	int r = 0, came;

	progress.start_ns = bench_now_ns();
	bench_runner_begin();
	for (unsigned int i = 0; i < work->n_blocks && r == 0; i++) {
		const struct bench_block *block = &work->blocks[i];

		r = bench_measure_block(results, &work->plan, block, error);
		progress.before += bench_block_runs(&work->plan, block);
		if (r < 0)
			complain("%s, %zu bytes, %s: %s", block->bench->name, block->size,
				bench_wait_names[block->wait], error);
	}
	came = bench_runner_end();
	if (progress.is_shown)
		fputs("\r\033[K", stderr);
	return r == 0 ? came : r;
}

static int
report_all(struct work *work, const struct bench_report *report)
{
	int status = EXIT_SUCCESS;

	bench_report_table(report, stdout);
	bench_report_warnings(report, stdout);
	if (fflush(stdout) != 0) {
		complain("cannot write the table: %s", strerror(errno));
		status = EXIT_FAILURE;
	}
	if (write_output(&work->json, report, bench_report_json) != EXIT_SUCCESS)
		status = EXIT_FAILURE;
	if (write_output(&work->csv, report, bench_report_csv) != EXIT_SUCCESS)
		status = EXIT_FAILURE;
	return status;
}

static int
work_through(struct work *work)
{
	struct bench_results results = {0};
	struct bench_host host;
	struct bench_report report = {&host, &work->options, &results, work->engines};
	int r, status;

	for (unsigned int i = 0; i < BENCH_ENGINES; i++)
		tell_of_engine(work, &work->engines[i]);
	bench_host_begin(&host, work->options.cpus[BENCH_SENDER]);
	r = measure(work, &results);
	bench_host_end(&host);

	if (r == 0) {
		status = report_all(work, &report);
	} else {
		bench_output_abandon(&work->json);
		bench_output_abandon(&work->csv);
		status = r > 0 ? die_of(r) : EXIT_FAILURE;
	}
	free(results.results);
	free(work->blocks);
	return status;
}

static bool
has_peers(const struct bench_options *options)
{
	for (unsigned int i = 0; i < options->n_cases; i++)
		if (options->cases[i]->has_peers)
			return true;
	return false;
}

static void
exchange_rated(struct bench_options *options)
{
	for (unsigned int i = 0; options->rate && i < options->n_cases; i++)
		if (options->cases[i]->rated)
			options->cases[i] = options->cases[i]->rated;
}

int
main(int argc, char *argv[])
{
	static struct work work;
	int status;

	if (argc == 2 && strncmp(argv[1], BENCH_SPAWNED, strlen(BENCH_SPAWNED)) == 0)
		return bench_spawned_main(argv[1]);
	if (argc > 1 && strcmp(argv[1], BENCH_COMPARE) == 0)
		return bench_compare_main(argc - 1, argv + 1);
	bench_options_parse(argc, argv, &work.options);
	exchange_rated(&work.options);
	if (work.options.list || has_peers(&work.options))
		bench_peers_load();
	if (work.options.list) {
		list_cases();
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}

	progress.is_shown = isatty(STDERR_FILENO);
	status = plan_work(&work);
	if (status == EXIT_SUCCESS)
		status = open_output(&work.json, work.options.json);
	if (status == EXIT_SUCCESS) {
		status = open_output(&work.csv, work.options.csv);
		if (status != EXIT_SUCCESS)
			bench_output_abandon(&work.json);
	}
	if (status != EXIT_SUCCESS)
		return status;
	return work_through(&work);
}
