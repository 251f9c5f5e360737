/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_SIMULATION_H
#define LIBIPC_TESTS_SIMULATION_H

/*
 * A world for a dispatch, made of random numbers: workers, a user and a clock.
 *
 * simulated_world.c is the workers and what a loop does, simulated_user.c who calls, and
 * simulated_rules.c what must hold between any two happenings. What each of them knows of requests
 * is kept here, apart from what the dispatch knows, so that the two can be compared.
 *
 * One seed has one outcome: nothing depends on addresses, clocks or what ran before.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "dispatch.h"
#include "heap.h"

#define SIM_DEPTH_MAX   20U
#define SIM_CALLS_MAX   400U
#define SIM_PLACES_MAX  128U
#define SIM_PAYLOAD_MAX 256U
#define SIM_TRACE_N     40U

#define NS_PER_MS INT64_C(1000000)

enum sim_count {
#define COUNT(name) SIM_##name,
#include "simulation_counts.inc"
#undef COUNT
	SIM_COUNTS_N
};

/* The chances of what may happen, per mille. */
struct sim_style {
	unsigned int start_fails, crash_at_start, never_ready, slow, hangs, dies, closes, stubborn;
	unsigned int full, broken, send_fails, without_fds, parts, strays, messages, poison;
	unsigned int acts, cancels, resizes, timeouts, retries, fds;
	unsigned int clogs, talkers, leaves, undying;
	bool has_late_ticks;
	bool has_holds;       /* now and then the loop is held up */
	bool has_poison_only; /* nothing else kills, and nothing ends a request early */
	bool finishes, forgets, drains_short;
	unsigned int speed_us; /* of most workers' answers */
	unsigned int pause_us; /* between calls */
};

struct sim_worker;

struct sim_request {
	TAILQ_ENTRY(sim_request) waiting;
	struct sim *sim;
	struct sim_worker *worker; /* that has it */
	uint64_t index, name, caller_id;
	uint64_t born; /* the step of its call */
	int64_t deadline_ns;
	size_t size;
	unsigned int n_fds, attempts, sends;
	unsigned int parts; /* given out */
	unsigned int live_at;
	int result;
	bool is_live, is_waiting, is_tried, is_poison;
	bool is_lost; /* its worker is no more, and it cannot be tried again */
};

TAILQ_HEAD(sim_waiting, sim_request);

/* A request that a worker has, or that has ended and it still owes the answer of. */
struct sim_held {
	struct sim_request *request;
	unsigned int parts; /* that come before the last answer */
	unsigned int part;
	bool is_owed, is_late, is_solo;
};

struct sim_worker {
	TAILQ_ENTRY(sim_worker) entry;
	struct sim *sim;
	struct ipci_place *place;
	unsigned int id;
	unsigned int n_held, n_owed, n_late, n_solo;
	struct sim_held held[SIM_DEPTH_MAX];
	unsigned int completed;
	unsigned int answer_us;
	int64_t heard_ns;  /* the last message, or since when one is awaited */
	int64_t closed_ns; /* by either side */
	int64_t full_ns;   /* the last answer, or since when it is full */
	int64_t killed_ns; /* or since when it was not given up */
	bool is_ready, is_full, is_shut, is_gone, is_killed, is_dead, has_left;
	bool is_crashed, is_hung, is_stubborn;
	bool is_talker;  /* it answers nothing, and says a lot */
	bool is_undying; /* killed, it lives */
};

TAILQ_HEAD(sim_workers, sim_worker);

/* What is known of a place apart from what it says. */
struct sim_place {
	const struct ipci_place *place;
	const struct sim_worker *worker;
	int64_t started_ns, next_start_ns;
	unsigned int failures, failed_starts;
};

enum sim_happening {
	SIM_READY,
	SIM_CRASH,
	SIM_CLOSED,
	SIM_DIED,
	SIM_ANSWER,
	SIM_STRAY,
	SIM_MESSAGE,
	SIM_LEAVE,
	SIM_WRITABLE,
	SIM_CALLS,
	SIM_CANCEL,
	SIM_RESIZE,
	SIM_DRAIN,
	SIM_FINISH,
	SIM_HOLD,
	SIM_TICK,
	/* What the dispatch does. */
	SIM_DID_START,
	SIM_DID_SEND,
	SIM_DID_CLOSE,
	SIM_DID_KILL,
	SIM_DID_GIVE_UP,
	SIM_DID_REPLY,
	SIM_DID_WRITABLE,
	SIM_DID_DRAINED,
	/* What it answers. */
	SIM_CALLED,
	SIM_CANCELLED,
	SIM_RESIZED,
	SIM_HEALED,
};

struct sim_event {
	struct ipci_heap_node node;
	enum sim_happening happening;
	struct sim_worker *worker;
	uint64_t name;
};

struct sim_line {
	int64_t ns;
	enum sim_happening happening;
	long long a, b, c;
};

