/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_CHANNEL_H
#define LIBIPC_CHANNEL_H

/*
 * Messages and file descriptors over one connection.
 *
 * A channel is one end of a connected AF_UNIX SOCK_SEQPACKET pair. Its unit on
 * the wire is the record: one packet that carries many messages with their
 * descriptors. ipc_channel_post() gathers messages into the open record,
 * ipc_channel_flush() sends it, ipc_channel_send() does both. Messages of one
 * direction arrive in the order in which they were sent, whole and once.
 *
 * Results are an int: 0 or a documented count, else -errno. Everywhere:
 *
 *   -EAGAIN     would have to wait, and timeout_ms is 0
 *   -ETIMEDOUT  waited timeout_ms in vain; no message was lost or half sent
 *   -EPIPE      the peer has closed; a receive says so only after everything
 *               that arrived was given out
 *   -ECONNRESET of a receive, in place of -EPIPE: the peer has ended, and the kernel may have
 *               thrown away what it had sent last. Kernels before Linux 6.2 (and 5.10.262) do
 *               that when a send of this end meets the peer's exit
 *   -EMSGSIZE   the message is larger than the limit of either end; nothing was
 *               sent, the channel is fine
 *   -E2BIG      more descriptors than the peer takes; nothing was sent
 *   -EBADMSG    this message's descriptors were lost on the way (descriptor
 *               limit or security policy); what arrived is closed, the message
 *               is dropped, the next one is intact
 *   -EPROTO     the peer does not speak this format; the channel is dead, close it
 *   -ENOMEM, -ENOBUFS
 *               no memory in this process, in the kernel; what was gathered or
 *               had arrived stays, and the function can be called again
 *
 * timeout_ms is that of poll(2): 0 never waits, -1 waits for ever. A signal
 * handler does not end a wait. No call raises SIGPIPE, logs or prints; errno means
 * nothing after it. A programmer's errors are asserted, in installed builds too: NULL
 * where it is not said to be fine, payload or descriptors that are NULL with a size or a
 * number, flags other than those below. Outputs are written on success only, unless said so.
 *
 * Threads: one thread may send (post, flush, send, reply) while another
 * receives (recv) on the same channel; call() does both. Anything else, close()
 * above all, needs both directions idle. Different channels share nothing.
 *
 * Cancelling: a thread that is cancelled (pthread_cancel(3)) leaves a call only while it waits
 * there. The call has then done nothing: no message is lost, a large one is voided, the channel
 * goes on. Of a call() the request may have been sent. A longjmp(3) out of a call, from a signal
 * handler for example, cannot be undone: the channel must not be used again, nor closed.
 *
 * Fork: a channel may be made before fork(2) and each end used by one of the
 * two processes. Each closes every end that it does not use: in a worker the parent's
 * ends of workers made before it, too. While any copy of an end is open the other
 * end sees no -EPIPE. What was gathered and not flushed before the fork belongs to
 * the parent alone: the child's copy is empty. The process that sends goes on where the other
 * has stopped: a large message that was cut short, or that a loop has sent in part, is voided
 * before the child's first message; a copy that is only flushed or closed sends nothing. Do not
 * fork while another thread sends or receives on an end that the child is to use; one that waits,
 * for the peer's hello too, does no harm. What was received before (messages kept by call(), a
 * message in view) is in both. For another program see ipc_channel_inherit().
 *
 * Descriptors: none of the library's has the number 0, 1 or 2, also where those are closed, and no
 * received one has.
 *
 * Trust: the peer may be hostile. It can break its own channel and nothing
 * else. What it makes this end hold is bounded: one record, one message of
 * message_max, if fds_max is not 0 the 253 descriptors of one record, and, for
 * who uses ipc_channel_call(), what that keeps: the IPC_CHANNEL_KEPT_ limits. An
 * end that is passed as a descriptor, its own for example, stays open while it is held.
 *
 * To close what a peer has sent can take as long as the peer likes (a TCP socket with SO_LINGER, a
 * file of a FUSE server), and no call waits for it: what nobody took, and a socket with such things
 * unread, is closed by a thread of the library's own, soon after; a socket lingers two seconds at
 * most, and not once the channel is closed. The thread is named ipc-closer, has all signals
 * blocked, is begun with the first such descriptor of a channel and ends soon after the last. Small
 * memfds and memory devices (null(4)) are closed at once, without it. So are all where no thread is
 * to be had, sockets without lingering; and in a worker, by its own thread, what comes from its
 * parent, which may delay it anyway. More than 253 that wait to be closed are waited for, as for a
 * message; when one of them takes longer than a second the channel ends with -EPROTO. Descriptors
 * to an end with fds_max 0 are a protocol error too. What remains: at the limit of descriptors the
 * kernel itself closes those that find no room, in the thread that receives. A descriptor that you
 * take is yours to close, and may block you.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library is built with everything else hidden. */
