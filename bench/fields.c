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
FIELD(p90, result->p90_ns)
FIELD(p99, result->p99_ns)
FIELD(p999, result->p999_ns)
FIELD(longest, result->max_ns)
FIELD(count, (double)result->count)
FIELD(bytes, result->figure.median *(double)result->size)
FIELD(ratio_to_raw, result->ratio_to_raw)
FIELD(ratio_to_raw_batch, result->ratio_to_raw_batch)
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

const struct bench_field bench_fields[] = {
	{"p50_ns", get_figure, true, false},
	{"p90_ns", get_p90, true, false},
	{"p99_ns", get_p99, true, false},
	{"p999_ns", get_p999, true, false},
	{"max_ns", get_longest, true, false},
	{"messages_per_s", get_figure, false, true},
	{"bytes_per_s", get_bytes, false, true},
	{"count", get_count, true, true},
	{"spread_min", get_min, true, true},
	{"spread_q1", get_q1, true, true},
	{"spread_q3", get_q3, true, true},
	{"spread_max", get_max, true, true},
	{"ratio_to_raw", get_ratio_to_raw, true, true},
	{"ratio_to_raw_batch", get_ratio_to_raw_batch, false, true},
	{"syscalls_per_message", get_syscalls, true, true},
	{"sender_syscalls_per_message", get_sender_syscalls, true, true},
	{"receiver_syscalls_per_message", get_receiver_syscalls, true, true},
	{"cpu_ns_per_message", get_cpu, true, true},
	{"sender_cpu_ns_per_message", get_sender_cpu, true, true},
	{"receiver_cpu_ns_per_message", get_receiver_cpu, true, true},
	{"idle_cpu_us_per_s", get_idle, true, false},
	{"packet_size", get_packet_size, false, true},
	{"probe_ns", get_probe, true, true},
};

const unsigned int bench_n_fields = BENCH_ARRAY_SIZE(bench_fields);
