/* SPDX-License-Identifier: MIT */

/*
 * Who calls, cancels, resizes, drains and finishes, from outside and from within, and whose
 * requests end: whether each ends as it may is checked here.
 */

#include <string.h>

#include "simulation.h"
#include "support.h"

/* Functions of the user that are within each other, at most. */
#define INSIDE_MAX 3

void
sim_fill(unsigned char *payload, size_t size, uint64_t index)
{
	size_t i;

	memcpy(payload, &index, sizeof(index));
	for (i = sizeof(index); i < size; i++)
		payload[i] = (unsigned char)(index + i);
}

bool
sim_is_filled(const void *payload, size_t size, uint64_t index)
{
	unsigned char expected[SIM_PAYLOAD_MAX];

	if (size < sizeof(index) || size > sizeof(expected))
		return false;
	sim_fill(expected, size, index);
	return memcmp(payload, expected, size) == 0;
}

/*
 * Calls.
 */

static int
choose_timeout_ms(struct sim *sim)
{
	if (!sim_fault(sim, sim->style.timeouts))
		return -1;
	if (sim_chance(sim, 100))
		return 0;
	return 1 + (int)sim_below(sim, sim_chance(sim, 500) ? 10 : 100);
}

/* Return: the timeout to call with. */
static int
invent(struct sim *sim, struct sim_request *request)
{
	const struct sim_style *style = &sim->style;
	int timeout_ms = choose_timeout_ms(sim);

	*request = (struct sim_request){
		.sim = sim,
		.index = sim->n_requests++,
		.caller_id = sim_random(sim),
		.born = sim->step,
		.deadline_ns = timeout_ms < 0 ? INT64_MAX : sim->now_ns + timeout_ms * NS_PER_MS,
		.size = sizeof(uint64_t) + sim_below(sim, SIM_PAYLOAD_MAX - 7),
		.n_fds = sim_chance(sim, style->fds) ? 1 + sim_below(sim, 3) : 0,
		.attempts = sim_chance(sim, style->retries) ? 1 + sim_below(sim, 4) : 0,
	};
	request->is_poison = sim_fault(sim, style->poison);
	sim->counts[SIM_poison_calls] += request->is_poison;
	sim->counts[SIM_calls_without_time] += timeout_ms == 0;
	return timeout_ms;
}

/* Would it be too much to keep this, too? */
static bool
is_too_much(
	const struct sim *sim, const struct sim_request *request, size_t bytes, unsigned int fds)
{
	return (bytes && bytes + request->size > sim->options.kept_bytes_max) ||
	       (request->n_fds && fds && fds + request->n_fds > sim->options.kept_fds_max);
}

static void
check_taken(struct sim *sim, struct sim_request *request, size_t bytes, unsigned int fds)
{
	rule(sim, !sim->is_draining && !sim->is_over && !sim->is_finishing);
	request->is_live = true;
	request->live_at = sim->n_live;
	sim->live[sim->n_live++] = request;
	sim->expected.calls++;
	sim->counts[SIM_calls]++;
	sim->counts[request->sends ? SIM_calls_at_once : SIM_calls_waiting]++;
	if (!request->sends) {
		rule(sim, sim->n_waiting < sim_queue_max(sim));
		rule(sim, sim->n_waiting || !sim_has_open(sim, false));
		request->is_waiting = true;
		TAILQ_INSERT_TAIL(&sim->waiting, request, waiting);
		sim->n_waiting++;
	}
	if (sim_is_kept(request))
		rule(sim, !is_too_much(sim, request, bytes, fds));
}

static void
check_refused(struct sim *sim, const struct sim_request *request, int r)
{
	bool must_wait = sim->n_waiting || !sim_has_open(sim, false);
	bool is_full = must_wait && sim->n_waiting >= sim_queue_max(sim);
	bool too_much;
	size_t bytes;
	unsigned int fds;

	rule(sim, !request->sends);
	sim_kept(sim, &bytes, &fds);
	too_much = is_too_much(sim, request, bytes, fds) && (must_wait || request->attempts > 1);
	switch (r) {
	case -ESHUTDOWN:
		rule(sim, sim->is_draining || sim->is_finishing);
		sim->counts[SIM_calls_after_drain]++;
		break;
	case -EOWNERDEAD:
		rule(sim, sim->is_hopeless || sim_is_hopeless(sim));
		sim->counts[SIM_calls_hopeless]++;
		break;
	case -EAGAIN:
		rule(sim, is_full || too_much);
		sim->counts[is_full ? SIM_refused_queue : SIM_refused_kept]++;
		sim->is_refused = true;
		sim->refused_step = sim->step;
		sim->expected.refused++;
		break;
	default:
		rule(sim, sim->send_failed == request && r == sim->send_result);
		sim->counts[SIM_calls_failed]++;
	}
	sim->send_failed = NULL;
}

