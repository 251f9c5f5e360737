/* SPDX-License-Identifier: MIT */

/* A loop's life, the choice of its engine, and its turns. */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "probes.h"
#include "sys.h"
#include "wiped.h"

#define ENGINE_VARIABLE "LIBIPC_ENGINE"

#define NS_PER_MS 1000000

/* How often a spinning wait that looks without a break looks at the clock. */
#define LOOKS_PER_CLOCK 4

/* The page of a loop that a forked child finds wiped. */
#define LIFE_SIZE 4096

/* It comes at once, or something is wrong. */
#define PROOF_TURNS   8
#define PROOF_TURN_MS 100

/* Rounds of sending what others are about to poll for, at most: the rest is work for a turn. */
#define SETTLE_ROUNDS_MAX 4

static int
resolve_options(struct ipc_loop_options *ret, const struct ipc_loop_options *options)
{
	int r = ipci_options_copy(ret, sizeof(*ret), options);

	if (r < 0)
		return r;
	if (!ret->out_bytes_max)
		ret->out_bytes_max = IPC_LOOP_OUT_BYTES_MAX_DEFAULT;
	if (!ret->out_messages_max)
		ret->out_messages_max = IPC_LOOP_OUT_MESSAGES_MAX_DEFAULT;
	if (!ret->out_fds_max)
		ret->out_fds_max = IPC_LOOP_OUT_FDS_MAX_DEFAULT;
	if (!ret->buffers)
		ret->buffers = IPC_LOOP_BUFFERS_DEFAULT;

	if (ret->engine > IPC_ENGINE_EPOLL)
		return -EINVAL;
	if (ret->buffers < IPC_LOOP_BUFFERS_MIN || ret->buffers > IPC_LOOP_BUFFERS_LIMIT ||
		ret->buffers & (ret->buffers - 1))
		return -EINVAL;
	return ret->spin_us < -1 || ret->spin_us > IPC_CHANNEL_SPIN_US_LIMIT ? -EINVAL : 0;
}

/* Called at once by the engine: no callback. */
static void
woken(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct ipc_loop *loop = user;

	(void)events;
	(void)ipci_sys_counter_read(watch->fd);
	loop->stats.syscalls++;
	if (watch == &loop->wake)
		loop->woken = false;
	else
		loop->alarm_ns = 0;
}

void
ipci_loop_wake(struct ipc_loop *loop)
{
	/* A child has the parent's descriptors: what it did to them the parent would see. */
	if (loop->alarm.fd < 0 || loop->woken || !ipci_loop_is_ours(loop))
		return;
	loop->woken = true;
	loop->stats.syscalls++;
	(void)ipci_sys_eventfd_raise(loop->wake.fd);
}

static int64_t
next_due_ns(const struct ipc_loop *loop)
{
	int64_t at_ns = ipci_heap_first_key(&loop->timers);

	return loop->nap_until_ns ? IPCI_MIN(at_ns, loop->nap_until_ns) : at_ns;
}

/* Nothing is to be done after all. A call to stop needs no eventfd outside of a wait: the next
   looks whether there was one. */
static void
unwake(struct ipc_loop *loop)
{
	if (loop->woken)
		woken(&loop->wake, POLLIN, loop);
}

void
ipci_loop_set_alarm(struct ipc_loop *loop)
{
	int64_t at_ns = next_due_ns(loop);

	/* The end of a turn sees to it. */
	if (loop->alarm.fd < 0 || loop->turning || at_ns == loop->alarm_ns ||
		!ipci_loop_is_ours(loop))
		return;
	loop->alarm_ns = at_ns;
	loop->stats.syscalls++;
	(void)ipci_sys_timerfd_set(loop->alarm.fd, at_ns == INT64_MAX ? 0 : at_ns);
}

static void
close_descriptor(int *fd)
{
	if (*fd >= 0)
		(void)ipci_sys_close(*fd);
	*fd = -1;
}

/* Everything but the loop's own memory, which a turn may still be using. */
static void
loop_close(struct ipc_loop *loop)
{
	ipci_watch_finish(&loop->wake);
	ipci_watch_finish(&loop->alarm);
	if (loop->engine)
		loop->ops->destroy(loop->engine, ipci_loop_is_ours(loop));
	loop->engine = NULL;
	close_descriptor(&loop->wake.fd);
	close_descriptor(&loop->alarm.fd);
	ipci_packet_cache_finish(&loop->packets);
}

