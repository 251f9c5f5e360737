/* SPDX-License-Identifier: MIT */

/* Workers begin: programs and functions, what they are given, and why they are not started. */

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker_support.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER true
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER false
#endif

static int
play_echo(char **argv)
{
	struct ipc_channel *channel = inherited();

	(void)argv;
	check(!getenv("LIBIPC_CHANNEL"));
	(void)echo(channel, NULL);
	ipc_channel_close(channel);
	return 0;
}

/* Its child has the environment and the descriptor, and is not who they are for. */
static int
play_grandchild(char **argv)
{
	struct ipc_channel *channel;
	pid_t pid = fork();

	(void)argv;
	check(pid >= 0);
	if (pid == 0) {
		check(getenv("LIBIPC_CHANNEL"));
		check_equal(ipc_channel_inherit(&channel, NULL), -ENOENT);
		_exit(0);
	}
	child_end(pid);
	return play_echo(NULL);
}

static int
play_environment(char **argv)
{
	struct ipc_channel *channel = inherited();
	char **entry;

	(void)argv;
	for (entry = environ; *entry; entry++)
		send_text(channel, *entry);
	ipc_channel_close(channel);
	return 0;
}

static const struct role roles[] = {
	{"echo", play_echo},
	{"grandchild", play_grandchild},
	{"environment", play_environment},
};

static void
a_program_takes_its_end_of_the_channel(void **state)
{
	struct ipc_worker *worker = spawn(WORKER(.argv = ROLE("echo")));

	(void)state;
	expect_echo(worker);
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, NULL), 0);
	expect_exit(worker, 0);
	check(!ipc_worker_free(worker));
}

struct greeting {
	const char *text;
	int status;
};

static int
greet(struct ipc_channel *channel, void *arg)
{
	const struct greeting *greeting = arg;
	struct ipc_message message = text_message(greeting->text);

	/* Posted alone: what is gathered is sent when this returns. */
	check_equal(ipc_channel_post(channel, &message, 0), 0);
	return greeting->status;
}

static void
a_function_is_given_its_end_and_its_argument(void **state)
{
	struct greeting greeting = {.text = "hello from below", .status = 42};
	struct ipc_worker *worker;

	(void)state;
	skip_without_pidfds();
	worker = spawn(WORKER(.run = greet, .arg = &greeting));
	expect_text(ipc_worker_channel(worker), greeting.text);
	expect_end(ipc_worker_channel(worker));
	expect_exit(worker, 42);
	ipc_worker_free(worker);
}

static int
tell_limit(struct ipc_channel *channel, void *arg)
{
	struct ipc_message message = {.data = arg, .size = 10001};

	check_equal(ipc_channel_post(channel, &message, 0), -EMSGSIZE);
	return 0;
}

static void
channel_options_are_those_of_both_ends_of_a_function(void **state)
{
	static unsigned char bytes[10001];
	struct ipc_message message = {.data = bytes, .size = sizeof(bytes)};
	const struct ipc_channel_options *options = OPTIONS(.message_max = 10000);
	struct ipc_worker *worker;

	(void)state;
	skip_without_pidfds();
	worker = spawn(WORKER(.run = tell_limit, .arg = bytes, .channel = options));
	check_equal(ipc_channel_post(ipc_worker_channel(worker), &message, 0), -EMSGSIZE);
	expect_exit(worker, 0);
	ipc_worker_free(worker);
}

static void
a_program_is_searched_in_path(void **state)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)"exit 3", NULL};
	struct ipc_worker *worker = spawn(WORKER(.argv = argv));

	(void)state;
	expect_exit(worker, 3);
	expect_end(ipc_worker_channel(worker));
	ipc_worker_free(worker);
}

/* A file of the test's own. */
static void
write_file(const char *path, mode_t mode, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	check(fd >= 0);
	check_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	check_equal(fchmod(fd, mode), 0);
	check_equal(close(fd), 0);
}

