/* SPDX-License-Identifier: MIT */

/* Programmer errors end the program, in what is installed too. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "support.h"

struct mistake {
	const char *name;
	void (*make)(struct ipc_channel *channel);
};

static struct ipc_message hello = {.data = "hello", .size = 6};

static void
post_null_channel(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_post(NULL, &hello, 0);
}

static void
flush_null_channel(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_flush(NULL, 0);
}

static void
send_null_channel(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_send(NULL, &hello, 0);
}

static void
recv_null_channel(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_recv(NULL, &hello, 0);
}

static void
call_null_channel(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_call(NULL, &hello, &hello, 0);
}

static void
reply_null_channel(struct ipc_channel *channel)
{
	struct ipc_message request = {.id = 1};

	(void)channel;
	(void)ipc_channel_reply(NULL, &request, &hello, 0);
}

static void
fd_null_channel(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_fd(NULL);
}

static void
stats_null_channel(struct ipc_channel *channel)
{
	struct ipc_channel_stats stats = {.size = sizeof(stats)};

	(void)channel;
	ipc_channel_stats(NULL, &stats);
}

static void
post_null_message(struct ipc_channel *channel)
{
	(void)ipc_channel_post(channel, NULL, 0);
}

static void
send_null_message(struct ipc_channel *channel)
{
	(void)ipc_channel_send(channel, NULL, 0);
}

static void
recv_null_message(struct ipc_channel *channel)
{
	(void)ipc_channel_recv(channel, NULL, 0);
}

static void
call_null_request(struct ipc_channel *channel)
{
	(void)ipc_channel_call(channel, NULL, &hello, 0);
}

static void
call_null_reply(struct ipc_channel *channel)
{
	(void)ipc_channel_call(channel, &hello, NULL, 0);
}

static void
reply_null_request(struct ipc_channel *channel)
{
	(void)ipc_channel_reply(channel, NULL, &hello, 0);
}

static void
reply_null_reply(struct ipc_channel *channel)
{
	struct ipc_message request = {.id = 1};

	(void)ipc_channel_reply(channel, &request, NULL, 0);
}

static void
stats_null_stats(struct ipc_channel *channel)
{
	ipc_channel_stats(channel, NULL);
}

static void
take_null_message(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_message_take_fd(NULL, 0);
}

static void
pair_null_end(struct ipc_channel *channel)
{
	(void)ipc_channel_pair(&channel, NULL, NULL);
}

static void
open_null_result(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_open(NULL, 0, NULL);
}

static void
inherit_null_result(struct ipc_channel *channel)
{
	(void)channel;
	(void)ipc_channel_inherit(NULL, NULL);
}

/* A message that differs from the last only in what is wrong with it: also where that would
   let it join a run. */
static void
post_unknown_flags(struct ipc_channel *channel)
{
	struct ipc_message message = hello;

	(void)ipc_channel_post(channel, &message, 0);
	message.flags = 2;
	(void)ipc_channel_post(channel, &message, 0);
}

static void
send_unknown_flags(struct ipc_channel *channel)
{
	struct ipc_message message = hello;

	message.flags = 0x8000 | IPC_MESSAGE_REPLY;
	(void)ipc_channel_send(channel, &message, 0);
}

static void
post_size_without_data(struct ipc_channel *channel)
{
	struct ipc_message message = {.size = 1};

	(void)ipc_channel_post(channel, &message, 0);
}

static void
send_size_without_data(struct ipc_channel *channel)
{
	struct ipc_message message = {.size = 100000};

	(void)ipc_channel_send(channel, &message, 0);
}

static void
call_size_without_data(struct ipc_channel *channel)
{
	struct ipc_message message = {.size = 1};

	(void)ipc_channel_call(channel, &message, &message, 0);
}

static void
send_count_without_fds(struct ipc_channel *channel)
{
	struct ipc_message message = {.n_fds = 1};

	(void)ipc_channel_send(channel, &message, 0);
}

static const struct mistake mistakes[] = {
	{"post to no channel", post_null_channel},
	{"flush of no channel", flush_null_channel},
	{"send to no channel", send_null_channel},
	{"receive from no channel", recv_null_channel},
	{"call to no channel", call_null_channel},
	{"reply to no channel", reply_null_channel},
	{"descriptor of no channel", fd_null_channel},
	{"counters of no channel", stats_null_channel},
	{"post of no message", post_null_message},
	{"send of no message", send_null_message},
	{"receive to nowhere", recv_null_message},
	{"call without a request", call_null_request},
	{"call without room for the reply", call_null_reply},
	{"reply to no request", reply_null_request},
	{"reply without a reply", reply_null_reply},
	{"counters to nowhere", stats_null_stats},
	{"descriptor of no message", take_null_message},
	{"pair of one end", pair_null_end},
	{"open to nowhere", open_null_result},
	{"inherit to nowhere", inherit_null_result},
	{"post with unknown flags", post_unknown_flags},
	{"send with unknown flags", send_unknown_flags},
	{"post of a size without data", post_size_without_data},
	{"send of a size without data", send_size_without_data},
	{"call with a size without data", call_size_without_data},
	{"send of descriptors that are nowhere", send_count_without_fds},
};

static void
make_mistake(void *arg)
{
	const struct mistake *mistake = arg;
	struct ipc_channel *a, *b;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	pair_open(&a, &b, OPTIONS(.fds_max = 1));
	/* What assert() says is expected here, and its core dump is not wanted. */
	check(dup2(null, STDERR_FILENO) == STDERR_FILENO);
	check_equal(setrlimit(RLIMIT_CORE, &(struct rlimit){0}), 0);
	check_equal(prctl(PR_SET_DUMPABLE, 0), 0);
	mistake->make(a);
}

static void
programmer_errors_are_asserted(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		(void)printf("%s\n", mistakes[i].name);
		child_end_by(child_start(make_mistake, (void *)&mistakes[i]), SIGABRT);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(programmer_errors_are_asserted),
	};

	return run_group(tests);
}
