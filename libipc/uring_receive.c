/* SPDX-License-Identifier: MIT */

/*
 * The way in on io_uring: which receives are armed, in which way, and what their completions bring.
 *
 * A port has one multishot receive, which takes its buffers from a ring that all ports share, so
 * that the memory is bounded; a port that is far behind is paused, so that it does not take them
 * all. Another request watches for the peer's hang-up: on kernels before spring 2026 a multishot
 * receive could miss the end of stream.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "seam_uring.h"
#include "uring.h"

/* A port with as many packets that wait to be given out is paused. */
#define BEHIND_MAX 8U

/* For so many submits each port has one packet here at most, when all buffers had one and a port
   found none; and for twice as many where it begins anew as soon as it has ended. */
#define SCARCE_MIN 1024U
#define SCARCE_MAX (1024U * 1024)

/* Submits after which the limit of descriptors is looked at again. */
#define SUBMITS_PER_CHECK 64U

/* Each receive that is under way may bring as many descriptors as a packet has. */
#define FDS_OF_ONE IPC_MESSAGE_FDS_LIMIT

/* A peer that died with unread data gives ECONNRESET once, before what it had sent. */
#define RESETS_MAX 8U

enum ipci_uring_kind
ipci_uring_receive_kind(const struct ipci_uring_port *up)
{
	return up->way == IPCI_WAY_DIRECT ? IPCI_KIND_READABLE : IPCI_KIND_RECEIVE;
}

static void
release_nothing(struct ipci_arrived *arrived)
{
	(void)arrived;
}

void
ipci_uring_init_receive(struct ipci_uring_port *up)
{
	up->end.release = release_nothing;
}

/* May its packets bring descriptors? Those of an end that takes none may, too, until the kernel
   bars them and none can be there from before. */
static bool
may_bring_fds(const struct ipci_uring_port *up)
{
	return !up->port->channel->in.lane.fds_clean;
}

static void
no_taker(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	if (engine->idle_taker == up)
		engine->idle_taker = NULL;
	if (!up->is_taker)
		return;
	up->is_taker = false;
	engine->n_takers--;
	TAILQ_REMOVE(&engine->takers, up, taker);
}

/* The limit may have changed. One is always proved (ipc_loop_create()). */
static unsigned int
takers_max(const struct ipci_engine *engine)
{
	return IPCI_MAX(ipci_budget_fds() / FDS_OF_ONE, engine->loop->is_proved ? 0 : 1U);
}

/* May the port have a receive under way that brings descriptors? */
static bool
may_take(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	if (up->is_idle_taker || engine->n_takers >= takers_max(engine))
		return false;
	up->is_taker = true;
	engine->n_takers++;
	TAILQ_INSERT_TAIL(&engine->takers, up, taker);
	return true;
}

/*
 * The way that suits the channel, and what there is room for now. A receive that finds no buffer
 * ends at once, and those that have one may keep it for long: so one that found none goes without.
 */
static enum ipci_uring_way
choose_way(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	no_taker(engine, up);
	ipci_link_look_clean(&up->port->channel->in.lane);
	if (up->port->channel->in.limits.record_max > IPCI_URING_PACKET_MAX || up->is_starved)
		return IPCI_WAY_DIRECT;
	if (may_bring_fds(up)) {
		up->armed_at = engine->n_armed++;
		return may_take(engine, up) ? IPCI_WAY_ONE_BY_ONE : IPCI_WAY_DIRECT;
	}
	return engine->n_scarce ? IPCI_WAY_ONE_BY_ONE : IPCI_WAY_MULTISHOT;
}

void
ipci_uring_finish_receive(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	ipci_uring_no_receive(engine, up);
	no_taker(engine, up);
}

/*
 * A port that may not take descriptors has some to receive. If one that may has had none since that
 * port was here last, they change places.
 */
static void
look_for_idle_taker(struct ipci_engine *engine, const struct ipci_uring_port *up)
{
	struct ipci_uring_port *first = TAILQ_FIRST(&engine->takers);

	if (first && first->armed_at < up->armed_at && engine->n_takers >= takers_max(engine))
		engine->idle_taker = first;
}

