/* SPDX-License-Identifier: MIT */

/* Requests and replies, and what comes between them. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

enum type { ECHO = 1, TALK_FIRST, IGNORE, LATE };

static void
notice(struct ipc_channel *channel, uint32_t number)
{
	struct ipc_message message = {.data = &number, .size = sizeof(number)};

	check_equal(ipc_channel_post(channel, &message, TEST_WAIT_MS), 0);
}

static void
expect_notice(struct ipc_channel *channel, uint32_t number)
{
	struct ipc_message message;

	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.size, sizeof(number));
	check_equal(memcmp(message.data, &number, sizeof(number)), 0);
	check_equal(message.flags, 0);
}

/* A request's payload begins with how many notices to send before the reply. */
static void
answer_one(struct ipc_channel *channel, const struct ipc_message *request)
{
	struct ipc_message reply = {
		.data = request->data, .size = request->size, .type = request->type};
	uint32_t n = 0, i;

	switch (request->type) {
	case TALK_FIRST:
		memcpy(&n, request->data, sizeof(n));
		for (i = 0; i < n; i++)
			notice(channel, i);
		break;
	case LATE:
		sleep_ms(60);
		break;
	case IGNORE:
		return;
	default:
		break;
	}
	check_equal(ipc_channel_reply(channel, request, &reply, TEST_WAIT_MS), 0);
}

static void
serve(struct ipc_channel *channel, void *arg)
{
	struct ipc_message request;
	int r;

	(void)arg;
	while ((r = ipc_channel_recv(channel, &request, TEST_WAIT_MS)) == 0)
		answer_one(channel, &request);
	check_equal(r, -EPIPE);
}

static void
call_and_check(struct ipc_channel *channel, uint64_t id, size_t size)
{
	unsigned char *payload = malloc(size + 1);
	struct ipc_message request = {.data = payload, .size = size, .type = ECHO, .id = id}, reply;

	check(payload);
	fill(payload, size, id + size);
	check_equal(ipc_channel_call(channel, &request, &reply, TEST_WAIT_MS), 0);
	check_equal(reply.size, size);
	check_equal(reply.type, ECHO);
	check_equal(reply.flags, IPC_MESSAGE_REPLY);
	if (id)
		check_equal(reply.id, id);
	check(is_filled(reply.data, size, id + size));
	free(payload);
}

static void
a_call_gets_its_reply(void **state)
{
	static const size_t sizes[] = {0, 1, 8, 4096, 65536, 3000000};
	struct worker worker = worker_start(NULL, serve, NULL);
	unsigned int i;

	(void)state;
	for (i = 0; i < 1000; i++)
		call_and_check(worker.channel, i % 3 ? i : 0, sizes[i % 100 ? i % 5 : 5]);
	expect_nothing(worker.channel);
	worker_end(&worker);
}

static void
a_call_ignores_flags(void **state)
{
	struct worker worker = worker_start(NULL, serve, NULL);
	struct ipc_message message = text_message("flagged");

	(void)state;
	message.flags = IPC_MESSAGE_REPLY;
	message.type = ECHO;
	check_equal(ipc_channel_call(worker.channel, &message, &message, TEST_WAIT_MS), 0);
	check_equal(message.size, 8);
	worker_end(&worker);
}

