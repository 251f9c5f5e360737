/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_LOOP_H
#define LIBIPC_INTERNAL_LOOP_H

/*
 * A loop, as its own files see it: loop.c (its life, its turns), port.c (channels in it), watch.c
 * (descriptors in it), timers.c.
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include <libipc/loop.h>

#include "channel.h"
#include "engine.h"
#include "timers.h"

struct ipci_port_limits {
	size_t bytes_max;
	uint64_t messages_max;
	size_t fds_max;
};

/* A channel's place in a loop. */
struct ipci_port {
	TAILQ_ENTRY(ipci_port) all;    /* ipc_loop.ports */
	TAILQ_ENTRY(ipci_port) ready;  /* ipc_loop.ready */
	TAILQ_ENTRY(ipci_port) output; /* ipc_loop.output */
	bool is_ready;
	bool has_output;
	bool wants_room;  /* a message was refused: tell when there is room */
	bool wants_empty; /* a flush was refused: tell when the kernel has everything */
	bool naps;
	unsigned int fds_held; /* that came and were neither taken nor closed */
	int failed;            /* 0, or why nothing more can be received */

	struct ipc_loop *loop;
	struct ipc_channel *channel;
	struct ipc_channel_handler handler;
	/* Once: the peer has said hello. May be NULL. */
	void (*greeted)(struct ipc_channel *channel, void *user);
	void *user;
	void *of_engine;
};

struct ipc_watch {
	TAILQ_ENTRY(ipc_watch) all;   /* ipc_loop.watches */
	TAILQ_ENTRY(ipc_watch) fired; /* ipc_loop.fired */
	TAILQ_ENTRY(ipc_watch) due;   /* of the engine, if it has to be begun anew each time */
	bool is_fired;
	bool is_due;
	bool internal; /* the loop's own: its fn is called at once and makes no callbacks */
	bool stopped;  /* within its callback */
	bool masked;   /* tells no more, but is told when its loop goes */
	bool silent;   /* its fn counts the callbacks that it makes */
	unsigned int events;
	unsigned int fired_events;
	int fd;
	struct ipc_loop *loop;
	ipc_watch_fn *fn;
	void *user;
	void (*gone)(void *user); /* its loop is being destroyed; may be NULL */
	unsigned int of_engine;
};

TAILQ_HEAD(ipci_port_list, ipci_port);
TAILQ_HEAD(ipci_watch_list, ipc_watch);

struct ipc_loop {
	const struct ipci_engine_ops *ops;
	struct ipci_engine *engine;
	char reason[192];
	bool is_proved;      /* the proof of its engine is over */
	unsigned char *life; /* a page that a forked child finds wiped */

	struct ipci_port_list ports;
	struct ipci_port_list ready; /* first come, first served */
	unsigned int n_ready;
	struct ipci_port_list output;
	unsigned int fds_held; /* by all ports */
	struct ipci_port_limits limits;
	struct ipci_packet_cache packets;

	struct ipci_watch_list watches;
	struct ipci_watch_list fired;
	struct ipci_heap timers;
	int64_t nap_until_ns; /* 0: nobody naps */

	/* What a callback is being made for, so that it can be told to be gone. */
	struct ipci_port *current;
	struct ipc_watch *current_watch;
	struct ipc_timer *current_timer;
	/* The port whose message a callback is looking at, and, if that was detached meanwhile, the
	   record that the message lies in. */
	const struct ipci_port *viewing;
	struct ipci_arrived *lingering;
	bool turning;
	const char *turning_frame; /* of the function that turns, on the stack of this thread */
	pthread_t turning_thread;
	bool destroyed; /* within a callback: freed when that has returned */

	struct ipc_watch wake; /* an eventfd */
	bool woken;
	atomic_bool stop;
	struct ipc_watch alarm; /* a timerfd, once others poll the loop; -1 before */
	int64_t alarm_ns;

	struct ipci_wait wait;
	struct ipc_loop_stats stats;
};

