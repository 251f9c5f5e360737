/* SPDX-License-Identifier: MIT */

/* A loop belongs to the process that made it: what a child does, or does not do, with its copy
   disturbs nothing. */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop_support.h"

/* Larger than a record, and kept by a loop. */
#define SECRET_SIZE        400000U
#define SECRET_MAPPING_MAX (64UL << 20)

struct fixture {
	struct ipc_loop *loop;
	struct ipc_channel *own, *peer;
	struct ear ear;
	struct ipc_timer *timer;
	struct ipc_watch *watch;
	int eventfd;
	unsigned int seen;
	int ends[2]; /* a pipe by which a child is told to go on */
	unsigned int open;
};

static void
see(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct fixture *f = user;
	uint64_t value;

	(void)watch;
	(void)events;
	check_equal(read(f->eventfd, &value, sizeof(value)), sizeof(value));
	f->seen++;
}

static void
ring(struct ipc_timer *timer, void *user)
{
	(void)timer;
	(void)user;
}

static void
next_id(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	(void)channel;
	check_equal(message->id, ear->messages);
}

static void
fixture_open(struct fixture *f)
{
	*f = (struct fixture){.loop = NULL};
	check_equal(pipe2(f->ends, O_CLOEXEC), 0);
	f->eventfd = eventfd(0, EFD_CLOEXEC);
	check(f->eventfd >= 0);
	f->open = descriptors_open();
	f->loop = loop_open(NULL);
	pair_open(&f->own, &f->peer, OPTIONS(.fds_max = 1));
	f->ear.on_message = next_id;
	ear_attach(&f->ear, f->loop, f->own);
	check_equal(ipc_timer_start(&f->timer, f->loop, 1000000, 0, ring, f), 0);
	check_equal(ipc_watch_start(&f->watch, f->loop, f->eventfd, POLLIN, see, f), 0);
	/* Everything is armed. */
	(void)turn_out(f->loop);
}

static void
fixture_close(struct fixture *f)
{
	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	ipc_loop_destroy(f->loop);
	check_equal(close(f->eventfd) + close(f->ends[0]) + close(f->ends[1]), 0);
}

/* Numbered messages to the attached end. */
static void
send_ids(struct fixture *f, unsigned int from, unsigned int n)
{
	struct ipc_message message = {.data = NULL};

	for (message.id = from; message.id < from + n; message.id++)
		check_equal(ipc_channel_send(f->peer, &message, 0), 0);
}

/* The parent's loop does all that it did before. */
static void
expect_undisturbed(struct fixture *f)
{
	unsigned int heard = f->ear.messages, seen = f->seen, i;

	for (i = 0; i < 20; i++) {
		send_ids(f, heard + 1 + i, 1);
		gather_text(f->own, "answer");
		turn_until(f->loop, f->ear.messages == heard + 1 + i);
		(void)turn_out(f->loop);
		expect_text(f->peer, "answer");
	}
	check_equal(eventfd_write(f->eventfd, 1), 0);
	turn_until(f->loop, f->seen == seen + 1);
	check_equal(f->ear.closeds, 0);
	check_equal(ipc_loop_turn(f->loop, 0), 0);
}

static void
wait_for_word(struct fixture *f)
{
	char byte;

	check_equal(read(f->ends[0], &byte, 1), 1);
}

static void
tell(struct fixture *f)
{
	check_equal(write(f->ends[1], "!", 1), 1);
}

static void
try_everything(void *arg)
{
	struct fixture *f = arg;
	struct ipc_channel *a, *b;
	struct ipc_watch *watch;
	struct ear ear = {.loop = NULL};

	pair_open(&a, &b, NULL);
	check_equal(ipc_loop_attach(f->loop, a, &ear_handler, &ear), -ECHILD);
	check_equal(ipc_loop_turn(f->loop, 0), -ECHILD);
	check_equal(ipc_loop_turn(f->loop, -1), -ECHILD);
	check_equal(ipc_loop_run(f->loop), -ECHILD);
	check_equal(ipc_loop_fd(f->loop), -ECHILD);
	check_equal(ipc_timer_start(NULL, f->loop, 0, 0, ring, f), -ECHILD);
	check_equal(ipc_watch_start(&watch, f->loop, f->ends[0], POLLIN, see, f), -ECHILD);
	ipc_loop_stop(f->loop);
	ipc_channel_close(a);
	ipc_channel_close(b);
	/* What only looks is allowed. */
	check(*ipc_loop_engine(f->loop));
	check(*ipc_loop_engine_reason(f->loop));
}