static void
loop_free(struct ipc_loop *loop)
{
	loop_close(loop);
	ipci_wiped_unmap(loop->life, LIFE_SIZE);
	free(loop);
}

static struct ipc_loop *
loop_alloc(const struct ipc_loop_options *options)
{
	struct ipc_loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->wake.fd = -1;
	loop->alarm.fd = -1;
	loop->life = ipci_sys_map(LIFE_SIZE);
	if (!loop->life || ipci_wiped_add(loop->life, LIFE_SIZE) < 0) {
		ipci_wiped_unmap(loop->life, LIFE_SIZE);
		free(loop);
		return NULL;
	}
	*loop->life = IPCI_LOOP_ALIVE;

	TAILQ_INIT(&loop->ports);
	TAILQ_INIT(&loop->ready);
	TAILQ_INIT(&loop->output);
	TAILQ_INIT(&loop->watches);
	TAILQ_INIT(&loop->fired);
	loop->limits = (struct ipci_port_limits){
		.bytes_max = options->out_bytes_max,
		.messages_max = options->out_messages_max,
		.fds_max = options->out_fds_max,
	};
	ipci_wait_init(&loop->wait, options->spin_us);
	return loop;
}

/* A loop on this engine. ret_step: what failed, in words. */
static int
loop_new(struct ipc_loop **ret, const struct ipci_engine_ops *ops,
	const struct ipc_loop_options *options, const char **ret_step)
{
	struct ipc_loop *loop = loop_alloc(options);
	int r;

	*ret_step = "memory";
	if (!loop)
		return -ENOMEM;
	loop->ops = ops;
	r = ops->create(&loop->engine, loop, options->buffers, ret_step);
	if (r == 0) {
		*ret_step = "eventfd";
		r = ipci_sys_eventfd();
		loop->wake.fd = r;
	}
	if (r >= 0)
		r = ipci_watch_init(&loop->wake, loop, loop->wake.fd, POLLIN, woken);
	if (r < 0) {
		loop_free(loop);
		return r;
	}
	*ret = loop;
	return 0;
}

/*
 * A round trip through the engine, in which everything that a loop needs of a kernel has a part:
 * one end takes no descriptors and is received from many packets at a time, the other takes some,
 * one packet at a time.
 */
struct proof {
	int fd;
	bool given[2]; /* without, and with the descriptor */
	bool lost;     /* this process can have no more descriptors */
	int reason;    /* an end has closed */
};

static void
prove_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	struct proof *proof = user;
	struct stat sent, here;

	(void)channel;
	if (message->size != sizeof(*proof))
		return;
	if (!message->n_fds)
		proof->given[0] = true;
	else if (ipci_sys_fstat(proof->fd, &sent) == 0 &&
		 ipci_sys_fstat(message->fds[0], &here) == 0)
		proof->given[1] = sent.st_dev == here.st_dev && sent.st_ino == here.st_ino;
}

static void
prove_lost(struct ipc_channel *channel, const struct ipc_message *head, void *user)
{
	struct proof *proof = user;

	proof->lost = true;
	(void)channel;
	(void)head;
}

static void
prove_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct proof *proof = user;

	(void)channel;
	if (!proof->reason)
		proof->reason = reason ? reason : -EPIPE;
}

/* A message each way, to the end of that number. Return: 0, or why one did not come. */
static int
prove_ways(struct ipc_loop *loop, struct ipc_channel *const ends[2], struct proof *proof)
{
	struct ipc_message message = {
		.data = proof,
		.size = sizeof(*proof),
		.fds = &proof->fd,
	};
	int r = ipc_channel_send(ends[1], &message, 0), turns;

	message.n_fds = 1;
	if (r == 0)
		r = ipc_channel_send(ends[0], &message, 0);
	for (turns = 0; turns < PROOF_TURNS && r >= 0 && !proof->lost && !proof->reason &&
			!(proof->given[0] && proof->given[1]);
		turns++)
		r = ipc_loop_turn(loop, PROOF_TURN_MS);
	if (r < 0 || (proof->given[0] && proof->given[1]))
		return r < 0 ? r : 0;
	if (proof->reason)
		return proof->reason;
	/* Who naps had no memory. */
	return proof->lost ? -EMFILE : loop->nap_until_ns ? -ENOMEM : -EIO;
}

