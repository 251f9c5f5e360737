/* SPDX-License-Identifier: MIT */
#ifndef DUPS_FILES_H
#define DUPS_FILES_H

/* What dups knows of files: which of them can have the same contents, and which do. */

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "say.h"
#include "sha256.h"

struct file {
	char *path;
	uint64_t size;
	dev_t dev;
	ino_t ino;
	uint64_t done; /* bytes that are hashed */
	bool is_hashed;
	unsigned char digest[SHA256_SIZE];
};

static struct file *files;
static size_t n_files;
static uint64_t bytes_total;
static bool failed; /* something was left out: the exit status will be 1 */

#define complain(...) (failed = true, say(__VA_ARGS__))

static void
add_file(const FTSENT *entry)
{
	struct file *more = files;
	char *path = strdup(entry->fts_path);

	/* Doubled whenever it is full. */
	if ((n_files & (n_files - 1)) == 0)
		more = realloc(files, (n_files ? 2 * n_files : 1) * sizeof(*files));
	if (!path || !more) {
		say("out of memory");
		exit(1);
	}
	files = more;
	files[n_files++] = (struct file){
		.path = path,
		.size = (uint64_t)entry->fts_statp->st_size,
		.dev = entry->fts_statp->st_dev,
		.ino = entry->fts_statp->st_ino,
	};
}

static void
walk(char *const *paths)
{
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
	FTSENT *entry;

	while (tree && (errno = 0, entry = fts_read(tree))) {
		/* Nothing is gained by finding out that empty files are alike. */
		if (entry->fts_info == FTS_F && entry->fts_statp->st_size > 0)
			add_file(entry);
		else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
			 entry->fts_info == FTS_NS || entry->fts_info == FTS_SLNONE)
			complain("%s: %s", entry->fts_path,
				strerror(entry->fts_errno ? entry->fts_errno : ENOENT));
	}
	if (errno)
		complain("cannot walk: %s", strerror(errno));
	if (tree)
		fts_close(tree);
}

/* The largest first: while workers are at these others do the rest. Before anything is hashed all
   digests are alike. */
static int
compare(const void *left, const void *right)
{
	const struct file *a = left, *b = right;
	int r = memcmp(a->digest, b->digest, sizeof(a->digest));

	if (a->size != b->size)
		return a->size < b->size ? 1 : -1;
	if (r || a->dev != b->dev)
		return r ? r : a->dev < b->dev ? -1 : 1;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return strcmp(a->path, b->path);
}

static void
sort_files(void)
{
	if (n_files)
		qsort(files, n_files, sizeof(*files), compare);
}

/* Keep a file, in the next of n places that are taken, or forget it. */
static void
keep_if(bool is_kept, size_t from, size_t *n)
{
	if (is_kept)
		files[(*n)++] = files[from];
	else
		free(files[from].path);
}

/* Keep the files that can be alike: of one size, and no names of the same file. */
static void
select_candidates(void)
{
	size_t i, n = 0;

	sort_files();
	for (i = 0; i < n_files; i++)
		keep_if(!n || files[n - 1].ino != files[i].ino || files[n - 1].dev != files[i].dev,
			i, &n);
	n_files = n;
	for (i = n = 0; i < n_files; i++)
		keep_if((n && files[n - 1].size == files[i].size) ||
				(i + 1 < n_files && files[i + 1].size == files[i].size),
			i, &n);
	n_files = n;
	for (i = 0; i < n_files; i++)
		bytes_total += files[i].size;
}

/* Return: a descriptor of what the walk has seen, or -errno. */
static int
open_again(const struct file *file)
{
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat stat;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &stat) == 0 && stat.st_dev == file->dev && stat.st_ino == file->ino &&
		(uint64_t)stat.st_size == file->size)
		return fd;
	close(fd);
	return -ESTALE;
}

static bool
are_alike(const struct file *a, const struct file *b)
{
	return a->is_hashed && b->is_hashed && a->size == b->size &&
	       memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

static void
report(void)
{
	size_t first, n, i, copies = 0;
	uint64_t wasted = 0;

	sort_files();
	for (first = 0; first < n_files; first += n) {
		for (n = 1; first + n < n_files && are_alike(&files[first], &files[first + n]);)
			n++;
		if (n == 1)
			continue;
		copies += n - 1;
		wasted += (n - 1) * files[first].size;
		printf("%zu files of %" PRIu64 " bytes:\n", n, files[first].size);
		for (i = first; i < first + n; i++)
			printf("  %s\n", files[i].path);
	}
	printf("%zu files are copies of others: %" PRIu64 " bytes\n", copies, wasted);
}

#endif