struct sim {
	struct ipci_dispatch dispatch;
	struct ipci_dispatch_options options;
	struct sim_style style;
	uint64_t seed, random, hash;
	uint64_t step; /* happenings that have been told */
	int64_t now_ns;
	int64_t armed_ns, tick_ns; /* the timer, and when it will really come */
	int64_t ticked_ns;
	unsigned int ticks_here;
	struct ipci_heap events;
	struct sim_workers workers; /* that are not dead */
	struct sim_workers dead;
	unsigned int n_workers;
	struct sim_place places[SIM_PLACES_MAX];
	unsigned int n_places;

	struct sim_request *requests;
	unsigned int n_requests;
	unsigned int calls_left;
	struct sim_request *live[SIM_CALLS_MAX];
	unsigned int n_live, n_lost;
	struct sim_waiting waiting;
	unsigned int n_waiting;
	unsigned int inside; /* functions of the user, one within the other */

	/* What is going on. */
	bool is_healthy, is_quiet, is_ticking, is_finishing, is_over, is_draining, is_drained;
	bool is_starting; /* the dispatch itself */
	bool is_hopeless;
	bool is_refused;
	bool has_drain_cancelled, has_drain_given_up;
	int64_t begin_ns;
	int64_t spread_until_ns; /* how long the first workers are waited for */
	uint64_t refused_step, drain_step;
	int64_t drain_ns;
	struct sim_request *calling, *cancelling;
	struct sim_request *told; /* whose reply is told */
	bool is_told_more;
	int told_result;
	uint64_t told_part;
	struct sim_request *send_failed;
	int send_result;

	struct ipc_pool_stats expected;
	unsigned int counts[SIM_COUNTS_N];
	struct sim_line trace[SIM_TRACE_N];
	uint64_t n_trace;
	int fd; /* that is sent */
};

/* Must hold; else the seed and what led there are printed, and the test fails. */
#define rule(sim, condition)                                             \
	do {                                                             \
		if (!(condition))                                        \
			sim_broken(sim, #condition, __FILE__, __LINE__); \
	} while (0)
void sim_broken(const struct sim *sim, const char *condition, const char *file, int line);

/* dispatch_simulation.c */
uint64_t sim_random(struct sim *sim);
unsigned int sim_below(struct sim *sim, unsigned int limit);
bool sim_chance(struct sim *sim, unsigned int per_mille);
/* The same of what is wrong: never once everything is healthy. */
bool sim_fault(struct sim *sim, unsigned int per_mille);
void sim_trace(
	struct sim *sim, enum sim_happening happening, long long a, long long b, long long c);

/* simulated_world.c */
extern const struct ipci_dispatch_ops sim_ops;
void sim_schedule(struct sim *sim, int64_t after_us, enum sim_happening happening,
	struct sim_worker *worker, uint64_t name);
/* Let what is next happen. */
void sim_advance(struct sim *sim);
/* From now on no worker does anything wrong. */
void sim_heal(struct sim *sim);
void sim_world_free(struct sim *sim);
struct sim_place *sim_place_of(struct sim *sim, const struct ipci_place *place);

/* simulated_user.c */
void sim_user_begin(struct sim *sim);
void sim_user_acts(struct sim *sim, enum sim_happening happening);
void sim_user_finish(struct sim *sim);
void sim_user_drain(struct sim *sim, int timeout_ms);
void sim_user_writable(struct sim *sim);
void sim_user_given_up(struct sim *sim);
void sim_user_drained(struct sim *sim, int result);
void sim_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user);
/* Payloads say whose they are. */
void sim_fill(unsigned char *payload, size_t size, uint64_t index);
bool sim_is_filled(const void *payload, size_t size, uint64_t index);

/* simulated_rules.c */
/* Between two happenings. */
void sim_check(struct sim *sim, enum sim_happening happening);
/* Forget places that are gone: their memory may be used again. */
void sim_forget_places(struct sim *sim);
void sim_check_stats(struct sim *sim);
/* May the worker be given a request? */
bool sim_is_open(const struct sim *sim, const struct sim_worker *worker);
/* Is what the worker says a sign of life? */
bool sim_is_sign(const struct sim *sim, const struct sim_worker *worker);
/* How many requests it may have: at first one. */
uint64_t sim_share(const struct sim *sim);
/* Is there one that may be? */
bool sim_has_open(const struct sim *sim, bool is_tried);
/* How many may wait: those that workers will have which are being started do not count. */
unsigned int sim_queue_max(const struct sim *sim);
/* What the dispatch must have kept of the request. */
bool sim_is_kept(const struct sim_request *request);
void sim_kept(const struct sim *sim, size_t *ret_bytes, unsigned int *ret_fds);
/* Have all places failed to start often enough? */
bool sim_is_hopeless(struct sim *sim);

#endif
