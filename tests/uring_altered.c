/* SPDX-License-Identifier: MIT */

/*
 * Completions of io_uring altered on their way in: requests that the kernel refuses, and
 * completions that come late and in another order. A refused request is one that it never saw, as
 * those are whose error says so.
 *
 * Knows the kinds of the engine's requests, and the seam that its test build has.
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libipc/seam_uring.h"
#include "../libipc/uring.h"
#include "loop_support.h"

/* Pairs in one loop, both ends attached: more than there are buffers. */
#define PAIRS   6
#define ENDS    (2 * PAIRS)
#define BUFFERS 8

/* An application sees a reset that never ends; the kernel gives one. */
#define RESETS_MAX 3

#define KEPT_MAX 4096

struct alteration {
	const char *name;
	unsigned int of_100; /* requests refused, completions kept */
	bool late;
	int sends[6], receives[6], hangups[3]; /* errors, to the first 0 */
};

static const struct alteration alterations[] = {
	{"nothing", 0, .late = false},
	{"sends again", 30, .sends = {-EAGAIN, -EINTR}},
	{"sends cancelled", 30, .sends = {-ECANCELED}},
	{"sends without memory", 15, .sends = {-ENOBUFS, -ENOMEM}},
	{"receives again", 30, .receives = {-EAGAIN, -EINTR}},
	{"receives cancelled", 30, .receives = {-ECANCELED}},
	{"receives without a buffer", 30, .receives = {-ENOBUFS}},
	{"receives without memory", 15, .receives = {-ENOMEM}},
	{"receives reset", 30, .receives = {-ECONNRESET}},
	{"hang-ups", 90, .hangups = {-ECANCELED, -EINTR}},
	{"late, in another order", 60, .late = true},
	{"all", 20, .late = true, .sends = {-EAGAIN, -EINTR, -ECANCELED, -ENOBUFS},
		.receives = {-EAGAIN, -EINTR, -ECANCELED, -ENOBUFS, -ECONNRESET},
		.hangups = {-ECANCELED}},
};

/* What is being done to the engine. */
static const struct alteration *altering;
static unsigned int n_altered;

/* Requests that the kernel is not shown, and what they end with. */
static struct {
	uint64_t about;
	int error;
} refused[ENDS * 3];
static unsigned int n_refused;

static struct {
	uint64_t user_data;
	int result;
	unsigned int flags;
} kept[KEPT_MAX];
static unsigned int n_kept;

/* How often a port's receive was reset. */
static struct {
	uint64_t about;
	unsigned int n;
} resets[ENDS];

static bool
by_chance(unsigned int of_100)
{
	return test_random_below(100) < of_100;
}

static int
one_of(const int *errors)
{
	size_t n = 0;

	while (errors[n])
		n++;
	return n ? errors[test_random_below(n)] : 0;
}

static bool
may_reset(uint64_t about)
{
	unsigned int i;

	for (i = 0; i < ENDS; i++) {
		if (!resets[i].about)
			resets[i].about = about;
		if (resets[i].about == about)
			return resets[i].n++ < RESETS_MAX;
	}
	return false;
}

/* Return: what the request is to end with, 0 to let it go. */
static int
choose_error(uint64_t about)
{
	int error = 0;

	if (!by_chance(altering->of_100))
		return 0;
	switch (about & IPCI_KIND_MASK) {
	case IPCI_KIND_SEND:
		return one_of(altering->sends);
	case IPCI_KIND_HANGUP:
		return one_of(altering->hangups);
	case IPCI_KIND_READABLE:
		return one_of(altering->receives) ? -ECANCELED : 0;
	case IPCI_KIND_RECEIVE:
		error = one_of(altering->receives);
		break;
	}
	return error == -ECONNRESET && !may_reset(about) ? 0 : error;
}

void
ipci_seam_submit(struct io_uring_sqe *sqe)
{
	uint64_t about = sqe->user_data;
	int error;

	if (!altering)
		return;
	if (altering->late)
		sqe->flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
	error = choose_error(about);
	if (!error)
		return;
	check(n_refused < sizeof(refused) / sizeof(refused[0]));
	refused[n_refused].about = about;
	refused[n_refused++].error = error;
	n_altered++;
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, about);
}

/* Give a request that the kernel was not shown its end. */
static void
refuse(struct io_uring_cqe *cqe)
{
	unsigned int i;

	for (i = 0; i < n_refused; i++) {
		if (refused[i].about != cqe->user_data)
			continue;
		cqe->res = refused[i].error;
		cqe->flags = 0;
		refused[i] = refused[--n_refused];
		return;
	}
}