static void
expect_error(const struct ipc_worker_options *options, int error)
{
	struct ipc_worker *worker = NULL;

	check_equal(ipc_worker_spawn(&worker, options), error);
	check(!worker);
	expect_no_children();
}

static void
what_cannot_be_executed_is_an_error_of_spawn(void **state)
{
	char directory[] = "/tmp/libipc-worker-XXXXXX", script[64];
	char *argv[] = {script, (char *)"7", NULL}, *none[] = {(char *)"no-such-program", NULL};
	struct ipc_worker *worker;

	(void)state;
	skip_without_pidfds();
	check(mkdtemp(directory));
	(void)snprintf(script, sizeof(script), "%s/script", directory);
	expect_error(WORKER(.argv = none), -ENOENT);
	expect_error(WORKER(.argv = argv), -ENOENT);
	write_file(script, 0600, "exit $1\n");
	expect_error(WORKER(.argv = argv), -EACCES);
	check_equal(chmod(script, 0700), 0);
	/* No #!: execve(2) says ENOEXEC, and execvp(3) has the shell read it. */
	worker = spawn(WORKER(.argv = argv));
	expect_exit(worker, 7);
	ipc_worker_free(worker);
	check_equal(unlink(script), 0);
	write_file(script, 0700, "#!/no/such/interpreter\n");
	expect_error(WORKER(.argv = argv), -ENOENT);
	(void)snprintf(script + strlen(script), 8, "/below");
	expect_error(WORKER(.argv = argv), -ENOTDIR);
	script[strlen(script) - strlen("/below")] = '\0';
	check_equal(unlink(script), 0);
	check_equal(rmdir(directory), 0);
}

static int
not_called(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	*(volatile int *)arg = 1;
	check(false);
	return 0;
}

/* What fails on the child's way is the same for both ways. */
static void
expect_error_both_ways(const struct ipc_worker_options *options, int error)
{
	struct ipc_worker_options copy = *options;
	int unused = 0;

	copy.argv = ROLE("echo");
	expect_error(&copy, error);
	copy.argv = NULL;
	copy.run = not_called;
	copy.arg = &unused;
	expect_error(&copy, error);
}

static void
what_fails_on_the_way_is_an_error_of_spawn(void **state)
{
	const struct ipc_worker_fd closed = {.fd = 4000, .as = 5}, high = {.fd = 2, .as = 1 << 30};
	const struct ipc_worker_limit limit = {.resource = 4000}, inverted = {RLIMIT_CORE, 2, 1};
	const unsigned int cpu = IPC_WORKER_CPU_LIMIT - 1;

	(void)state;
	skip_without_pidfds();
	expect_error_both_ways(WORKER(.directory = "/no/such/directory"), -ENOENT);
	expect_error_both_ways(WORKER(.directory = "/proc/self/exe"), -ENOTDIR);
	expect_error_both_ways(WORKER(.fds = &closed, .n_fds = 1), -EBADF);
	expect_error_both_ways(WORKER(.fds = &high, .n_fds = 1), -EMFILE);
	expect_error_both_ways(WORKER(.limits = &limit, .n_limits = 1), -EINVAL);
	expect_error_both_ways(WORKER(.limits = &inverted, .n_limits = 1), -EINVAL);
	expect_error_both_ways(WORKER(.cpus = &cpu, .n_cpus = 1), -EINVAL);
	expect_error_both_ways(WORKER(.channel = OPTIONS(.record_max = 1)), -EINVAL);
}

/* A script that begins with no interpreter: a shell's, whose arguments are those of the program
   behind the script's name. */
static void
a_program_has_all_its_arguments(void **state)
{
	static const unsigned int numbers[] = {0, 1, 1020, 1021, 1022, 1023, 1024, 5000};
	static const char text[] = "exit $(($# % 251))\n";
	static char *argv[5002], argument[] = "argument";
	char path[] = "/tmp/libipc-test-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	struct ipc_worker *worker;
	unsigned int i, n;

	(void)state;
	check(fd >= 0);
	check_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	check_equal(fchmod(fd, 0700), 0);
	check_equal(close(fd), 0);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		argv[0] = path;
		for (n = 1; n <= numbers[i]; n++)
			argv[n] = argument;
		argv[n] = NULL;
		worker = spawn(WORKER(.argv = argv));
		expect_exit(worker, (int)(numbers[i] % 251));
		ipc_worker_free(worker);
	}
	check_equal(unlink(path), 0);
}

