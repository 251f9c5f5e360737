/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <string.h>

#include "base.h"
#include "dispatch.h"
#include "duplicate.h"
#include "places.h"
#include "probes.h"

#define NS_PER_MS INT64_C(1000000)

/* A clock costs as much as the rest of a request's way: where there are many, not each is timed. A
   prime, lest it be always the same one of those that travel together. */
#define TIMED_ALL    16U
#define TIMED_ONE_IN 13U

static struct ipci_request *
request_of(struct ipci_heap_node *deadline)
{
	return (struct ipci_request *)(void *)((char *)deadline -
					       offsetof(struct ipci_request, deadline));
}

static int64_t
now(const struct ipci_dispatch *dispatch)
{
	return dispatch->ops->now_ns(dispatch->world);
}

/*
 * What is kept of requests, and its limits.
 */

static void
drop_duplicate(struct ipci_dispatch *dispatch, struct ipci_request *request)
{
	if (!request->duplicate)
		return;
	dispatch->kept_bytes -= request->duplicate->message.size;
	dispatch->kept_fds -= request->duplicate->message.n_fds;
	request->duplicate = ipci_duplicate_free(request->duplicate);
}

/* Return: 0, -EAGAIN: it would be too much, or -errno. */
static int
keep(struct ipci_dispatch *dispatch, struct ipci_request *request,
	const struct ipc_message *message)
{
	const struct ipci_dispatch_options *options = &dispatch->options;
	int r;

	if (request->duplicate)
		return 0;
	/* One that is alone is kept whatever its size. */
	if (dispatch->kept_bytes && dispatch->kept_bytes + message->size > options->kept_bytes_max)
		return -EAGAIN;
	if (message->n_fds && dispatch->kept_fds &&
		dispatch->kept_fds + message->n_fds > options->kept_fds_max)
		return -EAGAIN;
	r = ipci_duplicate_new(&request->duplicate, message);
	if (r < 0)
		return r;
	dispatch->kept_bytes += message->size;
	dispatch->kept_fds += message->n_fds;
	return 0;
}

static bool
has_room(const struct ipci_dispatch *dispatch)
{
	const struct ipci_dispatch_options *options = &dispatch->options;

	return dispatch->stats.queued <= options->queue_max / 2 &&
	       dispatch->kept_bytes <= options->kept_bytes_max / 2 &&
	       dispatch->kept_fds <= options->kept_fds_max / 2;
}

/*
 * How requests end.
 */

static void
count_end(struct ipci_dispatch *dispatch, int result)
{
	struct ipc_pool_stats *stats = &dispatch->stats;

	switch (result) {
	case 0:
		stats->completed++;
		break;
	case -ETIMEDOUT:
		stats->timed_out++;
		break;
	case -ECANCELED:
		stats->cancelled++;
		break;
	case -EOWNERDEAD:
		stats->died++;
		break;
	default:
		stats->failed++;
	}
}

/* It is decided how the request ends: nothing more is kept or waited for. */
static void
settle(struct ipci_dispatch *dispatch, struct ipci_request *request, int result)
{
	drop_duplicate(dispatch, request);
	if (request->deadline.index != IPCI_HEAP_NOWHERE)
		ipci_heap_remove(&dispatch->deadlines, &request->deadline);
	dispatch->live--;
	count_end(dispatch, result);
	IPCI_PROBE2(request__ended, request->name, result);
}

/* The last that is done with a request that is on no list. */
static void
end(struct ipci_dispatch *dispatch, struct ipci_request *request, int result,
	struct ipc_message *reply)
{
	ipc_reply_fn *fn = request->reply;
	void *user = request->user;

	if (request->state != IPCI_REQUEST_ENDING)
		settle(dispatch, request, result);
	ipci_requests_give_back(&dispatch->requests, request);
	dispatch->ops->reply(dispatch->world, fn, result, reply, user);
}

static void
unqueue(struct ipci_dispatch *dispatch, struct ipci_request *request)
{
	TAILQ_REMOVE(&dispatch->queue, request, entry);
	dispatch->stats.queued--;
}

