/* SPDX-License-Identifier: MIT */
#ifndef PWC_POOL_H
#define PWC_POOL_H

/*
 * The parent's workers: which files each holds, the batch that is being made, their answers and
 * their deaths, and the totals. A worker that dies costs the files that it held, by name.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <libipc.h>

#include "pwc_say.h"
#include "pwc_worker.h"

#define WORKERS_LIMIT 256

/* A batch is one packet: this many files, or fewer that are large together. */
#define BATCH_FILES 16
#define BATCH_BYTES (1 << 20)
/* Files at one worker, in three batches: one in its hands, one that waits, one that is made.
   So a worker never waits, and the descriptors on their way stay far below the limits. */
#define HELD_MAX (3 * BATCH_FILES)

struct file {
	char *path; /* NULL: this place is free */
	off_t size;
};

struct worker {
	struct ipc_channel *channel; /* NULL: it is gone */
	struct file held[HELD_MAX];  /* not answered yet; a request's id is its place here + 1 */
	unsigned int n_held;
	off_t held_bytes;
};

static struct worker workers[WORKERS_LIMIT];
static volatile pid_t pids[WORKERS_LIMIT]; /* 0: none; the signal handler reads them */
static unsigned int n_workers, n_alive;

static struct worker *batch_worker; /* whose batch is being made */
static unsigned int batch_files;
static off_t batch_bytes;

static struct pwc_counts total;
static uintmax_t n_files;
static bool list_files;

/* Ctrl-C and its kin: the workers first, then a line, then the death that the signal means. */
static void
interrupted(int signal_number)
{
	static const char said[] = "pwc: interrupted\n";
	unsigned int i;
	ssize_t r = 0;

	for (i = 0; i < n_workers; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	for (i = 0; i < n_workers; i++)
		if (pids[i] > 0)
			waitpid(pids[i], NULL, 0);
	if (progress_shown)
		r = write(STDERR_FILENO, erase_line, sizeof(erase_line) - 1);
	if (r >= 0)
		r = write(STDERR_FILENO, said, sizeof(said) - 1);
	(void)r;
	/* The handler was reset when it was called: this is delivered when it returns. */
	raise(signal_number);
}

static void
handle_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction old, action = {.sa_handler = interrupted, .sa_flags = (int)SA_RESETHAND};
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		sigaddset(&action.sa_mask, numbers[i]);
	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		/* What nohup or a background job's shell ignores stays ignored. */
		sigaction(numbers[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
	}
}

/* The worker is gone: what it held is not counted. */
static void
lose_worker(struct worker *worker, int reason)
{
	size_t index = (size_t)(worker - workers);
	pid_t pid = pids[index];
	char why[64];
	unsigned int i;
	int status = 0;

	/* It may live, if it broke the protocol; if it is dead this changes nothing. Once it is
	   waited for its number can be another's: the handler must not know it. */
	kill(pid, SIGKILL);
	pids[index] = 0;
	waitpid(pid, &status, 0);
	if (reason != -EPIPE)
		snprintf(why, sizeof(why), "broke: %s", strerror(-reason));
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "was killed (%s)", strsignal(WTERMSIG(status)));
	else
		snprintf(why, sizeof(why), "ended with status %d", WEXITSTATUS(status));

	if (!worker->n_held)
		complain("worker %d %s", (int)pid, why);
	for (i = 0; i < HELD_MAX; i++) {
		if (!worker->held[i].path)
			continue;
		complain("%s: not counted: worker %d %s", worker->held[i].path, (int)pid, why);
		free(worker->held[i].path);
	}
	*worker = (struct worker){.channel = ipc_channel_close(worker->channel)};
	n_alive--;
	if (batch_worker == worker)
		batch_worker = NULL;
}

static void
add_answer(const struct file *file, const struct pwc_counts *counts)
{
	if (counts->error) {
		complain("%s: %s", file->path, strerror(counts->error));
		return;
	}
	n_files++;
	total.lines += counts->lines;
	total.words += counts->words;
	total.bytes += counts->bytes;
	if (list_files) {
		hide_progress();
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", counts->lines, counts->words,
			counts->bytes, file->path);
	}
}

/* Take what the worker has replied. A worker's word is not trusted: nor is its id. */
static void
collect(struct worker *worker)
{
	struct ipc_message reply;
	struct pwc_counts counts;
	struct file *file;
	int r;

	while (worker->channel) {
		r = ipc_channel_recv(worker->channel, &reply, 0);
		if (r == -EAGAIN)
			return;
		if (r == 0 && (!(reply.flags & IPC_MESSAGE_REPLY) || reply.id < 1 ||
				      reply.id > HELD_MAX || reply.size != sizeof(counts) ||
				      !worker->held[reply.id - 1].path))
			r = -EPROTO;
		if (r < 0) {
			lose_worker(worker, r);
			return;
		}
		memcpy(&counts, reply.data, sizeof(counts));
		file = &worker->held[reply.id - 1];
		add_answer(file, &counts);
		worker->n_held--;
		worker->held_bytes -= file->size;
		free(file->path);
		*file = (struct file){0};
	}
}

