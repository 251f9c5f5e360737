/* SPDX-License-Identifier: MIT */

/*
 * The machinery of the tests: one that fails, at the worst moment, leaves nothing that fails
 * others.
 *
 * A group with such a test is run in a child, which is to end with one failure, its own.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static unsigned int in_first;

static void
sleep_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		(void)pause();
}

/* Children, stopped, too; signals that come or are blocked; no descriptor that is free. */
static void
leave_everything(void **state)
{
	sigset_t all;
	unsigned int i;

	(void)state;
	in_first = descriptors_open();
	for (i = 0; i < 3; i++)
		(void)child_start(sleep_for_ever, NULL);
	check_equal(kill(child_start(sleep_for_ever, NULL), SIGSTOP), 0);
	signals_start();
	(void)sigfillset(&all);
	check_equal(sigprocmask(SIG_BLOCK, &all, NULL), 0);
	check(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
	while (fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0) >= 0)
		continue;
	check_equal(errno, EMFILE);
	check(false);
}

static void
find_nothing_left(void **state)
{
	struct sigaction action;
	sigset_t set;
	int fd;

	(void)state;
	check_equal(sigaction(SIGCHLD, NULL, &action), 0);
	check(action.sa_handler == SIG_DFL);
	check_equal(waitpid(-1, NULL, WNOHANG), -1);
	check_equal(errno, ECHILD);
	check_equal(sigprocmask(SIG_SETMASK, NULL, &set), 0);
	check(!sigismember(&set, SIGTERM));
	check(!sigismember(&set, SIGALRM));
	check_equal(descriptors_open(), in_first);
	check((fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0);
	check_equal(close(fd), 0);
	signals_start();
	sleep_ms(20);
	check(signals_stop() > 0);
}

static void
run_one_that_fails(void *arg)
{
	static const struct CMUnitTest tests[] = {
		channel_test(leave_everything),
		channel_test(find_nothing_left),
		channel_test(find_nothing_left),
	};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)arg;
	check(null >= 0);
	check_equal(dup2(null, STDOUT_FILENO), STDOUT_FILENO);
	check_equal(dup2(null, STDERR_FILENO), STDERR_FILENO);
	_exit(run_group(tests));
}

static void
after_a_test_that_failed_others_pass(void **state)
{
	pid_t pid = child_start(run_one_that_fails, NULL);
	int status;

	(void)state;
	check_equal(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status));
	check_equal(WEXITSTATUS(status), 1);
}

static void
the_limit_of_descriptors_is_raised_as_far_as_it_goes(void **state)
{
	int fds[700], i;

	(void)state;
	/* More than a login has before, of which 1024 is the soft limit and more the hard one. */
	for (i = 0; i < 700; i++)
		check((fds[i] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 600)) >= 0);
	for (i = 0; i < 700; i++)
		check_equal(close(fds[i]), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(after_a_test_that_failed_others_pass),
		channel_test(the_limit_of_descriptors_is_raised_as_far_as_it_goes),
	};

	return run_group(tests);
}
