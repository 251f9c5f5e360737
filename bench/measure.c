/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../libipc/histogram.h"
#include "measure.h"
#include "peers.h"
#include "runner.h"

/* How often a run of peers is made before it counts as mixed. */
#define STEADY_ATTEMPTS_MAX 3U

/* Of the rate that was asked for; a run with less has missed it. */
#define RATE_MIN 0.99

/* One run of one variant, in short. */
struct sample {
	enum bench_distance distance;
	double figure;
	double rate; /* a second */
	double syscalls[BENCH_ROLES];
	double cpu_ns[BENCH_ROLES];
	double idle_cpu_us;
	double probe_ns;
	uint64_t count;
};

/* One repetition that counts. */
struct repetition {
	struct sample samples[BENCH_VARIANTS];
};

struct measurement {
	const struct bench_plan *plan;
	const struct bench_block *block;
	struct bench_config config;
	struct bench_run *runs[BENCH_VARIANTS]; /* of the repetition at hand */
	struct repetition *repetitions;
	unsigned int n_repetitions;
	struct ipci_histogram (*histograms)[BENCH_DISTANCES]; /* of each variant */
	unsigned int runs_done;
	char reasons[BENCH_VARIANTS][BENCH_REASON_SIZE]; /* of peers that are left out */
	char *error;
};

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The value below which a part of n sorted ones lies, between the two nearest. */
static double
quantile(const double *sorted, unsigned int n, double part)
{
	double at = part * (n - 1);
	unsigned int below = (unsigned int)at;
	unsigned int above = below + 1 < n ? below + 1 : below;

	return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

static struct bench_spread
spread_of(double *values, unsigned int n)
{
	if (!n)
		return (struct bench_spread){NAN, NAN, NAN, NAN, NAN};
	qsort(values, n, sizeof(*values), compare_doubles);
	return (struct bench_spread){
		.median = quantile(values, n, 0.5),
		.min = values[0],
		.q1 = quantile(values, n, 0.25),
		.q3 = quantile(values, n, 0.75),
		.max = values[n - 1],
	};
}

/* What waits as libipc does, or as it is told where it cannot learn. */
static enum bench_wait
wait_of(const struct bench_plan *plan, const struct bench_block *block, int variant)
{
	const unsigned int *cpus = plan->common.cpus;

	if (bench_is_libipc((enum bench_variant)variant) || block->wait != BENCH_LEARN)
		return block->wait;
	return cpus[0] == cpus[1] ? BENCH_SLEEP : block->bench->raw_beside_learn;
}

static bool
has_variant(const struct bench_plan *plan, const struct bench_block *block, int variant)
{
	return block->bench->sides[variant][BENCH_SENDER] != NULL && !plan->left_out[variant] &&
	       bench_peer_waits((enum bench_variant)variant, wait_of(plan, block, variant));
}

unsigned int
bench_block_runs(const struct bench_plan *plan, const struct bench_block *block)
{
	unsigned int variants = 0;

	for (int i = 0; i < BENCH_VARIANTS; i++)
		variants += has_variant(plan, block, i);
	return variants * plan->repeat;
}

/* Everything sent was received, and every receiver has read what it should. */
static int
verify(const struct measurement *m, const struct bench_run *run)
{
	const struct bench_account *sender = &run->accounts[BENCH_SENDER];
	const struct bench_account *receiver = &run->accounts[BENCH_RECEIVER];
	size_t size = m->config.size;
	uint64_t words =
		m->block->bench->is_bulk ? (size + BENCH_PAGE_SIZE - 1) / BENCH_PAGE_SIZE : 1;
	uint64_t sum = sender->messages * words * BENCH_WORD;
	bool is_answered = m->block->bench->shape != BENCH_THROUGHPUT;

	if (sender->messages != receiver->messages) {
		snprintf(m->error, BENCH_ERROR_SIZE, "%llu messages were sent and %llu received",
			(unsigned long long)sender->messages,
			(unsigned long long)receiver->messages);
		return -EIO;
	}
	if (receiver->sum != sum || (is_answered && sender->sum != sum)) {
		snprintf(m->error, BENCH_ERROR_SIZE, "what was received is not what was sent");
		return -EIO;
	}
	return 0;
}

/* Is its figure that of a time, and less is better? */
static bool
is_of_time(const struct bench_case *bench)
{
	return bench->shape == BENCH_LATENCY || bench->shape == BENCH_RATED;
}

/* What an idle channel costs takes a second to see: once is enough. */
static bool
measures_idle(const struct measurement *m, int variant)
{
	return m->n_repetitions == 0 && variant == BENCH_CHANNEL &&
	       m->block->bench->shape == BENCH_LATENCY && m->block->wait == BENCH_LEARN;
}

static struct sample
sample_of(const struct measurement *m, int variant, enum bench_distance distance)
{
	const struct bench_run *run = m->runs[variant];
	const struct bench_window *window = &run->window;
	double count = (double)(window->end_count - window->start_count);
	struct sample sample = {
		.distance = distance,
		.figure = NAN,
		.idle_cpu_us = measures_idle(m, variant) ? (double)run->idle_cpu_us : NAN,
		.probe_ns = run->distances[0] == BENCH_ONE_CPU
	                            ? NAN
	                            : (double)(run->probes_ns[0] + run->probes_ns[1]) / 2,
		.count = window->end_count - window->start_count,
	};
	uint64_t p50;

	for (int role = 0; role < BENCH_ROLES; role++) {
		sample.syscalls[role] =
			(double)run->accounts[role].syscalls / (double)run->accounts[role].messages;
		/* A library's calls are its own. */
		if (variant >= BENCH_PEER && sample.syscalls[role] == 0)
			sample.syscalls[role] = NAN;
		sample.cpu_ns[role] =
			(double)(window->end_cpu_ns[role] - window->start_cpu_ns[role]) / count;
	}
	sample.rate = count * 1e9 / (double)(window->end_ns - window->start_ns);
	if (!is_of_time(m->block->bench))
		sample.figure = sample.rate;
	else if (ipci_histogram_percentile(&run->histogram, 500, &p50))
		sample.figure = (double)p50;
	return sample;
}

static int
run_variant(struct measurement *m, int variant)
{
	const struct bench_plan *plan = m->plan;
	struct bench_run *run = m->runs[variant];
	int r;

	m->config.variant = (enum bench_variant)variant;
	m->config.measures_idle = measures_idle(m, variant);
	if (plan->progress)
		plan->progress(&m->config, m->runs_done, bench_block_runs(plan, m->block));

	r = bench_run_once(run, &m->config);
	m->runs_done++;
	if (r < 0)
		snprintf(m->error, BENCH_ERROR_SIZE, "%s: %.200s", bench_variant_names[variant],
			run->error);
	return r == 0 ? verify(m, run) : r;
}

/* Is everything of the repetition at hand from one and the same machine? */
static bool
agrees(const struct measurement *m, struct bench_results *results)
{
	enum bench_distance distance = m->runs[BENCH_RAW]->distances[0];

	for (int i = 0; i < BENCH_VARIANTS; i++) {
		if (!m->runs[i])
			continue;
		if (m->runs[i]->moved) {
			results->moved++;
			return false;
		}
		if (m->runs[i]->distances[0] != distance || m->runs[i]->distances[1] != distance)
			return false;
	}
	return true;
}

static void
accept_run(struct measurement *m, int variant, enum bench_distance distance)
{
	m->repetitions[m->n_repetitions].samples[variant] = sample_of(m, variant, distance);
	ipci_histogram_merge(&m->histograms[variant][distance], &m->runs[variant]->histogram);
}

static void
accept_runs(struct measurement *m, enum bench_distance distance)
{
	for (int i = 0; i < BENCH_VARIANTS; i++)
		if (m->runs[i])
			accept_run(m, i, distance);
	m->n_repetitions++;
}

static void
leave_out(struct measurement *m, int variant, const char *reason)
{
	snprintf(
		m->reasons[variant], BENCH_REASON_SIZE, "%.*s", (int)BENCH_REASON_SIZE - 1, reason);
	m->runs[variant] = bench_run_free(m->runs[variant]);
}

/* Where there are many variants each run stands for itself, and is repeated by itself. */
static int
run_until_steady(struct measurement *m, int variant, struct bench_results *results)
{
	for (unsigned int i = 0; i < STEADY_ATTEMPTS_MAX; i++) {
		int r = run_variant(m, variant);
		const struct bench_run *run = m->runs[variant];

		/* A peer that fails is no reason to do without the others. */
		if (r < 0 && variant >= BENCH_PEER) {
			leave_out(m, variant, m->error);
			m->error[0] = '\0';
			return 0;
		}
		if (r != 0)
			return r;
		if (!run->moved && run->distances[0] == run->distances[1]) {
			accept_run(m, variant, run->distances[0]);
			results->repetitions++;
			return 0;
		}
		results->dropped++;
		results->moved += run->moved != 0;
	}
	accept_run(m, variant, BENCH_MIXED);
	return 0;
}

/* Each variant once; every other time in the opposite order. */
static int
repeat_once(struct measurement *m, struct bench_results *results)
{
	bool backwards = m->n_repetitions % 2, has_peers = m->block->bench->has_peers;

	for (int i = 0; i < BENCH_VARIANTS; i++) {
		int variant = backwards ? BENCH_VARIANTS - 1 - i : i, r;

		if (!m->runs[variant])
			continue;
		r = has_peers ? run_until_steady(m, variant, results) : run_variant(m, variant);
		if (r != 0)
			return r;
	}

	if (has_peers) {
		m->n_repetitions++;
	} else if (agrees(m, results)) {
		accept_runs(m, m->runs[BENCH_RAW]->distances[0]);
		results->repetitions++;
	} else {
		results->dropped++;
	}
	return 0;
}

static int
repeat_all(struct measurement *m, struct bench_results *results)
{
	/* A machine that changes all the time is not waited for: half as long again, at most. */
	unsigned int attempts_max = m->plan->repeat + m->plan->repeat / 2;

	for (unsigned int i = 0; i < attempts_max && m->n_repetitions < m->plan->repeat; i++) {
		int r = repeat_once(m, results);

		if (r != 0)
			return r;
	}
	if (m->n_repetitions < m->plan->repeat)
		results->given_up++;
	/* Better the last one, under a name that says so, than no figure at all. */
	if (m->n_repetitions == 0)
		accept_runs(m, BENCH_MIXED);
	return 0;
}

/* The median over the group of what pick() says of each of its repetitions; NAN is left out. */
static struct bench_spread
over_group(const struct measurement *m, enum bench_distance distance, int variant,
	double (*pick)(const struct repetition *repetition, int variant))
{
	double *values = calloc(m->n_repetitions, sizeof(*values));
	struct bench_spread spread;
	unsigned int n = 0;

	for (unsigned int i = 0; values && i < m->n_repetitions; i++) {
		double value;

		if (m->repetitions[i].samples[variant].distance != distance)
			continue;
		value = pick(&m->repetitions[i], variant);
		if (!isnan(value))
			values[n++] = value;
	}
	spread = spread_of(values, n);
	free(values);
	return spread;
}

static double
pick_figure(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].figure;
}