static int
open_for_proof(struct ipc_channel *ret_ends[2])
{
	struct ipc_channel_options options = {.size = sizeof(options), .spin_us = -1};
	struct ipci_deadline at_once = ipci_deadline(0);
	int fds[2], i, r = ipci_sys_socketpair(fds);

	if (r < 0)
		return r;
	for (i = 0; i < 2 && r == 0; i++) {
		options.fds_max = (uint32_t)i;
		r = ipci_channel_open_ours(&ret_ends[i], fds[i], &options);
		if (r < 0)
			break;
		fds[i] = -1;
		ipci_channel_trust(ret_ends[i]);
	}
	ipci_fds_close_some(fds, 2);
	for (i = 0; i < 2 && r == 0; i++)
		r = ipci_in_hello(ret_ends[i], &at_once);
	return r;
}

/* ret_step: what failed, in words. */
static int
prove(struct ipc_loop *loop, const char **ret_step)
{
	static const struct ipc_channel_handler handler = {
		.message = prove_message,
		.lost = prove_lost,
		.closed = prove_closed,
	};
	struct proof proof = {.fd = loop->wake.fd};
	struct ipc_channel *ends[2] = {NULL, NULL};
	int r, i;

	*ret_step = "io_uring, a round trip";
	r = open_for_proof(ends);
	for (i = 0; i < 2 && r == 0; i++)
		r = ipc_loop_attach(loop, ends[i], &handler, &proof);
	if (r == 0) {
		r = prove_ways(loop, ends, &proof);
		*ret_step = proof.given[0] ? "io_uring, a receive of a packet with a descriptor"
		                           : "io_uring, a receive of many packets";
	}
	ipc_channel_close(ends[0]);
	ipc_channel_close(ends[1]);
	return r;
}

/* What a failure to set io_uring up most often means. */
static const char *
hint(int error)
{
	switch (error) {
	case -EPERM:
		return " (seccomp or kernel.io_uring_disabled)";
	case -ENOSYS:
		return " (a kernel or sandbox without io_uring)";
	case -ENOMEM:
		return " (RLIMIT_MEMLOCK)";
	case -EINVAL:
		return " (a kernel before 6.0)";
	default:
		return "";
	}
}

static int
create_uring(struct ipc_loop **ret, const struct ipc_loop_options *options, char *reason,
	size_t reason_size)
{
	struct ipc_loop *loop;
	const char *step, *why;
	int r = loop_new(&loop, &ipci_engine_uring, options, &step);

	why = hint(r);
	if (r == 0) {
		r = prove(loop, &step);
		if (r < 0)
			loop_free(loop);
	}
	if (r < 0) {
		(void)snprintf(reason, reason_size, "%s: %s%s", step, strerrordesc_np(-r), why);
		return r;
	}
	loop->stats = (struct ipc_loop_stats){0};
	*ret = loop;
	return 0;
}

/* What the environment says of the engine. */
static int
override_engine(enum ipc_engine *engine, const char **ret_why)
{
	const char *text = secure_getenv(ENGINE_VARIABLE);

	*ret_why = *engine == IPC_ENGINE_AUTO ? NULL : "asked for by the program";
	if (!text || !*text)
		return 0;
	*ret_why = "asked for by " ENGINE_VARIABLE;
	if (strcmp(text, "uring") == 0)
		*engine = IPC_ENGINE_URING;
	else if (strcmp(text, "epoll") == 0)
		*engine = IPC_ENGINE_EPOLL;
	else
		return -EINVAL;
	return 0;
}

int
ipc_loop_create(struct ipc_loop **ret, const struct ipc_loop_options *options)
{
	struct ipc_loop_options resolved;
	struct ipc_loop *loop = NULL;
	const char *why, *step;
	char reason[sizeof(loop->reason)];
	int r;

	assert(ret);
	r = resolve_options(&resolved, options);
	if (r == 0)
		r = override_engine(&resolved.engine, &why);
	if (r < 0)
		return r;

	if (resolved.engine != IPC_ENGINE_EPOLL) {
		r = create_uring(&loop, &resolved, reason, sizeof(reason));
		if (r < 0 && resolved.engine == IPC_ENGINE_URING)
			return r;
		if (r == 0)
			why = why ? why : "a round trip with a descriptor proved that it works";
		else
			why = reason;
	}
	if (!loop) {
		r = loop_new(&loop, &ipci_engine_epoll, &resolved, &step);
		if (r < 0)
			return r;
	}
	loop->is_proved = true;
	(void)snprintf(loop->reason, sizeof(loop->reason), "%s", why);
	*ret = loop;
	return 0;
}

