/* SPDX-License-Identifier: MIT */

/*
 * The workers, their channels and the loop's timer. What the dispatch asks of them is checked here,
 * where it asks.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "simulation.h"
#include "support.h"

/* Ticks at one time, one after the other. */
#define TICKS_HERE_MAX 200U

/*
 * Time.
 */

void
sim_schedule(struct sim *sim, int64_t after_us, enum sim_happening happening,
	struct sim_worker *worker, uint64_t name)
{
	struct sim_event *event = calloc(1, sizeof(*event));

	check(event);
	/* Odd nanoseconds: few happen at once. */
	event->node.key = sim->now_ns + after_us * 1000 + sim_below(sim, 1000);
	event->happening = happening;
	event->worker = worker;
	event->name = name;
	check_equal(ipci_heap_insert(&sim->events, &event->node), 0);
}

/* As a pool does whenever it has told the dispatch something. */
static void
arm(struct sim *sim)
{
	int64_t next_ns = ipci_dispatch_next_ns(&sim->dispatch);

	if (next_ns >= sim->armed_ns)
		return;
	sim->armed_ns = next_ns;
	sim->tick_ns = next_ns > sim->now_ns ? next_ns : sim->now_ns;
	if (sim->style.has_late_ticks && sim_chance(sim, 300))
		sim->tick_ns += sim_below(sim, 20000) * INT64_C(1000);
}

static void
told(struct sim *sim, enum sim_happening happening)
{
	if (sim->is_over)
		return;
	arm(sim);
	sim_check(sim, happening);
}

static void
tick(struct sim *sim)
{
	sim->counts[SIM_ticks]++;
	/* A timer that is always due lets nobody else's turn come. */
	sim->ticks_here = sim->ticked_ns == sim->now_ns ? sim->ticks_here + 1 : 0;
	sim->ticked_ns = sim->now_ns;
	rule(sim, sim->ticks_here < TICKS_HERE_MAX);
	sim->counts[SIM_ticks_late] += sim->armed_ns && sim->armed_ns < sim->now_ns - NS_PER_MS;
	sim->armed_ns = sim->tick_ns = INT64_MAX;
	sim_trace(sim, SIM_TICK, 0, 0, 0);
	sim->is_ticking = true;
	ipci_dispatch_tick(&sim->dispatch, sim->now_ns);
	sim->is_ticking = false;
	told(sim, SIM_TICK);
}

/*
 * Workers.
 */

struct sim_place *
sim_place_of(struct sim *sim, const struct ipci_place *place)
{
	unsigned int i;

	for (i = 0; i < sim->n_places; i++)
		if (sim->places[i].place == place)
			return &sim->places[i];
	rule(sim, sim->n_places < SIM_PLACES_MAX);
	sim->places[sim->n_places] = (struct sim_place){.place = place};
	return &sim->places[sim->n_places++];
}

/* When the place may start its next worker. */
static int64_t
next_start_ns(const struct sim *sim, const struct sim_place *place)
{
	int64_t delay_ns = sim->options.restart_min_ns;
	unsigned int i;

	for (i = 0; i < place->failures && i < 20; i++)
		delay_ns *= 2;
	if (delay_ns > sim->options.restart_max_ns)
		delay_ns = sim->options.restart_max_ns;
	return place->started_ns + delay_ns;
}

/* What may take so long without being killed for it. */
static unsigned int
in_time_us(struct sim *sim, unsigned int us)
{
	int64_t most_us = sim->options.hung_ns / 4000;

	if (sim->options.hung_ns && (int64_t)us > most_us)
		us = (unsigned int)most_us;
	return 1 + sim_below(sim, us + 1);
}

