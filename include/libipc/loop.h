/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_LOOP_H
#define LIBIPC_LOOP_H

/*
 * Many channels at once, with timers and other descriptors, in one thread.
 *
 * A loop drives any number of channels on one of two engines that mean the same, message
 * for message: io_uring, where one system call carries the records of all channels, both
 * ways; or epoll, with a system call for each record. ipc_loop_turn() takes in what came, calls
 * the handlers, and sends what they gathered.
 *
 * An attached channel never waits, and timeout_ms of its calls is not looked at:
 *
 *   post, send, reply  gather, and the end of the turn sends. Over the limits of what may
 *                      be outstanding they answer -EAGAIN, and writable follows. A descriptor's
 *                      duplicate, and a copy of the payload, are held until the kernel has them.
 *                      Their other results are those of an unattached channel, and only they
 *                      say that a message was not taken
 *   flush              0 when the kernel has everything, else -EAGAIN, and writable follows
 *                      when it has
 *   recv, call         -EBUSY: messages go to the handler
 *   close              detaches first; closed() is not called
 *
 * A callback may do anything with any object: send, attach, detach, close, start and stop timers
 * and watches, destroy the loop. It is never called from within another one, and only from
 * ipc_loop_turn() and ipc_loop_run(), which it must not call (-EBUSY).
 *
 * Fairness: messages are given out in rounds over all channels that have some, and what has come
 * meanwhile has its part in the next round. A round gives out IPC_LOOP_TURN messages, each of n
 * channels its n-th part of them: IPC_LOOP_SHARE at most, and one, or 253 where it takes
 * descriptors, at least. So does a turn, which may have many rounds. A message waits for two rounds
 * at most, on io_uring for three, whatever others send.
 *
 * Order: what has arrived comes before what is overdue. Where a timer is due all is given out first
 * that had arrived by then: 1024 packets of each channel, and a million messages of all, at most.
 *
 * Results are those of channel.h. Programmer's errors are asserted.
 *
 * Threads: a loop and all that is attached to it belong to one thread at a time, which may
 * change between turns; ipc_loop_stop() may come from any. On io_uring a change costs a new ring;
 * after ipc_loop_fd() a new beginning of all that is under way, for which the thread before must be
 * gone, or not asleep where no signal wakes it (in vfork(2), for example).
 *
 * Trust: a peer can break its own channel and nothing else. Of a channel that takes descriptors one
 * packet at a time is received, with 253 of them at most, before its messages are given out; and of
 * all channels together no more than a quarter of RLIMIT_NOFILE's soft limit is here, and one
 * packet's, and on io_uring as many again on their way. The limit may change. A large message whose
 * rest does not come may lose its descriptors to those that wait, the channel that has the most
 * first: lost() tells.
 *
 * Fork: a loop belongs to the process that made it. In a child each function answers -ECHILD,
 * but destroy, which frees the copy, and close and detach, which free their part. Before that, or
 * execve(2), a child holds descriptors of the loop: it should destroy its copy or close everything
 * that it does not use. In the child of a fork within message() the message can be read, and its
 * descriptors taken, until that copy is destroyed or its channel closed.
 *
 * A callback that never returns: when its thread ends in it, by pthread_exit(3) or
 * pthread_cancel(3), the turn is over as if it had returned, and the loop goes on, in another
 * thread as the case may be. By longjmp(3) or a C++ exception it may not be left: the next turn
 * asserts that, where it can be seen.
 */

#include <stddef.h>
#include <stdint.h>

#include <libipc/channel.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/*
 * A loop. On io_uring it holds about 100 KiB of kernel memory, which counts against
 * RLIMIT_MEMLOCK, and .buffers buffers of 200 KiB address space each, of which what was used is
 * resident; on epoll next to nothing.
 *
 * An attached channel adds 3 KiB to its own state; while it sends, a second packet of record_max,
 * and as many more as .out_bytes_max allows while its socket is full. Of packets that are
 * sent the loop keeps up to 16 for the next ones, a small one for each channel, and one large
 * message of up to 1 MiB. So 64 idle channels are far below 8 MiB: 64 pairs take about 1 MiB, both
 * ends, a loop 0.2 MiB, and their first messages 0.6 MiB more.
 */
struct ipc_loop;

enum ipc_engine {
	IPC_ENGINE_AUTO, /* io_uring, if a round trip proves that each way to receive works; else
	                    epoll */
	IPC_ENGINE_URING,
	IPC_ENGINE_EPOLL
};

/* Messages that one channel is given while others wait, and that one round or turn gives out. */
#define IPC_LOOP_SHARE 1024U
#define IPC_LOOP_TURN  16384U

