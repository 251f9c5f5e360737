/* SPDX-License-Identifier: MIT */

/*
 * Completions of io_uring altered on their way in: requests that the kernel refuses, receives that
 * end when they have brought a packet, completions that come late and in another order, queues that
 * are full. A refused request is one that the kernel never saw, as those are whose error says so;
 * a receive that ends is one that it was asked to end.
 *
 * Knows the kinds of the engine's requests, what a receive of many packets puts into a buffer, and
 * the seam that the engine's test build has.
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

/* The fewest entries that the engine asks for, and fewer completions than it ever does. */
#define RING_ENTRIES     8
#define RING_COMPLETIONS 8

struct alteration {
	const char *name;
	unsigned int of_100; /* requests refused, receives cut short, completions kept */
	bool each_second;    /* of a port's receives is refused, not some by chance */
	bool cut_short;      /* a receive of many packets is one of the first */
	bool late;
	bool backwards;                        /* what came last is told first */
	int sends[6], receives[6], hangups[3]; /* errors, to the first 0 */
};

enum { NOTHING, ALL };

static const struct alteration alterations[] = {
	[NOTHING] = {"nothing", 0, .late = false},
	[ALL] = {"all", 20, .cut_short = true, .late = true,
		.sends = {-EAGAIN, -EINTR, -ECANCELED, -ENOBUFS},
		.receives = {-EAGAIN, -EINTR, -ECANCELED, -ENOBUFS, -ECONNRESET},
		.hangups = {-ECANCELED}},
	{"sends again", 30, .sends = {-EAGAIN, -EINTR}},
	{"sends cancelled", 30, .sends = {-ECANCELED}},
	{"sends without memory", 15, .sends = {-ENOBUFS, -ENOMEM}},
	{"receives again", 30, .receives = {-EAGAIN, -EINTR}},
	{"receives cancelled", 30, .receives = {-ECANCELED}},
	{"receives without a buffer", 30, .receives = {-ENOBUFS}},
	{"each second receive without a buffer", 0, .each_second = true, .receives = {-ENOBUFS}},
	{"receives without memory", 15, .receives = {-ENOMEM}},
	{"receives reset", 30, .receives = {-ECONNRESET}},
	{"receives that end with each packet", 100, .cut_short = true},
	{"hang-ups", 90, .hangups = {-ECANCELED, -EINTR}},
	{"late, in another order", 60, .late = true},
	{"late, the last first", 100, .late = true, .backwards = true},
};

/* What is being done to the engine. */
static const struct alteration *altering;
static unsigned int n_altered, n_overtaken;
/* Receives of many packets that the kernel has ended though the last brought one. */
static unsigned int n_ended;
/* The next ring is as small as can be. */
static bool small_ring;
/* A kernel that knows no such receives. */
static enum { KNOWS_ALL, KNOWS_NO_MANY, KNOWS_NO_ONE } kernel;

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

/* What was done to a port's receives. */
struct receiver {
	uint64_t about;
	unsigned int n, n_resets;
	bool is_short;   /* the one under way is of one packet, where many were asked for */
	bool has_closed; /* the peer: the next is to say so in its own way */
};
static struct receiver receivers[ENDS];

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

static struct receiver *
receiver_of(uint64_t about)
{
	unsigned int i = 0;

	while (receivers[i].about && receivers[i].about != about)
		check(++i < ENDS);
	receivers[i].about = about;
	return &receivers[i];
}

static int
choose_receive_error(struct receiver *receiver)
{
	int error = one_of(altering->receives);

	if (altering->each_second)
		return receiver->n++ % 2 ? error : 0;
	if (!by_chance(altering->of_100))
		return 0;
	return error == -ECONNRESET && receiver->n_resets++ >= RESETS_MAX ? 0 : error;
}

/* Return: what the request is to end with, 0 to let it go. */
static int
choose_error(uint64_t about)
{
	if ((about & IPCI_KIND_MASK) == IPCI_KIND_RECEIVE)
		return choose_receive_error(receiver_of(about));
	if (!by_chance(altering->of_100))
		return 0;
	switch (about & IPCI_KIND_MASK) {
	case IPCI_KIND_SEND:
		return one_of(altering->sends);
	case IPCI_KIND_HANGUP:
		return one_of(altering->hangups);
	case IPCI_KIND_READABLE:
		return one_of(altering->receives) ? -ECANCELED : 0;
	}
	return 0;
}