/* Draw what kind of worker it is. */
static void
be_born(struct sim *sim, struct sim_worker *worker)
{
	const struct sim_style *style = &sim->style;

	worker->answer_us = style->speed_us;
	worker->is_stubborn = sim_fault(sim, style->stubborn);
	worker->is_undying = sim_fault(sim, style->undying);
	worker->is_talker = sim_fault(sim, style->talkers);
	sim->counts[SIM_talkers] += worker->is_talker;
	if (sim_fault(sim, style->hangs)) {
		worker->is_hung = true;
		sim->counts[SIM_workers_hung]++;
	}
	if (sim_fault(sim, style->slow)) {
		worker->answer_us *= 30;
		sim->counts[SIM_workers_slow]++;
	}
	if (sim_fault(sim, style->crash_at_start)) {
		sim->counts[SIM_crashes_at_start]++;
		sim_schedule(sim, sim_below(sim, 3000), SIM_CRASH, worker, 0);
		return;
	}
	if (sim_fault(sim, style->never_ready)) {
		sim->counts[SIM_never_ready]++;
		worker->is_hung = true;
	} else {
		sim_schedule(sim,
			sim_fault(sim, style->slow) ? 1 + sim_below(sim, 60000)
						    : in_time_us(sim, 2000),
			SIM_READY, worker, 0);
	}
	if (sim_fault(sim, style->dies))
		sim_schedule(sim, sim_below(sim, 60000), SIM_CRASH, worker, 0);
	if (sim_fault(sim, style->closes)) {
		sim->counts[SIM_closes_first]++;
		sim_schedule(sim, sim_below(sim, 60000), SIM_CLOSED, worker, 0);
	}
	if (sim_chance(sim, style->leaves))
		sim_schedule(sim, sim_below(sim, 60000), SIM_LEAVE, worker, 0);
	if (worker->is_talker || sim_chance(sim, style->messages))
		sim_schedule(sim, sim_below(sim, 30000), SIM_MESSAGE, worker, 0);
	if (sim_fault(sim, style->strays))
		sim_schedule(sim, sim_below(sim, 30000), SIM_STRAY, worker, 0);
}

static int
refuse_to_start(struct sim *sim, struct sim_place *place)
{
	static const int errors[] = {-EAGAIN, -ENOMEM, -EMFILE};

	sim->counts[SIM_starts_failed]++;
	sim->counts[SIM_starts_first_failed] += sim->is_starting;
	place->failures++;
	place->failed_starts++;
	place->next_start_ns = next_start_ns(sim, place);
	return errors[sim_below(sim, 3)];
}

static int
op_start(void *world, struct ipci_place *at)
{
	struct sim *sim = world;
	struct sim_place *place = sim_place_of(sim, at);
	struct sim_worker *worker;

	sim_trace(sim, SIM_DID_START, sim->n_workers, at->index, 0);
	rule(sim, !sim->is_finishing);
	rule(sim, sim->dispatch.phase < IPCI_DISPATCH_STOPPING);
	rule(sim, !place->worker);
	rule(sim, !at->is_leaving);
	rule(sim, sim->now_ns >= place->next_start_ns);
	place->started_ns = sim->now_ns;
	if (sim_fault(sim, sim->style.start_fails / (sim->is_starting ? 4 : 1)))
		return refuse_to_start(sim, place);

	sim->expected.starts++;
	sim->expected.restarts += at->starts != 0;
	sim->counts[SIM_starts]++;
	worker = calloc(1, sizeof(*worker));
	check(worker);
	worker->sim = sim;
	worker->place = at;
	worker->id = sim->n_workers++;
	worker->heard_ns = sim->now_ns;
	TAILQ_INSERT_TAIL(&sim->workers, worker, entry);
	place->worker = worker;
	at->worker = worker;
	be_born(sim, worker);
	return 0;
}

static struct sim_held *
held_of(struct sim_worker *worker, uint64_t name)
{
	unsigned int i;

	for (i = 0; i < worker->n_held; i++)
		if (worker->held[i].request->name == name)
			return &worker->held[i];
	return NULL;
}

static void
schedule_answer(struct sim_worker *worker, uint64_t name)
{
	struct sim *sim = worker->sim;
	unsigned int us = worker->answer_us;

	us = sim->is_healthy || sim->style.has_poison_only ? in_time_us(sim, us)
	                                                   : 1 + sim_below(sim, us);
	sim_schedule(sim, us, SIM_ANSWER, worker, name);
}

