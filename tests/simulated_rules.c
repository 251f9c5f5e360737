/* SPDX-License-Identifier: MIT */

/*
 * What holds between any two happenings: nothing that could go on waits, nothing that is over is
 * late, and the dispatch counts what has happened.
 */

#include "simulation.h"
#include "support.h"

/* Statistics cost more than a happening. */
#define STATS_ONE_IN 32

bool
sim_is_open(const struct sim *sim, const struct sim_worker *worker)
{
	return worker->is_ready && !worker->is_full && !worker->is_shut && !worker->is_gone &&
	       !worker->is_killed && worker->place->state == IPC_POOL_READY &&
	       worker->n_held < sim->options.depth && !worker->n_late && !worker->n_solo;
}

uint64_t
sim_share(const struct sim *sim)
{
	const struct sim_worker *worker;

	TAILQ_FOREACH (worker, &sim->workers, entry)
		if (worker->place->state == IPC_POOL_STARTING && sim->dispatch.is_spreading)
			return 1;
	return sim->options.depth;
}

bool
sim_is_sign(const struct sim *sim, const struct sim_worker *worker)
{
	return sim_is_open(sim, worker) || worker->n_held > worker->n_owed;
}

bool
sim_has_open(const struct sim *sim, bool is_tried)
{
	const struct sim_worker *worker;

	TAILQ_FOREACH (worker, &sim->workers, entry)
		if (sim_is_open(sim, worker) && !(is_tried && worker->n_held) &&
			worker->n_held < sim_share(sim))
			return true;
	return false;
}

unsigned int
sim_queue_max(const struct sim *sim)
{
	const struct sim_worker *worker;
	unsigned int max = sim->options.queue_max;

	TAILQ_FOREACH (worker, &sim->workers, entry)
		if (!worker->is_ready && !worker->is_shut && !worker->is_gone && !worker->is_killed)
			max += sim->options.depth;
	return max;
}

bool
sim_is_kept(const struct sim_request *request)
{
	return !request->is_lost && !request->parts &&
	       (request->is_waiting || request->sends < request->attempts);
}

void
sim_kept(const struct sim *sim, size_t *ret_bytes, unsigned int *ret_fds)
{
	unsigned int fds = 0, i;
	size_t bytes = 0;

	for (i = 0; i < sim->n_live; i++) {
		if (!sim_is_kept(sim->live[i]))
			continue;
		bytes += sim->live[i]->size;
		fds += sim->live[i]->n_fds;
	}
	*ret_bytes = bytes;
	*ret_fds = fds;
}

bool
sim_is_hopeless(struct sim *sim)
{
	const struct sim_worker *worker;
	const struct sim_place *place;
	unsigned int i, failed;

	for (i = 0; i < sim->dispatch.n_places; i++) {
		if (sim->dispatch.places[i]->is_leaving)
			continue;
		place = sim_place_of(sim, sim->dispatch.places[i]);
		worker = place->worker;
		failed = place->failed_starts;
		/* One that will not start any more counts as failed before it is dead. */
		if (worker && !worker->is_ready && (worker->is_killed || worker->is_gone))
			failed++;
		if (failed < sim->options.starts_max)
			return false;
	}
	return sim->dispatch.n_places;
}

/* Is something to be done by the next tick, which comes now? */
static bool
is_due(const struct sim *sim)
{
	return ipci_dispatch_next_ns(&sim->dispatch) <= sim->now_ns;
}

static bool
has_room(const struct sim *sim)
{
	unsigned int fds;
	size_t bytes;

	sim_kept(sim, &bytes, &fds);
	return sim->n_waiting <= sim->options.queue_max / 2 &&
	       bytes <= sim->options.kept_bytes_max / 2 && fds <= sim->options.kept_fds_max / 2;
}

/* What waits could not go on. */
static void
check_waiting(struct sim *sim, enum sim_happening happening)
{
	const struct sim_request *first = TAILQ_FIRST(&sim->waiting);

	if (first && sim_has_open(sim, first->is_tried))
		rule(sim, is_due(sim));
	/* What was too large for the room that there was is told at the next occasion. */
	if (sim->is_refused && sim->refused_step < sim->step && has_room(sim) &&
		(happening < SIM_MESSAGE || happening == SIM_TICK))
		rule(sim, is_due(sim));
	if (first && happening == SIM_DIED && sim_is_hopeless(sim))
		rule(sim, is_due(sim));
	if (sim->is_draining && !sim->n_live && TAILQ_EMPTY(&sim->workers))
		rule(sim, sim->is_drained || is_due(sim));
}

static void
check_requests(struct sim *sim, enum sim_happening happening)
{
	const struct sim_request *request;
	unsigned int fds, i;
	size_t bytes;

	rule(sim, !sim->n_lost);
	rule(sim, !sim->send_failed);
	for (i = 0; i < sim->n_live; i++) {
		request = sim->live[i];
		rule(sim, request->is_waiting == !request->worker);
		if (!sim->style.has_late_ticks)
			rule(sim, request->deadline_ns >= sim->now_ns);
		if (happening == SIM_TICK && request->born < sim->step)
			rule(sim, request->deadline_ns > sim->now_ns);
	}
	if (happening == SIM_TICK && sim->now_ns >= sim->drain_ns && sim->drain_step < sim->step)
		rule(sim, !sim->n_live);
	sim_kept(sim, &bytes, &fds);
	rule(sim, sim->dispatch.kept_bytes == bytes);
	rule(sim, sim->dispatch.kept_fds == fds);
	rule(sim, sim->dispatch.stats.queued == sim->n_waiting);
	rule(sim, sim->dispatch.live == sim->n_live);
}

