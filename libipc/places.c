/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "places.h"

/* A worker that is silent is found out in this part of the time that it may be. */
#define CHECKS 4

/* How long a pool's first workers are waited for, before some have more requests than one: so many
   times as long as it took until the first one was ready, the starts of others before it included.
   That is never less than MIN, and after that one was ready never more than MAX. */
#define START_TIMES  4
#define START_MIN_NS INT64_C(100000000)
#define START_MAX_NS INT64_C(10000000000)

int
ipci_places_init(struct ipci_dispatch *dispatch)
{
	unsigned int depth = dispatch->options.depth, i;

	dispatch->places_due_ns = INT64_MAX;
	dispatch->check_ns = INT64_MAX;
	dispatch->lowest = depth;
	dispatch->like = calloc(depth, sizeof(*dispatch->like));
	if (!dispatch->like)
		return -ENOMEM;
	for (i = 0; i < depth; i++)
		TAILQ_INIT(&dispatch->like[i]);
	return 0;
}

void
ipci_places_finish(struct ipci_dispatch *dispatch)
{
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++)
		free(dispatch->places[i]);
	free(dispatch->places);
	free(dispatch->like);
	dispatch->places = NULL;
	dispatch->n_places = dispatch->capacity = 0;
	dispatch->like = NULL;
}

/* How many requests a worker may have. What waits for a pool's first workers would be the first
   one's alone, and the others idle: each has one until all are there, or late. */
static unsigned int
share(const struct ipci_dispatch *dispatch)
{
	return dispatch->is_spreading ? 1 : dispatch->options.depth;
}

/* May the worker be given a request? */
static bool
can_open(const struct ipci_dispatch *dispatch, const struct ipci_place *place)
{
	return place->state == IPC_POOL_READY && !place->is_full && !place->is_solo &&
	       !place->late && place->outstanding < dispatch->options.depth;
}

void
ipci_place_shut(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	if (!place->is_open)
		return;
	place->is_open = false;
	TAILQ_REMOVE(&dispatch->like[place->outstanding], place, like);
}

void
ipci_place_reopen(struct ipci_dispatch *dispatch, struct ipci_place *place, bool first)
{
	struct ipci_place_list *like;

	if (!can_open(dispatch, place))
		return;
	like = &dispatch->like[place->outstanding];
	/* One that has just answered is awake, and has its memory in the cache. */
	if (first)
		TAILQ_INSERT_HEAD(like, place, like);
	else
		TAILQ_INSERT_TAIL(like, place, like);
	place->is_open = true;
	if (place->outstanding < dispatch->lowest)
		dispatch->lowest = place->outstanding;
}

struct ipci_place *
ipci_place_choose(struct ipci_dispatch *dispatch, bool alone)
{
	unsigned int end = share(dispatch);
	struct ipci_place *place;

	for (; dispatch->lowest < end; dispatch->lowest++) {
		place = TAILQ_FIRST(&dispatch->like[dispatch->lowest]);
		if (place)
			return alone && place->outstanding ? NULL : place;
	}
	return NULL;
}

static void
stop_spreading(struct ipci_dispatch *dispatch)
{
	dispatch->is_spreading = false;
	dispatch->start_ns = INT64_MAX;
}

/* The first worker is ready, and says how long the others may take. */
static void
measure_start(struct ipci_dispatch *dispatch)
{
	int64_t now_ns = dispatch->ops->now_ns(dispatch->world);
	int64_t took_ns = now_ns - dispatch->begin_ns;
	int64_t more_ns = IPCI_MIN((START_TIMES - 1) * took_ns, START_MAX_NS);

	dispatch->start_ns = IPCI_MAX(now_ns + more_ns, dispatch->begin_ns + START_MIN_NS);
}

/* The state of a place changes. */
static void
enter(struct ipci_dispatch *dispatch, struct ipci_place *place, enum ipc_pool_state state)
{
	ipci_place_shut(dispatch, place);
	dispatch->n_starting -= place->state == IPC_POOL_STARTING;
	dispatch->n_starting += state == IPC_POOL_STARTING;
	if (!dispatch->n_starting)
		stop_spreading(dispatch);
	place->state = state;
	ipci_place_reopen(dispatch, place, false);
}