static void
options_out_of_range_are_refused(void **state)
{
	const struct ipc_worker_fd twice[] = {{0, 5}, {1, 5}}, low = {0, -1}, odd = {-2, 5};
	const unsigned int cpu = IPC_WORKER_CPU_LIMIT;
	const struct ipc_worker_user user = {.uid = 1, .n_groups = 1};
	const int none = 0, hard = SIGKILL;
	struct ipc_worker_options options = *WORKER(.argv = ROLE("echo"));
	char *empty[] = {NULL};

	(void)state;
	expect_error(NULL, -EINVAL);
	expect_error(WORKER(.argv = NULL), -EINVAL);
	expect_error(WORKER(.argv = empty), -EINVAL);
	expect_error(WORKER(.argv = ROLE("echo"), .run = echo), -EINVAL);
	options.size = 4;
	expect_error(&options, -EINVAL);
	expect_error_both_ways(WORKER(.fds = twice, .n_fds = 2), -EINVAL);
	expect_error_both_ways(WORKER(.fds = &low, .n_fds = 1), -EINVAL);
	expect_error_both_ways(WORKER(.fds = &odd, .n_fds = 1), -EINVAL);
	expect_error_both_ways(WORKER(.n_fds = 1), -EINVAL);
	expect_error_both_ways(WORKER(.fds = twice, .n_fds = IPC_WORKER_FDS_LIMIT + 1), -EINVAL);
	expect_error_both_ways(WORKER(.n_limits = 1), -EINVAL);
	expect_error_both_ways(WORKER(.cpus = &cpu, .n_cpus = 1), -EINVAL);
	expect_error_both_ways(WORKER(.n_cpus = 1), -EINVAL);
	expect_error_both_ways(WORKER(.user = &user), -EINVAL);
	expect_error_both_ways(WORKER(.parent_death_signal = -1), -EINVAL);
	expect_error_both_ways(WORKER(.parent_death_signal = 1000), -EINVAL);
	expect_error_both_ways(WORKER(.n_ignored = 1), -EINVAL);
	expect_error_both_ways(WORKER(.ignored = &none, .n_ignored = 1), -EINVAL);
	expect_error_both_ways(WORKER(.ignored = &hard, .n_ignored = 1), -EINVAL);
	expect_error_both_ways(WORKER(.group = -1), -EINVAL);
	expect_error_both_ways(WORKER(.group = IPC_WORKER_GROUP_SESSION + 1), -EINVAL);
	expect_error_both_ways(WORKER(.kill_group = 1), -EINVAL);
}

static void
the_environment_is_what_was_asked_for(void **state)
{
	char *envp[] = {(char *)"LIBIPC_CHANNEL=3:1", (char *)"A=1", (char *)"B=", NULL};
	struct ipc_worker *worker = spawn(WORKER(.argv = ROLE("environment"), .envp = envp));

	(void)state;
	expect_text(ipc_worker_channel(worker), "A=1");
	expect_text(ipc_worker_channel(worker), "B=");
	expect_end(ipc_worker_channel(worker));
	expect_exit(worker, 0);
	ipc_worker_free(worker);
}

static int
tell_environment(struct ipc_channel *channel, void *arg)
{
	const char *name = arg, *value = getenv(name);

	send_text(channel, value ? value : "none");
	check_equal(setenv(name, "another", 1), 0);
	send_text(channel, getenv(name));
	return 0;
}

