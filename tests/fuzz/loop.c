/* SPDX-License-Identifier: MIT */

/*
 * Any packets, from two peers that send them on the bare socket to channels in a loop, on epoll,
 * whose callbacks do what the input says; a third channel is well and shall not notice.
 *
 * Input: a byte of options (OPTION_...), then packets: a byte (PACKET_...), two bytes of size, and
 * as many bytes, or what is left.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libipc/loop.h>

#include "fds.h"
#include "fuzz.h"
#include "wire.h"

enum {
	OPTION_NO_HELLO = 1 << 0,
	OPTION_NO_FDS = 1 << 1,
	OPTION_NARROW = 1 << 2,
	OPTION_DETACH = 1 << 3, /* a message with the id 1 detaches, what follows is received */
	OPTION_CLOSE = 1 << 4,  /* one with the id 2 closes its channel, 3 the other one */
	OPTION_REPLY = 1 << 5,  /* one with another id is answered */
};

#define PACKET_FDS    3        /* a mask: how many descriptors come with it */
#define PACKET_SECOND (1 << 2) /* from the second peer */
#define PACKET_WAITS  (1 << 3) /* the loop does not turn behind it */

#define FDS_MAX    2
#define NARROW_MAX 5000
#define TURNS_MAX  1000

struct end {
	struct ipc_channel *channel; /* NULL: closed */
	int peer;
	bool is_attached, has_ended;
	uint64_t messages;
};

static struct {
	struct ipc_loop *loop;
	struct ipc_channel *good, *good_peer;
	uint64_t good_sent, good_heard;
	struct end ends[2];
	unsigned int choices;
	int passed;
} world;

static void
send_hello(int fd)
{
	static const struct ipci_limits limits = {
		.message_max = 1 << 20, .record_max = 1 << 16, .fds_max = FDS_MAX};
	struct ipci_hello hello;

	ipci_hello_init(&hello, &limits);
	require(send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello));
}

static void
send_packet(int fd, const uint8_t *bytes, size_t size, unsigned int n_fds)
{
	struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	int fds[PACKET_FDS] = {world.passed, world.passed, world.passed};
	struct ipci_control control;

	ipci_control_pack(&message, &control, fds, n_fds);
	(void)sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
close_end(struct end *end)
{
	end->channel = ipc_channel_close(end->channel);
	end->is_attached = false;
}

/* What is left in a channel that is not in the loop any more. */
static void
receive_rest(struct end *end)
{
	struct ipc_message message;
	int r = 0;

	while (r == 0 || r == -EBADMSG)
		r = ipc_channel_recv(end->channel, &message, 0);
	require(r == -EAGAIN || r == -EPIPE || r == -EPROTO);
}

static void
act(struct end *end, const struct ipc_message *message)
{
	static const struct ipc_message answer = {.type = 1};
	struct end *other = &world.ends[end == world.ends];

	if (world.choices & OPTION_DETACH && message->id == 1) {
		require(ipc_loop_detach(world.loop, end->channel) == 0);
		end->is_attached = false;
	} else if (world.choices & OPTION_CLOSE && message->id == 2) {
		close_end(end);
	} else if (world.choices & OPTION_CLOSE && message->id == 3) {
		close_end(other);
	} else if (world.choices & OPTION_REPLY && message->id) {
		(void)ipc_channel_reply(end->channel, message, &answer, 0);
	}
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	size_t limit = world.choices & OPTION_NARROW ? NARROW_MAX : 1 << 20;
	struct end *end = user;
	struct ipc_message none;
	uint8_t *copy;

	require(channel == end->channel && end->is_attached && !end->has_ended);
	require(ipc_channel_recv(channel, &none, 0) == -EBUSY);
	require(message->size <= limit);
	require(message->n_fds <= (world.choices & OPTION_NO_FDS ? 0 : FDS_MAX));
	if (message->size) {
		copy = malloc(message->size);
		require(copy);
		memcpy(copy, message->data, message->size);
		free(copy);
	}
	end->messages++;
	act(end, message);
}

static void
on_lost(struct ipc_channel *channel, const struct ipc_message *head, void *user)
{
	struct end *end = user;

	require(channel == end->channel && end->is_attached && !end->has_ended);
	require(!head->data && !head->size && !head->n_fds);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	struct end *end = user;

	require(channel == end->channel && end->is_attached && !end->has_ended);
	require(reason == 0 || reason == -EPROTO);
	end->is_attached = false;
	end->has_ended = true;
}

static void
on_good_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)user;
	require(message->id == ++world.good_heard);
}