#pragma GCC visibility push(default)

/* One end of a connected pair. Holds about twice record_max of address space, of
   which only what was used is resident, and, once a message larger than a record
   arrived, a buffer for the largest such message so far. */
struct ipc_channel;

/* This message answers the request with the same id. */
#define IPC_MESSAGE_REPLY 0x0001U

/* More replies to the same request follow. Pools (pool.h) give meaning to this and the next;
   channels only carry them. */
#define IPC_MESSAGE_MORE 0x0010U

/* The answer to the request with this id is not waited for any more. */
#define IPC_MESSAGE_CANCEL 0x0020U

/* Ids from here on are given out by ipc_channel_call(); do not choose one. */
#define IPC_MESSAGE_ID_CALL 0x8000000000000000ULL

/* Descriptors with one message, at most: SCM_MAX_FD of the kernel (net/scm.h). */
#define IPC_MESSAGE_FDS_LIMIT 253U

struct ipc_message {
	const void *data; /* payload, 8-byte aligned when received; may be NULL when size is 0 */
	size_t size;      /* bytes; 0 is a legal message */
	uint16_t type;    /* the application's own */
	uint16_t flags;   /* IPC_MESSAGE_REPLY ..., or 0 */
	uint32_t n_fds;
	int *fds;    /* sending borrows them; received ones belong to the channel until
	                taken, and are closed by its next receive */
	uint64_t id; /* pairs a reply with its request; 0 when unused */
};

/* The range of each option; outside of it a channel is refused with -EINVAL. */
#define IPC_CHANNEL_MESSAGE_MAX_DEFAULT (16U << 20)
#define IPC_CHANNEL_MESSAGE_MAX_LIMIT   0x7FFFFFFFU /* 2 GiB - 1: with its head, in 32 bits */
#define IPC_CHANNEL_RECORD_MAX_MIN      4096U
#define IPC_CHANNEL_RECORD_MAX_DEFAULT  (128U << 10)
#define IPC_CHANNEL_RECORD_MAX_LIMIT    (1U << 20)
#define IPC_CHANNEL_SPIN_US_LIMIT       1000000

/* What an end takes even if its own message_max is smaller: the peer may send
   that much before it has heard of the limit. */
#define IPC_CHANNEL_MESSAGE_FLOOR 4096U

/* Set size to sizeof(struct ipc_channel_options). Zero in any other field, and NULL for the
   whole, mean the defaults. */
struct ipc_channel_options {
	size_t size;        /* sizeof(struct ipc_channel_options), else -EINVAL */
	size_t message_max; /* largest payload taken or given, bytes; what is taken is never
	                       limited below IPC_CHANNEL_MESSAGE_FLOOR */
	size_t record_max;  /* bytes of one packet, header included; what the socket buffer cannot
	                       hold in one packet is reduced to what it can */
	uint32_t fds_max;   /* descriptors accepted with one message, at most
	                       IPC_MESSAGE_FDS_LIMIT; default 0: none */
	int32_t spin_us; /* 0: the channel learns, and never spins where its process may use one CPU
	                    only; -1: never spin; n: up to n microseconds, on any machine */
	size_t send_buffer; /* SO_SNDBUF as set; the kernel doubles it and caps it at twice
	                       net.core.wmem_max; 0 keeps the system's */
};

/*
 * Make two connected channels, alike in their options.
 *
 * Both are yours: close each with ipc_channel_close(). They know each other's limits
 * from the start. An end meant for another program cannot come from here: make a
 * socketpair(2), open one end and let the program inherit the other.
 *
 * Return: 0, or -EINVAL (options), -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS.
 */
int ipc_channel_pair(struct ipc_channel **ret_a, struct ipc_channel **ret_b,
	const struct ipc_channel_options *options);

/*
 * Make a channel of a connected socket.
 *
 * Takes fd on success; on failure it is still the caller's, though socket options may
 * have changed. One that is 0, 1 or 2 gets another number. The socket is made close-on-exec, loses
 * SO_PASSCRED and its kin, and refuses descriptors by SO_PASSRIGHTS (Linux 6.16) if fds_max is 0.
 * O_NONBLOCK makes no difference. Nobody else may read or write the socket from here on.
 *
 * Says hello to the peer, which must open its end too: by this library, or by what
 * docs/PROTOCOL.md says. Until the peer's hello arrived, a message without descriptors
 * of up to IPC_CHANNEL_MESSAGE_FLOOR bytes is sent as it is; any other waits for the
 * hello. A peer that has closed already is no failure: what it left is received first.
 *
 * Return: 0, or
 *   -EBADF       not a descriptor
 *   -ENOTSOCK    not a socket
 *   -EPROTOTYPE  not an AF_UNIX SOCK_SEQPACKET socket
 *   -ENOTCONN    not connected, or listening
 *   -EINVAL      an option is out of its range
 *   -EAGAIN      the socket is full: it was used before
 *   -EMFILE      fd is 0, 1 or 2, and there is no other number
 *   -ENOMEM, -ENOBUFS
 */
