/* SPDX-License-Identifier: MIT */

/* A worker's life: begun, waited for, ended, and seen to die in a loop. */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libipc/worker.h>

#include "channel.h"
#include "loop.h"
#include "probes.h"
#include "spawn.h"
#include "sys.h"
#include "wait.h"
#include "worker_internal.h"

/* Where nothing tells of a worker's end: look again after this time. */
#define NAP_MS 1
/* In a loop, where that goes on: after twice the time each time, up to this. */
#define NAP_MS_MAX 100
/* And after this its end is told without how it was. */
#define TRACED_MS 1000
#define NS_PER_MS 1000000

struct ipc_worker {
	pid_t owner; /* the process that spawned it */
	pid_t pid;
	int pidfd;
	bool kills_group;
	struct ipc_channel *channel; /* NULL once stopped */
	bool ended;                  /* and reaped: end is known */
	struct ipc_worker_end end;

	struct ipc_loop *loop; /* NULL: detached */
	struct ipc_watch *watch;
	struct ipc_worker_handler handler;
	void *user;
	struct ipc_timer *again; /* of the loop: when to look at a dead worker again */
	int nap_ms;
	int64_t dead_ns; /* when its death was seen first; 0 before */
	bool unseen;     /* died() was told, and nobody has said how it ended */
	bool draining;   /* dead; its channel was taken back and its last messages are given out */
	bool *taken;     /* of a callback under way: set when the worker is detached */
};

static bool
is_ours(const struct ipc_worker *worker)
{
	return worker->owner == getpid();
}

static int
open_channel(struct ipc_worker *worker, int *fd, const struct ipc_channel_options *options)
{
	int r = ipci_channel_open_ours(&worker->channel, *fd, options);

	if (r == 0)
		*fd = -1;
	return r;
}

static int
start_sharing(struct ipc_worker *worker, const struct ipc_worker_options *options, int ends[2])
{
	struct ipci_spawned spawned;
	int r = open_channel(worker, &ends[0], options->channel);

	if (r == 0)
		r = ipci_spawn_program(options, ends[1], &spawned);
	if (r < 0)
		return r;
	worker->pid = spawned.pid;
	worker->pidfd = spawned.pidfd;
	return 0;
}

/* The parent's end is opened when the child is there, which has no copy of it then. */
static int
start_copied(struct ipc_worker *worker, const struct ipc_worker_options *options, int ends[2])
{
	struct ipci_spawned spawned;
	int r = ipci_spawn_copied(options, ends, &spawned);

	if (r < 0)
		return r;
	r = open_channel(worker, &ends[0], options->channel);
	if (r == 0)
		r = ipci_spawn_confirm(&spawned);
	if (r < 0) {
		ipci_spawn_undo(&spawned);
		return r;
	}
	worker->pid = spawned.pid;
	worker->pidfd = spawned.pidfd;
	return 0;
}

static int
start(struct ipc_worker *worker, const struct ipc_worker_options *options)
{
	int ends[2], cancel_state, r;

	r = ipci_sys_socketpair(ends);
	if (r < 0)
		return r;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	if (ipci_spawn_shares(options))
		r = start_sharing(worker, options, ends);
	else
		r = start_copied(worker, options, ends);
	(void)pthread_setcancelstate(cancel_state, &cancel_state);
	ipci_fds_close_some(ends, 2);
	if (r < 0)
		worker->channel = ipc_channel_close(worker->channel);
	return r;
}

int
ipc_worker_spawn(struct ipc_worker **ret, const struct ipc_worker_options *options)
{
	struct ipc_worker_options resolved;
	struct ipc_worker *worker;
	int r;

	assert(ret);
	r = ipci_options_copy(&resolved, sizeof(resolved), options);
	if (r == 0)
		r = ipci_spawn_check(&resolved);
	if (r < 0)
		return r;
	worker = calloc(1, sizeof(*worker));
	if (!worker)
		return -ENOMEM;
	worker->owner = getpid();
	worker->kills_group = resolved.kill_group;
	r = start(worker, &resolved);
	if (r < 0) {
		free(worker);
		return r;
	}
	IPCI_PROBE1(worker__started, worker->pid);
	*ret = worker;
	return 0;
}

struct ipc_channel *
ipc_worker_channel(struct ipc_worker *worker)
{
	assert(worker);
	return worker->channel;
}

pid_t
ipc_worker_pid(const struct ipc_worker *worker)
{
	assert(worker);
	return worker->pid;
}