/* The worker is told, if it can be, of a request that is over. */
static void
tell(struct ipci_dispatch *dispatch, const struct ipci_request *request)
{
	const struct ipc_message message = {
		.id = request->name,
		.flags = IPC_MESSAGE_CANCEL,
	};
	struct ipci_place *place = request->place;

	if (dispatch->options.tell && place->state != IPC_POOL_ENDING &&
		dispatch->ops->send(dispatch->world, place, &message) == -EAGAIN)
		ipci_place_set_full(dispatch, place, true);
}

/* End a request that a worker has: it goes on to count against the worker's depth. */
static void
end_owed(struct ipci_dispatch *dispatch, struct ipci_request *request, int result)
{
	struct ipci_place *place = request->place;

	settle(dispatch, request, result);
	request->state = IPCI_REQUEST_OWED;
	request->is_late = result == -ETIMEDOUT;
	ipci_place_shut(dispatch, place);
	place->owed++;
	place->late += request->is_late;
	ipci_place_reopen(dispatch, place, true);
	tell(dispatch, request);
	/* Nobody waits for what it still has. */
	if (place->state == IPC_POOL_STOPPING)
		ipci_place_stop(dispatch, place);
	dispatch->ops->reply(dispatch->world, request->reply, result, NULL, request->user);
}

/* End a request that has not ended, wherever it is. Return: whether there was anything to do. */
static bool
end_early(struct ipci_dispatch *dispatch, struct ipci_request *request, int result)
{
	if (request->state == IPCI_REQUEST_QUEUED) {
		unqueue(dispatch, request);
		end(dispatch, request, result, NULL);
		return true;
	}
	if (request->state == IPCI_REQUEST_OUTSTANDING) {
		end_owed(dispatch, request, result);
		return true;
	}
	return false;
}

/*
 * How requests are given to workers.
 */

/* The worker has been given the request. */
static void
assign(struct ipci_dispatch *dispatch, struct ipci_place *place, struct ipci_request *request)
{
	ipci_place_shut(dispatch, place);
	place->outstanding++;
	place->is_solo = request->is_tried;
	ipci_place_reopen(dispatch, place, false);

	TAILQ_INSERT_TAIL(&place->requests, request, entry);
	request->place = place;
	request->state = IPCI_REQUEST_OUTSTANDING;
	dispatch->stats.retries += request->is_tried;
	IPCI_PROBE2(request__sent, request->name, request->is_tried);
	/* What will not be sent again is not kept. */
	if (!--request->attempts)
		drop_duplicate(dispatch, request);
	ipci_places_watch(dispatch);
}

/* Give the request to a worker. Return: 0, -EAGAIN: all have enough, or why nobody takes it. */
static int
give(struct ipci_dispatch *dispatch, struct ipci_request *request,
	const struct ipc_message *message)
{
	struct ipc_message named = *message;
	struct ipci_place *place;
	int r;

	named.id = request->name;
	named.flags = 0;
	while ((place = ipci_place_choose(dispatch, request->is_tried))) {
		r = dispatch->ops->send(dispatch->world, place, &named);
		if (r == 0) {
			assign(dispatch, place, request);
			return 0;
		}
		if (r == -EAGAIN)
			ipci_place_set_full(dispatch, place, true);
		else if (r == -EPIPE)
			ipci_place_closed(dispatch, place);
		else
			return r;
	}
	return -EAGAIN;
}

/* Give out what waits, in its order. */
static void
pump(struct ipci_dispatch *dispatch)
{
	struct ipci_request *request;
	int r = 0;

	/* A function of the user may come back here: who called it goes on. */
	if (dispatch->is_pumping)
		return;
	dispatch->is_pumping = true;
	while (r != -EAGAIN && !dispatch->over && (request = TAILQ_FIRST(&dispatch->queue))) {
		unqueue(dispatch, request);
		r = give(dispatch, request, &request->duplicate->message);
		if (r == -EAGAIN) {
			TAILQ_INSERT_HEAD(&dispatch->queue, request, entry);
			dispatch->stats.queued++;
		} else if (r < 0) {
			end(dispatch, request, r, NULL);
		}
	}
	dispatch->is_pumping = false;
}