/* The kernel may end a receive of many packets with any of them. */
static void
cut_short(struct io_uring_sqe *sqe)
{
	struct receiver *receiver;

	if ((sqe->user_data & IPCI_KIND_MASK) != IPCI_KIND_RECEIVE ||
		!(sqe->ioprio & IORING_RECV_MULTISHOT))
		return;
	receiver = receiver_of(sqe->user_data);
	if (receiver->has_closed || !by_chance(altering->of_100))
		return;
	sqe->ioprio &= (uint16_t)~IORING_RECV_MULTISHOT;
	receiver->is_short = true;
	n_altered++;
}

/* The kernel is not shown the request, which ends with this error. */
static void
refuse_later(struct io_uring_sqe *sqe, int error)
{
	uint64_t about = sqe->user_data;

	check(n_refused < sizeof(refused) / sizeof(refused[0]));
	refused[n_refused].about = about;
	refused[n_refused++].error = error;
	n_altered++;
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, about);
}

static bool
is_unknown(const struct io_uring_sqe *sqe)
{
	bool is_many = sqe->ioprio & IORING_RECV_MULTISHOT;

	if (kernel == KNOWS_ALL || (sqe->user_data & IPCI_KIND_MASK) != IPCI_KIND_RECEIVE)
		return false;
	return is_many == (kernel == KNOWS_NO_MANY);
}

