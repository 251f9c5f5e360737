/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_CHANNEL_H
#define LIBIPC_INTERNAL_CHANNEL_H

/*
 * One end of a pair, as its own files see it: channel.c (its life), send.c (the way out),
 * receive.c (the way in), call.c (requests and replies).
 *
 * The two directions share no memory that either writes, but for what stands in the channel
 * itself; each begins on a cache line of its own.
 */

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base.h"
#include "fds.h"
#include "link.h"
#include "queue.h"
#include "wire.h"

struct ipci_port;

/* A payload of this size that is sent at once is handed to the kernel where it lies. */
#define IPCI_IN_PLACE_MIN 2048U
/* A posted one of this size is sent at once: to copy it costs more than the packet that
   gathering would save (PERFORMANCE.md). */
#define IPCI_AT_ONCE_MIN (48U << 10)

/* Where the kernel has no memory for a packet it is halved, down to this. */
#define IPCI_PACKET_MIN 4096U

/* The next smaller packet to try; 0 when there is none. */
static inline size_t
ipci_packet_halved(size_t size)
{
	return size <= IPCI_PACKET_MIN ? 0 : IPCI_MAX(size / 2, (size_t)IPCI_PACKET_MIN);
}

/* What the kernel adds to a packet's charge beyond its payload (unix(7) sockets: SO_SNDBUF less
 * 32). */
#define IPCI_PACKET_OVERHEAD 32U

/* The environment variable that names a worker's end, as "FD:PID". */
#define IPCI_INHERIT_VARIABLE "LIBIPC_CHANNEL"

/* The way out. */
struct ipci_out {
	_Alignas(IPCI_CACHE_LINE) struct ipci_writer writer; /* the open record */
	struct ipc_channel_counts counts;
	struct ipci_lane lane;
	uint8_t *buffer; /* of the open record; zero in a forked child */
	size_t buffer_size;
	size_t packet_max; /* what the socket takes in one packet */
	bool void_due;     /* a large message was cut short; the peer is to be told first */
	/* Has the peer begun a large message of which some is missing? All copies of this end that
	   fork(2) has made share it: whoever sends next has to send a void first, and only one.
	   NULL before the first such message. */
	atomic_bool *unfinished;
	bool is_copy;   /* of a forked child, which has sent no message yet */
	bool finishing; /* in a loop: once all was sent the peer sees the end */
	/* Payloads below this size may be sent the short way: within all limits; 0 until the peer
	   has said hello, and in a loop. */
	size_t lone_end;
	struct ipci_queue queue; /* packets of a loop, before the open record */
	uint8_t *record_end;     /* of the open record; the writer's own end can come earlier */
	struct ipci_fds fds;     /* of the open record: duplicates, ours */
};

/* A message kept by ipc_channel_call() for a later receive, or the error in its place. */
struct ipci_kept {
	struct ipci_kept *next;
	struct ipc_message message;
	int result;
	_Alignas(uint64_t) unsigned char payload[]; /* aligned like a received one */
};

/* A large message on its way in. It grows in the record buffer, from where its first piece lies. */
struct ipci_large {
	struct ipc_message head;
	size_t start; /* offset in the buffer */
	size_t size;  /* 0: there is none */
	size_t have;  /* bytes that came */
};

/*
 * A packet that an engine received for the channel, or the end of stream, where it lies; its
 * descriptors are in the control data. Release gives the memory back.
 */
struct ipci_arrived {
	struct ipci_arrived *next;
	uint8_t *packet; /* 8-byte aligned */
	struct ipci_arrival arrival;
	void *control;
	size_t control_size;
	void (*release)(struct ipci_arrived *arrived);
};

/* What makes the next receive more than the next message of a run. */
enum ipci_special {
	IPCI_SPECIAL_STATE = 1 << 0, /* descriptors lent out, messages kept, a message held back */
	IPCI_SPECIAL_LOOP = 1 << 1,  /* the messages go to a loop's handler */
};

/* The way in. */
struct ipci_in {
	_Alignas(IPCI_CACHE_LINE) struct ipci_reader reader; /* the record in hand */
	uint8_t special;                                     /* enum ipci_special */
	struct ipc_channel_counts counts;
	struct ipci_lane lane;
	struct ipci_limits limits; /* what this end takes */
	uint8_t *buffer;           /* a record, or a large message behind its head */
	size_t buffer_size;
	bool ended;  /* end of stream was seen */
	bool ending; /* an engine has brought it: the socket has the last word */

