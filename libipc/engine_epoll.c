/* SPDX-License-Identifier: MIT */

/*
 * A loop on epoll and direct system calls.
 *
 * Everything is level-triggered: a port that is told to be readable takes one packet, and is told
 * again while there are more. A socket is watched for room only while it is full.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "engine.h"
#include "loop.h"
#include "sys.h"

/* Events taken in with one system call; more wait for the next. */
#define EVENTS_MAX 64

struct ipci_engine {
	struct ipc_loop *loop;
	int fd;
	struct epoll_event events[EVENTS_MAX];
};

/* What an event is about: a pointer to a watch is marked. */
#define WATCH_MARK 1U

/* What a port of this engine remembers. */
enum port_state {
	STATE_FULL = 1 << 0,   /* its socket is watched for room */
	STATE_ROOM = 1 << 1,   /* it was said to have some */
	STATE_PAUSED = 1 << 2, /* the kernel tells nothing of it */
};

static int
epoll_create_engine(struct ipci_engine **ret, struct ipc_loop *loop, unsigned int buffers,
	const char **ret_step)
{
	struct ipci_engine *engine = calloc(1, sizeof(*engine));

	(void)buffers;
	*ret_step = "epoll_create1";
	if (!engine)
		return -ENOMEM;
	engine->loop = loop;
	engine->fd = ipci_sys_epoll_create();
	if (engine->fd < 0) {
		int r = engine->fd;

		free(engine);
		return r;
	}
	*ret = engine;
	return 0;
}

static void
epoll_destroy(struct ipci_engine *engine, bool ours)
{
	(void)ours;
	(void)ipci_sys_close(engine->fd);
	free(engine);
}

static unsigned int
state_of(const struct ipci_port *port)
{
	return (unsigned int)(uintptr_t)port->of_engine;
}

static void
set_state(struct ipci_port *port, unsigned int state)
{
	port->of_engine = (void *)(uintptr_t)state;
}

static int
control(struct ipci_engine *engine, int operation, int fd, uint32_t events, void *data)
{
	engine->loop->stats.syscalls++;
	return ipci_sys_epoll_ctl(engine->fd, operation, fd, events, data);
}

static int
epoll_attach(struct ipci_engine *engine, struct ipci_port *port)
{
	return control(engine, EPOLL_CTL_ADD, port->channel->fd, EPOLLIN, port);
}

/* Nothing is ever under way here. */
static void
epoll_quiesce(struct ipci_engine *engine, struct ipci_port *port)
{
	(void)engine;
	(void)port;
}

static void
epoll_detach(struct ipci_engine *engine, struct ipci_port *port)
{
	if (ipci_loop_is_ours(engine->loop))
		(void)control(engine, EPOLL_CTL_DEL, port->channel->fd, 0, NULL);
}

static uint32_t
port_events(bool full)
{
	return full ? EPOLLIN | EPOLLOUT : EPOLLIN;
}

/* Be told of room in the socket, or no more. */
static void
watch_room(struct ipci_engine *engine, struct ipci_port *port, bool full)
{
	unsigned int state = state_of(port);

	if (!(state & STATE_FULL) == !full)
		return;
	if (!(state & STATE_PAUSED) &&
		control(engine, EPOLL_CTL_MOD, port->channel->fd, port_events(full), port) < 0) {
		ipci_port_nap(port);
		return;
	}
	set_state(port, full ? state | STATE_FULL : state & ~(unsigned int)STATE_FULL);
}

/*
 * Nothing more can be sent now: the socket is full. If it was said to have room and took nothing,
 * the kernel has no room for descriptors, of which no event tells the end.
 */
static void
wait_for_room(struct ipci_engine *engine, struct ipci_port *port, bool took_some)
{
	bool vain = (state_of(port) & STATE_ROOM) && !took_some;

	watch_room(engine, port, !vain);
	if (vain)
		ipci_port_nap(port);
}

