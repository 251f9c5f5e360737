/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdlib.h>

#include "heap.h"

#define CAPACITY_MIN 16

static void
place(struct ipci_heap *heap, struct ipci_heap_node *node, size_t index)
{
	heap->nodes[index] = node;
	node->index = index;
}

/* Let the node find its place from index towards the top, then towards the bottom. */
static void
sift(struct ipci_heap *heap, struct ipci_heap_node *node, size_t index)
{
	size_t parent, child;

	for (; index; index = parent) {
		parent = (index - 1) / 2;
		if (heap->nodes[parent]->key <= node->key)
			break;
		place(heap, heap->nodes[parent], index);
	}
	for (;; index = child) {
		child = 2 * index + 1;
		if (child >= heap->n)
			break;
		if (child + 1 < heap->n && heap->nodes[child + 1]->key < heap->nodes[child]->key)
			child++;
		if (heap->nodes[child]->key >= node->key)
			break;
		place(heap, heap->nodes[child], index);
	}
	place(heap, node, index);
}

int
ipci_heap_insert(struct ipci_heap *heap, struct ipci_heap_node *node)
{
	size_t capacity = heap->capacity ? 2 * heap->capacity : CAPACITY_MIN;
	struct ipci_heap_node **nodes;

	if (heap->n == heap->capacity) {
		nodes = realloc(heap->nodes, capacity * sizeof(struct ipci_heap_node *));
		if (!nodes)
			return -ENOMEM;
		heap->nodes = nodes;
		heap->capacity = capacity;
	}
	heap->n++;
	sift(heap, node, heap->n - 1);
	return 0;
}

void
ipci_heap_remove(struct ipci_heap *heap, struct ipci_heap_node *node)
{
	struct ipci_heap_node *last = heap->nodes[--heap->n];

	if (last != node)
		sift(heap, last, node->index);
	node->index = IPCI_HEAP_NOWHERE;
}

void
ipci_heap_update(struct ipci_heap *heap, struct ipci_heap_node *node)
{
	sift(heap, node, node->index);
}

void
ipci_heap_finish(struct ipci_heap *heap)
{
	free(heap->nodes);
	*heap = (struct ipci_heap){0};
}