/* Wait until some worker has replied or died. */
static void
wait_for_answers(void)
{
	struct pollfd polls[WORKERS_LIMIT];
	struct worker *polled[WORKERS_LIMIT];
	unsigned int i, n = 0;

	for (i = 0; i < n_workers; i++) {
		if (!workers[i].channel)
			continue;
		polled[n] = &workers[i];
		polls[n++] =
			(struct pollfd){.fd = ipc_channel_fd(workers[i].channel), .events = POLLIN};
	}
	/* Nothing is received already and not looked at: collect() goes on until -EAGAIN. */
	if (poll(polls, n, PROGRESS_MS) > 0)
		for (i = 0; i < n; i++)
			if (polls[i].revents)
				collect(polled[i]);
	show_progress(n_files, total.bytes);
}

/* Sending to the worker failed. What it has said before is still to be had. */
static void
give_up_worker(struct worker *worker, int reason)
{
	collect(worker);
	if (worker->channel)
		lose_worker(worker, reason);
}

static void
send_batch(void)
{
	struct worker *worker = batch_worker;
	int r;

	batch_worker = NULL;
	r = worker ? ipc_channel_flush(worker->channel, -1) : 0;
	if (r < 0)
		give_up_worker(worker, r);
}

/* The worker with the least to do begins a batch, if it has room for one. */
static struct worker *
choose_worker(void)
{
	struct worker *best = NULL;
	unsigned int i;

	for (i = 0; i < n_workers; i++)
		if (workers[i].channel && workers[i].n_held <= HELD_MAX - BATCH_FILES &&
			(!best || workers[i].held_bytes < best->held_bytes))
			best = &workers[i];
	return best;
}

static struct worker *
begin_batch(void)
{
	batch_files = 0;
	batch_bytes = 0;
	while (n_alive && !(batch_worker = choose_worker()))
		wait_for_answers();
	return batch_worker;
}

/* Post the file to the worker whose batch is being made. Return: 0 or -errno; then nothing was. */
static int
post(const char *path, int fd, off_t size)
{
	struct ipc_message request = {.id = 1, .n_fds = 1, .fds = &fd};
	char *copy = strdup(path);
	int r;

	if (!copy)
		return -ENOMEM;
	while (batch_worker->held[request.id - 1].path)
		request.id++;
	r = ipc_channel_post(batch_worker->channel, &request, -1);
	if (r < 0) {
		free(copy);
		return r;
	}
	batch_worker->held[request.id - 1] = (struct file){.path = copy, .size = size};
	batch_worker->n_held++;
	batch_worker->held_bytes += size;
	batch_bytes += size;
	if (++batch_files == BATCH_FILES || batch_bytes >= BATCH_BYTES)
		send_batch();
	return 0;
}

/* In the child. */
_Noreturn static void
become_worker(struct ipc_channel *channel, pid_t parent)
{
	sigset_t none;
	unsigned int i;

	/* Ctrl-C is the parent's. The parent's end, however it comes, is the worker's, too. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/* Whoever has the parent's end of another worker's channel keeps that open. */
	for (i = 0; i < n_workers; i++)
		ipc_channel_close(workers[i].channel);
	_exit(pwc_work(channel));
}

/* Returns the channel's end here. */
static struct ipc_channel *
start_worker(pid_t *ret_pid)
{
	struct ipc_channel_options options = {.size = sizeof(options), .fds_max = 1};
	struct ipc_channel *mine, *its;
	pid_t parent = getpid(), pid;
	int r;

	r = ipc_channel_pair(&mine, &its, &options);
	if (r < 0) {
		complain("cannot make a channel: %s", strerror(-r));
		return NULL;
	}
	pid = fork();
	if (pid == 0) {
		ipc_channel_close(mine);
		become_worker(its, parent);
	}
	ipc_channel_close(its);
	if (pid < 0) {
		complain("cannot start a worker: %s", strerror(errno));
		return ipc_channel_close(mine);
	}
	*ret_pid = pid;
	return mine;
}

static void
start_workers(unsigned int n)
{
	sigset_t all, old;
	pid_t pid = 0;

	/* A signal must find each worker in the table, and no worker the parent's handler. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	while (n_workers < n && (workers[n_workers].channel = start_worker(&pid))) {
		pids[n_workers++] = pid;
		n_alive++;
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* All have answered: their channels' end is theirs. */
static void
stop_workers(void)
{
	unsigned int i;
	pid_t pid;

	for (i = 0; i < n_workers; i++) {
		pid = pids[i];
		if (!pid)
			continue;
		workers[i].channel = ipc_channel_close(workers[i].channel);
		waitpid(pid, NULL, 0);
		pids[i] = 0;
	}
}

static bool
any_held(void)
{
	unsigned int i;

	for (i = 0; i < n_workers; i++)
		if (workers[i].n_held)
			return true;
	return false;
}

#endif
