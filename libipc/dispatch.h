/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_DISPATCH_H
#define LIBIPC_INTERNAL_DISPATCH_H

/*
 * What a pool decides: which worker gets which request, what waits, what is over and how it ends,
 * which worker is started, closed and killed, and when.
 *
 * Knows requests, places for workers, credits and times. Refuses to know of processes, channels and
 * loops: it acts through its ops and is told what happened, so that a test can be its whole world.
 * The same happenings at the same times have the same outcome.
 *
 * Where an op or a function of the user is called, anything may be called back but what its
 * comment excludes; after it dispatch->over says whether ipci_dispatch_finish() was.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <libipc/pool.h>

#include "heap.h"
#include "histogram.h"
#include "requests.h"

struct ipci_dispatch;

/* Where a worker is, was or will be. */
struct ipci_place {
	TAILQ_ENTRY(ipci_place) like; /* dispatch->like[outstanding], while it is open */
	enum ipc_pool_state state;
	bool is_open;    /* may be given a request: ready, not full, below depth ... */
	bool is_full;    /* its channel has refused a message: until writable */
	bool is_solo;    /* has a request that is alone with its worker */
	bool is_leaving; /* too many: not to be started again */
	bool has_left;   /* its worker has said that it leaves: it gets nothing new */
	bool is_killed;
	unsigned int outstanding; /* requests, owed ones included */
	unsigned int owed;
	unsigned int late; /* of those, that have timed out */
	struct ipci_request_list requests;

	uint64_t heard;          /* signs of life of this process */
	uint64_t heard_seen;     /* at the last check */
	int64_t silent_since_ns; /* the check that first found it silent; 0: it was not */
	uint64_t completed_seen; /* at the last check */
	int64_t full_since_ns;   /* the check that first found it full; 0: it was not */
	int64_t due_ns;          /* of its next start, of its kill, or of when it is given up;
	                            INT64_MAX: none of them */
	int64_t started_ns;
	uint64_t completed; /* by this process */
	uint64_t starts;
	unsigned int failures;      /* in a row: deaths without an ended request */
	unsigned int failed_starts; /* in a row: deaths before it was ready, or no process at all */
	unsigned int index;         /* in dispatch->places */
	struct ipci_dispatch *dispatch;
	void *worker; /* of whoever provides the ops */
};

TAILQ_HEAD(ipci_place_list, ipci_place);

struct ipci_dispatch_ops {
	/* By CLOCK_MONOTONIC. */
	int64_t (*now_ns)(void *world);

	/* Start a worker at the place. Return: 0: ipci_dispatch_ready() or _died() follow, not from
	   within; or -errno. */
	int (*start)(void *world, struct ipci_place *place);
	/* Gather a message for the worker. Return: 0; -EAGAIN: ipci_dispatch_writable() follows,
	   not from within; -EPIPE: it takes none any more; or what is wrong with the message. */
	int (*send)(void *world, struct ipci_place *place, const struct ipc_message *message);
	/* Let the worker see the end of its channel. */
	void (*close)(void *world, struct ipci_place *place);
	/* Kill it. ipci_dispatch_died() follows, not from within. */
	void (*kill)(void *world, struct ipci_place *place);
	/* It was killed and has not died: nothing more is heard of it, and functions of the user
	   may be called. Return: whether it is forgotten; with must it is. */
	bool (*give_up)(void *world, struct ipci_place *place, bool must);

	/* Bytes that no worker can guess. */
	ipci_random_fn *random;

	/* Call the request's function. */
	void (*reply)(
		void *world, ipc_reply_fn *fn, int result, struct ipc_message *reply, void *user);
	/* There is room again. */
	void (*writable)(void *world);
	/* All workers are gone. Nothing may be called any more but finish. */
	void (*drained)(void *world, int result);
};

/* Everything in it is resolved: no zero stands for a default. */
struct ipci_dispatch_options {
	unsigned int workers;
	unsigned int depth;
	unsigned int queue_max;
	unsigned int attempts;
	size_t kept_bytes_max;
	unsigned int kept_fds_max;
	int64_t hung_ns; /* 0: never */
	int64_t restart_min_ns, restart_max_ns;
	unsigned int starts_max;
	int64_t stop_ns;
	int64_t kill_ns; /* in which a worker that is killed should have died */
	bool tell;
};

enum ipci_dispatch_phase {
	IPCI_DISPATCH_RUNNING,
	IPCI_DISPATCH_DRAINING, /* requests are being finished */
	IPCI_DISPATCH_STOPPING, /* workers are being stopped */
	IPCI_DISPATCH_DRAINED,
};

