/* SPDX-License-Identifier: MIT */

/*
 * The ring itself: made, entered, reaped, and made anew when another thread has the loop.
 */

#include <errno.h>

#include "seam_uring.h"
#include "sys.h"
#include "uring.h"

/* Requests of one submit; more go in parts. */
#define ENTRIES_MAX 256U
#define ENTRIES_MIN 8U
/* Completions that can wait: a full queue ends multishot receives, each of which then costs a
   request. */
#define COMPLETIONS_PER_ENTRY 8U

/* How often to try again where the kernel has no memory. A ring's own is free some time after it
   was closed. */
#define REOPENS_MAX  1000
#define REFUSALS_MAX 100
#define NAP_MS       1

/*
 * The flags to be had since Linux 6.1, and since 6.0. A ring with the first puts work off until it
 * is entered, and tells nobody who polls it: so it is the second once others do. There the kernel
 * interrupts the thread that began a request: it may not wait (IORING_SETUP_COOP_TASKRUN) for one
 * that is busy while another has the loop.
 */
static const unsigned int setup_flags[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
	IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
};

static int
setup_ring(struct ipci_engine *engine, unsigned int entries)
{
	struct io_uring_params params;
	unsigned int i = engine->poll_fd >= 0;
	int r = -EINVAL;

	for (; i < sizeof(setup_flags) / sizeof(setup_flags[0]) && r == -EINVAL; i++) {
		params = (struct io_uring_params){
			.flags = setup_flags[i],
			.cq_entries = entries * COMPLETIONS_PER_ENTRY,
		};
		r = io_uring_queue_init_params(entries, &engine->ring, &params);
	}
	return r;
}

/* No descriptor of ours is below 3. The ring's memory does not depend on the number. */
static int
lift_ring(struct io_uring *ring)
{
	int fd;

	if (ring->ring_fd >= IPCI_SYS_FD_MIN)
		return 0;
	fd = ipci_sys_dup(ring->ring_fd);
	if (fd < 0) {
		io_uring_queue_exit(ring);
		return fd;
	}
	(void)ipci_sys_close(ring->ring_fd);
	ring->ring_fd = fd;
	ring->enter_ring_fd = fd;
	return 0;
}

void
ipci_uring_close(struct ipci_engine *engine)
{
	if (engine->has_ring)
		io_uring_queue_exit(&engine->ring);
	engine->has_ring = false;
}

int
ipci_uring_open(struct ipci_engine *engine, const char **ret_step)
{
	unsigned int entries = ENTRIES_MAX;
	int r;

	*ret_step = "io_uring_setup";
	/* Its memory counts against RLIMIT_MEMLOCK: a smaller one may fit. */
	while ((r = setup_ring(engine, entries)) == -ENOMEM && entries > ENTRIES_MIN)
		entries /= 2;
	if (r == 0)
		r = lift_ring(&engine->ring);
	if (r < 0)
		return r;
	engine->has_ring = true;
	engine->thread = pthread_self();
	/* Even a submit that fails in a forked child would move the parent's queue. */
	*ret_step = "io_uring, madvise";
	r = io_uring_ring_dontfork(&engine->ring);
	if (r == 0) {
		*ret_step = "io_uring_register, a ring of buffers";
		r = ipci_uring_buffers_register(engine);
	}
	if (r == 0 && engine->poll_fd >= 0) {
		*ret_step = "io_uring, epoll_ctl";
		r = ipci_sys_epoll_ctl(
			engine->poll_fd, EPOLL_CTL_ADD, engine->ring.ring_fd, EPOLLIN, NULL);
	}
	if (r < 0)
		ipci_uring_close(engine);
	return r;
}

struct io_uring_sqe *
ipci_uring_request(struct ipci_engine *engine)
{
	struct io_uring_sqe *sqe;

	if (!engine->has_ring)
		return NULL;
	sqe = io_uring_get_sqe(&engine->ring);
	if (!sqe && ipci_uring_enter(engine, false, 0) == 0 && engine->has_ring)
		sqe = io_uring_get_sqe(&engine->ring);
	return sqe;
}

static bool
start_cancel(struct ipci_engine *engine, const void *about, enum ipci_uring_kind kind)
{
	struct io_uring_sqe *sqe = ipci_uring_request(engine);

	if (!sqe)
		return false;
	io_uring_prep_cancel64(sqe, ipci_uring_tag(about, kind), 0);
	io_uring_sqe_set_data64(sqe, IPCI_KIND_NONE);
	return true;
}

void
ipci_uring_cancel(struct ipci_engine *engine, const void *about, enum ipci_uring_kind kind,
	enum ipci_uring_request *request)
{
	if (*request == IPCI_REQUEST_ACTIVE && start_cancel(engine, about, kind) &&
		*request == IPCI_REQUEST_ACTIVE)
		*request = IPCI_REQUEST_CANCELLED;
}

