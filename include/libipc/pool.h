/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_POOL_H
#define LIBIPC_POOL_H

/*
 * Requests spread over many workers.
 *
 * A pool keeps a number of workers on a loop, and gives each request to the one that has the fewest
 * outstanding; at first one to each, until all are there or it has taken four times as long as it
 * did until the first one was (at least 0.1 s; at most 10 s are waited for the others). Requests
 * wait in a queue while all workers have enough; where the queue is full ipc_pool_call() answers
 * -EAGAIN, and writable() follows.
 *
 * Every request that was taken ends exactly once, by a call of its reply function with
 *
 *   0            and the reply
 *   -ETIMEDOUT   its time was over. A worker that has it may still be at it
 *   -ECANCELED   ipc_pool_cancel(), or a drain whose time was over, or ipc_pool_destroy()
 *   -EOWNERDEAD  its worker ended, or no worker can be started, and it may not be tried again
 *   -EBADMSG     the reply came without its descriptors
 *   or, where it had waited for a worker, why it cannot be sent: -EMSGSIZE or -E2BIG (more than the
 *   workers take), -EINVAL (a descriptor that the kernel does not pass), -EMFILE, -ENOMEM
 *
 * A worker is any program or function of worker.h that answers each request with
 * ipc_channel_reply(), in any order. It may answer one request with several replies: all but the
 * last have IPC_MESSAGE_MORE in their flags, and are given to the reply function with result
 * IPC_POOL_MORE. It may send messages of its own accord, which go to message().
 *
 * A worker gets no request before it has opened its end of the channel: a program that crashes at
 * its start costs none. A worker that ends is replaced; see .restart_min_ms. The requests that it
 * had end as by its death, be it killed, or exited, or has it closed its channel: one that wants to
 * end by itself, after so many requests for example, says so by ipc_pool_leave() first. A worker
 * that owes the answer to a request that has timed out gets nothing new until it has given it; the
 * answer is dropped.
 *
 * No worker keeps its place for ever. It is killed
 *
 *   when it is silent for .hung_ms, see there
 *   .stop_ms after its channel was closed, by either side. The pool closes it once nobody waits for
 *   an answer of a worker that shall go, by a resize or because it leaves
 *
 * One that has not died IPC_WORKER_KILL_MS after SIGKILL, in an uninterruptible sleep for example,
 * is given up: its requests end, ended() is told, and another is started in its place. Its process
 * is reaped when it dies while the pool is there; later that is its parent's affair. While as many
 * as the pool shall have workers were given up and live, no more are: such a place stays
 * IPC_POOL_ENDING until its worker is dead.
 *
 * A request that may be tried again, see .attempts, is then alone with its worker: one that kills
 * every worker it meets fails by itself, and those that were beside it the first time do not. Once
 * a part of its answer was given out it is not tried again. Its descriptors are duplicates: files
 * have the offsets that the worker which died has left them with.
 *
 * Functions of the user are called from the loop's turns, never from within ipc_pool_call(). Two
 * exceptions: ipc_pool_cancel() calls the reply function of its request, and ipc_pool_destroy()
 * those of all that are left. They may do anything with any object, destroy the pool included.
 * Each has to return: one that is left by longjmp(3), a C++ exception or the end of its thread
 * fails an assertion when the pool is called back next.
 *
 * Results are those of channel.h. Programmer's errors are asserted.
 *
 * Threads: a pool belongs to its loop's thread, which must stay one that lives: workers with
 * .parent_death_signal die with it. Fork: a pool belongs to the process that made it. In a child
 * each function that returns an int answers -ECHILD; destroy frees the copy, calls nobody and
 * leaves the workers alone.
 *
 * Trust: a worker may be hostile. What it can do to the pool is to fail the requests that it
 * has: it cannot answer those of others, and breaks its own channel at most. Nor can it answer what
 * it has not read: ids on the wire are random (39 bits by getrandom(2); where that is refused they
 * are made of the clock, and a worker might guess). A function has a copy of its parent's memory
 * from when it was started, and in it the ids of requests that were there.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <libipc/channel.h>
#include <libipc/loop.h>
#include <libipc/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* A pool. Each worker holds two descriptors, and what a channel in a loop does. A request that is
   outstanding takes about 150 bytes, and one that waits, or may be tried again, a copy of its
   payload and duplicates of its descriptors. */
