/* SPDX-License-Identifier: MIT */

/* What a worker of another user may, and what of its parent it leaves as it was. */

#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker_support.h"

/* No other tests of this machine have these users, and signal them. */
#define SERVICE 61357U /* with capabilities */
#define NOBODY  61358U

#define STATUS_SIZE 8192

/* A file of /proc as a string. */
static void
read_text(const char *path, char text[STATUS_SIZE])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size;

	check(fd >= 0);
	size = read(fd, text, STATUS_SIZE - 1);
	check(size > 0);
	text[size] = '\0';
	check_equal(close(fd), 0);
}

static unsigned long long
status_field(const char *status, const char *name)
{
	const char *field = strstr(status, name);

	check(field);
	return strtoull(field + strlen(name), NULL, 16);
}

/* What a worker may. */
struct powers {
	uid_t uids[3];
	unsigned long long inheritable, permitted, effective, ambient, no_new_privs;
	bool way_back;
};

static int
tell_powers(struct ipc_channel *channel, void *arg)
{
	struct powers powers;
	const struct ipc_message message = {.data = &powers, .size = sizeof(powers)};
	char status[STATUS_SIZE];

	(void)arg;
	memset(&powers, 0, sizeof(powers));
	read_text("/proc/self/status", status);
	powers.inheritable = status_field(status, "CapInh:");
	powers.permitted = status_field(status, "CapPrm:");
	powers.effective = status_field(status, "CapEff:");
	powers.ambient = status_field(status, "CapAmb:");
	powers.no_new_privs = status_field(status, "NoNewPrivs:");
	check_equal(getresuid(&powers.uids[0], &powers.uids[1], &powers.uids[2]), 0);
	powers.way_back = syscall(SYS_setresuid, 0, 0, 0) == 0 ||
	                  syscall(SYS_setresuid, SERVICE, SERVICE, SERVICE) == 0;
	check_equal(ipc_channel_send(channel, &message, TEST_WAIT_MS), 0);
	return 0;
}

static int
play_powers(char **argv)
{
	struct ipc_channel *channel = inherited();

	(void)tell_powers(channel, argv);
	ipc_channel_close(channel);
	return 0;
}

static const struct role roles[] = {{"powers", play_powers}};

static struct powers
powers_of(const struct ipc_worker_options *options, bool is_program)
{
	struct ipc_worker_options copy = *options;
	struct ipc_message message;
	struct ipc_worker *worker;
	struct powers powers;

	copy.argv = is_program ? ROLE("powers") : NULL;
	copy.run = is_program ? NULL : tell_powers;
	worker = spawn(&copy);
	check_equal(ipc_channel_recv(ipc_worker_channel(worker), &message, TEST_WAIT_MS), 0);
	check_equal(message.size, sizeof(powers));
	memcpy(&powers, message.data, sizeof(powers));
	expect_exit(worker, 0);
	ipc_worker_free(worker);
	return powers;
}

static void
expect_powerless(const struct powers *powers, uid_t uid)
{
	int i;

	for (i = 0; i < 3; i++)
		check_equal(powers->uids[i], uid);
	check_equal(powers->inheritable, 0);
	check_equal(powers->permitted, 0);
	check_equal(powers->effective, 0);
	check_equal(powers->ambient, 0);
	check_equal(powers->no_new_privs, 1);
	check(!powers->way_back || uid == 0);
}

/* A parent, and what it has. */
struct parent {
	uid_t uid;
	bool keeps, is_ambient; /* PR_SET_KEEPCAPS; for whatever it executes */
};

static void
become(const struct parent *parent)
{
	const unsigned int some = 1U << CAP_SETUID | 1U << CAP_SETGID | 1U << CAP_KILL;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{.effective = 0}};
	unsigned long i;

	if (parent->uid) {
		check_equal(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
		check_equal(setgroups(0, NULL), 0);
		check_equal(setresgid(parent->uid, parent->uid, parent->uid), 0);
		check_equal(setresuid(parent->uid, parent->uid, parent->uid), 0);
		data[0].effective = data[0].permitted = some;
		data[0].inheritable = parent->is_ambient ? some : 0;
		check_equal(syscall(SYS_capset, &header, data), 0);
		for (i = 0; i < 32; i++)
			if (parent->is_ambient && some >> i & 1)
				check_equal(
					prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0), 0);
	}
	check_equal(prctl(PR_SET_KEEPCAPS, (unsigned long)parent->keeps, 0, 0, 0), 0);
	check_equal(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
}