int
ipc_worker_pidfd(const struct ipc_worker *worker)
{
	assert(worker);
	return worker->pidfd;
}

/* Return: 0, or what ipci_sys_pidfd_kill() says. */
static int
send_signal(struct ipc_worker *worker, int signal)
{
	/* The worker itself may have left the group. */
	if (signal == SIGKILL && worker->kills_group)
		(void)ipci_sys_kill_group(worker->pidfd, worker->pid, signal);
	return ipci_sys_pidfd_kill(worker->pidfd, signal);
}

/* Those that a dead worker has left go with it. Until it is reaped its id is no other group's. */
static void
kill_left(struct ipc_worker *worker)
{
	if (worker->kills_group && ipci_sys_has_ended(worker->pidfd))
		(void)ipci_sys_kill_group(worker->pidfd, worker->pid, SIGKILL);
}

/* Have its end known. Return: 0, or -EAGAIN: it lives, or a tracer has it still. */
static int
reap(struct ipc_worker *worker)
{
	struct ipci_sys_end end = {.status = -1};
	int r;

	if (worker->ended)
		return 0;
	kill_left(worker);
	r = ipci_sys_reap(worker->pidfd, &end);
	if (r < 0 && r != -ECHILD)
		return r;
	worker->ended = true;
	worker->end = (struct ipc_worker_end){
		.size = sizeof(worker->end),
		.status = end.status,
		.user_us = end.user_us,
		.system_us = end.system_us,
		.max_rss_kib = end.max_rss_kib,
	};
	IPCI_PROBE2(worker__ended, worker->pid, end.status);
	return 0;
}

static int
await_end(struct ipc_worker *worker, int timeout_ms)
{
	struct ipci_deadline deadline = ipci_deadline(timeout_ms);
	int64_t now_ns;
	int left_ms, r;

	for (;;) {
		r = reap(worker);
		if (r != -EAGAIN)
			return r;
		now_ns = ipci_sys_now_ns();
		ipci_deadline_start(&deadline, now_ns);
		left_ms = ipci_deadline_left_ms(&deadline, now_ns);
		if (!left_ms)
			return ipci_deadline_error(&deadline);
		r = ipci_sys_poll(worker->pidfd, POLLIN, left_ms);
		/* Nothing tells of it where there is no memory for a poll, nor where it has ended
		   but a tracer is told first. */
		if ((r < 0 && r != -EINTR) || (r > 0 && reap(worker) == -EAGAIN))
			(void)ipci_sys_poll(-1, 0, NAP_MS);
	}
}

int
ipc_worker_wait(struct ipc_worker *worker, int timeout_ms, struct ipc_worker_end *ret_end)
{
	struct ipc_worker_end end;
	int r;

	assert(worker);
	if (!is_ours(worker))
		return -ECHILD;
	r = await_end(worker, timeout_ms);
	if (r < 0 || !ret_end)
		return r;
	end = worker->end;
	end.size = IPCI_MIN(ret_end->size, sizeof(end));
	memcpy(ret_end, &end, end.size);
	return 0;
}

int
ipc_worker_kill(struct ipc_worker *worker, int signal)
{
	assert(worker);
	if (!is_ours(worker))
		return -ECHILD;
	return worker->ended ? -ESRCH : send_signal(worker, signal);
}

/* The loop has nothing more to do with the worker. */
static void
leave_loop(struct ipc_worker *worker)
{
	worker->watch = ipc_watch_stop(worker->watch);
	worker->again = ipc_timer_stop(worker->again);
	worker->loop = NULL;
	worker->draining = false;
	if (worker->taken)
		*worker->taken = true;
	worker->taken = NULL;
}

static void
close_channel(struct ipc_worker *worker)
{
	if (worker->loop)
		leave_loop(worker);
	if (is_ours(worker))
		worker->channel = ipci_channel_end(worker->channel);
	else
		worker->channel = ipc_channel_close(worker->channel);
}

static bool
is_late(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT;
}

static int
terminate(struct ipc_worker *worker, int grace_ms)
{
	(void)ipci_sys_pidfd_kill(worker->pidfd, SIGTERM);
	(void)ipci_sys_pidfd_kill(worker->pidfd, SIGCONT);
	return await_end(worker, grace_ms);
}

static int
kill_hard(struct ipc_worker *worker)
{
	int r = send_signal(worker, SIGKILL);

	/* Somebody else may have reaped it. */
	return r < 0 && r != -ESRCH ? r : await_end(worker, IPC_WORKER_KILL_MS);
}

