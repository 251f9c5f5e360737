/* SPDX-License-Identifier: MIT */

/*
 * A peer that breaks the format, on purpose or not: it breaks its own channel and nothing
 * else. Every wrong packet there is a name for.
 */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "raw.h"

#define FDS_MAX     4
#define MESSAGE_MAX 150000

static const struct ipc_channel_options *const options =
	OPTIONS(.fds_max = FDS_MAX, .message_max = MESSAGE_MAX);

/* A channel whose peer goes wrong, and one beside it. */
struct scene {
	struct ipc_channel *channel;
	int peer;
	struct ipc_channel *beside_a, *beside_b;
};

static void
scene_open(struct scene *scene)
{
	pair_open(&scene->beside_a, &scene->beside_b, NULL);
	scene->channel = raw_channel(&scene->peer, options);
}

/* The channel is dead, in both directions and for good; the other one has not noticed. */
static void
scene_ends_broken(struct scene *scene)
{
	struct ipc_message message;
	int i;

	for (i = 0; i < 2; i++)
		check_equal(ipc_channel_recv(scene->channel, &message, TEST_WAIT_MS), -EPROTO);
	message = text_message("too late");
	check_equal(ipc_channel_send(scene->channel, &message, TEST_WAIT_MS), -EPROTO);
	(void)ipc_channel_post(scene->channel, &message, TEST_WAIT_MS);
	check_equal(ipc_channel_flush(scene->channel, TEST_WAIT_MS), -EPROTO);
	check_equal(ipc_channel_call(scene->channel, &message, &message, TEST_WAIT_MS), -EPROTO);
	check_equal(stats_of(scene->channel).in.dropped, 1);

	send_text(scene->beside_a, "undisturbed");
	expect_text(scene->beside_b, "undisturbed");
}

static void
scene_close(struct scene *scene)
{
	ipc_channel_close(scene->channel);
	ipc_channel_close(scene->beside_a);
	ipc_channel_close(scene->beside_b);
	check_equal(close(scene->peer), 0);
}

/* A wrong packet: n_before good messages come out of it first. */
struct wrong {
	const char *name;
	struct packet *(*build)(void);
	unsigned int n_fds; /* passed beside it */
	unsigned int n_before;
};

static struct packet *
messages(unsigned int n_fds)
{
	return packet_begin(IPCI_KIND_MESSAGES, n_fds);
}

static struct packet *
build_short(void)
{
	struct packet *packet = packet_text("short");

	packet->size = 7;
	return packet;
}

static struct packet *
build_one_byte(void)
{
	struct packet *packet = packet_text("one");

	packet->size = 1;
	return packet;
}

static struct packet *
build_header_alone(void)
{
	return packet_end(messages(0));
}

static struct packet *
build_size_too_small(void)
{
	struct packet *packet = packet_text("a string");

	packet_zeros(packet, 8);
	return packet;
}

static struct packet *
build_size_too_large(void)
{
	struct packet *packet = packet_text("a string");

	packet->size -= 8;
	return packet;
}

static struct packet *
build_size_not_padded(void)
{
	struct packet *packet = packet_text("a string");

	packet_zeros(packet, 4);
	return packet_end(packet);
}

static struct packet *
build_longer_than_record_max(void)
{
	struct packet *packet = messages(0);

	packet_run(packet, IPC_CHANNEL_RECORD_MAX_DEFAULT, 0, 1);
	packet_zeros(packet, IPC_CHANNEL_RECORD_MAX_DEFAULT);
	return packet_end(packet);
}

/* What of it fits is a record by itself. */
static struct packet *
build_record_that_goes_on(void)
{
	struct packet *packet = messages(0);

	packet_run(packet, IPC_CHANNEL_RECORD_MAX_DEFAULT - 16, 0, 1);
	packet_zeros(packet, IPC_CHANNEL_RECORD_MAX_DEFAULT - 16);
	packet_end(packet);
	packet_zeros(packet, 8);
	return packet;
}

static struct packet *
build_wrong_magic(void)
{
	struct packet *packet = packet_text("magic");

	packet->bytes[0] ^= 1;
	return packet;
}

static struct packet *
build_kind(unsigned int kind)
{
	struct packet *packet = packet_text("kind");

	packet->bytes[1] = (unsigned char)kind;
	return packet;
}

static struct packet *
build_kind_0(void)
{
	return build_kind(0);
}