/* All requests have ended, and all workers. */
static void
finish_drain(struct ipci_dispatch *dispatch)
{
	if (dispatch->phase != IPCI_DISPATCH_STOPPING || dispatch->n_places)
		return;
	dispatch->phase = IPCI_DISPATCH_DRAINED;
	dispatch->ops->drained(
		dispatch->world, dispatch->has_given_up ? -ETIMEDOUT : dispatch->drain_result);
}

static void
advance_drain(struct ipci_dispatch *dispatch)
{
	if (dispatch->phase == IPCI_DISPATCH_DRAINING && !dispatch->live) {
		dispatch->phase = IPCI_DISPATCH_STOPPING;
		dispatch->drain_ns = INT64_MAX;
		ipci_places_stop(dispatch, dispatch->drain_result < 0);
	}
	finish_drain(dispatch);
}

/* Something has changed: do what has become possible. */
static void
proceed(struct ipci_dispatch *dispatch)
{
	if (!dispatch->over && !TAILQ_EMPTY(&dispatch->queue))
		pump(dispatch);
	if (!dispatch->over && dispatch->is_refusing && has_room(dispatch)) {
		dispatch->is_refusing = false;
		if (dispatch->phase == IPCI_DISPATCH_RUNNING)
			dispatch->ops->writable(dispatch->world);
	}
	if (!dispatch->over && dispatch->phase != IPCI_DISPATCH_RUNNING)
		advance_drain(dispatch);
}

/* The same from a tick: no function of the user is called from within what the user calls. */
static void
proceed_soon(struct ipci_dispatch *dispatch)
{
	dispatch->is_due = true;
}

/*
 * What the user asks for.
 */

/* A call was answered -EAGAIN: it is told when there is room. */
static int
refuse(struct ipci_dispatch *dispatch)
{
	dispatch->is_refusing = true;
	dispatch->stats.refused++;
	return -EAGAIN;
}

/* Those that workers will have which are about to be ready do not count. */
static bool
is_queue_full(const struct ipci_dispatch *dispatch)
{
	const struct ipci_dispatch_options *options = &dispatch->options;

	return dispatch->stats.queued >= options->queue_max &&
	       dispatch->stats.queued - options->queue_max >=
	               (uint64_t)options->depth * dispatch->n_starting;
}

/* Have the request wait. */
static int
enqueue(struct ipci_dispatch *dispatch, struct ipci_request *request,
	const struct ipc_message *message)
{
	int r;

	if (is_queue_full(dispatch))
		return -EAGAIN;
	r = keep(dispatch, request, message);
	if (r < 0)
		return r;
	request->state = IPCI_REQUEST_QUEUED;

	TAILQ_INSERT_TAIL(&dispatch->queue, request, entry);
	dispatch->stats.queued++;
	return 0;
}

static int
give_or_enqueue(struct ipci_dispatch *dispatch, struct ipci_request *request,
	const struct ipc_message *message)
{
	int r = 0;

	if (request->attempts > 1)
		r = keep(dispatch, request, message);
	if (r < 0)
		return r;
	r = -EAGAIN;
	if (TAILQ_EMPTY(&dispatch->queue))
		r = give(dispatch, request, message);
	return r == -EAGAIN ? enqueue(dispatch, request, message) : r;
}

