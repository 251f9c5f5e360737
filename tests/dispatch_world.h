/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_DISPATCH_WORLD_H
#define LIBIPC_TESTS_DISPATCH_WORLD_H

/*
 * A world for a dispatch in which nothing happens but what a test says, and everything that the
 * dispatch does is written down.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dispatch.h"

#define WORLD_WORKERS_MAX 64
#define WORLD_SENT_MAX    600

struct world;

/* One process after the other gets the next number. */
struct world_worker {
	struct ipci_place *place;
	unsigned int n_sent, n_told;
	uint64_t told; /* the last word that a request is over */
	int send_result;
	bool is_closed, is_killed, is_given_up;
};

struct asked;

struct world_sent {
	unsigned int worker;
	const struct asked *asked;
	uint64_t id;
};

struct world {
	struct ipci_dispatch dispatch;
	struct ipci_dispatch_options options;
	int64_t now_ns;
	int start_result;
	unsigned int n_workers;
	struct world_worker workers[WORLD_WORKERS_MAX];
	unsigned int n_sent;
	struct world_sent sent[WORLD_SENT_MAX];
	unsigned int writables, n_drained, n_replies;
	int drained;
	void (*on_reply)(struct world *world, struct asked *asked, int result);
	void (*on_writable)(struct world *world);
	void (*on_given_up)(struct world *world);
	bool keeps_undying; /* no worker is given up that need not be */
	bool is_quiet;      /* no function of the user may be called */
};

/* A request, and what became of it. Zero is one that was not called. */
struct asked {
	struct world *world;
	uint64_t name, id;
	size_t size;
	uint32_t n_fds;
	unsigned int sends, parts, ends, worker;
	unsigned int order; /* of its end among all */
	int result;
	uint64_t wire_id;
};

/* What tests begin with: one attempt, limits that are far away, nobody is hung. */
struct ipci_dispatch_options world_options(unsigned int workers, unsigned int depth);
/* Return: what init says; the clock is at 1000 ms. */
int world_try(struct world *world, const struct ipci_dispatch_options *options);
void world_begin(struct world *world, const struct ipci_dispatch_options *options);
/* The same, and all workers are ready. */
void world_begin_ready(struct world *world, const struct ipci_dispatch_options *options);
void world_end(struct world *world);

int64_t world_ms(const struct world *world);
/* Let time go on to so many ms after the beginning, and tick once. */
void world_tick(struct world *world, int64_t ms);
/* Do what is due now. */
void world_tick_now(struct world *world);
/* Check when the next tick is due; -1: never. */
void expect_next(struct world *world, int64_t ms);

int ask(struct world *world, struct asked *asked, int timeout_ms, unsigned int attempts);
/* The same, which is taken. */
void ask_taken(struct world *world, struct asked *asked, int timeout_ms, unsigned int attempts);

void be_ready(struct world *world, unsigned int worker);
void answer(struct world *world, const struct asked *asked);
void answer_with(
	struct world *world, unsigned int worker, uint64_t id, unsigned int flags, int result);
void speak(struct world *world, unsigned int worker);
void be_writable(struct world *world, unsigned int worker);
void lose_channel(struct world *world, unsigned int worker);
void die(struct world *world, unsigned int worker);

/* Check that it has been given to this worker, as the last one of all. */
void expect_sent(struct world *world, const struct asked *asked, unsigned int worker);
void expect_waiting(const struct asked *asked);
void expect_result(const struct asked *asked, int result);
void expect_no_end(const struct asked *asked);
struct ipc_pool_stats world_stats(const struct world *world);

#endif