static struct packet *
build_kind_5(void)
{
	return build_kind(5);
}

static struct packet *
build_kind_255(void)
{
	return build_kind(255);
}

static struct packet *
build_second_hello(void)
{
	struct packet *packet = packet_begin(IPCI_KIND_HELLO, 0);
	struct ipci_hello hello = plain_hello();

	memcpy(packet->bytes, &hello, sizeof(hello));
	packet->size = sizeof(hello);
	return packet;
}

static struct packet *
build_fragment_without_beginning(void)
{
	struct packet *packet = packet_begin(IPCI_KIND_FRAGMENT, 0);

	packet_zeros(packet, 100);
	return packet_end(packet);
}

static struct packet *
build_void_without_beginning(void)
{
	return packet_end(packet_begin(IPCI_KIND_VOID, 0));
}

static struct packet *
run_of(size_t size, unsigned int flags, unsigned int count, size_t body)
{
	struct packet *packet = messages(0);

	packet_run(packet, size, flags, count);
	packet_zeros(packet, body);
	return packet_end(packet);
}

static struct packet *
build_count_0(void)
{
	return run_of(8, 0, 0, 8);
}

static struct packet *
build_count_too_large(void)
{
	return run_of(8, 0, 3, 16);
}

static struct packet *
build_count_max(void)
{
	return run_of(IPCI_RUN_SIZE_MAX, IPCI_RUN_ID, IPCI_RUN_COUNT_MAX, 16);
}

static struct packet *
build_payload_too_long(void)
{
	return run_of(17, 0, 1, 16);
}

static struct packet *
build_payload_size_max(void)
{
	return run_of(IPCI_RUN_SIZE_MAX, 0, 1, 16);
}

static struct packet *
build_id_without_room(void)
{
	return run_of(8, IPCI_RUN_ID, 1, 8);
}

static struct packet *
build_unknown_flag(void)
{
	return run_of(8, 0x40, 1, 8);
}

static struct packet *
build_all_flags(void)
{
	return run_of(8, 0xFF, 1, 8);
}

static struct packet *
build_bytes_after_the_last_run(void)
{
	return run_of(8, 0, 1, 16);
}

static struct packet *
build_second_run_wrong(void)
{
	struct packet *packet = packet_text("first");

	packet_run(packet, 100, 0, 1);
	return packet_end(packet);
}

static struct packet *
build_reply_nobody_asked_for(void)
{
	struct packet *packet = messages(0);

	packet_run(packet, 0, IPCI_RUN_REPLY | IPCI_RUN_ID, 1);
	packet_word(packet, IPC_MESSAGE_ID_CALL + 5);
	return packet_end(packet);
}

static struct packet *
announced(unsigned int in_header, unsigned int in_run)
{
	struct packet *packet = messages(in_header);

	packet_run(packet, 0, in_run ? IPCI_RUN_FDS : 0, in_run ? in_run : 1);
	return packet_end(packet);
}

static struct packet *
build_one_announced(void)
{
	return announced(1, 1);
}

static struct packet *
build_none_announced(void)
{
	return announced(0, 0);
}

static struct packet *
build_two_announced(void)
{
	return announced(2, 2);
}

static struct packet *
build_two_of_three_claimed(void)
{
	return announced(3, 2);
}

static struct packet *
build_two_of_one_claimed(void)
{
	return announced(1, 2);
}

static struct packet *
build_over_fds_max(void)
{
	return announced(FDS_MAX + 1, FDS_MAX + 1);
}

static struct packet *
build_over_fds_limit(void)
{
	return announced(IPC_MESSAGE_FDS_LIMIT + 1, FDS_MAX);
}

static struct packet *
build_descriptor_with_half_a_payload(void)
{
	struct packet *packet = messages(1);

	packet_run(packet, 16, IPCI_RUN_FDS, 1);
	packet_zeros(packet, 8);
	return packet_end(packet);
}

static struct packet *
build_fds_flag_without_fds(void)
{
	return run_of(0, IPCI_RUN_FDS, 0, 0);
}

static struct packet *
build_large(size_t run_size, unsigned int count, uint64_t total, size_t after)
{
	struct packet *packet = messages(0);

	packet_run(packet, run_size, IPCI_RUN_LARGE, count);
	packet_word(packet, total);
	packet_zeros(packet, after);
	return packet_end(packet);
}

static struct packet *
build_large_of_0(void)
{
	return build_large(0, 1, 0, 0);
}