/* Give it its time, and to somebody or the queue. */
static int
admit(struct ipci_dispatch *dispatch, struct ipci_request *request,
	const struct ipc_message *message, int timeout_ms)
{
	bool is_timed = dispatch->live <= TIMED_ALL || dispatch->stats.calls % TIMED_ONE_IN == 0;
	int64_t now_ns = is_timed || timeout_ms >= 0 ? now(dispatch) : 0;
	int r = 0;

	request->begin_ns = is_timed ? now_ns : 0;
	if (timeout_ms >= 0) {
		request->deadline.key = now_ns + timeout_ms * NS_PER_MS;
		r = ipci_heap_insert(&dispatch->deadlines, &request->deadline);
	}
	if (r == 0)
		r = give_or_enqueue(dispatch, request, message);
	if (r == 0)
		return 0;
	drop_duplicate(dispatch, request);
	if (request->deadline.index != IPCI_HEAP_NOWHERE)
		ipci_heap_remove(&dispatch->deadlines, &request->deadline);
	return r;
}

int
ipci_dispatch_call(struct ipci_dispatch *dispatch, const struct ipc_message *message,
	ipc_reply_fn *reply, void *user, int timeout_ms, unsigned int attempts,
	uint64_t *ret_request)
{
	struct ipci_request *request;
	int r;

	if (dispatch->over || dispatch->phase != IPCI_DISPATCH_RUNNING)
		return -ESHUTDOWN;
	if (dispatch->is_hopeless)
		return -EOWNERDEAD;
	request = ipci_requests_take(&dispatch->requests);
	if (!request)
		return -ENOMEM;
	request->reply = reply;
	request->user = user;
	request->caller_id = message->id;
	request->attempts = (uint16_t)(attempts ? attempts : dispatch->options.attempts);
	dispatch->live++;
	IPCI_PROBE2(request__called, request->name, message->size);
	r = admit(dispatch, request, message, timeout_ms);
	if (r < 0) {
		IPCI_PROBE2(request__ended, request->name, r);
		dispatch->live--;
		ipci_requests_give_back(&dispatch->requests, request);
		return r == -EAGAIN ? refuse(dispatch) : r;
	}
	dispatch->stats.calls++;
	if (ret_request)
		*ret_request = request->name;
	return 0;
}

int
ipci_dispatch_cancel(struct ipci_dispatch *dispatch, uint64_t name)
{
	struct ipci_request *request = ipci_requests_find(&dispatch->requests, name);

	if (dispatch->over || !request || !end_early(dispatch, request, -ECANCELED))
		return -ENOENT;
	proceed_soon(dispatch);
	return 0;
}

int
ipci_dispatch_resize(struct ipci_dispatch *dispatch, unsigned int workers)
{
	unsigned int more, returning, first, i;

	if (dispatch->over || dispatch->phase != IPCI_DISPATCH_RUNNING)
		return -ESHUTDOWN;
	if (workers < dispatch->workers) {
		ipci_places_leave(dispatch, dispatch->workers - workers);
		proceed_soon(dispatch);
		return 0;
	}
	more = workers - dispatch->workers;
	returning = IPCI_MIN(more, ipci_places_returnable(dispatch));
	first = dispatch->n_places;
	if (ipci_places_add(dispatch, more - returning) < 0)
		return -ENOMEM;
	ipci_places_return(dispatch, returning);
	for (i = first; i < dispatch->n_places; i++)
		(void)ipci_place_start(dispatch, dispatch->places[i]);
	proceed_soon(dispatch);
	return 0;
}

int
ipci_dispatch_drain(struct ipci_dispatch *dispatch, int timeout_ms)
{
	int64_t drain_ns = timeout_ms < 0 ? INT64_MAX : now(dispatch) + timeout_ms * NS_PER_MS;

	if (dispatch->over || dispatch->phase > IPCI_DISPATCH_DRAINING)
		return -EALREADY;
	dispatch->drain_ns = IPCI_MIN(dispatch->drain_ns, drain_ns);
	if (dispatch->phase == IPCI_DISPATCH_DRAINING)
		return -EALREADY;
	dispatch->phase = IPCI_DISPATCH_DRAINING;
	proceed_soon(dispatch);
	return 0;
}

/*
 * What happened.
 */