static double
pick_rate(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].rate;
}

static double
pick_sender_syscalls(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].syscalls[BENCH_SENDER];
}

static double
pick_receiver_syscalls(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].syscalls[BENCH_RECEIVER];
}

static double
pick_sender_cpu(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].cpu_ns[BENCH_SENDER];
}

static double
pick_receiver_cpu(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].cpu_ns[BENCH_RECEIVER];
}

static double
pick_idle(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].idle_cpu_us;
}

static double
pick_probe(const struct repetition *repetition, int variant)
{
	return repetition->samples[variant].probe_ns;
}

static double
percentile(const struct ipci_histogram *histogram, unsigned int per_mille)
{
	uint64_t value;

	return ipci_histogram_percentile(histogram, per_mille, &value) ? (double)value : NAN;
}

static void
fill_tail(struct bench_tail tail[BENCH_TAIL], const struct ipci_histogram *histogram)
{
	static const uint64_t steps[] = {1, 2, 5};
	uint64_t decade = 1, value;

	for (unsigned int i = 0; i < BENCH_TAIL; i++) {
		tail[i].one_in = decade * steps[i % BENCH_ARRAY_SIZE(steps)];
		tail[i].ns = ipci_histogram_one_in(histogram, tail[i].one_in, &value)
		                     ? (double)value
		                     : NAN;
		if (i % BENCH_ARRAY_SIZE(steps) == BENCH_ARRAY_SIZE(steps) - 1)
			decade *= 10;
	}
}