static void
call(struct sim *sim)
{
	unsigned char payload[SIM_PAYLOAD_MAX];
	int fds[3] = {sim->fd, sim->fd, sim->fd};
	struct ipc_message message = {.data = payload, .fds = fds};
	struct sim_request *request = &sim->requests[sim->n_requests];
	bool was_quiet = sim->is_quiet;
	unsigned int n_fds, attempts;
	uint64_t name = 0;
	size_t bytes;
	int timeout_ms, r;

	if (!sim->calls_left)
		return;
	sim->calls_left--;
	timeout_ms = invent(sim, request);
	sim_fill(payload, request->size, request->index);
	message.size = request->size;
	message.n_fds = request->n_fds;
	message.id = request->caller_id;
	message.type = (uint16_t)request->caller_id;
	message.flags = (uint16_t)(sim_below(sim, 2) * IPC_MESSAGE_MORE);
	attempts = request->attempts;
	if (!attempts)
		request->attempts = sim->options.attempts;
	sim->counts[SIM_calls_inside] += sim->inside != 0;

	sim_kept(sim, &bytes, &n_fds);
	sim->calling = request;
	sim->is_quiet = true;
	r = ipci_dispatch_call(&sim->dispatch, &message, sim_reply, request, timeout_ms, attempts,
		sim->inside && request->attempts == 1 ? NULL : &name);
	sim->is_quiet = was_quiet;
	sim->calling = NULL;
	sim_trace(sim, SIM_CALLED, (long long)request->index, (long long)name, r);
	if (r < 0) {
		check_refused(sim, request, r);
		return;
	}
	if (request->sends)
		rule(sim, !name || request->name == name);
	else if (name)
		request->name = name;
	check_taken(sim, request, bytes, n_fds);
}

/*
 * Ends.
 */

static void
retire(struct sim *sim, struct sim_request *request)
{
	sim->n_live--;
	sim->live[request->live_at] = sim->live[sim->n_live];
	sim->live[request->live_at]->live_at = request->live_at;
	request->is_live = false;
	if (request->is_waiting) {
		TAILQ_REMOVE(&sim->waiting, request, waiting);
		request->is_waiting = false;
		sim->n_waiting--;
	}
	if (request->is_lost)
		sim->n_lost--;
}

/* Its worker goes on to owe the answer. */
static void
leave_owed(struct sim_request *request, int result)
{
	struct sim_worker *worker = request->worker;
	unsigned int i;

	for (i = 0; i < worker->n_held; i++)
		if (worker->held[i].request == request)
			break;
	rule(request->sim, i < worker->n_held);
	worker->held[i].is_owed = true;
	worker->n_owed++;
	worker->held[i].is_late = result == -ETIMEDOUT;
	worker->n_late += result == -ETIMEDOUT;
	request->worker = NULL;
}

/* Those that wait are lost at once, and end one after the other. */
static void
lose_all_waiting(struct sim *sim)
{
	struct sim_request *request;

	while ((request = TAILQ_FIRST(&sim->waiting))) {
		TAILQ_REMOVE(&sim->waiting, request, waiting);
		request->is_waiting = false;
		request->is_lost = true;
		sim->n_waiting--;
		sim->n_lost++;
	}
}

static void
check_died(struct sim *sim, struct sim_request *request)
{
	sim->expected.died++;
	if (request->is_waiting) {
		rule(sim, sim_is_hopeless(sim));
		sim->is_hopeless = true;
		sim->counts[SIM_died_hopeless]++;
		lose_all_waiting(sim);
		return;
	}
	rule(sim, request->is_lost);
	sim->counts[SIM_died]++;
	sim->counts[SIM_died_with_parts] += request->parts != 0;
	sim->counts[SIM_died_by_finish] += sim->is_finishing;
	if (sim->style.has_poison_only && !request->is_poison)
		rule(sim, request->parts || request->attempts < 2);
}