static void
in_a_child_each_function_answers_echild(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	check(ipc_loop_fd(f.loop) >= 0);
	(void)turn_out(f.loop);
	child_end(child_start(try_everything, &f));
	/* Its stop was not the parent's. */
	check(!is_readable(ipc_loop_fd(f.loop)));
	expect_undisturbed(&f);
	fixture_close(&f);
}

static void
destroy_copy(void *arg)
{
	struct fixture *f = arg;

	check(!ipc_loop_destroy(f->loop));
	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	/* It holds nothing of the loop any more. */
	check_equal(descriptors_open(), f->open);
}

static void
a_childs_destroy_disturbs_nothing(void **state)
{
	struct fixture f;
	int with_fd;

	(void)state;
	for (with_fd = 0; with_fd < 2; with_fd++) {
		fixture_open(&f);
		if (with_fd)
			check(ipc_loop_fd(f.loop) >= 0);
		child_end(child_start(destroy_copy, &f));
		expect_undisturbed(&f);
		fixture_close(&f);
	}
}

static void
close_copies(void *arg)
{
	struct fixture *f = arg;

	check(!ipc_channel_close(f->own));
	check(!ipc_channel_close(f->peer));
	check(!ipc_timer_stop(f->timer));
	check(!ipc_watch_stop(f->watch));
	check(!ipc_loop_destroy(f->loop));
	check_equal(descriptors_open(), f->open);
}

/* What would set the alarm anew, or raise the descriptor, in the process that owns them. */
static void
touch_copies(void *arg)
{
	struct ipc_message message = text_message("a child's");
	struct fixture *f = arg;

	check(!ipc_timer_stop(f->timer));
	check_equal(ipc_channel_post(f->own, &message, 0), -ECHILD);
	check_equal(ipc_channel_send(f->own, &message, 0), -ECHILD);
	check_equal(ipc_channel_flush(f->own, 0), -ECHILD);
	check_equal(ipc_loop_detach(f->loop, f->own), 0);
	ipc_loop_stop(f->loop);
}

static void
a_childs_copies_do_not_touch_the_parents_descriptor(void **state)
{
	struct pollfd entry = {.events = POLLIN};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	ipc_timer_stop(f.timer);
	check_equal(ipc_timer_start(&f.timer, f.loop, 300, 0, ring, &f), 0);
	entry.fd = ipc_loop_fd(f.loop);
	(void)turn_out(f.loop);
	child_end(child_start(touch_copies, &f));
	check(!is_readable(entry.fd));
	expect_nothing(f.peer);
	/* The timer is due all the same. */
	check_equal(poll(&entry, 1, TEST_WAIT_MS), 1);
	check_equal(ipc_loop_turn(f.loop, 0), 1);
	expect_undisturbed(&f);
	fixture_close(&f);
}

static void
detach_copies(void *arg)
{
	struct fixture *f = arg;

	check_equal(ipc_loop_detach(f->loop, f->own), 0);
	check_equal(ipc_loop_detach(f->loop, f->own), -ENOENT);
	close_copies(arg);
}

static void
a_childs_close_and_detach_disturb_nothing(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	child_end(child_start(close_copies, &f));
	expect_undisturbed(&f);
	child_end(child_start(detach_copies, &f));
	expect_undisturbed(&f);
	fixture_close(&f);
}

static void
do_nothing(void *arg)
{
	(void)arg;
}

static void
hold_until_told(void *arg)
{
	wait_for_word(arg);
}

static void
a_child_that_does_nothing_eats_no_messages(void **state)
{
	struct fixture f;
	unsigned int i, n = test_count(100, 10);
	pid_t child;

	(void)state;
	fixture_open(&f);
	for (i = 0; i < n; i++) {
		/* While it lives, when it ends, and afterwards. */
		child = child_start(hold_until_told, &f);
		send_ids(&f, 10 * i + 1, 5);
		tell(&f);
		turn_until(f.loop, f.ear.messages == 10 * i + 5);
		child_end(child);
		send_ids(&f, 10 * i + 6, 5);
		turn_until(f.loop, f.ear.messages == 10 * (i + 1));
	}
	/* Messages that wait in the socket meanwhile. */
	send_ids(&f, f.ear.messages + 1, 10);
	child_end(child_start(do_nothing, &f));
	turn_until(f.loop, f.ear.messages == 10 * (n + 1));
	expect_undisturbed(&f);
	fixture_close(&f);
}

