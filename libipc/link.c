/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "base.h"
#include "link.h"
#include "probes.h"
#include "sys.h"

/* How often a wait that looks at the socket without a break looks at the clock. */
#define LOOKS_PER_CLOCK 4

/* A peer that died with unread data gives ECONNRESET once, before what it had sent. */
#define RESETS_MAX 8

/* ETOOMANYREFS has no event that ends it: look again after this time. */
#define NAP_MS 1

/* A packet under way. flags of an attempt is MSG_DONTWAIT or 0; it returns a size, or -errno. */
struct transfer {
	struct ipci_lane *lane;
	struct msghdr message;
	ssize_t (*attempt)(struct transfer *transfer, int flags);
	short event;
};

static ssize_t
attempt_send(struct transfer *transfer, int flags)
{
	const struct iovec *part = transfer->message.msg_iov;

	return ipci_sys_send(transfer->lane->fd, part->iov_base, part->iov_len, flags);
}

static ssize_t
attempt_sendmsg(struct transfer *transfer, int flags)
{
	return ipci_sys_sendmsg(transfer->lane->fd, &transfer->message, flags);
}

static ssize_t
attempt_recv(struct transfer *transfer, int flags)
{
	const struct iovec *part = transfer->message.msg_iov;

	return ipci_sys_recv(transfer->lane->fd, part->iov_base, part->iov_len, flags);
}

static ssize_t
attempt_recvmsg(struct transfer *transfer, int flags)
{
	return ipci_sys_recvmsg(transfer->lane->fd, &transfer->message, flags);
}

static bool
must_wait(ssize_t r)
{
	/* ETOOMANYREFS: this user has as many descriptors in flight as its limit allows; it passes
	   when receivers take theirs. */
	return r == -EAGAIN || r == -ETOOMANYREFS;
}

static inline ssize_t
move(struct transfer *transfer, int flags)
{
	unsigned int resets = 0;
	ssize_t r;

	ipci_count_add(&transfer->lane->counts->syscalls, 1);
	do
		r = transfer->attempt(transfer, flags);
	while (r == -ECONNRESET && transfer->event == POLLIN && ++resets < RESETS_MAX);
	return r;
}

/* Look again and again until until_ns. Return: what came, or -EAGAIN. */
static ssize_t
spin(struct transfer *transfer, int64_t start_ns, int64_t until_ns)
{
	struct ipci_wait *wait = &transfer->lane->wait;
	int64_t gap_ns = ipci_wait_gap_ns(wait), now_ns = start_ns;
	ssize_t r = -EAGAIN;
	unsigned int looks;

	for (looks = 1; must_wait(r) && now_ns < until_ns; looks++) {
		if (gap_ns)
			now_ns = ipci_wait_until(now_ns + gap_ns);
		else if (looks % LOOKS_PER_CLOCK == 0)
			now_ns = ipci_sys_now_ns();
		r = move(transfer, MSG_DONTWAIT);
	}

	if (ipci_wait_learns(wait)) {
		now_ns = ipci_sys_now_ns();
		ipci_wait_learn_spin(wait, start_ns, now_ns);
		if (!must_wait(r))
			ipci_wait_learn(wait, now_ns - start_ns, false);
	}
	return r;
}

/* Sleep until the socket has an event, or a while where no event will tell. */
static int
sleep_once(struct transfer *transfer, ssize_t reason, int left_ms)
{
	int r;

	ipci_count_add(&transfer->lane->counts->syscalls, 1);
	if (reason == -ETOOMANYREFS)
		r = ipci_sys_poll(-1, 0, left_ms < 0 ? NAP_MS : IPCI_MIN(left_ms, NAP_MS));
	else
		r = ipci_sys_poll(transfer->lane->fd, transfer->event, left_ms);
	return r == -EINTR ? 0 : r;
}

static ssize_t
sleep_until(struct transfer *transfer, ssize_t r, struct ipci_deadline *deadline)
{
	int left_ms, e;

	/* Without a deadline the blocking call itself is the cheapest sleep. It comes back with
	   EAGAIN from a socket that somebody made non-blocking or gave a timeout. Whoever may be
	   cancelled does so in poll(2), which has taken or sent nothing by then. */
	if (deadline->timeout_ms < 0 && r == -EAGAIN && !ipci_sys_may_be_cancelled())
		r = move(transfer, 0);

	while (must_wait(r)) {
		left_ms = ipci_deadline_left_ms(deadline, ipci_sys_now_ns());
		if (!left_ms)
			break;
		e = sleep_once(transfer, r, left_ms);
		if (e < 0)
			return e;
		r = move(transfer, MSG_DONTWAIT);
	}
	return r;
}

static void
undo(void *arg)
{
	struct ipci_deadline *deadline = arg;

	if (deadline->undo)
		deadline->undo(deadline->undo_arg);
}