static void
completed(struct ipci_engine *engine, const struct io_uring_cqe *cqe)
{
	void *about = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)IPCI_KIND_MASK);

	switch (cqe->user_data & IPCI_KIND_MASK) {
	case IPCI_KIND_RECEIVE:
		ipci_uring_received(engine, about, cqe->res, cqe->flags);
		break;
	case IPCI_KIND_READABLE:
		ipci_uring_readable(engine, about, cqe->res);
		break;
	case IPCI_KIND_SEND:
		ipci_uring_sent(engine, about, cqe->res);
		break;
	case IPCI_KIND_HANGUP:
		ipci_uring_hung_up(engine, about, cqe->res);
		break;
	case IPCI_KIND_WATCH:
		ipci_uring_watch_completed(engine, about, cqe->res);
		break;
	}
}

static unsigned int
kernel_flags(const struct ipci_engine *engine)
{
	return __atomic_load_n(engine->ring.sq.kflags, __ATOMIC_RELAXED);
}

bool
ipci_uring_has_work(const struct ipci_engine *engine)
{
	return kernel_flags(engine) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

void
ipci_uring_reap(struct ipci_engine *engine)
{
	struct io_uring_cqe *cqe, copy;
	unsigned int head, n = 0;

	if (!engine->has_ring)
		return;
	while (ipci_seam_late(&copy))
		completed(engine, &copy);
	io_uring_for_each_cqe (&engine->ring, head, cqe) {
		copy = *cqe;
		if (ipci_seam_complete(&copy))
			completed(engine, &copy);
		n++;
	}
	io_uring_cq_advance(&engine->ring, n);
	if (!(kernel_flags(engine) & IORING_SQ_CQ_OVERFLOW))
		ipci_uring_reap_sends(engine);
}

/* The ring that knew of them is gone, and they were not done. */
static void
forget_requests(struct ipci_engine *engine, struct ipci_uring_port *up)
{
	if (up->send != IPCI_REQUEST_IDLE)
		ipci_uring_sent(engine, up, -ECANCELED);
	up->receive = IPCI_REQUEST_IDLE;
	up->hangup = IPCI_REQUEST_IDLE;
}

static int
reopen(struct ipci_engine *engine)
{
	const char *step;
	int tries = 0, r;

	while ((r = ipci_uring_open(engine, &step)) == -ENOMEM && ++tries < REOPENS_MAX)
		(void)ipci_sys_poll(-1, 0, NAP_MS);
	return r;
}

static void
forget_watch(struct ipci_engine *engine, struct ipc_watch *watch)
{
	watch->of_engine = IPCI_REQUEST_IDLE;
	ipci_uring_want_watch(engine, watch);
}

int
ipci_uring_restart(struct ipci_engine *engine)
{
	struct ipci_port *port;
	struct ipci_uring_port *up;
	struct ipc_watch *watch;

	ipci_uring_reap(engine);
	ipci_uring_close(engine);
	TAILQ_FOREACH (port, &engine->loop->ports, all) {
		up = port->of_engine;
		forget_requests(engine, up);
		ipci_uring_want_receive(engine, up);
	}
	TAILQ_FOREACH (watch, &engine->loop->watches, all)
		forget_watch(engine, watch);
	forget_watch(engine, &engine->loop->wake);
	forget_watch(engine, &engine->loop->alarm);
	return reopen(engine);
}

/* The kernel had no memory. It does not say when it has. */
static int
refused(struct ipci_engine *engine)
{
	if (engine->n_refused >= REFUSALS_MAX)
		return -ENOMEM;
	engine->n_refused++;
	(void)ipci_sys_poll(-1, 0, NAP_MS);
	return 0;
}

int
ipci_uring_enter(struct ipci_engine *engine, bool wait, int timeout_ms)
{
	struct __kernel_timespec time = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = (long long)(timeout_ms % 1000) * 1000000,
	};
	struct io_uring_cqe *cqe;
	int r;

	if (!engine->has_ring)
		return -EBADF;
	engine->loop->stats.syscalls++;
	if (wait && !ipci_seam_keeps())
		r = io_uring_submit_and_wait_timeout(
			&engine->ring, &cqe, 1, timeout_ms < 0 ? NULL : &time, NULL);
	else
		r = io_uring_submit_and_get_events(&engine->ring);
	/* Another thread has the loop now, and a ring knows only the one that made it. */
	if (r == -EEXIST)
		return ipci_uring_restart(engine);
	ipci_uring_reap(engine);
	switch (r) {
	case -EAGAIN:
	case -ENOMEM:
	case -EBUSY:
		return refused(engine);
	case -ETIME:
	case -EINTR:
	case -EBADR:
		r = 0;
	}
	engine->n_refused = 0;
	return r < 0 ? r : 0;
}
