/* SPDX-License-Identifier: MIT */

/*
 * The numbers of a result, one row each: what JSON and CSV write, under which name.
 */

#include <math.h>

#include "report.h"

#define FIELD(field, expression)                                     \
	static double get_##field(const struct bench_result *result) \
	{                                                            \
		return expression;                                   \
	}

FIELD(figure, result->figure.median)
FIELD(min, result->figure.min)
FIELD(q1, result->figure.q1)
FIELD(q3, result->figure.q3)
FIELD(max, result->figure.max)
FIELD(workers, result->layout.workers)
FIELD(depth, result->layout.depth)
FIELD(rate, result->rate)
FIELD(achieved, result->achieved)
FIELD(missed, result->missed)
FIELD(burst, result->burst ? (double)result->burst : NAN)
/* Where the p50 is the figure, it is the median of those of the runs. */
FIELD(p50, result->bench->shape == BENCH_FANOUT ? result->p50_ns : result->figure.median)
FIELD(p90, result->p90_ns)
FIELD(p99, result->p99_ns)
FIELD(p999, result->p999_ns)
FIELD(longest, result->max_ns)
FIELD(count, (double)result->count)
FIELD(bytes, result->figure.median *(double)result->size)
FIELD(ratio_to_raw, result->ratios[BENCH_RAW])
FIELD(ratio_to_raw_batch, result->ratios[BENCH_RAW_BATCH])
FIELD(ratio_to_channel, result->ratios[BENCH_CHANNEL])
FIELD(ratio_to_epoll, result->ratios[BENCH_EPOLL])
FIELD(ratio_to_uring, result->ratios[BENCH_URING])
FIELD(syscalls,
	result->syscalls_per_message[BENCH_SENDER] + result->syscalls_per_message[BENCH_RECEIVER])
FIELD(sender_syscalls, result->syscalls_per_message[BENCH_SENDER])
FIELD(receiver_syscalls, result->syscalls_per_message[BENCH_RECEIVER])
FIELD(cpu, result->cpu_ns_per_message[BENCH_SENDER] + result->cpu_ns_per_message[BENCH_RECEIVER])
FIELD(sender_cpu, result->cpu_ns_per_message[BENCH_SENDER])
FIELD(receiver_cpu, result->cpu_ns_per_message[BENCH_RECEIVER])
FIELD(idle, result->idle_cpu_us_per_s)
FIELD(probe, result->probe_ns)
FIELD(packet_size, result->packet_size ? (double)result->packet_size : NAN)

#define THROUGHPUT (1U << BENCH_THROUGHPUT)
#define LATENCY    (1U << BENCH_LATENCY)
#define FANOUT     (1U << BENCH_FANOUT)
#define RATED      (1U << BENCH_RATED)
#define WORKERS    (FANOUT | RATED)
#define TIMED      (LATENCY | WORKERS)
#define ONE_PAIR   (LATENCY | THROUGHPUT)
#define ALL        (ONE_PAIR | WORKERS)

const struct bench_field bench_fields[] = {
	{"workers", get_workers, WORKERS},
	{"depth", get_depth, WORKERS},
	{"requests_per_s", get_figure, FANOUT},
	{"rate_per_s", get_rate, RATED},
	{"achieved_per_s", get_achieved, RATED},
	{"missed_runs", get_missed, RATED},
	{"cpu_ns_per_request", get_sender_cpu, WORKERS},
	{"syscalls_per_request", get_sender_syscalls, WORKERS},
	{"workers_cpu_ns_per_request", get_receiver_cpu, WORKERS},
	{"workers_syscalls_per_request", get_receiver_syscalls, WORKERS},
	{"p50_ns", get_p50, TIMED},
	{"p90_ns", get_p90, TIMED},
	{"p99_ns", get_p99, TIMED},
	{"p999_ns", get_p999, TIMED},
	{"max_ns", get_longest, TIMED},
	{"messages_per_s", get_figure, THROUGHPUT},
	{"bytes_per_s", get_bytes, THROUGHPUT},
	{"count", get_count, ALL},
	{"spread_min", get_min, ALL},
	{"spread_q1", get_q1, ALL},
	{"spread_q3", get_q3, ALL},
	{"spread_max", get_max, ALL},
	{"ratio_to_raw", get_ratio_to_raw, ALL},
	{"ratio_to_raw_batch", get_ratio_to_raw_batch, THROUGHPUT},
	{"ratio_to_channel", get_ratio_to_channel, ONE_PAIR},
	{"ratio_to_epoll", get_ratio_to_epoll, ALL},
	{"ratio_to_uring", get_ratio_to_uring, WORKERS},
	{"syscalls_per_message", get_syscalls, ONE_PAIR},
	{"sender_syscalls_per_message", get_sender_syscalls, ONE_PAIR},
	{"receiver_syscalls_per_message", get_receiver_syscalls, ONE_PAIR},
	{"cpu_ns_per_message", get_cpu, ONE_PAIR},
	{"sender_cpu_ns_per_message", get_sender_cpu, ONE_PAIR},
	{"receiver_cpu_ns_per_message", get_receiver_cpu, ONE_PAIR},
	{"idle_cpu_us_per_s", get_idle, LATENCY},
	{"burst", get_burst, THROUGHPUT},
	{"packet_size", get_packet_size, THROUGHPUT},
	{"probe_ns", get_probe, ALL},
};

const unsigned int bench_n_fields = BENCH_ARRAY_SIZE(bench_fields);

bool
bench_field_applies(const struct bench_field *field, const struct bench_result *result)
{
	return field->shapes & (1U << result->bench->shape);
}