static struct packet *
build_large_over_limit(void)
{
	return build_large(0, 1, MESSAGE_MAX + 1, 0);
}

static struct packet *
build_large_of_everything(void)
{
	return build_large(0, 1, UINT64_MAX, 0);
}

static struct packet *
build_large_with_payload(void)
{
	return build_large(8, 1, 50000, 8);
}

static struct packet *
build_two_large(void)
{
	return build_large(0, 2, 50000, 8);
}

/* Its first piece stands behind its size. */
static struct packet *
build_large_begun_too_far(void)
{
	return build_large(0, 1, 199, 200);
}

static struct packet *
build_large_without_size(void)
{
	return run_of(0, IPCI_RUN_LARGE, 1, 0);
}

static const struct wrong wrongs[] = {
	{"a packet shorter than a header", build_short, 0, 0},
	{"a packet of one byte", build_one_byte, 0, 0},
	{"a header and nothing else", build_header_alone, 0, 0},
	{"a size below the packet's", build_size_too_small, 0, 0},
	{"a size above the packet's", build_size_too_large, 0, 0},
	{"a body that is not padded", build_size_not_padded, 0, 0},
	{"a packet above the record limit", build_longer_than_record_max, 0, 0},
	{"a record at the limit that goes on", build_record_that_goes_on, 0, 0},
	{"another magic", build_wrong_magic, 0, 0},
	{"kind 0", build_kind_0, 0, 0},
	{"kind 5", build_kind_5, 0, 0},
	{"kind 255", build_kind_255, 0, 0},
	{"a second hello", build_second_hello, 0, 0},
	{"a fragment without a beginning", build_fragment_without_beginning, 0, 0},
	{"a void of nothing", build_void_without_beginning, 0, 0},
	{"a run of no messages", build_count_0, 0, 0},
	{"a run of more messages than are here", build_count_too_large, 0, 0},
	{"a run whose size overflows 32 bits", build_count_max, 0, 0},
	{"a payload one byte longer than the record", build_payload_too_long, 0, 0},
	{"a payload of 16 MiB in a small record", build_payload_size_max, 0, 0},
	{"an id without room for the payload", build_id_without_room, 0, 0},
	{"an unknown flag", build_unknown_flag, 0, 0},
	{"all flags", build_all_flags, 0, 0},
	{"zeros after the last run", build_bytes_after_the_last_run, 0, 1},
	{"a wrong run after a right one", build_second_run_wrong, 0, 1},
	{"a reply nobody asked for", build_reply_nobody_asked_for, 0, 0},
	{"one descriptor announced, none here", build_one_announced, 0, 0},
	{"no descriptor announced, one here", build_none_announced, 1, 0},
	{"two descriptors announced, one here", build_two_announced, 1, 0},
	{"two descriptors announced, three here", build_two_announced, 3, 0},
	{"three descriptors here, two claimed", build_two_of_three_claimed, 3, 1},
	{"one descriptor here, two claimed", build_two_of_one_claimed, 1, 0},
	{"more descriptors than are taken", build_over_fds_max, FDS_MAX + 1, 0},
	{"more descriptors than the kernel passes", build_over_fds_limit, FDS_MAX, 0},
	{"a descriptor with half a payload", build_descriptor_with_half_a_payload, 1, 0},
	{"a flag of descriptors without any", build_fds_flag_without_fds, 0, 0},
	{"a fragment with descriptors", build_fragment_without_beginning, 2, 0},
	{"a large message of no bytes", build_large_of_0, 0, 0},
	{"a large message above the limit", build_large_over_limit, 0, 0},
	{"a large message of 2^64 - 1 bytes", build_large_of_everything, 0, 0},
	{"a large message with a payload", build_large_with_payload, 0, 0},
	{"two large messages in a run", build_two_large, 0, 0},
	{"a large message of more than its size", build_large_begun_too_far, 0, 0},
	{"a large message without its size", build_large_without_size, 0, 0},
};

static void
send_wrong(int peer, const struct wrong *wrong, int passed)
{
	const struct packet *packet = wrong->build();

	if (wrong->n_fds)
		check_equal(raw_send_fds(peer, packet->bytes, packet->size, passed, wrong->n_fds),
			packet->size);
	else
		raw_send_packet(peer, packet);
}

