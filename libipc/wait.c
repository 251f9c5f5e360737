/* SPDX-License-Identifier: MIT */

#include <errno.h>

#include "base.h"
#include "cpus.h"
#include "sys.h"
#include "wait.h"

#define NS_PER_US 1000
#define NS_PER_MS 1000000

void
ipci_deadline_start(struct ipci_deadline *deadline, int64_t now_ns)
{
	if (deadline->timeout_ms > 0 && !deadline->at_ns)
		deadline->at_ns = now_ns + (int64_t)deadline->timeout_ms * NS_PER_MS;
}

int
ipci_deadline_left_ms(const struct ipci_deadline *deadline, int64_t now_ns)
{
	int64_t left_ns;

	if (deadline->timeout_ms <= 0)
		return deadline->timeout_ms < 0 ? -1 : 0;
	left_ns = deadline->at_ns - now_ns;
	return left_ns > 0 ? (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS) : 0;
}

bool
ipci_deadline_cuts(struct ipci_deadline *deadline)
{
	int64_t now_ns;

	if (deadline->timeout_ms < 0 || ++deadline->packets % IPCI_DEADLINE_PACKETS)
		return false;
	now_ns = ipci_sys_now_ns();
	ipci_deadline_start(deadline, now_ns);
	return !ipci_deadline_left_ms(deadline, now_ns);
}

int
ipci_deadline_error(const struct ipci_deadline *deadline)
{
	return deadline->timeout_ms ? -ETIMEDOUT : -EAGAIN;
}

void
ipci_wait_init(struct ipci_wait *wait, int32_t spin_us)
{
	/* The first waits spin: a channel is made to be used at once. */
	*wait = (struct ipci_wait){.spin_us = spin_us, .score = IPCI_WAIT_SCORE_MAX / 2};
}

/* Found out when it is first needed: in a worker the limits may be set after the channel was made.
 */
static bool
may_spin(struct ipci_wait *wait)
{
	if (!wait->known) {
		wait->known = true;
		wait->quota_allows = ipci_cpus_quota(IPCI_CGROUP_MEMBERSHIP, IPCI_CGROUP_ROOT) >=
		                     IPCI_WAIT_QUOTA_MIN;
		wait->several_cpus = ipci_cpus_several();
	}
	return wait->quota_allows && wait->several_cpus;
}

int64_t
ipci_wait_spin_ns(struct ipci_wait *wait, int64_t now_ns)
{
	/* Who names a time has thought of the CPUs: a pinned worker has one and may well spin. */
	if (wait->spin_us)
		return wait->spin_us > 0 ? (int64_t)wait->spin_us * NS_PER_US : 0;
	if (wait->score <= 0 || now_ns < wait->rest_until_ns || !may_spin(wait))
		return 0;
	return IPCI_WAIT_SPIN_NS;
}

int64_t
ipci_wait_gap_ns(const struct ipci_wait *wait)
{
	if (!ipci_wait_learns(wait) || wait->typical_ns <= IPCI_WAIT_BUSY_NS)
		return 0;
	return wait->typical_ns / IPCI_WAIT_LOOKS;
}

void
ipci_wait_learn(struct ipci_wait *wait, int64_t waited_ns, bool slept)
{
	bool spun = wait->score > 0;

	if (!slept)
		wait->typical_ns += (waited_ns - wait->typical_ns) / 8;
	if (!slept || (!spun && waited_ns <= IPCI_WAIT_SHORT_NS))
		wait->score = IPCI_MIN(wait->score + 1, IPCI_WAIT_SCORE_MAX);
	else
		wait->score = IPCI_MAX(wait->score - 2, -IPCI_WAIT_SCORE_MAX);

	/* Affinity changes under us. To ask again costs nothing beside the sleep that was. */
	if (slept)
		wait->several_cpus = ipci_cpus_several();
}

void
ipci_wait_learn_spin(struct ipci_wait *wait, int64_t start_ns, int64_t now_ns)
{
	if (now_ns - start_ns > IPCI_WAIT_PREEMPTED_NS)
		wait->rest_until_ns = now_ns + IPCI_WAIT_REST_NS;
}

static inline void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

int64_t
ipci_wait_until(int64_t at_ns)
{
	int64_t now_ns;

	do {
		relax();
		now_ns = ipci_sys_now_ns();
	} while (now_ns < at_ns);
	return now_ns;
}