static void
check_cancelled(struct sim *sim, const struct sim_request *request)
{
	sim->expected.cancelled++;
	if (sim->cancelling) {
		rule(sim, sim->cancelling == request);
		sim->counts[request->is_waiting ? SIM_cancelled_waiting
						: SIM_cancelled_outstanding]++;
	} else if (sim->is_finishing) {
		sim->counts[SIM_cancelled_by_finish]++;
	} else {
		rule(sim, sim->is_draining && sim->is_ticking && sim->now_ns >= sim->drain_ns);
		sim->has_drain_cancelled = true;
		sim->counts[SIM_cancelled_by_drain]++;
	}
	sim->cancelling = NULL;
}

/* Lies its answer there? */
static bool
has_arrived(const struct sim *sim, const struct sim_request *request)
{
	const struct sim_event *event;
	size_t i;

	for (i = 0; i < sim->events.n; i++) {
		event = (const struct sim_event *)(const void *)sim->events.nodes[i];
		if (event->happening == SIM_ANSWER && event->node.key <= sim->now_ns &&
			event->worker == request->worker && event->name == request->name)
			return true;
	}
	return false;
}

static void
check_timed_out(struct sim *sim, const struct sim_request *request)
{
	sim->expected.timed_out++;
	rule(sim, sim->is_ticking && !sim->is_finishing);
	rule(sim, sim->now_ns >= request->deadline_ns);
	/* What has arrived comes before what is overdue. */
	if (request->worker && !request->worker->is_hung && !request->worker->is_talker)
		rule(sim, !has_arrived(sim, request));
	sim->counts[request->is_waiting ? SIM_timed_out_waiting : SIM_timed_out_outstanding]++;
}

/* A reply, or the word that one came without its descriptors. */
static void
check_replied(
	struct sim *sim, struct sim_request *request, int result, const struct ipc_message *reply)
{
	uint64_t content[2];
	bool has_more = sim->is_told_more && sim->told_result == 0;

	rule(sim, sim->told == request);
	rule(sim, result == (has_more ? IPC_POOL_MORE : sim->told_result));
	sim->told = NULL;
	if (result < 0) {
		rule(sim, !reply);
		sim->expected.failed++;
		sim->counts[SIM_failed_without_fds]++;
		return;
	}
	rule(sim, reply->id == request->caller_id);
	memcpy(content, reply->data, sizeof(content));
	rule(sim, content[0] == request->index);
	rule(sim, content[1] == sim->told_part);
	rule(sim, content[1] == request->parts);
	request->parts += has_more;
	sim->expected.completed += !has_more;
	sim->counts[SIM_completed] += !has_more;
}

static void
check_end(struct sim *sim, struct sim_request *request, int result, const struct ipc_message *reply)
{
	if (result != 0 && result != IPC_POOL_MORE)
		rule(sim, !reply);
	switch (result) {
	case -ETIMEDOUT:
		check_timed_out(sim, request);
		break;
	case -ECANCELED:
		check_cancelled(sim, request);
		break;
	case -EOWNERDEAD:
		check_died(sim, request);
		break;
	default:
		if (sim->told) {
			check_replied(sim, request, result, reply);
			break;
		}
		rule(sim, sim->send_failed == request && result == sim->send_result);
		sim->send_failed = NULL;
		sim->expected.failed++;
		sim->counts[SIM_failed_to_send]++;
	}
}

static void act_inside(struct sim *sim);

void
sim_reply(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct sim_request *request = user;
	struct sim *sim = request->sim;

	(void)pool;
	sim_trace(sim, SIM_DID_REPLY, (long long)request->index, result, 0);
	rule(sim, request->is_live);
	rule(sim, !request->is_lost || result == -EOWNERDEAD);
	rule(sim, !sim->is_quiet || sim->cancelling == request);
	if (sim->is_finishing)
		rule(sim, result == (request->is_lost ? -EOWNERDEAD : -ECANCELED));
	check_end(sim, request, result, reply);
	if (result != IPC_POOL_MORE) {
		request->result = result;
		retire(sim, request);
		if (request->worker)
			leave_owed(request, result);
	}
	/* Where others are about to end, too. */
	if (sim->n_lost && sim->style.finishes && !sim->is_finishing && sim_chance(sim, 200)) {
		sim->inside++;
		sim_user_finish(sim);
		sim->inside--;
	}
	if (sim->is_finishing && sim_chance(sim, 100))
		sim_check_stats(sim);
	act_inside(sim);
}