struct ipc_loop *
ipc_loop_destroy(struct ipc_loop *loop)
{
	if (!loop)
		return NULL;
	ipci_ports_finish(loop);
	ipci_watches_finish(loop);
	ipci_timers_finish(loop);
	if (!loop->turning) {
		loop_free(loop);
		return NULL;
	}
	loop->destroyed = true;
	/* A child may never come back from the callback, and holds the parent's descriptors. */
	if (!ipci_loop_is_ours(loop))
		loop_close(loop);
	return NULL;
}

const char *
ipc_loop_engine(const struct ipc_loop *loop)
{
	assert(loop);
	return loop->ops->name;
}

const char *
ipc_loop_engine_reason(const struct ipc_loop *loop)
{
	assert(loop);
	return loop->reason;
}

/* Is there anything to make a callback for? */
static bool
has_work(const struct ipc_loop *loop, int64_t now_ns)
{
	return loop->n_ready || !TAILQ_EMPTY(&loop->fired) || next_due_ns(loop) <= now_ns;
}

/* Look again and again until until_ns. Return: whether there is work, or -errno. */
static int
spin(struct ipc_loop *loop, int64_t start_ns, int64_t until_ns)
{
	int64_t gap_ns = loop->ops->looks_are_free ? 0 : ipci_wait_gap_ns(&loop->wait);
	int64_t now_ns = start_ns;
	unsigned int looks;
	bool found = false;
	int r = 0;

	for (looks = 1; r == 0 && !found && now_ns < until_ns; looks++) {
		r = loop->ops->wait(loop->engine, 0);
		ipci_ports_send(loop);
		found = has_work(loop, now_ns) || atomic_load(&loop->stop);
		if (found)
			break;
		if (gap_ns)
			now_ns = ipci_wait_until(now_ns + gap_ns);
		else if (looks % LOOKS_PER_CLOCK == 0)
			now_ns = ipci_sys_now_ns();
	}

	if (r == 0 && ipci_wait_learns(&loop->wait)) {
		now_ns = ipci_sys_now_ns();
		ipci_wait_learn_spin(&loop->wait, start_ns, now_ns);
		if (found)
			ipci_wait_learn(&loop->wait, now_ns - start_ns, false);
	}
	return r < 0 ? r : found;
}