static void
a_killed_child_eats_no_messages_either(void **state)
{
	struct fixture f;
	pid_t child;

	(void)state;
	fixture_open(&f);
	child = child_start(hold_until_told, &f);
	send_ids(&f, 1, 10);
	check_equal(kill(child, SIGKILL), 0);
	child_end_by(child, SIGKILL);
	turn_until(f.loop, f.ear.messages == 10);
	expect_undisturbed(&f);
	fixture_close(&f);
}

static void
detached_while_a_child_has_a_copy_messages_are_the_channels(void **state)
{
	struct ipc_message message;
	struct fixture f;
	unsigned int i;
	pid_t child;

	(void)state;
	fixture_open(&f);
	child = child_start(hold_until_told, &f);
	check_equal(ipc_loop_detach(f.loop, f.own), 0);
	for (i = 1; i <= 50; i++) {
		send_ids(&f, i, 1);
		check_equal(ipc_channel_recv(f.own, &message, 0), 0);
		check_equal(message.id, i);
	}
	tell(&f);
	child_end(child);
	fixture_close(&f);
}

static void
destroyed_while_a_child_has_a_copy_messages_are_the_channels(void **state)
{
	struct ipc_message message;
	struct fixture f;
	unsigned int i;
	pid_t child;

	(void)state;
	fixture_open(&f);
	child = child_start(hold_until_told, &f);
	/* The child's copy keeps alive what the kernel keeps of the loop. */
	f.loop = ipc_loop_destroy(f.loop);
	for (i = 1; i <= 50; i++) {
		send_ids(&f, i, 1);
		check_equal(ipc_channel_recv(f.own, &message, 0), 0);
		check_equal(message.id, i);
	}
	tell(&f);
	child_end(child);
	send_ids(&f, 51, 1);
	check_equal(ipc_channel_recv(f.own, &message, 0), 0);
	fixture_close(&f);
}

static void
close_channels_and_hold(void *arg)
{
	struct fixture *f = arg;

	ipc_channel_close(f->own);
	ipc_channel_close(f->peer);
	tell(f);
	/* The loop's own descriptors are what it still has. */
	for (;;)
		(void)pause();
}

static void
a_peer_sees_the_end_though_a_child_holds_the_loop(void **state)
{
	struct fixture f;
	pid_t child;

	(void)state;
	fixture_open(&f);
	child = child_start(close_channels_and_hold, &f);
	wait_for_word(&f);
	f.own = ipc_channel_close(f.own);
	expect_end(f.peer);
	check_equal(kill(child, SIGKILL), 0);
	child_end_by(child, SIGKILL);
	fixture_close(&f);
}

static void
what_was_gathered_before_a_fork_is_sent_once(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		fixture_open(&f);
		gather_text(f.own, "the parent's");
		child_end(child_start(i == 0   ? destroy_copy
				      : i == 1 ? close_copies
					       : detach_copies,
			&f));
		expect_nothing(f.peer);
		(void)turn_out(f.loop);
		expect_text(f.peer, "the parent's");
		expect_nothing(f.peer);
		fixture_close(&f);
	}
}

static void
what_waits_for_a_full_socket_is_sent_once(void **state)
{
	struct ipc_message message;
	struct fixture f;
	unsigned int n, i;

	(void)state;
	fixture_open(&f);
	n = gather_until_full(f.own, 30000);
	(void)turn_out(f.loop);
	child_end(child_start(close_copies, &f));
	child_end(child_start(destroy_copy, &f));
	for (i = 0; i < n; i++) {
		while (ipc_channel_recv(f.peer, &message, 0) == -EAGAIN)
			check(ipc_loop_turn(f.loop, 10) >= 0);
		check(is_filled(message.data, message.size, i));
	}
	(void)turn_out(f.loop);
	expect_nothing(f.peer);
	expect_undisturbed(&f);
	fixture_close(&f);
}