static void
a_call_goes_after_what_was_posted(void **state)
{
	struct ipc_channel *a, *b;
	struct ipc_message message = text_message("posted"), reply;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	message = text_message("called");
	check_equal(ipc_channel_call(a, &message, &reply, 0), -EAGAIN);
	expect_text(b, "posted");
	expect_text(b, "called");
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
other_messages_are_kept_in_order(void **state)
{
	struct worker worker = worker_start(NULL, serve, NULL);
	uint32_t n, i;
	struct ipc_message request = {.data = &n, .size = sizeof(n), .type = TALK_FIRST}, reply;

	(void)state;
	for (n = 1; n <= IPC_CHANNEL_KEPT_MESSAGES_LIMIT; n = n * 3 + 1) {
		check_equal(ipc_channel_call(worker.channel, &request, &reply, TEST_WAIT_MS), 0);
		check_equal(memcmp(reply.data, &n, sizeof(n)), 0);
		for (i = 0; i < n; i++)
			expect_notice(worker.channel, i);
		expect_nothing(worker.channel);
	}
	worker_end(&worker);
}

static void
messages_kept_by_several_calls_stay_in_order(void **state)
{
	struct worker worker = worker_start(NULL, serve, NULL);
	uint32_t n = 3, i;
	struct ipc_message request = {.data = &n, .size = sizeof(n), .type = TALK_FIRST}, reply;

	(void)state;
	for (i = 0; i < 5; i++)
		check_equal(ipc_channel_call(worker.channel, &request, &reply, TEST_WAIT_MS), 0);
	for (i = 0; i < 7; i++)
		expect_notice(worker.channel, i % 3);
	check_equal(ipc_channel_call(worker.channel, &request, &reply, TEST_WAIT_MS), 0);
	for (i = 7; i < 18; i++)
		expect_notice(worker.channel, i % 3);
	expect_nothing(worker.channel);
	worker_end(&worker);
}

/* A peer in this process, that has already said what it will. */
static void
more_messages_than_are_kept_lose_nothing(void **state)
{
	enum { N = 2 * IPC_CHANNEL_KEPT_MESSAGES_LIMIT + 100 };
	struct ipc_message request = text_message("question"), message;
	struct ipc_channel *a, *b;
	uint32_t i, received = 0;

	(void)state;
	pair_open(&a, &b, NULL);
	for (i = 0; i < N; i++)
		notice(b, i);
	check_equal(ipc_channel_flush(b, 0), 0);

	check_equal(ipc_channel_call(a, &request, &message, TEST_WAIT_MS), -EOVERFLOW);
	check_equal(ipc_channel_call(a, &request, &message, TEST_WAIT_MS), -EOVERFLOW);
	while (received < 500)
		expect_notice(a, received++);
	check_equal(ipc_channel_call(a, &request, &message, TEST_WAIT_MS), -EOVERFLOW);
	while (received < N)
		expect_notice(a, received++);
	expect_nothing(a);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

#define MORE_THAN_HALF ((size_t)12 << 20)

/* Two messages, of which only one can be kept. */
static void
send_two_large(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message = {.size = MORE_THAN_HALF};
	unsigned char *payload = malloc(message.size);
	uint64_t i;

	(void)arg;
	check(payload);
	message.data = payload;
	for (i = 0; i < 2; i++) {
		fill(payload, message.size, i);
		check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
	}
	free(payload);
}

static void
more_bytes_than_are_kept_lose_nothing(void **state)
{
	struct worker worker = worker_start(NULL, send_two_large, NULL);
	struct ipc_message message = text_message("question");
	uint64_t i;

	(void)state;
	check_equal(ipc_channel_call(worker.channel, &message, &message, TEST_WAIT_MS), -EOVERFLOW);
	for (i = 0; i < 2; i++) {
		check_equal(ipc_channel_recv(worker.channel, &message, TEST_WAIT_MS), 0);
		check_equal(message.size, MORE_THAN_HALF);
		check(is_filled(message.data, message.size, i));
	}
	expect_end(worker.channel);
	worker_end(&worker);
}

static void
kept_messages_bring_their_descriptors(void **state)
{
	int fds[2] = {STDIN_FILENO, STDERR_FILENO};
	struct ipc_message request = text_message("question"), message;
	struct ipc_channel *a, *b;
	unsigned int i, open;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 2));
	for (i = 0; i < 6; i++) {
		message = (struct ipc_message){.size = 0, .type = (uint16_t)i, .fds = fds};
		message.n_fds = i % 3;
		check_equal(ipc_channel_post(b, &message, 0), 0);
	}
	check_equal(ipc_channel_flush(b, 0), 0);
	open = descriptors_open();
	check_equal(ipc_channel_call(a, &request, &message, 1), -ETIMEDOUT);
	for (i = 0; i < 5; i++) {
		check_equal(ipc_channel_recv(a, &message, 0), 0);
		check_equal(message.type, i);
		check_equal(message.n_fds, i % 3);
		if (i % 3)
			check(is_same_file(message.fds[0], STDIN_FILENO));
		if (i == 4)
			check_equal(close(ipc_message_take_fd(&message, 0)), 0);
	}
	expect_text(b, "question");
	/* The last is still kept: closing closes its descriptors. */
	ipc_channel_close(a);
	ipc_channel_close(b);
	check_equal(descriptors_open(), open - 2);
}

