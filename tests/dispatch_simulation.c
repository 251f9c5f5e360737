/* SPDX-License-Identifier: MIT */

/*
 * A dispatch in thousands of worlds, each of which does what workers, channels, clocks and users
 * may do, and worse: whatever happens, each request ends once, as it may, and everything comes to
 * rest.
 *
 * A seed that fails is printed; with it in LIBIPC_TEST_SEED that one alone is run again.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "simulation.h"
#include "support.h"

/* Happenings until everything is at rest, at most. */
#define STEPS_MAX 400000U

static const char *const count_names[] = {
#define COUNT(name) #name,
#include "simulation_counts.inc"
#undef COUNT
};

static const char *const happening_names[] = {
	[SIM_READY] = "worker %lld is ready",
	[SIM_CRASH] = "worker %lld crashes",
	[SIM_CLOSED] = "the channel of worker %lld ends",
	[SIM_DIED] = "worker %lld dies",
	[SIM_ANSWER] = "worker %lld answers %#llx",
	[SIM_STRAY] = "worker %lld answers astray",
	[SIM_MESSAGE] = "worker %lld sends a message",
	[SIM_LEAVE] = "worker %lld says that it leaves",
	[SIM_WRITABLE] = "worker %lld is writable",
	[SIM_CALLS] = "the user calls",
	[SIM_CANCEL] = "the user cancels",
	[SIM_RESIZE] = "the user resizes",
	[SIM_DRAIN] = "the user drains",
	[SIM_FINISH] = "the user finishes",
	[SIM_HOLD] = "the loop was held up",
	[SIM_TICK] = "tick",
	[SIM_DID_START] = "        starts worker %lld at place %lld",
	[SIM_DID_SEND] = "        sends to worker %lld %#llx, flags %#llx",
	[SIM_DID_CLOSE] = "        closes worker %lld",
	[SIM_DID_KILL] = "        kills worker %lld",
	[SIM_DID_GIVE_UP] = "        gives up worker %lld",
	[SIM_DID_REPLY] = "        ends request %lld with %lld",
	[SIM_DID_WRITABLE] = "        is writable",
	[SIM_DID_DRAINED] = "        is drained: %lld",
	[SIM_CALLED] = "    call of request %lld, named %#llx: %lld",
	[SIM_CANCELLED] = "    cancel of %#llx: %lld",
	[SIM_RESIZED] = "    resize to %lld: %lld",
	[SIM_HEALED] = "everything is healthy from now on",
};

uint64_t
sim_random(struct sim *sim)
{
	uint64_t x = sim->random += 0x9E3779B97F4A7C15ULL;

	/* splitmix64 */
	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
	x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
	return x ^ x >> 31;
}

unsigned int
sim_below(struct sim *sim, unsigned int limit)
{
	return limit ? (unsigned int)(sim_random(sim) % limit) : 0;
}

bool
sim_chance(struct sim *sim, unsigned int per_mille)
{
	return sim_below(sim, 1000) < per_mille;
}

bool
sim_fault(struct sim *sim, unsigned int per_mille)
{
	return !sim->is_healthy && sim_chance(sim, per_mille);
}

void
sim_trace(struct sim *sim, enum sim_happening happening, long long a, long long b, long long c)
{
	const uint64_t words[] = {
		(uint64_t)sim->now_ns, happening, (uint64_t)a, (uint64_t)b, (uint64_t)c};
	size_t i;

	sim->trace[sim->n_trace++ % SIM_TRACE_N] =
		(struct sim_line){sim->now_ns, happening, a, b, c};
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		sim->hash = (sim->hash ^ words[i]) * 0x100000001B3ULL;
}

