/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_BOOST_QUEUE_H
#define IPC_BENCH_BOOST_QUEUE_H

/* The one thing here that takes C++, for C: exceptions end at it. */

#include <stddef.h>
#include <boost/version.hpp>

#define BENCH_BOOST_VERSION BOOST_LIB_VERSION

#ifdef __cplusplus
extern "C" {
#endif

struct bench_boost_queue;

/* A queue whose name is free again at once. Return: NULL if there can be none. */
struct bench_boost_queue *bench_boost_queue_new(const char *name, size_t length, size_t size);
struct bench_boost_queue *bench_boost_queue_free(struct bench_boost_queue *queue);

/* Return: whether it was done, after what wait it took. */
int bench_boost_queue_send(
	struct bench_boost_queue *queue, const void *data, size_t size, int spins);
int bench_boost_queue_receive(
	struct bench_boost_queue *queue, void *buffer, size_t size, int spins);

#ifdef __cplusplus
}
#endif

#endif
