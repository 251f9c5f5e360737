/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peers.h"
#include "runner.h"
#include "side.h"

/* What a run may take beyond its own time before it counts as hung. */
#define HANG_NS UINT64_C(15000000000)

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};

static sigset_t
held_signals(bool with_children)
{
	struct sigaction action;
	sigset_t set;

	/* One that is ignored was to be ignored, as by nohup(1). */
	sigemptyset(&set);
	for (size_t i = 0; i < BENCH_ARRAY_SIZE(ending_signals); i++)
		if (sigaction(ending_signals[i], NULL, &action) == 0 &&
			action.sa_handler != SIG_IGN)
			sigaddset(&set, ending_signals[i]);
	if (with_children)
		sigaddset(&set, SIGCHLD);
	return set;
}

void
bench_runner_begin(void)
{
	sigset_t set = held_signals(true);

	/* Whoever started this program may have left SIGCHLD ignored: children would
	   then be reaped by nobody, and their end never told. */
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int
bench_runner_end(void)
{
	sigset_t ending = held_signals(false), all = held_signals(true);
	struct timespec none = {0};
	int signal_number = sigtimedwait(&ending, NULL, &none);

	sigprocmask(SIG_UNBLOCK, &all, NULL);
	return signal_number > 0 ? signal_number : 0;
}

/* The run, and what its processes need beside it: the gate and the probe's cache line. */
struct shared {
	struct bench_run run;
	struct bench_gate gate;
};

struct bench_run *
bench_run_new(void)
{
	void *memory = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : &((struct shared *)memory)->run;
}

struct bench_run *
bench_run_free(struct bench_run *run)
{
	if (run)
		munmap(run, sizeof(struct shared));
	return NULL;
}

/* Both ends of each connection under test. */
struct ends {
	struct bench_ends of[BENCH_ROLES];
	unsigned int n;
};

static int
fail(struct bench_run *run, const char *what, int error)
{
	snprintf(run->error, sizeof(run->error), "%s: %s", what, strerror(-error));
	return -EIO;
}

static void
close_end(struct bench_ends *ends, unsigned int i)
{
	ends->channels[i] = ipc_channel_close(ends->channels[i]);
	if (ends->fds[i] >= 0)
		close(ends->fds[i]);
	ends->fds[i] = -1;
}

/* All but those of one process; of none with BENCH_PROCESSES_LIMIT. */
static void
close_ends(struct ends *ends, unsigned int process)
{
	for (unsigned int i = 0; i < ends->n; i++) {
		if (process != BENCH_SENDER)
			close_end(&ends->of[BENCH_SENDER], i);
		if (process != BENCH_RECEIVER + i)
			close_end(&ends->of[BENCH_RECEIVER], i);
	}
}

static int
open_raw(struct bench_run *run, const struct bench_config *config, int fds[BENCH_ROLES])
{
	int value = (int)config->send_buffer;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return fail(run, "socketpair", -errno);
	for (int i = 0; value && i < BENCH_ROLES; i++)
		if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)) < 0)
			return fail(run, "SO_SNDBUF", -errno);
	return 0;
}

static int
open_ends(struct bench_run *run, const struct bench_config *config, struct ends *ends)
{
	struct ipc_channel_options options = bench_channel_options(config);
	int r = 0;

	while (r == 0 && ends->n < config->workers) {
		unsigned int i = ends->n++;
		int fds[BENCH_ROLES] = {-1, -1};

		if (!bench_is_libipc(config->variant)) {
			r = open_raw(run, config, fds);
		} else {
			r = ipc_channel_pair(&ends->of[BENCH_SENDER].channels[i],
				&ends->of[BENCH_RECEIVER].channels[i], &options);
			r = r < 0 ? fail(run, "ipc_channel_pair", r) : 0;
		}
		ends->of[BENCH_SENDER].fds[i] = fds[BENCH_SENDER];
		ends->of[BENCH_RECEIVER].fds[i] = fds[BENCH_RECEIVER];
	}
	return r;
}

static int
prepare_peer(struct bench_run *run, const struct bench_config *config)
{
	int r = bench_peers_meet(config);

	return r < 0 ? fail(run, "before it began", r) : 0;
}

