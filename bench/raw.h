/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_RAW_H
#define IPC_BENCH_RAW_H

/*
 * The kernel by hand, for the raw variants: one system call a packet and no more
 * than its user would write. Counts what it calls; fails the side on any error.
 */

#include <stdbool.h>
#include <stddef.h>

#include "bench.h"

void bench_raw_send(struct bench_side *side, const void *data, size_t size);

/* Return: the packet's size; 0 at the end. */
size_t bench_raw_recv(struct bench_side *side, void *buffer, size_t size);

/* Receive and send back, until the end. */
void bench_raw_echo(struct bench_side *side);

/* The same over any of the side's sockets, without waiting. Return: whether the socket took it;
   the packet's size, or 0 where there is none. An end is a failure. */
bool bench_raw_try_send(struct bench_side *side, int fd, const void *data, size_t size);
size_t bench_raw_try_recv(struct bench_side *side, int fd, void *buffer, size_t size);

/* The same with one descriptor beside the packet; a received one is the caller's to close. */
void bench_raw_send_fd(struct bench_side *side, const void *data, size_t size, int fd);
size_t bench_raw_recv_fd(struct bench_side *side, void *buffer, size_t size, int *ret_fd);

/* Tell all receivers that this was all. */
void bench_raw_finish(struct bench_side *side);

/*
 * The largest packet of a socket with this SO_SNDBUF (0: the system's).
 *
 * Return: 0, or -errno.
 */
int bench_raw_packet_max(size_t send_buffer, size_t *ret_size);

#endif
