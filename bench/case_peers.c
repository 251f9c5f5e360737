/* SPDX-License-Identifier: MIT */

/*
 * peers: the work of roundtrip, stream and bulk through what else there is. Both sides of every
 * peer are here, over the few functions that it has; what surrounds it is the same for all. Beside
 * what is measured the two have a socket, to wait for each other at the beginning and the end.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "peers.h"
#include "peers/peer.h"

/* Messages between two looks at the clock, unless they are large. */
#define BURST 32U

/* One end of a peer. */
struct user {
	const struct bench_peer *peer;
	void *end;
};

static void
tell(struct bench_side *side)
{
	if (write(side->fd, "!", 1) != 1)
		bench_side_fail(side, "the other side", -EPIPE);
}

static void
hear(struct bench_side *side)
{
	char byte;

	if (read(side->fd, &byte, 1) != 1)
		bench_side_fail(side, "the other side", -EPIPE);
}

/* What takes time before the first message is none of the run's. */
static struct user
begin(struct bench_side *side)
{
	struct user user = {.peer = bench_peer_of(side->config->variant)};

	if (side->role == BENCH_SENDER)
		hear(side);
	user.end = user.peer->open(side, bench_peers_meeting());
	tell(side);
	if (side->role == BENCH_RECEIVER)
		hear(side);
	side->account->syscalls = 0;
	side->begin_ns = bench_now_ns();
	return user;
}

static void
flush(const struct user *user)
{
	if (user->peer->flush)
		user->peer->flush(user->end);
}

/* The last message begins with no word. Nobody leaves before it has arrived; until then some
   peers still send from the memory of the others. */
static void
end(struct bench_side *side, const struct user *user)
{
	void *last = bench_side_payload(side, side->config->size);

	memset(last, 0, sizeof(uint64_t));
	user->peer->send(user->end, last);
	flush(user);
	hear(side);
}

static bool
measures_itself(struct bench_side *side)
{
	const struct bench_peer *peer = bench_peer_of(side->config->variant);

	if (peer->measure)
		peer->measure(side, bench_peers_meeting());
	return peer->measure;
}

static const void *
call(const struct user *user, const void *request)
{
	if (user->peer->call)
		return user->peer->call(user->end, request);
	user->peer->send(user->end, request);
	return user->peer->receive(user->end);
}

void
bench_peer_ask(struct bench_side *side)
{
	struct user user;
	void *request;
	uint64_t start;

	if (measures_itself(side))
		return;
	request = bench_side_payload(side, side->config->size);
	user = begin(side);
	start = bench_now_ns();
	do
		side->account->sum += bench_first_word(call(&user, request));
	while (bench_side_counts_trip(side, start, &start));
	end(side, &user);
}

void
bench_peer_answer(struct bench_side *side)
{
	struct user user;
	const void *message;
	uint64_t word;

	if (measures_itself(side))
		return;
	user = begin(side);
	while ((word = bench_first_word(message = user.peer->receive(user.end)))) {
		side->account->sum += word;
		side->account->messages++;
		user.peer->send(user.end, message);
	}
	tell(side);
}

void
bench_peer_send(struct bench_side *side)
{
	unsigned int burst = side->config->bench->is_bulk ? 1 : BURST;
	struct user user;
	void *message;

	if (measures_itself(side))
		return;
	message = bench_side_payload(side, side->config->size);
	user = begin(side);
	do {
		for (unsigned int i = 0; i < burst; i++)
			user.peer->send(user.end, message);
		side->account->messages += burst;
	} while (bench_side_goes_on(side, side->account->messages));
	end(side, &user);
}

void
bench_peer_receive(struct bench_side *side)
{
	/* A small message may lie close to a page's end. */
	size_t size = side->config->bench->is_bulk ? side->config->size : sizeof(uint64_t);
	uint64_t messages = 0, sum = 0;
	const void *message;
	struct user user;

	if (measures_itself(side))
		return;
	user = begin(side);
	while (bench_first_word(message = user.peer->receive(user.end))) {
		sum += bench_sum_pages(message, size);
		messages++;
	}
	side->account->messages = messages;
	side->account->sum = sum;
	tell(side);
}

/* The rest is that of the case that each is like. */
struct bench_case bench_peers_cases[BENCH_PEERS_CASES] = {
	{
		.name = "peers",
		.has_peers = true,
		.summary = "the round trip through what else there is",
		.teaches = "One message there and one back, through libipc and through what else "
			   "there is.",
		.sizes = {64},
	},
	{
		.name = "peers",
		.has_peers = true,
		.summary = "small messages one way through what else there is",
		.teaches = "Small messages one way; the receiver reads the first word of each.",
		.sizes = {64, 1 << 10},
	},
	{
		.name = "peers",
		.has_peers = true,
		.summary = "large messages one way through what else there is",
		.teaches = "Large messages one way, each page read.",
		.sizes = {64 << 10, 1 << 20},
	},
};
