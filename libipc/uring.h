/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_URING_H
#define LIBIPC_INTERNAL_URING_H

/*
 * The engine on io_uring, as its own files see it: engine_uring.c (its life, its waits, watches),
 * uring_ring.c (the ring), uring_buffers.c (what packets arrive in), uring_receive.c and
 * uring_send.c (the two ways of a port).
 */

#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fds.h"
#include "loop.h"
#include "queue.h"

/* Room for what io_uring puts before a packet, for control data, and for any packet but a record
   that is larger still. */
#define IPCI_URING_BUFFER_SIZE (200U << 10)
#define IPCI_URING_PACKET_MAX \
	(IPCI_URING_BUFFER_SIZE - sizeof(struct io_uring_recvmsg_out) - IPCI_CONTROL_SIZE)
#define IPCI_URING_BUFFER_GROUP 0

_Static_assert(IPCI_URING_PACKET_MAX >= IPCI_FRAGMENT_MAX + sizeof(struct ipci_record_header),
	"any fragment");

/* A request's kind, in the low bits of its user_data; the rest is the port or watch. */
enum ipci_uring_kind {
	IPCI_KIND_NONE, /* nobody waits for it */
	IPCI_KIND_RECEIVE,
	IPCI_KIND_READABLE, /* in place of a receive */
	IPCI_KIND_SEND,
	IPCI_KIND_HANGUP,
	IPCI_KIND_WATCH,
};
#define IPCI_KIND_MASK 7U

enum ipci_uring_request {
	IPCI_REQUEST_IDLE,
	IPCI_REQUEST_ACTIVE,
	IPCI_REQUEST_AT_ONCE, /* active; is done, without a completion, once the kernel has seen it
	                       */
	IPCI_REQUEST_CANCELLED, /* active, and asked to end */
};

/* How a port takes packets from its socket. */
enum ipci_uring_way {
	/* Into a buffer each, as they come. */
	IPCI_WAY_MULTISHOT,
	/* Into a buffer, the next when that was given out: all that has come has its descriptors in
	   this process, and a peer must not fill the table; or the buffers, where they are few. */
	IPCI_WAY_ONE_BY_ONE,
	/* The socket is read when it is readable and it is the port's turn: packets can be larger
	   than a buffer, or bring more descriptors than there is room for. */
	IPCI_WAY_DIRECT,
};

struct ipci_uring_port {
	struct ipci_port *port;
	enum ipci_uring_way way; /* of the receive that is under way, or was last */
	/* Its receive may bring descriptors while it is under way: ipci_engine.takers. */
	bool is_taker;
	TAILQ_ENTRY(ipci_uring_port) taker;
	uint64_t armed_at;  /* of all receives that may bring descriptors, the how manyth */
	bool is_idle_taker; /* others have more to receive: it is one no longer */
	TAILQ_ENTRY(ipci_uring_port) arm; /* ipci_engine.arm */
	bool is_due;                      /* in that list: the receive is to be armed */
	bool is_quiet;                    /* nothing is to be started */
	bool is_starved; /* it found no buffer; counted in ipci_engine.n_starved while it is due */
	bool hung_up;    /* was seen: no need to watch for it again */
	bool is_restarted;                 /* in ipci_engine.hung_up */
	TAILQ_ENTRY(ipci_uring_port) hung; /* ipci_engine.hung_up */
	unsigned int resets;

	enum ipci_uring_request receive;
	enum ipci_uring_request send;
	enum ipci_uring_request hangup;
	TAILQ_ENTRY(ipci_uring_port) at_once; /* ipci_engine.at_once */
	unsigned int sequence;                /* of that request among all */
	bool is_full;                         /* the socket is: the next send waits for room */
	struct msghdr receive_header;         /* of a multishot a template: its lengths count */
	struct ipci_parcel parcel;            /* in flight */
	struct msghdr send_header;
	struct ipci_control control;

	/* Of those that come one by one. */
	struct iovec receive_part;
	struct ipci_control receive_control;
	struct ipci_arrived end;
};

struct ipci_uring_buffer {
	struct ipci_arrived arrived;
	struct ipci_engine *engine;
	bool is_lent; /* a packet lies in it */
};

TAILQ_HEAD(ipci_uring_port_list, ipci_uring_port);

struct ipci_engine {
	struct ipc_loop *loop;
	struct io_uring ring;
	bool has_ring;
	pthread_t thread; /* that made the ring, which serves no other */

	uint8_t *memory; /* the buffers; behind them the ring that gives them to the kernel */
	size_t memory_size;
	struct io_uring_buf_ring *returns;
	struct ipci_uring_buffer *buffers;
	unsigned int n_buffers;
	unsigned short *spare; /* a stack: what was used last is in the cache, and is used first */
	unsigned int n_spare;
	unsigned int n_free;   /* with the kernel, which uses them in a circle: so it is few */
	unsigned int n_wanted; /* there */
	unsigned int n_calm;   /* submits since they were too few */
	unsigned int n_scarce; /* submits for which no port has more than one packet here */
	unsigned int scarce;   /* how many it was when that began last */

