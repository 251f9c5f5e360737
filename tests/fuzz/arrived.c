/* SPDX-License-Identifier: MIT */

/*
 * Packets as an engine hands them over, to a channel that is in a loop, leaves it, calls and comes
 * back: the way in behind ipci_in_arrive(), without a loop.
 *
 * Input: a byte of options (OPTION_...), then operations: a byte (OP_..., and behind it from
 * OP_BITS on how many descriptors come with it) and its parameters. What is left of the input when
 * a parameter is to be read is zeros.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "fuzz.h"

enum {
	OPTION_NO_HELLO = 1 << 0, /* the first packet is not a hello that was made for it */
	OPTION_NO_FDS = 1 << 1,
	OPTION_NARROW = 1 << 2,  /* takes small messages only */
	OPTION_RECORDS = 1 << 3, /* takes large records */
};

enum {
	OP_PACKET,    /* two bytes of size, and the bytes */
	OP_CUT,       /* the same, that was cut short by its buffer */
	OP_LOST,      /* the same, some of whose descriptors were lost */
	OP_RUN,       /* a record: flags, count, size (2 bytes), id */
	OP_LARGE,     /* the head of a large message: flags, size, first piece (3 bytes each), id */
	OP_FRAGMENT,  /* 3 bytes of size; 0: the rest */
	OP_VOID,      /* nothing */
	OP_END,       /* the end of stream */
	OP_SOCKET,    /* as OP_PACKET, but it is the channel that reads it */
	OP_GIVE,      /* a byte: as many messages are given out */
	OP_MOVE,      /* in or out of the loop */
	OP_CALL,      /* a byte of id; 0: the channel chooses */
	OP_REPLY,     /* to the last message */
	OP_NO_MEMORY, /* a byte: as many allocations succeed before one fails */
	OP_FORGET,    /* as a forked child does */
	OP_HELLO,     /* one more */
	OP_BITS = 4,
};

#define FDS_MAX            3
#define NARROW_MAX         5000
#define MESSAGE_MAX        (1U << 20)
#define RECORD_MAX         (64U << 10)
#define ID_CALL_MARK       0x80 /* in the byte of an id: one of those that ipc_channel_call() chooses */
#define OPS_MAX            4000
#define DESCRIPTORS_WANTED 4096

/* A packet in an engine's memory. */
struct packet {
	struct ipci_arrived arrived; /* first */
	LIST_ENTRY(packet) all;
	struct ipci_control control;
	uint8_t *bytes; /* as many as there are: a sanitizer sees any that is read behind them */
};

static struct {
	const uint8_t *input, *end;
	struct ipc_channel *channel;
	int peer;     /* its socket */
	int passed;   /* a descriptor to be passed */
	int most_fds; /* with a message */
	size_t largest;
	bool is_in_loop;
	int result; /* the last that was received; final if it is -EPIPE or -EPROTO */
	struct ipc_message last;
	uint64_t given;
	LIST_HEAD(, packet) packets;
} world;

/* Allocations of the library that succeed before one fails; negative: all do. */
static int memory_left = -1;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *
__wrap_malloc(size_t size)
{
	if (memory_left >= 0 && memory_left-- == 0)
		return NULL;
	return __real_malloc(size);
}

void *__real_mremap(void *memory, size_t old_size, size_t size, int flags);
void *__wrap_mremap(void *memory, size_t old_size, size_t size, int flags);
void *
__wrap_mremap(void *memory, size_t old_size, size_t size, int flags)
{
	if (memory_left >= 0 && memory_left-- == 0) {
		errno = ENOMEM;
		return (void *)-1;
	}
	return __real_mremap(memory, old_size, size, flags);
}

static unsigned int
take(unsigned int n_bytes)
{
	unsigned int value = 0, i;

	for (i = 0; i < n_bytes; i++)
		if (world.input < world.end)
			value |= (unsigned int)*world.input++ << 8 * i;
	return value;
}