static size_t
packet_size(const struct measurement *m, int variant)
{
	if (variant == BENCH_RAW_BATCH)
		return m->config.record_max;
	return variant == BENCH_RAW ? m->config.fragment_size : 0;
}

/* Each run beside its own run of the other variant, if that comes before it. */
static double
ratio_to(const struct measurement *m, enum bench_distance distance, int variant, int other)
{
	double *values = calloc(m->n_repetitions, sizeof(*values)), ratio;
	unsigned int n = 0;

	for (unsigned int i = 0; values && other < variant && i < m->n_repetitions; i++) {
		const struct sample *samples = m->repetitions[i].samples;

		if (!m->runs[other] || samples[variant].distance != distance ||
			samples[other].distance != distance)
			continue;
		ratio = samples[variant].figure / samples[other].figure;
		if (!isnan(ratio))
			values[n++] = ratio;
	}
	ratio = spread_of(values, n).median;
	free(values);
	return ratio;
}

/* Repetitions of a rated case that did not keep up. One request more or less is none. */
static unsigned int
missed(const struct measurement *m, enum bench_distance distance, int variant)
{
	double asked = m->config.rate, one = 1e9 / (double)m->config.time_ns;
	unsigned int n = 0;

	for (unsigned int i = 0; i < m->n_repetitions; i++) {
		const struct sample *sample = &m->repetitions[i].samples[variant];

		if (sample->distance == distance)
			n += !(sample->rate + one >= asked * RATE_MIN);
	}
	return n;
}

