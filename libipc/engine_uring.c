/* SPDX-License-Identifier: MIT */

/*
 * A loop on io_uring: one system call carries what all channels send, and brings what they receive.
 *
 * Each port has at most one send in flight, for several would be reordered once the socket is
 * full. It has one multishot receive, which takes its buffers from a ring that all ports share, so
 * that the memory is bounded; a port that is far behind is paused, so that it does not take them
 * all. A third request watches for the peer's hang-up: on kernels before spring 2026 a multishot
 * receive could miss the end of stream.
 *
 * A send is tried at once, and reports failure only: what the kernel has seen and not complained of
 * is sent, and a wait in the same system call is not ended by it. One that finds the socket full
 * goes again, and waits there for room.
 *
 * A request's memory and descriptors are owned until its completion was taken in: quiesce() cancels
 * what is under way and waits for that. Completions change states here, and nothing that they
 * lead to calls an application or submits.
 */

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "loop.h"
#include "seam_uring.h"
#include "sys.h"

/* Requests of one submit; more go in parts. */
#define ENTRIES_MAX 256U
#define ENTRIES_MIN 8U
/* Completions that can wait: a full queue ends multishot receives, each of which then costs a
   request. */
#define COMPLETIONS_PER_ENTRY 8U

/* Room for what io_uring puts before a packet, for control data, and for any packet but a record
   that is larger still. */
#define BUFFER_SIZE  (200U << 10)
#define PACKET_MAX   (BUFFER_SIZE - sizeof(struct io_uring_recvmsg_out) - IPCI_CONTROL_SIZE)
#define BUFFER_GROUP 0

_Static_assert(PACKET_MAX >= IPCI_FRAGMENT_MAX + sizeof(struct ipci_record_header), "any fragment");

/* Buffers that the kernel has at least, and submits after which it need have no more than that. */
#define FREE_MIN     8U
#define CALM_SUBMITS 1024U

/* A port with as many packets that wait to be given out is paused. */
#define BEHIND_MAX 8U

/* A descriptor that is always ready is not looked at for ever. */
#define SETTLE_ROUNDS_MAX 8

/* A peer that died with unread data gives ECONNRESET once, before what it had sent. */
#define RESETS_MAX 8U

/* A request's kind, in the low bits of its user_data; the rest is the port or watch. */
enum kind {
	KIND_NONE, /* nobody waits for it */
	KIND_RECEIVE,
	KIND_READABLE, /* in place of a receive */
	KIND_SEND,
	KIND_HANGUP,
	KIND_WATCH,
};
#define KIND_MASK 7U

enum request {
	REQUEST_IDLE,
	REQUEST_ACTIVE,
	REQUEST_AT_ONCE,   /* active; is done, without a completion, once the kernel has seen it */
	REQUEST_CANCELLED, /* active, and asked to end */
};

struct uring_port {
	struct ipci_port *port;
	TAILQ_ENTRY(uring_port) arm; /* ipci_engine.arm */
	bool is_due;                 /* in that list: the receive is to be armed */
	bool is_quiet;               /* nothing is to be started */
	bool is_starved; /* it found no buffer; counted in ipci_engine.n_starved while it is due */
	bool is_direct;  /* packets can be larger than a buffer: the socket is read when readable */
	bool hung_up;    /* was seen: no need to watch for it again */
	bool is_restarted;            /* in ipci_engine.hung_up */
	TAILQ_ENTRY(uring_port) hung; /* ipci_engine.hung_up */
	unsigned int resets;

	enum request receive;
	enum request send;
	enum request hangup;
	TAILQ_ENTRY(uring_port) at_once; /* ipci_engine.at_once */
	unsigned int sequence;           /* of that request among all */
	bool is_full;                    /* the socket is: the next send waits for room */
	struct msghdr receive_header;    /* a template: its lengths count */
	struct ipci_parcel parcel;       /* in flight */
	struct msghdr send_header;
	struct ipci_control control;
};

struct uring_buffer {
	struct ipci_arrived arrived;
	struct ipci_engine *engine;
	bool is_lent; /* a packet lies in it */
};

struct ipci_engine {
	struct ipc_loop *loop;
	struct io_uring ring;
	bool has_ring;
	unsigned int entries;

	uint8_t *memory; /* the buffers; behind them the ring that gives them to the kernel */
	size_t memory_size;
	struct io_uring_buf_ring *returns;
	struct uring_buffer *buffers;
	unsigned int n_buffers;
	unsigned short *spare; /* a stack: what was used last is in the cache, and is used first */
	unsigned int n_spare;
	unsigned int n_free;   /* with the kernel, which uses them in a circle: so it is few */
	unsigned int n_wanted; /* there */
	unsigned int n_calm;   /* submits since they were too few */