/*
 * What else there is to do.
 */

static void
cancel(struct sim *sim)
{
	struct sim_request *request = NULL;
	bool was_quiet = sim->is_quiet;
	uint64_t name = sim_random(sim);
	int r;

	if (sim->n_requests && sim_chance(sim, 950)) {
		request = &sim->requests[sim_below(sim, sim->n_requests)];
		if (sim->n_live && sim_chance(sim, 800))
			request = sim->live[sim_below(sim, sim->n_live)];
		name = request->name;
		if (!request->is_live || request->is_lost || sim->is_finishing)
			request = NULL;
	}
	/* Who did not ask for the name does not know it. */
	if (!name)
		return;
	sim->counts[SIM_cancels_inside] += sim->inside && request;
	sim->cancelling = request;
	sim->is_quiet = true;
	r = ipci_dispatch_cancel(&sim->dispatch, name);
	sim_trace(sim, SIM_CANCELLED, (long long)name, r, 0);
	rule(sim, !sim->cancelling);
	rule(sim, r == (request ? 0 : -ENOENT));
	sim->counts[SIM_cancels_in_vain] += r < 0;
	sim->is_quiet = was_quiet;
}

static unsigned int
leaving(const struct sim *sim)
{
	unsigned int i, n = 0;

	for (i = 0; i < sim->dispatch.n_places; i++)
		n += sim->dispatch.places[i]->is_leaving;
	return n;
}

static void
resize(struct sim *sim)
{
	unsigned int workers = 1 + sim_below(sim, 8), before = sim->dispatch.workers,
		     leaving_before;
	bool was_quiet = sim->is_quiet;
	int r;

	sim_forget_places(sim);
	sim->is_quiet = true;
	leaving_before = leaving(sim);
	r = ipci_dispatch_resize(&sim->dispatch, workers);
	sim->is_quiet = was_quiet;
	sim_trace(sim, SIM_RESIZED, workers, r, 0);
	rule(sim, r == (sim->is_draining || sim->is_finishing ? -ESHUTDOWN : 0));
	if (r < 0)
		return;
	sim_forget_places(sim);
	rule(sim, sim->dispatch.workers == workers);
	sim->counts[SIM_resizes_inside] += sim->inside != 0;
	sim->counts[workers > before ? SIM_resizes_up : SIM_resizes_down]++;
	sim->counts[SIM_workers_returned] += workers > before && leaving(sim) < leaving_before;
}

void
sim_user_drain(struct sim *sim, int timeout_ms)
{
	int64_t drain_ns = timeout_ms < 0 ? INT64_MAX : sim->now_ns + timeout_ms * NS_PER_MS;
	bool was_quiet = sim->is_quiet;
	int r;

	sim->is_quiet = true;
	r = ipci_dispatch_drain(&sim->dispatch, timeout_ms);
	sim->is_quiet = was_quiet;
	rule(sim, r == (sim->is_draining || sim->is_finishing ? -EALREADY : 0));
	/* Another one can only make it shorter. */
	if (drain_ns < sim->drain_ns && !sim->is_finishing && sim->n_live) {
		sim->counts[SIM_drains_shortened] += sim->is_draining;
		sim->drain_ns = drain_ns;
		sim->drain_step = sim->step;
	}
	if (r < 0)
		return;
	sim->is_draining = true;
	sim->drain_step = sim->step;
	sim->is_refused = false;
	sim->counts[SIM_drains]++;
	sim->counts[SIM_drains_inside] += sim->inside != 0;
}

void
sim_user_finish(struct sim *sim)
{
	bool was_quiet = sim->is_quiet;

	if (sim->is_finishing)
		return;
	sim->counts[SIM_finishes]++;
	sim->counts[SIM_finishes_inside] += sim->inside != 0;
	sim->is_finishing = true;
	sim->is_quiet = false;
	sim->cancelling = NULL;
	if (sim->style.forgets && !sim->inside) {
		sim->counts[SIM_forgotten]++;
		ipci_dispatch_forget(&sim->dispatch);
	} else {
		ipci_dispatch_finish(&sim->dispatch);
		rule(sim, !sim->n_live);
	}
	sim->is_quiet = was_quiet;
	sim->is_over = true;
}

