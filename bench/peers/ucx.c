/* SPDX-License-Identifier: MIT */

/*
 * UCX over shared memory, by its own measure: ucx_perftest as its README shows it, a server and a
 * client on the CPUs of the two sides, with UCX_TLS=sm (its FAQ). It measures itself, always spins,
 * and does not read what it receives; what it prints are iterations, a median and a mean in
 * microseconds, and it halves its round trips, which here is undone.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"
#include "../../libipc/histogram.h"

/* The program has no time limit, but a number of messages: no more than the time allows, and few
   enough to end on a machine that others use, too. */
#define TRIP_NS        1000U
#define MESSAGE_NS     500U
#define BYTES_PER_NS   8U
#define ITERATIONS_MIN 100U

/* The client finds no server until that has begun to listen. */
#define ATTEMPTS_MAX 100U
#define ATTEMPT_US   20000U

/* A port that is free now. */
static int
prepare(struct bench_meeting *meeting, const struct bench_config *config)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;

	(void)config;
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, length) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		r = -errno;
	close(fd);
	snprintf(meeting->address, sizeof(meeting->address), "%u", ntohs(address.sin_port));
	return r;
}

static uint64_t
iterations_of(const struct bench_config *config)
{
	bool is_trip = config->bench->shape == BENCH_LATENCY;
	uint64_t each_ns = (is_trip ? TRIP_NS : MESSAGE_NS) + config->size / BYTES_PER_NS;
	uint64_t iterations = config->time_ns / each_ns;

	return iterations < ITERATIONS_MIN ? ITERATIONS_MIN : iterations;
}

__attribute__((noreturn)) static void
be_program(const struct bench_side *side, const char *port, int output)
{
	const struct bench_config *config = side->config;
	const char *test = config->bench->shape == BENCH_LATENCY ? "tag_lat" : "tag_bw";
	char count[24], warm[24], size[24];
	uint64_t iterations = iterations_of(config);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv("UCX_TLS", "sm", 1);
	snprintf(count, sizeof(count), "%llu", (unsigned long long)iterations);
	snprintf(warm, sizeof(warm), "%llu", (unsigned long long)iterations / 5);
	snprintf(size, sizeof(size), "%zu", config->size);
	dup2(output, STDOUT_FILENO);
	dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
	if (side->role == BENCH_RECEIVER)
		execlp("ucx_perftest", "ucx_perftest", "-p", port, (char *)NULL);
	else
		execlp("ucx_perftest", "ucx_perftest", "127.0.0.1", "-p", port, "-t", test, "-s",
			size, "-n", count, "-w", warm, "-f", "-v", (char *)NULL);
	_exit(127);
}

/* Run it, and keep the last line that it prints. Return: its exit status. */
static int
run_program(struct bench_side *side, const char *port, char *ret_line, int size)
{
	int output[2], status;
	FILE *said;
	pid_t pid;

	if (pipe2(output, O_CLOEXEC) < 0)
		bench_side_fail(side, "pipe2", -errno);
	pid = fork();
	if (pid < 0)
		bench_side_fail(side, "fork", -errno);
	if (pid == 0)
		be_program(side, port, output[1]);
	close(output[1]);
	said = fdopen(output[0], "r");
	while (said && fgets(ret_line, size, said))
		;
	if (said)
		fclose(said);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			bench_side_fail(side, "waitpid", -errno);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* The window is as long as it says; both spin for all of it. */
static void
note(struct bench_side *side, const char *line)
{
	bool is_trip = side->config->bench->shape == BENCH_LATENCY;
	struct bench_window *window = side->window;
	unsigned long long iterations;
	double median_us, mean_us;

	if (sscanf(line, "%llu,%lf,%lf", &iterations, &median_us, &mean_us) != 3)
		bench_side_fail(side, "what ucx_perftest said", -EBADMSG);
	if (is_trip) {
		median_us *= 2;
		mean_us *= 2;
		/* Enough of them for a median, and too few for anything beyond it. */
		for (unsigned int i = 0; i < 2 * IPCI_HISTOGRAM_BEYOND_MIN; i++)
			ipci_histogram_add(side->histogram, (uint64_t)(median_us * 1e3));
	}
	window->end_count = iterations;
	window->end_ns = (uint64_t)((double)iterations * mean_us * 1e3);
	for (int role = 0; role < BENCH_ROLES; role++)
		window->end_cpu_ns[role] = window->end_ns;
}

static void
measure(struct bench_side *side, const struct bench_meeting *meeting)
{
	const struct bench_config *config = side->config;
	size_t words = (config->size + BENCH_PAGE_SIZE - 1) / BENCH_PAGE_SIZE;
	char line[256] = "";
	int status = run_program(side, meeting->address, line, sizeof(line));

	for (unsigned int i = 1;
		status && status != 127 && side->role == BENCH_SENDER && i < ATTEMPTS_MAX; i++) {
		usleep(ATTEMPT_US);
		status = run_program(side, meeting->address, line, sizeof(line));
	}
	if (status)
		bench_side_fail(side, "ucx_perftest", status == 127 ? -ENOENT : -EIO);
	if (side->role == BENCH_SENDER)
		note(side, line);
	/* Both sides count alike, as nothing can be told of what they have read. */
	side->account->messages = iterations_of(config);
	side->account->sum = side->account->messages * words * BENCH_WORD;
}

const struct bench_peer bench_peers[] = {
	{
		.name = "ucx",
		.about = "UCX in shared memory, by its own ucx_perftest (tag_lat, tag_bw), which "
			 "does not read what it receives; always spins",
		.waits = BENCH_WAITS_SPINNING,
		.prepare = prepare,
		.measure = measure,
	},
	{0},
};
