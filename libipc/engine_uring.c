/* SPDX-License-Identifier: MIT */

/*
 * A loop on io_uring: one system call carries what all channels send, and brings what they receive.
 *
 * A request's memory and descriptors are owned until its completion was taken in: quiesce() cancels
 * what is under way and waits for that. Completions change states, and nothing that they lead to
 * calls an application or submits.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "sys.h"
#include "uring.h"

/* A descriptor that is always ready is not looked at for ever. */
#define SETTLE_ROUNDS_MAX 8

static void
uring_destroy(struct ipci_engine *engine, bool ours)
{
	if (ours)
		ipci_uring_close(engine);
	else if (engine->has_ring)
		/* Its memory is not here, and its memory is all that liburing would free. */
		(void)ipci_sys_close(engine->ring.ring_fd);
	if (engine->poll_fd >= 0)
		(void)ipci_sys_close(engine->poll_fd);
	ipci_uring_buffers_unmap(engine, ours);
	free(engine);
}

static int
uring_create(struct ipci_engine **ret, struct ipc_loop *loop, unsigned int buffers,
	const char **ret_step)
{
	struct ipci_engine *engine = calloc(1, sizeof(*engine));
	int r;

	*ret_step = "io_uring, memory";
	if (!engine)
		return -ENOMEM;
	engine->loop = loop;
	engine->n_buffers = buffers;
	engine->poll_fd = -1;
	TAILQ_INIT(&engine->arm);
	TAILQ_INIT(&engine->at_once);
	TAILQ_INIT(&engine->hung_up);
	TAILQ_INIT(&engine->watches);
	TAILQ_INIT(&engine->takers);
	r = ipci_uring_buffers_map(engine);
	if (r == 0)
		r = ipci_uring_open(engine, ret_step);
	if (r < 0) {
		uring_destroy(engine, true);
		return r;
	}
	*ret = engine;
	return 0;
}

void
ipci_uring_want_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	/* After its callback, which may deal with the event, it is wanted again. */
	if (!watch->loop || watch->masked || watch->is_due || watch->is_fired ||
		watch->of_engine != IPCI_REQUEST_IDLE)
		return;
	watch->is_due = true;
	TAILQ_INSERT_TAIL(&engine->watches, watch, due);
}

static void
watch_not_due(struct ipci_engine *engine, struct ipc_watch *watch)
{
	if (!watch->is_due)
		return;
	watch->is_due = false;
	TAILQ_REMOVE(&engine->watches, watch, due);
}

static void
arm_watches(struct ipci_engine *engine)
{
	struct io_uring_sqe *sqe;
	struct ipc_watch *watch;

	while ((watch = TAILQ_FIRST(&engine->watches))) {
		sqe = ipci_uring_request(engine);
		if (!sqe)
			return;
		watch_not_due(engine, watch);
		io_uring_prep_poll_add(sqe, watch->fd, watch->events);
		io_uring_sqe_set_data64(sqe, ipci_uring_tag(watch, IPCI_KIND_WATCH));
		watch->of_engine = IPCI_REQUEST_ACTIVE;
	}
}

void
ipci_uring_watch_completed(struct ipci_engine *engine, struct ipc_watch *watch, int result)
{
	watch->of_engine = IPCI_REQUEST_IDLE;
	/* To ask again at once would be to ask without end. */
	if (result < 0 && result != -ECANCELED) {
		/* One that was closed is not told of: as by epoll. */
		engine->has_refused |= result != -EBADF;
		ipci_loop_nap(engine->loop);
		return;
	}
	if (result >= 0)
		ipci_watch_fire(watch, (unsigned int)result);
	ipci_uring_want_watch(engine, watch);
}

/* The kernel has had time to find memory. */
static void
want_refused(struct ipci_engine *engine)
{
	struct ipc_loop *loop = engine->loop;
	struct ipc_watch *watch;

	engine->has_refused = false;
	TAILQ_FOREACH (watch, &loop->watches, all)
		ipci_uring_want_watch(engine, watch);
	ipci_uring_want_watch(engine, &loop->wake);
	ipci_uring_want_watch(engine, &loop->alarm);
}

