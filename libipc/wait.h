/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_WAIT_H
#define LIBIPC_INTERNAL_WAIT_H

/*
 * Deadlines, and how to wait: spin, then sleep.
 *
 * Knows time and what earlier waits have taught. Refuses to know what is waited for.
 */

#include <stdbool.h>
#include <stdint.h>

/*
 * When a call with a timeout_ms must be back. The clock is read only once something
 * has to be waited for: a call that need not wait does not ask for the time.
 */
struct ipci_deadline {
	int timeout_ms;
	int64_t at_ns;        /* 0 until started */
	unsigned int packets; /* see ipci_deadline_cuts() */
	/* What the call would leave half done if its thread were cancelled in a wait: called then.
	   May be NULL. */
	void (*undo)(void *arg);
	void *undo_arg;
};

/* Packets between two looks at the clock of a call that need not wait, but goes on and on. */
#define IPCI_DEADLINE_PACKETS 16

static inline struct ipci_deadline
ipci_deadline(int timeout_ms)
{
	return (struct ipci_deadline){.timeout_ms = timeout_ms};
}

/* Begin to count from now_ns, unless it has begun. */
void ipci_deadline_start(struct ipci_deadline *deadline, int64_t now_ns);

/* Milliseconds left, as poll(2) takes them, rounded up; -1 for ever; 0 when it is over. */
int ipci_deadline_left_ms(const struct ipci_deadline *deadline, int64_t now_ns);

/* Is it over for a call that takes one more packet, of a peer that might send without end? */
bool ipci_deadline_cuts(struct ipci_deadline *deadline);

/* What a wait that ended in vain answers: -EAGAIN or -ETIMEDOUT. */
int ipci_deadline_error(const struct ipci_deadline *deadline);

/*
 * One direction's waiting. Spinning for as long as a sleep costs, before sleeping, is never
 * more than twice as dear as knowing the future; so that is how long a channel spins, and
 * only while the waits of late were mostly over by then.
 */
struct ipci_wait {
	int32_t spin_us;       /* as in the options */
	int score;             /* learned, within +-IPCI_WAIT_SCORE_MAX: above 0 spinning pays */
	int64_t rest_until_ns; /* learned: the CPU is wanted by others, no spinning before */
	int64_t typical_ns;    /* learned: how long a wait that spinning meets lasts */
	bool known;            /* quota_allows was found out */
	bool quota_allows;
	bool several_cpus;
};

/* A wake-up costs 5 us on bare metal and 20 to 50 in a virtual machine. */
#define IPCI_WAIT_SPIN_NS 50000
/* A wait that slept at once was short if spinning might have met it: its wake-up is in it. */
#define IPCI_WAIT_SHORT_NS (2 * IPCI_WAIT_SPIN_NS)
/* A spinning wait that took so much longer than it may was interrupted: others need this CPU, the
   peer perhaps. Spinning is then in their way, and costs the turn that the next message needs. */
#define IPCI_WAIT_PREEMPTED_NS (5 * IPCI_WAIT_SPIN_NS)
#define IPCI_WAIT_REST_NS      100000000 /* so long it is not tried again */

#define IPCI_WAIT_SCORE_MAX 8
/* Below this many hundredths of a CPU the peer may need the time that spinning burns. */
#define IPCI_WAIT_QUOTA_MIN 150

void ipci_wait_init(struct ipci_wait *wait, int32_t spin_us);

/* Waits that typically last longer than this are no matter of latency: to look at the socket
   this many times until then is enough, and leaves its lock to the peer. */
#define IPCI_WAIT_BUSY_NS 8000
#define IPCI_WAIT_LOOKS   6

/* How long the wait that begins now shall spin before it sleeps; 0: not at all. */
int64_t ipci_wait_spin_ns(struct ipci_wait *wait, int64_t now_ns);

/* How long to leave between the looks of a spinning wait; 0: look without a break. */
int64_t ipci_wait_gap_ns(const struct ipci_wait *wait);

/* Learn from a wait that spinning met, or that slept: at once, or after it had spun in vain. */
void ipci_wait_learn(struct ipci_wait *wait, int64_t waited_ns, bool slept);

/* Learn from spinning itself, whatever it met. */
void ipci_wait_learn_spin(struct ipci_wait *wait, int64_t start_ns, int64_t now_ns);

/* Does this wait ever want to know how long one took? */
static inline bool
ipci_wait_learns(const struct ipci_wait *wait)
{
	return wait->spin_us == 0;
}

/* Let the time come to at_ns without sleeping. Return: the time. */
int64_t ipci_wait_until(int64_t at_ns);

#endif
