/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_PEER_H
#define IPC_BENCH_PEER_H

/*
 * What else people use between two processes, behind one interface. A peer is a module of its own,
 * opened when it is measured: two of them may have symbols of the same name, and none of their
 * libraries is to be loaded by whoever measures something else. It exports bench_peers.
 *
 * Each is used as its own documentation recommends; a comment names that. A sender has its message
 * in memory of its own, as libipc's has, and every receiver reads the message.
 */

#include "../bench.h"

enum bench_direction {
	BENCH_IN,
	BENCH_OUT,
	BENCH_DIRECTIONS,
};

/* So that a socket's path in it is not too long for the kernel. */
#define BENCH_DIRECTORY_SIZE 64U
#define BENCH_PATH_SIZE      (BENCH_DIRECTORY_SIZE + 32)

/* What both processes have inherited. */
struct bench_meeting {
	char directory[BENCH_DIRECTORY_SIZE]; /* this run's alone; what is left there is removed */
	char address[64];                     /* the peer's to fill in */
	int fds[BENCH_ROLES][BENCH_DIRECTIONS]; /* or -1; one descriptor may be both; closed */
};

#define BENCH_WAITS_SPINNING (1U << BENCH_SPIN)
#define BENCH_WAITS_SLEEPING (1U << BENCH_SLEEP)

/* Functions that a peer has no use for are NULL. */
struct bench_peer {
	const char *name;
	const char *about;  /* what of it is measured, in a line */
	unsigned int waits; /* BENCH_WAITS_..., those that its user can choose */
	bool only_answers;  /* no message without an answer */

	/* Return: why it cannot take messages of the run's size, or NULL. */
	const char *(*refuses)(const struct bench_config *config);

	/* In the program, before and after the processes: what they are to inherit.
	   Return: 0, or -errno. */
	int (*prepare)(struct bench_meeting *meeting, const struct bench_config *config);
	void (*clean)(struct bench_meeting *meeting);

	/*
	 * One end, in its process; the receiver's is opened first. Any failure is the side's, by
	 * bench_side_fail(). What is sent has the run's size, and is never changed; what is
	 * received lasts until the next receive or call. A call is a send and a receive, unless
	 * there is something that does both.
	 */
	void *(*open)(struct bench_side *side, const struct bench_meeting *meeting);
	void (*send)(void *end, const void *data);
	const void *(*receive)(void *end);
	const void *(*call)(void *end, const void *data);
	void (*flush)(void *end);

	/* Or both sides whole, for what measures itself. */
	void (*measure)(struct bench_side *side, const struct bench_meeting *meeting);
};

/* Of a module; one without a name ends them. */
extern const struct bench_peer bench_peers[];

/* What a queue may hold where its length is the user's to choose: as much as its default is, and
   no more memory than stays in a cache. */
#define BENCH_QUEUE_BYTES ((size_t)4 << 20)

static inline unsigned int
bench_queue_length(const struct bench_config *config, unsigned int usual)
{
	size_t fitting = BENCH_QUEUE_BYTES / config->size;

	if (fitting < 2)
		return 2;
	return fitting < usual ? (unsigned int)fitting : usual;
}

/* A library's version as text, from the numbers in its header. */
#define BENCH_TEXT_OF(a, b, c) #a "." #b "." #c
#define BENCH_VERSION(a, b, c) BENCH_TEXT_OF(a, b, c)

#endif
