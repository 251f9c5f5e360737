/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

/* More than any test has open at its borders. */
#define CENSUS_MAX 256

struct census {
	unsigned int n;
	int fds[CENSUS_MAX];
	char targets[CENSUS_MAX][64];
};

static struct census census_before;
static struct rlimit limit_before;
static uint64_t seed, random_state;
static pid_t test_thread;
static bool in_child;

void
test_check(bool held, const char *condition, const char *file, int line)
{
	if (held)
		return;
	if (!in_child && gettid() == test_thread)
		_assert_true(false, condition, file, line);
	(void)fprintf(
		stderr, "%s:%d: in process %d: not so: %s\n", file, line, getpid(), condition);
	_exit(1);
}

void
test_check_equal(long long actual, long long expected, const char *actual_text,
	const char *expected_text, const char *file, int line)
{
	char text[512];

	if (actual == expected)
		return;
	(void)snprintf(text, sizeof(text), "%s is %s: %lld, not %lld", actual_text, expected_text,
		actual, expected);
	test_check(false, text, file, line);
}

void
test_lacks(const char *what)
{
	(void)printf("part skipped: this machine lacks %s\n", what);
}

static bool
is_quick(void)
{
	const char *scale = getenv("LIBIPC_TEST_SCALE");

	return scale && strcmp(scale, "quick") == 0;
}

unsigned int
test_count(unsigned int full, unsigned int quick)
{
	return is_quick() ? quick : full;
}

/* splitmix64 */
static uint64_t
mix(uint64_t x)
{
	x += 0x9E3779B97F4A7C15ULL;
	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
	x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
	return x ^ x >> 31;
}

uint64_t
test_random(void)
{
	return mix(random_state++);
}

size_t
test_random_below(size_t limit)
{
	return (size_t)(test_random() % limit);
}

void
fill(void *memory, size_t size, uint64_t key)
{
	unsigned char *bytes = memory;
	uint64_t word;
	size_t i;

	for (i = 0; i < size; i += sizeof(word)) {
		word = mix(seed ^ key << 24 ^ i);
		memcpy(bytes + i, &word, size - i < sizeof(word) ? size - i : sizeof(word));
	}
}

bool
is_filled(const void *memory, size_t size, uint64_t key)
{
	const unsigned char *bytes = memory;
	uint64_t word;
	size_t i;

	for (i = 0; i < size; i += sizeof(word)) {
		word = mix(seed ^ key << 24 ^ i);
		if (memcmp(bytes + i, &word, size - i < sizeof(word) ? size - i : sizeof(word)))
			return false;
	}
	return true;
}

int64_t
now_ms(void)
{
	struct timespec now;

	check_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
sleep_ms(int ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	while (nanosleep(&left, &left) < 0)
		check_equal(errno, EINTR);
}

static timer_t signals_timer;
static atomic_uint signals_seen;

static void
on_signal(int signal)
{
	(void)signal;
	signals_seen++;
}

void
signals_start(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec times = {
		.it_interval = {.tv_nsec = 1000000}, .it_value = {.tv_nsec = 1000000}};
	struct sigaction action = {.sa_handler = on_signal};

	signals_seen = 0;
	check_equal(sigaction(SIGUSR1, &action, NULL), 0);
	check_equal(timer_create(CLOCK_MONOTONIC, &event, &signals_timer), 0);
	check_equal(timer_settime(signals_timer, 0, &times, NULL), 0);
}

unsigned int
signals_stop(void)
{
	check_equal(timer_delete(signals_timer), 0);
	return signals_seen;
}

static void
census_take(struct census *census)
{
	DIR *directory = opendir("/proc/self/fd");
	const struct dirent *entry;
	ssize_t n;

	census->n = 0;
	check(directory);
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
			continue;
		check(census->n < CENSUS_MAX);
		census->fds[census->n] = atoi(entry->d_name);
		n = readlinkat(dirfd(directory), entry->d_name, census->targets[census->n],
			sizeof(census->targets[0]) - 1);
		check(n >= 0);
		census->targets[census->n++][n] = '\0';
	}
	check_equal(closedir(directory), 0);
}

static bool
census_has(const struct census *census, int fd, const char *target)
{
	unsigned int i;

	for (i = 0; i < census->n; i++)
		if (census->fds[i] == fd && strcmp(census->targets[i], target) == 0)
			return true;
	return false;
}

/* Print what the first has and the second has not. Return: how many. */
static unsigned int
census_missing(const struct census *a, const struct census *b, const char *what)
{
	unsigned int i, n = 0;

	for (i = 0; i < a->n; i++) {
		if (census_has(b, a->fds[i], a->targets[i]))
			continue;
		(void)fprintf(stderr, "%s: descriptor %d, %s\n", what, a->fds[i], a->targets[i]);
		n++;
	}
	return n;
}