/* Nowhere but on the stack, where the test has it. */
static void
find_no_secret(void *arg)
{
	const uint64_t *secret = arg;
	uint64_t words[512];
	unsigned long start, end;
	char line[512], access[8];
	FILE *maps = fopen("/proc/self/maps", "r");
	int memory = open("/proc/self/mem", O_RDONLY);

	check(maps && memory >= 0);
	while (fgets(line, sizeof(line), maps)) {
		check_equal(sscanf(line, "%lx-%lx %7s", &start, &end, access), 3);
		/* Larger ones are a sanitizer's. */
		if (strncmp(access, "rw", 2) != 0 || strstr(line, "[stack]") ||
			end - start > SECRET_MAPPING_MAX)
			continue;
		for (; start < end; start += sizeof(words)) {
			if (pread(memory, words, sizeof(words), (off_t)start) != sizeof(words))
				continue;
			for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
				check(words[i] != *secret);
		}
	}
	fclose(maps);
	close(memory);
}

static void
what_was_sent_is_not_in_a_childs_memory(void **state)
{
	uint64_t secret = 0x9E3779B97F4A7C15 ^ (uint64_t)getpid();
	struct ipc_message message = {.size = SECRET_SIZE}, received;
	struct fixture f;
	uint64_t *words;

	(void)state;
	fixture_open(&f);
	words = mmap(NULL, SECRET_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(words != MAP_FAILED);
	for (size_t i = 0; i < SECRET_SIZE / sizeof(*words); i++)
		words[i] = secret;
	message.data = words;
	check_equal(ipc_channel_post(f.own, &message, 0), 0);
	munmap(words, SECRET_SIZE);
	while (ipc_channel_recv(f.peer, &received, 0) == -EAGAIN)
		check(ipc_loop_turn(f.loop, 10) >= 0);
	check_equal(received.size, SECRET_SIZE);
	f.peer = ipc_channel_close(f.peer);
	child_end(child_start(find_no_secret, &secret));
	fixture_close(&f);
}

static void
live_on_its_own(void *arg)
{
	struct fixture *f = arg;
	struct ipc_loop *loop;
	struct ear ears[2] = {{.loop = NULL}};
	struct ipc_channel *a, *b;

	destroy_copy(arg);
	loop = loop_open(NULL);
	pair_open(&a, &b, NULL);
	ear_attach(&ears[0], loop, a);
	ear_attach(&ears[1], loop, b);
	gather_text(a, "the child's");
	turn_until(loop, ears[1].messages == 1);
	ipc_channel_close(a);
	ipc_channel_close(b);
	ipc_loop_destroy(loop);
	check_equal(descriptors_open(), f->open);
}

static void
a_child_may_have_a_loop_of_its_own(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	child_end(child_start(live_on_its_own, &f));
	expect_undisturbed(&f);
	fixture_close(&f);
}

static void
fork_in_message(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct fixture *f = ear->arg;

	(void)channel;
	(void)message;
	if (ear->messages == 2)
		child_end(child_start(destroy_copy, f));
	if (ear->messages == 3)
		child_end(child_start(try_everything, f));
	if (ear->messages == 4)
		child_end(child_start(close_copies, f));
}

static void
a_fork_within_a_callback_disturbs_nothing(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	f.ear.on_message = fork_in_message;
	f.ear.arg = &f;
	send_ids(&f, 1, 10);
	turn_until(f.loop, f.ear.messages == 10);
	f.ear.on_message = next_id;
	expect_undisturbed(&f);
	fixture_close(&f);
}

/*
 * Children that come back from the callback in which they were forked, into the turn.
 */

enum forked_in { FORKED_IN_MESSAGE, FORKED_IN_TIMER, FORKED_IN_WATCH, FORKED_IN_N };

struct homecomer {
	struct fixture f;
	void (*does)(void *arg); /* the child, before it returns */
	bool gave_up;            /* it has freed everything with that */
	enum forked_in where;
	pid_t child;
	bool is_child;
	unsigned int calls; /* of any callback, in this process, after the fork */
};

static void
close_channels(void *arg)
{
	struct fixture *f = arg;

	f->own = ipc_channel_close(f->own);
	f->peer = ipc_channel_close(f->peer);
}

static void
detach_copy(void *arg)
{
	struct fixture *f = arg;

	check_equal(ipc_loop_detach(f->loop, f->own), 0);
}

static void
stop_copies(void *arg)
{
	struct fixture *f = arg;

	f->timer = ipc_timer_stop(f->timer);
	f->watch = ipc_watch_stop(f->watch);
}

static void
stop_loop(struct ipc_timer *timer, void *user)
{
	(void)timer;
	ipc_loop_stop(user);
}

static void
fork_once(struct homecomer *own)
{
	own->calls += own->child >= 0;
	if (own->child >= 0)
		return;
	(void)fflush(NULL);
	own->child = fork();
	check(own->child >= 0);
	if (own->child)
		return;
	own->is_child = true;
	(void)alarm(TEST_SECONDS_MAX);
	own->does(&own->f);
}

static void
fork_in_a_message(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	struct homecomer *own = ear->arg;

	next_id(ear, channel, message);
	if (own->where == FORKED_IN_MESSAGE)
		fork_once(own);
}

static void
fork_in_a_timer(struct ipc_timer *timer, void *user)
{
	(void)timer;
	fork_once(user);
}

static void
fork_in_a_watch(struct ipc_watch *watch, unsigned int events, void *user)
{
	struct homecomer *own = user;

	see(watch, events, &own->f);
	fork_once(own);
}

/* More than one callback to make, of each kind: the first forks. */
static void
have_work(struct homecomer *own)
{
	struct fixture *f = &own->f;
	struct ipc_message message = {.data = NULL};
	unsigned int i;

	switch (own->where) {
	case FORKED_IN_MESSAGE:
		/* In one record, and more in the socket. */
		for (message.id = 1; message.id <= 5; message.id++)
			check_equal(ipc_channel_post(f->peer, &message, 0), 0);
		check_equal(ipc_channel_flush(f->peer, 0), 0);
		send_ids(f, 6, 5);
		break;
	case FORKED_IN_TIMER:
		for (i = 0; i < 3; i++)
			check_equal(ipc_timer_start(NULL, f->loop, 0, 0, fork_in_a_timer, own), 0);
		break;
	default:
		ipc_watch_stop(f->watch);
		check_equal(ipc_watch_start(
				    &f->watch, f->loop, f->eventfd, POLLIN, fork_in_a_watch, own),
			0);
		check_equal(eventfd_write(f->eventfd, 1), 0);
		check_equal(ipc_timer_start(NULL, f->loop, 0, 0, fork_in_a_timer, own), 0);
	}
}

/* The child is told with the turn's result, and that is all that happens to it. */
static void
end_as_child(struct homecomer *own, int result)
{
	struct fixture *f = &own->f;

	check_equal(result, -ECHILD);
	check_equal(own->calls, 0);
	check_equal(f->ear.closeds, 0);
	if (own->where == FORKED_IN_MESSAGE)
		check_equal(f->ear.messages, 1);
	if (!own->gave_up) {
		check_equal(ipc_loop_turn(f->loop, 0), -ECHILD);
		close_copies(f);
	}
	_exit(0);
}

static void
come_back(enum forked_in where, void (*does)(void *arg), bool gave_up, bool with_run)
{
	struct homecomer own = {.where = where, .does = does, .gave_up = gave_up, .child = -1};
	struct fixture *f = &own.f;
	int r;

	fixture_open(f);
	f->ear.on_message = fork_in_a_message;
	f->ear.arg = &own;
	have_work(&own);
	/* A stop that ends the parent's run, after all that is due. */
	if (with_run)
		check_equal(ipc_timer_start(NULL, f->loop, 20, 0, stop_loop, f->loop), 0);
	r = with_run ? ipc_loop_run(f->loop) : ipc_loop_turn(f->loop, TEST_WAIT_MS);
	if (own.is_child)
		end_as_child(&own, r);
	check(r >= 0);
	check(own.child > 0);
	if (where == FORKED_IN_MESSAGE)
		turn_until(f->loop, f->ear.messages == 10);
	child_end(own.child);
	turn_until(f->loop, where != FORKED_IN_TIMER || own.calls == 2);
	f->ear.on_message = next_id;
	expect_undisturbed(f);
	fixture_close(f);
}

static void
a_child_that_returns_into_the_turn_is_told_and_called_no_more(void **state)
{
	static const struct {
		void (*does)(void *arg);
		bool gave_up;
	} children[] = {
		{do_nothing, false},
		{try_everything, false},
		{close_channels, false},
		{detach_copy, false},
		{stop_copies, false},
		{destroy_copy, true},
		{close_copies, true},
	};
	unsigned int i, where;

	(void)state;
	for (where = 0; where < FORKED_IN_N; where++) {
		for (i = 0; i < sizeof(children) / sizeof(children[0]); i++) {
			come_back(where, children[i].does, children[i].gave_up, false);
			come_back(where, children[i].does, children[i].gave_up, true);
		}
	}
}

/* Children come and go while the loop works. */
static void
forks_amid_traffic_disturb_nothing(void **state)
{
	static void (*const runs[])(void *arg) = {do_nothing, destroy_copy, close_copies};
	unsigned int n = test_count(200, 20), i, sent = 0, answers = 0;
	struct ipc_message message;
	struct fixture f;
	pid_t child;

	(void)state;
	fixture_open(&f);
	for (i = 0; i < n; i++) {
		send_ids(&f, sent + 1, 20);
		sent += 20;
		gather_text(f.own, "answer");
		check(ipc_loop_turn(f.loop, 0) >= 0);
		child = child_start(runs[i % 3], &f);
		gather_text(f.own, "answer");
		turn_until(f.loop, f.ear.messages == sent);
		while (ipc_channel_recv(f.peer, &message, 0) == 0)
			answers++;
		child_end(child);
	}
	(void)turn_out(f.loop);
	while (ipc_channel_recv(f.peer, &message, 0) == 0)
		answers++;
	check_equal(answers, 2 * n);
	expect_undisturbed(&f);
	fixture_close(&f);
}

/* What a child reads on: its payload, and its descriptor. */
static void
fork_and_read(struct ear *ear, struct ipc_channel *channel, struct ipc_message *message)
{
	unsigned int *n = ear->arg;
	pid_t pid = fork();

	(void)channel;
	check(pid >= 0);
	if (pid > 0) {
		child_end(pid);
		check(is_filled(message->data, message->size, *n));
		++*n;
		return;
	}
	check(is_filled(message->data, message->size, *n));
	if (message->n_fds)
		check(ipc_message_take_fd(message, 0) >= 0);
	/* It is there for as long as the child's copy of the loop. */
	ipc_loop_destroy(ear->loop);
	_exit(0);
}

static void
a_child_of_a_fork_within_message_reads_the_payload(void **state)
{
	static const struct ipc_channel_options kinds[] = {
		{.size = sizeof(kinds[0])},
		{.size = sizeof(kinds[0]), .fds_max = 1},
		{.size = sizeof(kinds[0]), .record_max = 1U << 20},
	};
	static const size_t sizes[] = {1, 5000, 60000, 150000};
	static unsigned char payload[150000];
	unsigned int kind, i, n;
	int fd = STDERR_FILENO;

	(void)state;
	for (kind = 0; kind < 3; kind++) {
		struct ipc_loop *loop = loop_open(NULL);
		struct ear ear = {.on_message = fork_and_read, .arg = &n};
		struct ipc_channel *own, *peer;

		n = 0;
		pair_open(&own, &peer, &kinds[kind]);
		ear_attach(&ear, loop, own);
		for (i = 0; i < 4; i++) {
			struct ipc_message message = {
				.data = payload, .size = sizes[i], .n_fds = kind == 1, .fds = &fd};

			fill(payload, sizes[i], i);
			check_equal(ipc_channel_send(peer, &message, 0), 0);
			turn_until(loop, n == i + 1);
		}
		ipc_channel_close(own);
		ipc_channel_close(peer);
		ipc_loop_destroy(loop);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		loop_test(in_a_child_each_function_answers_echild),
		loop_test(a_childs_destroy_disturbs_nothing),
		loop_test(a_childs_close_and_detach_disturb_nothing),
		loop_test(a_child_that_does_nothing_eats_no_messages),
		loop_test(a_killed_child_eats_no_messages_either),
		loop_test(detached_while_a_child_has_a_copy_messages_are_the_channels),
		loop_test(destroyed_while_a_child_has_a_copy_messages_are_the_channels),
		loop_test(a_peer_sees_the_end_though_a_child_holds_the_loop),
		loop_test(what_was_gathered_before_a_fork_is_sent_once),
		loop_test(what_waits_for_a_full_socket_is_sent_once),
		loop_test(what_was_sent_is_not_in_a_childs_memory),
		loop_test(a_child_may_have_a_loop_of_its_own),
		loop_test(a_fork_within_a_callback_disturbs_nothing),
		loop_test(a_child_of_a_fork_within_message_reads_the_payload),
		loop_test(a_child_that_returns_into_the_turn_is_told_and_called_no_more),
		loop_test(a_childs_copies_do_not_touch_the_parents_descriptor),
		loop_test(forks_amid_traffic_disturb_nothing),
	};

	return run_on_engines(tests);
}
