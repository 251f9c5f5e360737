/* SPDX-License-Identifier: MIT */

/*
 * Descriptors that a loop's channels have brought into this process and that nobody has taken or
 * closed: how many there may be, so that those of one channel leave room for those of another.
 *
 * A channel that takes descriptors is received from, one packet at a time, when the others hold no
 * more than a part of what the process may have. Those give theirs out in their turn. One cannot: a
 * channel in the middle of a large message, whose rest may never come. Where it is in the way it
 * loses its descriptors, whoever holds the most first: a channel that holds no more than its share
 * never does.
 *
 * Knows how many. Refuses to know how an engine receives.
 */

#include "loop.h"
#include "sys.h"

/* The part of the soft limit that channels have together, beside what receives that are under way
   may bring. */
#define PARTS 4U

unsigned int
ipci_budget_fds(void)
{
	return ipci_sys_fds_limit() / PARTS;
}

static unsigned int
held_by(const struct ipci_in *in)
{
	return in->fds.n - in->fds_given + in->n_lent;
}

void
ipci_budget_count(struct ipci_port *port)
{
	unsigned int held = held_by(&port->channel->in);

	port->loop->fds_held += held - port->fds_held;
	port->fds_held = held;
}

void
ipci_budget_forget(struct ipci_port *port)
{
	port->loop->fds_held -= port->fds_held;
	port->fds_held = 0;
}

static bool
is_stalled(const struct ipci_port *port)
{
	return port->channel->in.large.size && port->fds_held;
}

static struct ipci_port *
most_stalled(const struct ipci_port *but)
{
	struct ipci_port *port, *most = NULL;

	TAILQ_FOREACH (port, &but->loop->ports, all)
		if (port != but && is_stalled(port) && (!most || port->fds_held > most->fds_held))
			most = port;
	return most;
}

bool
ipci_budget_allows(struct ipci_port *port)
{
	struct ipc_loop *loop = port->loop;
	unsigned int budget;
	struct ipci_port *other;

	/* The rest of a large message brings none. */
	if (loop->fds_held == port->fds_held || port->channel->in.large.size)
		return true;
	budget = ipci_budget_fds();
	while (loop->fds_held - port->fds_held > budget) {
		other = most_stalled(port);
		if (!other)
			return loop->fds_held == port->fds_held;
		/* Its message comes without them, and is told to be so. */
		ipci_link_close_set(&other->channel->in.lane, &other->channel->in.fds);
		other->channel->in.fds_given = 0;
		ipci_budget_count(other);
	}
	return true;
}