static void
the_environment_of_a_function_is_what_was_asked_for(void **state)
{
	char name[] = "LIBIPC_TEST_WORD", *envp[] = {(char *)"LIBIPC_TEST_WORD=given", NULL};
	struct ipc_worker *worker;

	(void)state;
	skip_without_pidfds();
	check_equal(setenv(name, "the parent's", 1), 0);
	worker = spawn(WORKER(.run = tell_environment, .arg = name));
	expect_text(ipc_worker_channel(worker), "the parent's");
	expect_text(ipc_worker_channel(worker), "another");
	ipc_worker_free(worker);
	worker = spawn(WORKER(.run = tell_environment, .arg = name, .envp = envp));
	expect_text(ipc_worker_channel(worker), "given");
	expect_text(ipc_worker_channel(worker), "another");
	ipc_worker_free(worker);
	check_equal(strcmp(getenv(name), "the parent's"), 0);
	check_equal(unsetenv(name), 0);
}

static void
a_grandchild_cannot_take_the_end(void **state)
{
	struct ipc_worker *worker = spawn(WORKER(.argv = ROLE("grandchild")));

	(void)state;
	expect_echo(worker);
	check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, NULL), 0);
	expect_exit(worker, 0);
	ipc_worker_free(worker);
}

static int
print(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	(void)printf("%s", (const char *)arg);
	return 0;
}

static void
what_the_parent_has_not_printed_yet_is_printed_once(void **state)
{
	char text[] = "the child's", got[64] = "";
	struct ipc_worker_fd output = {.as = STDOUT_FILENO};
	struct ipc_worker *worker;
	int ends[2];

	(void)state;
	skip_without_pidfds();
	check_equal(pipe2(ends, O_CLOEXEC), 0);
	output.fd = ends[1];
	(void)printf("the parent's");
	worker = spawn(WORKER(.run = print, .arg = text, .fds = &output, .n_fds = 1));
	(void)printf(", printed once\n");
	check_equal(close(ends[1]), 0);
	expect_exit(worker, 0);
	check_equal(read(ends[0], got, sizeof(got) - 1), (ssize_t)strlen(text));
	check_equal(strcmp(got, text), 0);
	check_equal(close(ends[0]), 0);
	ipc_worker_free(worker);
}

/* With room for so many more, until it works: nothing is left open by what failed. */
static void
spawn_within_limits(const struct ipc_worker_options *options)
{
	struct ipc_worker *worker;
	unsigned int n, before = descriptors_open();
	int r = -EMFILE;

	for (n = 0; r < 0; n++) {
		check(n < 10);
		descriptors_limit(n);
		r = ipc_worker_spawn(&worker, options);
		descriptors_unlimit();
		if (r < 0) {
			check_equal(r, -EMFILE);
			check_equal(descriptors_open(), before);
			expect_no_children();
		}
	}
	check(n > 3);
	expect_echo(worker);
	ipc_worker_free(worker);
}

static void
at_the_descriptor_limit_it_fails_and_leaves_nothing(void **state)
{
	(void)state;
	skip_without_descriptor_limit();
	spawn_within_limits(WORKER(.argv = ROLE("echo")));
	spawn_within_limits(WORKER(.run = echo));
}

static void *
spawn_many(void *arg)
{
	const struct ipc_worker_options *options = arg;
	unsigned int i, n = test_count(200, 20);
	struct ipc_worker *worker;

	for (i = 0; i < n; i++) {
		worker = spawn(options);
		expect_echo(worker);
		check_equal(ipc_worker_stop(worker, TEST_WAIT_MS, NULL), 0);
		expect_exit(worker, 0);
		ipc_worker_free(worker);
	}
	return NULL;
}

static void
two_threads_spawn_at_once(void **state)
{
	struct ipc_worker_options program = *WORKER(.argv = ROLE("echo"));
	struct ipc_worker_options function = *WORKER(.run = echo);
	pthread_t threads[2];

	(void)state;
	skip_without_pidfds();
	/* ThreadSanitizer takes the child that shares our memory for that of a fork, and the thread
	   that starts it for the child's: it would watch that thread no more, and let none begin.
	 */
	check_equal(pthread_create(&threads[0], NULL, spawn_many,
			    HAS_THREAD_SANITIZER ? &function : &program),
		0);
	check_equal(pthread_create(&threads[1], NULL, spawn_many, &function), 0);
	check_equal(pthread_join(threads[0], NULL) + pthread_join(threads[1], NULL), 0);
}