static int
uring_attach(struct ipci_engine *engine, struct ipci_port *port)
{
	struct ipci_uring_port *up = calloc(1, sizeof(*up));

	if (!up)
		return -ENOMEM;
	up->port = port;
	ipci_uring_init_receive(up);
	port->of_engine = up;
	ipci_uring_want_receive(engine, up);
	return 0;
}

/* Start nothing more, and ask all that is under way to end. */
static void
start_quiesce(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	up->is_quiet = true;
	ipci_uring_no_receive(engine, up);
	ipci_uring_cancel(engine, up, ipci_uring_receive_kind(up), &up->receive);
	ipci_uring_cancel(engine, up, IPCI_KIND_SEND, &up->send);
	ipci_uring_cancel(engine, up, IPCI_KIND_HANGUP, &up->hangup);
}

static void
uring_quiesce(struct ipci_engine *engine, struct ipci_port *port)
{
	struct ipci_uring_port *up = port->of_engine;

	start_quiesce(engine, up);
	while (up->receive != IPCI_REQUEST_IDLE || up->send != IPCI_REQUEST_IDLE ||
		up->hangup != IPCI_REQUEST_IDLE) {
		/* Somebody has closed the ring, or the kernel has no memory to end anything. */
		if (ipci_uring_enter(engine, up->send != IPCI_REQUEST_AT_ONCE, -1) < 0)
			(void)ipci_uring_restart(engine);
		start_quiesce(engine, up);
	}
}

static void
uring_detach(struct ipci_engine *engine, struct ipci_port *port)
{
	struct ipci_uring_port *up = port->of_engine;

	ipci_uring_finish_receive(engine, up);
	if (up->is_restarted)
		TAILQ_REMOVE(&engine->hung_up, up, hung);
	if (up->send == IPCI_REQUEST_AT_ONCE)
		TAILQ_REMOVE(&engine->at_once, up, at_once);
	free(up);
	port->of_engine = NULL;
}

static void
uring_receive(struct ipci_engine *engine, struct ipci_port *port)
{
	struct ipci_uring_port *up = port->of_engine;

	if (up->is_quiet) {
		up->is_quiet = false;
		ipci_port_has_output(port);
	}
	ipci_uring_want_receive(engine, up);
}

static int
uring_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	watch->of_engine = IPCI_REQUEST_IDLE;
	ipci_uring_want_watch(engine, watch);
	return 0;
}

static void
uring_unwatch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	enum ipci_uring_request request = watch->of_engine;

	watch_not_due(engine, watch);
	while (watch->of_engine != IPCI_REQUEST_IDLE) {
		ipci_uring_cancel(engine, watch, IPCI_KIND_WATCH, &request);
		if (ipci_uring_enter(engine, true, -1) < 0)
			(void)ipci_uring_restart(engine);
	}
	/* It was wanted again when it ended. */
	watch_not_due(engine, watch);
}

static void
restart_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	uring_unwatch(engine, watch);
	ipci_uring_want_watch(engine, watch);
}

/* Have nothing under way, and all of it due. */
static void
end_requests(struct ipci_engine *engine)
{
	struct ipc_loop *loop = engine->loop;
	struct ipci_port *port;
	struct ipc_watch *watch;

	/* All at once, so that one wait ends most. */
	TAILQ_FOREACH (port, &loop->ports, all)
		start_quiesce(engine, port->of_engine);
	TAILQ_FOREACH (port, &loop->ports, all) {
		uring_quiesce(engine, port);
		uring_receive(engine, port);
	}
	TAILQ_FOREACH (watch, &loop->watches, all)
		restart_watch(engine, watch);
	restart_watch(engine, &loop->wake);
	restart_watch(engine, &loop->alarm);
}

/* Everything that is to be under way while the kernel works. */
static void
prepare(struct ipci_engine *engine)
{
	ipci_uring_prepare_receives(engine);
	if (engine->has_refused && !engine->loop->nap_until_ns)
		want_refused(engine);
	arm_watches(engine);
}

