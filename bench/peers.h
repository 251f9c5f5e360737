/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_PEERS_H
#define IPC_BENCH_PEERS_H

/*
 * The case peers, and what the program does for it: finds the modules that were built, and has
 * ready what the two processes of a run inherit. What a peer is, is in peers/peer.h.
 */

#include "bench.h"

struct bench_peer;
struct bench_meeting;

/* One name, three tables: round trips, small messages one way, large ones one way. */
#define BENCH_PEERS_CASES 3U

extern struct bench_case bench_peers_cases[BENCH_PEERS_CASES];

/* Open the modules that were built, and give the cases their variants. */
void bench_peers_load(void);

/* Of a variant from BENCH_PEER on. */
const struct bench_peer *bench_peer_of(enum bench_variant variant);

/* Return: whether a variant waits so; one that is no peer can do either. */
bool bench_peer_waits(enum bench_variant variant, enum bench_wait wait);

/* Return: why a peer cannot take messages of this size, or NULL. */
const char *bench_peer_refuses(enum bench_variant variant, const struct bench_config *config);

bool bench_peers_are_loaded(void);

/* What of a peer is measured, in a line. */
const char *bench_peer_about(enum bench_variant variant);

/* Before and after the processes of a run. Return: 0, or -errno; part in any case. */
int bench_peers_meet(const struct bench_config *config);
void bench_peers_part(const struct bench_config *config);

/* For a run's processes. */
const struct bench_meeting *bench_peers_meeting(void);

/* Both sides of any peer. */
void bench_peer_ask(struct bench_side *side);
void bench_peer_answer(struct bench_side *side);
void bench_peer_send(struct bench_side *side);
void bench_peer_receive(struct bench_side *side);

#endif