struct ipc_pool;

/* The defaults and ranges of options; outside of them a pool is refused with -EINVAL. */
#define IPC_POOL_WORKERS_LIMIT          1024U
#define IPC_POOL_DEPTH_DEFAULT          16U
#define IPC_POOL_DEPTH_LIMIT            4096U
#define IPC_POOL_QUEUE_MAX_DEFAULT      1024U
#define IPC_POOL_QUEUE_MAX_LIMIT        (1U << 20)
#define IPC_POOL_KEPT_BYTES_MAX_DEFAULT (64U << 20)
#define IPC_POOL_KEPT_FDS_MAX_DEFAULT   256U
#define IPC_POOL_ATTEMPTS_LIMIT         1000U
#define IPC_POOL_RESTART_MIN_MS_DEFAULT 10
#define IPC_POOL_RESTART_MAX_MS_DEFAULT 10000
#define IPC_POOL_STARTS_MAX_DEFAULT     8U
#define IPC_POOL_STOP_MS_DEFAULT        1000

/* A reply, and more follow. */
#define IPC_POOL_MORE 1

/* Once for each request: result 0 with the reply, or -ETIMEDOUT, -ECANCELED, -EOWNERDEAD, ... and
   NULL. Before that any number of times IPC_POOL_MORE with a reply. The reply is a view until this
   returns; its id is the request's. */
typedef void ipc_reply_fn(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user);

/* What is told of a pool. Any may be NULL. The workers are the pool's: send to their channels, and
   kill them; nothing else. */
struct ipc_pool_handler {
	/* There is room again after -EAGAIN: the queue is half empty. */
	void (*writable)(struct ipc_pool *pool, void *user);
	/* A message that is no reply: a view, until this returns. Answer it, if it is a request, by
	   ipc_channel_reply() on the worker's channel. */
	void (*message)(struct ipc_pool *pool, struct ipc_worker *worker,
		struct ipc_message *message, void *user);
	/* A worker has opened its end. What is sent to it now comes before any request. */
	void (*started)(struct ipc_pool *pool, struct ipc_worker *worker, void *user);
	/* A worker has ended, and all its requests have, or wait again. It is freed afterwards. One
	   that was given up is told with status -1, and its requests end after this. */
	void (*ended)(struct ipc_pool *pool, struct ipc_worker *worker,
		const struct ipc_worker_end *end, void *user);
	/* A drain has ended: 0, or -ETIMEDOUT if requests were cancelled, or a worker was given
	   up. The pool can be destroyed; nothing else is left to do with it. */
	void (*drained)(struct ipc_pool *pool, int result, void *user);
};

/* Set size to sizeof(struct ipc_pool_options). Zero in any other field means the default; all that
   it points to is borrowed but for what a comment says. */
struct ipc_pool_options {
	size_t size;
	const struct ipc_worker_options
		*worker;        /* what each worker is; needed. Holds all that it points
	                           to until the pool is destroyed: workers that end
	                           are replaced by it. The struct itself is copied */
	unsigned int workers;   /* default: the CPUs that this process may use */
	unsigned int depth;     /* requests outstanding at one worker; those beyond the first wait
	                           in its socket, and travel together */
	unsigned int queue_max; /* waiting requests, beyond the depth of workers that are being
	                           started; above it -EAGAIN */
	unsigned int attempts;  /* default 1: a request whose worker died is not tried again */

	size_t kept_bytes_max;     /* payloads of requests that wait or may be tried again; above it
	                              -EAGAIN. One that is alone is kept whatever its size */
	unsigned int kept_fds_max; /* descriptors of those, likewise */

	int hung_ms; /* a worker that has requests, or has not opened its end, and has sent nothing
	                for so long is killed, within a quarter of that; 0: never. So is one whose
	                channel is full and has no room for so long, if it answers no request
	                meanwhile, and one that has requests all of which have ended, may get no
	                other, and answers none for so long, whatever else it sends. Answers
	                that nobody has asked it for do not count. Its requests end as by any
	                death. Time in which the loop is not turned does not count */

	/* The next start of a worker is this long after its last one; twice that if it had died
	   without ending a request, four times if twice ... So one that has lived for a while is
	   replaced at once. */
	int restart_min_ms;
	int restart_max_ms;
	/* When no worker is left and each has failed to start so many times in a row, those that
	   wait end with -EOWNERDEAD, and calls are answered that, until a start succeeds. */
	unsigned int starts_max;