static void
release(struct ipci_arrived *arrived)
{
	struct packet *packet = (struct packet *)(void *)arrived;

	LIST_REMOVE(packet, all);
	free(packet->bytes);
	free(packet);
}

/* A packet of size bytes, zeros. */
static struct packet *
packet_new(size_t size, unsigned int n_fds)
{
	struct packet *packet = calloc(1, sizeof(*packet));
	struct msghdr message = {.msg_control = NULL};
	int fds[FDS_MAX];
	unsigned int i;

	require(packet);
	packet->bytes = calloc(1, size ? size : 1);
	require(packet->bytes);
	/* A machine may have no more. */
	for (i = 0; i < n_fds && (fds[i] = fcntl(world.passed, F_DUPFD_CLOEXEC, 0)) >= 0; i++)
		continue;
	n_fds = i;
	if (n_fds)
		ipci_control_pack(&message, &packet->control, fds, n_fds);
	packet->arrived = (struct ipci_arrived){
		.packet = packet->bytes,
		.arrival.size = size,
		.control = packet->control.bytes,
		.control_size = message.msg_controllen,
		.release = release,
	};
	LIST_INSERT_HEAD(&world.packets, packet, all);
	return packet;
}

/* The channel takes it, if it is in a loop; else it is nobody's. */
static void
hand_over(struct packet *packet)
{
	struct ipci_fds set = {.n = 0};
	struct msghdr message = {
		.msg_control = packet->arrived.control,
		.msg_controllen = packet->arrived.control_size,
	};

	if (world.is_in_loop) {
		ipci_in_arrive(&world.channel->in, &packet->arrived);
		return;
	}
	(void)ipci_control_collect(&message, &set, NULL);
	ipci_fds_close(&set);
	release(&packet->arrived);
}

/* The bytes are the input's. */
static struct packet *
take_packet(unsigned int n_fds)
{
	size_t size = take(2);
	struct packet *packet;

	size = IPCI_MIN(size, (size_t)(world.end - world.input));
	packet = packet_new(size, n_fds);
	memcpy(packet->bytes, world.input, size);
	world.input += size;
	return packet;
}

static uint64_t
take_id(void)
{
	uint64_t id = take(1);

	return id & ID_CALL_MARK ? IPC_MESSAGE_ID_CALL | (id & ~(uint64_t)ID_CALL_MARK) : id;
}

static uint64_t *
put_header(struct packet *packet, enum ipci_kind kind, unsigned int n_fds)
{
	ipci_record_header_init((struct ipci_record_header *)(void *)packet->bytes, kind, n_fds,
		packet->arrived.arrival.size);
	return (uint64_t *)(void *)(packet->bytes + sizeof(struct ipci_record_header));
}

/* Messages that are alike; with descriptors a single one. */
static void
op_run(unsigned int n_fds)
{
	uint64_t flags = take(1) & IPCI_RUN_ALL & ~(unsigned int)(IPCI_RUN_FDS | IPCI_RUN_LARGE);
	uint64_t count = take(1), size = take(2), id = take_id(), i;
	size_t stride;
	struct packet *packet;
	uint64_t *place;

	count = n_fds ? 1 : count;
	stride = ipci_pad(size) + (flags & IPCI_RUN_ID ? sizeof(id) : 0);
	/* Some are too large for the channel. */
	if (stride)
		count = IPCI_MIN(count, 2 * RECORD_MAX / stride);
	packet = packet_new(2 * sizeof(uint64_t) + count * stride, n_fds);
	place = put_header(packet, IPCI_KIND_MESSAGES, n_fds);
	flags |= n_fds ? IPCI_RUN_FDS : 0;
	*place++ = size | flags << 24 | (n_fds ? n_fds : count) << 48;
	for (i = 0; i < count && flags & IPCI_RUN_ID; i++) {
		*place = id + i;
		place += stride / sizeof(*place);
	}
	hand_over(packet);
}