static bool
is_behind_another(const struct io_uring_cqe *cqe)
{
	unsigned int i;

	for (i = 0; i < n_kept; i++)
		if (kept[i].user_data == cqe->user_data)
			return true;
	return false;
}

bool
ipci_seam_complete(struct io_uring_cqe *cqe)
{
	refuse(cqe);
	if (!is_behind_another(cqe) && !(altering && altering->late && by_chance(altering->of_100)))
		return true;
	check(n_kept < KEPT_MAX);
	kept[n_kept].user_data = cqe->user_data;
	kept[n_kept].result = cqe->res;
	kept[n_kept++].flags = cqe->flags;
	n_altered++;
	return false;
}

bool
ipci_seam_keeps(void)
{
	return n_kept > 0;
}

/* Any may come first, but those of one request in their order. */
bool
ipci_seam_late(struct io_uring_cqe *ret_cqe)
{
	unsigned int i, first;

	if (!n_kept || (altering && by_chance(30)))
		return false;
	i = (unsigned int)test_random_below(n_kept);
	for (first = 0; kept[first].user_data != kept[i].user_data; first++)
		;
	ret_cqe->user_data = kept[first].user_data;
	ret_cqe->res = kept[first].result;
	ret_cqe->flags = kept[first].flags;
	for (i = first; i + 1 < n_kept; i++)
		kept[i] = kept[i + 1];
	n_kept--;
	return true;
}

/* Traffic. */

/* One end: what it sends follows from its number and place, and so does what it is to get. */
struct end {
	struct ear ear;
	struct ipc_channel *channel;
	unsigned int index, n, sent;
	bool has_fds;
	int file; /* passed with some */
};

static unsigned char payload[300000];

static uint64_t
key_of(unsigned int index, unsigned int place)
{
	return (uint64_t)index << 32 | place;
}

/* All but the content, and the descriptor. */
static struct ipc_message
head_of(const struct end *end, unsigned int index, unsigned int place)
{
	uint64_t draw;

	fill(&draw, sizeof(draw), ~key_of(index, place));
	return (struct ipc_message){
		.id = place,
		.size = draw % 53 == 0 ? (size_t)(draw >> 8) % sizeof(payload)
	                               : (size_t)(draw >> 8) % 2000,
		.n_fds = end->has_fds && place % 5 == 0,
	};
}

static void
send_on(struct end *end)
{
	struct ipc_message message;
	int r;

	for (; end->sent < end->n; end->sent++) {
		message = head_of(end, end->index, end->sent);
		message.data = payload;
		message.fds = &end->file;
		fill(payload, message.size, key_of(end->index, end->sent));
		r = ipc_channel_send(end->channel, &message, 0);
		if (r == -EAGAIN)
			return;
		check_equal(r, 0);
	}
}

static void
go_on(struct ear *ear, struct ipc_channel *channel)
{
	(void)channel;
	send_on(ear->arg);
}

static void
verify(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct end *end = ear->arg;
	/* Its peer's number is the neighbour's. */
	unsigned int from = end->index ^ 1, place = ear->messages - 1;
	struct ipc_message expected = head_of(end, from, place);

	(void)channel;
	check_equal(message->id, expected.id);
	check_equal(message->size, expected.size);
	check(is_filled(message->data, message->size, key_of(from, place)));
	check_equal(message->n_fds, expected.n_fds);
	if (message->n_fds)
		check(is_same_file(message->fds[0], end->file));
}

/* Of each way to receive some. */
static const struct ipc_channel_options ways[] = {
	{.size = sizeof(ways[0])},
	{.size = sizeof(ways[0]), .fds_max = 1, .record_max = 20000},
	{.size = sizeof(ways[0]), .fds_max = 1, .record_max = IPC_CHANNEL_RECORD_MAX_LIMIT},
};
#define N_WAYS (sizeof(ways) / sizeof(ways[0]))

static void
ends_open(struct end *ends, struct ipc_loop *loop, unsigned int n, int file)
{
	unsigned int i;

	for (i = 0; i < ENDS; i++) {
		ends[i] = (struct end){
			.ear = {.on_message = verify, .on_writable = go_on, .arg = &ends[i]},
			.index = i,
			.n = n,
			.has_fds = ways[i / 2 % N_WAYS].fds_max,
			.file = file,
		};
	}
	for (i = 0; i < ENDS; i += 2)
		pair_open(&ends[i].channel, &ends[i + 1].channel, &ways[i / 2 % N_WAYS]);
	for (i = 0; i < ENDS; i++)
		ear_attach(&ends[i].ear, loop, ends[i].channel);
}