void
ipci_seam_submit(struct io_uring_sqe *sqe)
{
	uint64_t about = sqe->user_data;
	int error;

	if (is_unknown(sqe)) {
		refuse_later(sqe, -EINVAL);
		return;
	}
	if (!altering)
		return;
	if (altering->late)
		sqe->flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
	error = choose_error(about);
	if (!error) {
		if (altering->cut_short)
			cut_short(sqe);
		return;
	}
	refuse_later(sqe, error);
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

/* A receive of one packet puts nothing before it. */
static void
lay_out_as_of_many(struct io_uring_cqe *cqe)
{
	const struct ipci_uring_port *up =
		(void *)(uintptr_t)(cqe->user_data & ~(uint64_t)IPCI_KIND_MASK);
	uint8_t *memory = ipci_uring_buffer_memory(
		up->port->loop->engine, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	struct io_uring_recvmsg_out out = {
		.payloadlen = (uint32_t)cqe->res,
		.flags = (uint32_t)up->receive_header.msg_flags,
	};

	memmove(memory + sizeof(out), memory, (size_t)cqe->res);
	memcpy(memory, &out, sizeof(out));
	cqe->res += (int)sizeof(out);
}

/* Let the end of a receive that was cut short be that of one of many packets. */
static void
end_short(struct io_uring_cqe *cqe)
{
	struct receiver *receiver;

	if ((cqe->user_data & IPCI_KIND_MASK) != IPCI_KIND_RECEIVE)
		return;
	receiver = receiver_of(cqe->user_data);
	if (!receiver->is_short)
		return;
	receiver->is_short = false;
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		lay_out_as_of_many(cqe);
	} else if (cqe->res == 0) {
		/* The end of stream would have a buffer; the socket says it again to the next. */
		receiver->has_closed = true;
		cqe->res = -EINTR;
	}
}

static void
count_ended(const struct io_uring_cqe *cqe)
{
	const struct ipci_uring_port *up =
		(void *)(uintptr_t)(cqe->user_data & ~(uint64_t)IPCI_KIND_MASK);

	if ((cqe->user_data & IPCI_KIND_MASK) == IPCI_KIND_RECEIVE &&
		up->way == IPCI_WAY_MULTISHOT && !(cqe->flags & IORING_CQE_F_MORE) &&
		cqe->res > (int)sizeof(struct io_uring_recvmsg_out))
		n_ended++;
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
	end_short(cqe);
	count_ended(cqe);
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
	bool backwards = altering && altering->backwards;
	unsigned int i, first;

	if (!n_kept || (altering && !backwards && by_chance(30)))
		return false;
	i = backwards ? n_kept - 1 : (unsigned int)test_random_below(n_kept);
	for (first = 0; kept[first].user_data != kept[i].user_data; first++)
		;
	n_overtaken += first > 0;
	ret_cqe->user_data = kept[first].user_data;
	ret_cqe->res = kept[first].result;
	ret_cqe->flags = kept[first].flags;
	for (i = first; i + 1 < n_kept; i++)
		kept[i] = kept[i + 1];
	n_kept--;
	return true;
}

int __real_io_uring_queue_init_params(
	unsigned int entries, struct io_uring *ring, struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(
	unsigned int entries, struct io_uring *ring, struct io_uring_params *params);

int
__wrap_io_uring_queue_init_params(
	unsigned int entries, struct io_uring *ring, struct io_uring_params *params)
{
	if (small_ring) {
		entries = RING_ENTRIES;
		params->cq_entries = RING_COMPLETIONS;
	}
	return __real_io_uring_queue_init_params(entries, ring, params);
}

static void
alterations_reset(void)
{
	altering = NULL;
	small_ring = false;
	n_altered = n_overtaken = n_ended = 0;
	memset(receivers, 0, sizeof(receivers));
}

/* Traffic. */

/* One end: what it sends follows from its number and place, and so does what it is to get. */
struct end {
	struct ear ear;
	struct ipc_channel *channel;
	unsigned int index, n, sent;
	unsigned int n_mixed; /* messages of all sizes; those after them take one packet each */
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
		.size = place < end->n_mixed && draw % 53 == 0
	                        ? (size_t)(draw >> 8) % sizeof(payload)
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
			.n_mixed = 2 * n,
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

/*
 * Each buffer but one takes a packet, in one turn. When a receive of many packets, as the last is,
 * has taken one it asks for a buffer for the next: the one that is left, if none was lost.
 */
static void
expect_all_buffers(struct end *ends, struct ipc_loop *loop)
{
	/* Those whose peers are received into buffers, of many packets last. */
	static const unsigned int senders[BUFFERS - 1] = {2, 3, 8, 0, 1, 6, 7};
	unsigned int i, n = ends[0].n;
	uint64_t starved;

	(void)turn_out(loop);
	starved = loop_stats_of(loop).starved;
	for (i = 0; i < BUFFERS - 1; i++) {
		ends[senders[i]].n++;
		send_on(&ends[senders[i]]);
	}
	for (i = 0; i < BUFFERS - 1; i++)
		turn_until(loop, ends[senders[i] ^ 1].ear.messages == n + 1);
	check_equal(loop_stats_of(loop).starved, starved);
}

static void
under(const struct alteration *alteration, bool small)
{
	unsigned int n = test_count(600, 100);
	struct ipc_loop *loop;
	struct end ends[ENDS];
	int pipe_fds[2];

	(void)printf("%s\n", alteration->name);
	(void)fflush(stdout);
	check_equal(pipe(pipe_fds), 0);
	alterations_reset();
	small_ring = small;
	loop = loop_open(LOOP_OPTIONS(.buffers = BUFFERS));
	ends_open(ends, loop, n, pipe_fds[0]);
	altering = alteration;
	exchange(ends, loop, n);
	check_equal(n_altered > 0, alteration != &alterations[NOTHING]);
	/* What is done by chance need not have come about. */
	check(n_overtaken > 0 || !alteration->backwards);
	check(n_ended > 0 || !alteration->cut_short || alteration->of_100 < 100);
	altering = NULL;
	exchange(ends, loop, 2 * n);
	expect_all_buffers(ends, loop);
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
	for (i = 0; i < sizeof(alterations) / sizeof(alterations[0]); i++)
		under(&alterations[i], false);
}

static void
nothing_is_lost_or_doubled_with_full_queues(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(alterations) / sizeof(alterations[0]); i++)
		under(&alterations[i], true);
}

/* More packets than there is room for their completions, from peers that the loop does not have. */
static void
receives_that_a_full_queue_ends_go_on(void **state)
{
	unsigned int rounds = test_count(200, 20), round, i, n;
	struct ipc_channel *owns[PAIRS], *peers[PAIRS];
	struct ipc_loop *loop;
	struct ear ears[PAIRS];

	(void)state;
	alterations_reset();
	small_ring = true;
	loop = loop_open(LOOP_OPTIONS(.buffers = 8 * RING_COMPLETIONS));
	for (i = 0; i < PAIRS; i++) {
		ears[i] = (struct ear){.loop = loop};
		pair_open(&owns[i], &peers[i], NULL);
		ear_attach(&ears[i], loop, owns[i]);
	}
	(void)turn_out(loop);
	for (round = 1; round <= rounds; round++) {
		for (i = 0; i < PAIRS; i++)
			for (n = 0; n < RING_COMPLETIONS; n++)
				send_text(peers[i], "packet");
		for (i = 0; i < PAIRS; i++)
			turn_until(loop, ears[i].messages == round * RING_COMPLETIONS);
	}
	check(n_ended > 0);
	for (i = 0; i < PAIRS; i++) {
		ipc_channel_close(owns[i]);
		ipc_channel_close(peers[i]);
	}
	ipc_loop_destroy(loop);
}

/* Destroy, and take everything out of the channels. */
static void
destroyed_amid_alterations_nothing_is_lost(void **state)
{
	unsigned int rounds = test_count(60, 10), round, i, n = 40;
	struct end ends[ENDS];
	struct ipc_message message;
	struct ipc_loop *loop;
	int pipe_fds[2];

	(void)state;
	check_equal(pipe(pipe_fds), 0);
	for (round = 0; round < rounds; round++) {
		alterations_reset();
		loop = loop_open(LOOP_OPTIONS(.buffers = BUFFERS, .out_bytes_max = 64U << 20));
		ends_open(ends, loop, n, pipe_fds[0]);
		altering = &alterations[ALL];
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

/* Kernels before Linux 6.2 then throw away what has come and was not received: it is told that
   there may have been something. This one still has it. */
static void
a_send_that_met_the_peers_exit_is_told_at_the_end(void **state)
{
	static const struct alteration exit = {
		"sends that meet the peer's exit", 100, .sends = {-ECONNREFUSED}};
	struct ipc_message message = text_message("too late");
	struct ipc_channel *own, *peer;
	struct ipc_loop *loop;
	struct ear ear;

	(void)state;
	alterations_reset();
	loop = loop_open(NULL);
	ear = (struct ear){.loop = loop};
	pair_open(&own, &peer, NULL);
	ear_attach(&ear, loop, own);
	(void)turn_out(loop);
	send_text(peer, "last words");
	altering = &exit;
	gather_text(own, "too late");
	turn_until(loop, ear.messages == 1);
	(void)turn_out(loop);
	check_equal(ipc_channel_post(own, &message, 0), -EPIPE);
	ipc_channel_close(peer);
	turn_until(loop, ear.closeds == 1);
	altering = NULL;
	check_equal(ear.reason, -ECONNRESET);
	check_equal(ipc_channel_recv(own, &message, 0), -ECONNRESET);
	ipc_channel_close(own);
	ipc_loop_destroy(loop);
}

/* Each way to receive that a loop may use is proved: else it would close channels that came later.
 */
static void
a_kernel_without_one_way_to_receive_is_left_to_epoll(void **state)
{
	static const char *const words[] = {
		[KNOWS_NO_MANY] = "a receive of many packets",
		[KNOWS_NO_ONE] = "a receive of a packet with a descriptor",
	};
	struct ipc_loop_options options = {.size = sizeof(options)};
	struct ipc_loop *loop;

	(void)state;
	check_equal(unsetenv("LIBIPC_ENGINE"), 0);
	for (kernel = KNOWS_NO_MANY; kernel <= KNOWS_NO_ONE; kernel++) {
		alterations_reset();
		options.engine = IPC_ENGINE_AUTO;
		check_equal(ipc_loop_create(&loop, &options), 0);
		check_equal(strcmp(ipc_loop_engine(loop), "epoll"), 0);
		check(strstr(ipc_loop_engine_reason(loop), words[kernel]));
		ipc_loop_destroy(loop);
		options.engine = IPC_ENGINE_URING;
		check_equal(ipc_loop_create(&loop, &options), -EINVAL);
		check_equal(n_refused, 0);
	}
	kernel = KNOWS_ALL;
	options.engine = IPC_ENGINE_AUTO;
	check_equal(ipc_loop_create(&loop, &options), 0);
	check_equal(strcmp(ipc_loop_engine(loop), "io_uring"), 0);
	ipc_loop_destroy(loop);
	check_equal(setenv("LIBIPC_ENGINE", "uring", 1), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(nothing_is_lost_or_doubled),
		loop_test(nothing_is_lost_or_doubled_with_full_queues),
		loop_test(receives_that_a_full_queue_ends_go_on),
		loop_test(destroyed_amid_alterations_nothing_is_lost),
		loop_test(a_send_that_met_the_peers_exit_is_told_at_the_end),
		loop_test(a_kernel_without_one_way_to_receive_is_left_to_epoll),
	};

	/* The other engine has no completions. */
	if (setenv("LIBIPC_ENGINE", "uring", 1) < 0)
		return EXIT_FAILURE;
	return run_on_engines(tests);
}