/* The channel takes nothing, for a while or for ever. */
static void
be_full(struct sim *sim, struct sim_worker *worker)
{
	worker->is_full = true;
	worker->full_ns = sim->now_ns;
	if (sim_fault(sim, sim->style.clogs)) {
		sim->counts[SIM_channels_clogged]++;
		worker->is_talker |= sim_chance(sim, 500);
		return;
	}
	sim_schedule(sim, 1 + sim_below(sim, 5000), SIM_WRITABLE, worker, 0);
}

/* A word that a request is over. */
static int
take_word(struct sim *sim, struct sim_worker *worker, const struct ipc_message *message)
{
	const struct sim_held *held = held_of(worker, message->id);

	rule(sim, sim->options.tell);
	rule(sim, message->flags == IPC_MESSAGE_CANCEL && !message->size && !message->n_fds);
	rule(sim, held && held->request->is_live);
	sim->counts[SIM_tells]++;
	if (worker->is_full || sim_fault(sim, sim->style.full)) {
		sim->counts[SIM_tells_full]++;
		if (!worker->is_full)
			be_full(sim, worker);
		return -EAGAIN;
	}
	if (!worker->is_hung && sim_chance(sim, 500))
		schedule_answer(worker, message->id);
	return 0;
}

/* Return: 0, or why the channel does not take the request. */
static int
refuse_to_send(struct sim *sim, struct sim_worker *worker, struct sim_request *request)
{
	if (sim_fault(sim, sim->style.full)) {
		sim->counts[SIM_channels_full]++;
		be_full(sim, worker);
		return -EAGAIN;
	}
	if (sim_fault(sim, sim->style.broken)) {
		sim->counts[SIM_channels_broken]++;
		worker->is_shut = true;
		worker->closed_ns = sim->now_ns;
		/* Else it is so one way alone: what the worker sends still comes. */
		if (sim_chance(sim, 500)) {
			worker->is_crashed = true;
			sim_schedule(sim, 1 + sim_below(sim, 1000), SIM_CLOSED, worker, 0);
		}
		return -EPIPE;
	}
	if (sim_fault(sim, sim->style.send_fails)) {
		sim->send_failed = request;
		sim->send_result = sim_chance(sim, 500) ? -ENOMEM : -EMSGSIZE;
		sim->counts[sim->send_result == -ENOMEM ? SIM_sends_enomem : SIM_sends_emsgsize]++;
		return sim->send_result;
	}
	return 0;
}

/* Is it the turn of this request, and of this worker? */
static void
check_turn(struct sim *sim, const struct sim_worker *worker, const struct sim_request *request)
{
	const struct sim_worker *other;

	if (sim->calling) {
		rule(sim, request == sim->calling);
		rule(sim, TAILQ_EMPTY(&sim->waiting));
	} else {
		rule(sim, request == TAILQ_FIRST(&sim->waiting));
	}
	rule(sim, sim_is_open(sim, worker));
	rule(sim, worker->n_held < sim_share(sim));
	if (request->is_tried)
		rule(sim, !worker->n_held);
	TAILQ_FOREACH (other, &sim->workers, entry)
		if (sim_is_open(sim, other))
			rule(sim, worker->n_held <= other->n_held);
}

static void
check_content(struct sim *sim, const struct sim_request *request, const struct ipc_message *message)
{
	unsigned int i;

	rule(sim, message->id);
	rule(sim, !(message->id & IPC_MESSAGE_ID_CALL));
	rule(sim, message->flags == 0);
	rule(sim, message->type == (uint16_t)request->caller_id);
	rule(sim, message->size == request->size && message->n_fds == request->n_fds);
	rule(sim, sim_is_filled(message->data, message->size, request->index));
	for (i = 0; i < message->n_fds; i++)
		rule(sim, fcntl(message->fds[i], F_GETFD) >= 0);
}

