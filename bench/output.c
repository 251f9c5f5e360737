/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output.h"

int
bench_output_open(struct bench_output *output, const char *path)
{
	int fd, saved;

	*output = (struct bench_output){.path = path};
	if (!path)
		return 0;

	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	output->is_new = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;

	output->file = fdopen(fd, "w");
	if (!output->file) {
		saved = errno;
		close(fd);
		bench_output_abandon(output);
		return -saved;
	}
	return 0;
}

int
bench_output_begin(struct bench_output *output)
{
	struct stat status;
	int fd = fileno(output->file);

	/* Only a regular file has anything to empty. */
	if (fstat(fd, &status) < 0)
		return -errno;
	if (S_ISREG(status.st_mode) && ftruncate(fd, 0) < 0)
		return -errno;
	return 0;
}

int
bench_output_end(struct bench_output *output)
{
	FILE *file = output->file;
	int r = 0;

	output->file = NULL;
	if (ferror(file))
		r = -EIO;
	if (fflush(file) != 0)
		r = -errno;
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	return r;
}

void
bench_output_abandon(struct bench_output *output)
{
	if (output->file)
		fclose(output->file);
	output->file = NULL;
	if (output->is_new)
		unlink(output->path);
}