static void
a_reply_brings_its_descriptors(void **state)
{
	int fd = STDERR_FILENO;
	struct ipc_message request = {.id = 4}, answer = {.fds = &fd, .n_fds = 1}, reply;
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	/* It can come before the call. */
	check_equal(ipc_channel_reply(b, &request, &answer, 0), 0);
	check_equal(ipc_channel_call(a, &request, &reply, TEST_WAIT_MS), 0);
	check_equal(reply.n_fds, 1);
	check(is_same_file(reply.fds[0], fd));
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_reply_that_lost_its_descriptors_says_so(void **state)
{
	int fd = STDERR_FILENO;
	struct ipc_message request = {.id = 4}, answer = {.fds = &fd, .n_fds = 1}, reply;
	struct ipc_channel *a, *b;

	(void)state;
	skip_without_descriptor_limit();
	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	check_equal(ipc_channel_reply(b, &request, &answer, 0), 0);
	descriptors_limit(0);
	check_equal(ipc_channel_call(a, &request, &reply, TEST_WAIT_MS), -EBADMSG);
	descriptors_unlimit();
	expect_nothing(a);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_kept_message_that_lost_its_descriptors_says_so_in_its_place(void **state)
{
	int fd = STDERR_FILENO;
	struct ipc_message request = {.id = 4}, message = {.fds = &fd, .n_fds = 1};
	struct ipc_channel *a, *b;

	(void)state;
	skip_without_descriptor_limit();
	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	notice(b, 1);
	check_equal(ipc_channel_post(b, &message, 0), 0);
	notice(b, 2);
	check_equal(ipc_channel_reply(b, &request, &(struct ipc_message){.size = 0}, 0), 0);
	descriptors_limit(0);
	check_equal(ipc_channel_call(a, &request, &message, TEST_WAIT_MS), 0);
	descriptors_unlimit();
	expect_notice(a, 1);
	check_equal(ipc_channel_recv(a, &message, 0), -EBADMSG);
	expect_notice(a, 2);
	expect_nothing(a);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_late_reply_is_dropped(void **state)
{
	struct worker worker = worker_start(NULL, serve, NULL);
	struct ipc_message request = text_message("slow"), reply;
	unsigned int i;

	(void)state;
	request.type = LATE;
	for (i = 0; i < 3; i++)
		check_equal(ipc_channel_call(worker.channel, &request, &reply, 1), -ETIMEDOUT);
	request.type = ECHO;
	check_equal(ipc_channel_call(worker.channel, &request, &reply, TEST_WAIT_MS), 0);
	check_equal(reply.type, ECHO);
	expect_nothing(worker.channel);
	check_equal(stats_of(worker.channel).in.dropped, 3);
	worker_end(&worker);
}

static void
a_late_reply_is_dropped_by_a_receive_too(void **state)
{
	struct ipc_message request = text_message("question"), message;
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_call(a, &request, &message, 0), -EAGAIN);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(ipc_channel_reply(b, &message, &request, 0), 0);
	send_text(b, "news");
	expect_text(a, "news");
	expect_nothing(a);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* Where like replies travel together each is looked at. */
static void
late_replies_are_dropped_from_among_others(void **state)
{
	static const uint64_t ids[] = {5, IPC_MESSAGE_ID_CALL, IPC_MESSAGE_ID_CALL + 1, 6, 7};
	struct ipc_message request = text_message("question"), reply = text_message("answer");
	struct ipc_message message;
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, NULL);
	for (i = 0; i < 2; i++)
		check_equal(ipc_channel_call(a, &request, &message, 0), -EAGAIN);
	reply.flags = IPC_MESSAGE_REPLY;
	for (i = 0; i < 5; i++) {
		reply.id = ids[i];
		check_equal(ipc_channel_post(b, &reply, 0), 0);
	}
	check_equal(ipc_channel_flush(b, 0), 0);
	for (i = 5; i < 8; i++) {
		check_equal(ipc_channel_recv(a, &message, 0), 0);
		check_equal(message.id, i);
		check_equal(message.flags, IPC_MESSAGE_REPLY);
		check_equal(message.size, reply.size);
		check(!memcmp(message.data, reply.data, reply.size));
	}
	expect_nothing(a);
	check_equal(stats_of(a).in.records, 2);
	check_equal(stats_of(a).in.dropped, 2);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

/* Nor does a reply hide that answers a call which was never made. */
static void
a_reply_to_no_call_is_found_among_others(void **state)
{
	static const uint64_t ids[] = {5, 6, IPC_MESSAGE_ID_CALL, 7};
	struct ipc_message reply = text_message("answer"), message;
	struct ipc_channel *a, *b;
	unsigned int i;

	(void)state;
	pair_open(&a, &b, NULL);
	reply.flags = IPC_MESSAGE_REPLY;
	for (i = 0; i < 4; i++) {
		reply.id = ids[i];
		check_equal(ipc_channel_post(b, &reply, 0), 0);
	}
	check_equal(ipc_channel_flush(b, 0), 0);
	check_equal(ipc_channel_recv(a, &message, 0), 0);
	check_equal(ipc_channel_recv(a, &message, 0), 0);
	check_equal(ipc_channel_recv(a, &message, 0), -EPROTO);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_late_reply_to_a_chosen_id_is_given_out(void **state)
{
	struct ipc_message request = text_message("question"), message;
	struct ipc_channel *a, *b;

	(void)state;
	request.id = 99;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_call(a, &request, &message, 0), -EAGAIN);
	check_equal(ipc_channel_recv(b, &message, 0), 0);
	check_equal(message.id, 99);
	check_equal(ipc_channel_reply(b, &message, &request, 0), 0);
	check_equal(ipc_channel_recv(a, &message, 0), 0);
	check_equal(message.id, 99);
	check_equal(message.flags, IPC_MESSAGE_REPLY);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_request_without_an_id_cannot_be_answered(void **state)
{
	struct ipc_message message = text_message("no question"), received;
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_send(a, &message, 0), 0);
	check_equal(ipc_channel_recv(b, &received, 0), 0);
	check_equal(received.id, 0);
	check_equal(ipc_channel_reply(b, &received, &message, 0), -EINVAL);
	expect_nothing(a);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
a_call_waits_as_long_as_it_was_told(void **state)
{
	struct worker worker = worker_start(NULL, serve, NULL);
	struct ipc_message request = text_message("silence"), reply;
	int64_t start_ms = now_ms();

	(void)state;
	request.type = IGNORE;
	check_equal(ipc_channel_call(worker.channel, &request, &reply, 50), -ETIMEDOUT);
	check(now_ms() - start_ms >= 49);
	worker_end(&worker);
}

static void
a_call_to_a_peer_that_ends_tells(void **state)
{
	struct ipc_message request = text_message("question"), reply;
	struct ipc_channel *a, *b;

	(void)state;
	pair_open(&a, &b, NULL);
	notice(b, 1);
	ipc_channel_close(b);
	check_equal(ipc_channel_call(a, &request, &reply, TEST_WAIT_MS), -EPIPE);
	expect_notice(a, 1);
	expect_end(a);
	ipc_channel_close(a);
}

static void
a_reply_is_a_view_until_the_next_receive(void **state)
{
	struct ipc_message request = text_message("the same"), reply;
	struct worker worker = worker_start(NULL, serve, NULL);

	(void)state;
	request.type = ECHO;
	check_equal(ipc_channel_call(worker.channel, &request, &reply, TEST_WAIT_MS), 0);
	request.type = IGNORE;
	check_equal(ipc_channel_send(worker.channel, &request, TEST_WAIT_MS), 0);
	check_equal(memcmp(reply.data, "the same", 9), 0);
	worker_end(&worker);
}

/* A view lasts until the next receive, and a call sends before it receives. */
static void
a_request_may_be_a_view_of_a_kept_message(void **state)
{
	struct ipc_message event = text_message("an event that is kept"), question = {.size = 0};
	struct ipc_channel *a, *b;
	struct ipc_message view;

	(void)state;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_send(b, &event, 0), 0);
	check_equal(ipc_channel_call(a, &question, &view, 1), -ETIMEDOUT);
	check_equal(ipc_channel_recv(a, &view, 0), 0);
	question = (struct ipc_message){.data = view.data, .size = view.size};
	check_equal(ipc_channel_call(a, &question, &view, 1), -ETIMEDOUT);

	check_equal(ipc_channel_recv(b, &view, 0), 0);
	check_equal(ipc_channel_recv(b, &view, 0), 0);
	check_equal(view.size, event.size);
	check_equal(memcmp(view.data, event.data, event.size), 0);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(a_call_gets_its_reply),
		channel_test(a_call_ignores_flags),
		channel_test(a_call_goes_after_what_was_posted),
		channel_test(other_messages_are_kept_in_order),
		channel_test(messages_kept_by_several_calls_stay_in_order),
		channel_test(more_messages_than_are_kept_lose_nothing),
		channel_test(more_bytes_than_are_kept_lose_nothing),
		channel_test(kept_messages_bring_their_descriptors),
		channel_test(a_reply_brings_its_descriptors),
		channel_test(a_reply_that_lost_its_descriptors_says_so),
		channel_test(a_kept_message_that_lost_its_descriptors_says_so_in_its_place),
		channel_test(a_late_reply_is_dropped),
		channel_test(a_late_reply_is_dropped_by_a_receive_too),
		channel_test(late_replies_are_dropped_from_among_others),
		channel_test(a_reply_to_no_call_is_found_among_others),
		channel_test(a_late_reply_to_a_chosen_id_is_given_out),
		channel_test(a_request_without_an_id_cannot_be_answered),
		channel_test(a_call_waits_as_long_as_it_was_told),
		channel_test(a_call_to_a_peer_that_ends_tells),
		channel_test(a_reply_is_a_view_until_the_next_receive),
		channel_test(a_request_may_be_a_view_of_a_kept_message),
	};

	return run_group(tests);
}
