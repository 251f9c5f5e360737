/* SPDX-License-Identifier: MIT */

#include <exception>

#include <boost/interprocess/ipc/message_queue.hpp>

#include "boost_queue.h"

namespace ipc = boost::interprocess;

struct bench_boost_queue {
	bench_boost_queue(const char *name, size_t length, size_t size)
	    : queue(ipc::create_only, name, length, size, ipc::permissions(0600))
	{
	}

	ipc::message_queue queue;
};

struct bench_boost_queue *
bench_boost_queue_new(const char *name, size_t length, size_t size)
{
	bench_boost_queue *queue = nullptr;

	try {
		queue = new bench_boost_queue(name, length, size);
	} catch (const std::exception &) {
	}
	ipc::message_queue::remove(name);
	return queue;
}

struct bench_boost_queue *
bench_boost_queue_free(struct bench_boost_queue *queue)
{
	delete queue;
	return nullptr;
}

int
bench_boost_queue_send(struct bench_boost_queue *queue, const void *data, size_t size, int spins)
{
	try {
		if (!spins)
			queue->queue.send(data, size, 0);
		while (spins && !queue->queue.try_send(data, size, 0))
			;
	} catch (const std::exception &) {
		return 0;
	}
	return 1;
}

int
bench_boost_queue_receive(struct bench_boost_queue *queue, void *buffer, size_t size, int spins)
{
	ipc::message_queue::size_type received;
	unsigned int priority;

	try {
		if (!spins)
			queue->queue.receive(buffer, size, received, priority);
		while (spins && !queue->queue.try_receive(buffer, size, received, priority))
			;
	} catch (const std::exception &) {
		return 0;
	}
	return received == size;
}
