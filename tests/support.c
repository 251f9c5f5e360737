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

/* What the tests with the most descriptors need. A login's soft limit is less, its hard one not. */
#define DESCRIPTORS_WANTED 4096

/* Of those that a test left, at most. */
#define CENSUS_SHOWN 20

/* Those with names: nothing here uses others. */
#define SIGNALS_MAX 32

/* An open descriptor, and what it is. */
struct census_entry {
	int fd;
	char target[64];
};

/* Of a test that fails nobody knows how many are left: it grows. */
struct census {
	unsigned int n, capacity;
	struct census_entry *entries;
};

static struct census census_before;
static struct rlimit limit_before;
static sigset_t signals_before;
static struct sigaction actions_before[SIGNALS_MAX];
static bool is_ticking;
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
	is_ticking = true;
}

unsigned int
signals_stop(void)
{
	is_ticking = false;
	check_equal(timer_delete(signals_timer), 0);
	return signals_seen;
}

static void
census_add(struct census *census, int directory, const char *name)
{
	struct census_entry *entry;
	ssize_t size;

	if (census->n == census->capacity) {
		census->capacity = 2 * census->capacity + 64;
		census->entries =
			realloc(census->entries, census->capacity * sizeof(*census->entries));
		check(census->entries);
	}
	entry = &census->entries[census->n++];
	entry->fd = atoi(name);
	size = readlinkat(directory, name, entry->target, sizeof(entry->target) - 1);
	check(size >= 0);
	entry->target[size] = '\0';
}

static void
census_take(struct census *census)
{
	DIR *directory = opendir("/proc/self/fd");
	const struct dirent *entry;

	census->n = 0;
	check(directory);
	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
			census_add(census, dirfd(directory), entry->d_name);
	check_equal(closedir(directory), 0);
}

static bool
census_has(const struct census *census, const struct census_entry *entry)
{
	unsigned int i;

	for (i = 0; i < census->n; i++)
		if (census->entries[i].fd == entry->fd &&
			strcmp(census->entries[i].target, entry->target) == 0)
			return true;
	return false;
}

/* Print what the first has and the second has not; close it, if it is to be closed. Return: how
   many there are. */
static unsigned int
census_missing(const struct census *a, const struct census *b, const char *what, bool closes)
{
	unsigned int i, n = 0;

	for (i = 0; i < a->n; i++) {
		if (census_has(b, &a->entries[i]))
			continue;
		if (n++ < CENSUS_SHOWN)
			(void)fprintf(stderr, "%s: descriptor %d, %s\n", what, a->entries[i].fd,
				a->entries[i].target);
		if (closes)
			(void)close(a->entries[i].fd);
	}
	if (n > CENSUS_SHOWN)
		(void)fprintf(stderr, "%s: %u in all\n", what, n);
	return n;
}

/* A test that failed may have left no descriptor for the census itself: close one of its own. */
static void
make_room(const struct census *before)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	unsigned int i;

	if (fd < 0 && errno == EMFILE)
		fd = (int)limit_before.rlim_cur - 1;
	for (i = 0; i < before->n; i++)
		check(before->entries[i].fd != fd);
	check_equal(close(fd), 0);
}

/* What a test has left is closed: the next one needs the room. */
static unsigned int
census_differences(const struct census *before)
{
	struct census now = {.n = 0};
	unsigned int n;

	make_room(before);
	census_take(&now);
	n = census_missing(&now, before, "left open", true);
	n += census_missing(before, &now, "closed by someone", false);
	free(now.entries);
	return n;
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

	/* A test that failed has left no descriptor for it. */
	while (directory && !found && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "re");
		found = file && fgets(name, sizeof(name), file) &&
		        strcmp(name, "ipc-closer\n") == 0;
		if (file)
			check_equal(fclose(file), 0);
	}
	if (directory)
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

/* More than a test that lowers the limit asks for. */
#define LIMITED_MAX 256

void
descriptors_limit(unsigned int n_more)
{
	int fds[LIMITED_MAX], last = -1;
	struct rlimit limit = limit_before;
	unsigned int i;

	/* What is about to be closed would make room. */
	await_closers();
	/* There may be holes below; the kernel fills them from the lowest on. */
	check(n_more < LIMITED_MAX);
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

/* The children of one thread, which are this process's, by its main thread alone in the end.
   Return: how many were told of. */
static unsigned int
children_list(pid_t *ret, unsigned int max)
{
	char path[64];
	unsigned int n = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	file = fopen(path, "re");
	/* A kernel may lack it. */
	if (!file)
		return 0;
	while (n < max && fscanf(file, "%d", &ret[n]) == 1)
		n++;
	(void)fclose(file);
	return n;
}

/* A test that failed did not wait for its children: they are gone before the next one. */
static void
children_reap(void)
{
	pid_t pids[64];
	unsigned int n, i;

	while ((n = children_list(pids, 64))) {
		for (i = 0; i < n; i++) {
			(void)fprintf(stderr, "left behind: process %d\n", pids[i]);
			(void)kill(pids[i], SIGCONT);
			(void)kill(pids[i], SIGKILL);
		}
		for (i = 0; i < n; i++)
			if (waitpid(pids[i], NULL, 0) < 0 && errno == ECHILD)
				return;
	}
}

static void
signals_remember(void)
{
	int i;

	check_equal(sigprocmask(SIG_SETMASK, NULL, &signals_before), 0);
	for (i = 1; i < SIGNALS_MAX; i++)
		check_equal(sigaction(i, NULL, &actions_before[i]), 0);
}

static void
signals_restore(void)
{
	struct sigaction now;
	int i;

	if (is_ticking)
		(void)signals_stop();
	for (i = 1; i < SIGNALS_MAX; i++)
		if (sigaction(i, NULL, &now) == 0 && now.sa_handler != actions_before[i].sa_handler)
			(void)sigaction(i, &actions_before[i], NULL);
	(void)sigprocmask(SIG_SETMASK, &signals_before, NULL);
}

int
test_begin(void **state)
{
	(void)state;
	alarm(TEST_SECONDS_MAX);
	check_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
	signals_remember();
	await_closers();
	census_take(&census_before);
	return 0;
}

/* What a test that failed had no time to undo; the others have. */
int
test_end(void **state)
{
	unsigned int differences;

	(void)state;
	signals_restore();
	/* Lowered still: the census needs a descriptor. */
	descriptors_unlimit();
	alarm(TEST_SECONDS_MAX);
	await_closers();
	differences = census_differences(&census_before);
	children_reap();
	alarm(0);
	return differences ? -1 : 0;
}

/* Here alone: a test that lowers the limit, or needs more still, begins with this. */
static void
descriptors_raise(void)
{
	struct rlimit limit;

	check_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= DESCRIPTORS_WANTED)
		return;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS_WANTED ? limit.rlim_max : DESCRIPTORS_WANTED;
	check_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

int
run_test_group(const struct CMUnitTest *tests, size_t n)
{
	const char *chosen = getenv("LIBIPC_TEST_SEED");

	test_thread = gettid();
	/* Unless it is one with tests of its own. */
	in_child = false;
	descriptors_raise();
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