int ipc_channel_open(struct ipc_channel **ret, int fd, const struct ipc_channel_options *options);

/*
 * In a worker: make a channel of the end that its parent gave it.
 *
 * The environment variable LIBIPC_CHANNEL names it as "FD:PID", both decimal; it
 * counts only where PID is this process, so that a grandchild to which the
 * environment leaked does not take its parent's end. The variable is unset, the
 * descriptor made close-on-exec. It changes the environment: call it before
 * other threads are started.
 *
 * What the parent does, and ipc_worker_spawn() does for it: socketpair(2) with SOCK_CLOEXEC;
 * in the child, before execve(2), clear FD_CLOEXEC of its end and set the variable with its
 * own process id. Neither a shell nor another fork may come between.
 *
 * Return: 0, or
 *   -ENOENT  no LIBIPC_CHANNEL, or it is another process's
 *   -EINVAL  the variable is malformed, or an option out of its range
 *   and what ipc_channel_open() says of the descriptor; it is then still open, and as
 *   inheritable as it was, and the variable is there
 */
int ipc_channel_inherit(struct ipc_channel **ret, const struct ipc_channel_options *options);

/*
 * Close this end.
 *
 * Sends what is gathered, without waiting. To be sure, flush first: that reports
 * failure. The peer still receives everything that was sent. Closes every descriptor
 * that the channel holds; views into it end. NULL is fine.
 *
 * Return: NULL.
 */
struct ipc_channel *ipc_channel_close(struct ipc_channel *channel);

/*
 * Gather a message into the open record.
 *
 * The record is sent when it is full, or by ipc_channel_flush(): flush before you wait
 * for an answer. Borrows the payload and the descriptors: the former is copied, or
 * sent at once where it is so large that a copy costs more; the latter are duplicated.
 * Order is that of the calls.
 *
 * A message larger than a record is sent at once, in fragments. That needs the
 * receiver to take them meanwhile if it is larger than the socket buffer, so with
 * timeout_ms 0 it hardly ever succeeds. One cut short by its timeout is voided: the
 * receiver never sees a part of it.
 *
 * Waits up to timeout_ms for room. -EAGAIN and -ETIMEDOUT mean that this message
 * was not taken: it can be offered again without arriving twice. Messages taken
 * before stay gathered.
 *
 * Return: 0, or
 *   -EAGAIN, -ETIMEDOUT  no room
 *   -EMSGSIZE, -E2BIG    over a limit of either end; nothing was taken
 *   -EINVAL              a descriptor that the kernel does not pass (an io_uring);
 *                        nothing was taken
 *   -EBADF               a descriptor is not open; nothing was taken
 *   -EMFILE              no room to duplicate a descriptor; nothing was taken
 *   -EPIPE, -EPROTO      the channel has ended
 *   -ENOMEM, -ENOBUFS
 */
int ipc_channel_post(
	struct ipc_channel *channel, const struct ipc_message *message, int timeout_ms);

/*
 * Send what is gathered.
 *
 * Waits up to timeout_ms for the socket to take it. On -EAGAIN and -ETIMEDOUT it
 * stays gathered, in order, and the next post, flush or send goes on with it.
 *
 * Return: 0 when the kernel has all of it, or -EAGAIN, -ETIMEDOUT, -EPIPE, -EPROTO,
 * -ENOMEM, -ENOBUFS.
 */
int ipc_channel_flush(struct ipc_channel *channel, int timeout_ms);

/*
 * Post and flush as one: either the message is in the kernel, after everything
 * gathered before it, or it was not taken, and what was gathered before stays so.
 * Waits up to timeout_ms for the socket to take it.
 *
 * Return: as ipc_channel_post().
 */
int ipc_channel_send(
	struct ipc_channel *channel, const struct ipc_message *message, int timeout_ms);