/* The worker has answered: the request is no longer its. */
static void
release(struct ipci_dispatch *dispatch, struct ipci_place *place, struct ipci_request *request)
{
	TAILQ_REMOVE(&place->requests, request, entry);
	ipci_place_shut(dispatch, place);
	place->outstanding--;
	place->is_solo = false;
	if (request->state == IPCI_REQUEST_OWED) {
		place->owed--;
		place->late -= request->is_late;
	}
	place->completed++;
	place->failures = 0;
	ipci_place_reopen(dispatch, place, true);
	if (place->state == IPC_POOL_STOPPING)
		ipci_place_stop(dispatch, place);
}

static void
answered(struct ipci_dispatch *dispatch, struct ipci_place *place, struct ipci_request *request,
	struct ipc_message *reply, int result)
{
	place->heard++;
	release(dispatch, place, request);
	if (request->state == IPCI_REQUEST_OWED) {
		dispatch->stats.strays++;
		ipci_requests_give_back(&dispatch->requests, request);
		return;
	}
	if (request->begin_ns && result == 0)
		ipci_histogram_add(
			&dispatch->latency, (uint64_t)(now(dispatch) - request->begin_ns));
	reply->id = request->caller_id;
	end(dispatch, request, result, result == 0 ? reply : NULL);
}

/* The worker has said something. Where nobody waits for what it has, and it may be given nothing
   else, only an answer is a sign of life: else it could keep its place for ever. */
static void
hear(struct ipci_place *place)
{
	if (place->is_open || place->outstanding > place->owed)
		place->heard++;
}

/* One of several replies. */
static void
answered_in_part(struct ipci_dispatch *dispatch, struct ipci_request *request,
	struct ipc_message *reply, int result)
{
	hear(request->place);
	if (request->state == IPCI_REQUEST_OWED) {
		dispatch->stats.strays++;
	} else if (result < 0) {
		end_owed(dispatch, request, result);
	} else {
		/* It cannot be tried again. */
		request->has_parts = true;
		drop_duplicate(dispatch, request);
		reply->id = request->caller_id;
		dispatch->ops->reply(
			dispatch->world, request->reply, IPC_POOL_MORE, reply, request->user);
	}
}

void
ipci_dispatch_reply(struct ipci_dispatch *dispatch, struct ipci_place *place,
	struct ipc_message *reply, int result)
{
	struct ipci_request *request = ipci_requests_find(&dispatch->requests, reply->id);

	/* What nobody has asked the worker for is no sign of life. */
	if (!request || request->place != place)
		dispatch->stats.strays++;
	else if (reply->flags & IPC_MESSAGE_MORE)
		answered_in_part(dispatch, request, reply, result);
	else
		answered(dispatch, place, request, reply, result);
	proceed(dispatch);
}

void
ipci_dispatch_heard(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	(void)dispatch;
	hear(place);
}

void
ipci_dispatch_leave(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	ipci_place_leave(dispatch, place);
}

void
ipci_dispatch_ready(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	ipci_place_ready(dispatch, place);
	dispatch->is_hopeless = false;
	proceed(dispatch);
}

void
ipci_dispatch_writable(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	ipci_place_set_full(dispatch, place, false);
	proceed(dispatch);
}

/* Requests that are about to end with -EOWNERDEAD. */
static void
end_all(struct ipci_dispatch *dispatch, struct ipci_request_list *ending)
{
	struct ipci_request *request;

	while (!dispatch->over && (request = TAILQ_FIRST(ending))) {
		TAILQ_REMOVE(ending, request, entry);
		end(dispatch, request, -EOWNERDEAD, NULL);
	}
}

static void
begin_ending(struct ipci_dispatch *dispatch, struct ipci_request *request,
	struct ipci_request_list *ending)
{
	settle(dispatch, request, -EOWNERDEAD);
	request->state = IPCI_REQUEST_ENDING;
	request->place = NULL;
	TAILQ_INSERT_HEAD(ending, request, entry);
}

