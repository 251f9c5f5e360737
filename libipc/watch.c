/* SPDX-License-Identifier: MIT */

/* Descriptors in a loop that are no channels. */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "loop.h"
#include "sys.h"

#define WATCH_EVENTS (POLLIN | POLLOUT | POLLPRI | POLLRDHUP)

void
ipci_watch_fire(struct ipc_watch *watch, unsigned int events)
{
	if (watch->internal) {
		watch->fn(watch, events, watch->user);
		return;
	}
	watch->fired_events = events;
	if (watch->is_fired)
		return;
	watch->is_fired = true;
	TAILQ_INSERT_TAIL(&watch->loop->fired, watch, fired);
}

static void
not_fired(struct ipc_watch *watch)
{
	if (!watch->is_fired)
		return;
	watch->is_fired = false;
	TAILQ_REMOVE(&watch->loop->fired, watch, fired);
}

/* Has the descriptor still the event that an engine saw? Other callbacks may have dealt with it,
   and on io_uring anybody since the last turn. */
static bool
is_still_so(struct ipc_watch *watch)
{
	int r;

	watch->loop->stats.syscalls++;
	r = ipci_sys_poll(watch->fd, (short)watch->events, 0);
	watch->fired_events = (unsigned int)r;
	return r > 0;
}

static void
call(struct ipc_watch *watch)
{
	struct ipc_loop *loop = watch->loop;

	loop->stats.events += !watch->silent;
	loop->current_watch = watch;
	watch->fn(watch, watch->fired_events, watch->user);
	loop->current_watch = NULL;
}

/* Its callback has returned, or never will. */
static void
called(struct ipc_loop *loop, struct ipc_watch *watch)
{
	if (watch->stopped)
		free(watch);
	else if (loop->ops->watch_again && !watch->masked && !ipci_loop_is_over(loop))
		loop->ops->watch_again(loop->engine, watch);
}

void
ipci_watches_left(struct ipc_loop *loop)
{
	struct ipc_watch *watch = loop->current_watch;

	loop->current_watch = NULL;
	if (watch)
		called(loop, watch);
}

void
ipci_watches_call(struct ipc_loop *loop)
{
	struct ipc_watch *watch;

	while (!ipci_loop_is_over(loop) && (watch = TAILQ_FIRST(&loop->fired))) {
		not_fired(watch);
		if (is_still_so(watch))
			call(watch);
		called(loop, watch);
	}
}

int
ipci_watch_init(struct ipc_watch *watch, struct ipc_loop *loop, int fd, unsigned int events,
	ipc_watch_fn *fn)
{
	int r;

	*watch = (struct ipc_watch){
		.loop = loop,
		.fd = fd,
		.events = events,
		.fn = fn,
		.user = loop,
		.internal = true,
	};
	r = loop->ops->watch(loop->engine, watch);
	if (r < 0)
		watch->loop = NULL;
	return r;
}

void
ipci_watch_finish(struct ipc_watch *watch)
{
	if (watch->loop && ipci_loop_is_ours(watch->loop))
		watch->loop->ops->unwatch(watch->loop->engine, watch);
	watch->loop = NULL;
}

void
ipci_watch_mask(struct ipc_watch *watch)
{
	watch->loop->ops->unwatch(watch->loop->engine, watch);
	not_fired(watch);
	watch->masked = true;
}

static void
watch_remove(struct ipc_watch *watch)
{
	struct ipc_loop *loop = watch->loop;

	if (ipci_loop_is_ours(loop))
		loop->ops->unwatch(loop->engine, watch);
	not_fired(watch);
	TAILQ_REMOVE(&loop->watches, watch, all);
	/* The one that is being called is freed when that has returned. */
	if (watch == loop->current_watch)
		watch->stopped = true;
	else
		free(watch);
}

void
ipci_watches_finish(struct ipc_loop *loop)
{
	struct ipc_watch *watch;

	while ((watch = TAILQ_FIRST(&loop->watches))) {
		if (watch->gone)
			watch->gone(watch->user);
		watch_remove(watch);
	}
}

/* Does the kernel say of the descriptor when it is ready? An epoll tells. */
static int
probe_watch(int fd)
{
	struct stat stat;
	int r = ipci_sys_fstat(fd, &stat), epoll_fd;

	/* What is not open could be the number that the epoll is given. */
	if (r < 0)
		return r;
	epoll_fd = ipci_sys_epoll_create();
	if (epoll_fd < 0)
		return epoll_fd;
	r = ipci_sys_epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, 0, NULL);
	(void)ipci_sys_close(epoll_fd);
	return r;
}

/* Can it be watched, by either engine alike? */
static int
check_watch(const struct ipc_loop *loop, int fd, unsigned int events)
{
	const struct ipc_watch *watch;
	const struct ipci_port *port;

	if (events & ~(unsigned int)WATCH_EVENTS)
		return -EINVAL;
	if (loop->alarm.fd >= 0 && fd == loop->ops->fd(loop->engine))
		return -EINVAL;
	TAILQ_FOREACH (watch, &loop->watches, all)
		if (watch->fd == fd)
			return -EEXIST;
	TAILQ_FOREACH (port, &loop->ports, all)
		if (port->channel->fd == fd)
			return -EEXIST;
	return probe_watch(fd);
}

int
ipc_watch_start(struct ipc_watch **ret, struct ipc_loop *loop, int fd, unsigned int events,
	ipc_watch_fn *fn, void *user)
{
	struct ipc_watch *watch;
	int r;

	assert(ret);
	assert(loop);
	assert(fn);
	if (!ipci_loop_is_ours(loop))
		return -ECHILD;
	r = check_watch(loop, fd, events);
	if (r < 0)
		return r;
	watch = malloc(sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	r = ipci_watch_init(watch, loop, fd, events, fn);
	if (r < 0) {
		free(watch);
		return r;
	}
	watch->internal = false;
	watch->user = user;
	TAILQ_INSERT_TAIL(&loop->watches, watch, all);
	ipci_loop_settle(loop);
	*ret = watch;
	return 0;
}

struct ipc_watch *
ipc_watch_stop(struct ipc_watch *watch)
{
	struct ipc_loop *loop;

	if (!watch || watch->stopped)
		return NULL;
	loop = watch->loop;
	watch_remove(watch);
	ipci_loop_settle(loop);
	return NULL;
}
