/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_EXEC_H
#define LIBIPC_INTERNAL_EXEC_H

/*
 * Executing a program as execvpe(3) does, with all memory for it made before: execvpe() has a path
 * and a copy of argv on its stack, for which a small one has no room.
 */

struct ipci_exec {
	char *const *argv;
	const char *search; /* PATH */
	char *path;         /* room for a place where the program may be */
	char **script;      /* argv of the shell that runs it if it is a script without #! */
};

/* Return: 0, or -ENOMEM. */
int ipci_exec_init(struct ipci_exec *exec, char *const *argv);
void ipci_exec_finish(struct ipci_exec *exec);

/* Makes system calls alone. Return: why it did not. */
int ipci_exec(const struct ipci_exec *exec, char *const *envp);

#endif