	TAILQ_HEAD(uring_port_list, uring_port) arm; /* ports whose receive is to be armed */
	unsigned int n_starved;                      /* of those, found no buffer */
	bool has_more;                  /* a send was prepared that others are to follow */
	struct uring_port_list at_once; /* ports whose send is REQUEST_AT_ONCE */
	struct uring_port_list hung_up; /* ports whose receive is to be begun anew for it */
	struct ipci_watch_list watches; /* that are to be armed */
	int poll_fd; /* an epoll for others to poll, which outlives a ring; -1 until asked for */
};

/*
 * The flags to be had since Linux 6.1, and since 6.0. A ring with the first puts work off until it
 * is entered, and tells nobody who polls it: so it is the second once others do.
 */
static const unsigned int setup_flags[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
		IORING_SETUP_CQSIZE,
};

static uint8_t *
buffer_memory(const struct ipci_engine *engine, size_t index)
{
	return engine->memory + index * BUFFER_SIZE;
}

static void
give_back(struct ipci_engine *engine, unsigned int index)
{
	engine->buffers[index].is_lent = false;
	engine->spare[engine->n_spare++] = (unsigned short)index;
}

static void
release_buffer(struct ipci_arrived *arrived)
{
	struct uring_buffer *buffer = (struct uring_buffer *)arrived;

	give_back(buffer->engine, (unsigned int)(buffer - buffer->engine->buffers));
}

/* Let the kernel have as many buffers as it should, if there are. */
static void
give_buffers(struct ipci_engine *engine)
{
	unsigned int least = IPCI_MAX(engine->loop->packets.n_ports, FREE_MIN), n = 0, index;

	if (++engine->n_calm > CALM_SUBMITS)
		engine->n_wanted = 0;
	least = IPCI_MAX(least, engine->n_wanted);
	for (; engine->n_free < least && engine->n_spare; engine->n_free++) {
		index = engine->spare[--engine->n_spare];
		io_uring_buf_ring_add(engine->returns, buffer_memory(engine, index), BUFFER_SIZE,
			(unsigned short)index, io_uring_buf_ring_mask(engine->n_buffers), (int)n++);
	}
	if (n)
		io_uring_buf_ring_advance(engine->returns, (int)n);
}

/* They were too few. */
static void
want_more_buffers(struct ipci_engine *engine)
{
	unsigned int was =
		IPCI_MAX(engine->n_wanted, IPCI_MAX(engine->loop->packets.n_ports, FREE_MIN));

	engine->n_wanted = IPCI_MIN(2 * was, engine->n_buffers);
	engine->n_calm = 0;
}

static int
register_buffers(struct ipci_engine *engine)
{
	struct io_uring_buf_reg registration = {
		.ring_addr = (uintptr_t)engine->returns,
		.ring_entries = engine->n_buffers,
		.bgid = BUFFER_GROUP,
	};
	unsigned int i;
	int r;

	r = io_uring_register_buf_ring(&engine->ring, &registration, 0);
	if (r < 0)
		return r;
	io_uring_buf_ring_init(engine->returns);
	/* The first is used first. */
	engine->n_free = 0;
	engine->n_spare = 0;
	for (i = engine->n_buffers; i-- > 0;)
		if (!engine->buffers[i].is_lent)
			give_back(engine, i);
	return 0;
}

static int
setup_ring(struct ipci_engine *engine)
{
	struct io_uring_params params;
	unsigned int i = engine->poll_fd >= 0;
	int r = -EINVAL;

	for (; i < sizeof(setup_flags) / sizeof(setup_flags[0]) && r == -EINVAL; i++) {
		params = (struct io_uring_params){
			.flags = setup_flags[i],
			.cq_entries = engine->entries * COMPLETIONS_PER_ENTRY,
		};
		r = io_uring_queue_init_params(engine->entries, &engine->ring, &params);
	}
	return r;
}

static void
close_ring(struct ipci_engine *engine)
{
	if (engine->has_ring)
		io_uring_queue_exit(&engine->ring);
	engine->has_ring = false;
}