static void
take_request(struct sim *sim, struct sim_worker *worker, struct sim_request *request, uint64_t name)
{
	struct sim_held *held;

	if (request->is_waiting) {
		rule(sim, !request->name || request->name == name);
		TAILQ_REMOVE(&sim->waiting, request, waiting);
		request->is_waiting = false;
		sim->n_waiting--;
	}
	request->name = name;
	request->sends++;
	rule(sim, request->sends <= request->attempts);
	if (!worker->n_held)
		worker->heard_ns = sim->now_ns;
	held = &worker->held[worker->n_held++];
	*held = (struct sim_held){.request = request, .is_solo = request->is_tried};
	if (sim_chance(sim, sim->style.parts))
		held->parts = 1 + sim_below(sim, 3);
	worker->n_solo += held->is_solo;
	request->worker = worker;
	sim->counts[SIM_sends]++;
	sim->counts[SIM_sends_with_fds] += request->n_fds != 0;
	sim->counts[SIM_solo_sends] += held->is_solo;
	sim->counts[SIM_poison_retries] += held->is_solo && request->is_poison;
	sim->expected.retries += request->is_tried;
	if (!worker->is_hung)
		schedule_answer(worker, name);
}

static int
op_send(void *world, struct ipci_place *place, const struct ipc_message *message)
{
	struct sim *sim = world;
	struct sim_worker *worker = place->worker;
	struct sim_request *request;
	uint64_t index = UINT64_MAX;
	int r;

	sim_trace(sim, SIM_DID_SEND, worker->id, (long long)message->id, message->flags);
	rule(sim, !sim->is_finishing);
	rule(sim, worker->is_ready && !worker->is_shut && !worker->is_gone && !worker->is_killed);
	rule(sim, place->state == IPC_POOL_READY || message->flags);
	if (message->flags & IPC_MESSAGE_CANCEL)
		return take_word(sim, worker, message);
	rule(sim, message->size >= sizeof(index));
	memcpy(&index, message->data, sizeof(index));
	rule(sim, index < sim->n_requests);
	request = &sim->requests[index];
	check_content(sim, request, message);
	check_turn(sim, worker, request);
	r = refuse_to_send(sim, worker, request);
	if (r == 0)
		take_request(sim, worker, request, message->id);
	return r;
}

/* Nobody waits for what the worker has; the last who did is about to be told that it is over. */
static void
check_unwanted(struct sim *sim, const struct sim_worker *worker)
{
	const struct sim_request *request;
	unsigned int i, ending = 0;

	for (i = 0; i < worker->n_held; i++) {
		request = worker->held[i].request;
		if (worker->held[i].is_owed)
			continue;
		ending++;
		rule(sim, request == sim->cancelling || request == sim->told ||
				  request->deadline_ns <= sim->now_ns ||
				  sim->drain_ns <= sim->now_ns);
	}
	rule(sim, ending <= 1);
}

static void
op_close(void *world, struct ipci_place *place)
{
	struct sim *sim = world;
	struct sim_worker *worker = place->worker;

	sim_trace(sim, SIM_DID_CLOSE, worker->id, 0, 0);
	sim->counts[SIM_closes]++;
	rule(sim, !sim->is_finishing);
	rule(sim, !worker->is_shut && !worker->is_gone && !worker->is_killed);
	check_unwanted(sim, worker);
	rule(sim, place->is_leaving || sim->is_draining || worker->has_left);
	worker->is_shut = true;
	worker->closed_ns = sim->now_ns;
	if (worker->is_stubborn || worker->is_hung)
		return;
	if (sim_chance(sim, 500))
		sim_schedule(sim, sim_below(sim, 1000), SIM_CLOSED, worker, 0);
	sim_schedule(sim, sim_below(sim, 2000), SIM_DIED, worker, 0);
}

/* Has it been silent, or full, for so long that it may be killed for it? */
static void
check_hung(struct sim *sim, const struct sim_worker *worker)
{
	int64_t hung_ns = sim->options.hung_ns;
	bool is_silent =
		sim->now_ns - worker->heard_ns >= hung_ns && (!worker->is_ready || worker->n_held);
	bool is_clogged = worker->is_full && sim->now_ns - worker->full_ns >= hung_ns;

	rule(sim, hung_ns && (is_silent || is_clogged));
	if (!is_silent)
		sim->counts[SIM_kills_full]++;
	else
		sim->counts[worker->is_ready ? SIM_kills_hung : SIM_kills_at_start]++;
	sim->counts[SIM_kills_talkers] += worker->is_talker && worker->is_ready;
	sim->expected.hung++;
}

