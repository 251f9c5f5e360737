/* SPDX-License-Identifier: MIT */

/*
 * The way out on io_uring.
 *
 * A port has at most one send under way, for several would be reordered once the socket is full.
 * A send is tried at once, and reports failure only: what the kernel has seen and not complained of
 * is sent, and a wait in the same system call is not ended by it. One that finds the socket full
 * goes again, and waits there for room.
 */

#include <errno.h>

#include "probes.h"
#include "seam_uring.h"
#include "uring.h"

bool
ipci_uring_is_waited_for(const struct ipci_uring_port *up)
{
	const struct ipci_port *port = up->port;

	return up->is_full || port->wants_room || port->wants_empty ||
	       port->channel->out.finishing ||
	       !ipci_queue_is_last(&port->channel->out, &up->parcel);
}

static void
prepare_send(struct ipci_engine *engine, struct ipci_uring_port *up, struct io_uring_sqe *sqe)
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
	io_uring_sqe_set_data64(sqe, ipci_uring_tag(up, IPCI_KIND_SEND));
	if (!ipci_queue_is_last(&up->port->channel->out, parcel))
		engine->has_more = true;
	if (!ipci_uring_is_waited_for(up) && engine->ring.features & IORING_FEAT_CQE_SKIP)
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	ipci_seam_submit(sqe);

	up->send = IPCI_REQUEST_ACTIVE;
	if (sqe->flags & IOSQE_CQE_SKIP_SUCCESS) {
		up->send = IPCI_REQUEST_AT_ONCE;
		up->sequence = engine->ring.sq.sqe_tail - 1;
		TAILQ_INSERT_TAIL(&engine->at_once, up, at_once);
	}
}

void
ipci_uring_send(struct ipci_engine *engine, struct ipci_port *port)
{
	struct ipci_uring_port *up = port->of_engine;
	struct ipc_channel *channel = port->channel;
	struct io_uring_sqe *sqe;
	int r;

	if (up->is_quiet || up->send != IPCI_REQUEST_IDLE || channel->broken ||
		channel->out.queue.dead || ipci_out_is_empty(&channel->out))
		return;
	sqe = ipci_uring_request(engine);
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
	io_uring_sqe_set_data64(sqe, IPCI_KIND_NONE);
	ipci_port_nap(port);
}

/* The records that wait for others go in rounds, each one submit for all ports. */
bool
ipci_uring_send_more(struct ipci_engine *engine)
{
	if (!engine->has_more)
		return false;
	engine->has_more = false;
	return ipci_uring_enter(engine, false, 0) == 0 && !TAILQ_EMPTY(&engine->loop->output);
}

static void
count_sent(struct ipci_uring_port *up, int size)
{
	struct ipc_channel_counts *counts = &up->port->channel->out.counts;

	ipci_count_add(&counts->records, 1);
	ipci_count_add(&counts->bytes, (uint64_t)size);
	ipci_count_add(&counts->fds, up->parcel.n_fds);
	IPCI_PROBE2(packet__sent, up->port->channel->fd, (ssize_t)size);
}

void
ipci_uring_sent(struct ipci_engine *engine, struct ipci_uring_port *up, int result)
{
	struct ipci_port *port = up->port;
	struct ipc_channel *channel = port->channel;
	int r = 0;

	if (up->send == IPCI_REQUEST_AT_ONCE)
		TAILQ_REMOVE(&engine->at_once, up, at_once);
	up->send = IPCI_REQUEST_IDLE;
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

void
ipci_uring_reap_sends(struct ipci_engine *engine)
{
	unsigned int seen = io_uring_smp_load_acquire(engine->ring.sq.khead);
	struct ipci_uring_port *up;

	while ((up = TAILQ_FIRST(&engine->at_once)) && (int)(seen - up->sequence) > 0)
		ipci_uring_sent(engine, up, (int)up->parcel.size);
}