__attribute__((noreturn)) static void
be_side(struct shared *shared, const struct bench_config *config, struct ends *ends,
	unsigned int process, pid_t program)
{
	enum bench_role role = process == BENCH_SENDER ? BENCH_SENDER : BENCH_RECEIVER;
	sigset_t mask;

	/* Only the program ends a run: it then has its one line to say. It held SIGINT
	   and SIGHUP back, so they stay so here; SIGTERM and the rest end this side. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_UNBLOCK, &mask, NULL);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != program)
		_exit(EXIT_FAILURE);

	close_ends(ends, process);
	bench_side_main(&shared->run, &shared->gate, config, process, &ends->of[role]);
}

static void
kill_all(pid_t pids[BENCH_PROCESSES_LIMIT])
{
	for (unsigned int i = 0; i < BENCH_PROCESSES_LIMIT; i++) {
		if (pids[i] <= 0)
			continue;
		kill(pids[i], SIGKILL);
		while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
			;
		pids[i] = 0;
	}
}

static int
start(struct shared *shared, const struct bench_config *config, struct ends *ends,
	pid_t pids[BENCH_PROCESSES_LIMIT])
{
	pid_t program = getpid();

	for (unsigned int i = 0; i <= config->workers; i++) {
		pids[i] = fork();
		if (pids[i] < 0) {
			pids[i] = 0;
			return fail(&shared->run, "fork", -errno);
		}
		if (pids[i] == 0)
			be_side(shared, config, ends, i, program);
	}
	return 0;
}

static int
judge(struct bench_run *run, unsigned int process, int status)
{
	const char *who = process == BENCH_SENDER ? "sender" : "receiver";

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (run->error[0])
		return -EIO;
	if (WIFSIGNALED(status))
		snprintf(run->error, sizeof(run->error), "the %s was killed by signal %d (%s)", who,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(run->error, sizeof(run->error), "the %s exited with status %d", who,
			WEXITSTATUS(status));
	return -EIO;
}

/* Reap what has ended. Return: how many still run, or -EIO. */
static int
reap(struct bench_run *run, pid_t pids[BENCH_PROCESSES_LIMIT])
{
	int running = 0;

	for (unsigned int i = 0; i < BENCH_PROCESSES_LIMIT; i++) {
		int status;
		pid_t pid;

		if (!pids[i])
			continue;
		pid = waitpid(pids[i], &status, WNOHANG);
		if (pid == 0) {
			running++;
			continue;
		}
		pids[i] = 0;
		if (pid < 0)
			return fail(run, "waitpid", -errno);
		if (judge(run, i, status) < 0)
			return -EIO;
	}
	return running;
}

/* This process sleeps until something ends, so that it takes no CPU from the run. */
static int
await(struct bench_run *run, pid_t pids[BENCH_PROCESSES_LIMIT], uint64_t deadline_ns)
{
	sigset_t set = held_signals(true);

	for (;;) {
		uint64_t now = bench_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
		struct timespec timeout = {
			.tv_sec = (time_t)(left / 1000000000),
			.tv_nsec = (long)(left % 1000000000),
		};
		int signal_number = sigtimedwait(&set, NULL, &timeout), r;

		if (signal_number > 0 && signal_number != SIGCHLD)
			return signal_number;
		r = reap(run, pids);
		if (r <= 0)
			return r;
		if (!left)
			return fail(run, "the run hangs", -ETIMEDOUT);
	}
}

static void
add_up_receivers(struct bench_run *run, unsigned int workers)
{
	struct bench_account *sum = &run->accounts[BENCH_RECEIVER];

	for (unsigned int i = 1; i < workers; i++) {
		sum->messages += sum[i].messages;
		sum->syscalls += sum[i].syscalls;
		sum->sum += sum[i].sum;
	}
}

int
bench_run_once(struct bench_run *run, const struct bench_config *config)
{
	struct shared *shared = (struct shared *)(void *)run;
	struct ends ends = {.n = 0};
	pid_t pids[BENCH_PROCESSES_LIMIT] = {0};
	int r;

	memset(shared, 0, sizeof(*shared));
	sem_init(&shared->gate.probed, 1, 0);
	r = open_ends(run, config, &ends);
	if (r == 0 && config->variant >= BENCH_PEER)
		r = prepare_peer(run, config);
	if (r == 0)
		r = start(shared, config, &ends, pids);
	close_ends(&ends, BENCH_PROCESSES_LIMIT);

	if (r == 0)
		r = await(run, pids, bench_now_ns() + config->warm_ns + config->time_ns + HANG_NS);
	kill_all(pids);
	if (config->variant >= BENCH_PEER)
		bench_peers_part(config);
	if (r == 0)
		add_up_receivers(run, config->workers);
	return r;
}
