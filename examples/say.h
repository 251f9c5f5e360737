/* SPDX-License-Identifier: MIT */
#ifndef SAY_H
#define SAY_H

/* What an example says on stderr: lines, and below them, on a terminal, one that tells how far it
   is. */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define PROGRESS_MS 100

static bool progress_shown;

static void
hide_progress(void)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	progress_shown = false;
}

__attribute__((format(printf, 1, 2))) static void
show_progress(const char *format, ...)
{
	va_list arguments;

	fputs("\r\033[K", stderr);
	progress_shown = true;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
}

__attribute__((format(printf, 1, 2))) static void
say(const char *format, ...)
{
	va_list arguments;

	hide_progress();
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

#endif
