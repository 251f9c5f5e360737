/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "roudi.h"

/* A subscriber's queue has room for 256 chunks at most. */
#define QUEUE 256U
/* Chunks that are neither queued nor free: lent, being read, and those of client and server. */
#define BESIDE 64U
/* What a request has before its payload, and more. */
#define HEADERS 256U

const char *const bench_roudi_names[BENCH_ROLES] = {"ipc-bench-send", "ipc-bench-recv"};

static pid_t daemon_pid;
static bool is_mine; /* the memory */
static FILE *said;   /* it would die of a pipe that nobody reads */

unsigned int
bench_roudi_queue(const struct bench_config *config)
{
	return bench_queue_length(config, QUEUE);
}

static int
write_config(const char *path, const struct bench_config *config)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return -errno;
	fprintf(file,
		"[general]\nversion = 1\n[[segment]]\n[[segment.mempool]]\nsize = %zu\ncount = "
		"%u\n",
		(config->size + HEADERS + 127) / 128 * 128, bench_roudi_queue(config) + BESIDE);
	return fclose(file) == 0 ? 0 : -errno;
}

__attribute__((noreturn)) static void
be_daemon(const char *config_path, int output)
{
	sigset_t none;

	/* The program that starts it holds signals back; without that one it has no use. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	execlp("iox-roudi", "iox-roudi", "-m", "off", "-c", config_path, (char *)NULL);
	_exit(127);
}

static bool
is_ready(void)
{
	char line[256];

	while (fgets(line, sizeof(line), said))
		if (strstr(line, "RouDi is ready"))
			return true;
	return false;
}

int
bench_roudi_start(struct bench_meeting *meeting, const struct bench_config *config)
{
	char path[BENCH_PATH_SIZE];
	int output[2], r;

	snprintf(path, sizeof(path), "%s/roudi.toml", meeting->directory);
	r = write_config(path, config);
	if (r < 0)
		return r;
	if (pipe2(output, O_CLOEXEC) < 0)
		return -errno;
	said = fdopen(output[0], "r");
	daemon_pid = fork();
	if (daemon_pid == 0)
		be_daemon(path, output[1]);
	close(output[1]);
	if (daemon_pid < 0 || !said)
		return -errno;
	is_mine = is_ready();
	return is_mine ? 0 : -EBUSY;
}

/* Its two segments, of which the second has the name of its group, and the sides' sockets. */
static void
remove_rest(void)
{
	const struct group *group = getgrgid(getgid());
	char name[64];

	shm_unlink("/iceoryx_mgmt");
	if (group && (size_t)snprintf(name, sizeof(name), "/%s", group->gr_name) < sizeof(name))
		shm_unlink(name);
	for (int role = 0; role < BENCH_ROLES; role++) {
		snprintf(name, sizeof(name), "/tmp/%s", bench_roudi_names[role]);
		unlink(name);
		snprintf(name, sizeof(name), "/tmp/%s.lock", bench_roudi_names[role]);
		unlink(name);
	}
}

/* Told to end it would look for the processes that it knew, and abort as they are gone, with all
   of its memory left. So that is removed here, while there can be none of anybody else's. */
void
bench_roudi_stop(struct bench_meeting *meeting)
{
	(void)meeting;
	if (daemon_pid > 0) {
		if (is_mine)
			remove_rest();
		kill(daemon_pid, SIGKILL);
		while (waitpid(daemon_pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	daemon_pid = 0;
	is_mine = false;
	if (said)
		fclose(said);
	said = NULL;
}