static int
open_ring(struct ipci_engine *engine, const char **ret_step)
{
	int r;

	*ret_step = "io_uring_setup";
	/* Its memory counts against RLIMIT_MEMLOCK: a smaller one may fit. */
	while ((r = setup_ring(engine)) == -ENOMEM && engine->entries > ENTRIES_MIN)
		engine->entries /= 2;
	if (r < 0)
		return r;
	engine->has_ring = true;
	/* Even a submit that fails in a forked child would move the parent's queue. */
	*ret_step = "io_uring, madvise";
	r = io_uring_ring_dontfork(&engine->ring);
	if (r == 0) {
		*ret_step = "io_uring_register, a ring of buffers";
		r = register_buffers(engine);
	}
	if (r == 0 && engine->poll_fd >= 0) {
		*ret_step = "io_uring, epoll_ctl";
		r = ipci_sys_epoll_ctl(
			engine->poll_fd, EPOLL_CTL_ADD, engine->ring.ring_fd, EPOLLIN, NULL);
	}
	if (r < 0)
		close_ring(engine);
	return r;
}

static int
map_buffers(struct ipci_engine *engine)
{
	size_t size = (size_t)engine->n_buffers * BUFFER_SIZE;
	unsigned int i;

	engine->memory_size = size + engine->n_buffers * sizeof(struct io_uring_buf);
	engine->memory = ipci_sys_map(engine->memory_size);
	engine->buffers = calloc(engine->n_buffers, sizeof(*engine->buffers));
	engine->spare = calloc(engine->n_buffers, sizeof(*engine->spare));
	if (!engine->memory || !engine->buffers || !engine->spare)
		return -ENOMEM;
	for (i = 0; i < engine->n_buffers; i++) {
		engine->buffers[i].engine = engine;
		engine->buffers[i].arrived.release = release_buffer;
	}
	/* Page-aligned, as the kernel wants it: a buffer's size is a multiple of a page's. */
	engine->returns = (struct io_uring_buf_ring *)(void *)(engine->memory + size);
	return ipci_sys_keep_from_fork(engine->memory, engine->memory_size);
}

static void
uring_destroy(struct ipci_engine *engine, bool ours)
{
	if (ours)
		close_ring(engine);
	else if (engine->has_ring)
		/* Its memory is not here, and its memory is all that liburing would free. */
		(void)ipci_sys_close(engine->ring.ring_fd);
	if (engine->poll_fd >= 0)
		(void)ipci_sys_close(engine->poll_fd);
	if (ours)
		ipci_sys_unmap(engine->memory, engine->memory_size);
	free(engine->buffers);
	free(engine->spare);
	free(engine);
}

static int
uring_create(struct ipci_engine **ret, struct ipc_loop *loop, unsigned int buffers,
	const char **ret_step)
{
	struct ipci_engine *engine = calloc(1, sizeof(*engine));
	int r;

	*ret_step = "io_uring, memory";
	if (!engine)
		return -ENOMEM;
	engine->loop = loop;
	engine->entries = ENTRIES_MAX;
	engine->n_buffers = buffers;
	engine->poll_fd = -1;
	TAILQ_INIT(&engine->arm);
	TAILQ_INIT(&engine->at_once);
	TAILQ_INIT(&engine->hung_up);
	TAILQ_INIT(&engine->watches);
	r = map_buffers(engine);
	if (r == 0)
		r = open_ring(engine, ret_step);
	if (r < 0) {
		uring_destroy(engine, true);
		return r;
	}
	*ret = engine;
	return 0;
}

/* Requests. */

static int enter(struct ipci_engine *engine, bool wait, int timeout_ms);

static uint64_t
tag(const void *about, enum kind kind)
{
	return (uintptr_t)about | kind;
}

/* Return: NULL if the kernel takes none. */
static struct io_uring_sqe *
get_request(struct ipci_engine *engine)
{
	struct io_uring_sqe *sqe;

	if (!engine->has_ring)
		return NULL;
	sqe = io_uring_get_sqe(&engine->ring);
	if (!sqe && enter(engine, false, 0) == 0 && engine->has_ring)
		sqe = io_uring_get_sqe(&engine->ring);
	return sqe;
}

static bool
start_cancel(struct ipci_engine *engine, const void *about, enum kind kind)
{
	struct io_uring_sqe *sqe = get_request(engine);

	if (!sqe)
		return false;
	io_uring_prep_cancel64(sqe, tag(about, kind), 0);
	io_uring_sqe_set_data64(sqe, KIND_NONE);
	return true;
}

/* Let it be asked to end, if it is active and was not. */
static void
cancel(struct ipci_engine *engine, const void *about, enum kind kind, enum request *request)
{
	if (*request == REQUEST_ACTIVE && start_cancel(engine, about, kind) &&
		*request == REQUEST_ACTIVE)
		*request = REQUEST_CANCELLED;
}

static enum kind
receive_kind(const struct uring_port *up)
{
	return up->is_direct ? KIND_READABLE : KIND_RECEIVE;
}

