/* SPDX-License-Identifier: MIT */

/*
 * A channel means the same on its own, in a loop on epoll, in a loop on io_uring, and when it goes
 * in and out of a loop: thousands of random sequences of packets, right and wrong, by hand and by
 * the library, are given to each, and what each has to tell is compared: messages with their
 * content and descriptors, losses, what is there at each pause, and how it ends.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop_support.h"
#include "raw.h"

#define FILES       4      /* that are passed */
#define FDS_MAX     3      /* with a message, where any are allowed */
#define ROUNDS_MAX  6      /* of a sequence: packets, then all that is there is received */
#define PACKETS_MAX 8      /* of a round */
#define ROUND_SIZE  120000 /* bytes of a round, at most: the smallest socket holds them */
#define ENTRIES_MAX 20000
#define LIMITED     19 /* one round in so many finds no descriptor free */

/* Random numbers of one sequence, whoever it is given to. */
struct dice {
	uint64_t state;
};

enum happening { MESSAGE, LOST, ENDED };

/* One thing that was told. */
struct entry {
	enum happening happening;
	uint64_t id, size, content;
	uint32_t type, flags, n_fds;
	int result;
	ino_t files[FDS_MAX];
};

struct transcript {
	unsigned int n, at_pause[ROUNDS_MAX + 1];
	struct entry entries[ENTRIES_MAX];
};

/* A way to receive. */
struct path {
	const char *name;
	struct ipc_loop *loop; /* NULL: none */
	bool moves;            /* in every other round it is on its own */
};

/* The end that receives. */
struct end {
	const struct path *path;
	struct ipc_channel *channel;
	struct transcript *transcript;
	bool is_attached, has_ended;
};

/* The end that sends: by hand, or by the library. */
struct sender {
	struct dice dice;
	int fd;
	struct ipc_channel *channel; /* NULL: by hand */
	uint32_t fds_max;
	size_t large_left; /* of the large message that has begun */
	size_t budget;
};

static int files[FILES];
static uint64_t sequence_seed;

static uint64_t
roll(struct dice *dice)
{
	uint64_t x = dice->state += 0x9E3779B97F4A7C15ULL;

	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
	x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
	return x ^ x >> 31;
}

static unsigned int
below(struct dice *dice, unsigned int limit)
{
	return (unsigned int)(roll(dice) % limit);
}

static bool
one_in(struct dice *dice, unsigned int n)
{
	return !below(dice, n);
}

/*
 * What is received.
 */

static uint64_t
digest(const void *data, size_t size)
{
	const unsigned char *bytes = data;
	uint64_t value = size, word;
	size_t i;

	for (i = 0; i < size; i += sizeof(word)) {
		word = 0;
		memcpy(&word, bytes + i, size - i < sizeof(word) ? size - i : sizeof(word));
		value = (value ^ word) * 0x9E3779B97F4A7C15ULL;
		value ^= value >> 29;
	}
	return value;
}

static struct entry *
note(struct end *end, enum happening happening)
{
	struct transcript *transcript = end->transcript;
	struct entry *entry = &transcript->entries[transcript->n++];

	check(transcript->n <= ENTRIES_MAX);
	check(!end->has_ended);
	/* It is compared whole. */
	memset(entry, 0, sizeof(*entry));
	entry->happening = happening;
	return entry;
}

static void
note_message(struct end *end, const struct ipc_message *message, enum happening happening)
{
	struct entry *entry = note(end, happening);
	struct stat stat;
	uint32_t i;

	entry->id = message->id;
	entry->size = message->size;
	entry->content = digest(message->data, message->size);
	entry->type = message->type;
	entry->flags = message->flags;
	entry->n_fds = message->n_fds;
	check(message->n_fds <= FDS_MAX);
	for (i = 0; i < message->n_fds; i++) {
		check_equal(fstat(message->fds[i], &stat), 0);
		entry->files[i] = stat.st_ino;
	}
}

static void
note_end(struct end *end, int result)
{
	note(end, ENDED)->result = result;
	end->has_ended = true;
	end->is_attached = false;
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	note_message(user, message, MESSAGE);
}

static void
on_lost(struct ipc_channel *channel, const struct ipc_message *head, void *user)
{
	(void)channel;
	note_message(user, head, LOST);
}

static void
on_closed(struct ipc_channel *channel, int reason, void *user)
{
	(void)channel;
	note_end(user, reason);
}

static const struct ipc_channel_handler handler = {
	.message = on_message, .lost = on_lost, .closed = on_closed};