static void
on_good_closed(struct ipc_channel *channel, int reason, void *user)
{
	(void)channel;
	(void)reason;
	(void)user;
	require(false);
}

/* Until there is nothing more to do: it ends. */
static void
turn(void)
{
	struct ipc_message message = {.id = ++world.good_sent};
	unsigned int turns = 0;

	require(ipc_channel_send(world.good_peer, &message, 0) == 0);
	while (ipc_loop_turn(world.loop, 0) > 0)
		require(++turns < TURNS_MAX);
	require(world.good_heard == world.good_sent);
}

static void
end_open(struct end *end)
{
	static const struct ipc_channel_handler handler = {
		.message = on_message, .lost = on_lost, .closed = on_closed};
	const struct ipc_channel_options options = {
		.size = sizeof(options),
		.message_max = world.choices & OPTION_NARROW ? NARROW_MAX : 1 << 20,
		.record_max = IPC_CHANNEL_RECORD_MAX_MIN,
		.fds_max = world.choices & OPTION_NO_FDS ? 0 : FDS_MAX,
		.spin_us = -1,
	};
	int fds[2];

	require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
	*end = (struct end){.peer = fds[1], .is_attached = true};
	require(ipc_channel_open(&end->channel, fds[0], &options) == 0);
	require(ipc_loop_attach(world.loop, end->channel, &handler, end) == 0);
	if (!(world.choices & OPTION_NO_HELLO))
		send_hello(end->peer);
}

/* Its peer goes. */
static void
end_close(struct end *end)
{
	require(close(end->peer) == 0);
	turn();
	require(!end->is_attached);
	if (end->channel)
		receive_rest(end);
	close_end(end);
}

static void
world_close(void)
{
	ipc_channel_close(world.good);
	ipc_channel_close(world.good_peer);
	ipc_loop_destroy(world.loop);
	(void)close(world.passed);
}

/* One loop for all inputs: to make one takes longer than most of them. */
static void
world_open(void)
{
	static const struct ipc_loop_options options = {
		.size = sizeof(options), .engine = IPC_ENGINE_EPOLL};
	static const struct ipc_channel_handler handler = {
		.message = on_good_message, .closed = on_good_closed};

	if (world.loop)
		return;
	require(unsetenv("LIBIPC_ENGINE") == 0);
	require(ipc_loop_create(&world.loop, &options) == 0);
	require(ipc_channel_pair(&world.good, &world.good_peer, NULL) == 0);
	require(ipc_loop_attach(world.loop, world.good, &handler, NULL) == 0);
	/* Not an end of a socket: that would then never see its end. */
	world.passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	require(world.passed >= 0);
	require(atexit(world_close) == 0);
	turn();
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

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const uint8_t *end = input + size;
	size_t packet_size;
	int lowest;

	if (!size)
		return 0;
	world_open();
	lowest = lowest_free();
	world.choices = *input++;
	end_open(&world.ends[0]);
	end_open(&world.ends[1]);
	while (end - input >= 3) {
		packet_size = (size_t)input[1] | (size_t)input[2] << 8;
		packet_size = IPCI_MIN(packet_size, (size_t)(end - input) - 3);
		send_packet(world.ends[!!(input[0] & PACKET_SECOND)].peer, input + 3, packet_size,
			input[0] & PACKET_FDS);
		if (!(input[0] & PACKET_WAITS))
			turn();
		input += 3 + packet_size;
	}
	end_close(&world.ends[0]);
	end_close(&world.ends[1]);
	require(fuzz_comes_back(lowest_free, lowest));
	return 0;
}