static void
set_due(struct ipci_dispatch *dispatch, struct ipci_place *place, int64_t due_ns)
{
	place->due_ns = due_ns;
	dispatch->places_due_ns = IPCI_MIN(dispatch->places_due_ns, due_ns);
}

/* A worker that fails again and again is started ever more seldom. */
static int64_t
restart_ns(const struct ipci_dispatch *dispatch, const struct ipci_place *place)
{
	int64_t delay_ns = dispatch->options.restart_min_ns;
	unsigned int i;

	for (i = 0; i < place->failures && delay_ns < dispatch->options.restart_max_ns; i++)
		delay_ns *= 2;
	return place->started_ns + IPCI_MIN(delay_ns, dispatch->options.restart_max_ns);
}

int
ipci_place_start(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	int r;

	place->started_ns = dispatch->ops->now_ns(dispatch->world);
	place->due_ns = INT64_MAX;
	enter(dispatch, place, IPC_POOL_STARTING);
	place->is_killed = place->is_full = place->has_left = false;
	place->heard = place->heard_seen = place->completed = place->completed_seen = 0;
	place->silent_since_ns = place->full_since_ns = 0;
	place->failed_starts++;
	/* It may begin with a copy of this process's memory. */
	ipci_requests_forget_names(&dispatch->requests);
	r = dispatch->ops->start(dispatch->world, place);
	if (r < 0) {
		place->failures++;
		enter(dispatch, place, IPC_POOL_WAITING);
		set_due(dispatch, place, restart_ns(dispatch, place));
		return r;
	}
	dispatch->stats.starts++;
	dispatch->stats.restarts += place->starts++ != 0;
	ipci_places_watch(dispatch);
	return 0;
}

static int
reserve(struct ipci_dispatch *dispatch, unsigned int n)
{
	struct ipci_place **places;

	if (n <= dispatch->capacity)
		return 0;
	places = realloc(dispatch->places, n * sizeof(struct ipci_place *));
	if (!places)
		return -ENOMEM;
	dispatch->places = places;
	dispatch->capacity = n;
	return 0;
}

int
ipci_places_add(struct ipci_dispatch *dispatch, unsigned int n)
{
	unsigned int before = dispatch->n_places, i;
	struct ipci_place *place;

	if (reserve(dispatch, before + n) < 0)
		return -ENOMEM;
	for (i = before; i < before + n; i++) {
		place = calloc(1, sizeof(*place));
		if (!place)
			break;
		TAILQ_INIT(&place->requests);
		place->dispatch = dispatch;
		place->index = i;
		set_due(dispatch, place, 0);
		dispatch->places[i] = place;
	}
	if (i < before + n) {
		while (i > before)
			free(dispatch->places[--i]);
		return -ENOMEM;
	}
	dispatch->n_places += n;
	dispatch->workers += n;
	return 0;
}

/* The last one takes the index of the one that goes. */
static void
remove_place(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	struct ipci_place *last = dispatch->places[--dispatch->n_places];

	ipci_place_shut(dispatch, place);
	last->index = place->index;
	dispatch->places[place->index] = last;
	free(place);
	/* Nobody is due any more. */
	if (!dispatch->n_places)
		dispatch->places_due_ns = INT64_MAX;
}

/* What it costs to let a place leave: one without a worker, or whose worker is leaving, nothing;
   one with requests time. */
static unsigned int
leave_cost(const struct ipci_place *place)
{
	if (place->state == IPC_POOL_WAITING || place->state == IPC_POOL_ENDING || place->has_left)
		return 0;
	return place->state == IPC_POOL_STARTING ? 1 : 2 + place->outstanding;
}

static struct ipci_place *
cheapest(const struct ipci_dispatch *dispatch)
{
	struct ipci_place *place, *best = NULL;
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++) {
		place = dispatch->places[i];
		if (!place->is_leaving && (!best || leave_cost(place) < leave_cost(best)))
			best = place;
	}
	return best;
}

void
ipci_places_leave(struct ipci_dispatch *dispatch, unsigned int n)
{
	struct ipci_place *place;

	while (n--) {
		place = cheapest(dispatch);
		place->is_leaving = true;
		dispatch->workers--;
		ipci_place_stop(dispatch, place);
	}
}

static bool
is_returnable(const struct ipci_place *place)
{
	return place->is_leaving && place->state == IPC_POOL_STOPPING && !place->has_left;
}