/* Have the receive armed before the kernel is entered next. */
static void
want_receive(struct ipci_engine *engine, struct uring_port *up)
{
	if (up->is_due || up->is_quiet || up->receive != REQUEST_IDLE || up->port->failed)
		return;
	up->is_due = true;
	engine->n_starved += up->is_starved;
	TAILQ_INSERT_TAIL(&engine->arm, up, arm);
}

static void
not_due(struct ipci_engine *engine, struct uring_port *up)
{
	if (!up->is_due)
		return;
	up->is_due = false;
	engine->n_starved -= up->is_starved;
	TAILQ_REMOVE(&engine->arm, up, arm);
}

static bool
arm_hangup(struct ipci_engine *engine, struct uring_port *up)
{
	struct io_uring_sqe *sqe;

	if (up->hung_up || up->is_direct || up->hangup != REQUEST_IDLE)
		return true;
	sqe = get_request(engine);
	if (!sqe)
		return false;
	io_uring_prep_poll_add(sqe, up->port->channel->fd, POLLRDHUP);
	io_uring_sqe_set_data64(sqe, tag(up, KIND_HANGUP));
	ipci_seam_submit(sqe);
	up->hangup = REQUEST_ACTIVE;
	return true;
}

static bool
arm_receive(struct ipci_engine *engine, struct uring_port *up)
{
	struct io_uring_sqe *sqe = get_request(engine);
	int fd = up->port->channel->fd;

	if (!sqe)
		return false;
	if (up->is_direct) {
		io_uring_prep_poll_add(sqe, fd, POLLIN);
	} else {
		io_uring_prep_recvmsg_multishot(sqe, fd, &up->receive_header, MSG_CMSG_CLOEXEC);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = BUFFER_GROUP;
	}
	io_uring_sqe_set_data64(sqe, tag(up, receive_kind(up)));
	ipci_seam_submit(sqe);
	up->receive = REQUEST_ACTIVE;
	return true;
}

/*
 * First come, first served. Without a buffer a receive ends at once; so one that did is armed only
 * when there is one for it: else those armed with it would be in front again each time.
 */
static void
arm_ports(struct ipci_engine *engine)
{
	unsigned int n_free = engine->n_free;
	struct uring_port *up;

	while ((up = TAILQ_FIRST(&engine->arm))) {
		if (!n_free && !up->is_direct)
			return;
		not_due(engine, up);
		/* Paused: it is armed again when it has given everything out. */
		if (up->port->channel->in.n_arrived >= BEHIND_MAX)
			continue;
		if (!arm_hangup(engine, up) || !arm_receive(engine, up)) {
			want_receive(engine, up);
			return;
		}
		n_free -= up->is_starved;
		up->is_starved = false;
	}
}

/* Have the watch armed before the kernel is entered next. */
static void
want_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	/* After its callback, which may deal with the event, it is wanted again. */
	if (!watch->loop || watch->is_due || watch->is_fired || watch->of_engine != REQUEST_IDLE)
		return;
	watch->is_due = true;
	TAILQ_INSERT_TAIL(&engine->watches, watch, due);
}

static void
watch_not_due(struct ipci_engine *engine, struct ipc_watch *watch)
{
	if (!watch->is_due)
		return;
	watch->is_due = false;
	TAILQ_REMOVE(&engine->watches, watch, due);
}

static void
arm_watches(struct ipci_engine *engine)
{
	struct io_uring_sqe *sqe;
	struct ipc_watch *watch;

	while ((watch = TAILQ_FIRST(&engine->watches))) {
		sqe = get_request(engine);
		if (!sqe)
			return;
		watch_not_due(engine, watch);
		io_uring_prep_poll_add(sqe, watch->fd, watch->events);
		io_uring_sqe_set_data64(sqe, tag(watch, KIND_WATCH));
		watch->of_engine = REQUEST_ACTIVE;
	}
}

/* Ports that are far behind, or have something while others found no buffer, take no more. */
static void
pause_ports(struct ipci_engine *engine)
{
	unsigned int behind = engine->n_starved ? 1 : BEHIND_MAX;
	struct ipci_port *port;
	struct uring_port *up;

	TAILQ_FOREACH (port, &engine->loop->ready, ready) {
		up = port->of_engine;
		if (port->channel->in.n_arrived >= behind)
			cancel(engine, up, receive_kind(up), &up->receive);
	}
}

