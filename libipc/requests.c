/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "requests.h"

#define CHUNK 256U

#define INDEX_MASK (IPCI_REQUESTS_LIMIT - 1)
#define USES_MASK  ((UINT64_C(1) << (63U - IPCI_REQUEST_INDEX_BITS)) - 1)

void
ipci_requests_init(struct ipci_requests *requests)
{
	*requests = (struct ipci_requests){0};
	TAILQ_INIT(&requests->free);
}

void
ipci_requests_finish(struct ipci_requests *requests)
{
	size_t i;

	for (i = 0; i < requests->n_chunks; i++)
		free(requests->chunks[i]);
	free(requests->chunks);
	ipci_requests_init(requests);
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
		chunk[i].name = IPCI_REQUESTS_LIMIT | (first + i);
		TAILQ_INSERT_TAIL(&requests->free, &chunk[i], entry);
	}
	requests->chunks[requests->n_chunks++] = chunk;
	return true;
}

struct ipci_request *
ipci_requests_take(struct ipci_requests *requests)
{
	struct ipci_request *request;

	if (TAILQ_EMPTY(&requests->free) && !grow(requests))
		return NULL;
	request = TAILQ_FIRST(&requests->free);
	TAILQ_REMOVE(&requests->free, request, entry);
	/* One by one: to zero the whole struct takes longer. */
	request->place = NULL;
	request->is_tried = request->is_late = request->has_parts = false;
	request->deadline.index = IPCI_HEAP_NOWHERE;
	return request;
}

void
ipci_requests_give_back(struct ipci_requests *requests, struct ipci_request *request)
{
	uint64_t uses = ((request->name >> IPCI_REQUEST_INDEX_BITS) + 1) & USES_MASK;

	request->state = IPCI_REQUEST_FREE;
	request->name = (uses ? uses : 1) << IPCI_REQUEST_INDEX_BITS | (request->name & INDEX_MASK);
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