static unsigned int
census_differences(const struct census *before)
{
	struct census now;

	census_take(&now);
	return census_missing(&now, before, "left open") +
	       census_missing(before, &now, "closed by someone");
}

/* Is a thread of the library's there, which closes descriptors? */
static bool
has_closer(void)
{
	DIR *directory = opendir("/proc/self/task");
	char path[300], name[32] = "";
	const struct dirent *entry;
	bool found = false;
	FILE *file;

	check(directory);
	while (!found && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "re");
		found = file && fgets(name, sizeof(name), file) &&
		        strcmp(name, "ipc-closer\n") == 0;
		if (file)
			check_equal(fclose(file), 0);
	}
	check_equal(closedir(directory), 0);
	return found;
}

/* Without one in a row, to believe it. */
#define LOOKS 3

void
await_closers(void)
{
	/* ThreadSanitizer's own thread may have been begun with the name. */
	int64_t give_up_ms = now_ms() + (HAS_THREAD_SANITIZER ? 1000 : TEST_WAIT_MS);
	unsigned int looks = 0;

	/* One look can miss it while others end. */
	while (looks < LOOKS && now_ms() < give_up_ms) {
		looks = has_closer() ? 0 : looks + 1;
		if (!looks)
			sleep_ms(1);
	}
}

unsigned int
descriptors_open(void)
{
	DIR *directory;
	unsigned int n = 0;

	await_closers();
	directory = opendir("/proc/self/fd");
	check(directory);
	while (readdir(directory))
		n++;
	check_equal(closedir(directory), 0);
	/* The two dots and the directory itself. */
	return n - 3;
}

size_t
resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t total, resident;

	check(file);
	check_equal(fscanf(file, "%zu %zu", &total, &resident), 2);
	check_equal(fclose(file), 0);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define HAS_SANITIZER true
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER false
#endif

void
expect_resident_below(size_t limit)
{
	size_t resident = resident_bytes();

	if (resident < limit)
		return;
	if (HAS_SANITIZER) {
		test_lacks("a memory of its own: a sanitizer keeps what was freed");
		return;
	}
	(void)fprintf(stderr, "%zu bytes are resident, %zu are allowed\n", resident, limit);
	check(false);
}

void
descriptors_limit(unsigned int n_more)
{
	int fds[CENSUS_MAX], last = -1;
	struct rlimit limit = limit_before;
	unsigned int i;

	/* There may be holes below; the kernel fills them from the lowest on. */
	check(n_more < CENSUS_MAX);
	for (i = 0; i <= n_more; i++)
		check((fds[i] = last = dup(STDERR_FILENO)) >= 0);
	for (i = 0; i <= n_more; i++)
		check_equal(close(fds[i]), 0);
	limit.rlim_cur = (rlim_t)last;
	check_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

void
descriptors_unlimit(void)
{
	check_equal(setrlimit(RLIMIT_NOFILE, &limit_before), 0);
}

void
skip_without_descriptor_limit(void)
{
	struct rlimit limit = limit_before;
	unsigned long long kernels = 0;
	char line[256];
	FILE *file = fopen("/proc/self/limits", "re");

	check(file);
	limit.rlim_cur--;
	check_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Max open files %llu", &kernels) == 1)
			break;
	check_equal(fclose(file), 0);
	descriptors_unlimit();
	if (kernels == limit.rlim_cur)
		return;
	test_lacks("a descriptor limit of the kernel's own");
	skip();
}

bool
is_same_file(int a, int b)
{
	static bool told;
	long r = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b);

	if (r < 0) {
		check(errno == ENOSYS || errno == EPERM);
		if (!told)
			test_lacks("kcmp(2): that descriptors are the same was not looked at");
		told = true;
		return true;
	}
	return r == 0;
}

int
test_begin(void **state)
{
	(void)state;
	alarm(TEST_SECONDS_MAX);
	check_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
	await_closers();
	census_take(&census_before);
	return 0;
}

int
test_end(void **state)
{
	(void)state;
	alarm(0);
	/* Lowered still, if the test has failed: the census needs a descriptor. */
	descriptors_unlimit();
	await_closers();
	return census_differences(&census_before) ? -1 : 0;
}

