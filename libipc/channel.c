/* SPDX-License-Identifier: MIT */

/* A channel's life: options, adoption of a socket, the pair, the end. */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "loop.h"
#include "probes.h"
#include "sys.h"

#ifndef SO_PASSRIGHTS
#if defined(__sparc__)
#define SO_PASSRIGHTS 0x005c
#elif defined(__hppa__)
#define SO_PASSRIGHTS 0x4051
#else
#define SO_PASSRIGHTS 83 /* Linux 6.16, asm-generic/socket.h */
#endif
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76 /* Linux 6.5 */
#endif

int
ipci_options_copy(void *ret, size_t size, const void *options)
{
	const unsigned char *bytes = options;
	size_t given, i;

	memset(ret, 0, size);
	if (!options)
		return 0;
	memcpy(&given, options, sizeof(given));
	if (given < sizeof(given))
		return -EINVAL;
	for (i = size; i < given; i++)
		if (bytes[i])
			return -EINVAL;
	memcpy(ret, options, IPCI_MIN(given, size));
	return 0;
}

static int
resolve_options(struct ipc_channel_options *ret, const struct ipc_channel_options *options)
{
	int r = ipci_options_copy(ret, sizeof(*ret), options);

	if (r < 0)
		return r;
	if (!ret->message_max)
		ret->message_max = IPC_CHANNEL_MESSAGE_MAX_DEFAULT;
	if (!ret->record_max)
		ret->record_max = IPC_CHANNEL_RECORD_MAX_DEFAULT;

	if (ret->message_max > IPC_CHANNEL_MESSAGE_MAX_LIMIT)
		return -EINVAL;
	if (ret->record_max < IPC_CHANNEL_RECORD_MAX_MIN ||
		ret->record_max > IPC_CHANNEL_RECORD_MAX_LIMIT)
		return -EINVAL;
	if (ret->fds_max > IPC_MESSAGE_FDS_LIMIT)
		return -EINVAL;
	if (ret->spin_us < -1 || ret->spin_us > IPC_CHANNEL_SPIN_US_LIMIT)
		return -EINVAL;
	return ret->send_buffer > INT32_MAX / 2 ? -EINVAL : 0;
}

/* Is it a connected socket of our kind? A listening one has no peer. */
static int
check_socket(int fd)
{
	int domain, type, r;

	r = ipci_sys_getsockopt_int(fd, SO_DOMAIN, &domain);
	if (r < 0)
		return r;
	r = ipci_sys_getsockopt_int(fd, SO_TYPE, &type);
	if (r < 0)
		return r;
	if (domain != AF_UNIX || type != SOCK_SEQPACKET)
		return -EPROTOTYPE;
	return ipci_sys_getpeername(fd);
}

/* Options of the socket that others may have set, and that would change what arrives. */
static int
clear_options(int fd)
{
	int r = ipci_sys_setsockopt_int(fd, SO_PASSCRED, 0);

	if (r == 0)
		r = ipci_sys_setsockopt_int(fd, SO_TIMESTAMP, 0);
	if (r == 0) {
		/* A kernel without security modules has no labels to pass. */
		r = ipci_sys_setsockopt_int(fd, SO_PASSSEC, 0);
		r = r == -EOPNOTSUPP || r == -ENOPROTOOPT ? 0 : r;
	}
	if (r == 0) {
		r = ipci_sys_setsockopt_int(fd, SO_PASSPIDFD, 0);
		r = r == -ENOPROTOOPT ? 0 : r;
	}
	return r;
}

/* Let descriptors come in, or not. Says whether the kernel bars them. */
static int
admit_fds(int fd, bool takes_fds, bool *ret_barred)
{
	int r = ipci_sys_setsockopt_int(fd, SO_PASSRIGHTS, takes_fds);

	*ret_barred = r == 0 && !takes_fds;
	return r == -ENOPROTOOPT ? 0 : r;
}

static void
channel_free(struct ipc_channel *channel)
{
	ipci_in_finish(channel);
	ipci_out_finish(channel);
	/* The lock and the condition own nothing. To destroy them in a child, forked while another
	   thread waited, would wait for that thread, which is not there. */
	ipci_sys_unmap(channel, sizeof(*channel));
}

/*
 * A channel and its two buffers, zero, in one mapping, each on pages of its own: they are unmapped
 * one by one, a buffer may have moved by then. A worker's first channel does not even wake malloc.
 */
