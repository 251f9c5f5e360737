/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "sys.h"

#define SHELL "/bin/sh"

/* Where PATH is not set, as confstr(3) has it. */
#define SEARCH_DEFAULT "/bin:/usr/bin"

/* The shell and the script take the place of argv[0]; then NULL. */
#define SCRIPT_MORE 2

int
ipci_exec_init(struct ipci_exec *exec, char *const *argv)
{
	const char *search = getenv("PATH");
	size_t n = 0;

	*exec = (struct ipci_exec){.argv = argv, .search = search ? search : SEARCH_DEFAULT};
	while (argv[n])
		n++;
	/* A slash, and the end. */
	exec->path = malloc(strlen(exec->search) + strlen(argv[0]) + 2);
	exec->script = calloc(n + SCRIPT_MORE, sizeof(*exec->script));
	if (!exec->path || !exec->script) {
		ipci_exec_finish(exec);
		return -ENOMEM;
	}
	memcpy(exec->script + SCRIPT_MORE, argv + 1, (n - 1) * sizeof(*argv));
	return 0;
}

void
ipci_exec_finish(struct ipci_exec *exec)
{
	free(exec->path);
	free(exec->script);
	*exec = (struct ipci_exec){.argv = NULL};
}

static int
execute(const struct ipci_exec *exec, const char *path, char *const *envp)
{
	static char shell[] = SHELL;
	int r = ipci_sys_exec(path, exec->argv, envp);

	if (r != -ENOEXEC)
		return r;
	exec->script[0] = shell;
	exec->script[1] = (char *)path;
	return ipci_sys_exec(SHELL, exec->script, envp);
}

/* Is the program perhaps elsewhere? */
static bool
is_missing(int r)
{
	switch (r) {
	case -EACCES:
	case -ENAMETOOLONG:
	case -ENODEV:
	case -ENOENT:
	case -ENOTDIR:
	case -ESTALE:
	case -ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

/* An entry of the search and the program's name; an empty entry is the working directory. Return:
   the entry after it, or NULL. */
static const char *
next_path(const struct ipci_exec *exec, const char *entry)
{
	const char *end = strchrnul(entry, ':');
	char *path = exec->path;

	memcpy(path, entry, (size_t)(end - entry));
	path += end - entry;
	if (end > entry)
		*path++ = '/';
	memcpy(path, exec->argv[0], strlen(exec->argv[0]) + 1);
	return *end ? end + 1 : NULL;
}

int
ipci_exec(const struct ipci_exec *exec, char *const *envp)
{
	const char *entry = exec->search;
	bool may_not = false;
	int r;

	if (!*exec->argv[0])
		return -ENOENT;
	if (strchr(exec->argv[0], '/'))
		return execute(exec, exec->argv[0], envp);
	do {
		entry = next_path(exec, entry);
		r = execute(exec, exec->path, envp);
		if (r == -EACCES)
			may_not = true;
	} while (entry && is_missing(r));
	/* That one was found says more than that another was not. */
	return may_not && is_missing(r) ? -EACCES : r;
}