int
ipc_worker_stop(struct ipc_worker *worker, int grace_ms, int *ret_status)
{
	int r;

	assert(worker);
	if (!is_ours(worker))
		return -ECHILD;
	if (grace_ms < 0)
		return -EINVAL;
	close_channel(worker);
	r = await_end(worker, grace_ms);
	if (is_late(r) && grace_ms)
		r = terminate(worker, grace_ms);
	if (is_late(r))
		r = kill_hard(worker);
	if (r == 0 && ret_status)
		*ret_status = worker->end.status;
	return r;
}

/* What it takes, and SIGKILL if it lives. Return: whether it can be waited for. */
static bool
begin_free(struct ipc_worker *worker)
{
	close_channel(worker);
	if (!is_ours(worker) || reap(worker) != -EAGAIN || worker->unseen)
		return false;
	(void)send_signal(worker, SIGKILL);
	return true;
}

static struct ipc_worker *
finish_free(struct ipc_worker *worker)
{
	(void)ipci_sys_close(worker->pidfd);
	free(worker);
	return NULL;
}

struct ipc_worker *
ipc_worker_free(struct ipc_worker *worker)
{
	if (!worker)
		return NULL;
	/* Waits also for one that may not be killed: it may follow its channel's end. */
	if (begin_free(worker))
		(void)await_end(worker, IPC_WORKER_KILL_MS);
	return finish_free(worker);
}

int
ipci_worker_reap(struct ipc_worker *worker)
{
	return is_ours(worker) ? reap(worker) : -ECHILD;
}

struct ipc_worker *
ipci_worker_free_now(struct ipc_worker *worker)
{
	if (!worker)
		return NULL;
	if (begin_free(worker))
		(void)reap(worker);
	return finish_free(worker);
}

/* After a callback: was the worker taken away, or is this the child of a fork within it? */
static bool
is_over(const struct ipc_worker *worker, const bool *taken)
{
	return *taken || !is_ours(worker);
}

/*
 * Take the channel back from the loop, and let nothing more come in: what the worker has sent is
 * here or in the socket, and a grandchild that holds its end could send for ever.
 * Return: 0, or -ENOENT: the loop has it no more, all was given out.
 */
static int
begin_drain(struct ipc_worker *worker)
{
	int r;

	if (worker->draining)
		return 0;
	r = ipc_loop_detach(worker->loop, worker->channel);
	if (r < 0)
		return r;
	(void)ipci_sys_shutdown(ipc_channel_fd(worker->channel));
	worker->draining = true;
	return 0;
}

/* Return: 1 if died() is next, 0, or -EAGAIN to try again after a while. */
static int
end_channel(struct ipc_worker *worker, int reason, const bool *taken)
{
	const struct ipc_channel_handler *handler = &worker->handler.channel;

	if (reason == -ENOMEM || reason == -ENOBUFS)
		return -EAGAIN;
	/* A callback has attached it elsewhere. */
	if (reason == -EBUSY || !handler->closed)
		return 1;
	worker->loop->stats.events++;
	handler->closed(worker->channel, reason == -EPIPE ? 0 : reason, worker->user);
	return !is_over(worker, taken);
}

/*
 * Give out what the worker left, a share at a time.
 * Return: 1 if died() is next, 0, or -EAGAIN to try again after a while.
 */
static int
give_last(struct ipc_worker *worker, const bool *taken)
{
	const struct ipc_channel_handler *handler = &worker->handler.channel;
	struct ipc_message message;
	unsigned int share;
	int r;

	r = begin_drain(worker);
	if (r < 0)
		return r == -ENOENT ? 1 : -EAGAIN;
	for (share = IPC_LOOP_SHARE; share; share--) {
		r = ipc_channel_recv(worker->channel, &message, 0);
		/* Of a large message's parts only some are taken at a time. */
		if (r == -EAGAIN)
			continue;
		if (r < 0 && r != -EBADMSG)
			return end_channel(worker, r, taken);
		worker->loop->stats.events++;
		if (r == 0)
			handler->message(worker->channel, &message, worker->user);
		else if (handler->lost)
			handler->lost(worker->channel, &message, worker->user);
		if (is_over(worker, taken))
			return 0;
	}
	return 0;
}

static void
report_death(struct ipc_worker *worker)
{
	void (*died)(struct ipc_worker *, const struct ipc_worker_end *, void *);
	struct ipc_worker_end end = worker->end;

	if (!worker->ended) {
		worker->unseen = true;
		end = (struct ipc_worker_end){.size = sizeof(end), .status = -1};
	}
	died = worker->handler.died;
	worker->loop->stats.events++;
	leave_loop(worker);
	if (died)
		died(worker, &end, worker->user);
}