/* Begin the receives anew of ports whose peer has hung up: they learn of it when they are armed. */
static void
restart_hung_up(struct ipci_engine *engine)
{
	struct uring_port *up;

	while ((up = TAILQ_FIRST(&engine->hung_up))) {
		up->is_restarted = false;
		TAILQ_REMOVE(&engine->hung_up, up, hung);
		cancel(engine, up, receive_kind(up), &up->receive);
	}
}

/* Everything that is to be under way while the kernel works. */
static void
prepare(struct ipci_engine *engine)
{
	give_buffers(engine);
	if (engine->loop->n_ready)
		pause_ports(engine);
	arm_ports(engine);
	restart_hung_up(engine);
	arm_watches(engine);
}

/* Completions. */

/* A packet, or the end of stream, lies in a buffer: behind io_uring's header and the control data
   that was asked for. */
static bool
take_packet(struct ipci_engine *engine, struct uring_port *up, unsigned int index, int result)
{
	struct uring_buffer *buffer = &engine->buffers[index];
	struct io_uring_recvmsg_out *out = (void *)buffer_memory(engine, index);
	size_t control_max = up->receive_header.msg_controllen;
	size_t head_size = sizeof(*out) + control_max;

	engine->n_free--;
	if (result < 0 || (size_t)result < head_size || (size_t)result > BUFFER_SIZE) {
		give_back(engine, index);
		return false;
	}
	buffer->is_lent = true;
	buffer->arrived.packet = (uint8_t *)out + head_size;
	buffer->arrived.arrival = (struct ipci_arrival){
		.size = (size_t)result - head_size,
		.truncated = out->flags & MSG_TRUNC,
		.fds_lost = out->flags & MSG_CTRUNC,
	};
	buffer->arrived.control = (uint8_t *)out + sizeof(*out);
	buffer->arrived.control_size = IPCI_MIN(out->controllen, control_max);
	ipci_in_arrive(&up->port->channel->in, &buffer->arrived);
	ipci_port_ready(up->port);
	return true;
}

/* A multishot receive has ended. */
static void
receive_ended(struct ipci_engine *engine, struct uring_port *up, int result)
{
	up->receive = REQUEST_IDLE;
	switch (result) {
	case -ENOBUFS:
		engine->loop->stats.starved++;
		up->is_starved = true;
		want_more_buffers(engine);
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
	want_receive(engine, up);
}

static void
receive_completed(struct ipci_engine *engine, struct uring_port *up, int result, unsigned int flags)
{
	bool taken = true;

	if (flags & IORING_CQE_F_BUFFER)
		taken = take_packet(engine, up, flags >> IORING_CQE_BUFFER_SHIFT, result);
	if (!taken && result >= 0)
		ipci_port_fail(up->port, -EIO);
	if (!(flags & IORING_CQE_F_MORE))
		receive_ended(engine, up, result);
}

static void
readable_completed(struct ipci_engine *engine, struct uring_port *up, int result)
{
	up->receive = REQUEST_IDLE;
	if (result < 0) {
		want_receive(engine, up);
		return;
	}
	up->port->channel->in.credit = 1;
	ipci_port_ready(up->port);
}

/* The peer has hung up: a receive that does not know is begun anew, and then learns of it. */
static void
hangup_completed(struct ipci_engine *engine, struct uring_port *up, int result)
{
	up->hangup = REQUEST_IDLE;
	if (result < 0) {
		want_receive(engine, up);
		return;
	}
	up->hung_up = true;
	up->is_restarted = true;
	TAILQ_INSERT_TAIL(&engine->hung_up, up, hung);
}

static void
count_sent(struct uring_port *up, int size)
{
	struct ipc_channel_counts *counts = &up->port->channel->out.counts;

	ipci_count_add(&counts->records, 1);
	ipci_count_add(&counts->bytes, (uint64_t)size);
	ipci_count_add(&counts->fds, up->parcel.n_fds);
}

static void
send_completed(struct ipci_engine *engine, struct uring_port *up, int result)
{
	struct ipci_port *port = up->port;
	struct ipc_channel *channel = port->channel;
	int r = 0;

	if (up->send == REQUEST_AT_ONCE)
		TAILQ_REMOVE(&engine->at_once, up, at_once);
	up->send = REQUEST_IDLE;
	up->is_full = result == -EAGAIN;
	if (result >= 0) {
		count_sent(up, result);
		ipci_queue_sent(channel);
	} else {
		r = ipci_queue_refused(channel, result);
	}

	if (r == -EAGAIN)
		ipci_port_nap(port);
	else if (r < 0 && r != -EPIPE)
		ipci_port_fail(port, r);
	else if (!ipci_out_is_empty(&channel->out))
		ipci_port_has_output(port);
	ipci_port_sent(port);
}

static void
watch_completed(struct ipci_engine *engine, struct ipc_watch *watch, int result)
{
	watch->of_engine = REQUEST_IDLE;
	if (result != -ECANCELED)
		ipci_watch_fire(watch, result < 0 ? POLLERR : (unsigned int)result);
	want_watch(engine, watch);
}

static void
completed(struct ipci_engine *engine, const struct io_uring_cqe *cqe)
{
	void *about = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)KIND_MASK);

	switch (cqe->user_data & KIND_MASK) {
	case KIND_RECEIVE:
		receive_completed(engine, about, cqe->res, cqe->flags);
		break;
	case KIND_READABLE:
		readable_completed(engine, about, cqe->res);
		break;
	case KIND_SEND:
		send_completed(engine, about, cqe->res);
		break;
	case KIND_HANGUP:
		hangup_completed(engine, about, cqe->res);
		break;
	case KIND_WATCH:
		watch_completed(engine, about, cqe->res);
		break;
	}
}

