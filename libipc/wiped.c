/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base.h"
#include "sys.h"
#include "wiped.h"

struct region {
	LIST_ENTRY(region) link;
	void *memory;
	size_t size;
};

/* Those that the kernel does not wipe. */
static LIST_HEAD(, region) regions = LIST_HEAD_INITIALIZER(regions);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_size_t n_regions;

static void
before_fork(void)
{
	(void)pthread_mutex_lock(&lock);
}

static void
after_fork(void)
{
	(void)pthread_mutex_unlock(&lock);
}

static void
wipe_in_child(void)
{
	struct region *region;

	LIST_FOREACH(region, &regions, link)
	{
		if (ipci_sys_drop(region->memory, region->size) < 0)
			memset(region->memory, 0, region->size);
	}
	(void)pthread_mutex_unlock(&lock);
}

/* Under the lock. Return: 0, or -ENOMEM. */
static int
have_handlers(void)
{
	static bool have;

	if (!have)
		have = pthread_atfork(before_fork, after_fork, wipe_in_child) == 0;
	return have ? 0 : -ENOMEM;
}

static int
insert(void *memory, size_t size)
{
	struct region *region = malloc(sizeof(*region));
	int r;

	if (!region)
		return -ENOMEM;
	*region = (struct region){.memory = memory, .size = size};
	(void)pthread_mutex_lock(&lock);
	r = have_handlers();
	if (r == 0) {
		LIST_INSERT_HEAD(&regions, region, link);
		atomic_fetch_add(&n_regions, 1);
	}
	(void)pthread_mutex_unlock(&lock);
	if (r < 0)
		free(region);
	return r;
}

static void
forget(const void *memory)
{
	struct region *region;

	(void)pthread_mutex_lock(&lock);
	LIST_FOREACH(region, &regions, link)
	if (region->memory == memory)
		break;
	if (region) {
		LIST_REMOVE(region, link);
		atomic_fetch_sub(&n_regions, 1);
	}
	(void)pthread_mutex_unlock(&lock);
	free(region);
}

int
ipci_wiped_add(void *memory, size_t size)
{
	int r = ipci_sys_wipe_on_fork(memory, size);

	/* Memory may be short. Whatever else it says, it does not know how. */
	return r < 0 && r != -ENOMEM && r != -EAGAIN ? insert(memory, size) : r;
}

void
ipci_wiped_unmap(void *memory, size_t size)
{
	if (ipci_unlikely(memory && atomic_load_explicit(&n_regions, memory_order_relaxed)))
		forget(memory);
	ipci_sys_unmap(memory, size);
}