static void
receive_directly(struct end *end)
{
	struct ipc_message message;
	int r;

	for (;;) {
		r = ipc_channel_recv(end->channel, &message, 0);
		if (r == 0)
			note_message(end, &message, MESSAGE);
		else if (r == -EBADMSG)
			note_message(end, &message, LOST);
		else
			break;
	}
	if (r != -EAGAIN)
		note_end(end, r == -EPIPE ? 0 : r);
}

/* As much as was to be had directly, and what may be more. */
static void
receive_by_turns(struct end *end, unsigned int n_expected)
{
	int64_t give_up_ms = now_ms() + TEST_WAIT_MS;

	while (end->transcript->n < n_expected && !end->has_ended && now_ms() < give_up_ms)
		check(ipc_loop_turn(end->path->loop, 1000) >= 0);
	(void)turn_out(end->path->loop);
}

static void
receive(struct end *end, unsigned int round, const struct transcript *expected)
{
	bool is_direct = !end->path->loop || (end->path->moves && round % 2);

	if (is_direct && end->is_attached) {
		check_equal(ipc_loop_detach(end->path->loop, end->channel), 0);
		end->is_attached = false;
	}
	if (!is_direct && !end->is_attached && !end->has_ended) {
		check_equal(ipc_loop_attach(end->path->loop, end->channel, &handler, end), 0);
		end->is_attached = true;
	}
	if (!end->has_ended && is_direct)
		receive_directly(end);
	else if (!end->has_ended)
		receive_by_turns(end, expected->at_pause[round]);
	end->transcript->at_pause[round] = end->transcript->n;
}

/*
 * What is sent: by hand.
 */

static void
send_bytes(struct sender *sender, const void *bytes, size_t size, unsigned int n_fds)
{
	/* A channel that has ended takes no more, which it may learn a round later. */
	if (n_fds)
		(void)raw_send_fds(sender->fd, bytes, size, files[size % FILES], n_fds);
	else
		(void)send(sender->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	sender->budget -= size < sender->budget ? size : sender->budget;
}

static void
put_payload(struct sender *sender, struct packet *packet, size_t size)
{
	size_t padded = (size + 7) & ~(size_t)7, start = packet->size;

	packet_zeros(packet, padded);
	for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), start += sizeof(uint64_t))
		memcpy(packet->bytes + start, &(uint64_t){roll(&sender->dice)}, sizeof(uint64_t));
}

static uint64_t
some_id(struct sender *sender)
{
	/* Some are replies to calls that nobody made. */
	return below(&sender->dice, 1000) | (one_in(&sender->dice, 300) ? IPC_MESSAGE_ID_CALL : 0);
}

static size_t
some_size(struct sender *sender)
{
	static const unsigned int limits[] = {1, 9, 9, 65, 65, 300, 3000, 5000};

	return below(&sender->dice, limits[below(&sender->dice, 8)]);
}

static unsigned int
some_flags(struct sender *sender)
{
	static const unsigned int flags[] = {0, 0, 0, IPCI_RUN_REPLY, IPCI_RUN_MORE,
		IPCI_RUN_CANCEL, IPCI_RUN_OF_MESSAGE, IPCI_RUN_REPLY | IPCI_RUN_MORE};

	return flags[below(&sender->dice, 8)] | (one_in(&sender->dice, 2) ? IPCI_RUN_ID : 0);
}

/* A run of like messages. */
static void
put_run(struct sender *sender, struct packet *packet)
{
	unsigned int flags = some_flags(sender), count = 1 + below(&sender->dice, 12), i;
	size_t size = some_size(sender);

	if (size > 300 || (!size && !(flags & IPCI_RUN_ID)))
		count = 1;
	packet_run(packet, size, flags, count);
	for (i = 0; i < count; i++) {
		if (flags & IPCI_RUN_ID)
			packet_word(packet, some_id(sender));
		put_payload(sender, packet, size);
	}
}

/* One message with descriptors. */
static void
put_fds(struct sender *sender, struct packet *packet, unsigned int n_fds)
{
	unsigned int flags = some_flags(sender);
	size_t size = some_size(sender);

	packet_run(packet, size, flags | IPCI_RUN_FDS, n_fds);
	if (flags & IPCI_RUN_ID)
		packet_word(packet, some_id(sender));
	put_payload(sender, packet, size);
}