/* The sends that the kernel has seen, and whose failure it would have reported by now. */
static void
reap_sends(struct ipci_engine *engine)
{
	unsigned int seen = io_uring_smp_load_acquire(engine->ring.sq.khead);
	struct uring_port *up;

	while ((up = TAILQ_FIRST(&engine->at_once)) && (int)(seen - up->sequence) > 0)
		send_completed(engine, up, (int)up->parcel.size);
}

static unsigned int
kernel_flags(const struct ipci_engine *engine)
{
	return __atomic_load_n(engine->ring.sq.kflags, __ATOMIC_RELAXED);
}

/* Take in what was completed. */
static void
reap(struct ipci_engine *engine)
{
	struct io_uring_cqe *cqe, copy;
	unsigned int head, n = 0;

	if (!engine->has_ring)
		return;
	io_uring_for_each_cqe (&engine->ring, head, cqe) {
		copy = *cqe;
		if (ipci_seam_complete(&copy))
			completed(engine, &copy);
		n++;
	}
	io_uring_cq_advance(&engine->ring, n);
	if (!(kernel_flags(engine) & IORING_SQ_CQ_OVERFLOW))
		reap_sends(engine);
}

/* The ring that knew of them is gone, and they were not done. */
static void
forget_requests(struct ipci_engine *engine, struct uring_port *up)
{
	if (up->send != REQUEST_IDLE)
		send_completed(engine, up, -ECANCELED);
	up->receive = REQUEST_IDLE;
	up->hangup = REQUEST_IDLE;
}

static void
forget_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	watch->of_engine = REQUEST_IDLE;
	want_watch(engine, watch);
}

/*
 * Another thread has the loop now, and a ring knows only the one that submitted first. What was
 * completed is here; the rest ends with the ring, without having been done.
 */
static int
rehome(struct ipci_engine *engine)
{
	const char *step;
	struct ipci_port *port;
	struct uring_port *up;
	struct ipc_watch *watch;

	reap(engine);
	close_ring(engine);
	TAILQ_FOREACH (port, &engine->loop->ports, all) {
		up = port->of_engine;
		forget_requests(engine, up);
		want_receive(engine, up);
	}
	TAILQ_FOREACH (watch, &engine->loop->watches, all)
		forget_watch(engine, watch);
	forget_watch(engine, &engine->loop->wake);
	forget_watch(engine, &engine->loop->alarm);
	return open_ring(engine, &step);
}

/* Submit, let the kernel do what it has put off, and take in what came of it. */
static int
enter(struct ipci_engine *engine, bool wait, int timeout_ms)
{
	struct __kernel_timespec time = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = (long long)(timeout_ms % 1000) * 1000000,
	};
	struct io_uring_cqe *cqe;
	int r;

	if (!engine->has_ring)
		return -EBADF;
	engine->loop->stats.syscalls++;
	if (wait)
		r = io_uring_submit_and_wait_timeout(
			&engine->ring, &cqe, 1, timeout_ms < 0 ? NULL : &time, NULL);
	else
		r = io_uring_submit_and_get_events(&engine->ring);
	if (r == -EEXIST)
		return rehome(engine);
	reap(engine);
	switch (r) {
	case -ETIME:
	case -EINTR:
	case -EAGAIN:
	case -EBUSY:
	case -EBADR:
		return 0;
	}
	return r < 0 ? r : 0;
}

