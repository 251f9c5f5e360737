/* SPDX-License-Identifier: MIT */

/*
 * Channels in a loop: attached and taken back, given what came, and told of room.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "loop.h"
#include "sys.h"

/* Records that a channel sends one after the other, before others are looked at. */
#define SEND_ROUNDS_MAX 16

/*
 * What has arrived comes before what is overdue. Of each channel's packets so many are looked for,
 * as many as a socket of usual size has room for, and so many messages are given out each time:
 * some ten milliseconds' work, where peers flood the loop.
 */
#define CATCH_UP_ROUNDS_MAX 1024
#define CATCH_UP_ROUND      1024U

/* How long to leave a kernel alone that had no memory. */
#define NAP_NS 1000000

void
ipci_port_ready(struct ipci_port *port)
{
	if (port->is_ready)
		return;
	port->is_ready = true;
	TAILQ_INSERT_TAIL(&port->loop->ready, port, ready);
	port->loop->n_ready++;
}

static void
not_ready(struct ipci_port *port)
{
	if (!port->is_ready)
		return;
	port->is_ready = false;
	TAILQ_REMOVE(&port->loop->ready, port, ready);
	port->loop->n_ready--;
}

void
ipci_port_has_output(struct ipci_port *port)
{
	if (port->has_output)
		return;
	port->has_output = true;
	TAILQ_INSERT_TAIL(&port->loop->output, port, output);
	if (!port->loop->turning)
		ipci_loop_wake(port->loop);
}

static void
no_output(struct ipci_port *port)
{
	if (!port->has_output)
		return;
	port->has_output = false;
	TAILQ_REMOVE(&port->loop->output, port, output);
}

static bool
has_room(const struct ipci_port *port)
{
	return port->wants_room && ipci_queue_has_room(port->channel);
}

static bool
has_emptied(const struct ipci_port *port)
{
	return port->wants_empty && ipci_out_is_empty(&port->channel->out);
}

/* All that was gathered before the end of this direction is with the kernel. */
static void
finish_writing(struct ipc_channel *channel)
{
	if (channel->out.finishing && ipci_out_is_empty(&channel->out))
		(void)ipci_sys_shutdown_writing(channel->fd);
}

void
ipci_channel_finish_writing(struct ipc_channel *channel)
{
	assert(channel->port);
	if (channel->out.finishing || !ipci_loop_is_ours(channel->port->loop))
		return;
	channel->out.finishing = true;
	/* Nothing joins the open record's run. */
	channel->out.writer.end = channel->out.writer.cursor;
	finish_writing(channel);
	ipci_port_has_output(channel->port);
}

void
ipci_port_sent(struct ipci_port *port)
{
	finish_writing(port->channel);
	if (has_room(port) || has_emptied(port))
		ipci_port_ready(port);
}

void
ipci_port_nap(struct ipci_port *port)
{
	port->naps = true;
	ipci_loop_nap(port->loop);
}

void
ipci_loop_nap(struct ipc_loop *loop)
{
	if (!loop->nap_until_ns)
		loop->nap_until_ns = ipci_sys_now_ns() + NAP_NS;
	ipci_loop_set_alarm(loop);
}

void
ipci_ports_wake(struct ipc_loop *loop, int64_t now_ns)
{
	struct ipci_port *port;

	if (!loop->nap_until_ns || now_ns < loop->nap_until_ns)
		return;
	loop->nap_until_ns = 0;
	TAILQ_FOREACH (port, &loop->ports, all) {
		if (!port->naps)
			continue;
		port->naps = false;
		ipci_port_ready(port);
		ipci_port_has_output(port);
	}
}

void
ipci_port_fail(struct ipci_port *port, int reason)
{
	/* A send that has met the peer's exit can leave a socket that is no connection any more. */
	if (reason == -ENOTCONN &&
		atomic_load_explicit(&port->channel->out.lane.refused, memory_order_relaxed))
		reason = -ECONNRESET;
	port->failed = reason;
	ipci_port_ready(port);
}