static void *
spawn_on_little(void *arg)
{
	const struct ipc_worker_options *options = arg;
	struct ipc_worker *worker = spawn(options);

	/* The test's own functions need more than there is. */
	check(ipc_worker_channel(worker));
	ipc_worker_free(worker);
	return NULL;
}

static int
leave(struct ipc_channel *channel, void *arg)
{
	(void)channel;
	(void)arg;
	return 0;
}

/* A script without #! is run by the shell: that takes another argv. */
static void
the_smallest_stack_suffices_to_spawn(void **state)
{
	static const char *many[2000] = {"/proc/self/exe", "echo"};
	char *missing[] = {(char *)"no-such-program", NULL};
	const struct ipc_worker_user user = {.uid = geteuid(), .gid = getegid()};
	const struct ipc_worker_user *users[] = {NULL, geteuid() == 0 ? &user : NULL};
	struct ipc_worker_options options[] = {*WORKER(.argv = ROLE("echo")),
		*WORKER(.argv = (char *const *)(uintptr_t)many), *WORKER(.run = leave)};
	pthread_attr_t attributes;
	struct ipc_worker *worker;
	pthread_t thread;
	unsigned int i, k;

	(void)state;
	skip_without_pidfds();
	if (HAS_SANITIZER) {
		test_lacks("small stacks: a sanitizer makes frames large");
		skip();
	}
	for (i = 2; i < 1999; i++)
		many[i] = "";
	/* What the linker looks up at a first call is looked up. */
	check_equal(ipc_worker_spawn(&worker, WORKER(.argv = missing)), -ENOENT);
	check_equal(pthread_attr_init(&attributes), 0);
	check_equal(pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN), 0);
	for (i = 0; i < 3; i++) {
		for (k = 0; k < 2; k++) {
			options[i].user = users[k];
			check_equal(
				pthread_create(&thread, &attributes, spawn_on_little, &options[i]),
				0);
			check_equal(pthread_join(thread, NULL), 0);
		}
	}
	check_equal(pthread_attr_destroy(&attributes), 0);
}

static void
signals_do_not_disturb_a_spawn(void **state)
{
	struct ipc_worker_options program = *WORKER(.argv = ROLE("echo"));
	sigset_t before, after;
	int signal;

	(void)state;
	check_equal(sigprocmask(SIG_SETMASK, NULL, &before), 0);
	signals_start();
	(void)spawn_many(&program);
	check(signals_stop() > 0 || HAS_THREAD_SANITIZER);
	check_equal(sigprocmask(SIG_SETMASK, NULL, &after), 0);
	for (signal = 1; signal <= SIGRTMAX; signal++)
		check_equal(sigismember(&before, signal), sigismember(&after, signal));
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		worker_test(a_program_takes_its_end_of_the_channel),
		worker_test(a_function_is_given_its_end_and_its_argument),
		worker_test(channel_options_are_those_of_both_ends_of_a_function),
		worker_test(a_program_is_searched_in_path),
		worker_test(what_cannot_be_executed_is_an_error_of_spawn),
		worker_test(what_fails_on_the_way_is_an_error_of_spawn),
		worker_test(a_program_has_all_its_arguments),
		worker_test(options_out_of_range_are_refused),
		worker_test(the_environment_is_what_was_asked_for),
		worker_test(the_environment_of_a_function_is_what_was_asked_for),
		worker_test(a_grandchild_cannot_take_the_end),
		worker_test(what_the_parent_has_not_printed_yet_is_printed_once),
		worker_test(at_the_descriptor_limit_it_fails_and_leaves_nothing),
		worker_test(two_threads_spawn_at_once),
		worker_test(signals_do_not_disturb_a_spawn),
		worker_test(the_smallest_stack_suffices_to_spawn),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_group(tests);
}