/* The head of a large message, the last of its record. */
static void
put_large(struct sender *sender, struct packet *packet, unsigned int n_fds)
{
	unsigned int flags = some_flags(sender) | IPCI_RUN_LARGE | (n_fds ? IPCI_RUN_FDS : 0);
	size_t size = 1 + below(&sender->dice, 60000);
	size_t piece = one_in(&sender->dice, 2) ? 0 : below(&sender->dice, 1000) & ~7U;

	packet_run(packet, 0, flags, n_fds ? n_fds : 1);
	if (flags & IPCI_RUN_ID)
		packet_word(packet, some_id(sender));
	packet_word(packet, size);
	/* It is wrong now and then. */
	piece = piece > size && !one_in(&sender->dice, 8) ? 0 : piece;
	put_payload(sender, packet, piece);
	sender->large_left = size > piece ? size - piece : 0;
}

/* Whatever is in the packet, something of it is now wrong. */
static void
break_packet(struct sender *sender, struct packet *packet, unsigned int *n_fds)
{
	size_t words = packet->size / sizeof(uint64_t);

	switch (below(&sender->dice, 5)) {
	case 0:
		packet->bytes[below(&sender->dice, (unsigned int)packet->size)] ^=
			(unsigned char)(1U << below(&sender->dice, 8));
		break;
	case 1:
		packet->size -= 1 + below(&sender->dice, 8);
		break;
	case 2:
		packet_word(packet, roll(&sender->dice));
		break;
	case 3:
		*n_fds = below(&sender->dice, FDS_MAX + 2);
		break;
	default:
		memcpy(packet->bytes + below(&sender->dice, (unsigned int)words) * sizeof(uint64_t),
			&(uint64_t){roll(&sender->dice)}, sizeof(uint64_t));
	}
}

static void
send_record(struct sender *sender)
{
	unsigned int n_fds = 0, runs = 1 + below(&sender->dice, 4), i;
	struct packet *packet;
	bool is_large;

	if (sender->fds_max && one_in(&sender->dice, 3))
		n_fds = 1 + below(&sender->dice, sender->fds_max);
	is_large = one_in(&sender->dice, 5);
	packet = packet_begin(IPCI_KIND_MESSAGES, n_fds);
	for (i = 0; i < runs && packet->size < 3000; i++)
		put_run(sender, packet);
	if (is_large)
		put_large(sender, packet, n_fds);
	else if (n_fds)
		put_fds(sender, packet, n_fds);
	(void)packet_end(packet);
	if (one_in(&sender->dice, 25))
		break_packet(sender, packet, &n_fds);
	send_bytes(sender, packet->bytes, packet->size, n_fds);
}

static void
send_fragment(struct sender *sender)
{
	struct packet *packet = packet_begin(IPCI_KIND_FRAGMENT, 0);
	size_t size = sender->large_left;

	if (size > 1 && one_in(&sender->dice, 2))
		size = 1 + below(&sender->dice, (unsigned int)size);
	sender->large_left -= size;
	if (one_in(&sender->dice, 60))
		size++;
	put_payload(sender, packet, size);
	packet->size = sizeof(struct ipci_record_header) + size;
	send_bytes(sender, packet_end(packet)->bytes, packet->size, 0);
}

static void
send_void(struct sender *sender)
{
	struct packet *packet = packet_begin(IPCI_KIND_VOID, 0);

	sender->large_left = 0;
	send_bytes(sender, packet_end(packet)->bytes, packet->size, 0);
}

static void
send_hello(struct sender *sender)
{
	struct ipci_hello hello = plain_hello();
	unsigned int n_fds = 0;

	if (one_in(&sender->dice, 40))
		((unsigned char *)&hello)[below(&sender->dice, sizeof(hello))] ^=
			(unsigned char)(1U << below(&sender->dice, 8));
	if (one_in(&sender->dice, 80))
		n_fds = 1;
	send_bytes(sender, &hello, sizeof(hello), n_fds);
}

/* What nobody expects. */
static void
send_nonsense(struct sender *sender)
{
	static unsigned char bytes[20000];
	size_t size = below(&sender->dice, one_in(&sender->dice, 4) ? sizeof(bytes) : 100), i;

	switch (below(&sender->dice, 4)) {
	case 0:
		send_hello(sender);
		break;
	case 1:
		send_void(sender);
		break;
	case 2:
		sender->large_left = 1 + size;
		send_fragment(sender);
		break;
	default:
		for (i = 0; i < size; i++)
			bytes[i] = (unsigned char)roll(&sender->dice);
		send_bytes(sender, bytes, size, below(&sender->dice, 3));
	}
}