static struct bench_result
result_of(const struct measurement *m, int variant, enum bench_distance distance)
{
	const struct ipci_histogram *histogram = &m->histograms[variant][distance];
	bool is_timed = m->block->bench->shape != BENCH_THROUGHPUT;
	struct bench_result result = {
		.bench = m->block->bench,
		.variant = (enum bench_variant)variant,
		.size = m->block->size,
		.layout = m->block->layout,
		.burst = m->config.burst,
		.rate = m->config.rate,
		.achieved = over_group(m, distance, variant, pick_rate).median,
		.missed = missed(m, distance, variant),
		.wait = m->block->wait,
		.waited_as = wait_of(m->plan, m->block, variant),
		.distance = distance,
		.figure = over_group(m, distance, variant, pick_figure),
		.p50_ns = is_timed ? percentile(histogram, 500) : NAN,
		.p90_ns = is_timed ? percentile(histogram, 900) : NAN,
		.p99_ns = is_timed ? percentile(histogram, 990) : NAN,
		.p999_ns = is_timed ? percentile(histogram, 999) : NAN,
		.max_ns = is_timed && histogram->count ? (double)histogram->max : NAN,
		.syscalls_per_message =
			{
				over_group(m, distance, variant, pick_sender_syscalls).median,
				over_group(m, distance, variant, pick_receiver_syscalls).median,
			},
		.cpu_ns_per_message =
			{
				over_group(m, distance, variant, pick_sender_cpu).median,
				over_group(m, distance, variant, pick_receiver_cpu).median,
			},
		.idle_cpu_us_per_s = over_group(m, distance, variant, pick_idle).median,
		.probe_ns = over_group(m, distance, variant, pick_probe).median,
		.packet_size = packet_size(m, variant),
	};

	fill_tail(result.tail, histogram);
	/* A pool's workers are none of the run's processes. */
	if (variant == BENCH_POOL)
		result.syscalls_per_message[BENCH_RECEIVER] =
			result.cpu_ns_per_message[BENCH_RECEIVER] = NAN;
	for (int other = 0; other < BENCH_VARIANTS; other++)
		result.ratios[other] = ratio_to(m, distance, variant, other);
	for (unsigned int i = 0; i < m->n_repetitions; i++) {
		const struct sample *sample = &m->repetitions[i].samples[variant];

		if (sample->distance != distance)
			continue;
		result.repetitions++;
		result.count += sample->count;
	}
	return result;
}