/*
 * Receive the next message.
 *
 * The message is a view into the channel: its payload, and the descriptors not
 * taken with ipc_message_take_fd(), last until the next receive on this channel.
 * Descriptors are close-on-exec.
 *
 * One packet brings many messages, so ipc_channel_fd() can be silent while more are
 * here: whoever polls receives until -EAGAIN first.
 *
 * Waits up to timeout_ms; an idle wait first spins for as long as the channel
 * has learned that spinning pays.
 *
 * Return: 0, or
 *   -EAGAIN, -ETIMEDOUT  nothing came; what has come of a large message is kept
 *   -EPIPE               the peer has closed and all it sent was given out
 *   -ECONNRESET          the peer has ended, and what it sent last may be lost (before Linux 6.2)
 *   -EBADMSG             a message came without its descriptors; it is dropped, but
 *                        ret_message has its type, flags and id, so that a request can
 *                        be answered
 *   -EPROTO              the peer speaks another format; close the channel
 *   -ENOMEM              no memory for a large message; it waits
 */
int ipc_channel_recv(struct ipc_channel *channel, struct ipc_message *ret_message, int timeout_ms);

/* What ipc_channel_call() keeps for later receives, at most: messages, their payloads' bytes,
   their descriptors. */
#define IPC_CHANNEL_KEPT_MESSAGES_LIMIT 1024U
#define IPC_CHANNEL_KEPT_BYTES_LIMIT    (16U << 20)
#define IPC_CHANNEL_KEPT_FDS_LIMIT      (4U * IPC_MESSAGE_FDS_LIMIT)

/*
 * Send a request and receive its reply.
 *
 * The request's id is used if it is not 0, and must then be unlike that of any other
 * outstanding request; with 0 the channel chooses one. Flags are ignored.
 * Other messages that come meanwhile are copied and kept, in order, for the receives
 * that follow. The reply is a view, as from ipc_channel_recv(). A reply that comes
 * after its call timed out is dropped if the id was the channel's.
 *
 * timeout_ms covers both ways. Only -EMSGSIZE, -E2BIG, -EINVAL and -EBADF say that the
 * request was not sent. After any other error the peer may have it: do not repeat one
 * that must not happen twice. With timeout_ms 0 it is sent, and the reply hardly ever there.
 *
 * An end that waits in a call serves nobody: two ends that call each other at the same
 * time both wait in vain. Let one post its requests and receive, or set a timeout.
 *
 * Return: 0; what ipc_channel_send() and ipc_channel_recv() say; -EBADMSG: the reply lost
 * its descriptors; or -EOVERFLOW: more came meanwhile than is kept. Then receive until
 * -EAGAIN before the next call, which otherwise sends nothing.
 */
int ipc_channel_call(struct ipc_channel *channel, const struct ipc_message *request,
	struct ipc_message *ret_reply, int timeout_ms);

/*
 * Answer a request: send reply with the request's id and IPC_MESSAGE_REPLY, beside its own flags.
 *
 * The request must carry an id, else -EINVAL: its sender expects no reply. It may still
 * be the view that ipc_channel_recv() gave; its payload is not looked at.
 *
 * Return: as ipc_channel_send().
 */
int ipc_channel_reply(struct ipc_channel *channel, const struct ipc_message *request,
	const struct ipc_message *reply, int timeout_ms);

/*
 * Take a descriptor out of a received message: it is now the caller's to close.
 *
 * Return: the descriptor, or -EINVAL if the message has none at index, -EBADF if it
 * was taken before.
 */
int ipc_message_take_fd(struct ipc_message *message, unsigned int index);

/*
 * The socket, for poll(2) and event loops; the channel keeps it. Do not read, write or close it.
 *
 * POLLIN tells of messages and of the peer's close; receive until -EAGAIN before you poll.
 * After -EAGAIN from a send poll for POLLOUT, which the kernel gives once the socket has
 * drained to a quarter: later than a send would succeed.
 */
int ipc_channel_fd(const struct ipc_channel *channel);

/* One direction of a channel, since it was made. */
struct ipc_channel_counts {
	uint64_t messages;
	uint64_t records; /* packets, fragments and hellos among them */
	uint64_t bytes;   /* of those packets */
	uint64_t fds;
	uint64_t syscalls;    /* those on the data path, unsuccessful ones too */
	uint64_t waits_spun;  /* waits met while spinning */
	uint64_t waits_slept; /* waits that came to sleeping; not those that were one blocking
	                         system call from the start (spin_us -1, timeout_ms -1) */
	uint64_t dropped;     /* out: large messages voided; in: messages that lost their
	                         descriptors, late replies, and 1 for what broke the format */
};

struct ipc_channel_stats {
	size_t size; /* sizeof(struct ipc_channel_stats); set it before the call */
	struct ipc_channel_counts out;
	struct ipc_channel_counts in;
};

/*
 * Read the counters. Writes no more than ret_stats->size bytes, with 0 nothing. Each direction's
 * are exact for the thread that uses it, and at most one call behind for another.
 */
void ipc_channel_stats(const struct ipc_channel *channel, struct ipc_channel_stats *ret_stats);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