int
run_test_group(const struct CMUnitTest *tests, size_t n)
{
	const char *chosen = getenv("LIBIPC_TEST_SEED");

	test_thread = gettid();
	if (chosen)
		seed = strtoull(chosen, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)getpid();
	random_state = seed;
	(void)printf("%s: LIBIPC_TEST_SEED=%llu LIBIPC_TEST_SCALE=%s\n",
		program_invocation_short_name, (unsigned long long)seed,
		is_quick() ? "quick" : "full");
	(void)fflush(stdout);
	return _cmocka_run_group_tests(program_invocation_short_name, tests, n, NULL, NULL);
}

pid_t
child_start(void (*run)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	(void)fflush(NULL);
	pid = fork();
	check(pid >= 0);
	if (pid)
		return pid;

	in_child = true;
	/* It goes with the test; the alarm is not inherited. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	alarm(TEST_SECONDS_MAX);
	run(arg);
	_exit(0);
}

static int
child_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		check_equal(errno, EINTR);
	return status;
}

void
child_end(pid_t pid)
{
	int status = child_wait(pid);

	if (WIFSIGNALED(status))
		(void)fprintf(stderr, "child %d: signal %d\n", pid, WTERMSIG(status));
	check(WIFEXITED(status));
	check_equal(WEXITSTATUS(status), 0);
}

void
child_end_by(pid_t pid, int signal)
{
	int status = child_wait(pid);

	check(WIFSIGNALED(status));
	check_equal(WTERMSIG(status), signal);
}

struct worker_start {
	struct ipc_channel *parents, *own;
	void (*run)(struct ipc_channel *channel, void *arg);
	void *arg;
};

static void
worker_run(void *arg)
{
	struct worker_start *start = arg;
	unsigned int open;

	ipc_channel_close(start->parents);
	open = descriptors_open();
	start->run(start->own, start->arg);
	ipc_channel_close(start->own);
	check_equal(descriptors_open(), open - 1);
}

struct worker
worker_start(const struct ipc_channel_options *options,
	void (*run)(struct ipc_channel *channel, void *arg), void *arg)
{
	struct worker_start start = {.run = run, .arg = arg};
	struct worker worker;

	pair_open(&start.parents, &start.own, options);
	worker.pid = child_start(worker_run, &start);
	worker.channel = start.parents;
	ipc_channel_close(start.own);
	return worker;
}

void
worker_end(struct worker *worker)
{
	worker->channel = ipc_channel_close(worker->channel);
	child_end(worker->pid);
}

void
pair_open(struct ipc_channel **ret_a, struct ipc_channel **ret_b,
	const struct ipc_channel_options *options)
{
	check_equal(ipc_channel_pair(ret_a, ret_b, options), 0);
}

struct ipc_message
text_message(const char *text)
{
	return (struct ipc_message){.data = text, .size = strlen(text) + 1};
}

void
send_text(struct ipc_channel *channel, const char *text)
{
	struct ipc_message message = text_message(text);

	check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
}

void
expect_text(struct ipc_channel *channel, const char *text)
{
	struct ipc_message message;

	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
	check_equal(message.size, strlen(text) + 1);
	if (memcmp(message.data, text, message.size)) {
		(void)fprintf(stderr, "\"%s\" came instead of \"%s\"\n", (const char *)message.data,
			text);
		check(false);
	}
}

void
expect_nothing(struct ipc_channel *channel)
{
	struct ipc_message message;

	check_equal(ipc_channel_recv(channel, &message, 0), -EAGAIN);
}

void
expect_end(struct ipc_channel *channel)
{
	struct ipc_message message;

	check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), -EPIPE);
	check_equal(ipc_channel_recv(channel, &message, 0), -EPIPE);
}

unsigned int
post_until_full(struct ipc_channel *channel, size_t size)
{
	unsigned char *payload = malloc(size + 1);
	struct ipc_message message = {.data = payload, .size = size};
	unsigned int n;
	int r;

	check(payload);
	for (n = 0;; n++) {
		fill(payload, size, n);
		r = ipc_channel_post(channel, &message, 0);
		if (r < 0)
			break;
	}
	free(payload);
	check_equal(r, -EAGAIN);
	return n;
}

void
expect_posted(struct ipc_channel *channel, unsigned int n, size_t size)
{
	struct ipc_message message;
	unsigned int i;

	for (i = 0; i < n; i++) {
		check_equal(ipc_channel_recv(channel, &message, TEST_WAIT_MS), 0);
		check_equal(message.size, size);
		check(is_filled(message.data, size, i));
	}
}

struct ipc_channel_stats
stats_of(const struct ipc_channel *channel)
{
	struct ipc_channel_stats stats = {.size = sizeof(stats)};

	ipc_channel_stats(channel, &stats);
	return stats;
}