static void
give_away(void *arg)
{
	const struct ipc_worker_user nobody = {.uid = NOBODY, .gid = NOBODY};
	const struct ipc_worker_options *options = WORKER(.user = &nobody);
	struct powers powers;
	int way;

	become(arg);
	for (way = 0; way < 2; way++) {
		powers = powers_of(options, way);
		expect_powerless(&powers, NOBODY);
	}
	expect_no_children();
}

static void
need_root_and_a_readable_build(void)
{
	Dl_info library;
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		test_lacks("root, who may change the user");
		skip();
	}
	check(dladdr((void *)(uintptr_t)ipc_worker_spawn, &library));
	pid = fork();
	check(pid >= 0);
	if (pid == 0)
		_exit(setresuid(NOBODY, NOBODY, NOBODY) < 0 || access(library.dli_fname, R_OK) < 0);
	check_equal(waitpid(pid, &status, 0), pid);
	if (status == 0)
		return;
	test_lacks("a build that other users may read");
	skip();
}

static void
a_worker_of_another_user_has_no_capability_and_no_way_back(void **state)
{
	static const struct parent parents[] = {
		{.uid = 0},
		{.uid = 0, .keeps = true},
		{.uid = SERVICE},
		{.uid = SERVICE, .keeps = true},
		{.uid = SERVICE, .is_ambient = true},
		{.uid = SERVICE, .is_ambient = true, .keeps = true},
	};
	unsigned int i;

	(void)state;
	need_root_and_a_readable_build();
	for (i = 0; i < sizeof(parents) / sizeof(parents[0]); i++)
		child_end(child_start(give_away, (void *)(uintptr_t)&parents[i]));
}

/* Root by name alone. */
static void
give_to_root(void *arg)
{
	const struct ipc_worker_user root = {.uid = 0, .gid = 0};
	const struct parent parent = {.uid = SERVICE};
	struct powers powers;
	int way;

	(void)arg;
	become(&parent);
	for (way = 0; way < 2; way++) {
		powers = powers_of(WORKER(.user = &root), way);
		expect_powerless(&powers, 0);
	}
}

static void
nor_has_one_that_is_root_where_the_parent_is_not(void **state)
{
	(void)state;
	need_root_and_a_readable_build();
	child_end(child_start(give_to_root, NULL));
}

static void
one_of_the_same_user_keeps_what_it_has(void **state)
{
	struct ipc_worker_user same = {.uid = geteuid(), .gid = getegid()};
	struct powers powers;
	char status[STATUS_SIZE];
	int way;

	(void)state;
	need_root_and_a_readable_build();
	read_text("/proc/self/status", status);
	for (way = 0; way < 2; way++) {
		powers = powers_of(WORKER(.user = &same), way);
		check_equal(powers.permitted, status_field(status, "CapPrm:"));
		check_equal(powers.no_new_privs, 1);
	}
}

static void
no_new_privs_is_as_asked_for(void **state)
{
	struct powers powers;
	char status[STATUS_SIZE];
	int way;

	(void)state;
	skip_without_pidfds();
	read_text("/proc/self/status", status);
	for (way = 0; way < 2; way++) {
		powers = powers_of(WORKER(.no_new_privs = 1), way);
		check_equal(powers.no_new_privs, 1);
		powers = powers_of(WORKER(.no_new_privs = 0), way);
		check_equal(powers.no_new_privs, status_field(status, "NoNewPrivs:"));
	}
}

#define RESOURCES 16
#define SIGNALS   64

/* What a process is. */
struct self {
	char status[STATUS_SIZE];
	int dumpable, keeps, no_new_privs, subreaper, death_signal, securebits;
	bool is_readable;
	char directory[256];
	mode_t umask;
	struct rlimit limits[RESOURCES];
	void (*handlers[SIGNALS + 1])(int signal);
	int flags[SIGNALS + 1];
	sigset_t mask;
	pid_t group, session;
	uid_t owner; /* of its files in /proc */
};

/* Memory, time and switches go on, and so do other processes of the user. */
static void
leave_out_counts(char *status)
{
	static const char *const counts[] = {"Vm", "Rss", "HugetlbPages", "voluntary",
		"nonvoluntary", "State", "FDSize", "SigQ", "Cpus_allowed", "Threads", "x86_"};
	char *line = status, *out = status, *next;
	unsigned int i;

	for (; *line; line = next) {
		next = strchr(line, '\n') + 1;
		for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
			if (strncmp(line, counts[i], strlen(counts[i])) == 0)
				break;
		if (i < sizeof(counts) / sizeof(counts[0]))
			continue;
		memmove(out, line, (size_t)(next - line));
		out += next - line;
	}
	memset(out, 0, (size_t)(line - out));
}