void
sim_broken(const struct sim *sim, const char *condition, const char *file, int line)
{
	uint64_t i = sim->n_trace > SIM_TRACE_N ? sim->n_trace - SIM_TRACE_N : 0;
	const struct sim_line *said;

	for (; i < sim->n_trace; i++) {
		said = &sim->trace[i % SIM_TRACE_N];
		(void)fprintf(stderr, "%12.6f ms  ", (double)said->ns / 1e6);
		/* The table's formats take what their happening has. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)fprintf(stderr, happening_names[said->happening], said->a, said->b, said->c);
#pragma GCC diagnostic pop
		(void)fprintf(stderr, "\n");
	}
	(void)fprintf(
		stderr, "LIBIPC_TEST_SEED=%llu runs this alone\n", (unsigned long long)sim->seed);
	test_check(false, condition, file, line);
}

/*
 * Worlds.
 */

/* Often nothing, else up to so much. */
static unsigned int
maybe(struct sim *sim, unsigned int most)
{
	return sim_chance(sim, 500) ? 0 : sim_below(sim, most + 1);
}

static void
choose_options(struct sim *sim)
{
	struct ipci_dispatch_options *options = &sim->options;

	*options = (struct ipci_dispatch_options){
		.workers = 1 + sim_below(sim, 8),
		.depth = 1 + sim_below(sim, sim_chance(sim, 500) ? 4 : SIM_DEPTH_MAX),
		.queue_max = 1 + sim_below(sim, 40),
		.attempts = 1 + sim_below(sim, 4),
		.kept_bytes_max = 64 + sim_below(sim, sim_chance(sim, 300) ? 1000 : 20000),
		.kept_fds_max = 1 + sim_below(sim, 8),
		.hung_ns = maybe(sim, 60) * NS_PER_MS,
		.restart_min_ns = (1 + sim_below(sim, 10)) * NS_PER_MS,
		.starts_max = 1 + sim_below(sim, 5),
		.stop_ns = (1 + sim_below(sim, 50)) * NS_PER_MS,
		.kill_ns = (5 + sim_below(sim, 30)) * NS_PER_MS,
		.tell = sim_below(sim, 2),
	};
	if (options->hung_ns)
		options->hung_ns += 4 * NS_PER_MS;
	options->restart_max_ns = options->restart_min_ns * (1 + sim_below(sim, 20));
}

static void
choose_style(struct sim *sim)
{
	sim->style = (struct sim_style){
		.start_fails = maybe(sim, 400),
		.crash_at_start = maybe(sim, 500),
		.never_ready = maybe(sim, 100),
		.slow = maybe(sim, 200),
		.hangs = maybe(sim, 200),
		.dies = maybe(sim, 700),
		.closes = maybe(sim, 300),
		.stubborn = maybe(sim, 500),
		.full = maybe(sim, 200),
		.broken = maybe(sim, 30),
		.send_fails = maybe(sim, 50),
		.without_fds = maybe(sim, 50),
		.parts = maybe(sim, 300),
		.strays = maybe(sim, 500),
		.messages = maybe(sim, 500),
		.poison = maybe(sim, 50),
		.acts = maybe(sim, 300),
		.cancels = maybe(sim, 500),
		.resizes = maybe(sim, 500),
		.timeouts = maybe(sim, 700),
		.retries = maybe(sim, 1000),
		.fds = maybe(sim, 100),
		.clogs = maybe(sim, 300),
		.talkers = maybe(sim, 200),
		.leaves = maybe(sim, 500),
		.undying = maybe(sim, 300),
		.has_late_ticks = sim_below(sim, 2),
		.finishes = sim_chance(sim, 200),
		.forgets = sim_chance(sim, 300),
		.drains_short = sim_chance(sim, 200),
		.speed_us = 100 + sim_below(sim, 8000),
		.pause_us = 500 + sim_below(sim, 15000),
	};
	sim->style.has_holds = sim->style.has_late_ticks && sim_chance(sim, 500);
}

/* Workers that die of some requests, and of nothing else. */
static void
choose_poison_only(struct sim *sim)
{
	sim->options.hung_ns = 0;
	sim->style = (struct sim_style){
		.has_poison_only = true,
		.full = sim->style.full,
		.parts = maybe(sim, 200),
		.strays = maybe(sim, 500),
		.poison = 1 + sim_below(sim, 80),
		.retries = sim->style.retries,
		.fds = sim->style.fds,
		.leaves = sim->style.leaves,
		.has_late_ticks = sim_below(sim, 2),
		.acts = sim->style.acts,
		.speed_us = sim->style.speed_us,
		.pause_us = sim->style.pause_us,
	};
	sim->counts[SIM_poison_only]++;
}

static struct sim *
world_of(uint64_t seed, int fd)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	check(sim);
	sim->seed = seed;
	sim->random = seed;
	sim->hash = 0xCBF29CE484222325ULL;
	sim->now_ns = sim->begin_ns = 1000 * NS_PER_MS;
	sim->armed_ns = sim->tick_ns = sim->drain_ns = sim->spread_until_ns = INT64_MAX;
	sim->fd = fd;
	TAILQ_INIT(&sim->workers);
	TAILQ_INIT(&sim->dead);
	TAILQ_INIT(&sim->waiting);
	sim->requests = calloc(SIM_CALLS_MAX, sizeof(*sim->requests));
	check(sim->requests);
	choose_options(sim);
	choose_style(sim);
	if (sim_chance(sim, 100))
		choose_poison_only(sim);
	sim->calls_left = 20 + sim_below(sim, 180);
	return sim;
}

/* Return: whether there is a dispatch. */
static bool
begin(struct sim *sim)
{
	int r;

	sim->is_starting = true;
	r = ipci_dispatch_init(&sim->dispatch, &sim_ops, sim, &sim->options);
	sim->is_starting = false;
	rule(sim, (r < 0) == (sim->counts[SIM_starts_first_failed] != 0));
	sim_user_begin(sim);
	sim_schedule(sim, 0, SIM_TICK, NULL, 0);
	if (sim->style.finishes)
		sim_schedule(sim, sim_below(sim, 200000), SIM_FINISH, NULL, 0);
	if (sim->style.drains_short)
		sim_schedule(sim, sim_below(sim, 200000), SIM_DRAIN, NULL, 0);
	return r == 0;
}

/* What was called ends, and then all workers. */
static void
come_to_rest(struct sim *sim)
{
	uint64_t last;

	sim->calls_left += 10;
	sim_heal(sim);
	sim_schedule(sim, 0, SIM_CALLS, NULL, 0);
	for (last = sim->step + STEPS_MAX; !sim->is_over && (sim->n_live || sim->calls_left);) {
		sim_advance(sim);
		/* What comes in the way of a drain does not return. */
		if (sim->is_draining)
			sim->calls_left = 0;
		rule(sim, sim->step < last);
	}
	if (sim->is_over)
		return;
	sim_user_drain(sim, sim_chance(sim, 500) ? -1 : 100000);
	sim_schedule(sim, 0, SIM_TICK, NULL, 0);
	for (last = sim->step + STEPS_MAX; !sim->is_over && !sim->is_drained;) {
		sim_advance(sim);
		rule(sim, sim->step < last);
	}
}

/* Workers that do nothing wrong but die of some requests kill nobody else's. */
static void
check_poison(struct sim *sim)
{
	const struct sim_request *request;
	unsigned int i;

	for (i = 0; i < sim->n_requests; i++) {
		request = &sim->requests[i];
		if (!request->sends || request->parts)
			continue;
		if (request->is_poison) {
			rule(sim, request->result == -EOWNERDEAD);
			rule(sim, request->sends == request->attempts);
		} else if (request->attempts > 1) {
			rule(sim, request->result == 0);
			rule(sim, request->sends <= 2);
		}
	}
}

static uint64_t
run(uint64_t seed, int fd, unsigned int *counts)
{
	struct sim *sim = world_of(seed, fd);
	int64_t healthy_ns = sim->now_ns + (50 + sim_below(sim, 400)) * NS_PER_MS;
	uint64_t hash;
	size_t i;

	if (begin(sim)) {
		while (!sim->is_over && !sim->is_drained && sim->now_ns < healthy_ns)
			sim_advance(sim);
		if (!sim->is_over && !sim->is_drained)
			come_to_rest(sim);
		if (sim->style.has_poison_only)
			check_poison(sim);
	}
	if (!sim->is_over)
		sim_user_finish(sim);
	for (i = 0; i < SIM_COUNTS_N; i++)
		counts[i] += sim->counts[i];
	counts[SIM_retries] += (unsigned int)sim->expected.retries;
	hash = sim->hash;
	sim_world_free(sim);
	free(sim->requests);
	free(sim);
	return hash;
}

/*
 * Tests.
 */

static void
whatever_happens_each_request_ends_once_and_as_it_may(void **state)
{
	unsigned int counts[SIM_COUNTS_N] = {0}, n = test_count(10000, 1000), i;
	const char *chosen = getenv("LIBIPC_TEST_SEED");
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint64_t seed = test_random();

	(void)state;
	check(fd >= 0);
	if (chosen) {
		seed = strtoull(chosen, NULL, 0);
		n = 1;
	}
	for (i = 0; i < n; i++)
		(void)run(seed + i, fd, counts);
	check_equal(close(fd), 0);

	(void)printf("%u seeds:", n);
	for (i = 0; i < SIM_COUNTS_N; i++)
		(void)printf(
			" %s %u%s", count_names[i], counts[i], i + 1 < SIM_COUNTS_N ? "," : "\n");
	for (i = 0; i < SIM_COUNTS_N && !chosen; i++) {
		if (counts[i])
			continue;
		(void)fprintf(stderr, "never happened: %s\n", count_names[i]);
		check(false);
	}
}

static void
the_same_happenings_have_the_same_outcome(void **state)
{
	unsigned int counts[SIM_COUNTS_N] = {0}, i;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint64_t seed = test_random();

	(void)state;
	check(fd >= 0);
	for (i = 0; i < 20; i++)
		check(run(seed + i, fd, counts) == run(seed + i, fd, counts));
	check(run(seed, fd, counts) != run(seed + 1, fd, counts));
	check_equal(close(fd), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(whatever_happens_each_request_ends_once_and_as_it_may),
		channel_test(the_same_happenings_have_the_same_outcome),
	};

	return run_group(tests);
}