/* Packets that may wait to be given out before the port is paused. */
static unsigned int
behind_max(const struct ipci_engine *engine, const struct ipci_uring_port *up)
{
	return may_bring_fds(up) || engine->n_scarce ? 1 : BEHIND_MAX;
}

/* No buffer was free. */
static void
starve(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	engine->loop->stats.starved++;
	up->is_starved = true;
	if (ipci_uring_buffers_want_more(engine) || engine->n_scarce)
		return;
	/* Few ports have enough, for each is paused when it is that far behind. */
	if (engine->loop->packets.n_ports * BEHIND_MAX <= engine->n_buffers)
		return;
	engine->scarce = IPCI_MIN(IPCI_MAX(2 * engine->scarce, SCARCE_MIN), SCARCE_MAX);
	engine->n_scarce = engine->scarce;
}

/* One more submit. */
static void
count_scarcity(struct ipci_engine *engine)
{
	if (engine->n_scarce)
		engine->n_scarce--;
	else if (engine->scarce)
		engine->scarce--;
}

void
ipci_uring_want_receive(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	if (up->is_due || up->is_quiet || up->receive != IPCI_REQUEST_IDLE || up->port->failed)
		return;
	up->is_due = true;
	engine->n_starved += up->is_starved;
	TAILQ_INSERT_TAIL(&engine->arm, up, arm);
}

void
ipci_uring_no_receive(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	if (!up->is_due)
		return;
	up->is_due = false;
	engine->n_starved -= up->is_starved;
	TAILQ_REMOVE(&engine->arm, up, arm);
}

static bool
arm_hangup(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	struct io_uring_sqe *sqe;

	if (up->hung_up || up->way == IPCI_WAY_DIRECT || up->hangup != IPCI_REQUEST_IDLE)
		return true;
	sqe = ipci_uring_request(engine);
	if (!sqe)
		return false;
	io_uring_prep_poll_add(sqe, up->port->channel->fd, POLLRDHUP);
	io_uring_sqe_set_data64(sqe, ipci_uring_tag(up, IPCI_KIND_HANGUP));
	ipci_seam_submit(sqe);
	up->hangup = IPCI_REQUEST_ACTIVE;
	return true;
}

/* With memory of the port's own for control data, and for what the kernel says of the packet. */
static void
prepare_one(struct ipci_uring_port *up, struct io_uring_sqe *sqe)
{
	up->receive_part.iov_len = IPCI_URING_BUFFER_SIZE;
	up->receive_header = (struct msghdr){
		.msg_iov = &up->receive_part,
		.msg_iovlen = 1,
	};
	if (may_bring_fds(up)) {
		up->receive_header.msg_control = up->receive_control.bytes;
		up->receive_header.msg_controllen = sizeof(up->receive_control.bytes);
	}
	io_uring_prep_recvmsg(sqe, up->port->channel->fd, &up->receive_header, MSG_CMSG_CLOEXEC);
}

static bool
arm_receive(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	struct io_uring_sqe *sqe = ipci_uring_request(engine);
	int fd = up->port->channel->fd;

	if (!sqe)
		return false;
	if (up->way == IPCI_WAY_DIRECT) {
		io_uring_prep_poll_add(sqe, fd, POLLIN);
	} else if (up->way == IPCI_WAY_ONE_BY_ONE) {
		prepare_one(up, sqe);
	} else {
		up->receive_header = (struct msghdr){0};
		io_uring_prep_recvmsg_multishot(sqe, fd, &up->receive_header, 0);
	}
	if (up->way != IPCI_WAY_DIRECT) {
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = IPCI_URING_BUFFER_GROUP;
	}
	io_uring_sqe_set_data64(sqe, ipci_uring_tag(up, ipci_uring_receive_kind(up)));
	ipci_seam_submit(sqe);
	up->receive = IPCI_REQUEST_ACTIVE;
	/* For want of room the kernel may have been entered, and what ended then asked for it. */
	ipci_uring_no_receive(engine, up);
	return true;
}

