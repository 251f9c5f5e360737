/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_WORKER_SUPPORT_H
#define LIBIPC_TESTS_WORKER_SUPPORT_H

/*
 * What the tests of workers share: programs, which are the test's own program in a role, and
 * functions to be workers.
 *
 * Knows the public headers only.
 */

#include <libipc/worker.h>

#include "support.h"

/* A test that leaves no descriptor, and no child, not even a dead one. */
#define worker_test(function) \
	cmocka_unit_test_setup_teardown(function, worker_test_begin, worker_test_end)
int worker_test_begin(void **state);
int worker_test_end(void **state);

/* Check that this process has no children, not even dead ones. */
void expect_no_children(void);

/* What a program does that a test starts. Return: its status. */
struct role {
	const char *name;
	int (*play)(char **argv);
};

/* For main(): play the role that the arguments name, and exit. Returns where they name none. */
void play_role(int argc, char **argv, const struct role *roles, size_t n);

/* argv of this program in a role; its arguments follow */
#define ROLE(...) ((char *const *)(const char *const[]){role_program(), __VA_ARGS__, NULL})
const char *role_program(void);

/*
 * Skip where valgrind plays the kernel. Of version 3.19 it knows neither pidfd_open(2) nor
 * pidfd_send_signal(2), without which no function is a worker and none is signalled. What is left
 * of programs works.
 */
void skip_without_pidfds(void);

/* Options with what is named, the rest default. */
#define WORKER(...) \
	(&(const struct ipc_worker_options){.size = sizeof(struct ipc_worker_options), __VA_ARGS__})

struct ipc_worker *spawn(const struct ipc_worker_options *options);

/* Check how it ended. */
void expect_exit(struct ipc_worker *worker, int status);
void expect_killed(struct ipc_worker *worker, int signal);

/* In a program: its end of the channel. */
struct ipc_channel *inherited(void);

/* A function, and what the role of a program calls: sends back what comes, until the end. */
int echo(struct ipc_channel *channel, void *arg);

/* Check that a worker echoes. */
void expect_echo(struct ipc_worker *worker);

#endif