static void
every_wrong_packet_ends_its_channel_alone(void **state)
{
	struct ipc_message message;
	struct scene scene;
	unsigned int open;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		(void)printf("%s\n", wrongs[i].name);
		scene_open(&scene);
		raw_send_packet(scene.peer, packet_text("before"));
		expect_text(scene.channel, "before");

		open = descriptors_open();
		send_wrong(scene.peer, &wrongs[i], scene.peer);
		for (k = 0; k < wrongs[i].n_before; k++)
			check_equal(ipc_channel_recv(scene.channel, &message, TEST_WAIT_MS), 0);
		scene_ends_broken(&scene);
		scene_close(&scene);
		check_equal(descriptors_open(), open - 4);
	}
}

/* The same in the middle of a large message. */
static void
nothing_but_its_fragments_may_come_within_a_large_message(void **state)
{
	struct scene scene;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		if (wrongs[i].build == build_void_without_beginning ||
			(wrongs[i].build == build_fragment_without_beginning && !wrongs[i].n_fds))
			continue;
		(void)printf("%s\n", wrongs[i].name);
		scene_open(&scene);
		raw_send_packet(scene.peer, build_large(0, 1, MESSAGE_MAX, 0));
		raw_send_packet(scene.peer, build_fragment_without_beginning());
		expect_nothing(scene.channel);
		send_wrong(scene.peer, &wrongs[i], scene.peer);
		scene_ends_broken(&scene);
		scene_close(&scene);
	}
}

static void
a_message_within_a_large_one_ends_the_channel(void **state)
{
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, MESSAGE_MAX, 0));
	raw_send_packet(scene.peer, packet_text("now?"));
	scene_ends_broken(&scene);
	scene_close(&scene);
}

static void
a_fragment_of_more_than_is_missing_ends_the_channel(void **state)
{
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, 199, 0));
	raw_send_packet(scene.peer, build_fragment_without_beginning());
	raw_send_packet(scene.peer, build_fragment_without_beginning());
	scene_ends_broken(&scene);
	scene_close(&scene);
}

static void
a_last_fragment_that_goes_on_ends_the_channel(void **state)
{
	struct packet *packet;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, 100, 0));
	/* By its header it is what was missing. */
	packet = build_fragment_without_beginning();
	packet_zeros(packet, 8);
	raw_send_packet(scene.peer, packet);
	scene_ends_broken(&scene);
	scene_close(&scene);
}

static void
an_empty_fragment_ends_the_channel(void **state)
{
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, 200, 0));
	raw_send_packet(scene.peer, packet_end(packet_begin(IPCI_KIND_FRAGMENT, 0)));
	scene_ends_broken(&scene);
	scene_close(&scene);
}

static void
a_fragment_that_lies_about_its_size_ends_the_channel(void **state)
{
	struct packet *packet;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, 200, 0));
	packet = build_fragment_without_beginning();
	packet->size += 8;
	raw_send_packet(scene.peer, packet);
	scene_ends_broken(&scene);
	scene_close(&scene);
}

static void
a_void_with_a_body_ends_the_channel(void **state)
{
	struct packet *packet;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, 200, 0));
	packet = packet_begin(IPCI_KIND_VOID, 0);
	packet_zeros(packet, 8);
	raw_send_packet(scene.peer, packet_end(packet));
	scene_ends_broken(&scene);
	scene_close(&scene);
}

static void
a_large_message_that_is_voided_leaves_the_next_intact(void **state)
{
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, 200, 0));
	raw_send_packet(scene.peer, build_fragment_without_beginning());
	raw_send_packet(scene.peer, packet_end(packet_begin(IPCI_KIND_VOID, 0)));
	raw_send_packet(scene.peer, packet_text("after it"));
	expect_text(scene.channel, "after it");
	check_equal(stats_of(scene.channel).in.dropped, 1);
	scene_close(&scene);
}

static void
a_large_message_may_begin_in_its_record(void **state)
{
	static const size_t begun[] = {0, 8, 96, 192, 200};
	struct packet *packet;
	struct ipc_message message;
	struct scene scene;
	unsigned char content[200];
	unsigned int i;

	(void)state;
	scene_open(&scene);
	for (i = 0; i < 5; i++) {
		fill(content, sizeof(content), i);
		packet = build_large(0, 1, sizeof(content), begun[i]);
		memcpy(packet->bytes + packet->size - begun[i], content, begun[i]);
		raw_send_packet(scene.peer, packet);
		if (begun[i] < sizeof(content)) {
			expect_nothing(scene.channel);
			packet = packet_begin(IPCI_KIND_FRAGMENT, 0);
			packet_zeros(packet, sizeof(content) - begun[i]);
			memcpy(packet->bytes + 8, content + begun[i], sizeof(content) - begun[i]);
			raw_send_packet(scene.peer, packet_end(packet));
		}
		check_equal(ipc_channel_recv(scene.channel, &message, 0), 0);
		check_equal(message.size, sizeof(content));
		check_equal((uintptr_t)message.data % 8, 0);
		check(is_filled(message.data, message.size, i));
	}
	scene_close(&scene);
}

