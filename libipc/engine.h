/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_ENGINE_H
#define LIBIPC_INTERNAL_ENGINE_H

/*
 * What a loop needs of an engine.
 *
 * An engine brings packets to ports and takes packets from them, sees descriptors, and waits. It
 * tells the loop what came by the functions below and never calls an application: callbacks are
 * made when all of it was taken in. It knows nothing of messages, limits, order between channels
 * or time.
 */

#include <stdbool.h>

struct ipc_loop;
struct ipc_watch;
struct ipci_engine;
struct ipci_port;

struct ipci_engine_ops {
	const char *name;
	/* wait(0) is no system call while nothing comes: one may look without a break. */
	bool looks_are_free;

	/* ret_step: what failed, in words. */
	int (*create)(struct ipci_engine **ret, struct ipc_loop *loop, unsigned int buffers,
		const char **ret_step);
	/* Nothing is attached and nothing watched. In a forked child only what is its own is freed.
	 */
	void (*destroy)(struct ipci_engine *engine, bool ours);

	/* Bring the port's packets from the next wait on. */
	int (*attach)(struct ipci_engine *engine, struct ipci_port *port);
	/* Nothing of the port is under way when this returns: what came is in its channel,
	   what was not sent is still in its queue. Until receive() is called nothing comes. */
	void (*quiesce)(struct ipci_engine *engine, struct ipci_port *port);
	/* Forget a port that is quiet; in a forked child any. */
	void (*detach)(struct ipci_engine *engine, struct ipci_port *port);

	/* Send what the port's channel has gathered, as far as that goes without waiting; go on by
	   itself when there is room. */
	void (*send)(struct ipci_engine *engine, struct ipci_port *port);
	/* After send() of all ports: is there more to be sent that may go now? May be NULL. */
	bool (*send_more)(struct ipci_engine *engine);
	/* All that was brought has been given out: bring more. */
	void (*receive)(struct ipci_engine *engine, struct ipci_port *port);
	/* What was brought cannot be given out now: until receive() is called tell nothing of it.
	   May be NULL, where nothing is told twice. */
	void (*pause)(struct ipci_engine *engine, struct ipci_port *port);

	int (*watch)(struct ipci_engine *engine, struct ipc_watch *watch);
	/* What it told of was dealt with: tell again. May be NULL. */
	void (*watch_again)(struct ipci_engine *engine, struct ipc_watch *watch);
	/* The descriptor is of no more concern when this returns. */
	void (*unwatch)(struct ipci_engine *engine, struct ipc_watch *watch);

	/*
	 * Submit, and take in what came, with up to timeout_ms of waiting for something to come: 0
	 * not at all, -1 for ever. It may be back early with nothing.
	 * Return: 0, or -errno.
	 */
	int (*wait)(struct ipci_engine *engine, int timeout_ms);
	/* Submit what send() has prepared, without waiting. May be NULL. */
	void (*submit)(struct ipci_engine *engine);
	/* Before others poll fd(): take in what says nothing of work. May be NULL. */
	void (*settle)(struct ipci_engine *engine);

	/* A descriptor that is readable while wait(0) would take in something. */
	int (*fd)(struct ipci_engine *engine);
};

extern const struct ipci_engine_ops ipci_engine_epoll;
extern const struct ipci_engine_ops ipci_engine_uring;

/* What an engine tells the loop. */

/* There is something to give out: a packet arrived, or the socket has one. */
void ipci_port_ready(struct ipci_port *port);
/* Some of the queue was sent. */
void ipci_port_sent(struct ipci_port *port);
/* The channel has gathered something, or can go on sending. */
void ipci_port_has_output(struct ipci_port *port);
/* Call send() and receive() again after a while: the kernel had no memory, and nothing tells when.
 */
void ipci_port_nap(struct ipci_port *port);
/* Nothing can be received any more, for this reason. */
void ipci_port_fail(struct ipci_port *port, int reason);

void ipci_watch_fire(struct ipc_watch *watch, unsigned int events);

#endif