	struct ipci_arrived *arrived; /* the oldest; they come before what the socket has */
	struct ipci_arrived **arrived_tail;
	unsigned int n_arrived;
	struct ipci_arrived *in_hand; /* the record's, where it does not lie in the buffer */
	bool metered;                 /* by a loop: the socket is read that often only */
	unsigned int credit;
	bool held_up; /* what came before has still to be closed; nothing more is to be received */

	struct ipci_fds fds;    /* of the record in hand */
	unsigned int fds_given; /* of those, belong to messages given out so far */
	int *lent;              /* the last message's; closed by the next receive */
	unsigned int n_lent;

	struct ipci_large large;

	struct ipci_kept *kept; /* the oldest */
	struct ipci_kept **kept_tail;
	unsigned int kept_messages;
	size_t kept_bytes;
	unsigned int kept_fds;
	struct ipci_kept *given; /* the kept message that was given out last */
	bool holds;              /* held is a message that could not be kept */
	struct ipc_message held;
	int held_result; /* 0, or the error in its place */
};

struct ipc_channel {
	int fd;
	_Atomic int broken; /* 0 or -EPROTO: both ways are dead */

	/* The peer's hello: whichever direction needs it first receives it, while it is hearing. */
	atomic_uint generation;     /* of the process whose threads have used the lock */
	pthread_mutex_t hello_lock; /* of hearing, and never held for long */
	pthread_cond_t hello_turn;  /* hearing has become false */
	bool hearing;               /* a direction is receiving the hello */
	atomic_bool heard;
	struct ipci_limits peer; /* written before heard */
	struct ipci_limits own;

	uint64_t next_call_id;
	struct ipci_port *port; /* its place in a loop, or NULL */

	struct ipci_out out;
	struct ipci_in in;
};

/*
 * Copy a caller's options, which begin with their size and can be older or newer than ours: what
 * they lack is zero, and what we do not know must be. Return: 0, or -EINVAL.
 */
int ipci_options_copy(void *ret, size_t size, const void *options);

/* As ipc_channel_open(), of a socket that came from ipci_sys_socketpair() and was left as it is. */
int ipci_channel_open_ours(
	struct ipc_channel **ret, int fd, const struct ipc_channel_options *options);

/* As ipc_channel_close(), and the peer sees the end even if other processes hold copies of this
   end. What was sent before stays to be received. */
struct ipc_channel *ipci_channel_end(struct ipc_channel *channel);

/* In a worker, of its own end: its parent may delay it, so what that sent is closed as one's own
   descriptors are. A worker that is shut in may have no other thread. */
static inline void
ipci_channel_trust(struct ipc_channel *channel)
{
	channel->in.lane.closes_here = true;
}

/* Give up on a peer that breaks the format: wakes whoever waits for it. Return: -EPROTO. */
int ipci_channel_break(struct ipc_channel *channel);

/*
 * Send what a channel in a loop has gathered, then let the peer see the end of this direction. The
 * loop does both, as soon as the socket has room; nothing more is taken (-EPIPE). The other
 * direction goes on.
 */
void ipci_channel_finish_writing(struct ipc_channel *channel);

/* A message to be sent breaks these by a programmer's error alone. */
static inline void
ipci_message_assert(const struct ipc_message *message)
{
	assert(message);
	assert(message->data || !message->size);
	assert(message->fds || !message->n_fds);
	assert(!(message->flags & ~IPCI_RUN_OF_MESSAGE));
}

/* send.c */
size_t ipci_out_buffer_size(const struct ipc_channel_options *options);
int ipci_out_init(struct ipc_channel *channel, const struct ipc_channel_options *options);
void ipci_out_finish(struct ipc_channel *channel);
int ipci_out_hello(struct ipc_channel *channel);
int ipci_out_message(struct ipc_channel *channel, const struct ipc_message *message, bool flush,
	struct ipci_deadline *deadline);

/* Send everything that is gathered, without waiting. Return: as ipc_channel_flush(). */
int ipci_out_flush(struct ipc_channel *channel);

/* Begin an empty open record. */
void ipci_out_begin(struct ipc_channel *channel);

/* Is the message within the limits of both ends? Return: 0, -EMSGSIZE, -E2BIG, -EAGAIN ... */
int ipci_out_check(struct ipc_channel *channel, const struct ipc_message *message,
	struct ipci_deadline *deadline);

