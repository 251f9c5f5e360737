/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_REQUESTS_H
#define LIBIPC_INTERNAL_REQUESTS_H

/*
 * The requests of a pool, found by their names.
 *
 * Knows where a request lies, and which name it has. Refuses to know what becomes of it.
 *
 * A name cannot be guessed: a worker that answers one has read the request.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <libipc/pool.h>

#include "heap.h"

struct ipci_duplicate;
struct ipci_place;

enum ipci_request_state {
	IPCI_REQUEST_FREE,
	IPCI_REQUEST_QUEUED,
	IPCI_REQUEST_OUTSTANDING,
	IPCI_REQUEST_OWED,   /* has ended, and its worker owes the answer */
	IPCI_REQUEST_ENDING, /* its function is about to be called with -EOWNERDEAD */
};

struct ipci_request {
	TAILQ_ENTRY(ipci_request) entry; /* of one list, by its state */
	uint64_t name;                   /* its id on the wire, and for whom cancels it; never 0 */
	struct ipci_place *place;        /* while it is outstanding or owed */
	enum ipci_request_state state;
	uint16_t attempts; /* that are left */
	bool is_tried;     /* before, by a worker that died */
	bool is_late;      /* owed since its time was over */
	bool has_parts;    /* of its answer, given out */
	ipc_reply_fn *reply;
	void *user;
	uint64_t caller_id;
	int64_t begin_ns;                 /* 0: not timed */
	struct ipci_heap_node deadline;   /* by its time, or nowhere */
	struct ipci_duplicate *duplicate; /* what is kept of it, or NULL */
};

TAILQ_HEAD(ipci_request_list, ipci_request);

/* Bits of a name that say where the request lies. Those above are random; the highest is that of
   ids which ipc_channel_call() chooses. */
#define IPCI_REQUEST_INDEX_BITS 24U
#define IPCI_REQUESTS_LIMIT     (UINT64_C(1) << IPCI_REQUEST_INDEX_BITS)

/* Random bytes of a name, and how many names' are fetched at once. */
#define IPCI_REQUEST_NAME_SIZE 5U
#define IPCI_REQUEST_NAMES     256U

/* Fills the buffer with bytes that nobody can guess. */
typedef void ipci_random_fn(void *world, void *ret_buffer, size_t size);

struct ipci_requests {
	struct ipci_request *
		*chunks; /* never freed before the end: what there is at once is limited */
	size_t n_chunks;
	size_t capacity;
	struct ipci_request_list free;
	ipci_random_fn *random;
	void *world;
	/* For names to come: what has not been used lies at the end. */
	unsigned char unused[IPCI_REQUEST_NAMES * IPCI_REQUEST_NAME_SIZE];
	size_t n_unused; /* bytes */
};

void ipci_requests_init(struct ipci_requests *requests, ipci_random_fn *random, void *world);

/* Frees the table alone. */
void ipci_requests_finish(struct ipci_requests *requests);

/*
 * A free request with a new name, in no heap: it has no place and nothing that is kept, and is not
 * marked. What admits it sets the rest. Return: NULL without memory.
 */
struct ipci_request *ipci_requests_take(struct ipci_requests *requests);

/* It is free again, and its name nobody's. */
void ipci_requests_give_back(struct ipci_requests *requests, struct ipci_request *request);

/* Forget the bytes for names to come: a process that is about to be forked has a copy of memory. */
void ipci_requests_forget_names(struct ipci_requests *requests);

/* Return: the request that has this name now, or NULL. */
struct ipci_request *ipci_requests_find(const struct ipci_requests *requests, uint64_t name);

/* One after the other: those that are free, too. Return: NULL beyond the last. */
struct ipci_request *ipci_requests_at(const struct ipci_requests *requests, size_t index);

#endif