	struct ipci_uring_port_list takers; /* in the order in which they were armed last */
	unsigned int n_takers;
	uint64_t n_armed;
	unsigned int n_unchecked;           /* submits since the limit was looked at */
	struct ipci_uring_port *idle_taker; /* is to be one no longer; NULL */

	struct ipci_uring_port_list arm;     /* ports whose receive is to be armed */
	unsigned int n_starved;              /* of those, found no buffer */
	bool has_more;                       /* a send was prepared that others are to follow */
	struct ipci_uring_port_list at_once; /* ports whose send is IPCI_REQUEST_AT_ONCE */
	struct ipci_uring_port_list hung_up; /* ports whose receive is to be begun anew for it */
	struct ipci_watch_list watches;      /* that are to be armed */
	bool has_refused;                    /* some watches, which wait for the end of a nap */
	unsigned int n_refused;              /* enters, one after the other */
	int poll_fd; /* an epoll for others to poll, which outlives a ring; -1 until asked for */
};

/* uring_buffers.c */
int ipci_uring_buffers_map(struct ipci_engine *engine);
void ipci_uring_buffers_unmap(struct ipci_engine *engine, bool ours);
/* A new ring knows of none. */
int ipci_uring_buffers_register(struct ipci_engine *engine);
/* Let the kernel have as many as it should, if there are. */
void ipci_uring_buffers_give(struct ipci_engine *engine);
/* They were too few. Return: whether there can be more. */
bool ipci_uring_buffers_want_more(struct ipci_engine *engine);
uint8_t *ipci_uring_buffer_memory(const struct ipci_engine *engine, size_t index);
/* One that the kernel had is ours, and holds nothing. */
void ipci_uring_buffer_back(struct ipci_engine *engine, unsigned int index);

/* uring_ring.c */

/* ret_step: what failed, in words. */
int ipci_uring_open(struct ipci_engine *engine, const char **ret_step);
/* Ends all requests, without a word. */
void ipci_uring_close(struct ipci_engine *engine);
/* Take a new ring. What was completed is here; the rest ends with the old one, without having been
   done, and is due again. */
int ipci_uring_restart(struct ipci_engine *engine);
/* Return: NULL if the kernel takes none. */
struct io_uring_sqe *ipci_uring_request(struct ipci_engine *engine);
/* Let it be asked to end, if it is active and was not. */
void ipci_uring_cancel(struct ipci_engine *engine, const void *about, enum ipci_uring_kind kind,
	enum ipci_uring_request *request);
/* Submit, let the kernel do what it has put off, and take in what came of it. */
int ipci_uring_enter(struct ipci_engine *engine, bool wait, int timeout_ms);
/* Would that do anything, with nothing to submit? */
bool ipci_uring_has_work(const struct ipci_engine *engine);
/* Take in what was completed. */
void ipci_uring_reap(struct ipci_engine *engine);

static inline uint64_t
ipci_uring_tag(const void *about, enum ipci_uring_kind kind)
{
	return (uintptr_t)about | kind;
}

/* uring_receive.c */
enum ipci_uring_kind ipci_uring_receive_kind(const struct ipci_uring_port *up);
void ipci_uring_init_receive(struct ipci_uring_port *up);
/* The port goes. */
void ipci_uring_finish_receive(struct ipci_engine *engine, struct ipci_uring_port *up);
/* Have the receive armed before the kernel is entered next, or not. */
void ipci_uring_want_receive(struct ipci_engine *engine, struct ipci_uring_port *up);
void ipci_uring_no_receive(struct ipci_engine *engine, struct ipci_uring_port *up);
/* Begin and end receives so that each port gets its part of the buffers. */
void ipci_uring_prepare_receives(struct ipci_engine *engine);
/* Completions. */
void ipci_uring_received(
	struct ipci_engine *engine, struct ipci_uring_port *up, int result, unsigned int flags);
void ipci_uring_readable(struct ipci_engine *engine, struct ipci_uring_port *up, int result);
void ipci_uring_hung_up(struct ipci_engine *engine, struct ipci_uring_port *up, int result);

/* uring_send.c */
void ipci_uring_send(struct ipci_engine *engine, struct ipci_port *port);
bool ipci_uring_send_more(struct ipci_engine *engine);
/* Does anything go on only when this send is done? Then that is to end a wait. */
bool ipci_uring_is_waited_for(const struct ipci_uring_port *up);
void ipci_uring_sent(struct ipci_engine *engine, struct ipci_uring_port *up, int result);
/* The sends that the kernel has seen, and whose failure it would have reported by now. */
void ipci_uring_reap_sends(struct ipci_engine *engine);

/* engine_uring.c */

/* Have the watch armed before the kernel is entered next. */
void ipci_uring_want_watch(struct ipci_engine *engine, struct ipc_watch *watch);
void ipci_uring_watch_completed(struct ipci_engine *engine, struct ipc_watch *watch, int result);

#endif
