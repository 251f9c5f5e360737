/* SPDX-License-Identifier: MIT */
#ifndef PWC_SAY_H
#define PWC_SAY_H

/* What pwc says on stderr: a progress line on a terminal, and a line for each thing gone wrong. */

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_MS 100

static bool failed; /* something went wrong: the exit status will be 1 */
static volatile sig_atomic_t progress_shown;

static const char erase_line[] = "\r\033[K";

static void
hide_progress(void)
{
	if (progress_shown)
		fputs(erase_line, stderr);
	progress_shown = 0;
}

__attribute__((format(printf, 1, 2))) static void
complain(const char *format, ...)
{
	va_list arguments;

	failed = true;
	hide_progress();
	fputs("pwc: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

static void
show_progress(uintmax_t n_files, uint64_t n_bytes)
{
	static struct timespec last;
	static int on_terminal = -1;
	struct timespec now;

	if (on_terminal < 0)
		on_terminal = isatty(STDERR_FILENO);
	if (!on_terminal)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - last.tv_sec) * 1000 + (now.tv_nsec - last.tv_nsec) / 1000000 <
		PROGRESS_MS)
		return;
	last = now;
	progress_shown = 1;
	fprintf(stderr, "%s%ju files, %" PRIu64 " MiB", erase_line, n_files, n_bytes >> 20);
}

#endif