/* The worker answers no more. What may be tried again is the first that waits, in its order. */
static void
lose_requests(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	struct ipci_request_list ending = TAILQ_HEAD_INITIALIZER(ending);
	struct ipci_request *request;

	while ((request = TAILQ_LAST(&place->requests, ipci_request_list))) {
		TAILQ_REMOVE(&place->requests, request, entry);
		if (request->state == IPCI_REQUEST_OWED) {
			ipci_requests_give_back(&dispatch->requests, request);
		} else if (request->duplicate) {
			request->state = IPCI_REQUEST_QUEUED;
			request->place = NULL;
			request->is_tried = true;
			TAILQ_INSERT_HEAD(&dispatch->queue, request, entry);
			dispatch->stats.queued++;
		} else {
			begin_ending(dispatch, request, &ending);
		}
	}
	ipci_place_shut(dispatch, place);
	place->outstanding = place->owed = place->late = 0;
	place->is_solo = false;
	end_all(dispatch, &ending);
}

void
ipci_dispatch_closed(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	ipci_place_closed(dispatch, place);
	lose_requests(dispatch, place);
	proceed(dispatch);
}

/* Nobody can be started: who waits need not. */
static void
lose_hope(struct ipci_dispatch *dispatch)
{
	struct ipci_request_list ending = TAILQ_HEAD_INITIALIZER(ending);
	struct ipci_request *request;

	if (!dispatch->n_places || !ipci_places_are_hopeless(dispatch))
		return;
	dispatch->is_hopeless = true;
	while ((request = TAILQ_LAST(&dispatch->queue, ipci_request_list))) {
		unqueue(dispatch, request);
		begin_ending(dispatch, request, &ending);
	}
	end_all(dispatch, &ending);
}

void
ipci_dispatch_died(struct ipci_dispatch *dispatch, struct ipci_place *place)
{
	ipci_place_closed(dispatch, place);
	lose_requests(dispatch, place);
	if (dispatch->over)
		return;
	ipci_place_died(dispatch, place);
	lose_hope(dispatch);
	proceed(dispatch);
}

/*
 * Time.
 */

int64_t
ipci_dispatch_next_ns(const struct ipci_dispatch *dispatch)
{
	int64_t next_ns = dispatch->is_due ? 0 : ipci_heap_first_key(&dispatch->deadlines);

	next_ns = IPCI_MIN(next_ns, dispatch->places_due_ns);
	next_ns = IPCI_MIN(next_ns, dispatch->check_ns);
	next_ns = IPCI_MIN(next_ns, dispatch->start_ns);
	return IPCI_MIN(next_ns, dispatch->drain_ns);
}

static void
expire(struct ipci_dispatch *dispatch, int64_t now_ns)
{
	while (!dispatch->over && ipci_heap_first_key(&dispatch->deadlines) <= now_ns)
		(void)end_early(dispatch, request_of(dispatch->deadlines.nodes[0]), -ETIMEDOUT);
}

/* The drain's time is over. */
static void
cancel_all(struct ipci_dispatch *dispatch)
{
	struct ipci_request *request;
	size_t i;

	dispatch->drain_ns = INT64_MAX;
	for (i = 0; !dispatch->over && (request = ipci_requests_at(&dispatch->requests, i)); i++)
		if (end_early(dispatch, request, -ECANCELED))
			dispatch->drain_result = -ETIMEDOUT;
}

/* Those that do not die of being killed are as good as dead. */
static void
give_up(struct ipci_dispatch *dispatch, int64_t now_ns)
{
	struct ipci_place *place;
	bool must;

	while (!dispatch->over && (place = ipci_places_undying(dispatch, now_ns))) {
		/* Where no other is started in its place. */
		must = place->is_leaving || dispatch->phase >= IPCI_DISPATCH_STOPPING;
		if (!dispatch->ops->give_up(dispatch->world, place, must)) {
			ipci_place_await_death(dispatch, place);
			continue;
		}
		if (dispatch->over)
			return;
		dispatch->stats.given_up++;
		dispatch->has_given_up |= dispatch->phase != IPCI_DISPATCH_RUNNING;
		ipci_dispatch_died(dispatch, place);
	}
}