static void
send_by_hand(struct sender *sender)
{
	if (one_in(&sender->dice, 50))
		send_nonsense(sender);
	else if (!sender->large_left)
		send_record(sender);
	else if (one_in(&sender->dice, 10))
		send_void(sender);
	else
		send_fragment(sender);
}

/* By the library. What it refuses, and how, is no matter here. */
static void
send_by_library(struct sender *sender)
{
	static unsigned char payload[60000];
	struct ipc_message message = {.data = payload, .fds = files};

	message.size = one_in(&sender->dice, 12) ? below(&sender->dice, sizeof(payload))
	                                         : some_size(sender);
	message.type = (uint16_t)below(&sender->dice, 3);
	message.flags = (uint16_t)(some_flags(sender) & IPCI_RUN_OF_MESSAGE);
	message.id = one_in(&sender->dice, 2) ? below(&sender->dice, 1000) : 0;
	if (one_in(&sender->dice, 6))
		message.n_fds = below(&sender->dice, FDS_MAX + 1);
	memset(payload, (int)below(&sender->dice, 256), message.size);
	if (one_in(&sender->dice, 3))
		(void)ipc_channel_send(sender->channel, &message, 0);
	else
		(void)ipc_channel_post(sender->channel, &message, 0);
	sender->budget -= message.size < sender->budget ? message.size : sender->budget;
}

static void
send_round(struct sender *sender)
{
	unsigned int n = below(&sender->dice, PACKETS_MAX + 1) * (sender->channel ? 8 : 1);

	sender->budget = ROUND_SIZE;
	for (; n && sender->budget > 65000; n--) {
		if (sender->channel)
			send_by_library(sender);
		else
			send_by_hand(sender);
	}
	if (sender->channel)
		(void)ipc_channel_flush(sender->channel, 0);
}

/*
 * A sequence.
 */

static void
sequence_open(struct sender *sender, struct end *end)
{
	struct ipc_channel_options options = {.size = sizeof(options), .spin_us = -1};
	struct dice *dice = &sender->dice;
	int fds[2];

	options.fds_max = one_in(dice, 3) ? 0 : 1 + below(dice, FDS_MAX);
	options.message_max = one_in(dice, 3) ? 5000 : 50000;
	options.record_max = one_in(dice, 2) ? IPC_CHANNEL_RECORD_MAX_MIN : 0;
	raw_pair(fds);
	check_equal(ipc_channel_open(&end->channel, fds[0], &options), 0);
	sender->fd = fds[1];
	sender->fds_max = one_in(dice, 60) ? FDS_MAX : options.fds_max;
	if (one_in(dice, 3)) {
		options.fds_max = FDS_MAX;
		check_equal(ipc_channel_open(&sender->channel, fds[1], &options), 0);
	} else if (!one_in(dice, 50)) {
		send_hello(sender);
	}
}

/* The peer goes, or says that it has no more to say, or does neither. */
static void
sequence_end(struct sender *sender, struct end *end, const struct transcript *expected,
	unsigned int rounds)
{
	unsigned int how = below(&sender->dice, 4);

	if (how == 0)
		(void)shutdown(sender->fd, SHUT_WR);
	if (how > 1 && sender->channel)
		sender->channel = ipc_channel_close(sender->channel);
	else if (how > 1)
		check_equal(close(sender->fd), 0);
	receive(end, rounds, expected);
	if (how > 1)
		return;
	if (sender->channel)
		ipc_channel_close(sender->channel);
	else
		check_equal(close(sender->fd), 0);
}

/* Give one sequence to one path. */
static void
run_sequence(uint64_t seed, const struct path *path, struct transcript *ret,
	const struct transcript *expected)
{
	struct sender sender = {.dice.state = seed};
	struct end end = {.path = path, .transcript = ret};
	unsigned int rounds = below(&sender.dice, ROUNDS_MAX), open = descriptors_open(), i;
	bool is_limited;

	ret->n = 0;
	sequence_open(&sender, &end);
	for (i = 0; i < rounds; i++) {
		send_round(&sender);
		is_limited = one_in(&sender.dice, LIMITED);
		if (is_limited)
			descriptors_limit(0);
		receive(&end, i, expected);
		if (is_limited)
			descriptors_unlimit();
	}
	sequence_end(&sender, &end, expected, rounds);
	ipc_channel_close(end.channel);
	if (descriptors_open() == open)
		return;
	(void)fprintf(stderr, "the sequence %llu leaves descriptors %s\n", (unsigned long long)seed,
		path->name);
	check(false);
}

