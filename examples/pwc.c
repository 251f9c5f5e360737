/* SPDX-License-Identifier: MIT */

/*
 * pwc: a parallel wc over directory trees, with workers that cannot open anything.
 *
 * The parent walks the trees and opens the files; it posts their descriptors, many to a packet,
 * to its workers (pwc_pool.h), which count what they are given (pwc_worker.h).
 */

#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pwc_pool.h"

/* Open the file as what the walk has seen: whatever took its place since is not opened. */
static int
open_file(const char *path, bool follow, off_t *ret_size)
{
	int fd = open(
		path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW));
	struct stat stat;
	int r = -errno;

	if (fd < 0)
		return r;
	if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode)) {
		*ret_size = stat.st_size;
		return fd;
	}
	close(fd);
	return -EINVAL;
}

static void
count_file(const FTSENT *entry)
{
	off_t size = 0;
	int fd, r = -EPIPE;

	fd = open_file(entry->fts_accpath, entry->fts_level == FTS_ROOTLEVEL, &size);
	if (fd < 0) {
		complain("%s: %s", entry->fts_path,
			fd == -EINVAL ? "Not a regular file" : strerror(-fd));
		return;
	}
	while (r == -EPIPE && (batch_worker || begin_batch())) {
		r = post(entry->fts_path, fd, size);
		if (r == -EPIPE || r == -EPROTO) {
			give_up_worker(batch_worker, r);
			r = -EPIPE;
		}
	}
	/* Without any worker the end of the walk says so once. */
	if (r < 0 && r != -EPIPE)
		complain("%s: %s", entry->fts_path, strerror(-r));
	close(fd);
}

static void
walk(char *const *paths)
{
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW, NULL);
	FTSENT *entry;

	errno = 0;
	while (tree && n_alive && (entry = fts_read(tree))) {
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
			/* Met in a tree it is passed over, like a symbolic link; but this one was
			 * named. */
			if (entry->fts_level == FTS_ROOTLEVEL)
				complain("%s: Not a regular file", entry->fts_path);
			break;
		}
		show_progress(n_files, total.bytes);
		errno = 0;
	}
	if (!tree || (n_alive && errno))
		complain("cannot walk: %s", strerror(errno));
	if (tree)
		fts_close(tree);
	send_batch();
}

static unsigned int
usable_cpus(void)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return 1;
	return CPU_COUNT(&cpus) < WORKERS_LIMIT ? (unsigned int)CPU_COUNT(&cpus) : WORKERS_LIMIT;
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
	"The workers can open nothing: the files are opened here and passed to them.\n"
	"Exit status: 0; 1 if anything could not be counted, which is named; 2 for wrong usage.\n"
	"\n"
	"  pwc /usr/include              how much is there?\n"
	"  pwc --files src | sort -n     the longest files last\n";

/* Return: the number of workers; 0: help was wanted; -1 with a line said. */
static int
parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{"jobs", required_argument, NULL, 'j'},
		{"files", no_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int option, n = (int)usable_cpus();
	char *end;
	long value;

	/* getopt's lines begin with it. */
	argv[0] = (char[]){"pwc"};
	while ((option = getopt_long(argc, argv, "j:fh", options, NULL)) >= 0) {
		switch (option) {
		case 'j':
			value = strtol(optarg, &end, 10);
			if (*end || end == optarg || value < 1 || value > WORKERS_LIMIT) {
				complain("-j takes a number from 1 to %d, not '%s'", WORKERS_LIMIT,
					optarg);
				return -1;
			}
			n = (int)value;
			break;
		case 'f':
			list_files = true;
			break;
		case 'h':
			return 0;
		default:
			return -1;
		}
	}
	if (optind == argc) {
		complain("no PATH is given; pwc --help says more");
		return -1;
	}
	return n;
}

/* Return: the exit status. */
static int
finish_output(void)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		complain("cannot write: %s", strerror(errno));
	return failed;
}

int
main(int argc, char **argv)
{
	int n = parse_options(argc, argv);

	if (n < 0)
		return 2;
	if (n == 0) {
		fputs(help, stdout);
		return finish_output();
	}

	handle_signals();
	start_workers((unsigned int)n);
	walk(argv + optind);
	while (any_held())
		wait_for_answers();
	if (!n_alive)
		complain("no worker is left; what is missing was not counted");
	stop_workers();

	hide_progress();
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " total (%ju files)\n", total.lines, total.words,
		total.bytes, n_files);
	return finish_output();
}