/* What a loop's page of life has in the process that made it. */
#define IPCI_LOOP_ALIVE 1

/* Does this process own the loop? A child of fork(2) does not. */
static inline bool
ipci_loop_is_ours(const struct ipc_loop *loop)
{
	return *loop->life == IPCI_LOOP_ALIVE;
}

/* After a callback: has it destroyed the loop, or is this the child of a fork within it? */
static inline bool
ipci_loop_is_over(const struct ipc_loop *loop)
{
	return loop->destroyed || !ipci_loop_is_ours(loop);
}

/* Let whoever polls the loop's descriptor know of work that no engine sees. */
void ipci_loop_wake(struct ipc_loop *loop);

/* Have ports that nap woken after a while, and what the engine was refused asked for again. */
void ipci_loop_nap(struct ipc_loop *loop);

/* Let that descriptor be readable when the next timer is due. */
void ipci_loop_set_alarm(struct ipc_loop *loop);

/*
 * The end of each public call that may be made outside of a turn and has more to do than to gather.
 * An engine that ends what is under way takes in whatever has come meanwhile, of all ports and
 * watches: nobody who polls the loop's descriptor would learn of it.
 */
void ipci_loop_settle(struct ipc_loop *loop);

/* port.c */
static inline struct ipci_packet_cache *
ipci_port_packets(struct ipci_port *port)
{
	return &port->loop->packets;
}

static inline const struct ipci_port_limits *
ipci_port_limits(const struct ipci_port *port)
{
	return &port->loop->limits;
}

/* Return: 0, or why nothing can be sent from the port. */
static inline int
ipci_port_error(const struct ipci_port *port)
{
	if (!ipci_loop_is_ours(port->loop))
		return -ECHILD;
	return port->channel->broken ? port->channel->broken : port->channel->out.queue.dead;
}

/* A message was refused for want of room. */
static inline void
ipci_port_wants_room(struct ipci_port *port)
{
	port->wants_room = true;
}

/* A flush was refused. */
static inline void
ipci_port_wants_empty(struct ipci_port *port)
{
	port->wants_empty = true;
}
/* Its channel is being closed. */
void ipci_port_close(struct ipci_port *port);
/* The callback that was being made never comes back. */
void ipci_ports_left(struct ipc_loop *loop);
/* Give out messages of the ready ports, each its share. Return: 0, or -errno of the engine. */
int ipci_ports_deliver(struct ipc_loop *loop);
/* Give out what has arrived by now, before a timer that is due. Return: 0, or -errno of the engine.
 */
int ipci_ports_catch_up(struct ipc_loop *loop);
/* Hand what was gathered to the engine. */
void ipci_ports_send(struct ipc_loop *loop);
/* Wake those that nap, if it is time. */
void ipci_ports_wake(struct ipc_loop *loop, int64_t now_ns);
/* Detach all, whatever it takes. */
void ipci_ports_finish(struct ipc_loop *loop);

/* budget.c */

/* The descriptors that a loop's channels may have here at once. */
unsigned int ipci_budget_fds(void);
/* May the port receive a packet, whatever it brings? */
bool ipci_budget_allows(struct ipci_port *port);
/* See what it holds now, or that it has gone. */
void ipci_budget_count(struct ipci_port *port);
void ipci_budget_forget(struct ipci_port *port);

/* watch.c */
int ipci_watch_init(struct ipc_watch *watch, struct ipc_loop *loop, int fd, unsigned int events,
	ipc_watch_fn *fn);
void ipci_watch_finish(struct ipc_watch *watch);
/* Its event cannot be dealt with, or only by and by: it is not called for it again. */
void ipci_watch_mask(struct ipc_watch *watch);
/* As ipci_ports_left(). */
void ipci_watches_left(struct ipc_loop *loop);
/* Make the callbacks of the watches that fired. */
void ipci_watches_call(struct ipc_loop *loop);
void ipci_watches_finish(struct ipc_loop *loop);

#endif