static void
look(struct self *self)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC), i, word = 4711, got = 0;
	struct stat stat_;

	memset(self, 0, sizeof(*self));
	read_text("/proc/self/status", self->status);
	leave_out_counts(self->status);
	self->dumpable = prctl(PR_GET_DUMPABLE);
	self->keeps = prctl(PR_GET_KEEPCAPS);
	self->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	self->securebits = prctl(PR_GET_SECUREBITS);
	check_equal(prctl(PR_GET_CHILD_SUBREAPER, &self->subreaper), 0);
	check_equal(prctl(PR_GET_PDEATHSIG, &self->death_signal), 0);
	self->is_readable = fd >= 0 &&
	                    pread(fd, &got, sizeof(got), (off_t)(uintptr_t)&word) == sizeof(got) &&
	                    got == word;
	if (fd >= 0)
		check_equal(close(fd), 0);
	check(getcwd(self->directory, sizeof(self->directory)));
	self->umask = umask(0);
	(void)umask(self->umask);
	for (i = 0; i < RESOURCES; i++)
		check_equal(getrlimit((__rlimit_resource_t)i, &self->limits[i]), 0);
	for (i = 1; i <= SIGNALS; i++) {
		struct sigaction action = {.sa_flags = 0};

		(void)sigaction(i, NULL, &action);
		self->handlers[i] = action.sa_handler;
		self->flags[i] = action.sa_flags;
	}
	check_equal(sigprocmask(SIG_SETMASK, NULL, &self->mask), 0);
	self->group = getpgrp();
	self->session = getsid(0);
	check_equal(stat("/proc/self/mem", &stat_), 0);
	self->owner = stat_.st_uid;
}

static void
expect_unchanged(const struct self *before)
{
	struct self after;

	look(&after);
	if (strcmp(before->status, after.status) != 0)
		print_message("before:\n%s\nafter:\n%s\n", before->status, after.status);
	check_equal(strcmp(before->status, after.status), 0);
	check_equal(before->dumpable, after.dumpable);
	check_equal(before->is_readable, after.is_readable);
	check_equal(before->owner, after.owner);
	check_equal(memcmp(before, &after, sizeof(after)), 0);
}

static void
spawn_in_all_ways(void *arg)
{
	const struct ipc_worker_user users[] = {
		{.uid = NOBODY, .gid = NOBODY}, {.uid = geteuid(), .gid = NOBODY}};
	const struct ipc_worker_limit limit = {.resource = RLIMIT_NOFILE, .soft = 50, .hard = 60};
	const int ignored = SIGINT;
	struct ipc_worker_options options =
		*WORKER(.directory = "/", .limits = &limit, .n_limits = 1, .ignored = &ignored,
			.n_ignored = 1, .group = IPC_WORKER_GROUP_SESSION, .kill_group = 1,
			.no_new_privs = 1, .parent_death_signal = SIGTERM);
	char *missing[] = {(char *)"/no-such-program", NULL};
	struct ipc_worker *worker;
	struct self before;
	unsigned int user;
	int way;

	check_equal(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
	look(&before);
	check(before.is_readable);
	for (user = 0; user < (*(bool *)arg ? 3 : 1); user++) {
		options.user = user ? &users[user - 1] : NULL;
		for (way = 0; way < 2; way++) {
			(void)powers_of(&options, way);
			expect_unchanged(&before);
		}
		options.run = NULL;
		options.argv = missing;
		check_equal(ipc_worker_spawn(&worker, &options), -ENOENT);
		expect_unchanged(&before);
	}
}

static void
starting_a_worker_changes_nothing_of_the_parent(void **state)
{
	bool may = geteuid() == 0;

	(void)state;
	skip_without_pidfds();
	if (may)
		need_root_and_a_readable_build();
	else
		test_lacks("root, who may change the user");
	child_end(child_start(spawn_in_all_ways, &may));
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		worker_test(a_worker_of_another_user_has_no_capability_and_no_way_back),
		worker_test(nor_has_one_that_is_root_where_the_parent_is_not),
		worker_test(one_of_the_same_user_keeps_what_it_has),
		worker_test(no_new_privs_is_as_asked_for),
		worker_test(starting_a_worker_changes_nothing_of_the_parent),
	};

	play_role(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	return run_group(tests);
}