static void
op_kill(void *world, struct ipci_place *place)
{
	struct sim *sim = world;
	struct sim_worker *worker = place->worker;

	sim_trace(sim, SIM_DID_KILL, worker->id, 0, 0);
	rule(sim, !sim->is_finishing && sim->is_ticking + sim->is_draining);
	rule(sim, !worker->is_killed);
	if (worker->is_shut || worker->is_gone) {
		rule(sim, sim->now_ns >= worker->closed_ns + sim->options.stop_ns);
		sim->counts[SIM_kills_slow_to_end]++;
	} else if (sim->has_drain_cancelled && !sim->n_live && worker->n_owed) {
		sim->counts[SIM_kills_by_drain]++;
	} else {
		check_hung(sim, worker);
	}
	worker->is_killed = true;
	worker->killed_ns = sim->now_ns;
	if (sim_chance(sim, 300))
		sim_schedule(sim, sim_below(sim, 500), SIM_CLOSED, worker, 0);
	sim_schedule(sim, sim_below(sim, 2000), SIM_DIED, worker, 0);
}

static void bury(struct sim *sim, struct sim_worker *worker);

static bool
op_give_up(void *world, struct ipci_place *place, bool must)
{
	struct sim *sim = world;
	struct sim_worker *worker = place->worker;

	sim_trace(sim, SIM_DID_GIVE_UP, worker->id, must, 0);
	rule(sim, !sim->is_finishing && sim->is_ticking);
	rule(sim, worker->is_killed && !worker->is_dead);
	rule(sim, sim->now_ns >= worker->killed_ns + sim->options.kill_ns);
	if (!must && sim_chance(sim, 300)) {
		sim->counts[SIM_given_up_later]++;
		worker->killed_ns = sim->now_ns;
		return false;
	}
	sim_user_given_up(sim);
	if (sim->is_over)
		return true;
	sim->counts[SIM_given_up]++;
	sim->expected.given_up++;
	sim->has_drain_given_up |= sim->is_draining;
	bury(sim, worker);
	return true;
}

static void
op_random(void *world, void *ret_buffer, size_t size)
{
	unsigned char *bytes = ret_buffer;
	size_t i;

	for (i = 0; i < size; i++)
		bytes[i] = (unsigned char)sim_random(world);
}

static int64_t
op_now_ns(void *world)
{
	const struct sim *sim = world;

	return sim->now_ns;
}

static void
op_reply(void *world, ipc_reply_fn *fn, int result, struct ipc_message *reply, void *user)
{
	rule((struct sim *)world, fn == sim_reply);
	fn(world, result, reply, user);
}

static void
op_writable(void *world)
{
	sim_user_writable(world);
}

static void
op_drained(void *world, int result)
{
	sim_user_drained(world, result);
}

const struct ipci_dispatch_ops sim_ops = {
	.now_ns = op_now_ns,
	.start = op_start,
	.send = op_send,
	.close = op_close,
	.kill = op_kill,
	.give_up = op_give_up,
	.random = op_random,
	.reply = op_reply,
	.writable = op_writable,
	.drained = op_drained,
};

/*
 * What workers do.
 */

/* The first that is ready says how long the others are waited for. */
static void
measure_start(struct sim *sim)
{
	int64_t least_ns = sim->begin_ns + 100 * NS_PER_MS;

	if (sim->spread_until_ns != INT64_MAX)
		return;
	sim->spread_until_ns = sim->begin_ns + 4 * (sim->now_ns - sim->begin_ns);
	if (sim->spread_until_ns < least_ns)
		sim->spread_until_ns = least_ns;
}