static struct ipci_port *
port_new(struct ipc_loop *loop, struct ipc_channel *channel,
	const struct ipc_channel_handler *handler, void *user)
{
	struct ipci_port *port = calloc(1, sizeof(*port));

	if (!port)
		return NULL;
	port->loop = loop;
	port->channel = channel;
	port->handler = *handler;
	port->user = user;
	return port;
}

static bool
is_watched(const struct ipc_loop *loop, int fd)
{
	const struct ipc_watch *watch;

	TAILQ_FOREACH (watch, &loop->watches, all)
		if (watch->fd == fd)
			return true;
	return false;
}

int
ipc_loop_attach(struct ipc_loop *loop, struct ipc_channel *channel,
	const struct ipc_channel_handler *handler, void *user)
{
	struct ipci_port *port;
	int r;

	assert(loop);
	assert(channel);
	assert(handler && handler->message);
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	if (channel->port)
		return -EBUSY;
	if (is_watched(loop, channel->fd))
		return -EEXIST;
	port = port_new(loop, channel, handler, user);
	if (!port)
		return -ENOMEM;
	r = loop->ops->attach(loop->engine, port);
	if (r < 0) {
		free(port);
		return r;
	}

	TAILQ_INSERT_TAIL(&loop->ports, port, all);
	loop->packets.n_ports++;
	channel->port = port;
	channel->in.special |= IPCI_SPECIAL_LOOP;
	channel->in.metered = true;
	channel->in.credit = 0;
	/* Nothing goes the short ways, which know no limits. */
	channel->out.lone_end = 0;
	channel->out.writer.end = channel->out.writer.cursor;
	channel->out.queue.messages_sent = channel->out.counts.messages;
	/* What arrived before, and what was gathered. */
	ipci_port_ready(port);
	ipci_port_has_output(port);
	ipci_loop_wake(loop);
	return 0;
}

/* The channel is on its own again. */
static void
port_free(struct ipci_port *port)
{
	struct ipc_channel *channel = port->channel;
	struct ipc_loop *loop = port->loop;

	not_ready(port);
	no_output(port);
	ipci_budget_forget(port);
	TAILQ_REMOVE(&loop->ports, port, all);
	loop->packets.n_ports--;
	if (loop->current == port)
		loop->current = NULL;

	channel->port = NULL;
	channel->in.special &= (uint8_t)~IPCI_SPECIAL_LOOP;
	channel->in.metered = false;
	channel->out.writer.end = channel->out.record_end;
	free(port);
}

/* In a forked child nothing of the parent's is touched. */
static void
port_forget(struct ipci_port *port)
{
	ipci_in_forget(&port->channel->in);
	port->loop->ops->detach(port->loop->engine, port);
	port_free(port);
}

/* The view that a callback was given has ended. */
static void
end_view(struct ipc_loop *loop)
{
	struct ipci_arrived *lingering = loop->lingering;

	loop->viewing = NULL;
	if (!lingering)
		return;
	loop->lingering = NULL;
	lingering->release(lingering);
}

static int
port_detach(struct ipci_port *port, bool drop)
{
	struct ipc_channel *channel = port->channel;
	struct ipc_loop *loop = port->loop;
	struct ipci_arrived *in_hand = NULL;
	int r;

	if (!ipci_loop_is_ours(loop)) {
		port_forget(port);
		return 0;
	}
	loop->ops->quiesce(loop->engine, port);
	r = ipci_in_settle(&channel->in, drop || channel->broken, &in_hand);
	if (r < 0) {
		loop->ops->receive(loop->engine, port);
		return r;
	}
	/* Its last message may be being looked at. */
	if (in_hand && loop->viewing == port)
		loop->lingering = in_hand;
	else if (in_hand)
		in_hand->release(in_hand);
	loop->ops->detach(loop->engine, port);
	port_free(port);
	return 0;
}

int
ipc_loop_detach(struct ipc_loop *loop, struct ipc_channel *channel)
{
	int r;

	assert(loop);
	assert(channel);
	if (!channel->port || channel->port->loop != loop)
		return -ENOENT;
	r = port_detach(channel->port, false);
	ipci_loop_settle(loop);
	return r;
}

