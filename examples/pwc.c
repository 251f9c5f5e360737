/* SPDX-License-Identifier: MIT */

/*
 * pwc: a parallel wc over directory trees, with workers that cannot open anything.
 *
 * The parent walks the trees and opens the files; a pool passes their descriptors, many to a
 * packet, to the workers (pwc_worker.h), which count what they are given. If a worker dies others
 * count what it had.
 */

#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pwc_worker.h"

#define WORKERS_LIMIT 256

/* A file that has met the death of so many workers may be what they died of. */
#define ATTEMPTS 3

/* Between two turns of the loop: as many files go to the workers together. */
#define WALK_STEPS 16

static struct ipc_loop *loop;
static struct ipc_pool *pool;
static struct pwc_counts total;
static uintmax_t n_files;
static unsigned int n_pending; /* files that workers have, or that wait for them */
static bool list_files, given_up, failed;
static volatile sig_atomic_t caught; /* a signal that ends pwc */

#define complain(...) (failed = true, say(__VA_ARGS__))

/* Ctrl-C and its kin: the loop ends its wait. */
static void
interrupted(int signal_number)
{
	caught = signal_number;
	ipc_loop_stop(loop);
}

static void
handle_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	/* A second one ends pwc at once. */
	struct sigaction old, action = {.sa_handler = interrupted, .sa_flags = (int)SA_RESETHAND};
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		/* What nohup or a background job's shell ignores stays ignored. */
		sigaction(numbers[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
	}
}

static bool
goes_on(void)
{
	return !given_up && !caught;
}

static void
give_up(const char *what, int result)
{
	if (goes_on())
		complain("%s: %s", what, strerror(-result));
	given_up = true;
}

static void
turn(int timeout_ms)
{
	int r = ipc_loop_turn(loop, timeout_ms);

	if (r < 0)
		give_up("the loop", r);
}

static void
tell_progress(struct ipc_timer *timer, void *user)
{
	(void)timer;
	(void)user;
	show_progress("%ju files, %" PRIu64 " MiB", n_files, total.bytes >> 20);
}

static void
add(const char *path, const struct pwc_counts *counts)
{
	n_files++;
	total.lines += counts->lines;
	total.words += counts->words;
	total.bytes += counts->bytes;
	if (!list_files)
		return;
	hide_progress();
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", counts->lines, counts->words,
		counts->bytes, path);
}

/* Once for each file that the pool has taken. */
static void
counted(struct ipc_pool *its_pool, int result, struct ipc_message *reply, void *user)
{
	struct pwc_counts counts = {0};
	char *path = user;

	(void)its_pool;
	n_pending--;
	/* A worker's word is not trusted. */
	if (result == 0 && reply->size != sizeof(counts))
		result = -EPROTO;
	if (result == 0) {
		memcpy(&counts, reply->data, sizeof(counts));
		result = counts.error < 0 ? -EPROTO : -counts.error;
	}
	if (result == 0)
		add(path, &counts);
	else if (result == -EOWNERDEAD)
		complain("%s: not counted: its workers died", path);
	else if (goes_on())
		complain("%s: %s", path, strerror(-result));
	free(path);
}

static void
worker_ended(struct ipc_pool *its_pool, struct ipc_worker *worker, const struct ipc_worker_end *end,
	void *user)
{
	(void)its_pool;
	(void)user;
	if (!goes_on() || end->status == 0)
		return;
	if (WIFSIGNALED(end->status))
		say("worker %d was killed (%s); others go on", (int)ipc_worker_pid(worker),
			strsignal(WTERMSIG(end->status)));
	else
		/* It has said why; others would not fare better. */
		give_up("a worker gave up", -ECANCELED);
}

/* Each file that is not counted yet is kept, and there once more while it is being sent. Most
   descriptors are for the workers and the walk. */
static unsigned int
files_at_once(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
		limit.rlim_cur / 8 > IPC_POOL_KEPT_FDS_MAX_DEFAULT)
		return IPC_POOL_KEPT_FDS_MAX_DEFAULT;
	return (unsigned int)limit.rlim_cur / 8 + 1;
}

static int
start(unsigned int n_workers)
{
	static const struct ipc_channel_options channel = {.size = sizeof(channel), .fds_max = 1};
	static const struct ipc_worker_options worker = {
		.size = sizeof(worker),
		.run = pwc_work,
		.channel = &channel,
		.parent_death_signal = SIGKILL,
	};
	const struct ipc_pool_options options = {
		.size = sizeof(options),
		.worker = &worker,
		.workers = n_workers,
		.attempts = ATTEMPTS,
		.kept_fds_max = files_at_once(),
		.handler = {.ended = worker_ended},
	};
	int r = ipc_loop_create(&loop, NULL);

	if (r == 0)
		handle_signals();
	if (r == 0 && isatty(STDERR_FILENO))
		r = ipc_timer_start(NULL, loop, 0, PROGRESS_MS, tell_progress, NULL);
	return r < 0 ? r : ipc_pool_create(&pool, loop, &options);
}