/* If ticks are on time, so is what they do: no worker is in any state for longer than it may be. */
static void
check_punctual(struct sim *sim, const struct sim_worker *worker)
{
	int64_t hung_ns = sim->options.hung_ns;

	if (sim->style.has_late_ticks)
		return;
	if (worker->is_killed) {
		rule(sim, sim->now_ns <= worker->killed_ns + sim->options.kill_ns);
		return;
	}
	if (worker->is_shut || worker->is_gone) {
		rule(sim, sim->now_ns <= worker->closed_ns + sim->options.stop_ns);
		return;
	}
	if (hung_ns && (worker->n_held || !worker->is_ready))
		rule(sim, sim->now_ns - worker->heard_ns <= hung_ns + hung_ns / 4);
	if (hung_ns && worker->is_full)
		rule(sim, sim->now_ns - worker->full_ns <= hung_ns + hung_ns / 4);
}

static void
check_workers(struct sim *sim)
{
	const struct sim_worker *worker;

	TAILQ_FOREACH (worker, &sim->workers, entry) {
		rule(sim, worker->n_held <= sim->options.depth);
		rule(sim, worker->place->worker == worker);
		rule(sim, worker->place->outstanding == worker->n_held);
		rule(sim, worker->place->owed == worker->n_owed);
		rule(sim, worker->place->completed == worker->completed);
		if (sim->is_draining && !sim->n_live && !is_due(sim))
			rule(sim, worker->is_shut || worker->is_gone || worker->is_killed);
		/* Who shall go is not waited for by anybody, or has a request that somebody waits
		   for. */
		if ((worker->place->is_leaving || worker->has_left) &&
			worker->n_held == worker->n_owed)
			rule(sim, worker->is_shut || worker->is_gone || worker->is_killed);
		check_punctual(sim, worker);
	}
}

static bool
is_there(const struct sim *sim, const struct ipci_place *place)
{
	unsigned int i;

	for (i = 0; i < sim->dispatch.n_places; i++)
		if (sim->dispatch.places[i] == place)
			return true;
	return false;
}

void
sim_forget_places(struct sim *sim)
{
	unsigned int i;

	for (i = 0; i < sim->n_places; i++) {
		if (is_there(sim, sim->places[i].place))
			continue;
		rule(sim, !sim->places[i].worker);
		sim->places[i--] = sim->places[--sim->n_places];
	}
}

static void
check_places(struct sim *sim)
{
	unsigned int i, staying = 0;
	struct sim_place *place;

	sim_forget_places(sim);
	for (i = 0; i < sim->dispatch.n_places; i++) {
		rule(sim, sim->dispatch.places[i]->index == i);
		staying += !sim->dispatch.places[i]->is_leaving;
		place = sim_place_of(sim, sim->dispatch.places[i]);
		rule(sim, place->place->failures == place->failures ||
				  (place->worker && place->worker->completed));
		if (place->worker)
			continue;
		rule(sim, place->place->state == IPC_POOL_WAITING);
		rule(sim, !place->place->is_leaving);
		if (!sim->style.has_late_ticks)
			rule(sim, sim->now_ns <= place->next_start_ns);
	}
	rule(sim, staying == sim->dispatch.workers);
}

void
sim_check_stats(struct sim *sim)
{
	const struct ipc_pool_stats *expected = &sim->expected;
	const struct sim_worker *worker;
	struct ipc_pool_stats stats;
	uint64_t owed = 0;

	if (sim->is_over)
		return;
	ipci_dispatch_stats(&sim->dispatch, &stats);
	rule(sim, stats.calls == expected->calls);
	rule(sim, stats.completed == expected->completed);
	rule(sim, stats.timed_out == expected->timed_out);
	rule(sim, stats.cancelled == expected->cancelled);
	rule(sim, stats.refused == expected->refused);
	rule(sim, stats.starts == expected->starts);
	rule(sim, stats.restarts == expected->restarts);
	rule(sim, stats.retries == expected->retries);
	rule(sim, stats.hung == expected->hung);
	rule(sim, stats.strays == expected->strays);
	rule(sim, stats.left == expected->left);
	rule(sim, stats.latency.count <= stats.completed);
	rule(sim, stats.calls == stats.completed + stats.timed_out + stats.cancelled + stats.died +
					 stats.failed + stats.outstanding + stats.queued);
	rule(sim, stats.outstanding <= stats.calls && stats.queued <= stats.calls);
	if (sim->inside || sim->is_finishing)
		return;
	TAILQ_FOREACH (worker, &sim->workers, entry)
		owed += worker->n_owed;
	rule(sim, stats.given_up == expected->given_up);
	rule(sim, stats.died == expected->died);
	rule(sim, stats.failed == expected->failed);
	rule(sim, stats.owed == owed);
	rule(sim, stats.queued == sim->n_waiting);
	rule(sim, stats.outstanding == sim->n_live - sim->n_waiting);
}

void
sim_check(struct sim *sim, enum sim_happening happening)
{
	check_requests(sim, happening);
	check_waiting(sim, happening);
	check_workers(sim);
	check_places(sim);
	if (sim->dispatch.is_spreading && !sim->style.has_late_ticks)
		rule(sim, sim->now_ns <= sim->spread_until_ns);
	if (sim->step % STATS_ONE_IN == 0)
		sim_check_stats(sim);
	if (sim_is_hopeless(sim))
		sim->is_hopeless = true;
}
