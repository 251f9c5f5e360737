/* SPDX-License-Identifier: MIT */

/*
 * The heap against the plain way: look at all of them for the smallest.
 */

#include <stdlib.h>

#include "heap.h"
#include "support.h"

#define NODES  300
#define ROUNDS 50000

static struct ipci_heap_node nodes[NODES];

static int64_t
smallest(void)
{
	int64_t key = INT64_MAX;

	for (unsigned int i = 0; i < NODES; i++)
		if (nodes[i].index != IPCI_HEAP_NOWHERE && nodes[i].key < key)
			key = nodes[i].key;
	return key;
}

static void
the_smallest_key_is_first_whatever_comes_and_goes(void **state)
{
	struct ipci_heap heap = {0};

	(void)state;
	for (unsigned int i = 0; i < NODES; i++)
		nodes[i].index = IPCI_HEAP_NOWHERE;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct ipci_heap_node *node = &nodes[test_random_below(NODES)];
		int64_t key = (int64_t)test_random_below(1000);

		if (node->index == IPCI_HEAP_NOWHERE) {
			node->key = key;
			check_equal(ipci_heap_insert(&heap, node), 0);
		} else if (test_random_below(2)) {
			node->key = key;
			ipci_heap_update(&heap, node);
		} else {
			ipci_heap_remove(&heap, node);
			check(node->index == IPCI_HEAP_NOWHERE);
		}
		check(ipci_heap_first_key(&heap) == smallest());
	}
	ipci_heap_finish(&heap);
	check(!heap.nodes && !heap.n);
}

static void
an_empty_heap_has_the_last_key_there_is(void **state)
{
	struct ipci_heap heap = {0};

	(void)state;
	check(ipci_heap_first_key(&heap) == INT64_MAX);
	ipci_heap_finish(&heap);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		channel_test(the_smallest_key_is_first_whatever_comes_and_goes),
		channel_test(an_empty_heap_has_the_last_key_there_is),
	};

	return run_group(tests);
}