static void
op_large(unsigned int n_fds)
{
	uint64_t flags = take(1) & IPCI_RUN_ALL, size = take(3), piece = take(3), id = take_id();
	struct packet *packet;
	uint64_t *place;

	flags |= IPCI_RUN_LARGE | (n_fds ? IPCI_RUN_FDS : 0);
	flags &= n_fds ? IPCI_RUN_ALL : IPCI_RUN_ALL & ~IPCI_RUN_FDS;
	piece = IPCI_MIN(ipci_pad(piece), RECORD_MAX);
	packet =
		packet_new((flags & IPCI_RUN_ID ? 4 : 3) * sizeof(uint64_t) + (size_t)piece, n_fds);
	place = put_header(packet, IPCI_KIND_MESSAGES, n_fds);
	*place++ = flags << 24 | (uint64_t)(n_fds ? n_fds : 1) << 48;
	if (flags & IPCI_RUN_ID)
		*place++ = id;
	*place = size;
	hand_over(packet);
}

static void
op_other(enum ipci_kind kind, size_t size, unsigned int n_fds)
{
	struct packet *packet = packet_new(sizeof(struct ipci_record_header) + size, n_fds);

	(void)put_header(packet, kind, 0);
	hand_over(packet);
}

static void
op_fragment(unsigned int n_fds)
{
	const struct ipci_large *large = &world.channel->in.large;
	size_t size = take(3);

	if (!size && large->size)
		size = IPCI_MIN(large->size - large->have, IPCI_FRAGMENT_MAX);
	op_other(IPCI_KIND_FRAGMENT, IPCI_MIN(size, MESSAGE_MAX), n_fds);
}

static void
op_hello(void)
{
	static const struct ipci_limits limits = {
		.message_max = MESSAGE_MAX, .record_max = RECORD_MAX, .fds_max = FDS_MAX};
	struct packet *packet = packet_new(sizeof(struct ipci_hello), 0);

	ipci_hello_init((void *)packet->bytes, &limits);
	hand_over(packet);
}

static void
op_socket(unsigned int n_fds)
{
	struct packet *packet = take_packet(n_fds);
	struct iovec part = {.iov_base = packet->bytes, .iov_len = packet->arrived.arrival.size};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = packet->arrived.control_size ? packet->arrived.control : NULL,
		.msg_controllen = packet->arrived.control_size,
	};
	bool was_in_loop = world.is_in_loop;

	(void)sendmsg(world.peer, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	world.is_in_loop = false;
	hand_over(packet);
	world.is_in_loop = was_in_loop;
	/* An engine says so when it has nothing under way. */
	world.channel->in.credit = was_in_loop;
}

static void
use_message(struct ipc_message *message)
{
	const uint64_t flags = IPC_MESSAGE_REPLY | IPC_MESSAGE_MORE | IPC_MESSAGE_CANCEL;
	static uint8_t copy[MESSAGE_MAX];
	uint32_t i;
	int fd;

	require(message->size <= world.largest);
	require(!(message->flags & ~flags));
	require(message->n_fds <= (unsigned int)world.most_fds);
	/* A reply to no call at all is never given out. */
	require(!(message->flags & IPC_MESSAGE_REPLY) || message->id < world.channel->next_call_id);
	if (message->size) {
		require((uintptr_t)message->data % 8 == 0);
		memcpy(copy, message->data, message->size);
	}
	for (i = 0; i < message->n_fds; i++)
		require(fcntl(message->fds[i], F_GETFD) == FD_CLOEXEC);
	if (message->n_fds > 1) {
		fd = ipc_message_take_fd(message, message->n_fds - 1);
		require(ipc_message_take_fd(message, message->n_fds - 1) == -EBADF);
		require(ipc_message_take_fd(message, message->n_fds) == -EINVAL);
		require(close(fd) == 0);
	}
	world.last = *message;
	world.last.data = NULL;
	world.last.size = 0;
	world.last.fds = NULL;
	world.last.n_fds = 0;
	world.given++;
}