	int stop_ms; /* a worker whose channel was closed, by either side, is killed after it */
	int tell;    /* not 0: a worker is told of a request that has timed out or was cancelled,
	                by an empty message with its id and IPC_MESSAGE_CANCEL, unless its channel
	                is full. It still owes an answer */

	struct ipc_pool_handler handler; /* copied */
	void *user;
};

/*
 * Make a pool of workers that are being started. It is yours: free it with ipc_pool_destroy(),
 * before the loop.
 *
 * Return: 0, or -EINVAL (an option is out of its range), -ECHILD, -ENOMEM, and as
 * ipc_worker_spawn() and ipc_worker_attach() of the first that fails; then no worker is left.
 */
int ipc_pool_create(
	struct ipc_pool **ret, struct ipc_loop *loop, const struct ipc_pool_options *options);

/*
 * Take a request: as soon as it can be, it is given to a worker. reply is called once it has
 * ended, see above. Borrows the message; its id is for the caller: the reply shows it again.
 *
 * timeout_ms counts from now to the end, time in the queue included; -1 is no limit. Never waits.
 *
 * Return: 0, or nothing was taken:
 *   -EAGAIN      the queue is full, or may not keep that much; writable() follows
 *   -EMSGSIZE, -E2BIG, -EBADF, -EINVAL, -EMFILE, -ENOMEM
 *                as ipc_channel_post(): nobody would take the message. An attempt that waits may
 *                learn that later
 *   -EOWNERDEAD  workers cannot be started, see .starts_max
 *   -ESHUTDOWN   the pool is drained
 *   -ECHILD
 */
int ipc_pool_call(struct ipc_pool *pool, const struct ipc_message *request, ipc_reply_fn *reply,
	void *user, int timeout_ms);

/* Set size to sizeof(struct ipc_call_options). Zero in any other field means the default. */
struct ipc_call_options {
	size_t size;
	unsigned int attempts; /* of this request; 0: the pool's */
	uint64_t *ret_request; /* gives the request's name, for ipc_pool_cancel(); may be NULL */
};

/* ipc_pool_call() with options; NULL: none. Return: the same, or -EINVAL. */
int ipc_pool_call_with(struct ipc_pool *pool, const struct ipc_message *request,
	ipc_reply_fn *reply, void *user, int timeout_ms, const struct ipc_call_options *options);

/*
 * End a request: its reply function is called with -ECANCELED before this returns.
 *
 * Return: 0, or -ENOENT (it has ended), -ECHILD.
 */
int ipc_pool_cancel(struct ipc_pool *pool, uint64_t request);

/*
 * Have another number of workers, from 1 on. New ones are started at once. Those that are too many
 * get no more requests, are closed when those that they have are answered or have ended, and end by
 * themselves or after .stop_ms.
 *
 * Return: 0, or -EINVAL (out of range), -ESHUTDOWN, -ECHILD, -ENOMEM. A worker that cannot be
 * started is tried again as after a death.
 */
int ipc_pool_resize(struct ipc_pool *pool, unsigned int workers);

/*
 * Finish: takes no more requests, has those that it has answered, and stops the workers. Requests
 * that have not ended in timeout_ms end with -ECANCELED, and their workers are killed.
 *
 * Turns the loop until all that is done, handlers of others included. From within a callback of the
 * loop it only begins: then, as always, drained() tells the end. When all requests have ended that
 * is at most .stop_ms and IPC_WORKER_KILL_MS away: a worker that does not die of SIGKILL is given
 * up.
 *
 * ipc_loop_stop() ends the wait, not the drain. Somebody who has it called by a signal handler, to
 * leave ipc_loop_run() and drain, has a second signal end that: then ipc_pool_destroy() kills what
 * is left, and ipc_pool_drain() again goes on. Called again, it can only shorten the time.
 *
 * Return: 0 (ended, or begun), or
 *   -ETIMEDOUT  requests were cancelled, or a worker was given up
 *   -EINTR      ipc_loop_stop() was called; the drain goes on with the loop's turns
 *   -EALREADY   it was begun before, and not interrupted; its time is now the shorter of both
 *   -ECHILD, and what ipc_loop_turn() says; the drain goes on with the loop's turns
 */
