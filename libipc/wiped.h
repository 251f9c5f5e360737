/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_WIPED_H
#define LIBIPC_INTERNAL_WIPED_H

/*
 * Memory that a child of fork(3) finds zero: what was gathered in it is the parent's to send.
 *
 * The kernel sees to it (MADV_WIPEONFORK, Linux 4.14). Where something else plays the kernel and
 * does not know of it, gVisor for example, a handler of pthread_atfork(3) does; there a child made
 * by clone(2) or vfork(2), which calls no handlers, must not use the memory.
 */

#include <stddef.h>

/* Let memory that ipci_sys_map() gave be wiped. Return: 0, or -ENOMEM. */
int ipci_wiped_add(void *memory, size_t size);

/* Unmap it, added or not. NULL is fine. */
void ipci_wiped_unmap(void *memory, size_t size);

#endif