void
ipci_port_close(struct ipci_port *port)
{
	struct ipc_loop *loop = port->loop;

	(void)port_detach(port, true);
	ipci_loop_settle(loop);
}

void
ipci_ports_finish(struct ipc_loop *loop)
{
	struct ipci_port *port;

	while ((port = TAILQ_FIRST(&loop->ports))) {
		if (port_detach(port, false) == 0)
			continue;
		/* No memory to keep what arrived: a channel with a gap must not go on. */
		(void)ipci_channel_break(port->channel);
		(void)port_detach(port, true);
	}
}

static void
end_port(struct ipci_port *port, int reason)
{
	struct ipc_channel_handler handler = port->handler;
	struct ipc_channel *channel = port->channel;
	struct ipc_loop *loop = port->loop;
	void *user = port->user;

	(void)port_detach(port, true);
	loop->stats.events++;
	if (handler.closed)
		handler.closed(channel, reason, user);
}

/*
 * Give out messages, share of them at most.
 * Return: why it ended: 0 for the share, or the channel's -errno. When the callback has detached
 * the channel loop->current is not the port, which is gone.
 */
static int
give(struct ipci_port *port, unsigned int *share)
{
	struct ipc_channel *channel = port->channel;
	struct ipc_loop *loop = port->loop;
	struct ipc_message message;
	int r = 0;

	while (*share && loop->current == port && ipci_loop_is_ours(loop)) {
		r = 0;
		if (ipci_unlikely(!ipci_in_give(&channel->in, IPCI_SPECIAL_STATE, &message)))
			r = ipci_in_recv(channel, &message, 0);
		if (r < 0 && r != -EBADMSG)
			return r;

		(*share)--;
		loop->stats.events++;
		loop->viewing = port;
		if (r == 0)
			port->handler.message(channel, &message, port->user);
		else if (port->handler.lost)
			port->handler.lost(channel, &message, port->user);
		end_view(loop);
	}
	return 0;
}

static void
tell_of_room(struct ipci_port *port)
{
	bool room = has_room(port), emptied = has_emptied(port);

	if (!room && !emptied)
		return;
	port->wants_room &= !room;
	port->wants_empty &= !emptied;
	/* Whoever turns the loop for want of room is answered even without a handler. */
	port->loop->stats.events++;
	if (port->handler.writable)
		port->handler.writable(port->channel, port->user);
}

static void
tell_of_hello(struct ipci_port *port)
{
	void (*greeted)(struct ipc_channel *, void *) = port->greeted;

	if (!greeted || !atomic_load_explicit(&port->channel->heard, memory_order_relaxed))
		return;
	port->greeted = NULL;
	greeted(port->channel, port->user);
}

/*
 * As give(), where messages may have descriptors: the socket is not read while those of others fill
 * the budget. Return: as give(); 0 also for what is left in the socket.
 */
static int
give_within_budget(struct ipci_port *port, unsigned int *share)
{
	struct ipci_in *in = &port->channel->in;
	struct ipc_loop *loop = port->loop;
	unsigned int credit = in->credit;
	bool ending = in->ending, waits;
	int r;

	/* What it holds is given out before more is read: else it could hold some for ever. */
	waits = (credit || ending) &&
	        ((port->fds_held && !in->large.size) || !ipci_budget_allows(port));
	if (waits) {
		in->credit = 0;
		in->ending = false;
	}
	r = give(port, share);
	if (loop->current != port || !ipci_loop_is_ours(loop))
		return r;
	ipci_budget_count(port);
	if (!waits)
		return r;
	in->ending = ending;
	if (r != -EAGAIN)
		return r;
	in->credit = credit;
	return 0;
}

/* There was no memory to receive with: what has come stays where it is, and nobody asks for it. */
static void
nap_unread(struct ipci_port *port)
{
	struct ipc_loop *loop = port->loop;

	if (loop->ops->pause)
		loop->ops->pause(loop->engine, port);
	ipci_port_nap(port);
}

