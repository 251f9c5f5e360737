/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_PLACES_H
#define LIBIPC_INTERNAL_PLACES_H

/*
 * The places of a dispatch: which worker is next, when one is started, closed and killed.
 *
 * Knows places, credits and times. Refuses to know what becomes of requests: nothing here calls a
 * function of the user.
 *
 * Every state of a place has a way out by time, whatever its worker does:
 *
 *   WAITING   is started when it is due: restart_max_ns after its last start at the latest
 *   STARTING  is killed when the worker has been silent for hung_ns
 *   READY     with a request that somebody waits for, which may be the only one (solo): is killed
 *             when the worker has given no sign of life for hung_ns
 *             that may get no request, being owed a late answer or as many as its depth, and has
 *             none that somebody waits for: is killed when no answer was given for hung_ns;
 *             messages and parts of answers are no sign of life then
 *             whose channel is full: is killed when there was no room for hung_ns and no request
 *             was answered, whatever else the worker says
 *             else may be given a request
 *   STOPPING  has a request that somebody waits for: as READY. Without one it is closed at once
 *   ENDING    is killed stop_ns after it was closed. Killed, it is given up kill_ns later; or again
 *             kill_ns later, where too many were given up that still live
 *
 * Where hung_ns is 0 the user has said that it may take for ever; but a request's own time ends it,
 * and with it STOPPING. An answer that nobody has asked this worker for is never a sign of life.
 */

#include "dispatch.h"

/* Return: 0, or -ENOMEM. */
int ipci_places_init(struct ipci_dispatch *dispatch);
void ipci_places_finish(struct ipci_dispatch *dispatch);

/* Add n places, to be started now. Return: 0, or -ENOMEM: none is added. */
int ipci_places_add(struct ipci_dispatch *dispatch, unsigned int n);

/* Let n places leave: those that cost least. Some may be gone at once. */
void ipci_places_leave(struct ipci_dispatch *dispatch, unsigned int n);

/* How many are leaving and still open; and take back n of them. */
unsigned int ipci_places_returnable(const struct ipci_dispatch *dispatch);
void ipci_places_return(struct ipci_dispatch *dispatch, unsigned int n);

/* Start a worker. Return: 0, or why there is none; it is tried again later. */
int ipci_place_start(struct ipci_dispatch *dispatch, struct ipci_place *place);

/* The open place with the fewest requests; with alone, only one without any. Return: NULL if there
   is none. */
struct ipci_place *ipci_place_choose(struct ipci_dispatch *dispatch, bool alone);

/* Around a change of what makes a place open, or of how many requests it has: afterwards it is the
   first or the last of its like. */
void ipci_place_shut(struct ipci_dispatch *dispatch, struct ipci_place *place);
void ipci_place_reopen(struct ipci_dispatch *dispatch, struct ipci_place *place, bool first);

/* The worker has opened its end. */
void ipci_place_ready(struct ipci_dispatch *dispatch, struct ipci_place *place);

/* Its channel takes nothing, or does again. */
void ipci_place_set_full(struct ipci_dispatch *dispatch, struct ipci_place *place, bool is_full);

/* Let the worker go, now if it has no requests that somebody waits for, else as soon as it has
   none. */
void ipci_place_stop(struct ipci_dispatch *dispatch, struct ipci_place *place);

/* The worker leaves of its own accord. Another is started in its place once it is dead. */
void ipci_place_leave(struct ipci_dispatch *dispatch, struct ipci_place *place);

void ipci_place_kill(struct ipci_dispatch *dispatch, struct ipci_place *place);

/* The worker takes no more requests, or has left: kill it if it does not end soon. */
void ipci_place_closed(struct ipci_dispatch *dispatch, struct ipci_place *place);

/* The worker is dead: the place waits for its next start, now or later, or is gone. */
void ipci_place_died(struct ipci_dispatch *dispatch, struct ipci_place *place);

/* Let every worker go; those that owe answers are killed if that is so said. Places without one are
   gone. */
void ipci_places_stop(struct ipci_dispatch *dispatch, bool kill_owing);

/* Has every place failed to start for so often that it is in vain to wait? */
bool ipci_places_are_hopeless(const struct ipci_dispatch *dispatch);

/* Look for silent workers from now on. */
void ipci_places_watch(struct ipci_dispatch *dispatch);

/* Start, kill and look at what it is time for. */
void ipci_places_tick(struct ipci_dispatch *dispatch, int64_t now_ns);

/* A place whose worker was killed, and should have died by now. Return: NULL if there is none. */
struct ipci_place *ipci_places_undying(struct ipci_dispatch *dispatch, int64_t now_ns);

/* It may still die: wait as long again. */
void ipci_place_await_death(struct ipci_dispatch *dispatch, struct ipci_place *place);

#endif