/* The same, where this thread may be cancelled. */
static ssize_t
sleep_cancellable(struct transfer *transfer, ssize_t reason, struct ipci_deadline *deadline)
{
	ssize_t r;

	pthread_cleanup_push(undo, deadline);
	r = sleep_until(transfer, reason, deadline);
	pthread_cleanup_pop(0);
	return r;
}

/* The slow path of a transfer that found nothing to do at once. */
static ssize_t
wait_for(struct transfer *transfer, ssize_t r, struct ipci_deadline *deadline)
{
	struct ipci_lane *lane = transfer->lane;
	int64_t start_ns = ipci_sys_now_ns(), spin_ns;

	ipci_deadline_start(deadline, start_ns);
	spin_ns = r == -EAGAIN ? ipci_wait_spin_ns(&lane->wait, start_ns) : 0;
	if (deadline->at_ns)
		spin_ns = IPCI_MIN(spin_ns, deadline->at_ns - start_ns);

	if (spin_ns > 0)
		r = spin(transfer, start_ns, start_ns + spin_ns);
	if (!must_wait(r)) {
		ipci_count_add(&lane->counts->waits_spun, 1);
		return r;
	}

	ipci_count_add(&lane->counts->waits_slept, 1);
	IPCI_PROBE2(channel__sleep, lane->fd, transfer->event == POLLOUT);
	if (ipci_sys_may_be_cancelled())
		r = sleep_cancellable(transfer, r, deadline);
	else
		r = sleep_until(transfer, r, deadline);
	IPCI_PROBE2(channel__wake, lane->fd, r);
	if (ipci_wait_learns(&lane->wait))
		ipci_wait_learn(&lane->wait, ipci_sys_now_ns() - start_ns, true);
	return r;
}

/* Go on with a transfer whose first attempt was in vain. Return: a size, or -errno. */
static ssize_t
complete(struct transfer *transfer, ssize_t r, struct ipci_deadline *deadline)
{
	if (!must_wait(r))
		return r;
	if (!deadline->timeout_ms)
		return -EAGAIN;
	r = wait_for(transfer, r, deadline);
	return must_wait(r) ? ipci_deadline_error(deadline) : r;
}

/* Whoever never spins and waits for ever makes one system call, like the plain one. */
static inline int
first_flags(const struct ipci_lane *lane, const struct ipci_deadline *deadline)
{
	return deadline->timeout_ms < 0 && lane->wait.spin_us < 0 && !ipci_sys_may_be_cancelled()
	               ? 0
	               : MSG_DONTWAIT;
}

static inline void
count_packet(struct ipci_lane *lane, ssize_t size)
{
	ipci_count_add(&lane->counts->records, size > 0);
	ipci_count_add(&lane->counts->bytes, (uint64_t)size);
}

static int
send_error(struct ipci_lane *lane, ssize_t r)
{
	if (r == -ECONNREFUSED)
		atomic_store_explicit(&lane->refused, true, memory_order_relaxed);
	return r == -ECONNRESET || r == -ENOTCONN || r == -ECONNREFUSED ? -EPIPE : (int)r;
}

int
ipci_link_send_plain(
	struct ipci_lane *lane, void *packet, size_t size, struct ipci_deadline *deadline)
{
	struct transfer transfer;
	struct iovec part;
	ssize_t r;

	ipci_count_add(&lane->counts->syscalls, 1);
	r = ipci_sys_send(lane->fd, packet, size, first_flags(lane, deadline));
	if (ipci_unlikely(r < 0)) {
		part = (struct iovec){.iov_base = packet, .iov_len = size};
		transfer = (struct transfer){
			.lane = lane,
			.message = {.msg_iov = &part, .msg_iovlen = 1},
			.attempt = attempt_send,
			.event = POLLOUT,
		};
		r = complete(&transfer, r, deadline);
		if (r < 0)
			return send_error(lane, r);
	}
	count_packet(lane, r);
	IPCI_PROBE2(packet__sent, lane->fd, r);
	return 0;
}

int
ipci_link_send(struct ipci_lane *lane, const struct iovec *parts, unsigned int n_parts,
	const int *fds, unsigned int n_fds, struct ipci_deadline *deadline)
{
	struct ipci_control control;
	struct transfer transfer;
	ssize_t r;

	if (n_parts == 1 && !n_fds)
		return ipci_link_send_plain(lane, parts->iov_base, parts->iov_len, deadline);

	transfer = (struct transfer){
		.lane = lane,
		.message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = n_parts},
		.attempt = attempt_sendmsg,
		.event = POLLOUT,
	};
	ipci_control_pack(&transfer.message, &control, fds, n_fds);
	r = move(&transfer, first_flags(lane, deadline));
	if (r < 0)
		r = complete(&transfer, r, deadline);
	if (r < 0)
		return send_error(lane, r);
	count_packet(lane, r);
	ipci_count_add(&lane->counts->fds, n_fds);
	IPCI_PROBE2(packet__sent, lane->fd, r);
	return 0;
}