unsigned int
ipci_places_returnable(const struct ipci_dispatch *dispatch)
{
	unsigned int i, n = 0;

	for (i = 0; i < dispatch->n_places; i++)
		n += is_returnable(dispatch->places[i]);
	return n;
}

void
ipci_places_return(struct ipci_dispatch *dispatch, unsigned int n)
{
	struct ipci_place *place;
	unsigned int i;

	for (i = 0; n; i++) {
		place = dispatch->places[i];
		if (!is_returnable(place))
			continue;
		place->is_leaving = false;
		dispatch->workers++;
		enter(dispatch, place, IPC_POOL_READY);
		n--;
	}
}

void
ipci_place_ready(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	if (place->state != IPC_POOL_STARTING)
		return;
	place->failed_starts = 0;
	/* The silence before is not that of a worker that has requests. */
	place->heard++;
	if (dispatch->is_spreading && dispatch->start_ns == INT64_MAX)
		measure_start(dispatch);
	enter(dispatch, place, IPC_POOL_READY);
}

void
ipci_place_set_full(struct ipci_dispatch *dispatch, struct ipci_place *place, bool is_full)
{
	ipci_place_shut(dispatch, place);
	place->is_full = is_full;
	if (!is_full)
		place->full_since_ns = 0;
	ipci_place_reopen(dispatch, place, false);
	if (is_full)
		ipci_places_watch(dispatch);
}

/* The channel is closed, by either side. */
static void
begin_end(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	enter(dispatch, place, IPC_POOL_ENDING);
	if (!place->is_killed)
		set_due(dispatch, place,
			dispatch->ops->now_ns(dispatch->world) + dispatch->options.stop_ns);
}

void
ipci_place_stop(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	switch (place->state) {
	case IPC_POOL_WAITING:
		remove_place(dispatch, place);
		break;
	case IPC_POOL_STARTING:
	case IPC_POOL_READY:
	case IPC_POOL_STOPPING:
		if (place->outstanding > place->owed) {
			if (place->state != IPC_POOL_STOPPING)
				enter(dispatch, place, IPC_POOL_STOPPING);
			break;
		}
		begin_end(dispatch, place);
		dispatch->ops->close(dispatch->world, place);
		break;
	case IPC_POOL_ENDING:
		break;
	}
}

void
ipci_place_leave(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	if (place->has_left ||
		(place->state != IPC_POOL_READY && place->state != IPC_POOL_STOPPING))
		return;
	place->has_left = true;
	dispatch->stats.left++;
	ipci_place_stop(dispatch, place);
}

void
ipci_place_await_death(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	set_due(dispatch, place,
		dispatch->ops->now_ns(dispatch->world) + dispatch->options.kill_ns);
}

void
ipci_place_kill(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	place->is_killed = true;
	ipci_place_await_death(dispatch, place);
	enter(dispatch, place, IPC_POOL_ENDING);
	dispatch->ops->kill(dispatch->world, place);
}

void
ipci_place_closed(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	if (place->state != IPC_POOL_ENDING)
		begin_end(dispatch, place);
}

void
ipci_place_died(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	if (place->is_leaving || dispatch->phase >= IPCI_DISPATCH_STOPPING) {
		dispatch->workers -= !place->is_leaving;
		remove_place(dispatch, place);
		return;
	}
	place->failures = place->completed ? 0 : place->failures + 1;
	enter(dispatch, place, IPC_POOL_WAITING);
	set_due(dispatch, place, restart_ns(dispatch, place));
	if (place->due_ns <= dispatch->ops->now_ns(dispatch->world))
		(void)ipci_place_start(dispatch, place);
}

void
ipci_places_stop(struct ipci_dispatch *dispatch, bool kill_owing)
{
	struct ipci_place *place;
	unsigned int i;

	/* From the last to the first: those that go are replaced by ones that were seen. */
	for (i = dispatch->n_places; i--;) {
		place = dispatch->places[i];
		if (place->state == IPC_POOL_WAITING) {
			dispatch->workers -= !place->is_leaving;
			remove_place(dispatch, place);
		} else if (place->state == IPC_POOL_ENDING) {
			continue;
		} else if (kill_owing && place->owed) {
			ipci_place_kill(dispatch, place);
		} else {
			begin_end(dispatch, place);
			dispatch->ops->close(dispatch->world, place);
		}
	}
}