/* The defaults and ranges of options; outside of them a loop is refused with -EINVAL. */
#define IPC_LOOP_OUT_BYTES_MAX_DEFAULT    (512U << 10)
#define IPC_LOOP_OUT_MESSAGES_MAX_DEFAULT 65536U
#define IPC_LOOP_OUT_FDS_MAX_DEFAULT      256U
#define IPC_LOOP_BUFFERS_DEFAULT          128U
#define IPC_LOOP_BUFFERS_MIN              8U
#define IPC_LOOP_BUFFERS_LIMIT            32768U /* of the kernel: a ring of provided buffers */

/* Set size to sizeof(struct ipc_loop_options). Zero in any other field, and NULL for the
   whole, mean the defaults. */
struct ipc_loop_options {
	size_t size;
	/* LIBIPC_ENGINE=uring|epoll in the environment overrides it, where secure_getenv(3) finds
	   that; with epoll, io_uring is not even tried (some sandboxes kill who does). */
	enum ipc_engine engine;
	int32_t spin_us; /* as of a channel: 0 the loop learns, -1 never, n up to n us */

	/* What a channel may have outstanding: taken from the caller, and not yet by the kernel.
	   Above any of them -EAGAIN; below half of all of them writable(). A channel with nothing
	   outstanding takes any message. */
	size_t out_bytes_max;
	uint32_t out_messages_max;
	uint32_t out_fds_max;

	uint32_t buffers; /* io_uring: packets of all channels that can be here at once and not
	                     given out; a power of two. More wait in their sockets */
};

/* What a channel's events are given to. The struct is copied. */
struct ipc_channel_handler {
	/* A message: a view, as from ipc_channel_recv(), until this returns. */
	void (*message)(struct ipc_channel *channel, struct ipc_message *message, void *user);
	/* There is room again after -EAGAIN; after that of a flush, the kernel has everything. May
	   be NULL; the turn ends all the same. */
	void (*writable)(struct ipc_channel *channel, void *user);
	/* Once, last: the peer closed, reason 0, or what broke the channel: -EPROTO ... Before
	   Linux 6.2 also -ECONNRESET: it closed, and what it sent last may be lost. Everything that
	   arrived was given out. The channel is detached, and yours to close. May be NULL. */
	void (*closed)(struct ipc_channel *channel, int reason, void *user);
	/* A message came without its descriptors (-EBADMSG): it has type, flags and id only, so
	   that a request can be answered. May be NULL. */
	void (*lost)(struct ipc_channel *channel, const struct ipc_message *head, void *user);
};

/*
 * Make a loop. It is yours: free it with ipc_loop_destroy().
 *
 * Return: 0, or
 *   -EINVAL  an option is out of its range, or LIBIPC_ENGINE is neither uring nor epoll
 *   -EMFILE, -ENFILE, -ENOMEM
 *   and, where io_uring was demanded, what the kernel says: -EPERM, -ENOSYS ...
 */
int ipc_loop_create(struct ipc_loop **ret, const struct ipc_loop_options *options);

/*
 * Free a loop with its timers and watches. Detaches every channel: each is then used
 * directly, with all that arrived and was not given out; none is lost. closed() is not called.
 * NULL is fine. From within a callback the turn ends when that returns.
 *
 * Return: NULL.
 */
struct ipc_loop *ipc_loop_destroy(struct ipc_loop *loop);

/* "io_uring" or "epoll"; static. */
const char *ipc_loop_engine(const struct ipc_loop *loop);

/* Why this engine, in words; lives as long as the loop. For example
   "io_uring_setup: Operation not permitted (seccomp or kernel.io_uring_disabled)". */
const char *ipc_loop_engine_reason(const struct ipc_loop *loop);

/*
 * Let the loop drive a channel: from the next turn on its messages go to the handler, those
 * first that had arrived before. Holds the channel until it is detached or closed.
 *
 * A channel that has ended is attached as well; closed() follows.
 *
 * Return: 0, or -EBUSY (attached already), -EEXIST (this loop watches its socket), -ENOMEM,
 * -ENOSPC, -ECHILD.
 */
int ipc_loop_attach(struct ipc_loop *loop, struct ipc_channel *channel,
	const struct ipc_channel_handler *handler, void *user);

/*
 * Take a channel back. What arrived and was not given out stays in it, for ipc_channel_recv(); what
 * was gathered stays gathered. Within its message() the message's view lasts until that returns.
 *
 * Return: 0, or -ENOENT (not attached to this loop), -ENOMEM (what arrived cannot be kept; still
 * attached).
 */