/* Is each descriptor open, and none of a kind that the kernel may not pass? */
int ipci_out_check_fds(const struct ipc_message *message, bool *ret_anonymous);

/* Does the message not fit into any record? */
bool ipci_out_is_large(const struct ipc_channel *channel, const struct ipc_message *message);

/* Copy a message into the open record, which has room for it, and duplicate its descriptors. */
int ipci_out_gather(struct ipc_channel *channel, const struct ipc_message *message);

/* What a failed send means to the caller. */
int ipci_out_error(struct ipc_channel *channel, int r);

/* Before a large message: be able to say that it is unfinished. Return: 0, or -ENOMEM. */
int ipci_out_reserve_large(struct ipci_out *out);

static inline void
ipci_out_set_unfinished(struct ipci_out *out, bool unfinished)
{
	atomic_store_explicit(out->unfinished, unfinished, memory_order_relaxed);
}

/* Is a void to be sent first? A copy of this end may have sent it. */
static inline bool
ipci_out_owes_void(struct ipci_out *out)
{
	out->void_due =
		out->void_due && atomic_load_explicit(out->unfinished, memory_order_relaxed);
	return out->void_due;
}

/* Is anything gathered? */
static inline bool
ipci_out_is_empty(const struct ipci_out *out)
{
	return !out->queue.first && !out->void_due && ipci_writer_is_empty(&out->writer);
}

/* receive.c */
size_t ipci_in_buffer_size(const struct ipc_channel_options *options);
void ipci_in_init(struct ipc_channel *channel, const struct ipc_channel_options *options);
void ipci_in_finish(struct ipc_channel *channel);

/*
 * Receive the peer's hello, unless it came. Either direction may call it.
 * Return: 0, or -EAGAIN, -ETIMEDOUT, -EPIPE, -EPROTO ...
 */
int ipci_in_hello(struct ipc_channel *channel, struct ipci_deadline *deadline);

/*
 * Receive the next message that no call has kept. call_id names the reply that is waited for; other
 * late replies are dropped. -EBADMSG writes the message's head to ret_message as well.
 */
int ipci_in_next(struct ipc_channel *channel, struct ipc_message *ret_message, uint64_t call_id,
	struct ipci_deadline *deadline);

/* Receive the next message, or one that a call has kept. Return: as ipc_channel_recv(). */
int ipci_in_recv(struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms);

/* End the last message's view: closes its descriptors. */
void ipci_in_release_special(struct ipci_in *in);

static inline void
ipci_in_release(struct ipci_in *in)
{
	if (ipci_unlikely(in->special & IPCI_SPECIAL_STATE))
		ipci_in_release_special(in);
}

/*
 * Give out the next message the short way: from the middle of a run, when none of these stands in
 * its way (enum ipci_special) and it cannot be a late reply to a call.
 *
 * Return: whether it was.
 */
static inline bool
ipci_in_give(struct ipci_in *in, unsigned int special, struct ipc_message *ret_message)
{
	struct ipci_reader *reader = &in->reader;

	if (ipci_unlikely(!reader->run_left || in->special & special))
		return false;
	if (ipci_likely(!reader->run_flags)) {
		ipci_reader_give_plain(reader, ret_message);
	} else {
		if (ipci_reader_next_id(reader) >= IPC_MESSAGE_ID_CALL)
			return false;
		ipci_reader_give(reader, ret_message);
	}
	ipci_count_add(&in->counts.messages, 1);
	return true;
}

/* A packet has come for the channel, which takes it. */
void ipci_in_arrive(struct ipci_in *in, struct ipci_arrived *arrived);

/*
 * Let what arrived lie in memory of the channel's own, as its engine goes away; with drop, forget
 * it. The packet in hand is not released, but handed back: a view into it may still be in use.
 *
 * Return: 0, or -ENOMEM: nothing has changed.
 */
int ipci_in_settle(struct ipci_in *in, bool drop, struct ipci_arrived **ret_in_hand);

/* In a forked child: what arrived lies in memory that is the parent's alone. */
void ipci_in_forget(struct ipci_in *in);

/* call.c: give out the oldest kept message. Return: as ipc_channel_recv(). */
int ipci_kept_give(struct ipci_in *in, struct ipc_message *ret_message);
void ipci_kept_free(struct ipci_in *in);

#endif