static bool
kernel_has_work(const struct ipci_engine *engine)
{
	return kernel_flags(engine) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Does anything go on only when this send is done? Then that is to end a wait. */
static bool
is_waited_for(const struct uring_port *up)
{
	const struct ipci_port *port = up->port;

	return up->is_full || port->wants_room || port->wants_empty ||
	       !ipci_queue_is_last(&port->channel->out, &up->parcel);
}

/* Is there nothing to be done before a wait has brought something? */
static bool
may_sleep(const struct ipci_engine *engine)
{
	const struct ipc_loop *loop = engine->loop;
	const struct uring_port *up;

	/* Where many requests were prepared the kernel has been entered on the way. */
	if (io_uring_cq_ready(&engine->ring) || loop->n_ready || !TAILQ_EMPTY(&loop->fired) ||
		!TAILQ_EMPTY(&loop->output))
		return false;
	/* More was gathered, or asked for, since a send was prepared that ends no wait. */
	TAILQ_FOREACH (up, &engine->at_once, at_once)
		if (is_waited_for(up))
			return false;
	return true;
}

static int
uring_wait(struct ipci_engine *engine, int timeout_ms)
{
	const char *step;
	bool wait;
	int r = 0;

	if (!engine->has_ring)
		r = open_ring(engine, &step);
	if (r < 0)
		return r;
	prepare(engine);
	wait = timeout_ms && may_sleep(engine);
	if (wait || io_uring_sq_ready(&engine->ring) || kernel_has_work(engine))
		return enter(engine, wait, timeout_ms);
	reap(engine);
	return 0;
}

static void
uring_submit(struct ipci_engine *engine)
{
	if (!engine->has_ring || !io_uring_sq_ready(&engine->ring))
		return;
	prepare(engine);
	(void)enter(engine, false, 0);
}

static bool
is_unwatched(const struct ipc_watch *watch)
{
	return watch->loop && watch->of_engine == REQUEST_IDLE;
}

static void
uring_settle(struct ipci_engine *engine)
{
	const struct ipc_loop *loop = engine->loop;
	int round = 0, r;

	/* What was raised and taken in is to be watched again: it is what wakes who polls. */
	do
		r = uring_wait(engine, 0);
	while (r == 0 && (is_unwatched(&loop->wake) || is_unwatched(&loop->alarm)) &&
		++round < SETTLE_ROUNDS_MAX);
}

/* Ports and watches. */

static int
uring_attach(struct ipci_engine *engine, struct ipci_port *port)
{
	struct uring_port *up = calloc(1, sizeof(*up));

	if (!up)
		return -ENOMEM;
	up->port = port;
	up->is_direct = port->channel->in.limits.record_max > PACKET_MAX;
	if (port->channel->in.limits.fds_max)
		up->receive_header.msg_controllen = IPCI_CONTROL_SIZE;
	port->of_engine = up;
	want_receive(engine, up);
	return 0;
}

static void
uring_quiesce(struct ipci_engine *engine, struct ipci_port *port)
{
	struct uring_port *up = port->of_engine;
	int r;

	up->is_quiet = true;
	not_due(engine, up);
	while (up->receive != REQUEST_IDLE || up->send != REQUEST_IDLE ||
		up->hangup != REQUEST_IDLE) {
		cancel(engine, up, receive_kind(up), &up->receive);
		cancel(engine, up, KIND_SEND, &up->send);
		cancel(engine, up, KIND_HANGUP, &up->hangup);
		r = enter(engine, up->send != REQUEST_AT_ONCE, -1);
		/* Somebody has closed the ring: the kernel has ended everything. */
		if (r < 0)
			forget_requests(engine, up);
	}
}

static void
uring_detach(struct ipci_engine *engine, struct ipci_port *port)
{
	struct uring_port *up = port->of_engine;

	not_due(engine, up);
	if (up->is_restarted)
		TAILQ_REMOVE(&engine->hung_up, up, hung);
	if (up->send == REQUEST_AT_ONCE)
		TAILQ_REMOVE(&engine->at_once, up, at_once);
	free(up);
	port->of_engine = NULL;
}

static void
uring_receive(struct ipci_engine *engine, struct ipci_port *port)
{
	struct uring_port *up = port->of_engine;

	if (up->is_quiet) {
		up->is_quiet = false;
		ipci_port_has_output(port);
	}
	want_receive(engine, up);
}

static void
prepare_send(struct ipci_engine *engine, struct uring_port *up, struct io_uring_sqe *sqe)
{
	struct ipci_parcel *parcel = &up->parcel;
	/* io_uring adds MSG_NOSIGNAL by itself, but that is no promise. */
	unsigned int flags = MSG_NOSIGNAL | (up->is_full ? 0 : MSG_DONTWAIT);
	int fd = up->port->channel->fd;

	/* The plain form spares the kernel a message header. */
	if (parcel->n_parts == 1 && !parcel->n_fds) {
		io_uring_prep_send(sqe, fd, parcel->parts[0].iov_base, parcel->size, (int)flags);
	} else {
		up->send_header = (struct msghdr){
			.msg_iov = parcel->parts,
			.msg_iovlen = parcel->n_parts,
		};
		ipci_control_pack(&up->send_header, &up->control, parcel->fds, parcel->n_fds);
		io_uring_prep_sendmsg(sqe, fd, &up->send_header, flags);
	}
	io_uring_sqe_set_data64(sqe, tag(up, KIND_SEND));
	if (!ipci_queue_is_last(&up->port->channel->out, parcel))
		engine->has_more = true;
	if (!is_waited_for(up) && engine->ring.features & IORING_FEAT_CQE_SKIP)
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	ipci_seam_submit(sqe);

	up->send = REQUEST_ACTIVE;
	if (sqe->flags & IOSQE_CQE_SKIP_SUCCESS) {
		up->send = REQUEST_AT_ONCE;
		up->sequence = engine->ring.sq.sqe_tail - 1;
		TAILQ_INSERT_TAIL(&engine->at_once, up, at_once);
	}
}

static void
uring_send(struct ipci_engine *engine, struct ipci_port *port)
{
	struct uring_port *up = port->of_engine;
	struct ipc_channel *channel = port->channel;
	struct io_uring_sqe *sqe;
	int r;

	if (up->is_quiet || up->send != REQUEST_IDLE || channel->broken ||
		channel->out.queue.dead || ipci_out_is_empty(&channel->out))
		return;
	sqe = get_request(engine);
	if (!sqe) {
		ipci_port_nap(port);
		return;
	}
	r = ipci_queue_next(channel, &up->parcel);
	if (r == 1) {
		prepare_send(engine, up, sqe);
		return;
	}
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, KIND_NONE);
	ipci_port_nap(port);
}