/* Milliseconds from now until at_ns, rounded up, at most limit_ms, which is -1 for no limit. */
static int
ms_until(int64_t at_ns, int64_t now_ns, int limit_ms)
{
	int64_t ms;

	if (at_ns == INT64_MAX)
		return limit_ms;
	ms = at_ns <= now_ns ? 0 : (at_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
	ms = IPCI_MIN(ms, INT32_MAX);
	return limit_ms < 0 ? (int)ms : IPCI_MIN((int)ms, limit_ms);
}

/* Sleep until there is work, a stop, or the time is over. */
static int
sleep_for_work(struct ipc_loop *loop, struct ipci_deadline *deadline, int64_t now_ns)
{
	int left_ms, r;

	for (;;) {
		left_ms = ipci_deadline_left_ms(deadline, now_ns);
		r = loop->ops->wait(loop->engine, ms_until(next_due_ns(loop), now_ns, left_ms));
		/* What was under way went on, and may go on now. */
		if (r == 0)
			ipci_ports_send(loop);
		now_ns = ipci_sys_now_ns();
		if (r < 0 || has_work(loop, now_ns) || atomic_load(&loop->stop))
			return r;
		if (!ipci_deadline_left_ms(deadline, now_ns))
			return 0;
	}
}

static int
wait_for_work(struct ipc_loop *loop, struct ipci_deadline *deadline)
{
	int64_t start_ns = ipci_sys_now_ns(), spin_ns;
	int r;

	ipci_deadline_start(deadline, start_ns);
	if (has_work(loop, start_ns) || atomic_load(&loop->stop) ||
		!ipci_deadline_left_ms(deadline, start_ns))
		return loop->ops->wait(loop->engine, 0);

	spin_ns = ipci_wait_spin_ns(&loop->wait, start_ns);
	if (deadline->at_ns)
		spin_ns = IPCI_MIN(spin_ns, deadline->at_ns - start_ns);
	if (spin_ns > 0) {
		r = spin(loop, start_ns, start_ns + spin_ns);
		if (r) {
			loop->stats.waits_spun++;
			return r < 0 ? r : 0;
		}
	}

	loop->stats.waits_slept++;
	IPCI_PROBE1(loop__sleep, loop);
	r = sleep_for_work(loop, deadline, spin_ns > 0 ? ipci_sys_now_ns() : start_ns);
	IPCI_PROBE2(loop__wake, loop, r);
	if (r == 0 && ipci_wait_learns(&loop->wait))
		ipci_wait_learn(&loop->wait, ipci_sys_now_ns() - start_ns, true);
	return r;
}

/* Let the loop's descriptor say whether there is work that no engine sees. */
static void
tell_of_work(struct ipc_loop *loop)
{
	if (!TAILQ_EMPTY(&loop->output) || loop->n_ready || !TAILQ_EMPTY(&loop->fired))
		ipci_loop_wake(loop);
	else
		unwake(loop);
	ipci_loop_set_alarm(loop);
}

/* Leave things so that the loop's descriptor tells the truth. */
static void
settle(struct ipc_loop *loop)
{
	int round;

	for (round = 0; round < SETTLE_ROUNDS_MAX && loop->ops->settle; round++) {
		loop->ops->settle(loop->engine);
		if (TAILQ_EMPTY(&loop->output))
			break;
		ipci_ports_send(loop);
	}
	tell_of_work(loop);
}

void
ipci_loop_settle(struct ipc_loop *loop)
{
	if (loop->alarm.fd < 0 || loop->turning || !ipci_loop_is_ours(loop))
		return;
	/* What is gathered waits for a turn. */
	if (loop->ops->settle)
		loop->ops->settle(loop->engine);
	tell_of_work(loop);
}

/* Make the callbacks: those of timers that are due after those of all that had come by then. */
static int
call_back(struct ipc_loop *loop)
{
	int r = ipci_ports_deliver(loop);
	int64_t now_ns = loop->timers.n ? ipci_sys_now_ns() : 0;
	bool is_due = now_ns >= ipci_heap_first_key(&loop->timers);

	if (is_due && r == 0 && !ipci_loop_is_over(loop))
		r = ipci_ports_catch_up(loop);
	ipci_watches_call(loop);
	if (is_due)
		ipci_timers_call(loop, now_ns);
	return r;
}

/* One turn. What its callbacks have sent is with the engine; submit() gives it to the kernel. */
static int
turn(struct ipc_loop *loop, struct ipci_deadline *deadline)
{
	int r;

	loop->stats.turns++;
	ipci_ports_send(loop);
	r = wait_for_work(loop, deadline);
	if (r < 0)
		return r;

	if (loop->nap_until_ns)
		ipci_ports_wake(loop, ipci_sys_now_ns());
	r = call_back(loop);
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	if (!loop->destroyed)
		ipci_ports_send(loop);
	return r;
}

static bool
is_on_stack(const pthread_attr_t *attributes, const char *address)
{
	void *start;
	size_t size;

	return pthread_attr_getstack(attributes, &start, &size) == 0 &&
	       address >= (const char *)start && address < (const char *)start + size;
}

/*
 * A turn is under way: has its function gone without having returned? It is told where the stack of
 * the same thread has come back to where that was.
 */
static bool
is_turn_left(const struct ipc_loop *loop, const char *frame)
{
	pthread_attr_t attributes;
	bool left;

	if (!pthread_equal(loop->turning_thread, pthread_self()) || frame < loop->turning_frame ||
		pthread_getattr_np(pthread_self(), &attributes) != 0)
		return false;
	left = is_on_stack(&attributes, frame) && is_on_stack(&attributes, loop->turning_frame);
	(void)pthread_attr_destroy(&attributes);
	return left;
}

/* Return: 0, or why no turn may begin. */
static int
begin(struct ipc_loop *loop, const char *frame)
{
	assert(loop);
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	if (loop->turning) {
		assert(!is_turn_left(loop, frame) &&
			"a callback was left by longjmp() or an exception: its loop cannot go on");
		return -EBUSY;
	}
	loop->turning = true;
	loop->turning_frame = frame;
	loop->turning_thread = pthread_self();
	return 0;
}

/* What was gathered goes, also what waited for other records of its channel. */
static void
submit(struct ipc_loop *loop)
{
	int round;

	for (round = 0; round < SETTLE_ROUNDS_MAX && loop->ops->submit; round++) {
		loop->ops->submit(loop->engine);
		if (TAILQ_EMPTY(&loop->output))
			break;
		ipci_ports_send(loop);
	}
}

static void
end(struct ipc_loop *loop)
{
	loop->turning = false;
	if (loop->destroyed) {
		loop_free(loop);
		return;
	}
	if (!ipci_loop_is_ours(loop))
		return;
	submit(loop);
	if (loop->alarm.fd >= 0)
		settle(loop);
}

/* The end of a turn whose callback was left by the end of its thread. */
static void
end_left(void *arg)
{
	struct ipc_loop *loop = arg;

	if (ipci_loop_is_ours(loop)) {
		ipci_ports_left(loop);
		ipci_watches_left(loop);
		ipci_timers_left(loop);
	}
	end(loop);
}

/* Was there a call to stop? It counts once, for what waits. */
static bool
stopped(struct ipc_loop *loop)
{
	if (!atomic_exchange(&loop->stop, false))
		return false;
	woken(&loop->wake, POLLIN, loop);
	return true;
}

/* Turn until something has happened. Return: 0, or -errno. */
static int
turn_for_events(struct ipc_loop *loop, struct ipci_deadline *deadline)
{
	uint64_t events = loop->stats.events;
	int r;

	/* What came may have been nothing to tell of: a hello, a part of a large message. */
	do
		r = turn(loop, deadline);
	while (r == 0 && !loop->destroyed && loop->stats.events == events &&
		ipci_deadline_left_ms(deadline, ipci_sys_now_ns()) && !stopped(loop));
	return r;
}

static int
turn_until_stopped(struct ipc_loop *loop, struct ipci_deadline *deadline)
{
	int r = 0;

	while (r == 0 && !loop->destroyed && !stopped(loop))
		r = turn(loop, deadline);
	return r;
}

/* Turns, any of whose callbacks may be left by the end of its thread. */
static int
turn_or_leave(struct ipc_loop *loop, struct ipci_deadline *deadline,
	int (*turns)(struct ipc_loop *loop, struct ipci_deadline *deadline))
{
	int r;

	pthread_cleanup_push(end_left, loop);
	r = turns(loop, deadline);
	pthread_cleanup_pop(0);
	return r;
}

int
ipc_loop_turn(struct ipc_loop *loop, int timeout_ms)
{
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);
	uint64_t events;
	int r = begin(loop, __builtin_frame_address(0));

	if (r < 0)
		return r;
	events = loop->stats.events;
	r = turn_or_leave(loop, &deadline, turn_for_events);
	events = loop->stats.events - events;
	end(loop);
	return r < 0 ? r : (int)events;
}