bool
ipci_link_has_hung_up(const struct ipci_lane *lane)
{
	int r = ipci_sys_poll(lane->fd, POLLRDHUP, 0);

	return r > 0 && r & (POLLRDHUP | POLLHUP);
}

/*
 * A receive has said that the stream has ended: is another to be tried?
 *
 * Linux looks at the queue first, finds it empty, and then at whether the peer is gone: what the
 * peer sent in between, before it went, is still there (seen on 6.1 and 6.12). After that nothing
 * can come any more, so a second look is sure. A peer that is still there has sent a packet without
 * a byte, which is the end, too.
 */
static bool
is_end_doubtful(const struct ipci_lane *lane, bool is_second)
{
	return !is_second && ipci_link_has_hung_up(lane);
}

static int
recv_plain(struct ipci_lane *lane, const struct iovec *part, bool is_second,
	struct ipci_arrival *ret_arrival, struct ipci_deadline *deadline)
{
	struct transfer transfer;
	ssize_t r;

	ipci_count_add(&lane->counts->syscalls, 1);
	r = ipci_sys_recv(lane->fd, part->iov_base, part->iov_len, first_flags(lane, deadline));
	if (ipci_unlikely(r <= 0)) {
		transfer = (struct transfer){
			.lane = lane,
			.message = {.msg_iov = (struct iovec *)part, .msg_iovlen = 1},
			.attempt = attempt_recv,
			.event = POLLIN,
		};
		if (r == -ECONNRESET)
			r = move(&transfer, first_flags(lane, deadline));
		if (r < 0)
			r = complete(&transfer, r, deadline);
		if (r == 0 && is_end_doubtful(lane, is_second))
			r = move(&transfer, MSG_DONTWAIT);
		if (r < 0)
			return (int)r;
	}
	*ret_arrival = (struct ipci_arrival){
		.size = (size_t)r,
		.truncated = (size_t)r > part->iov_len,
	};
	count_packet(lane, r);
	IPCI_PROBE2(packet__received, lane->fd, r);
	return 0;
}

void
ipci_link_close_fds(struct ipci_lane *lane, int *fds, unsigned int n)
{
	if (lane->closes_here)
		ipci_fds_close_some(fds, n);
	else
		ipci_closer_close(&lane->closer, fds, n);
}

bool
ipci_link_collect(struct ipci_lane *lane, struct msghdr *message, struct ipci_fds *set)
{
	bool complete =
		ipci_control_collect(message, set, lane->closes_here ? NULL : &lane->closer);

	ipci_count_add(&lane->counts->fds, set->n);
	return complete;
}

int
ipci_link_recv(struct ipci_lane *lane, const struct iovec *parts, unsigned int n_parts,
	struct ipci_fds *set, struct ipci_arrival *ret_arrival, struct ipci_deadline *deadline)
{
	struct ipci_control control;
	struct transfer transfer;
	bool complete_set, is_second = lane->is_end_doubted;
	ssize_t r;

	lane->is_end_doubted = false;
	if (n_parts == 1 && lane->fds_clean)
		return recv_plain(lane, parts, is_second, ret_arrival, deadline);

	transfer = (struct transfer){
		.lane = lane,
		.message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = n_parts},
		.attempt = attempt_recvmsg,
		.event = POLLIN,
	};
	if (!lane->fds_clean) {
		transfer.message.msg_control = control.bytes;
		transfer.message.msg_controllen = sizeof(control.bytes);
	}
	r = move(&transfer, first_flags(lane, deadline));
	if (r == -EAGAIN)
		lane->fds_clean = lane->fds_barred;
	if (r < 0)
		r = complete(&transfer, r, deadline);
	if (r < 0)
		return (int)r;

	complete_set = ipci_link_collect(lane, &transfer.message, set);
	/* Only a packet brings descriptors, be it one without a byte. */
	if (r == 0 && !set->n && complete_set && is_end_doubtful(lane, is_second)) {
		if (!lane->fds_clean)
			transfer.message.msg_controllen = sizeof(control.bytes);
		r = move(&transfer, MSG_DONTWAIT);
		if (r < 0)
			return (int)r;
		complete_set = ipci_link_collect(lane, &transfer.message, set);
	}
	*ret_arrival = (struct ipci_arrival){
		.size = (size_t)r,
		.truncated = transfer.message.msg_flags & MSG_TRUNC,
		.fds_lost = !complete_set || transfer.message.msg_flags & MSG_CTRUNC,
	};
	count_packet(lane, r);
	IPCI_PROBE2(packet__received, lane->fd, r);
	return 0;
}

void
ipci_link_look_clean(struct ipci_lane *lane)
{
	/* Empty since the kernel has barred them: what comes has none. */
	if (lane->fds_barred && !lane->fds_clean)
		lane->fds_clean = ipci_sys_poll(lane->fd, POLLIN, 0) == 0;
}