void
ipci_dispatch_tick(struct ipci_dispatch *dispatch, int64_t now_ns)
{
	dispatch->is_due = false;
	expire(dispatch, now_ns);
	if (dispatch->over)
		return;
	ipci_places_tick(dispatch, now_ns);
	/* One that is killed stays due. */
	if (dispatch->places_due_ns <= now_ns)
		give_up(dispatch, now_ns);
	if (!dispatch->over && !dispatch->is_hopeless)
		lose_hope(dispatch);
	if (!dispatch->over && now_ns >= dispatch->drain_ns)
		cancel_all(dispatch);
	proceed(dispatch);
}

/*
 * Its life.
 */

int
ipci_dispatch_init(struct ipci_dispatch *dispatch, const struct ipci_dispatch_ops *ops, void *world,
	const struct ipci_dispatch_options *options)
{
	unsigned int i;
	int r;

	memset(dispatch, 0, sizeof(*dispatch));
	dispatch->ops = ops;
	dispatch->world = world;
	dispatch->options = *options;
	dispatch->begin_ns = now(dispatch);
	dispatch->drain_ns = dispatch->start_ns = INT64_MAX;
	TAILQ_INIT(&dispatch->queue);
	ipci_requests_init(&dispatch->requests, ops->random, world);
	r = ipci_places_init(dispatch);
	if (r == 0)
		r = ipci_places_add(dispatch, options->workers);
	for (i = 0; r == 0 && i < options->workers; i++)
		r = ipci_place_start(dispatch, dispatch->places[i]);
	dispatch->is_spreading = r == 0;
	return r;
}

void
ipci_dispatch_forget(struct ipci_dispatch *dispatch)
{
	struct ipci_request *request;
	size_t i;

	dispatch->over = true;
	for (i = 0; (request = ipci_requests_at(&dispatch->requests, i)); i++)
		drop_duplicate(dispatch, request);
	ipci_requests_finish(&dispatch->requests);
	ipci_places_finish(dispatch);
	ipci_heap_finish(&dispatch->deadlines);
}

void
ipci_dispatch_finish(struct ipci_dispatch *dispatch)
{
	struct ipci_request *request;
	size_t i;

	dispatch->over = true;
	for (i = 0; (request = ipci_requests_at(&dispatch->requests, i)); i++) {
		/* Its function may still ask for the counters. */
		if (request->state == IPCI_REQUEST_QUEUED)
			unqueue(dispatch, request);
		if (request->state == IPCI_REQUEST_ENDING)
			end(dispatch, request, -EOWNERDEAD, NULL);
		else if (request->state == IPCI_REQUEST_QUEUED ||
			 request->state == IPCI_REQUEST_OUTSTANDING)
			end(dispatch, request, -ECANCELED, NULL);
	}
	ipci_dispatch_forget(dispatch);
}

void
ipci_dispatch_stats(const struct ipci_dispatch *dispatch, struct ipc_pool_stats *ret_stats)
{
	struct ipc_pool_stats stats = dispatch->stats;
	const struct ipci_place *place;
	unsigned int i;

	stats.workers = dispatch->workers;
	stats.outstanding = dispatch->live - stats.queued;
	for (i = 0; i < dispatch->n_places; i++) {
		place = dispatch->places[i];
		stats.ready += place->state == IPC_POOL_READY;
		stats.owed += place->owed;
	}
	stats.latency.count = dispatch->latency.count;
	stats.latency.max_ns = dispatch->latency.max;
	(void)ipci_histogram_percentile(&dispatch->latency, 500, &stats.latency.p50_ns);
	(void)ipci_histogram_percentile(&dispatch->latency, 900, &stats.latency.p90_ns);
	(void)ipci_histogram_percentile(&dispatch->latency, 990, &stats.latency.p99_ns);
	(void)ipci_histogram_percentile(&dispatch->latency, 999, &stats.latency.p999_ns);
	*ret_stats = stats;
}
