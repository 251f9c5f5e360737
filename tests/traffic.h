/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_TESTS_TRAFFIC_H
#define LIBIPC_TESTS_TRAFFIC_H

/*
 * Mixed traffic for soaks: messages of all sizes, some with descriptors, some in rows that are
 * alike, that follow from a key, so that whoever knows the key knows the message.
 */

#include <libipc/channel.h>

/* Descriptors of one message, at most; payload bytes, at most. */
#define TRAFFIC_FDS_MAX  4
#define TRAFFIC_SIZE_MAX 400000U

/* The files that messages carry; before other processes are forked. */
void traffic_open(void);
void traffic_close(void);

/* The message of a key; the payload lies in static memory, until the next one. */
struct ipc_message traffic_message(uint64_t key);

/* Check that this is the message of the key. */
void traffic_verify(const struct ipc_message *message, uint64_t key);

#endif