static struct ipc_channel *
channel_alloc(int fd, const struct ipc_channel_options *options)
{
	size_t in_size = ipci_in_buffer_size(options), out_size = ipci_out_buffer_size(options);
	size_t in_at = ipci_sys_pages(sizeof(struct ipc_channel));
	size_t out_at = in_at + ipci_sys_pages(in_size);
	uint8_t *memory = ipci_sys_map(out_at + out_size);
	struct ipc_channel *channel = (void *)memory;

	if (!memory)
		return NULL;
	channel->in.buffer = memory + in_at;
	channel->in.buffer_size = in_size;
	channel->out.buffer = memory + out_at;
	channel->out.buffer_size = out_size;
	channel->fd = fd;
	channel->generation = ipci_sys_generation();
	channel->next_call_id = IPC_MESSAGE_ID_CALL;
	channel->hello_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	channel->hello_turn = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	return channel;
}

/* All that can fail before the peer hears of it. */
static int
channel_init(struct ipc_channel *channel, const struct ipc_channel_options *options)
{
	int r;

	channel->own = (struct ipci_limits){
		.message_max = options->message_max,
		.record_max = (uint32_t)options->record_max,
		.fds_max = options->fds_max,
	};
	r = admit_fds(channel->fd, options->fds_max > 0, &channel->in.lane.fds_barred);
	if (r < 0)
		return r;
	ipci_in_init(channel, options);
	ipci_link_look_clean(&channel->in.lane);
	return ipci_out_init(channel, options);
}

/* Make a channel of a socket that is as ours are: of the kind, without options, close-on-exec. */
static int
open_ours(struct ipc_channel **ret, int fd, const struct ipc_channel_options *options)
{
	struct ipc_channel *channel = channel_alloc(fd, options);
	int r;

	if (!channel)
		return -ENOMEM;
	r = channel_init(channel, options);
	if (r == 0)
		r = ipci_out_hello(channel);
	/* A peer that has closed may have left something to receive. */
	if (r < 0 && r != -EPIPE) {
		channel_free(channel);
		return r;
	}
	*ret = channel;
	return 0;
}

/* Of a socket that may be anything. No program started meanwhile inherits it; on failure one may
   again. */
static int
open_high(struct ipc_channel **ret, int fd, const struct ipc_channel_options *options)
{
	int was_cloexec, r;

	r = check_socket(fd);
	if (r == 0)
		r = clear_options(fd);
	if (r < 0)
		return r;
	was_cloexec = ipci_sys_set_cloexec(fd, true);
	if (was_cloexec < 0)
		return was_cloexec;
	r = open_ours(ret, fd, options);
	if (r < 0 && !was_cloexec)
		(void)ipci_sys_set_cloexec(fd, false);
	return r;
}

/* What is a standard descriptor to all others moves out of their way. */
static int
open_any(struct ipc_channel **ret, int fd, const struct ipc_channel_options *options)
{
	int high, r;

	if (fd < 0 || fd >= IPCI_SYS_FD_MIN)
		return open_high(ret, fd, options);
	high = ipci_sys_dup(fd);
	if (high < 0)
		return high;
	r = open_high(ret, high, options);
	(void)ipci_sys_close(r < 0 ? high : fd);
	return r;
}

int
ipc_channel_open(struct ipc_channel **ret, int fd, const struct ipc_channel_options *options)
{
	struct ipc_channel_options resolved;
	int r;

	assert(ret);
	r = resolve_options(&resolved, options);
	return r < 0 ? r : open_any(ret, fd, &resolved);
}

int
ipci_channel_open_ours(struct ipc_channel **ret, int fd, const struct ipc_channel_options *options)
{
	struct ipc_channel_options resolved;
	int r = resolve_options(&resolved, options);

	return r < 0 ? r : open_ours(ret, fd, &resolved);
}

/* Open both and let each hear the other, so that neither ever waits for a hello. */
static int
open_both(struct ipc_channel *ret_ends[2], int fds[2], const struct ipc_channel_options *options)
{
	struct ipci_deadline at_once = ipci_deadline(0);
	int i, r;

	for (i = 0; i < 2; i++) {
		r = open_ours(&ret_ends[i], fds[i], options);
		if (r < 0)
			return r;
		/* Nobody else has ever had the sockets. */
		ret_ends[i]->in.lane.fds_clean = ret_ends[i]->in.lane.fds_barred;
		fds[i] = -1;
	}
	r = ipci_in_hello(ret_ends[0], &at_once);
	return r < 0 ? r : ipci_in_hello(ret_ends[1], &at_once);
}