int ipc_pool_drain(struct ipc_pool *pool, int timeout_ms);

/*
 * In a worker: say that it leaves. It gets no more requests, and should go on to receive and to
 * answer what it has got until its channel ends (-EPIPE), then exit: so nothing is lost. Another is
 * started in its place once it is dead. Whether that is at once says .restart_min_ms: this is no
 * failure for one that has answered a request.
 *
 * The channel is the worker's end. Sends an empty message with IPC_MESSAGE_CANCEL and id 0, as any
 * worker may that does not use this library. What was gathered before goes first.
 *
 * Return: as ipc_channel_send().
 */
int ipc_pool_leave(struct ipc_channel *channel, int timeout_ms);

/*
 * Free a pool. Requests that are left end with -ECANCELED before this returns; workers that are
 * left are killed, all of them first, then waited for, IPC_WORKER_KILL_MS in all at most. A process
 * that has not died by then is left, to be reaped by its parent. To be kind to both, drain first.
 * NULL is fine.
 *
 * Return: NULL.
 */
struct ipc_pool *ipc_pool_destroy(struct ipc_pool *pool);

/* Times in nanoseconds of requests that ended with a reply, from the call to the end, as far as
   they were timed: all of them while few are outstanding, else one in 13. Within 1/128 of the
   truth. */
struct ipc_pool_latency {
	uint64_t count;
	uint64_t p50_ns, p90_ns, p99_ns, p999_ns; /* 0: too few to say */
	uint64_t max_ns;
};

struct ipc_pool_stats {
	size_t size; /* sizeof(struct ipc_pool_stats); set it before the call */

	unsigned int workers; /* that the pool shall have */
	unsigned int ready;   /* that may be given requests, or have as many as they may */
	uint64_t outstanding; /* requests at workers that have not ended */
	uint64_t queued;      /* that wait */
	uint64_t owed;        /* that have ended, and a worker still owes the answer */

	/* How requests ended. Their sum, with outstanding and queued, is that of calls. */
	uint64_t calls;     /* taken */
	uint64_t completed; /* with a reply */
	uint64_t timed_out;
	uint64_t cancelled;
	uint64_t died;   /* -EOWNERDEAD */
	uint64_t failed; /* any other error */

	uint64_t retries;  /* requests that were given to another worker after a death */
	uint64_t refused;  /* calls answered -EAGAIN */
	uint64_t starts;   /* workers started */
	uint64_t restarts; /* of those, in place of one that had ended */
	uint64_t hung;   /* workers killed for their silence, or since their channels had no room */
	uint64_t strays; /* answers that nobody had asked for, or too late; dropped */

	struct ipc_pool_latency latency;

	uint64_t left;     /* workers that said that they leave */
	uint64_t given_up; /* workers that did not die of SIGKILL in IPC_WORKER_KILL_MS */
};

/* Read the counters. Writes no more than ret_stats->size bytes, with 0 nothing. */
void ipc_pool_stats(const struct ipc_pool *pool, struct ipc_pool_stats *ret_stats);

enum ipc_pool_state {
	IPC_POOL_WAITING,  /* to be started: it has died, or could not be */
	IPC_POOL_STARTING, /* has not opened its end */
	IPC_POOL_READY,
	IPC_POOL_STOPPING, /* gets nothing new, and is closed when what it has was answered or has
	                      ended */
	IPC_POOL_ENDING,   /* closed or killed; not dead yet */
};

struct ipc_pool_worker_stats {
	size_t size; /* sizeof(struct ipc_pool_worker_stats); set it before the call */
	enum ipc_pool_state state;
	pid_t pid;                /* -1 while there is no process */
	unsigned int outstanding; /* requests, those included whose answers are owed */
	unsigned int owed;
	uint64_t completed;    /* by this process */
	uint64_t starts;       /* of this place, ever */
	unsigned int failures; /* in a row: deaths without an ended request */
};

/*
 * Ask for one worker; index is from 0 to the number of places, which is that of workers, and of
 * those that are leaving after a resize.
 *
 * Return: 0, or -ENOENT (no such place). Writes no more than ret_stats->size bytes.
 */
int ipc_pool_worker_stats(
	const struct ipc_pool *pool, unsigned int index, struct ipc_pool_worker_stats *ret_stats);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
