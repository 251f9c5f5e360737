/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_QUEUE_H
#define LIBIPC_INTERNAL_QUEUE_H

/*
 * What a channel in a loop has taken and the kernel has not: finished packets, in order, ahead of
 * the open record.
 *
 * Knows limits, the parts that a packet goes in, and who owns memory and descriptors
 * meanwhile. Refuses to know how a packet is sent: an engine asks for the next one, and says what
 * became of it.
 */

#include <sys/uio.h>

#include "fds.h"
#include "wait.h"
#include "wire.h"

struct ipc_channel;
struct ipci_out;

/* A finished packet, or the rest of a large message's payload, that goes in fragments. */
struct ipci_packet {
	struct ipci_packet *next;
	uint8_t *buffer; /* mapped; ours */
	size_t buffer_size;
	uint8_t *left; /* in the buffer: what is still to be sent */
	size_t left_size;
	bool fragments;
	size_t part_max; /* the kernel had no memory for more at once; 0: no limit */
	bool is_split;   /* the part that is under way is the first of the split */
	struct ipci_split split;
	uint64_t last_message; /* how many messages the channel had taken when this was finished */
	struct ipci_fds fds;   /* ours, closed when the kernel has them */
};

struct ipci_queue {
	struct ipci_packet *first;
	struct ipci_packet *last;
	size_t bytes; /* of all packets */
	size_t n_fds;
	uint64_t messages_sent; /* of those that the channel has taken since it was made */
	int dead;               /* 0, or why nothing can be sent any more: -EPIPE ... */
	struct ipci_record_header header; /* of the fragment, or the void, that is under way */
};

/* What goes out next: one packet. Lies in the queue until it is said what became of it. */
struct ipci_parcel {
	struct iovec parts[2];
	unsigned int n_parts;
	size_t size;
	const int *fds;
	unsigned int n_fds;
};

/* Packets to be used again, of a loop. To map a buffer for each turn's record costs as much as to
   send it. */
struct ipci_packet_cache {
	struct ipci_packet *first;
	unsigned int n;
	unsigned int n_ports;        /* each can have one in flight */
	struct ipci_packet *payload; /* of a large message, or NULL */
};
/* Kept at most: of any size, and beside those, small, one for each port. */
#define IPCI_PACKET_CACHE_MAX   16U
#define IPCI_PACKET_CACHE_SMALL 16384U
/* The bytes of the payload that is kept at most. */
#define IPCI_PACKET_CACHE_PAYLOAD (1U << 20)

void ipci_packet_cache_finish(struct ipci_packet_cache *cache);

/* Take a message, for a channel in a loop. Return: as ipc_channel_post(). */
int ipci_queue_message(struct ipc_channel *channel, const struct ipc_message *message);

/* Return: 0 when the kernel has everything, -EAGAIN (the sender is told when it has), or why it
   never will. */
int ipci_queue_state(struct ipc_channel *channel);

/* Is so little outstanding that a sender which was refused should try again? */
bool ipci_queue_has_room(const struct ipc_channel *channel);

/*
 * The next packet to be sent; finishes the open record if that is all there is.
 * Return: 1, 0 when there is nothing, or -ENOMEM.
 */
int ipci_queue_next(struct ipc_channel *channel, struct ipci_parcel *ret_parcel);

/* Is nothing left when this parcel has been sent? */
bool ipci_queue_is_last(const struct ipci_out *out, const struct ipci_parcel *parcel);

/* The parcel was sent. */
void ipci_queue_sent(struct ipc_channel *channel);

/*
 * The parcel was not sent, and stays.
 * Return: 0 to try again at once, -EAGAIN to try again after a while, or why the channel has ended.
 */
int ipci_queue_refused(struct ipc_channel *channel, int error);

/* Nothing can be sent any more, for this reason: drop everything, refuse more. */
void ipci_queue_die(struct ipc_channel *channel, int reason);

/* Send the packets directly, for a channel that was in a loop. Return: 0, or as
 * ipc_channel_flush(). */
int ipci_queue_send(struct ipc_channel *channel, struct ipci_deadline *deadline);

/* Nothing of it can be sent any more. */
void ipci_queue_drop(struct ipc_channel *channel);

#endif