/* The records that wait for others go in rounds, each one submit for all ports. */
static bool
uring_send_more(struct ipci_engine *engine)
{
	if (!engine->has_more)
		return false;
	engine->has_more = false;
	return enter(engine, false, 0) == 0 && !TAILQ_EMPTY(&engine->loop->output);
}

static int
uring_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	watch->of_engine = REQUEST_IDLE;
	want_watch(engine, watch);
	return 0;
}

static void
uring_unwatch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	enum request request = watch->of_engine;
	int r = 0;

	watch_not_due(engine, watch);
	while (watch->of_engine != REQUEST_IDLE && r == 0) {
		cancel(engine, watch, KIND_WATCH, &request);
		r = enter(engine, true, -1);
	}
	/* It was wanted again when it ended. */
	watch_not_due(engine, watch);
}

/* Have nothing under way, and all of it due. */
static void
end_requests(struct ipci_engine *engine)
{
	struct ipc_loop *loop = engine->loop;
	struct ipci_port *port;
	struct ipc_watch *watch;

	TAILQ_FOREACH (port, &loop->ports, all) {
		uring_quiesce(engine, port);
		uring_receive(engine, port);
	}
	TAILQ_FOREACH (watch, &loop->watches, all) {
		uring_unwatch(engine, watch);
		want_watch(engine, watch);
	}
	uring_unwatch(engine, &loop->wake);
	want_watch(engine, &loop->wake);
}

static int
uring_fd(struct ipci_engine *engine)
{
	const char *step;
	int fd, r;

	if (engine->poll_fd >= 0)
		return engine->poll_fd;
	fd = ipci_sys_epoll_create();
	if (fd < 0)
		return fd;
	end_requests(engine);
	close_ring(engine);
	engine->poll_fd = fd;
	r = open_ring(engine, &step);
	if (r < 0) {
		engine->poll_fd = -1;
		(void)ipci_sys_close(fd);
		return r;
	}
	return fd;
}

const struct ipci_engine_ops ipci_engine_uring = {
	.name = "io_uring",
	.looks_are_free = true,
	.sees_once = true,
	.create = uring_create,
	.destroy = uring_destroy,
	.attach = uring_attach,
	.quiesce = uring_quiesce,
	.detach = uring_detach,
	.send = uring_send,
	.send_more = uring_send_more,
	.receive = uring_receive,
	.watch = uring_watch,
	.watch_again = want_watch,
	.unwatch = uring_unwatch,
	.wait = uring_wait,
	.submit = uring_submit,
	.settle = uring_settle,
	.fd = uring_fd,
};