/* Is there nothing to be done before a wait has brought something? */
static bool
may_sleep(const struct ipci_engine *engine)
{
	const struct ipc_loop *loop = engine->loop;
	const struct ipci_uring_port *up;

	/* Where many requests were prepared the kernel has been entered on the way. */
	if (io_uring_cq_ready(&engine->ring) || loop->n_ready || !TAILQ_EMPTY(&loop->fired) ||
		!TAILQ_EMPTY(&loop->output))
		return false;
	/* More was gathered, or asked for, since a send was prepared that ends no wait. */
	TAILQ_FOREACH (up, &engine->at_once, at_once)
		if (ipci_uring_is_waited_for(up))
			return false;
	return true;
}

/*
 * A ring without IORING_SETUP_DEFER_TASKRUN takes requests of any thread, but what was begun by one
 * is done by it: which may be gone, or in no hurry.
 */
static void
follow_thread(struct ipci_engine *engine)
{
	if (engine->ring.flags & IORING_SETUP_DEFER_TASKRUN ||
		pthread_equal(engine->thread, pthread_self()))
		return;
	end_requests(engine);
	engine->thread = pthread_self();
}

static int
uring_wait(struct ipci_engine *engine, int timeout_ms)
{
	const char *step;
	bool wait;
	int r = 0;

	if (!engine->has_ring)
		r = ipci_uring_open(engine, &step);
	if (r < 0)
		return r;
	follow_thread(engine);
	prepare(engine);
	wait = timeout_ms && may_sleep(engine);
	if (wait || io_uring_sq_ready(&engine->ring) || ipci_uring_has_work(engine))
		r = ipci_uring_enter(engine, wait, timeout_ms);
	else
		ipci_uring_reap(engine);
	if (r < 0 || !engine->n_starved)
		return r;
	/* Who found no buffer is not to wait for those who did. */
	prepare(engine);
	return ipci_uring_enter(engine, false, 0);
}

static void
uring_submit(struct ipci_engine *engine)
{
	if (!engine->has_ring || !io_uring_sq_ready(&engine->ring))
		return;
	prepare(engine);
	(void)ipci_uring_enter(engine, false, 0);
}

static bool
is_unwatched(const struct ipc_watch *watch)
{
	return watch->loop && watch->of_engine == IPCI_REQUEST_IDLE;
}

/* Does whoever polls know already that a turn has work? */
static bool
is_told(const struct ipci_engine *engine)
{
	const struct ipc_loop *loop = engine->loop;

	return loop->woken && !is_unwatched(&loop->wake) && engine->has_ring &&
	       !io_uring_sq_ready(&engine->ring) &&
	       (loop->n_ready || !TAILQ_EMPTY(&loop->fired) || !TAILQ_EMPTY(&loop->output));
}

static void
uring_settle(struct ipci_engine *engine)
{
	const struct ipc_loop *loop = engine->loop;
	int round = 0, r;

	if (is_told(engine))
		return;
	/* What was raised and taken in is to be watched again: it is what wakes who polls. So is
	   what the kernel had no memory for. */
	do
		r = uring_wait(engine, 0);
	while (r == 0 &&
		(is_unwatched(&loop->wake) || is_unwatched(&loop->alarm) ||
			io_uring_sq_ready(&engine->ring)) &&
		++round < SETTLE_ROUNDS_MAX);
}

static int
uring_fd(struct ipci_engine *engine)
{
	const char *step;
	int fd, r;

	if (engine->poll_fd >= 0)
		return engine->poll_fd;
	fd = ipci_sys_epoll_create();
	if (fd < 0)
		return fd;
	end_requests(engine);
	ipci_uring_close(engine);
	engine->poll_fd = fd;
	r = ipci_uring_open(engine, &step);
	if (r < 0) {
		engine->poll_fd = -1;
		(void)ipci_sys_close(fd);
		return r;
	}
	return fd;
}

const struct ipci_engine_ops ipci_engine_uring = {
	.name = "io_uring",
	.looks_are_free = true,
	.create = uring_create,
	.destroy = uring_destroy,
	.attach = uring_attach,
	.quiesce = uring_quiesce,
	.detach = uring_detach,
	.send = ipci_uring_send,
	.send_more = ipci_uring_send_more,
	.receive = uring_receive,
	.watch = uring_watch,
	.watch_again = ipci_uring_want_watch,
	.unwatch = uring_unwatch,
	.wait = uring_wait,
	.submit = uring_submit,
	.settle = uring_settle,
	.fd = uring_fd,
};
