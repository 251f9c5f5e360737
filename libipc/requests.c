/* SPDX-License-Identifier: MIT */

#include <stdlib.h>
#include <string.h>

#include "requests.h"

#define CHUNK 256U

#define INDEX_MASK (IPCI_REQUESTS_LIMIT - 1)
#define NAME_MASK  ((UINT64_C(1) << 63U) - 1)

void
ipci_requests_init(struct ipci_requests *requests, ipci_random_fn *random, void *world)
{
	*requests = (struct ipci_requests){.random = random, .world = world};
	TAILQ_INIT(&requests->free);
}

void
ipci_requests_finish(struct ipci_requests *requests)
{
	size_t i;

	for (i = 0; i < requests->n_chunks; i++)
		free(requests->chunks[i]);
	free(requests->chunks);
	ipci_requests_init(requests, requests->random, requests->world);
}

static bool
grow(struct ipci_requests *requests)
{
	size_t first = requests->n_chunks * CHUNK, capacity = requests->capacity, i;
	struct ipci_request **chunks, *chunk;

	if (first + CHUNK > IPCI_REQUESTS_LIMIT)
		return false;
	if (requests->n_chunks == capacity) {
		capacity = capacity ? 2 * capacity : 4;
		chunks = realloc(requests->chunks, capacity * sizeof(struct ipci_request *));
		if (!chunks)
			return false;
		requests->chunks = chunks;
		requests->capacity = capacity;
	}
	chunk = calloc(CHUNK, sizeof(*chunk));
	if (!chunk)
		return false;
	for (i = 0; i < CHUNK; i++) {
		chunk[i].name = first + i;
		TAILQ_INSERT_TAIL(&requests->free, &chunk[i], entry);
	}
	requests->chunks[requests->n_chunks++] = chunk;
	return true;
}

/* A name for the request at this index: never 0, below IPC_MESSAGE_ID_CALL. */
static uint64_t
new_name(struct ipci_requests *requests, uint64_t index)
{
	uint64_t bits;

	do {
		if (!requests->n_unused) {
			requests->n_unused = sizeof(requests->unused);
			requests->random(requests->world, requests->unused, requests->n_unused);
		}
		bits = 0;
		requests->n_unused -= IPCI_REQUEST_NAME_SIZE;
		memcpy(&bits, &requests->unused[requests->n_unused], IPCI_REQUEST_NAME_SIZE);
		bits = bits << IPCI_REQUEST_INDEX_BITS & NAME_MASK;
	} while (!bits);
	return bits | index;
}

void
ipci_requests_forget_names(struct ipci_requests *requests)
{
	explicit_bzero(requests->unused, sizeof(requests->unused));
	requests->n_unused = 0;
}

struct ipci_request *
ipci_requests_take(struct ipci_requests *requests)
{
	struct ipci_request *request;

	if (TAILQ_EMPTY(&requests->free) && !grow(requests))
		return NULL;
	request = TAILQ_FIRST(&requests->free);
	TAILQ_REMOVE(&requests->free, request, entry);
	request->name = new_name(requests, request->name & INDEX_MASK);
	/* One by one: to zero the whole struct takes longer. */
	request->place = NULL;
	request->is_tried = request->is_late = request->has_parts = false;
	request->deadline.index = IPCI_HEAP_NOWHERE;
	return request;
}

void
ipci_requests_give_back(struct ipci_requests *requests, struct ipci_request *request)
{
	request->state = IPCI_REQUEST_FREE;
	/* The one that was used last is in the cache. */
	TAILQ_INSERT_HEAD(&requests->free, request, entry);
}

struct ipci_request *
ipci_requests_at(const struct ipci_requests *requests, size_t index)
{
	if (index >= requests->n_chunks * CHUNK)
		return NULL;
	return &requests->chunks[index / CHUNK][index % CHUNK];
}

struct ipci_request *
ipci_requests_find(const struct ipci_requests *requests, uint64_t name)
{
	struct ipci_request *request = ipci_requests_at(requests, name & INDEX_MASK);

	if (!request || request->name != name || request->state == IPCI_REQUEST_FREE)
		return NULL;
	return request;
}