struct ipci_dispatch {
	const struct ipci_dispatch_ops *ops;
	void *world;
	struct ipci_dispatch_options options;
	enum ipci_dispatch_phase phase;
	bool over; /* finished; the memory of the struct itself is its owner's */

	struct ipci_place **places;
	unsigned int n_places;
	unsigned int capacity;
	unsigned int workers; /* places that are not leaving */
	struct ipci_place_list
		*like;           /* open places by how many requests they have, 0 .. depth - 1 */
	unsigned int lowest;     /* no list below this has a place */
	unsigned int n_starting; /* places whose workers have not opened their end */
	int64_t begin_ns;
	bool is_spreading; /* the pool's first workers are waited for */
	int64_t start_ns;  /* until then; INT64_MAX: none of them is there yet */

	struct ipci_requests requests;
	uint64_t live; /* requests that have not ended */
	struct ipci_request_list queue;
	size_t kept_bytes;
	unsigned int kept_fds;
	bool is_refusing; /* -EAGAIN was answered: tell when there is room */
	bool is_hopeless; /* no worker can be started */
	bool is_pumping;
	bool is_due; /* what has become possible is done by the next tick */

	struct ipci_heap deadlines;
	int64_t places_due_ns; /* no place is due before it */
	int64_t check_ns;      /* when to look for silent workers */
	int64_t drain_ns;      /* when to cancel what is left */
	int drain_result;
	bool has_given_up; /* a worker, while it was drained */

	struct ipc_pool_stats stats; /* but for what is asked of the places */
	struct ipci_histogram latency;
};

/* Return: 0 with all workers started, or -errno with none; finish it all the same. */
int ipci_dispatch_init(struct ipci_dispatch *dispatch, const struct ipci_dispatch_ops *ops,
	void *world, const struct ipci_dispatch_options *options);

/* End every request with -ECANCELED, and free everything. Workers are their owner's: none of the
   ops but reply is called. */
void ipci_dispatch_finish(struct ipci_dispatch *dispatch);

/* Free everything, and call nobody. */
void ipci_dispatch_forget(struct ipci_dispatch *dispatch);

/* What the user asks for: as in pool.h. From within them no function of the user is called, but by
   cancel that of its request. */
int ipci_dispatch_call(struct ipci_dispatch *dispatch, const struct ipc_message *request,
	ipc_reply_fn *reply, void *user, int timeout_ms, unsigned int attempts,
	uint64_t *ret_request);
int ipci_dispatch_cancel(struct ipci_dispatch *dispatch, uint64_t request);
int ipci_dispatch_resize(struct ipci_dispatch *dispatch, unsigned int workers);
/* Begin a drain. Return: 0, or -EALREADY: its time is the shorter of both. */
int ipci_dispatch_drain(struct ipci_dispatch *dispatch, int timeout_ms);
void ipci_dispatch_stats(const struct ipci_dispatch *dispatch, struct ipc_pool_stats *ret_stats);

/* What happened. */

/* The worker has opened its end. */
void ipci_dispatch_ready(struct ipci_dispatch *dispatch, struct ipci_place *place);
/* It has sent a message, which is no reply. */
void ipci_dispatch_heard(struct ipci_dispatch *dispatch, struct ipci_place *place);
/* It has said that it leaves: it finishes what it has. */
void ipci_dispatch_leave(struct ipci_dispatch *dispatch, struct ipci_place *place);
/* It has sent a reply; with result -EBADMSG that came without its descriptors. */
void ipci_dispatch_reply(struct ipci_dispatch *dispatch, struct ipci_place *place,
	struct ipc_message *reply, int result);
/* Its channel takes messages again. */
void ipci_dispatch_writable(struct ipci_dispatch *dispatch, struct ipci_place *place);
/* Its channel has ended: no more will be heard of it. */
void ipci_dispatch_closed(struct ipci_dispatch *dispatch, struct ipci_place *place);
/* It is dead. The place may be freed within. */
void ipci_dispatch_died(struct ipci_dispatch *dispatch, struct ipci_place *place);

/* When ipci_dispatch_tick() has something to do, at the earliest: INT64_MAX if never. */
int64_t ipci_dispatch_next_ns(const struct ipci_dispatch *dispatch);
void ipci_dispatch_tick(struct ipci_dispatch *dispatch, int64_t now_ns);

#endif
