/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_POOL_SUPPORT_H
#define LIBIPC_TESTS_POOL_SUPPORT_H

/*
 * What the tests of pools share: workers that do what a request's type says, a desk that counts
 * what a pool calls, and calls that end exactly once.
 *
 * Knows the public headers only.
 */

#include <libipc/pool.h>

#include "loop_support.h"
#include "worker_support.h"

/* A test that leaves no descriptor, and no child, not even a dead one. */
#define pool_test(function) \
	cmocka_unit_test_setup_teardown(function, loop_test_begin, worker_test_end)

/* What serve() does with a request, by its type. n is the number in its payload. */
enum task {
	TASK_ECHO,          /* sends all of it back, as with any type that is not named here */
	TASK_PARTS,         /* n replies that say that more follow, and one that does not */
	TASK_HOLD,          /* is answered at the next release */
	TASK_RELEASE,       /* answers what it holds, the latest first, and then this */
	TASK_DROP,          /* forgets what it holds, and answers this */
	TASK_SLEEP,         /* answers after n ms */
	TASK_PID,           /* answers with its process id */
	TASK_KILL,          /* dies by SIGKILL */
	TASK_EXIT,          /* exits with status n */
	TASK_LAST,          /* answers, then exits with status n */
	TASK_HANG,          /* sleeps for ever */
	TASK_SPIN,          /* runs for ever */
	TASK_STOP,          /* is stopped, as by SIGSTOP; answers if it is continued */
	TASK_CLOSE,         /* closes its end, and lives */
	TASK_TALK,          /* sends n messages of its own accord, then answers */
	TASK_ASK,           /* asks the pool, and answers what that said */
	TASK_CANCELS,       /* answers how many requests that it holds it was told to cancel */
	TASK_PART_AND_KILL, /* gives a part of the answer, then dies by SIGKILL */
	TASKS,
};

/* Takes and gives 253 descriptors and 32 MiB. */
extern const struct ipc_channel_options wide;

/* Does what requests say, until the end. arg: NULL. */
int serve(struct ipc_channel *channel, void *arg);
/* What it does with one. */
void obey(struct ipc_channel *channel, struct ipc_message *message);
/* The role of a program that serves. */
int play_serve(char **argv);

struct call;

/* A pool on a loop, and what it has called. What is set is called after the count; each may be
   NULL. Functions of the user must not be called from within another one, but from what cancels or
   destroys. */
struct desk {
	struct ipc_loop *loop;
	struct ipc_pool *pool;     /* NULL once destroyed */
	struct ipc_worker *latest; /* that has opened its end */
	unsigned int ends, results[2], parts, writables, messages, starteds, endeds, draineds;
	unsigned int deaths; /* endeds by a signal */
	int drain_result;
	int status; /* of the latest that has ended */
	bool fails; /* a worker's check may fail: it is hostile */
	bool calling;
	unsigned int allowing; /* calls that may call functions of the user */
	void (*on_writable)(struct desk *desk);
	void (*on_message)(
		struct desk *desk, struct ipc_worker *worker, struct ipc_message *message);
	void (*on_started)(struct desk *desk, struct ipc_worker *worker);
	void (*on_ended)(
		struct desk *desk, struct ipc_worker *worker, const struct ipc_worker_end *end);
	void (*on_drained)(struct desk *desk, int result);
	void *arg;
};

/* A request. It ends once: that is checked where it does, and by expect_call(). */
struct call {
	struct desk *desk;
	uint64_t id, name;
	unsigned int parts, ends;
	int result;
	uint64_t n; /* the number in the reply, if it is as large as one; else 0 */
	size_t size;
	uint64_t key;    /* of an echo's content */
	size_t echo;     /* its size + 1; 0: it is no echo */
	unsigned int at; /* it was the desk's so manieth to end, from 1 on */
	void (*on_part)(struct call *call, struct ipc_message *reply);
	void (*on_end)(struct call *call, struct ipc_message *reply); /* NULL with an error */
	void *arg;
};

/* Options with what is named, the rest default. */
#define POOL(...) \
	(&(const struct ipc_pool_options){.size = sizeof(struct ipc_pool_options), __VA_ARGS__})

/* A pool on the desk's loop, or a new one. Without .worker its workers are functions that serve. */
void desk_open(struct desk *desk, const struct ipc_pool_options *options);
/* The result of making one. */
int desk_try(struct desk *desk, const struct ipc_pool_options *options);
/* Destroy the pool, if it is there, and the loop. */
void desk_close(struct desk *desk);
/* Destroy the pool alone. */
void desk_destroy(struct desk *desk);

/* Call, with options or NULL. Zero in what call keeps for itself, and what it is to do, first. */
int call_message(struct desk *desk, struct call *call, const struct ipc_message *message,
	int timeout_ms, const struct ipc_call_options *options);
/* A task with a number; checks that it is taken. */
void call_task(struct desk *desk, struct call *call, enum task task, uint64_t n);
void call_task_within(
	struct desk *desk, struct call *call, enum task task, uint64_t n, int timeout_ms);
void call_task_attempts(
	struct desk *desk, struct call *call, enum task task, uint64_t n, unsigned int attempts);
/* An echo of random content; the reply is checked. Return: as the call. */
int call_echo(struct desk *desk, struct call *call, size_t size, unsigned int attempts);
/* Call a task and turn until it has ended; check the result. Return: the number in its answer. */
uint64_t ask(struct desk *desk, enum task task, uint64_t n, int result);

/* Have the latest worker do a task by a message that is no request. */
void tell_latest(const struct desk *desk, enum task task);

/* Turn until the request has ended, and check its result. */
void expect_call(struct call *call, int result);
/* Cancel; checks that it is ended within. */
void cancel(struct call *call);

/* Turn for that long. */
void turn_for(struct ipc_loop *loop, int ms);
/* Turn until the number of workers that may be given requests is this. */
void await_ready(struct desk *desk, unsigned int n);
/* The same, and that no others are there. */
void await_places(struct desk *desk, unsigned int n);

struct ipc_pool_stats pool_stats(const struct desk *desk);
struct ipc_pool_worker_stats place_stats(const struct desk *desk, unsigned int index);
/* Send the worker of a place, which must have one, a signal. */
void signal_place(const struct desk *desk, unsigned int index, int signal);
/* Check that what ended and what did not is what was called; nothing is left if idle. */
void expect_sums(const struct desk *desk, bool idle);

#endif