static void
get_ready(struct sim *sim, struct sim_worker *worker)
{
	if (worker->is_shut || worker->is_gone || worker->is_killed || worker->is_crashed ||
		worker->is_ready)
		return;
	worker->is_ready = true;
	worker->heard_ns = sim->now_ns;
	sim_place_of(sim, worker->place)->failed_starts = 0;
	sim->is_hopeless = false;
	sim->counts[SIM_readies]++;
	measure_start(sim);
	ipci_dispatch_ready(&sim->dispatch, worker->place);
	told(sim, SIM_READY);
}

/* Before the dispatch learns that the worker answers no more. */
static void
lose_requests(struct sim *sim, struct sim_worker *worker)
{
	struct sim_request *request;

	while (worker->n_held) {
		request = worker->held[--worker->n_held].request;
		if (worker->held[worker->n_held].is_owed)
			continue;
		request->worker = NULL;
		if (request->sends < request->attempts && !request->parts) {
			request->is_tried = request->is_waiting = true;
			TAILQ_INSERT_HEAD(&sim->waiting, request, waiting);
			sim->n_waiting++;
		} else {
			request->is_lost = true;
			sim->n_lost++;
		}
	}
	worker->n_owed = worker->n_late = worker->n_solo = 0;
}

static void
end_channel(struct sim *sim, struct sim_worker *worker)
{
	if (worker->is_gone)
		return;
	worker->is_gone = true;
	if (!worker->is_shut)
		worker->closed_ns = sim->now_ns;
	if (!worker->is_stubborn)
		sim_schedule(sim, sim_below(sim, 5000), SIM_DIED, worker, 0);
	else if (!worker->is_killed)
		sim->counts[SIM_closes_for_ever]++;
	lose_requests(sim, worker);
	ipci_dispatch_closed(&sim->dispatch, worker->place);
	told(sim, SIM_CLOSED);
}

/* It is dead, or as good as that. */
static void
bury(struct sim *sim, struct sim_worker *worker)
{
	struct sim_place *place = sim_place_of(sim, worker->place);

	lose_requests(sim, worker);
	worker->is_dead = true;
	place->worker = NULL;
	place->failures = worker->completed ? 0 : place->failures + 1;
	place->failed_starts += !worker->is_ready;
	place->next_start_ns = next_start_ns(sim, place);
	TAILQ_REMOVE(&sim->workers, worker, entry);
	TAILQ_INSERT_TAIL(&sim->dead, worker, entry);
}

static void
die(struct sim *sim, struct sim_worker *worker)
{
	bury(sim, worker);
	ipci_dispatch_died(&sim->dispatch, worker->place);
	told(sim, SIM_DIED);
}

static void
crash(struct sim *sim, struct sim_worker *worker)
{
	worker->is_crashed = true;
	sim->counts[SIM_crashes]++;
	switch (worker->is_undying ? 1 : sim_below(sim, 3)) {
	case 0:
		die(sim, worker);
		break;
	case 1:
		worker->is_stubborn = false;
		sim->counts[SIM_crashes_closed_first]++;
		end_channel(sim, worker);
		break;
	default:
		sim_schedule(sim, sim_below(sim, 3000), SIM_DIED, worker, 0);
	}
}

/* The worker sends something that has the name of a request, or of none. */
static void
tell_reply(struct sim *sim, struct sim_worker *worker, uint64_t name, struct sim_held told_of,
	int result)
{
	struct sim_request *request = told_of.request;
	uint64_t content[2] = {request ? request->index : 0, told_of.part};
	bool has_more = told_of.part < told_of.parts, is_sign = sim_is_sign(sim, worker);
	struct ipc_message message = {
		.data = content,
		.size = sizeof(content),
		.id = name,
		.flags = (uint16_t)(IPC_MESSAGE_REPLY | (has_more ? IPC_MESSAGE_MORE : 0)),
	};

	if (request && (!has_more || is_sign))
		worker->heard_ns = sim->now_ns;
	sim->told = request && request->is_live && !told_of.is_owed ? request : NULL;
	sim->expected.strays += !sim->told;
	sim->is_told_more = has_more;
	sim->told_result = result;
	sim->told_part = told_of.part;
	ipci_dispatch_reply(&sim->dispatch, worker->place, &message, result);
	rule(sim, !sim->told);
	told(sim, SIM_ANSWER);
}

