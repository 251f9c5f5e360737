/* SPDX-License-Identifier: MIT */

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libipc/pool.h>

#include "measure.h"
#include "options.h"

#define REPEAT        11U
#define REPEAT_QUICK  5U
#define TIME_MS       500U
#define TIME_MS_QUICK 200U
#define TIME_MS_MAX   60000U

#define SIZE_LIMIT (1U << 30)

enum {
	OPTION_QUICK = 0x100,
	OPTION_JSON,
	OPTION_CSV,
	OPTION_SIZE,
	OPTION_WORKERS,
	OPTION_DEPTH,
	OPTION_BURST,
	OPTION_RATE,
	OPTION_REPEAT,
	OPTION_CPUS,
	OPTION_WAIT,
	OPTION_ENGINE,
	OPTION_LIST,
	OPTION_RECORD,
	OPTION_SNDBUF,
	OPTION_TIME,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct argp_option options_known[] = {
	{.name = "quick", .key = OPTION_QUICK, .doc = "Everything in about a minute"},
	{.name = "json",
		.key = OPTION_JSON,
		.arg = "FILE",
		.doc = "Write the results as JSON, too"},
	{.name = "csv", .key = OPTION_CSV, .arg = "FILE", .doc = "Write the results as CSV, too"},
	{.name = "size",
		.key = OPTION_SIZE,
		.arg = "LIST",
		.doc = "Payload bytes, such as 64,1K,1M; a case leaves out those that it cannot "
		       "take"},
	{.name = "workers",
		.key = OPTION_WORKERS,
		.arg = "LIST",
		.doc = "Worker processes of fanout (default 1,4,16,64)"},
	{.name = "depth",
		.key = OPTION_DEPTH,
		.arg = "LIST",
		.doc = "Requests outstanding at each worker of fanout (default 1,16)"},
	{.name = "burst",
		.key = OPTION_BURST,
		.arg = "N",
		.doc = "stream alone: flush after each N messages (default: as packets fill); "
		       "a loop does not"},
	{.name = "rate",
		.key = OPTION_RATE,
		.arg = "N",
		.doc = "fanout alone: N requests a second to all workers, each sent when it is "
		       "due and timed from then on, whatever comes back; the parent spins"},
	{.name = "repeat",
		.key = OPTION_REPEAT,
		.arg = "N",
		.doc = "Runs in fresh processes for each figure (default 11; 5 with --quick)"},
	{.name = "cpus",
		.key = OPTION_CPUS,
		.arg = "P,C",
		.doc = "CPUs of the parent, which sends, and of the child or children (default: "
		       "the "
		       "first two that this process may use)"},
	{.name = "wait",
		.key = OPTION_WAIT,
		.arg = "spin|sleep|learn",
		.doc = "How a receiver waits (default: roundtrip all three, the others learn)"},
	{.name = "engine",
		.key = OPTION_ENGINE,
		.arg = "uring|epoll",
		.doc = "Leave out loops on the other engine (default: both)"},
	{.name = "list", .key = OPTION_LIST, .doc = "List the cases and leave"},
	{.name = "record",
		.key = OPTION_RECORD,
		.arg = "BYTES",
		.doc = "Size of a packet of the channel and of raw-batch (default 128K)"},
	{.name = "sndbuf",
		.key = OPTION_SNDBUF,
		.arg = "BYTES",
		.doc = "SO_SNDBUF of every variant (default: the system's)"},
	{.name = "time",
		.key = OPTION_TIME,
		.arg = "MS",
		.doc = "Measured milliseconds of each run (default 500; 200 with --quick)"},
	{.name = "help", .key = OPTION_HELP, .doc = "Print this and leave", .group = -1},
	{.name = "version", .key = OPTION_VERSION, .doc = "Print it and leave", .group = -1},
	{0},
};

static const char before[] =
	"Measure libipc beside the bare kernel, in the same run and on the same machine."
	"\v"
	"CASES (default: all but peers)\n"
	"  roundtrip  one message there and one back, each trip timed; never halved\n"
	"  stream     small messages one way, as many as go through\n"
	"  bulk       large messages one way, every page of them read\n"
	"  fds        messages with one file descriptor each\n"
	"  fanout     requests to K workers, D outstanding at each; system calls,\n"
	"             CPU time and latency are those of the parent\n"
	"  spawn      from the start of a worker to its first answer; the size is that\n"
	"             of memory which the parent has touched (1G: not with --quick)\n"
	"  peers      round trips and messages one way through what else there is:\n"
	"             what --list names; bench/peers/setup installs more of them\n"
	"\n"
	"VARIANTS that each case runs in turn\n"
	"  raw        system calls by hand: one packet a message (bulk: packets of\n"
	"             the size that libipc cuts, straight into place; fanout: the\n"
	"             parent polls with epoll)\n"
	"  raw-batch  packets filled by hand, with memcpy, to the channel's record\n"
	"             size: what batching could give if it cost nothing\n"
	"  fork       spawn: fork and execve, where raw is posix_spawn\n"
	"  channel    libipc, by direct calls\n"
	"  epoll      libipc, in a loop with the epoll engine (stream: both sides;\n"
	"             else the parent, and direct channels answer it)\n"
	"  uring      the same with the io_uring engine\n"
	"  pool       fanout: a pool, which chooses who gets which request\n"
	"\n"
	"Every run is fresh processes, each on its CPU, all workers of fanout on the child's; "
	"between two short probes that tell "
	"whether the CPUs are near (share a cache) or far. Runs are compared within one of the "
	"two only; a run during which it changed is dropped and repeated. Figures are medians over "
	"the runs, with their spread; a percentile that too few samples support is left blank.\n"
	"\n"
	"WAITS: spin asks the kernel again and again (fast, takes a CPU); sleep blocks; learn is "
	"libipc's default: it spins while that pays. Raw variants cannot learn: beside learn they "
	"spin in roundtrip and block in the other cases. Workers of fanout always sleep.\n"
	"\n"
	"EXAMPLES\n"
	"  ipc-bench --quick\n"
	"  ipc-bench --wait spin --size 64,1K,8K roundtrip\n"
	"  ipc-bench --workers 16 --depth 1,4,16 --engine uring fanout\n"
	"  ipc-bench --rate 200000 --workers 4,16 fanout\n"
	"  ipc-bench --record 64K --sndbuf 1M --json stream.json stream\n"
	"  ipc-bench compare --fail-above 10% before.json after.json\n";

__attribute__((noreturn, format(printf, 1, 2))) static void
refuse(const char *format, ...)
{
	va_list arguments;

	fputs("ipc-bench: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(BENCH_EXIT_USAGE);
}

const char *
bench_size_text(size_t size, char text[BENCH_SIZE_TEXT])
{
	if (size && size % (1U << 20) == 0)
		snprintf(text, BENCH_SIZE_TEXT, "%zuM", size >> 20);
	else if (size && size % (1U << 10) == 0)
		snprintf(text, BENCH_SIZE_TEXT, "%zuK", size >> 10);
	else
		snprintf(text, BENCH_SIZE_TEXT, "%zu", size);
	return text;
}

/* Digits alone: no sign, no space. Return: whether a number up to max stands there. */
static bool
parse_number(const char *text, unsigned long max, unsigned long *ret_value, char **ret_end)
{
	unsigned long value;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoul(text, ret_end, 10);
	if (errno || value > max)
		return false;
	*ret_value = value;
	return true;
}

static bool
parse_size(const char *text, size_t *ret_size, char **ret_end)
{
	unsigned long value, unit = 1;
	char *end;

	if (!parse_number(text, SIZE_LIMIT, &value, &end))
		return false;
	if (*end == 'K' || *end == 'k')
		unit = 1U << 10;
	else if (*end == 'M' || *end == 'm')
		unit = 1U << 20;
	if (unit > 1)
		end++;
	if (value > SIZE_LIMIT / unit)
		return false;
	*ret_size = value * unit;
	*ret_end = end;
	return true;
}

static size_t
one_size(const char *name, const char *text, size_t min, size_t max)
{
	char min_text[BENCH_SIZE_TEXT], max_text[BENCH_SIZE_TEXT], *end;
	size_t size;

	if (!parse_size(text, &size, &end) || *end || size < min || size > max)
		refuse("%s wants a size from %s to %s, not '%s'", name,
			bench_size_text(min, min_text), bench_size_text(max, max_text), text);
	return size;
}

static void
parse_sizes(struct bench_options *options, const char *text)
{
	const char *at = text;
	char *end;

	options->n_sizes = 0;
	for (;; at = end + 1) {
		size_t *size = &options->sizes[options->n_sizes];

		if (options->n_sizes == BENCH_SIZES_LIMIT)
			refuse("--size takes at most %u sizes", BENCH_SIZES_LIMIT);
		if (!parse_size(at, size, &end) || !*size || (*end && *end != ','))
			refuse("--size wants sizes such as 64,1K,1M (up to 1024M), not '%s'", text);
		options->n_sizes++;
		if (!*end)
			return;
	}
}

static unsigned int
one_number(const char *name, const char *text, unsigned int min, unsigned int max)
{
	unsigned long value;
	char *end;

	if (!parse_number(text, max, &value, &end) || *end || value < min)
		refuse("%s wants a number from %u to %u, not '%s'", name, min, max, text);
	return (unsigned int)value;
}

static void
parse_list(const char *name, const char *text, unsigned int max,
	unsigned int ret_list[BENCH_LIST_LIMIT], unsigned int *ret_n)
{
	const char *at = text;
	unsigned int n = 0;
	char *end;

	for (;; at = end + 1) {
		unsigned long value;

		if (n == BENCH_LIST_LIMIT)
			refuse("%s takes at most %u numbers", name, BENCH_LIST_LIMIT);
		if (!parse_number(at, max, &value, &end) || !value || (*end && *end != ','))
			refuse("%s wants numbers from 1 to %u such as 1,4,16, not '%s'", name, max,
				text);
		ret_list[n++] = (unsigned int)value;
		if (!*end)
			break;
	}
	*ret_n = n;
}

static void
parse_cpus(struct bench_options *options, const char *text)
{
	unsigned long parent, child;
	cpu_set_t allowed;
	char *end;

	if (!parse_number(text, CPU_SETSIZE - 1, &parent, &end) || *end != ',' ||
		!parse_number(end + 1, CPU_SETSIZE - 1, &child, &end) || *end)
		refuse("--cpus wants two numbers such as 0,1, not '%s'", text);

	sched_getaffinity(0, sizeof(allowed), &allowed);
	if (!CPU_ISSET(parent, &allowed))
		refuse("--cpus: this process may not use CPU %lu", parent);
	if (!CPU_ISSET(child, &allowed))
		refuse("--cpus: this process may not use CPU %lu", child);
	options->cpus[BENCH_SENDER] = (unsigned int)parent;
	options->cpus[BENCH_RECEIVER] = (unsigned int)child;
}

/* The first two allowed, or the only one twice. */
static void
choose_cpus(struct bench_options *options)
{
	unsigned int found = 0;
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE && found < BENCH_ROLES; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			options->cpus[found++] = cpu;
	if (found == 1)
		options->cpus[1] = options->cpus[0];
}

static void
parse_wait(struct bench_options *options, const char *text)
{
	for (int i = 0; i < BENCH_WAITS; i++) {
		if (strcmp(text, bench_wait_names[i]) == 0) {
			options->has_wait = true;
			options->wait = (enum bench_wait)i;
			return;
		}
	}
	refuse("--wait is spin, sleep or learn, not '%s'", text);
}

static void
add_case(struct bench_options *options, const char *name)
{
	bool is_known = false;

	for (unsigned int i = 0; i < options->n_cases; i++)
		if (strcmp(name, options->cases[i]->name) == 0)
			return;
	for (unsigned int i = 0; i < bench_n_cases; i++) {
		if (strcmp(name, bench_cases[i]->name) != 0)
			continue;
		options->cases[options->n_cases++] = bench_cases[i];
		is_known = true;
	}
	if (!is_known)
		refuse("there is no case '%s'; ipc-bench --list names those there are", name);
}

static void
parse_engine(struct bench_options *options, const char *text)
{
	bool is_uring = strcmp(text, "uring") == 0;

	if (!is_uring && strcmp(text, "epoll") != 0)
		refuse("--engine is uring or epoll, not '%s'", text);
	options->has_engine = true;
	options->engine = is_uring ? BENCH_URING : BENCH_EPOLL;
}

static error_t parse_option(int key, char *arg, struct argp_state *state);

static const struct argp parser = {
	.options = options_known,
	.parser = parse_option,
	.args_doc = "[CASE...]",
	.doc = before,
};

__attribute__((noreturn)) static void
leave(bool is_printed)
{
	exit(is_printed && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

__attribute__((noreturn)) static void
help(void)
{
	char name[] = "ipc-bench";

	argp_help(&parser, stdout, ARGP_HELP_STD_HELP & ~(unsigned int)ARGP_HELP_EXIT_OK, name);
	leave(true);
}

/* The options that take one number or size. */
static error_t
parse_amount(int key, const char *arg, struct bench_options *options)
{
	switch (key) {
	case OPTION_BURST:
		options->burst = one_number("--burst", arg, 1, BENCH_BURST_LIMIT);
		return 0;
	case OPTION_RATE:
		options->rate = one_number("--rate", arg, 1, BENCH_RATE_LIMIT);
		return 0;
	case OPTION_REPEAT:
		options->repeat = one_number("--repeat", arg, 1, BENCH_REPEAT_LIMIT);
		return 0;
	case OPTION_TIME:
		options->time_ms = one_number("--time", arg, 1, TIME_MS_MAX);
		return 0;
	case OPTION_RECORD:
		options->record_max = one_size(
			"--record", arg, IPC_CHANNEL_RECORD_MAX_MIN, IPC_CHANNEL_RECORD_MAX_LIMIT);
		return 0;
	case OPTION_SNDBUF:
		options->send_buffer = one_size("--sndbuf", arg, 4096, INT_MAX / 2);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t
parse_option(int key, char *arg, struct argp_state *state)
{
	struct bench_options *options = state->input;

	switch (key) {
	case OPTION_QUICK:
		options->quick = true;
		return 0;
	case OPTION_LIST:
		options->list = true;
		return 0;
	case OPTION_JSON:
		options->json = arg;
		return 0;
	case OPTION_CSV:
		options->csv = arg;
		return 0;
	case OPTION_SIZE:
		parse_sizes(options, arg);
		return 0;
	case OPTION_WORKERS:
		parse_list("--workers", arg, BENCH_WORKERS_LIMIT, options->workers,
			&options->n_workers);
		return 0;
	case OPTION_DEPTH:
		parse_list("--depth", arg, BENCH_DEPTH_LIMIT, options->depths, &options->n_depths);
		return 0;
	case OPTION_CPUS:
		parse_cpus(options, arg);
		return 0;
	case OPTION_WAIT:
		parse_wait(options, arg);
		return 0;
	case OPTION_ENGINE:
		parse_engine(options, arg);
		return 0;
	case OPTION_HELP:
		help();
	case OPTION_VERSION:
		leave(printf("ipc-bench %s\n", BENCH_LIBIPC_VERSION) > 0);
	case ARGP_KEY_ARG:
		add_case(options, arg);
		return 0;
	default:
		return parse_amount(key, arg, options);
	}
}

/* One of --workers and --depth says nothing of the other. */
static void
fill_in_layouts(struct bench_options *options)
{
	static const unsigned int workers[] = {1, 4, 16, 64}, depths[] = {1, 16};

	if (options->n_workers && !options->n_depths && options->rate) {
		options->depths[0] = IPC_POOL_DEPTH_DEFAULT;
		options->n_depths = 1;
	} else if (options->n_workers && !options->n_depths) {
		memcpy(options->depths, depths, sizeof(depths));
		options->n_depths = BENCH_ARRAY_SIZE(depths);
	} else if (options->n_depths && !options->n_workers) {
		memcpy(options->workers, workers, sizeof(workers));
		options->n_workers = BENCH_ARRAY_SIZE(workers);
	}
}

static void
add_all_cases(struct bench_options *options)
{
	for (unsigned int i = 0; i < bench_n_cases; i++)
		if (!bench_cases[i]->has_peers)
			options->cases[options->n_cases++] = bench_cases[i];
}

static void
fill_in(struct bench_options *options)
{
	if (!options->repeat)
		options->repeat = options->quick ? REPEAT_QUICK : REPEAT;
	if (!options->time_ms)
		options->time_ms = options->quick ? TIME_MS_QUICK : TIME_MS;
	if (!options->record_max)
		options->record_max = IPC_CHANNEL_RECORD_MAX_DEFAULT;
	fill_in_layouts(options);
	if (!options->n_cases)
		add_all_cases(options);
}

/* The option at which argp stopped: it tells only where it would go on. */
static const char *
last_option(char *argv[], int next)
{
	int at = next - 1;

	while (at > 1 && argv[at][0] != '-')
		at--;
	return argv[at > 0 ? at : 1];
}

void
bench_options_parse(int argc, char *argv[], struct bench_options *ret_options)
{
	int next = argc;

	*ret_options = (struct bench_options){0};
	choose_cpus(ret_options);

	/* argp's own complaint takes two lines; without it its own help is silent, too. */
	if (argp_parse(&parser, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, &next, ret_options) != 0)
		refuse("wrong usage at '%s': no such option, or its value is missing or too "
		       "much; see ipc-bench --help",
			last_option(argv, next));
	fill_in(ret_options);
}