static bool
all_have(const struct end *ends, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < ENDS; i++)
		if (ends[i].ear.messages < n)
			return false;
	return true;
}

static void
exchange(struct end *ends, struct ipc_loop *loop, unsigned int n)
{
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;
	unsigned int i;

	for (i = 0; i < ENDS; i++) {
		ends[i].n = n;
		send_on(&ends[i]);
	}
	while (!all_have(ends, n)) {
		check(ipc_loop_turn(loop, 5) >= 0);
		check(now_ms() < give_up_ms);
	}
}

/* Half of the ends are closed, the other half learn of it. */
static void
ends_close(struct end *ends, struct ipc_loop *loop)
{
	unsigned int i;

	for (i = 0; i < ENDS; i += 2)
		ipc_channel_close(ends[i].channel);
	for (i = 1; i < ENDS; i += 2) {
		turn_until(loop, ends[i].ear.closeds);
		check_equal(ends[i].ear.reason, 0);
		ipc_channel_close(ends[i].channel);
	}
}

static void
under(const struct alteration *alteration)
{
	unsigned int n = test_count(1500, 150);
	struct ipc_loop *loop = loop_open(LOOP_OPTIONS(.buffers = BUFFERS));
	struct end ends[ENDS];
	int pipe_fds[2];

	check_equal(pipe(pipe_fds), 0);
	n_altered = 0;
	memset(resets, 0, sizeof(resets));
	ends_open(ends, loop, n, pipe_fds[0]);
	altering = alteration;
	exchange(ends, loop, n);
	check_equal(n_altered > 0, alteration->of_100 > 0);
	/* Every buffer has come back: else this would stand still, or be starved at last. */
	altering = NULL;
	exchange(ends, loop, 2 * n);
	altering = alteration;
	ends_close(ends, loop);
	altering = NULL;
	ipc_loop_destroy(loop);
	check_equal(n_refused, 0);
	check_equal(n_kept, 0);
	check_equal(close(pipe_fds[0]), 0);
	check_equal(close(pipe_fds[1]), 0);
}

static void
nothing_is_lost_or_doubled(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(alterations) / sizeof(alterations[0]); i++) {
		(void)printf("%s\n", alterations[i].name);
		(void)fflush(stdout);
		under(&alterations[i]);
	}
}

/* Destroy, and take everything out of the channels. */
static void
destroyed_amid_alterations_nothing_is_lost(void **state)
{
	const struct alteration *alteration =
		&alterations[sizeof(alterations) / sizeof(alterations[0]) - 1];
	unsigned int rounds = test_count(60, 10), round, i, n = 40;
	struct end ends[ENDS];
	struct ipc_message message;
	struct ipc_loop *loop;
	int pipe_fds[2];

	(void)state;
	check_equal(pipe(pipe_fds), 0);
	for (round = 0; round < rounds; round++) {
		memset(resets, 0, sizeof(resets));
		loop = loop_open(LOOP_OPTIONS(.buffers = BUFFERS, .out_bytes_max = 64U << 20));
		ends_open(ends, loop, n, pipe_fds[0]);
		altering = alteration;
		for (i = 0; i < ENDS; i++)
			send_on(&ends[i]);
		for (i = (unsigned int)test_random_below(10); i; i--)
			check(ipc_loop_turn(loop, 0) >= 0);
		ipc_loop_destroy(loop);
		altering = NULL;
		for (i = 0; i < ENDS; i++) {
			while (ends[i].ear.messages < n) {
				(void)ipc_channel_flush(ends[i ^ 1].channel, 0);
				if (ipc_channel_recv(ends[i].channel, &message, 0) < 0)
					continue;
				ends[i].ear.messages++;
				verify(&ends[i].ear, ends[i].channel, &message);
			}
		}
		for (i = 0; i < ENDS; i++)
			ipc_channel_close(ends[i].channel);
	}
	check_equal(close(pipe_fds[0]), 0);
	check_equal(close(pipe_fds[1]), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(nothing_is_lost_or_doubled),
		loop_test(destroyed_amid_alterations_nothing_is_lost),
	};

	/* The other engine has no completions. */
	if (setenv("LIBIPC_ENGINE", "uring", 1) < 0)
		return EXIT_FAILURE;
	return run_on_engines(tests);
}
