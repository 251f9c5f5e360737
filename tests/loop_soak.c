/* SPDX-License-Identifier: MIT */

/*
 * Order and integrity in loops, for long: many channels between one loop and the loops of several
 * workers, mixed sizes, descriptors among them, both ways at once and as full as the other side
 * allows. LIBIPC_TEST_SOAK_SECONDS says how long.
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loop_support.h"
#include "traffic.h"

#define WORKERS  8
#define CHANNELS 8 /* of each */
/* Messages of one channel that were not answered yet, at most: enough for full sockets both ways.
 */
#define WINDOW 400
/* What the parent may hold: for each channel the largest message, three packets and what waits for
   room; of the loop the buffers; and of the program itself. */
#define PACKET_SIZE  (128U << 10)
#define CHANNEL_SIZE (TRAFFIC_SIZE_MAX + 3 * PACKET_SIZE + IPC_LOOP_OUT_BYTES_MAX_DEFAULT)
#define RESIDENT_MAX                                                                           \
	(WORKERS * CHANNELS * (size_t)CHANNEL_SIZE + IPC_LOOP_BUFFERS_DEFAULT * (200U << 10) + \
		(16U << 20))
/* And what it may grow by, once warm: after so many seconds each has had large ones. */
#define GROWTH_MAX   (8U << 20)
#define WARM_SECONDS 60

/* In the key of what comes back. */
#define ANSWER ((uint64_t)1 << 62)

/* One end of a channel: it sends as much as it may, and checks what comes. */
struct end {
	struct ipc_channel *channel;
	struct crowd *crowd;
	uint64_t out_key, in_key; /* of the first message */
	uint64_t sent, received;
	uint64_t refused; /* for want of room */
};

/* The ends of one process. */
struct crowd {
	struct ipc_loop *loop;
	unsigned int n;
	struct end *ends;
	bool answers; /* as much is sent as came; else as the window allows, while it is open */
	bool open;
	unsigned int closed;
};

static uint64_t
may_send(const struct end *end)
{
	if (end->crowd->answers)
		return end->received - end->sent;
	return end->crowd->open ? WINDOW - (end->sent - end->received) : 0;
}

static void
pump(struct end *end)
{
	struct ipc_message message;
	int r;

	while (may_send(end)) {
		message = traffic_message(end->out_key + end->sent);
		r = ipc_channel_post(end->channel, &message, 0);
		if (r == -EAGAIN) {
			end->refused++;
			return;
		}
		check_equal(r, 0);
		end->sent++;
	}
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct end *end = user;

	check(channel == end->channel);
	traffic_verify(message, end->in_key + end->received);
	end->received++;
	pump(end);
}

static void
on_writable(struct ipc_channel *channel, void *user)
{
	(void)channel;
	pump(user);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct end *end = user;

	check_equal(reason, 0);
	check(end->crowd->answers);
	if (++end->crowd->closed == end->crowd->n)
		ipc_loop_stop(end->crowd->loop);
	(void)channel;
}

static void
crowd_open(struct crowd *crowd, struct ipc_channel *const *channels)
{
	static const struct ipc_channel_handler handler = {
		.message = on_message,
		.writable = on_writable,
		.closed = on_closed,
	};
	struct rlimit limit;
	uint64_t share;
	unsigned int i;

	/* All of the ends may have as many gathered as they may: that is half of what there is. */
	check_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	share = limit.rlim_cur / 2 / crowd->n;
	if (share > IPC_LOOP_OUT_FDS_MAX_DEFAULT)
		share = IPC_LOOP_OUT_FDS_MAX_DEFAULT;
	crowd->loop = loop_open(LOOP_OPTIONS(.out_fds_max = (uint32_t)share));
	for (i = 0; i < crowd->n; i++) {
		crowd->ends[i].channel = channels[i];
		crowd->ends[i].crowd = crowd;
		check_equal(
			ipc_loop_attach(crowd->loop, channels[i], &handler, &crowd->ends[i]), 0);
	}
}

static void
crowd_close(struct crowd *crowd)
{
	unsigned int i;

	ipc_loop_destroy(crowd->loop);
	for (i = 0; i < crowd->n; i++)
		ipc_channel_close(crowd->ends[i].channel);
}

static unsigned int
soak_seconds(void)
{
	const char *text = getenv("LIBIPC_TEST_SOAK_SECONDS");

	return text ? (unsigned int)atoi(text) : test_count(6, 2);
}

/* The channels of all workers: the parent's ends, and those of a worker still to be started. */
struct channels {
	struct ipc_channel *parents[WORKERS * CHANNELS];
	struct ipc_channel *workers[CHANNELS];
	unsigned int n; /* of the parent's */
};