int ipc_loop_detach(struct ipc_loop *loop, struct ipc_channel *channel);

/*
 * One turn: take in what came, waiting up to timeout_ms for something to come; call the handlers;
 * send what was gathered, here or before, with one submit for all.
 *
 * Waits first by spinning, as long as the loop has learned that it pays.
 *
 * Return: the callbacks made, 0 after timeout_ms or a stop; or -EBUSY (within a callback), -ECHILD,
 * -ENOMEM, and on io_uring, when another thread has the loop and a new ring cannot be had, -EMFILE,
 * -ENFILE.
 */
int ipc_loop_turn(struct ipc_loop *loop, int timeout_ms);

/* Turns until ipc_loop_stop(), or until a callback destroys the loop. Return: 0, or -errno as a
 * turn. */
int ipc_loop_run(struct ipc_loop *loop);

/* End ipc_loop_run(), now or when it is called next, or a turn's wait, or that of ipc_pool_drain():
   the first of them. From any thread or a signal handler. */
void ipc_loop_stop(struct ipc_loop *loop);

/*
 * A descriptor for poll(2) and other event loops: readable when, and only when, a turn has
 * work, after each call that is made outside of a turn, too. Call ipc_loop_turn(loop, 0) then. Work
 * without a callback is what was sent outside of a turn, a channel that was attached there, a
 * part of a large message, a call to stop. The loop keeps it.
 *
 * Return: the descriptor, or -EMFILE, -ENFILE, -ENOMEM, -ECHILD.
 */
int ipc_loop_fd(struct ipc_loop *loop);

/*
 * Timers. Times are in milliseconds, by CLOCK_MONOTONIC; a timer is never early, and comes after
 * what has arrived (Order, above).
 */
struct ipc_timer;
typedef void ipc_timer_fn(struct ipc_timer *timer, void *user);

/*
 * Call fn once delay_ms from now, and, if period_ms is not 0, every period_ms from then on; periods
 * that were missed are skipped, not made up for. The loop owns the timer: a one-shot one is freed
 * after its callback. ret may be NULL.
 *
 * Return: 0, or -EINVAL (negative), -ENOMEM, -ECHILD.
 */
int ipc_timer_start(struct ipc_timer **ret, struct ipc_loop *loop, int delay_ms, int period_ms,
	ipc_timer_fn *fn, void *user);

/* Free a timer that is still to come, or within its callback. NULL is fine. Return: NULL. */
struct ipc_timer *ipc_timer_stop(struct ipc_timer *timer);

/*
 * Watches: descriptors that are no channels. A pidfd is readable (POLLIN) once its process has
 * ended.
 */
struct ipc_watch;
typedef void ipc_watch_fn(struct ipc_watch *watch, unsigned int events, void *user);

/*
 * Call fn in every turn in which fd has one of events (POLLIN, POLLOUT, POLLPRI, POLLRDHUP of
 * poll(2)), POLLERR or POLLHUP: it goes on until the event is dealt with or the watch stopped.
 * Borrows the descriptor until then: stop the watch before you close it. The loop owns the watch.
 *
 * Return: 0, or -EINVAL (events; the loop's own descriptor), -EBADF, -EPERM (a file, directory or
 * device that is always ready), -EEXIST (this loop has fd already: a watch, a channel), -EMFILE,
 * -ENFILE, -ENOMEM, -ENOSPC, -ECHILD.
 */
int ipc_watch_start(struct ipc_watch **ret, struct ipc_loop *loop, int fd, unsigned int events,
	ipc_watch_fn *fn, void *user);

/* Stop a watch: fn is not called again, the descriptor is free to be closed. NULL is fine. Return:
 * NULL. */
struct ipc_watch *ipc_watch_stop(struct ipc_watch *watch);

struct ipc_loop_stats {
	size_t size; /* sizeof(struct ipc_loop_stats); set it before the call */
	uint64_t turns;
	uint64_t events;     /* callbacks */
	uint64_t syscalls;   /* of the engine; sends and receives on epoll are in the counts of the
	                        channels, and so are io_uring's receives of channels whose records
	                        may be larger than its buffers */
	uint64_t waits_spun; /* waits met while spinning */
	uint64_t waits_slept;
	uint64_t starved; /* io_uring: times that no buffer was free for a packet, which then waited
	                   */
};

/* Read the counters. Writes no more than ret_stats->size bytes, with 0 nothing. */
void ipc_loop_stats(const struct ipc_loop *loop, struct ipc_loop_stats *ret_stats);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
