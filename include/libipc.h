/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_H
#define LIBIPC_H

/* All of libipc. Each header can be included alone. */

#include <libipc/channel.h>
#include <libipc/loop.h>
#include <libipc/worker.h>
#include <libipc/pool.h>

#endif