int
ipc_loop_run(struct ipc_loop *loop)
{
	struct ipci_deadline deadline = ipci_deadline(-1);
	int r = begin(loop, __builtin_frame_address(0));

	if (r < 0)
		return r;
	r = turn_or_leave(loop, &deadline, turn_until_stopped);
	end(loop);
	return r;
}

void
ipc_loop_stop(struct ipc_loop *loop)
{
	assert(loop);
	if (!ipci_loop_is_ours(loop))
		return;
	atomic_store(&loop->stop, true);
	(void)ipci_sys_eventfd_raise(loop->wake.fd);
}

int
ipc_loop_fd(struct ipc_loop *loop)
{
	int fd, r;

	assert(loop);
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	fd = loop->ops->fd(loop->engine);
	if (fd < 0 || loop->alarm.fd >= 0)
		return fd;

	r = ipci_sys_timerfd();
	if (r < 0)
		return r;
	loop->alarm.fd = r;
	r = ipci_watch_init(&loop->alarm, loop, loop->alarm.fd, POLLIN, woken);
	if (r < 0) {
		(void)ipci_sys_close(loop->alarm.fd);
		loop->alarm.fd = -1;
		return r;
	}
	if (!loop->turning)
		settle(loop);
	return fd;
}

void
ipc_loop_stats(const struct ipc_loop *loop, struct ipc_loop_stats *ret_stats)
{
	struct ipc_loop_stats stats;

	assert(loop);
	assert(ret_stats);
	stats = loop->stats;
	stats.size = IPCI_MIN(ret_stats->size, sizeof(stats));
	memcpy(ret_stats, &stats, stats.size);
}