static void
answer(void *arg)
{
	struct channels *channels = arg;
	unsigned int first = channels->n - CHANNELS, i;
	struct end ends[CHANNELS] = {{.crowd = NULL}};
	struct crowd crowd = {.n = CHANNELS, .ends = ends, .answers = true};

	alarm(soak_seconds() + TEST_SECONDS_MAX);
	for (i = 0; i < channels->n; i++)
		ipc_channel_close(channels->parents[i]);
	for (i = 0; i < CHANNELS; i++) {
		ends[i].in_key = (uint64_t)(first + i) << 40;
		ends[i].out_key = ends[i].in_key | ANSWER;
	}
	crowd_open(&crowd, channels->workers);
	check_equal(ipc_loop_run(crowd.loop), 0);
	for (i = 0; i < CHANNELS; i++)
		check_equal(ends[i].sent, ends[i].received);
	crowd_close(&crowd);
}

static pid_t
start_worker(struct channels *channels)
{
	unsigned int i;
	pid_t pid;

	for (i = 0; i < CHANNELS; i++)
		pair_open(&channels->parents[channels->n++], &channels->workers[i],
			OPTIONS(.fds_max = TRAFFIC_FDS_MAX));
	pid = child_start(answer, channels);
	for (i = 0; i < CHANNELS; i++)
		ipc_channel_close(channels->workers[i]);
	return pid;
}

static bool
all_answered(const struct crowd *crowd)
{
	unsigned int i;

	for (i = 0; i < crowd->n; i++)
		if (crowd->ends[i].received < crowd->ends[i].sent)
			return false;
	return true;
}

static void
report(const struct crowd *crowd)
{
	struct ipc_loop_stats loop_stats = loop_stats_of(crowd->loop);
	uint64_t messages = 0, fewest = UINT64_MAX, refused = 0, bytes = 0, fds = 0;
	struct ipc_channel_stats stats;
	unsigned int i;

	for (i = 0; i < crowd->n; i++) {
		stats = stats_of(crowd->ends[i].channel);
		messages += stats.out.messages + stats.in.messages;
		bytes += stats.out.bytes + stats.in.bytes;
		fds += stats.out.fds + stats.in.fds;
		refused += crowd->ends[i].refused;
		fewest = crowd->ends[i].received < fewest ? crowd->ends[i].received : fewest;
	}
	(void)printf(
		"%u channels, both ways: %llu messages, %llu bytes, %llu descriptors; at least "
		"%llu answers on each; refused for want of room %llu times; %llu turns, "
		"short of buffers %llu times\n",
		crowd->n, (unsigned long long)messages, (unsigned long long)bytes,
		(unsigned long long)fds, (unsigned long long)fewest, (unsigned long long)refused,
		(unsigned long long)loop_stats.turns, (unsigned long long)loop_stats.starved);
}

static void
send_for_a_while(struct crowd *crowd)
{
	int64_t start_ms = now_ms(), length_ms = (int64_t)soak_seconds() * 1000;
	unsigned int i;
	size_t warm = 0;

	crowd->open = true;
	for (i = 0; i < crowd->n; i++)
		pump(&crowd->ends[i]);
	while (now_ms() < start_ms + length_ms) {
		check(ipc_loop_turn(crowd->loop, TEST_WAIT_MS) > 0);
		if (!warm && now_ms() > start_ms + WARM_SECONDS * 1000)
			warm = resident_bytes();
	}
	crowd->open = false;
	while (!all_answered(crowd))
		check(ipc_loop_turn(crowd->loop, TEST_WAIT_MS) > 0);
	expect_resident_below(warm ? warm + GROWTH_MAX : RESIDENT_MAX);
}

static void
nothing_is_lost_doubled_or_out_of_order(void **state)
{
	static struct end ends[WORKERS * CHANNELS];
	struct crowd crowd = {.n = WORKERS * CHANNELS, .ends = ends};
	struct channels channels = {.n = 0};
	pid_t pids[WORKERS];
	unsigned int i, open;

	(void)state;
	alarm(soak_seconds() + TEST_SECONDS_MAX);
	traffic_open();
	for (i = 0; i < WORKERS; i++)
		pids[i] = start_worker(&channels);
	for (i = 0; i < crowd.n; i++)
		ends[i] = (struct end){
			.out_key = (uint64_t)i << 40,
			.in_key = (uint64_t)i << 40 | ANSWER,
		};
	crowd_open(&crowd, channels.parents);
	open = descriptors_open();

	send_for_a_while(&crowd);
	check_equal(descriptors_open(), open);
	report(&crowd);
	crowd_close(&crowd);
	for (i = 0; i < WORKERS; i++)
		child_end(pids[i]);
	traffic_close();
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(nothing_is_lost_doubled_or_out_of_order),
	};

	return run_on_engines(tests);
}