static void
arm_receives(struct ipci_engine *engine)
{
	struct ipci_uring_port *up;

	while ((up = TAILQ_FIRST(&engine->arm))) {
		ipci_uring_no_receive(engine, up);
		/* Paused: it is armed again when it has given everything out. */
		if (up->port->channel->in.n_arrived >= behind_max(engine, up) ||
			up->port->channel->in.held_up || up->port->channel->in.ending)
			continue;
		up->way = choose_way(engine, up);
		if (!arm_hangup(engine, up) || !arm_receive(engine, up)) {
			ipci_uring_want_receive(engine, up);
			return;
		}
		up->is_starved = false;
	}
}

/* Ports that are far behind, or have something while others found no buffer, take no more. */
static void
pause_receives(struct ipci_engine *engine)
{
	unsigned int behind = engine->n_starved || engine->n_scarce ? 1 : BEHIND_MAX;
	struct ipci_port *port;
	struct ipci_uring_port *up;

	TAILQ_FOREACH (port, &engine->loop->ready, ready) {
		up = port->of_engine;
		if (port->channel->in.n_arrived >= behind)
			ipci_uring_cancel(engine, up, ipci_uring_receive_kind(up), &up->receive);
	}
}

/* Begin the receives anew of ports whose peer has hung up: they learn of it when they are armed. */
static void
restart_receives(struct ipci_engine *engine)
{
	struct ipci_uring_port *up;

	while ((up = TAILQ_FIRST(&engine->hung_up))) {
		up->is_restarted = false;
		TAILQ_REMOVE(&engine->hung_up, up, hung);
		ipci_uring_cancel(engine, up, ipci_uring_receive_kind(up), &up->receive);
	}
}

static void
stop_taker(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	if (up->receive != IPCI_REQUEST_ACTIVE)
		return;
	up->is_idle_taker = true;
	ipci_uring_cancel(engine, up, IPCI_KIND_RECEIVE, &up->receive);
}

/* Let there be no more of them than there may be: the limit may have become lower. */
static void
stop_takers(struct ipci_engine *engine)
{
	struct ipci_uring_port *up = engine->idle_taker;
	unsigned int max;

	engine->idle_taker = NULL;
	if (up)
		stop_taker(engine, up);
	if (!engine->n_takers || ++engine->n_unchecked < SUBMITS_PER_CHECK)
		return;
	engine->n_unchecked = 0;
	max = takers_max(engine);
	if (engine->n_takers <= max)
		return;
	max = engine->n_takers - max;
	TAILQ_FOREACH (up, &engine->takers, taker) {
		stop_taker(engine, up);
		if (!--max)
			break;
	}
}

void
ipci_uring_prepare_receives(struct ipci_engine *engine)
{
	ipci_uring_buffers_give(engine);
	count_scarcity(engine);
	stop_takers(engine);
	if (engine->loop->n_ready)
		pause_receives(engine);
	arm_receives(engine);
	restart_receives(engine);
}

static void
arrive(struct ipci_uring_port *up, struct ipci_arrived *arrived)
{
	ipci_in_arrive(&up->port->channel->in, arrived);
	ipci_port_ready(up->port);
}

/* What a multishot receive put into the memory: io_uring's header, the packet. */
static bool
take_of_many(struct ipci_arrived *arrived, uint8_t *memory, size_t size)
{
	const struct io_uring_recvmsg_out *out = (void *)memory;

	if (size < sizeof(*out) || size > IPCI_URING_BUFFER_SIZE)
		return false;
	arrived->packet = memory + sizeof(*out);
	arrived->arrival = (struct ipci_arrival){
		.size = size - sizeof(*out),
		.truncated = out->flags & MSG_TRUNC,
		/* None are asked for. */
		.fds_lost = out->flags & MSG_CTRUNC,
	};
	arrived->control_size = 0;
	return true;
}