/* A row that says why there is no figure, beside those of raw. */
static struct bench_result
result_without(const struct measurement *m, int variant)
{
	struct bench_result result = {
		.bench = m->block->bench,
		.variant = (enum bench_variant)variant,
		.size = m->block->size,
		.layout = m->block->layout,
		.wait = m->block->wait,
		.waited_as = wait_of(m->plan, m->block, variant),
		.distance = m->repetitions[0].samples[BENCH_RAW].distance,
		.figure = spread_of(NULL, 0),
		.p50_ns = NAN,
		.p90_ns = NAN,
		.p99_ns = NAN,
		.p999_ns = NAN,
		.max_ns = NAN,
		.syscalls_per_message = {NAN, NAN},
		.cpu_ns_per_message = {NAN, NAN},
		.idle_cpu_us_per_s = NAN,
		.probe_ns = NAN,
	};

	for (int other = 0; other < BENCH_VARIANTS; other++)
		result.ratios[other] = NAN;
	memcpy(result.reason, m->reasons[variant], sizeof(result.reason));
	return result;
}

static int
conclude(const struct measurement *m, struct bench_results *results)
{
	unsigned int n_max = results->n + (BENCH_DISTANCES + 1) * BENCH_VARIANTS;
	struct bench_result *grown = realloc(results->results, n_max * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	results->results = grown;
	for (int distance = 0; distance < BENCH_DISTANCES; distance++) {
		for (int variant = 0; variant < BENCH_VARIANTS; variant++) {
			struct bench_result result;

			if (!m->runs[variant])
				continue;
			result = result_of(m, variant, (enum bench_distance)distance);
			if (result.repetitions)
				results->results[results->n++] = result;
		}
	}
	for (int variant = 0; variant < BENCH_VARIANTS; variant++)
		if (m->reasons[variant][0])
			results->results[results->n++] = result_without(m, variant);
	return 0;
}

static int
allocate(struct measurement *m)
{
	m->repetitions = calloc(m->plan->repeat, sizeof(*m->repetitions));
	m->histograms = calloc(BENCH_VARIANTS, sizeof(*m->histograms));
	if (!m->repetitions || !m->histograms)
		return -ENOMEM;
	for (int i = 0; i < BENCH_VARIANTS; i++) {
		const char *refusal;

		if (!has_variant(m->plan, m->block, i))
			continue;
		refusal = bench_peer_refuses((enum bench_variant)i, &m->config);
		if (refusal) {
			leave_out(m, i, refusal);
			continue;
		}
		m->runs[i] = bench_run_new();
		if (!m->runs[i])
			return -ENOMEM;
	}
	return 0;
}

int
bench_measure_block(struct bench_results *results, const struct bench_plan *plan,
	const struct bench_block *block, char *ret_error)
{
	struct measurement m = {
		.plan = plan,
		.block = block,
		.config = plan->common,
		.error = ret_error,
	};
	int r;

	m.config.bench = block->bench;
	m.config.size = block->size;
	m.config.wait = block->wait;
	m.config.workers = block->layout.workers;
	m.config.depth = block->layout.depth;
	ret_error[0] = '\0';

	r = allocate(&m);
	if (r == 0 && block->bench->prepare)
		r = block->bench->prepare(&m.config);
	if (r == 0)
		r = repeat_all(&m, results);
	if (r == 0)
		r = conclude(&m, results);
	if (r < 0 && !ret_error[0])
		snprintf(ret_error, BENCH_ERROR_SIZE, "%s", strerror(-r));

	for (int i = 0; i < BENCH_VARIANTS; i++)
		bench_run_free(m.runs[i]);
	free(m.histograms);
	free(m.repetitions);
	return r;
}