static void
epoll_send(struct ipci_engine *engine, struct ipci_port *port)
{
	struct ipc_channel *channel = port->channel;
	uint64_t records = channel->out.counts.records;
	int r = channel->broken || channel->out.queue.dead ? 0 : ipci_out_flush(channel);

	switch (r) {
	case -EAGAIN:
		wait_for_room(engine, port, channel->out.counts.records != records);
		break;
	case -ENOBUFS:
	case -ENOMEM:
		watch_room(engine, port, false);
		ipci_port_nap(port);
		break;
	case 0:
		watch_room(engine, port, false);
		break;
	default:
		watch_room(engine, port, false);
		ipci_queue_die(channel, r);
		if (r != -EPIPE)
			ipci_port_fail(port, r);
	}
	set_state(port, state_of(port) & ~(unsigned int)STATE_ROOM);
	ipci_port_sent(port);
}

/* A hang-up is told whatever was asked for: so the kernel forgets the socket. */
static void
epoll_pause(struct ipci_engine *engine, struct ipci_port *port)
{
	if (state_of(port) & STATE_PAUSED)
		return;
	(void)control(engine, EPOLL_CTL_DEL, port->channel->fd, 0, NULL);
	set_state(port, state_of(port) | STATE_PAUSED);
}

static void
epoll_receive(struct ipci_engine *engine, struct ipci_port *port)
{
	unsigned int state = state_of(port);

	if (!(state & STATE_PAUSED))
		return;
	if (control(engine, EPOLL_CTL_ADD, port->channel->fd, port_events(state & STATE_FULL),
		    port) < 0)
		ipci_port_nap(port);
	else
		set_state(port, state & ~(unsigned int)STATE_PAUSED);
}

static uint32_t
epoll_events(unsigned int events)
{
	/* The values are the same by definition. */
	return events & (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP);
}

static int
epoll_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	return control(engine, EPOLL_CTL_ADD, watch->fd, epoll_events(watch->events),
		(char *)watch + WATCH_MARK);
}

static void
epoll_unwatch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	(void)control(engine, EPOLL_CTL_DEL, watch->fd, 0, NULL);
}

static void
port_event(struct ipci_port *port, uint32_t events)
{
	if (events & EPOLLOUT) {
		set_state(port, state_of(port) | STATE_ROOM);
		ipci_port_has_output(port);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		port->channel->in.credit = 1;
		ipci_port_ready(port);
	}
}

/* Return: the events taken in, or -errno. */
static int
take_events(struct ipci_engine *engine, int timeout_ms)
{
	struct epoll_event *event = engine->events;
	uintptr_t about;
	int n, i;

	engine->loop->stats.syscalls++;
	n = ipci_sys_epoll_wait(engine->fd, engine->events, EVENTS_MAX, timeout_ms);
	if (n < 0)
		return n == -EINTR ? 0 : n;
	for (i = 0; i < n; i++, event++) {
		about = (uintptr_t)event->data.ptr;
		if (about & WATCH_MARK)
			ipci_watch_fire((struct ipc_watch *)(about - WATCH_MARK), event->events);
		else
			port_event(event->data.ptr, event->events);
	}
	return n;
}

/* All that is ready is to have its part in a round. The kernel tells of what it has told last. */
static int
epoll_wait_engine(struct ipci_engine *engine, int timeout_ms)
{
	unsigned int calls = engine->loop->packets.n_ports / EVENTS_MAX;
	int n = take_events(engine, timeout_ms);

	for (; calls && n == EVENTS_MAX; calls--)
		n = take_events(engine, 0);
	return IPCI_MIN(n, 0);
}

static int
epoll_fd(struct ipci_engine *engine)
{
	return engine->fd;
}

const struct ipci_engine_ops ipci_engine_epoll = {
	.name = "epoll",
	.create = epoll_create_engine,
	.destroy = epoll_destroy,
	.attach = epoll_attach,
	.quiesce = epoll_quiesce,
	.detach = epoll_detach,
	.send = epoll_send,
	.receive = epoll_receive,
	.pause = epoll_pause,
	.watch = epoll_watch,
	.unwatch = epoll_unwatch,
	.wait = epoll_wait_engine,
	.fd = epoll_fd,
};