/* The packet alone is there. */
static bool
take_one(struct ipci_uring_port *up, struct ipci_arrived *arrived, uint8_t *memory, size_t size)
{
	const struct msghdr *header = &up->receive_header;

	if (size > IPCI_URING_BUFFER_SIZE)
		return false;
	arrived->packet = memory;
	arrived->arrival = (struct ipci_arrival){
		.size = size,
		.truncated = header->msg_flags & MSG_TRUNC,
		.fds_lost = header->msg_flags & MSG_CTRUNC,
	};
	arrived->control = up->receive_control.bytes;
	arrived->control_size = header->msg_controllen;
	return true;
}

/* The end of stream used no buffer. Nor does a packet without a byte, which is taken for it, and
   can bring descriptors. */
static void
take_end(struct ipci_uring_port *up)
{
	up->end.control = up->receive_control.bytes;
	up->end.control_size = up->receive_header.msg_controllen;
	arrive(up, &up->end);
}

/* A packet, or the end of stream, lies in a buffer. */
static bool
take_packet(struct ipci_engine *engine, struct ipci_uring_port *up, unsigned int index, int result)
{
	struct ipci_uring_buffer *buffer = &engine->buffers[index];
	uint8_t *memory = ipci_uring_buffer_memory(engine, index);
	size_t size = (size_t)result;
	bool taken = result >= 0;

	engine->n_free--;
	if (taken && up->way == IPCI_WAY_ONE_BY_ONE)
		taken = take_one(up, &buffer->arrived, memory, size);
	else if (taken)
		taken = take_of_many(&buffer->arrived, memory, size);
	if (!taken) {
		ipci_uring_buffer_back(engine, index);
		return false;
	}
	buffer->is_lent = true;
	arrive(up, &buffer->arrived);
	return true;
}

/* A receive has ended. */
static void
receive_ended(struct ipci_engine *engine, struct ipci_uring_port *up, int result)
{
	up->receive = IPCI_REQUEST_IDLE;
	switch (result) {
	case -ENOBUFS:
		starve(engine, up);
		break;
	case -ECANCELED:
	case -EINTR:
	case -EAGAIN:
		break;
	case -ENOMEM:
		ipci_port_nap(up->port);
		return;
	case -ECONNRESET:
		if (++up->resets < RESETS_MAX)
			break;
		ipci_port_fail(up->port, result);
		return;
	default:
		if (result >= 0)
			break;
		ipci_port_fail(up->port, result);
		return;
	}
	ipci_uring_want_receive(engine, up);
}

void
ipci_uring_received(
	struct ipci_engine *engine, struct ipci_uring_port *up, int result, unsigned int flags)
{
	bool taken = true;

	if (flags & IORING_CQE_F_BUFFER)
		taken = take_packet(engine, up, flags >> IORING_CQE_BUFFER_SHIFT, result);
	else if (result == 0 && up->way == IPCI_WAY_ONE_BY_ONE)
		take_end(up);
	if (!taken && result >= 0)
		ipci_port_fail(up->port, -EIO);
	if (!(flags & IORING_CQE_F_MORE))
		receive_ended(engine, up, result);
}

/* The kernel would not poll. To ask again at once for what it refuses would be to ask without end.
 */
static void
want_again(struct ipci_engine *engine, struct ipci_uring_port *up, int result)
{
	if (result == -ECANCELED || result == -EINTR || result == -EAGAIN)
		ipci_uring_want_receive(engine, up);
	else
		ipci_port_nap(up->port);
}

void
ipci_uring_readable(struct ipci_engine *engine, struct ipci_uring_port *up, int result)
{
	up->receive = IPCI_REQUEST_IDLE;
	if (result < 0) {
		want_again(engine, up, result);
		return;
	}
	up->is_idle_taker = false;
	if (may_bring_fds(up))
		look_for_idle_taker(engine, up);
	up->port->channel->in.credit = 1;
	ipci_port_ready(up->port);
}

/* The peer has hung up: a receive that does not know is begun anew, and then learns of it. */
void
ipci_uring_hung_up(struct ipci_engine *engine, struct ipci_uring_port *up, int result)
{
	up->hangup = IPCI_REQUEST_IDLE;
	if (result < 0) {
		want_again(engine, up, result);
		return;
	}
	up->hung_up = true;
	up->is_restarted = true;
	TAILQ_INSERT_TAIL(&engine->hung_up, up, hung);
}