static void
look_again(struct ipc_worker *worker, int64_t now_ns)
{
	worker->nap_ms = worker->nap_ms ? IPCI_MIN(2 * worker->nap_ms, NAP_MS_MAX) : NAP_MS;
	ipci_timer_set(worker->again, now_ns + (int64_t)worker->nap_ms * NS_PER_MS);
}

/* Nobody may say how it ended: a tracer that does not wait for it can keep that to itself. */
static bool
is_end_known(struct ipc_worker *worker, int64_t now_ns)
{
	return reap(worker) == 0 || now_ns - worker->dead_ns >= (int64_t)TRACED_MS * NS_PER_MS;
}

/* Callbacks of a worker: none may come back. */
struct callbacks {
	struct ipc_worker *worker;
	bool taken;
};

static void
callbacks_left(void *arg)
{
	const struct callbacks *callbacks = arg;
	struct ipc_worker *worker = callbacks->worker;

	if (callbacks->taken || worker->taken != &callbacks->taken)
		return;
	worker->taken = NULL;
	/* The rest comes in another turn. */
	if (is_ours(worker))
		ipci_timer_set(worker->again, ipci_sys_now_ns());
}

/* As give_last(), whose callbacks may be left by the end of their thread. */
static int
give_last_or_leave(struct callbacks *callbacks)
{
	int r;

	pthread_cleanup_push(callbacks_left, callbacks);
	r = give_last(callbacks->worker, &callbacks->taken);
	pthread_cleanup_pop(0);
	return r;
}

static void
see_death(struct ipc_worker *worker)
{
	struct callbacks callbacks = {.worker = worker};
	int64_t now_ns = ipci_sys_now_ns();
	int r;

	if (!worker->dead_ns)
		worker->dead_ns = now_ns;
	if (!is_end_known(worker, now_ns)) {
		look_again(worker, now_ns);
		return;
	}
	worker->taken = &callbacks.taken;
	r = give_last_or_leave(&callbacks);
	if (is_over(worker, &callbacks.taken))
		return;
	worker->taken = NULL;
	if (r > 0)
		report_death(worker);
	else if (r < 0)
		look_again(worker, now_ns);
	else
		ipci_timer_set(worker->again, now_ns);
}

/* The pidfd is readable, and stays so: from now on the timer says when to look. */
static void
on_death(struct ipc_watch *watch, unsigned int events, void *user)
{
	(void)events;
	ipci_watch_mask(watch);
	see_death(user);
}

static void
on_again(struct ipc_timer *timer, void *user)
{
	(void)timer;
	see_death(user);
}

/* The loop is being destroyed, and frees the watch. */
static void
on_loop_gone(void *user)
{
	struct ipc_worker *worker = user;

	worker->watch = NULL;
	leave_loop(worker);
}

int
ipc_worker_attach(struct ipc_loop *loop, struct ipc_worker *worker,
	const struct ipc_worker_handler *handler, void *user)
{
	int r;

	assert(loop);
	assert(worker);
	assert(handler && handler->channel.message);
	if (!is_ours(worker))
		return -ECHILD;
	if (worker->loop)
		return -EBUSY;
	if (!worker->channel)
		return -EPIPE;
	r = ipci_timer_create(&worker->again, loop, on_again, worker);
	if (r < 0)
		return r;
	r = ipc_watch_start(&worker->watch, loop, worker->pidfd, POLLIN, on_death, worker);
	if (r == 0)
		r = ipc_loop_attach(loop, worker->channel, &handler->channel, user);
	if (r < 0) {
		worker->watch = ipc_watch_stop(worker->watch);
		worker->again = ipc_timer_stop(worker->again);
		return r;
	}
	worker->watch->gone = on_loop_gone;
	worker->watch->silent = true;
	worker->dead_ns = 0;
	worker->nap_ms = 0;
	worker->loop = loop;
	worker->handler = *handler;
	worker->user = user;
	return 0;
}

int
ipc_worker_detach(struct ipc_loop *loop, struct ipc_worker *worker)
{
	int r;

	assert(loop);
	assert(worker);
	if (worker->loop != loop)
		return -ENOENT;
	r = ipc_loop_detach(loop, worker->channel);
	/* The channel may have ended before. */
	if (r < 0 && r != -ENOENT)
		return r;
	leave_loop(worker);
	return 0;
}