static void
a_peer_that_ends_within_a_large_message_is_an_end(void **state)
{
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_large(0, 1, 200, 0));
	raw_send_packet(scene.peer, build_fragment_without_beginning());
	check_equal(shutdown(scene.peer, SHUT_RDWR), 0);
	expect_end(scene.channel);
	scene_close(&scene);
}

static void
an_empty_packet_looks_like_the_end_and_is_one(void **state)
{
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, packet_text("before"));
	raw_send(scene.peer, "", 0);
	raw_send_packet(scene.peer, packet_text("after"));
	expect_text(scene.channel, "before");
	expect_end(scene.channel);
	scene_close(&scene);
}

static void
who_takes_no_descriptors_is_not_given_any(void **state)
{
	const struct packet *packet;
	struct ipc_channel *channel;
	struct ipc_message message;
	unsigned int open;
	int peer;
	ssize_t r;

	(void)state;
	channel = raw_channel(&peer, NULL);
	/* The hello has to be out of the way, or its like would be read first. */
	raw_send_packet(peer, packet_text("before"));
	expect_text(channel, "before");
	open = descriptors_open();
	packet = build_one_announced();
	r = raw_send_fds(peer, packet->bytes, packet->size, peer, 1);
	if (r == -EPERM) {
		raw_send_packet(peer, packet_text("refused by the kernel"));
		expect_text(channel, "refused by the kernel");
	} else {
		test_lacks("SO_PASSRIGHTS (Linux 6.16)");
		check_equal(r, packet->size);
		check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), -EPROTO);
	}
	check_equal(descriptors_open(), open);
	ipc_channel_close(channel);
	check_equal(close(peer), 0);
}

static void
replies_nobody_asked_for_end_a_call(void **state)
{
	struct ipc_message request = text_message("question"), reply;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	raw_send_packet(scene.peer, build_reply_nobody_asked_for());
	check_equal(ipc_channel_call(scene.channel, &request, &reply, TEST_WAIT_MS), -EPROTO);
	scene_ends_broken(&scene);
	scene_close(&scene);
}

static void
a_reply_to_an_id_of_the_application_is_its_own_affair(void **state)
{
	struct packet *packet = messages(0);
	struct ipc_message message;
	struct scene scene;

	(void)state;
	scene_open(&scene);
	packet_run(packet, 0, IPCI_RUN_REPLY | IPCI_RUN_ID, 1);
	packet_word(packet, 12345);
	raw_send_packet(scene.peer, packet_end(packet));
	check_equal(ipc_channel_recv(scene.channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.flags, IPC_MESSAGE_REPLY);
	check_equal(message.id, 12345);
	scene_close(&scene);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(every_wrong_packet_ends_its_channel_alone),
		channel_test(nothing_but_its_fragments_may_come_within_a_large_message),
		channel_test(a_message_within_a_large_one_ends_the_channel),
		channel_test(a_fragment_of_more_than_is_missing_ends_the_channel),
		channel_test(a_last_fragment_that_goes_on_ends_the_channel),
		channel_test(an_empty_fragment_ends_the_channel),
		channel_test(a_fragment_that_lies_about_its_size_ends_the_channel),
		channel_test(a_void_with_a_body_ends_the_channel),
		channel_test(a_large_message_that_is_voided_leaves_the_next_intact),
		channel_test(a_large_message_may_begin_in_its_record),
		channel_test(a_peer_that_ends_within_a_large_message_is_an_end),
		channel_test(an_empty_packet_looks_like_the_end_and_is_one),
		channel_test(who_takes_no_descriptors_is_not_given_any),
		channel_test(replies_nobody_asked_for_end_a_call),
		channel_test(a_reply_to_an_id_of_the_application_is_its_own_affair),
	};

	return run_group(tests);
}