static void
forget_held(struct sim_worker *worker, struct sim_held *held)
{
	worker->n_owed -= held->is_owed;
	worker->n_late -= held->is_late;
	worker->n_solo -= held->is_solo;
	memmove(held, held + 1,
		(size_t)(&worker->held[worker->n_held] - (held + 1)) * sizeof(*held));
	worker->n_held--;
}

static void
answer(struct sim *sim, struct sim_worker *worker, uint64_t name)
{
	struct sim_held *held = held_of(worker, name), copy;
	int result = sim_fault(sim, sim->style.without_fds) ? -EBADMSG : 0;

	if (!held || worker->is_hung || worker->is_talker || worker->is_crashed || worker->is_gone)
		return;
	if (held->request->is_poison) {
		sim->counts[SIM_poison_deaths]++;
		crash(sim, worker);
		return;
	}
	copy = *held;
	if (copy.part < copy.parts) {
		held->part++;
		sim->counts[copy.is_owed ? SIM_parts_owed : SIM_parts]++;
		sim->counts[SIM_parts_without_fds] += result < 0;
		schedule_answer(worker, name);
	} else {
		sim->counts[copy.is_owed ? SIM_answers_owed : SIM_answers]++;
		sim->counts[SIM_answers_without_fds] += result < 0;
		if (!copy.is_owed)
			copy.request->worker = NULL;
		forget_held(worker, held);
		worker->completed++;
		worker->full_ns = sim->now_ns;
	}
	tell_reply(sim, worker, name, copy, result);
}

/* An answer that nobody asked this worker for. */
static void
answer_astray(struct sim *sim, struct sim_worker *worker)
{
	struct sim_held nothing = {.parts = sim_below(sim, 2)};
	struct sim_request *request;
	uint64_t name = sim_chance(sim, 500) ? sim_random(sim) : sim_below(sim, 300);

	if (!worker->is_ready || worker->is_crashed || worker->is_gone)
		return;
	sim_schedule(sim, sim_below(sim, 30000), SIM_STRAY, worker, 0);
	if (sim->n_requests && sim_chance(sim, 800)) {
		request = &sim->requests[sim_below(sim, sim->n_requests)];
		if (sim->n_live && sim_chance(sim, 500))
			request = sim->live[sim_below(sim, sim->n_live)];
		name = request->name;
		if (name && sim_chance(sim, 200)) {
			/* Nobody knows what is next. */
			name += IPCI_REQUESTS_LIMIT;
			rule(sim, !held_of(worker, name));
		}
		if (!name || held_of(worker, name))
			return;
		if (name != request->name)
			sim->counts[SIM_strays_to_come]++;
		else if (request->is_live)
			sim->counts[request->is_waiting ? SIM_strays_waiting
							: SIM_strays_of_others]++;
		else
			sim->counts[SIM_strays_old]++;
	} else {
		sim->counts[SIM_strays_made_up]++;
	}
	tell_reply(sim, worker, name, nothing, sim_chance(sim, 200) ? -EBADMSG : 0);
}

static void
send_message(struct sim *sim, struct sim_worker *worker)
{
	if (!worker->is_ready || worker->is_crashed || worker->is_gone)
		return;
	sim_schedule(sim, sim_below(sim, worker->is_talker ? 4000 : 40000), SIM_MESSAGE, worker, 0);
	if (worker->is_hung)
		return;
	if (sim_is_sign(sim, worker))
		worker->heard_ns = sim->now_ns;
	sim->counts[SIM_messages]++;
	ipci_dispatch_heard(&sim->dispatch, worker->place);
	told(sim, SIM_MESSAGE);
}

static void
leave(struct sim *sim, struct sim_worker *worker)
{
	enum ipc_pool_state state = worker->place->state;
	bool is_new = !worker->has_left && (state == IPC_POOL_READY || state == IPC_POOL_STOPPING);

	if (!worker->is_ready || worker->is_crashed || worker->is_gone || worker->is_hung)
		return;
	worker->has_left |= is_new;
	sim->expected.left += is_new;
	sim->counts[is_new ? SIM_leaves : SIM_leaves_in_vain]++;
	ipci_dispatch_leave(&sim->dispatch, worker->place);
	told(sim, SIM_LEAVE);
}

