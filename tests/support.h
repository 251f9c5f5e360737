/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_SUPPORT_H
#define LIBIPC_TESTS_SUPPORT_H

/*
 * What the tests of the channel share: a bound on their time, a census of descriptors around
 * each, random content that can be had again, and child processes whose checks count.
 *
 * Knows the public header only.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <sys/types.h>

#include <cmocka.h>
#include <libipc/channel.h>

/* Seconds after which a test, or a child of one, is ended by SIGALRM. */
#define TEST_SECONDS_MAX 60

/* For waits that end long before: a receive or send that takes this long has failed. */
#define TEST_WAIT_MS 30000

/* The exit status of a program all of whose tests this machine lacks something for. */
#define EXIT_SKIPPED 77

/* A test between two looks at the clock and at what descriptors are open. */
#define channel_test(function) cmocka_unit_test_setup_teardown(function, test_begin, test_end)
int test_begin(void **state);
int test_end(void **state);

/* Run a table of tests; prints seed and scale. Return: the status to exit with. */
#define run_group(tests) run_test_group(tests, sizeof(tests) / sizeof((tests)[0]))
int run_test_group(const struct CMUnitTest *tests, size_t n);

/*
 * A check that also works in a child, which ends with status 1, and in another thread,
 * which ends the whole program: cmocka's own know one thread of one process only.
 */
#define check(condition) test_check(!!(condition), #condition, __FILE__, __LINE__)
#define check_equal(actual, expected)                                                              \
	test_check_equal((long long)(actual), (long long)(expected), #actual, #expected, __FILE__, \
		__LINE__)
void test_check(bool held, const char *condition, const char *file, int line);
void test_check_equal(long long actual, long long expected, const char *actual_text,
	const char *expected_text, const char *file, int line);

/* Say what this machine lacks, where a part of a test has to be left out. */
void test_lacks(const char *what);

/* How often to do something: LIBIPC_TEST_SCALE=quick takes the smaller number. */
unsigned int test_count(unsigned int full, unsigned int quick);

/* Random numbers from the seed that was printed; LIBIPC_TEST_SEED sets it. */
uint64_t test_random(void);
size_t test_random_below(size_t limit);

/* Content that depends on key and place, so that nothing can stand in for anything else. */
void fill(void *memory, size_t size, uint64_t key);
bool is_filled(const void *memory, size_t size, uint64_t key);

int64_t now_ms(void);
void sleep_ms(int ms);

/* Interrupt this process 1,000 times a second, by a handler that lets system calls fail. */
void signals_start(void);
/* Return: how many there were. */
unsigned int signals_stop(void);

/* It puts signals off until a call that it knows, among others. */
#if defined(__SANITIZE_THREAD__)
#define HAS_THREAD_SANITIZER true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_THREAD_SANITIZER true
#endif
#endif
#ifndef HAS_THREAD_SANITIZER
#define HAS_THREAD_SANITIZER false
#endif

/* What nobody took of a peer's descriptors is closed soon, by a thread: wait for its end. */
void await_closers(void);
/* Open descriptors of this process, when the library has closed what it was to close. */
unsigned int descriptors_open(void);
/* Resident memory of this process. */
size_t resident_bytes(void);
/* Check that it is below this; not where a sanitizer keeps what was freed. */
void expect_resident_below(size_t limit);
/* Lower the limit so that n more descriptors can be opened, until the test ends. */
void descriptors_limit(unsigned int n_more);
void descriptors_unlimit(void);
/* Skip the test where the limit is not the kernel's own: valgrind plays it. */
void skip_without_descriptor_limit(void);
/* Do two descriptors, of this process, name one open file? */
bool is_same_file(int a, int b);

/* A process that runs a function and exits with 0 if it returns and every check held. */
pid_t child_start(void (*run)(void *arg), void *arg);
/* Wait for it and check that it ended so. */
void child_end(pid_t pid);
/* Wait for it and check that this signal ended it. */
void child_end_by(pid_t pid, int signal);

/* A child with the other end of a new pair. It closes that when run returns. */
struct worker {
	pid_t pid;
	struct ipc_channel *channel;
};
struct worker worker_start(const struct ipc_channel_options *options,
	void (*run)(struct ipc_channel *channel, void *arg), void *arg);
/* Close this end and wait. */
void worker_end(struct worker *worker);

/* Options with what is named, the rest default. */
#define OPTIONS(...)                          \
	(&(const struct ipc_channel_options){ \
		.size = sizeof(struct ipc_channel_options), __VA_ARGS__})

void pair_open(struct ipc_channel **ret_a, struct ipc_channel **ret_b,
	const struct ipc_channel_options *options);

/* A message of a string, its end included. */
struct ipc_message text_message(const char *text);
void send_text(struct ipc_channel *channel, const char *text);
/* Receive the next message and check that it is this string. */
void expect_text(struct ipc_channel *channel, const char *text);
/* Check that nothing more is here. */
void expect_nothing(struct ipc_channel *channel);
/* Check that the channel has ended. */
void expect_end(struct ipc_channel *channel);

/* Send, posted, messages of so many bytes (not 0: a record holds half a billion of those) until the
   socket and the open record are full. Each is filled with its number. Return: how many were taken.
 */
unsigned int post_until_full(struct ipc_channel *channel, size_t size);
/* Receive n of them. */
void expect_posted(struct ipc_channel *channel, unsigned int n, size_t size);

struct ipc_channel_stats stats_of(const struct ipc_channel *channel);

#endif
