/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "side.h"
#include "../libipc/histogram.h"

static struct bench_run *this_run;
static clockid_t receiver_clocks[BENCH_WORKERS_LIMIT]; /* the sender knows them */

uint64_t
bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t
cpu_ns(clockid_t clock)
{
	struct timespec now = {0};

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t
bench_side_peer_cpu_ns(const struct bench_side *side)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < side->n_ends; i++)
		sum += cpu_ns(receiver_clocks[i]);
	return sum;
}

void
bench_side_fail(struct bench_side *side, const char *what, int error)
{
	/* The first to fail speaks; the other often fails only because of it. */
	if (__atomic_exchange_n(&this_run->failed, 1, __ATOMIC_ACQ_REL) == 0)
		snprintf(this_run->error, sizeof(this_run->error), "the %s: %s: %s",
			side->role == BENCH_SENDER ? "sender" : "receiver", what, strerror(-error));
	_exit(EXIT_FAILURE);
}

static void
note(const struct bench_side *side, uint64_t now, uint64_t count, bool is_start)
{
	struct bench_window *window = side->window;
	uint64_t *cpu = is_start ? window->start_cpu_ns : window->end_cpu_ns;

	cpu[BENCH_SENDER] = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	cpu[BENCH_RECEIVER] = bench_side_peer_cpu_ns(side);
	*(is_start ? &window->start_ns : &window->end_ns) = now;
	*(is_start ? &window->start_count : &window->end_count) = count;
}

bool
bench_side_goes_on_at(struct bench_side *side, uint64_t count, uint64_t now_ns)
{
	uint64_t elapsed = now_ns - side->begin_ns;

	if (elapsed < side->config->warm_ns)
		return true;
	if (!side->window->is_open) {
		side->window->is_open = true;
		/* Something slow can outlast the warm-up: the window still gets its time. */
		side->begin_ns = now_ns - side->config->warm_ns;
		note(side, now_ns, count, true);
		return true;
	}
	if (elapsed < side->config->warm_ns + side->config->time_ns)
		return true;
	note(side, now_ns, count, false);
	return false;
}

bool
bench_side_goes_on(struct bench_side *side, uint64_t count)
{
	return bench_side_goes_on_at(side, count, bench_now_ns());
}

bool
bench_side_counts_trip(struct bench_side *side, uint64_t start_ns, uint64_t *ret_now_ns)
{
	uint64_t now = bench_now_ns();

	if (side->window->is_open)
		ipci_histogram_add(side->histogram, now - start_ns);
	*ret_now_ns = now;
	return bench_side_goes_on_at(side, ++side->account->messages, now);
}

void *
bench_side_payload(struct bench_side *side, size_t size)
{
	size_t allocated = (size + BENCH_PAGE_SIZE - 1) / BENCH_PAGE_SIZE * BENCH_PAGE_SIZE;
	uint8_t *payload = aligned_alloc(BENCH_PAGE_SIZE, allocated);

	if (!payload)
		bench_side_fail(side, "memory", -ENOMEM);
	memset(payload, 0x5A, allocated);
	for (size_t at = 0; at < size; at += BENCH_PAGE_SIZE)
		*(uint64_t *)(void *)(payload + at) = BENCH_WORD;
	return payload;
}

uint64_t
bench_sum_pages(const void *data, size_t size)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < size; at += BENCH_PAGE_SIZE)
		sum += bench_first_word((const uint8_t *)data + at);
	return sum;
}

void
bench_side_finish_channels(struct bench_side *side)
{
	for (unsigned int i = 0; i < side->n_ends; i++) {
		struct ipc_channel_stats stats = {.size = sizeof(stats)};

		ipc_channel_stats(side->channels[i], &stats);
		side->account->syscalls += stats.out.syscalls + stats.in.syscalls;
		side->channels[i] = ipc_channel_close(side->channels[i]);
	}
	side->channel = NULL;
}

void
bench_side_post(struct bench_side *side, const struct ipc_message *message, unsigned int burst)
{
	int r;

	do {
		for (unsigned int i = 0; i < burst; i++) {
			r = ipc_channel_post(side->channel, message, -1);
			if (r < 0)
				bench_side_fail(side, "ipc_channel_post", r);
		}
		side->account->messages += burst;
	} while (bench_side_goes_on(side, side->account->messages));

	r = ipc_channel_flush(side->channel, -1);
	if (r < 0)
		bench_side_fail(side, "ipc_channel_flush", r);
	bench_side_finish_channels(side);
}

int32_t
bench_spin_us(const struct bench_config *config)
{
	static const int32_t spin_us[BENCH_WAITS] = {
		[BENCH_SPIN] = IPC_CHANNEL_SPIN_US_LIMIT,
		[BENCH_SLEEP] = -1,
		[BENCH_LEARN] = 0,
	};

	/* Who spins on the only CPU waits for one who cannot run. */
	if (config->wait == BENCH_SPIN && config->cpus[0] == config->cpus[1])
		return -1;
	return spin_us[config->wait];
}

struct ipc_channel_options
bench_channel_options(const struct bench_config *config)
{
	return (struct ipc_channel_options){
		.size = sizeof(struct ipc_channel_options),
		.message_max =
			config->size > IPC_CHANNEL_MESSAGE_MAX_DEFAULT && !config->bench->is_memory
				? config->size
				: 0,
		.record_max = config->record_max,
		.fds_max = config->bench->fds_max,
		/* Workers share a CPU: one who spins is in the way of the one who is waited for. */
		.spin_us = bench_has_workers(config->bench) ? -1 : bench_spin_us(config),
		.send_buffer = config->send_buffer,
	};
}