static void
be_writable(struct sim *sim, struct sim_worker *worker)
{
	if (!worker->is_full || worker->is_crashed || worker->is_gone)
		return;
	worker->is_full = false;
	sim->counts[SIM_channels_writable]++;
	ipci_dispatch_writable(&sim->dispatch, worker->place);
	told(sim, SIM_WRITABLE);
}

static void
happen_to_worker(struct sim *sim, const struct sim_event *event)
{
	struct sim_worker *worker = event->worker;

	sim_trace(sim, event->happening, worker->id, (long long)event->name, 0);
	switch (event->happening) {
	case SIM_READY:
		get_ready(sim, worker);
		break;
	case SIM_CRASH:
		crash(sim, worker);
		break;
	case SIM_CLOSED:
		end_channel(sim, worker);
		break;
	case SIM_DIED:
		if (!worker->is_undying)
			die(sim, worker);
		break;
	case SIM_ANSWER:
		answer(sim, worker, event->name);
		break;
	case SIM_STRAY:
		answer_astray(sim, worker);
		break;
	case SIM_MESSAGE:
		send_message(sim, worker);
		break;
	case SIM_LEAVE:
		leave(sim, worker);
		break;
	default:
		be_writable(sim, worker);
	}
}

void
sim_advance(struct sim *sim)
{
	int64_t first_ns = ipci_heap_first_key(&sim->events);
	struct sim_event *event;

	sim->step++;
	rule(sim, sim->events.n || sim->tick_ns != INT64_MAX);
	/* What came while the loop was held up is given out before timers are called. */
	if (sim->tick_ns <= first_ns && first_ns > sim->now_ns) {
		if (sim->tick_ns > sim->now_ns)
			sim->now_ns = sim->tick_ns;
		tick(sim);
		return;
	}
	/* Its node is its first member. */
	event = (struct sim_event *)(void *)sim->events.nodes[0];
	ipci_heap_remove(&sim->events, &event->node);
	/* A tick that came late has kept others waiting. */
	if (event->node.key > sim->now_ns)
		sim->now_ns = event->node.key;
	if (event->worker) {
		if (!event->worker->is_dead)
			happen_to_worker(sim, event);
	} else if (event->happening == SIM_TICK) {
		sim->counts[SIM_ticks_early]++;
		tick(sim);
	} else {
		sim_user_acts(sim, event->happening);
		told(sim, event->happening);
	}
	free(event);
}

void
sim_heal(struct sim *sim)
{
	struct sim_worker *worker;
	unsigned int i;

	sim_trace(sim, SIM_HEALED, 0, 0, 0);
	sim->is_healthy = true;
	TAILQ_FOREACH (worker, &sim->workers, entry) {
		worker->is_hung = worker->is_stubborn = false;
		worker->is_talker = worker->is_undying = false;
		if (worker->is_full)
			sim_schedule(sim, sim_below(sim, 5000), SIM_WRITABLE, worker, 0);
		worker->answer_us = sim->style.speed_us;
		if (worker->is_crashed || worker->is_gone || worker->is_shut || worker->is_killed)
			sim_schedule(sim, sim_below(sim, 5000), SIM_DIED, worker, 0);
		else if (!worker->is_ready)
			sim_schedule(sim, in_time_us(sim, 2000), SIM_READY, worker, 0);
		for (i = 0; i < worker->n_held; i++)
			schedule_answer(worker, worker->held[i].request->name);
	}
}

static void
free_workers(struct sim_workers *workers)
{
	struct sim_worker *worker;

	while ((worker = TAILQ_FIRST(workers))) {
		TAILQ_REMOVE(workers, worker, entry);
		free(worker);
	}
}

void
sim_world_free(struct sim *sim)
{
	size_t i;

	for (i = 0; i < sim->events.n; i++)
		free(sim->events.nodes[i]);
	ipci_heap_finish(&sim->events);
	free_workers(&sim->workers);
	free_workers(&sim->dead);
}