/* An end is for ever. */
static void
note_result(int r)
{
	require(r == 0 || r == -EAGAIN || r == -EPIPE || r == -EPROTO || r == -EBADMSG ||
		r == -EOVERFLOW || r == -ENOMEM);
	require(r != -ENOMEM || memory_left < 0);
	if (world.result == -EPROTO)
		require(r == -EPROTO || r == 0 || r == -EBADMSG);
	if (r == -EPROTO || (r == -EPIPE && world.result != -EPROTO))
		world.result = r;
}

static int
receive(void)
{
	struct ipc_message message;
	int r = 0;

	if (!world.is_in_loop)
		r = ipc_channel_recv(world.channel, &message, 0);
	else if (!ipci_in_give(&world.channel->in, IPCI_SPECIAL_STATE, &message))
		r = ipci_in_recv(world.channel, &message, 0);
	note_result(r);
	if (r == 0)
		use_message(&message);
	if (r == -EBADMSG)
		require(!message.size && !message.data && !message.n_fds && !message.fds);
	return r;
}

static void
op_give(unsigned int n)
{
	int r = 0;

	while (n-- && (r == 0 || r == -EBADMSG))
		r = receive();
}

static void
go_in(void)
{
	world.channel->in.special |= IPCI_SPECIAL_LOOP;
	world.channel->in.metered = true;
	world.channel->in.credit = 0;
	world.is_in_loop = true;
}

/* As a loop takes a channel back. Return: whether it did. */
static bool
go_out(bool drop)
{
	struct ipci_arrived *in_hand = NULL;
	struct ipci_in *in = &world.channel->in;
	int r = ipci_in_settle(in, drop || world.channel->broken, &in_hand);

	require(r == 0 || r == -ENOMEM);
	if (r < 0)
		return false;
	if (in_hand)
		in_hand->release(in_hand);
	/* Nothing is left with the engine. */
	require(LIST_EMPTY(&world.packets));
	in->special &= (uint8_t)~IPCI_SPECIAL_LOOP;
	in->metered = false;
	world.is_in_loop = false;
	return true;
}