/* One port's turn, when it has been taken from the list. */
static void
serve(struct ipci_port *port, unsigned int *share)
{
	struct ipc_loop *loop = port->loop;
	int r;

	loop->current = port;
	if (port->channel->in.limits.fds_max)
		r = give_within_budget(port, share);
	else
		r = give(port, share);
	if (loop->current == port && ipci_loop_is_ours(loop))
		tell_of_hello(port);
	if (loop->current != port || !ipci_loop_is_ours(loop))
		return;
	/* Of a large message's parts only some are taken at a time. */
	if (r == -EAGAIN && (port->channel->in.arrived || port->channel->in.ending))
		r = 0;
	if (r == -EAGAIN && port->failed)
		r = port->failed;

	if (r == 0)
		ipci_port_ready(port);
	else if (r == -EAGAIN)
		loop->ops->receive(loop->engine, port);
	else if (r == -ENOMEM || r == -ENOBUFS)
		nap_unread(port);
	else
		end_port(port, r == -EPIPE ? 0 : r);

	if (loop->current == port)
		tell_of_room(port);
}

/*
 * What each of n ports is given in a round: whoever comes last waits for all others, so that the
 * more there are, the less each is given.
 */
static unsigned int
share_of(unsigned int n, unsigned int round_max)
{
	return IPCI_MAX(IPCI_MIN(round_max / n, IPC_LOOP_SHARE), 1U);
}

/* Messages with descriptors are given out together: those that wait fill the table. */
static unsigned int
least_share(const struct ipci_port *port)
{
	return port->channel->in.limits.fds_max ? IPC_MESSAGE_FDS_LIMIT : 1;
}

/*
 * Serve each port that is ready now once: one alone as much as the round may give out.
 * Return: the messages given out.
 */
static unsigned int
serve_round(struct ipc_loop *loop, unsigned int round_max)
{
	unsigned int n = loop->n_ready, budget = round_max, share, given, left;
	struct ipci_port *port;

	if (!n)
		return 0;
	share = n > 1 ? share_of(n, round_max) : round_max;
	for (; n && budget && loop->n_ready && !ipci_loop_is_over(loop); n--) {
		port = TAILQ_FIRST(&loop->ready);
		not_ready(port);
		given = IPCI_MIN(IPCI_MAX(share, least_share(port)), budget);
		left = given;
		serve(port, &left);
		loop->current = NULL;
		budget -= given - left;
	}
	return round_max - budget;
}

void
ipci_ports_left(struct ipc_loop *loop)
{
	struct ipci_port *port = loop->current;

	end_view(loop);
	loop->current = NULL;
	if (!port)
		return;
	if (port->channel->in.limits.fds_max)
		ipci_budget_count(port);
	ipci_port_ready(port);
}

int
ipci_ports_deliver(struct ipc_loop *loop)
{
	unsigned int budget = IPC_LOOP_TURN, given;
	int r;

	for (;;) {
		given = serve_round(loop, budget);
		budget -= given;
		if (!budget || !given || !loop->n_ready || ipci_loop_is_over(loop))
			return 0;
		/* Whoever has got something meanwhile has a part in the next round. */
		r = loop->ops->wait(loop->engine, 0);
		if (r < 0)
			return r;
	}
}

int
ipci_ports_catch_up(struct ipc_loop *loop)
{
	unsigned int rounds;
	int r;

	for (rounds = 0; rounds < CATCH_UP_ROUNDS_MAX; rounds++) {
		r = loop->ops->wait(loop->engine, 0);
		if (r < 0 || !loop->n_ready)
			return r;
		(void)serve_round(loop, CATCH_UP_ROUND);
		if (ipci_loop_is_over(loop))
			return 0;
	}
	return 0;
}

static void
send_round(struct ipc_loop *loop)
{
	struct ipci_port *port;

	while ((port = TAILQ_FIRST(&loop->output))) {
		no_output(port);
		loop->ops->send(loop->engine, port);
	}
}

void
ipci_ports_send(struct ipc_loop *loop)
{
	unsigned int rounds = SEND_ROUNDS_MAX;

	do
		send_round(loop);
	while (--rounds && loop->ops->send_more && loop->ops->send_more(loop->engine));
}