/* Open the file as what the walk has seen: whatever took its place since is not opened. */
static int
open_file(const char *path, bool follow)
{
	int fd = open(
		path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW));
	struct stat stat;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode))
		return fd;
	close(fd);
	return -EINVAL;
}

static void
count_file(const FTSENT *entry)
{
	char *path = strdup(entry->fts_path);
	int fd = open_file(entry->fts_accpath, entry->fts_level == FTS_ROOTLEVEL);
	struct ipc_message request = {.n_fds = 1, .fds = &fd};
	int r = path ? fd : -ENOMEM;

	if (r >= 0)
		/* While the pool has enough it is given nothing, but time. */
		while ((r = ipc_pool_call(pool, &request, counted, path, -1)) == -EAGAIN &&
			goes_on())
			turn(-1);
	if (fd >= 0)
		close(fd);
	if (r == 0) {
		n_pending++;
		return;
	}
	free(path);
	if (r == -EOWNERDEAD)
		give_up("workers cannot be started", r);
	else if (goes_on())
		complain("%s: %s", entry->fts_path,
			r == -EINVAL ? "Not a regular file" : strerror(-r));
}

static void
visit(const FTSENT *entry)
{
	switch (entry->fts_info) {
	case FTS_F:
		count_file(entry);
		break;
	case FTS_DNR:
	case FTS_NS:
	case FTS_ERR:
		complain("%s: %s", entry->fts_path, strerror(entry->fts_errno));
		break;
	case FTS_SLNONE:
		complain("%s: %s", entry->fts_path, strerror(ENOENT));
		break;
	case FTS_DEFAULT:
		/* Met in a tree it is passed over, like a symbolic link; but this one was named. */
		if (entry->fts_level == FTS_ROOTLEVEL)
			complain("%s: Not a regular file", entry->fts_path);
		break;
	}
}

static void
walk(char *const *paths)
{
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW, NULL);
	FTSENT *entry = NULL;
	unsigned int step;

	errno = 0;
	for (step = 1; tree && goes_on() && (entry = fts_read(tree)); step++) {
		visit(entry);
		if (step % WALK_STEPS == 0)
			turn(0);
		errno = 0;
	}
	if (!entry && errno)
		complain("cannot walk: %s", strerror(errno));
	if (tree)
		fts_close(tree);
}

static const char help[] =
	"usage: pwc [-j N] [--files] PATH...\n"
	"\n"
	"Counts lines, words and bytes of files, as wc does in the C locale, with several\n"
	"processes. A PATH that is a directory stands for all regular files below it; symbolic\n"
	"links met there are not followed.\n"
	"\n"
	"  -j, --jobs N   N workers; without it, one for each CPU that may be used\n"
	"  -f, --files    a line for each file, too, in the order in which they are done\n"
	"  -h, --help     this\n"
	"\n"
	"The last line is: LINES WORDS BYTES total (N files)\n"
	"The workers can open nothing: the files are opened here and passed to them. What a "
	"worker\n"
	"that was killed had not counted is counted by others.\n"
	"Exit status: 0; 1 if anything could not be counted, which is named; 2 for wrong usage.\n"
	"\n"
	"  pwc /usr/include              how much is there?\n"
	"  pwc --files src | sort -n     the longest files last\n";

/* Return: whether to count; else *ret_status is what to exit with. */
static bool
parse_options(int argc, char **argv, unsigned int *ret_workers, int *ret_status)
{
	static const struct option options[] = {
		{"jobs", required_argument, NULL, 'j'},
		{"files", no_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int option;
	char *end;
	long n;

	/* getopt's lines begin with it. */
	argv[0] = program_invocation_short_name;
	*ret_status = 2;
	while ((option = getopt_long(argc, argv, "j:fh", options, NULL)) >= 0) {
		switch (option) {
		case 'j':
			n = strtol(optarg, &end, 10);
			if (*end || end == optarg || n < 1 || n > WORKERS_LIMIT) {
				say("-j takes a number from 1 to %d, not '%s'", WORKERS_LIMIT,
					optarg);
				return false;
			}
			*ret_workers = (unsigned int)n;
			break;
		case 'f':
			list_files = true;
			break;
		case 'h':
			fputs(help, stdout);
			*ret_status = 0;
			return false;
		default:
			return false;
		}
	}
	if (optind == argc)
		say("no PATH is given; pwc --help says more");
	return optind < argc;
}

/* Return: the exit status. */
static int
finish_output(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	say("cannot write: %s", strerror(errno));
	return 1;
}

int
main(int argc, char **argv)
{
	unsigned int n_workers = 0;
	int r, status;

	if (!parse_options(argc, argv, &n_workers, &status))
		return finish_output(status);
	r = start(n_workers);
	if (r < 0)
		give_up("cannot start", r);
	else
		walk(argv + optind);
	while (n_pending && goes_on())
		turn(-1);

	if (goes_on())
		ipc_pool_drain(pool, -1);
	ipc_pool_destroy(pool);
	/* The loop is left to the end of the process: a signal may still come. */
	hide_progress();
	if (caught) {
		say("interrupted");
		raise(caught);
	}
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " total (%ju files)\n", total.lines, total.words,
		total.bytes, n_files);
	return finish_output(failed);
}