/* What it sends is read by nobody, and shall not be in the way. */
static void
drain_peer(void)
{
	static uint8_t bytes[RECORD_MAX];

	while (recv(world.peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		continue;
}

static void
op_call(void)
{
	struct ipc_message request = {.id = take(1)}, reply;
	int r;

	if (world.is_in_loop)
		return;
	r = ipc_channel_call(world.channel, &request, &reply, 0);
	note_result(r);
	if (r == 0) {
		require(reply.flags & IPC_MESSAGE_REPLY);
		use_message(&reply);
	}
	drain_peer();
}

static void
op_reply(void)
{
	static const struct ipc_message reply = {.type = 1};
	int r;

	if (world.is_in_loop)
		return;
	r = ipc_channel_reply(world.channel, &world.last, &reply, 0);
	require(r == (world.last.id ? 0 : -EINVAL) || r == -EPIPE || r == -EPROTO || r == -EAGAIN);
	drain_peer();
}

/* What is forgotten is the parent's: here it goes all the same. */
static void
drop_all(struct ipci_arrived *arrived)
{
	struct ipci_arrived *next;
	struct msghdr message;
	struct ipci_fds set;

	for (; arrived; arrived = next) {
		next = arrived->next;
		set.n = 0;
		message = (struct msghdr){
			.msg_control = arrived->control,
			.msg_controllen = arrived->control_size,
		};
		(void)ipci_control_collect(&message, &set, NULL);
		ipci_fds_close(&set);
		arrived->release(arrived);
	}
}

static void
op_forget(void)
{
	struct ipci_in *in = &world.channel->in;
	struct ipci_arrived *arrived = in->arrived, *in_hand = in->in_hand;

	if (!world.is_in_loop)
		return;
	ipci_in_forget(in);
	drop_all(arrived);
	if (in_hand)
		in_hand->release(in_hand);
	require(LIST_EMPTY(&world.packets));
}

static void
operate(void)
{
	unsigned int op = take(1), n_fds = IPCI_MIN(op >> OP_BITS, (unsigned int)FDS_MAX);
	struct packet *packet;

	switch (op & ((1U << OP_BITS) - 1)) {
	case OP_PACKET:
		hand_over(take_packet(n_fds));
		break;
	case OP_CUT:
		packet = take_packet(n_fds);
		packet->arrived.arrival.truncated = true;
		hand_over(packet);
		break;
	case OP_LOST:
		packet = take_packet(n_fds);
		packet->arrived.arrival.fds_lost = true;
		hand_over(packet);
		break;
	case OP_RUN:
		op_run(n_fds);
		break;
	case OP_LARGE:
		op_large(n_fds);
		break;
	case OP_FRAGMENT:
		op_fragment(n_fds);
		break;
	case OP_VOID:
		op_other(IPCI_KIND_VOID, 0, n_fds);
		break;
	case OP_END:
		hand_over(packet_new(0, 0));
		break;
	case OP_SOCKET:
		op_socket(n_fds);
		break;
	case OP_GIVE:
		op_give(take(1));
		break;
	case OP_MOVE:
		if (world.is_in_loop)
			(void)go_out(n_fds > 2);
		else
			go_in();
		break;
	case OP_CALL:
		op_call();
		break;
	case OP_REPLY:
		op_reply();
		break;
	case OP_NO_MEMORY:
		memory_left = (int)take(1);
		break;
	case OP_FORGET:
		op_forget();
		break;
	case OP_HELLO:
		op_hello();
		break;
	}
}

static void
world_open(unsigned int choices)
{
	const struct ipc_channel_options options = {
		.size = sizeof(options),
		.message_max = choices & OPTION_NARROW ? NARROW_MAX : MESSAGE_MAX,
		.record_max = choices & OPTION_RECORDS ? RECORD_MAX : IPC_CHANNEL_RECORD_MAX_MIN,
		.fds_max = choices & OPTION_NO_FDS ? 0 : FDS_MAX,
		.spin_us = -1,
	};
	int fds[2];

	memset(&world.last, 0, sizeof(world.last));
	world.result = 0;
	world.given = 0;
	world.most_fds = (int)options.fds_max;
	world.largest = options.message_max;
	require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
	require(ipc_channel_open(&world.channel, fds[0], &options) == 0);
	world.peer = fds[1];
	drain_peer();
	go_in();
	if (!(choices & OPTION_NO_HELLO))
		op_hello();
}

/* All that came is given out, or nothing is any more; all of it is closed. */
static void
world_close(void)
{
	struct ipc_channel_stats stats = {.size = sizeof(stats)};

	memory_left = -1;
	op_give(1U << 20);
	ipc_channel_stats(world.channel, &stats);
	/* Those that are kept by calls count, too. */
	require(stats.in.messages >= world.given);
	if (world.is_in_loop)
		require(go_out(false));
	(void)shutdown(world.peer, SHUT_WR);
	op_give(1U << 20);
	require(world.result == -EPIPE || world.result == -EPROTO);
	require(close(world.peer) == 0);
	ipc_channel_close(world.channel);
	require(LIST_EMPTY(&world.packets));
}

/* The lowest number that is free: whatever leaks takes it. */
static int
lowest_free(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

	require(fd >= 0);
	require(close(fd) == 0);
	return fd;
}

/* A call may keep more descriptors than a login has before its soft limit is raised. */
static void
raise_limit(void)
{
	struct rlimit limit;

	require(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	if (limit.rlim_cur >= DESCRIPTORS_WANTED)
		return;
	limit.rlim_cur = IPCI_MIN(limit.rlim_max, DESCRIPTORS_WANTED);
	require(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	int lowest = lowest_free();
	unsigned int n;

	raise_limit();

	world.input = input;
	world.end = input + size;
	world.passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	require(world.passed >= 0);
	world_open(take(1));
	for (n = 0; world.input < world.end && n < OPS_MAX; n++)
		operate();
	world_close();
	require(close(world.passed) == 0);
	require(fuzz_comes_back(lowest_free, lowest));
	return 0;
}
