/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_LOOP_SUPPORT_H
#define LIBIPC_TESTS_LOOP_SUPPORT_H

/*
 * What the tests of the loop share: a table of tests that is run on every engine this machine
 * has, and an ear: what a channel's callbacks were, and what they are to do.
 *
 * Knows the public headers only.
 */

#include <libipc/loop.h>

#include "support.h"

#define loop_test(function) cmocka_unit_test_setup_teardown(function, loop_test_begin, test_end)
int loop_test_begin(void **state);

/* Run a table of tests on each engine. Where LIBIPC_ENGINE is set, on that alone. Return: the
   status to exit with. */
#define run_on_engines(tests) run_loop_group(tests, sizeof(tests) / sizeof((tests)[0]))
int run_loop_group(const struct CMUnitTest *tests, size_t n);

/* Why no loop is on io_uring here, which is the machine's doing: where it is not, the program
   fails. Return: 0 where there is one, or -errno. */
int uring_refusal(void);

/* The engine that the tests run on now. */
enum ipc_engine engine_now(void);
bool is_on_uring(void);

/* Options with the engine of now and what is named, the rest default. */
#define LOOP_OPTIONS(...)                  \
	(&(const struct ipc_loop_options){ \
		.size = sizeof(struct ipc_loop_options), .engine = engine_now(), __VA_ARGS__})

/* A loop; NULL for default options. */
struct ipc_loop *loop_open(const struct ipc_loop_options *options);

/* Payload bytes that an ear keeps of the latest message. */
#define EAR_TEXT_MAX 64

/*
 * An attached channel's callbacks are counted here, and checked: none within another one, none
 * after closed(). What is set is called after the count.
 */
struct ear {
	struct ipc_loop *loop;
	unsigned int messages, writables, closeds, losts;
	int reason;
	char text[EAR_TEXT_MAX];
	void (*on_message)(
		struct ear *ear, struct ipc_channel *channel, struct ipc_message *message);
	void (*on_writable)(struct ear *ear, struct ipc_channel *channel);
	void (*on_closed)(struct ear *ear, struct ipc_channel *channel);
	void (*on_lost)(
		struct ear *ear, struct ipc_channel *channel, const struct ipc_message *head);
	void *arg;
};

extern const struct ipc_channel_handler ear_handler;

/* Attach a channel to the ear's loop. */
void ear_attach(struct ear *ear, struct ipc_loop *loop, struct ipc_channel *channel);

/* For callbacks of timers and watches, which count as any other: none within another one. */
void callback_enter(void);
void callback_leave(void);

/* Turn until a condition holds. */
#define turn_until(loop, condition)                            \
	do {                                                   \
		int64_t give_up_ms = now_ms() + TEST_WAIT_MS;  \
		while (!(condition)) {                         \
			check(ipc_loop_turn(loop, 1000) >= 0); \
			check(now_ms() < give_up_ms);          \
		}                                              \
	} while (0)

/* Turn without waiting until there is nothing more to do. Return: the callbacks made. */
unsigned int turn_out(struct ipc_loop *loop);

/* Take a text into an attached channel. */
void gather_text(struct ipc_channel *channel, const char *text);

/* Offer messages of so many bytes, not 0, to an attached channel until it is over a limit; each is
   filled with its number. Return: how many were taken. */
unsigned int gather_until_full(struct ipc_channel *channel, size_t size);

/* Is the descriptor of a loop readable now? */
bool is_readable(int fd);

struct ipc_loop_stats loop_stats_of(const struct ipc_loop *loop);

#endif
