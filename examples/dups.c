/* SPDX-License-Identifier: MIT */

/*
 * dups: finds files with the same contents.
 *
 * The parent looks for files of one size (dups_files.h), and has a pool of workers compute what
 * their contents are known by (dups_worker.h). A worker that dies or hangs is replaced, which costs
 * the file that it was at. Ctrl-C ends with what is known by then.
 */

#define _GNU_SOURCE 1
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc.h>

#include "dups_files.h"
#include "dups_worker.h"

#define WORKERS_LIMIT   64
#define SECONDS_LIMIT   1000000
#define SECONDS_DEFAULT 60
#define DEPTH           2    /* files at one worker: in its hands, and waiting for them */
#define ATTEMPTS        2    /* after its worker's death a file is tried once more */
#define GRACE_MS        1000 /* after Ctrl-C */

static struct ipc_loop *loop;
static size_t n_given, n_ended; /* files */
static uint64_t bytes_done;
static volatile sig_atomic_t interrupted;

/* What the pool tells. A worker's word is not trusted. */

static void
advance(struct file *file, uint64_t done)
{
	if (done < file->done || done > file->size)
		return;
	bytes_done += done - file->done;
	file->done = done;
}

/* The file is done with: error is 0 or -errno. */
static void
end_file(struct file *file, int error)
{
	/* It was too late for it. */
	if (error == -ECANCELED)
		return;
	if (error == -EOWNERDEAD)
		complain("%s: left out: it was the death of its worker", file->path);
	else if (error == -ESTALE)
		complain("%s: left out: it has changed meanwhile", file->path);
	else if (error)
		complain("%s: left out: %s", file->path, strerror(-error));
	file->is_hashed = !error;
	advance(file, file->size);
	if (++n_ended == n_files)
		ipc_loop_stop(loop);
}

static void
answered(struct ipc_pool *pool, int result, struct ipc_message *reply, void *user)
{
	struct file *file = user;
	struct answer answer;

	(void)pool;
	if (result < 0) {
		end_file(file, result);
	} else if (result == IPC_POOL_MORE) {
		if (reply->size == sizeof(uint64_t))
			advance(file, *(const uint64_t *)reply->data);
	} else if (reply->size != sizeof(answer)) {
		end_file(file, -EPROTO);
	} else {
		memcpy(&answer, reply->data, sizeof(answer));
		if (!answer.error)
			memcpy(file->digest, answer.digest, sizeof(file->digest));
		end_file(file, answer.error < 0 ? -EPROTO : -answer.error);
	}
}

static void
worker_ended(struct ipc_pool *pool, struct ipc_worker *worker, const struct ipc_worker_end *end,
	void *user)
{
	(void)pool;
	(void)user;
	if (end->status == 0 || interrupted)
		return;
	if (WIFSIGNALED(end->status)) {
		say("worker %d was killed (%s); another takes its place",
			(int)ipc_worker_pid(worker), strsignal(WTERMSIG(end->status)));
	} else {
		/* It cannot be confined, and nor can others. */
		complain("worker %d gave up", (int)ipc_worker_pid(worker));
		ipc_loop_stop(loop);
	}
}

/* Give the pool files until it has enough: then it calls this when it has room. */
static void
feed(struct ipc_pool *pool, void *user)
{
	struct ipc_message request = {.size = sizeof(files->size), .n_fds = 1};
	struct file *file;
	int fd, r;

	(void)user;
	while (n_given < n_files) {
		file = &files[n_given];
		fd = r = open_again(file);
		request.data = &file->size;
		request.fds = &fd;
		if (fd >= 0) {
			r = ipc_pool_call(pool, &request, answered, file, -1);
			close(fd);
		}
		if (r == -EAGAIN)
			return;
		n_given++;
		if (r < 0)
			end_file(file, r);
	}
}

static void
tell_progress(struct ipc_timer *timer, void *user)
{
	(void)timer;
	(void)user;
	show_progress("%zu of %zu files, %" PRIu64 "%% of %" PRIu64 " MiB", n_ended, n_files,
		bytes_done / (bytes_total / 100 + 1), bytes_total >> 20);
}

static void
interrupt(int signal_number)
{
	interrupted = signal_number;
	ipc_loop_stop(loop);
}

static int
hash_files(struct ipc_pool_options *options)
{
	/* A second Ctrl-C ends all at once. */
	struct sigaction old, action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
	struct ipc_pool *pool = NULL;
	int r = ipc_loop_create(&loop, NULL);

	if (r == 0 && isatty(STDERR_FILENO))
		r = ipc_timer_start(NULL, loop, 0, PROGRESS_MS, tell_progress, NULL);
	if (r == 0)
		r = ipc_pool_create(&pool, loop, options);
	if (r == 0) {
		sigaction(SIGINT, NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(SIGINT, &action, NULL);
		feed(pool, NULL);
		r = ipc_loop_run(loop);
	}
	/* Whatever is under way is finished, within reason. */
	if (r == 0)
		ipc_pool_drain(pool, GRACE_MS);
	ipc_pool_destroy(pool);
	/* The loop is left to the end of the process: a signal may still come. */
	hide_progress();
	return r;
}

static const char usage[] =
	"usage: dups [-j N] [-t SECONDS] PATH...\n"
	"\n"
	"Finds files with the same contents among PATHs and in all that is below them. Symbolic\n"
	"links met there are not followed; other names of a file, and empty files, do not count.\n"
	"\n"
	"  -j N         N workers, 1 to 64; without it, one for each CPU that may be used\n"
	"  -t SECONDS   a worker that is silent for so long is killed; without it, 60\n"
	"\n"
	"Exit status: 0; 1 if any file was left out, which is named; 2 for wrong usage.\n";

/* Return: the number, or -1. */
static int
parse(const char *text, int limit)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *end || n < 1 || n > limit ? -1 : (int)n;
}

int
main(int argc, char **argv)
{
	static const struct ipc_channel_options channel = {.size = sizeof(channel), .fds_max = 1};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker),
		.run = work,
		.channel = &channel,
		.parent_death_signal = SIGKILL,
	};
	struct ipc_pool_options options = {
		.size = sizeof(options),
		.worker = &worker,
		.depth = DEPTH,
		.attempts = ATTEMPTS,
		.hung_ms = SECONDS_DEFAULT * 1000,
		.handler = {.writable = feed, .ended = worker_ended},
	};
	int option, n = 1, r;

	while (n > 0 && (option = getopt(argc, argv, "j:t:")) >= 0) {
		n = option == '?' ? -1
		                  : parse(optarg, option == 'j' ? WORKERS_LIMIT : SECONDS_LIMIT);
		if (option == 'j')
			options.workers = (unsigned int)n;
		else
			options.hung_ms = n * 1000;
	}
	if (n < 0 || optind == argc) {
		fputs(usage, stderr);
		return 2;
	}

	walk(argv + optind);
	select_candidates();
	r = n_files ? hash_files(&options) : 0;
	if (r < 0)
		complain("cannot hash: %s", strerror(-r));
	report();
	if (fflush(stdout) != 0)
		complain("cannot write: %s", strerror(errno));
	if (interrupted) {
		say("interrupted: %zu of %zu files were looked at", n_ended, n_files);
		raise(interrupted);
	}
	return failed;
}