bool
ipci_places_are_hopeless(const struct ipci_dispatch *dispatch)
{
	const struct ipci_place *place;
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++) {
		place = dispatch->places[i];
		/* A start that is under way has not failed. */
		if (!place->is_leaving &&
			place->failed_starts - (place->state == IPC_POOL_STARTING) <
				dispatch->options.starts_max)
			return false;
	}
	return true;
}

void
ipci_places_watch(struct ipci_dispatch *dispatch)
{
	if (dispatch->options.hung_ns && dispatch->check_ns == INT64_MAX)
		dispatch->check_ns =
			dispatch->ops->now_ns(dispatch->world) + dispatch->options.hung_ns / CHECKS;
}

/* Is something to be heard of the worker? */
static bool
is_awaited(const struct ipci_place *place)
{
	return place->state == IPC_POOL_STARTING ||
	       (place->state != IPC_POOL_ENDING && place->outstanding);
}

/* Shall its channel take something again? */
static bool
is_stuck(const struct ipci_place *place)
{
	return place->is_full &&
	       (place->state == IPC_POOL_READY || place->state == IPC_POOL_STOPPING);
}

/* Since when has it been so at every check, if something spoke against it since the last one or
   not? While the loop was held up, which is late_ns long, it has not listened. */
static void
look(int64_t *since_ns, bool is_so, bool is_new, int64_t now_ns, int64_t late_ns)
{
	if (!is_so)
		*since_ns = 0;
	else if (!*since_ns || is_new)
		*since_ns = now_ns;
	else
		*since_ns += late_ns;
}

/* Return: whether the worker has been silent, or its channel full, for too long. */
static bool
is_hung(const struct ipci_dispatch *dispatch, struct ipci_place *place, int64_t now_ns)
{
	int64_t late_ns = now_ns - dispatch->check_ns,
		limit_ns = now_ns - dispatch->options.hung_ns;

	look(&place->silent_since_ns, is_awaited(place), place->heard != place->heard_seen, now_ns,
		late_ns);
	/* Who answers a request has read it: there will be room. */
	look(&place->full_since_ns, is_stuck(place), place->completed != place->completed_seen,
		now_ns, late_ns);
	place->heard_seen = place->heard;
	place->completed_seen = place->completed;
	return (place->silent_since_ns && place->silent_since_ns <= limit_ns) ||
	       (place->full_since_ns && place->full_since_ns <= limit_ns);
}

/* Kill the workers that have been silent, or full, for too long. */
static void
check_silence(struct ipci_dispatch *dispatch, int64_t now_ns)
{
	struct ipci_place *place;
	bool any = false;
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++) {
		place = dispatch->places[i];
		if (is_hung(dispatch, place, now_ns)) {
			dispatch->stats.hung++;
			ipci_place_kill(dispatch, place);
		}
		any |= is_awaited(place) || is_stuck(place);
	}
	dispatch->check_ns = any ? now_ns + dispatch->options.hung_ns / CHECKS : INT64_MAX;
}

/* What a place waits for is due. */
static void
come_due(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	if (place->state == IPC_POOL_WAITING)
		(void)ipci_place_start(dispatch, place);
	else if (!place->is_killed)
		ipci_place_kill(dispatch, place);
}

void
ipci_places_tick(struct ipci_dispatch *dispatch, int64_t now_ns)
{
	int64_t next_ns = INT64_MAX;
	unsigned int i;

	if (now_ns >= dispatch->start_ns)
		stop_spreading(dispatch);
	if (now_ns >= dispatch->check_ns)
		check_silence(dispatch, now_ns);
	if (now_ns < dispatch->places_due_ns)
		return;
	for (i = 0; i < dispatch->n_places; i++) {
		if (dispatch->places[i]->due_ns <= now_ns)
			come_due(dispatch, dispatch->places[i]);
		next_ns = IPCI_MIN(next_ns, dispatch->places[i]->due_ns);
	}
	dispatch->places_due_ns = next_ns;
}

struct ipci_place *
ipci_places_undying(struct ipci_dispatch *dispatch, int64_t now_ns)
{
	struct ipci_place *place;
	unsigned int i;

	for (i = 0; i < dispatch->n_places; i++) {
		place = dispatch->places[i];
		if (place->is_killed && place->state == IPC_POOL_ENDING && place->due_ns <= now_ns)
			return place;
	}
	return NULL;
}
