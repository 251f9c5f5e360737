/* SPDX-License-Identifier: MIT */

/*
 * The buffers that multishot receives fill, all ports' from one ring: which of them the kernel has.
 */

#include <errno.h>
#include <stdlib.h>

#include "sys.h"
#include "uring.h"

/* Buffers that the kernel has at least, and submits after which it need have no more than that. */
#define FREE_MIN     8U
#define CALM_SUBMITS 1024U

uint8_t *
ipci_uring_buffer_memory(const struct ipci_engine *engine, size_t index)
{
	return engine->memory + index * IPCI_URING_BUFFER_SIZE;
}

void
ipci_uring_buffer_back(struct ipci_engine *engine, unsigned int index)
{
	engine->buffers[index].is_lent = false;
	engine->spare[engine->n_spare++] = (unsigned short)index;
}

static void
release_buffer(struct ipci_arrived *arrived)
{
	struct ipci_uring_buffer *buffer = (struct ipci_uring_buffer *)arrived;

	ipci_uring_buffer_back(buffer->engine, (unsigned int)(buffer - buffer->engine->buffers));
}

void
ipci_uring_buffers_give(struct ipci_engine *engine)
{
	unsigned int least = IPCI_MAX(engine->loop->packets.n_ports, FREE_MIN), n = 0, index;

	if (++engine->n_calm > CALM_SUBMITS)
		engine->n_wanted = 0;
	least = IPCI_MAX(least, engine->n_wanted);
	for (; engine->n_free < least && engine->n_spare; engine->n_free++) {
		index = engine->spare[--engine->n_spare];
		io_uring_buf_ring_add(engine->returns, ipci_uring_buffer_memory(engine, index),
			IPCI_URING_BUFFER_SIZE, (unsigned short)index,
			io_uring_buf_ring_mask(engine->n_buffers), (int)n++);
	}
	if (n)
		io_uring_buf_ring_advance(engine->returns, (int)n);
}

bool
ipci_uring_buffers_want_more(struct ipci_engine *engine)
{
	unsigned int was =
		IPCI_MAX(engine->n_wanted, IPCI_MAX(engine->loop->packets.n_ports, FREE_MIN));

	/* Several ports found none in one go. */
	if (!engine->n_calm)
		return true;
	engine->n_wanted = IPCI_MIN(2 * was, engine->n_buffers);
	engine->n_calm = 0;
	return was < engine->n_buffers;
}

int
ipci_uring_buffers_register(struct ipci_engine *engine)
{
	struct io_uring_buf_reg registration = {
		.ring_addr = (uintptr_t)engine->returns,
		.ring_entries = engine->n_buffers,
		.bgid = IPCI_URING_BUFFER_GROUP,
	};
	unsigned int i;
	int r;

	r = io_uring_register_buf_ring(&engine->ring, &registration, 0);
	if (r < 0)
		return r;
	io_uring_buf_ring_init(engine->returns);
	/* The first is used first. */
	engine->n_free = 0;
	engine->n_spare = 0;
	for (i = engine->n_buffers; i-- > 0;)
		if (!engine->buffers[i].is_lent)
			ipci_uring_buffer_back(engine, i);
	return 0;
}

int
ipci_uring_buffers_map(struct ipci_engine *engine)
{
	size_t size = (size_t)engine->n_buffers * IPCI_URING_BUFFER_SIZE;
	unsigned int i;

	engine->memory_size = size + engine->n_buffers * sizeof(struct io_uring_buf);
	engine->memory = ipci_sys_map(engine->memory_size);
	engine->buffers = calloc(engine->n_buffers, sizeof(*engine->buffers));
	engine->spare = calloc(engine->n_buffers, sizeof(*engine->spare));
	if (!engine->memory || !engine->buffers || !engine->spare)
		return -ENOMEM;
	for (i = 0; i < engine->n_buffers; i++) {
		engine->buffers[i].engine = engine;
		engine->buffers[i].arrived.release = release_buffer;
	}
	/* Page-aligned, as the kernel wants it: a buffer's size is a multiple of a page's. */
	engine->returns = (struct io_uring_buf_ring *)(void *)(engine->memory + size);
	/* The kernel has pinned the ring's pages: were they copied for a child, it would go on with
	   those that this process no longer has. The buffers it finds by their addresses; a child
	   that a callback forks reads on in its copies. */
	return ipci_sys_keep_from_fork(
		engine->returns, engine->n_buffers * sizeof(struct io_uring_buf));
}

void
ipci_uring_buffers_unmap(struct ipci_engine *engine, bool ours)
{
	size_t size = (size_t)engine->n_buffers * IPCI_URING_BUFFER_SIZE;

	/* Behind the buffers a child may have mapped something else by now. */
	ipci_sys_unmap(engine->memory, ours ? engine->memory_size : size);
	free(engine->buffers);
	free(engine->spare);
}
