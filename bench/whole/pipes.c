/* SPDX-License-Identifier: MIT */

/*
 * The work of whole.h by fork(2) and pipes, which need no messages here, as all have one size: a
 * read and a write for each request; with --batch one for all that are there.
 */

#include <inttypes.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "whole.h"

struct worker {
	int in, out;
};

static unsigned int batch = 1; /* requests that one call takes */

static void
fail(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

/* Messages are shorter than PIPE_BUF all together, and each is written at once: what is read is
   whole messages, too. Return: how many; 0 at the end. */
static size_t
read_some(int fd, void *messages, size_t size)
{
	ssize_t n = read(fd, messages, size * batch);

	if (n < 0 || (size_t)n % size)
		fail("read");
	return (size_t)n / size;
}

static void
write_all(int fd, const void *messages, size_t size)
{
	if (write(fd, messages, size) != (ssize_t)size)
		fail("write");
}

static void
answer(int in, int out)
{
	uint8_t requests[WHOLE_DEPTH][WHOLE_SIZE];
	uint64_t answers[WHOLE_DEPTH];
	size_t n;

	while ((n = read_some(in, requests, WHOLE_SIZE)) > 0) {
		for (size_t i = 0; i < n; i++)
			answers[i] = whole_answer(requests[i]);
		write_all(out, answers, n * sizeof(*answers));
	}
	_exit(EXIT_SUCCESS);
}

/* The ends of those before are closed: each worker ends with its own pipe. */
static void
start(struct worker workers[], unsigned int i)
{
	int there[2], back[2];

	if (pipe(there) < 0 || pipe(back) < 0)
		fail("pipe");
	switch (fork()) {
	case -1:
		fail("fork");
		break;
	case 0:
		for (unsigned int n = 0; n < i; n++) {
			close(workers[n].in);
			close(workers[n].out);
		}
		close(there[1]);
		close(back[0]);
		answer(there[0], back[1]);
	}
	close(there[0]);
	close(back[1]);
	workers[i] = (struct worker){.in = back[0], .out = there[1]};
}

/* Ask n times, if so much is left to be asked. Return: how many times it was. */
static uint64_t
ask(const struct worker *worker, uint64_t asked, uint64_t left, size_t n)
{
	uint8_t requests[WHOLE_DEPTH][WHOLE_SIZE];

	if (n > left)
		n = (size_t)left;
	for (size_t i = 0; i < n; i++) {
		whole_request(requests[i], asked + i);
		if (batch == 1)
			write_all(worker->out, requests[i], WHOLE_SIZE);
	}
	if (batch > 1 && n)
		write_all(worker->out, requests, n * WHOLE_SIZE);
	return n;
}

static uint64_t
work(const struct whole *whole, const struct worker workers[])
{
	struct pollfd polled[WHOLE_WORKERS_LIMIT];
	uint64_t asked = 0, answered = 0, sum = 0, answers[WHOLE_DEPTH];

	for (unsigned int i = 0; i < whole->workers; i++) {
		polled[i] = (struct pollfd){.fd = workers[i].in, .events = POLLIN};
		asked += ask(&workers[i], asked, whole->requests - asked, WHOLE_DEPTH);
	}
	while (answered < whole->requests) {
		if (poll(polled, whole->workers, -1) < 0)
			fail("poll");
		for (unsigned int i = 0; i < whole->workers; i++) {
			size_t n;

			if (!polled[i].revents)
				continue;
			n = read_some(workers[i].in, answers, sizeof(*answers));
			if (n == 0)
				fail("a worker");
			for (size_t k = 0; k < n; k++)
				sum += answers[k];
			answered += n;
			asked += ask(&workers[i], asked, whole->requests - asked, n);
		}
	}
	return sum;
}

int
main(int argc, char *argv[])
{
	struct worker workers[WHOLE_WORKERS_LIMIT];
	struct whole whole = whole_parse(argc, argv, "--batch");

	if (whole.has_flag)
		batch = WHOLE_DEPTH;
	for (unsigned int i = 0; i < whole.workers; i++)
		start(workers, i);
	printf("%" PRIu64 "\n", work(&whole, workers));
	for (unsigned int i = 0; i < whole.workers; i++)
		close(workers[i].out);
	while (wait(NULL) > 0)
		;
	return EXIT_SUCCESS;
}