/* One of many on one CPU. */
static bool
is_worker(const struct bench_side *side)
{
	return bench_has_workers(side->config->bench) && side->role == BENCH_RECEIVER;
}

static bool
raw_spins(const struct bench_side *side)
{
	const struct bench_config *config = side->config;
	enum bench_wait wait = config->wait;

	if (wait == BENCH_LEARN)
		wait = config->bench->raw_beside_learn;
	return wait == BENCH_SPIN && config->cpus[0] != config->cpus[1] && !is_worker(side);
}

static void
arrive(struct bench_gate *gate, enum bench_moment moment)
{
	__atomic_add_fetch(&gate->arrived[moment], 1, __ATOMIC_ACQ_REL);
}

static void
pass_gate(struct bench_gate *gate, enum bench_moment moment, unsigned int processes)
{
	arrive(gate, moment);
	while (__atomic_load_n(&gate->arrived[moment], __ATOMIC_ACQUIRE) < processes)
		sched_yield();
}

static void
probe(struct bench_side *side, struct bench_gate *gate, unsigned int which)
{
	uint64_t round_trip_ns;

	if (side->config->cpus[0] == side->config->cpus[1]) {
		this_run->distances[which] = BENCH_ONE_CPU;
		return;
	}
	if (side->role == BENCH_RECEIVER) {
		bench_probe_answer(&gate->probe);
		return;
	}
	round_trip_ns = bench_probe_ask_ns(&gate->probe);
	this_run->probes_ns[which] = round_trip_ns;
	this_run->distances[which] = bench_probe_distance(round_trip_ns);
}

/* Move to this side's CPU, and stay there. */
static void
pin(struct bench_side *side)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(side->config->cpus[side->role], &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		bench_side_fail(side, "sched_setaffinity", -errno);
}

/*
 * A channel that learns spins only where its process may use several CPUs, and asks the
 * affinity. Such a side stands on its CPU but may use the other's, too. It hardly
 * leaves, as that one is taken; if it does, the run does not count.
 */
static void
unpin_learner(struct bench_side *side)
{
	cpu_set_t cpus;

	if (!side->channel || side->config->wait != BENCH_LEARN || is_worker(side))
		return;
	CPU_ZERO(&cpus);
	for (int i = 0; i < BENCH_ROLES; i++)
		CPU_SET(side->config->cpus[i], &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		bench_side_fail(side, "sched_setaffinity", -errno);
}

static void
check_place(const struct bench_side *side)
{
	if (sched_getcpu() != (int)side->config->cpus[side->role])
		__atomic_store_n(&this_run->moved, 1, __ATOMIC_RELAXED);
}

static void
find_receivers(struct bench_side *side, const struct bench_gate *gate)
{
	for (unsigned int i = 0; i < side->config->workers; i++) {
		int r = clock_getcpuclockid(gate->pids[BENCH_RECEIVER + i], &receiver_clocks[i]);

		if (r != 0)
			bench_side_fail(side, "clock_getcpuclockid", -r);
	}
}

/* As "channel:send": a profile tells processes apart by their names, of 15 bytes. */
static void
name_process(enum bench_variant variant, enum bench_role role)
{
	char name[16];

	snprintf(name, sizeof(name), "%.9s:%s", bench_variant_names[variant],
		role == BENCH_SENDER ? "send" : "recv");
	prctl(PR_SET_NAME, name);
}

/* The sender and the first receiver: probes before and after. */
static void
be_one_of_two(struct bench_side *side, struct bench_gate *gate)
{
	const struct bench_config *config = side->config;
	unsigned int processes = 1 + config->workers;

	pass_gate(gate, BENCH_READY, processes);
	if (side->role == BENCH_SENDER)
		find_receivers(side, gate);
	probe(side, gate, 0);
	unpin_learner(side);
	pass_gate(gate, BENCH_PROBED, BENCH_ROLES);

	side->begin_ns = bench_now_ns();
	config->bench->sides[config->variant][side->role](side);
	check_place(side);

	pin(side);
	pass_gate(gate, BENCH_FINISHED, processes);
	probe(side, gate, 1);
	for (unsigned int i = 1; side->role == BENCH_RECEIVER && i < config->workers; i++)
		sem_post(&gate->probed);
}

/* A further receiver: asleep whenever others probe, the end of a process being work, too. */
static void
be_one_of_many(struct bench_side *side, struct bench_gate *gate)
{
	const struct bench_config *config = side->config;

	arrive(gate, BENCH_READY);
	config->bench->sides[config->variant][side->role](side);
	check_place(side);

	arrive(gate, BENCH_FINISHED);
	while (sem_wait(&gate->probed) < 0 && errno == EINTR)
		;
}

void
bench_side_main(struct bench_run *run, struct bench_gate *gate, const struct bench_config *config,
	unsigned int process, struct bench_ends *ends)
{
	bool is_sender = process == BENCH_SENDER;
	unsigned int first = is_sender ? 0 : process - BENCH_RECEIVER;
	struct bench_side side = {
		.config = config,
		.role = is_sender ? BENCH_SENDER : BENCH_RECEIVER,
		.fd = ends->fds[first],
		.channel = ends->channels[first],
		.n_ends = is_sender ? config->workers : 1,
		.fds = &ends->fds[first],
		.channels = &ends->channels[first],
		.account = &run->accounts[process],
		.window = &run->window,
		.histogram = &run->histogram,
		.idle_cpu_us = &run->idle_cpu_us,
	};

	this_run = run;
	side.spins = raw_spins(&side);
	name_process(config->variant, side.role);
	pin(&side);
	gate->pids[process] = getpid();
	if (process <= BENCH_RECEIVER)
		be_one_of_two(&side, gate);
	else
		be_one_of_many(&side, gate);
	_exit(EXIT_SUCCESS);
}