static void
act(struct sim *sim)
{
	const struct sim_style *style = &sim->style;
	unsigned int kind = sim_below(sim, 1000);

	if (kind < 600 || sim->is_healthy)
		call(sim);
	else if (kind < 800 && sim_fault(sim, style->cancels))
		cancel(sim);
	else if (kind < 950 && sim_fault(sim, style->resizes))
		resize(sim);
	else if (kind < 960 && style->drains_short)
		sim_user_drain(sim, (int)sim_below(sim, 30));
	else if (kind < 990 && style->finishes && sim->inside)
		sim_user_finish(sim);
	else
		sim_check_stats(sim);
}

static void
act_inside(struct sim *sim)
{
	bool was_quiet = sim->is_quiet;

	if (sim->inside >= INSIDE_MAX || sim->is_over || !sim_chance(sim, sim->style.acts))
		return;
	sim->inside++;
	sim->is_quiet = false;
	do
		act(sim);
	while (!sim->is_over && sim_chance(sim, 300));
	sim->is_quiet = was_quiet;
	sim->inside--;
}

void
sim_user_writable(struct sim *sim)
{
	sim_trace(sim, SIM_DID_WRITABLE, 0, 0, 0);
	sim->counts[SIM_writables]++;
	rule(sim, sim->is_refused);
	rule(sim, !sim->is_quiet && !sim->is_finishing && !sim->is_draining);
	sim->is_refused = false;
	act_inside(sim);
}

/* The worker's end is told. */
void
sim_user_given_up(struct sim *sim)
{
	rule(sim, !sim->is_quiet);
	act_inside(sim);
}

void
sim_user_drained(struct sim *sim, int result)
{
	sim_trace(sim, SIM_DID_DRAINED, result, 0, 0);
	rule(sim, sim->is_draining && !sim->is_drained && !sim->is_finishing && !sim->is_quiet);
	rule(sim, !sim->n_live && !sim->dispatch.n_places && TAILQ_EMPTY(&sim->workers));
	rule(sim, result == (sim->has_drain_cancelled || sim->has_drain_given_up ? -ETIMEDOUT : 0));
	sim->counts[SIM_drains_given_up] += sim->has_drain_given_up;
	sim->counts[result < 0 ? SIM_drains_cancelled : SIM_drains_in_time]++;
	sim->is_drained = true;
	sim_check_stats(sim);
	if (sim_chance(sim, 500)) {
		sim->inside++;
		sim_user_finish(sim);
		sim->inside--;
	}
}

/* Some calls, often more than workers and queue can take, and the next. */
static void
call_some(struct sim *sim)
{
	unsigned int n = sim_chance(sim, 100) ? 40 : 1 + sim_below(sim, 5);

	while (n-- && !sim->is_over)
		call(sim);
	if (sim->calls_left)
		sim_schedule(sim, sim_below(sim, sim->style.pause_us), SIM_CALLS, NULL, 0);
}

void
sim_user_acts(struct sim *sim, enum sim_happening happening)
{
	sim_trace(sim, happening, 0, 0, 0);
	switch (happening) {
	case SIM_CALLS:
		call_some(sim);
		break;
	case SIM_CANCEL:
		sim_schedule(sim, sim_below(sim, 10000), SIM_CANCEL, NULL, 0);
		if (sim_fault(sim, sim->style.cancels))
			cancel(sim);
		break;
	case SIM_RESIZE:
		sim_schedule(sim, sim_below(sim, 40000), SIM_RESIZE, NULL, 0);
		if (sim_fault(sim, sim->style.resizes))
			resize(sim);
		break;
	case SIM_HOLD:
		sim_schedule(sim, sim_below(sim, 80000), SIM_HOLD, NULL, 0);
		sim->now_ns += sim_below(sim, 40000) * INT64_C(1000);
		sim->counts[SIM_holds]++;
		break;
	case SIM_DRAIN:
		sim_user_drain(sim, (int)sim_below(sim, 100) - 1);
		break;
	default:
		sim_user_finish(sim);
	}
}

void
sim_user_begin(struct sim *sim)
{
	if (sim->style.has_holds)
		sim_schedule(sim, sim_below(sim, 80000), SIM_HOLD, NULL, 0);
	sim_schedule(sim, sim_below(sim, 1000), SIM_CALLS, NULL, 0);
	sim_schedule(sim, sim_below(sim, 10000), SIM_CANCEL, NULL, 0);
	sim_schedule(sim, sim_below(sim, 40000), SIM_RESIZE, NULL, 0);
}
