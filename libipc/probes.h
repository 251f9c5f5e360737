/* SPDX-License-Identifier: MIT */
#ifndef LIBIPC_INTERNAL_PROBES_H
#define LIBIPC_INTERNAL_PROBES_H

/*
 * Where a tracer may look: static probes of the provider libipc, a nop each until somebody does.
 *
 * libipc(7) is their list, for users; a test compares. Sites of one name have arguments of the same
 * types: tracers see one event. Nothing where <sys/sdt.h> was not there.
 */

#ifdef IPCI_HAS_PROBES
#include <sys/sdt.h>
#ifdef __clang__
/* A GNU extension in the macros of sdt.h, which clang finds where they are used. */
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif
#define IPCI_PROBE1(name, a)    DTRACE_PROBE1(libipc, name, a)
#define IPCI_PROBE2(name, a, b) DTRACE_PROBE2(libipc, name, a, b)
#else
#define IPCI_PROBE1(name, a)    ((void)(a))
#define IPCI_PROBE2(name, a, b) ((void)(a), (void)(b))
#endif

#endif