static void
print_entry(const char *name, const struct transcript *transcript, unsigned int i)
{
	const struct entry *entry = &transcript->entries[i];
	static const char *const words[] = {"message", "lost", "ended"};

	if (i >= transcript->n) {
		(void)fprintf(stderr, "%s: nothing (%u in all)\n", name, transcript->n);
		return;
	}
	(void)fprintf(stderr,
		"%s: %s: id %llx, %llu bytes (%llx), type %u, flags %u, %u descriptors, result "
		"%d\n",
		name, words[entry->happening], (unsigned long long)entry->id,
		(unsigned long long)entry->size, (unsigned long long)entry->content, entry->type,
		entry->flags, entry->n_fds, entry->result);
}

static void
compare(const struct transcript *expected, const struct path *path, const struct transcript *got)
{
	unsigned int i, n = expected->n < got->n ? expected->n : got->n;

	for (i = 0; i < n; i++)
		if (memcmp(&expected->entries[i], &got->entries[i], sizeof(got->entries[i])))
			break;
	if (i == n && expected->n == got->n)
		return;
	(void)fprintf(
		stderr, "the sequence %llu differs at %u:\n", (unsigned long long)sequence_seed, i);
	print_entry("on its own", expected, i);
	print_entry(path->name, got, i);
	check(false);
}

static struct {
	unsigned int sequences, messages, losts, ends[2];
} counts;

static void
count(const struct transcript *transcript)
{
	unsigned int i;

	counts.sequences++;
	for (i = 0; i < transcript->n; i++) {
		counts.messages += transcript->entries[i].happening == MESSAGE;
		counts.losts += transcript->entries[i].happening == LOST;
		if (transcript->entries[i].happening == ENDED)
			counts.ends[transcript->entries[i].result < 0]++;
	}
}

static struct ipc_loop *
loop_on(enum ipc_engine engine)
{
	const struct ipc_loop_options options = {.size = sizeof(options), .engine = engine};
	struct ipc_loop *loop;

	check_equal(ipc_loop_create(&loop, &options), 0);
	return loop;
}

static void
compare_paths(const struct path *paths, unsigned int n)
{
	static const struct path alone = {.name = "on its own"};
	static struct transcript expected, got;
	const char *chosen = getenv("LIBIPC_TEST_SEQUENCE");
	unsigned int i, left = test_count(4000, 1000);

	for (; left; left--) {
		sequence_seed = chosen ? strtoull(chosen, NULL, 0) : test_random();
		run_sequence(sequence_seed, &alone, &expected, NULL);
		count(&expected);
		for (i = 0; i < n; i++) {
			run_sequence(sequence_seed, &paths[i], &got, &expected);
			compare(&expected, &paths[i], &got);
		}
	}
}

/* LIBIPC_TEST_SEQUENCE: one sequence alone, by the number that was printed. */
static void
all_paths_tell_the_same(void **state)
{
	bool has_uring = uring_refusal() == 0;
	struct path paths[4] = {
		{.name = "in a loop on epoll", .loop = loop_on(IPC_ENGINE_EPOLL)},
		{.name = "in and out of it", .moves = true},
	};
	unsigned int i, n = 2;

	(void)state;
	paths[1].loop = paths[0].loop;
	if (has_uring) {
		paths[n++] = (struct path){
			.name = "in a loop on io_uring", .loop = loop_on(IPC_ENGINE_URING)};
		paths[n++] = (struct path){.name = "in and out of that", .moves = true};
		paths[3].loop = paths[2].loop;
	} else {
		test_lacks("io_uring for a loop");
	}
	for (i = 0; i < FILES; i++)
		check((files[i] = memfd_create("differential", MFD_CLOEXEC)) >= 0);

	compare_paths(paths, n);
	(void)printf(
		"%u sequences, each to %u paths: %u messages, %u lost, %u ends, %u of them for "
		"what was wrong\n",
		counts.sequences, n + 1, counts.messages, counts.losts,
		counts.ends[0] + counts.ends[1], counts.ends[1]);
	for (i = 0; i < n; i += 2)
		ipc_loop_destroy(paths[i].loop);
	for (i = 0; i < FILES; i++)
		check_equal(close(files[i]), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(all_paths_tell_the_same),
	};

	/* Each path has its own. */
	if (unsetenv("LIBIPC_ENGINE") < 0)
		return EXIT_FAILURE;
	return run_group(tests);
}