int
ipc_channel_pair(struct ipc_channel **ret_a, struct ipc_channel **ret_b,
	const struct ipc_channel_options *options)
{
	struct ipc_channel *ends[2] = {NULL, NULL};
	struct ipc_channel_options resolved;
	int fds[2], r;

	assert(ret_a);
	assert(ret_b);
	r = resolve_options(&resolved, options);
	if (r == 0)
		r = ipci_sys_socketpair(fds);
	if (r < 0)
		return r;

	r = open_both(ends, fds, &resolved);
	if (r < 0) {
		ipc_channel_close(ends[0]);
		ipc_channel_close(ends[1]);
		ipci_fds_close_some(fds, 2);
		return r;
	}
	*ret_a = ends[0];
	*ret_b = ends[1];
	return 0;
}

/*
 * A decimal number up to INT32_MAX, without sign or space. Return: what follows it, or NULL.
 * Not by strtol(): a program that has just begun would load two pages of the C library for it.
 */
static const char *
parse_number(const char *text, int *ret)
{
	int64_t number = 0;

	if (*text < '0' || *text > '9')
		return NULL;
	for (; *text >= '0' && *text <= '9'; text++) {
		number = number * 10 + (*text - '0');
		if (number > INT32_MAX)
			return NULL;
	}
	*ret = (int)number;
	return text;
}

int
ipc_channel_inherit(struct ipc_channel **ret, const struct ipc_channel_options *options)
{
	const char *text = getenv(IPCI_INHERIT_VARIABLE);
	int fd, pid, r;

	assert(ret);
	if (!text)
		return -ENOENT;
	text = parse_number(text, &fd);
	if (text)
		text = *text == ':' ? parse_number(text + 1, &pid) : NULL;
	if (!text || *text)
		return -EINVAL;
	if (pid != getpid())
		return -ENOENT;

	r = ipc_channel_open(ret, fd, options);
	if (r == 0) {
		ipci_channel_trust(*ret);
		(void)unsetenv(IPCI_INHERIT_VARIABLE);
	}
	return r;
}

/*
 * Close the socket. With what is unread in it go the descriptors that are there, and to close those
 * can take as long as the peer likes.
 */
static void
close_socket(struct ipci_lane *in)
{
	int fd = in->fd;

	if (in->closes_here || in->fds_clean || ipci_sys_poll(fd, POLLIN, 0) == 0) {
		(void)ipci_sys_close(fd);
		return;
	}
	ipci_link_close_fds(in, &fd, 1);
	ipci_closer_await_all(in->closer);
}

static void
close_channel(struct ipc_channel *channel, bool shuts_down)
{
	if (channel->port)
		ipci_port_close(channel->port);
	(void)ipci_out_flush(channel);
	if (shuts_down)
		(void)ipci_sys_shutdown(channel->fd);
	close_socket(&channel->in.lane);
	channel_free(channel);
}

struct ipc_channel *
ipc_channel_close(struct ipc_channel *channel)
{
	if (channel)
		close_channel(channel, false);
	return NULL;
}

struct ipc_channel *
ipci_channel_end(struct ipc_channel *channel)
{
	if (channel)
		close_channel(channel, true);
	return NULL;
}

int
ipci_channel_break(struct ipc_channel *channel)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&channel->broken, &none, -EPROTO)) {
		ipci_count_add(&channel->in.counts.dropped, 1);
		IPCI_PROBE1(channel__broken, channel->fd);
		/* The other direction may be waiting in a system call. */
		(void)ipci_sys_shutdown(channel->fd);
	}
	return -EPROTO;
}

int
ipc_channel_fd(const struct ipc_channel *channel)
{
	assert(channel);
	return channel->fd;
}

static struct ipc_channel_counts
read_counts(const struct ipc_channel_counts *counts)
{
	return (struct ipc_channel_counts){
		.messages = ipci_count_read(&counts->messages),
		.records = ipci_count_read(&counts->records),
		.bytes = ipci_count_read(&counts->bytes),
		.fds = ipci_count_read(&counts->fds),
		.syscalls = ipci_count_read(&counts->syscalls),
		.waits_spun = ipci_count_read(&counts->waits_spun),
		.waits_slept = ipci_count_read(&counts->waits_slept),
		.dropped = ipci_count_read(&counts->dropped),
	};
}

void
ipc_channel_stats(const struct ipc_channel *channel, struct ipc_channel_stats *ret_stats)
{
	struct ipc_channel_stats stats;

	assert(channel);
	assert(ret_stats);
	stats = (struct ipc_channel_stats){
		.size = IPCI_MIN(ret_stats->size, sizeof(stats)),
		.out = read_counts(&channel->out.counts),
		.in = read_counts(&channel->in.counts),
	};
	memcpy(ret_stats, &stats, stats.size);
}
