/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_HEAP_H
#define LIBIPC_INTERNAL_HEAP_H

/*
 * A binary heap: what has the smallest key is first. Its nodes lie in what they order.
 *
 * Knows keys. Refuses to know what they mean.
 */

#include <stddef.h>
#include <stdint.h>

/* The index of a node that is in no heap. */
#define IPCI_HEAP_NOWHERE SIZE_MAX

struct ipci_heap_node {
	int64_t key;
	size_t index;
};

/* Zero is valid and empty. */
struct ipci_heap {
	struct ipci_heap_node **nodes;
	size_t n;
	size_t capacity;
};

/* The first node's key, or INT64_MAX. */
static inline int64_t
ipci_heap_first_key(const struct ipci_heap *heap)
{
	return heap->n ? heap->nodes[0]->key : INT64_MAX;
}

/* Return: 0, or -ENOMEM: it is not in the heap. */
int ipci_heap_insert(struct ipci_heap *heap, struct ipci_heap_node *node);

void ipci_heap_remove(struct ipci_heap *heap, struct ipci_heap_node *node);

/* The node, which is in the heap, has another key. */
void ipci_heap_update(struct ipci_heap *heap, struct ipci_heap_node *node);

/* Free the heap's own memory; it is empty then. */
void ipci_heap_finish(struct ipci_heap *heap);

#endif
