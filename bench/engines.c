/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engines.h"

enum ipc_engine
bench_engine_of(enum bench_variant variant)
{
	return variant == BENCH_URING ? IPC_ENGINE_URING : IPC_ENGINE_EPOLL;
}

static void
note_reason(struct bench_engine *engine, const char *reason)
{
	snprintf(engine->reason, sizeof(engine->reason), "%s", reason);
}

/* Who is left to choose says in words why it was not io_uring; an error number says less. */
static void
ask_reason(struct bench_engine *engine, int error)
{
	struct ipc_loop_options options = {.size = sizeof(options)};
	struct ipc_loop *loop;

	note_reason(engine, strerror(-error));
	if (engine->variant != BENCH_URING || ipc_loop_create(&loop, &options) < 0)
		return;
	if (strcmp(ipc_loop_engine(loop), "io_uring") != 0)
		note_reason(engine, ipc_loop_engine_reason(loop));
	ipc_loop_destroy(loop);
}

static void
find(struct bench_engine *engine)
{
	bool is_uring = engine->variant == BENCH_URING;
	struct ipc_loop_options options = {
		.size = sizeof(options),
		.engine = bench_engine_of(engine->variant),
	};
	struct ipc_loop *loop;
	int r = ipc_loop_create(&loop, &options);

	if (r < 0) {
		ask_reason(engine, r);
		return;
	}
	/* The environment has the last word. */
	engine->is_there = strcmp(ipc_loop_engine(loop), is_uring ? "io_uring" : "epoll") == 0;
	if (!engine->is_there)
		note_reason(engine, ipc_loop_engine_reason(loop));
	ipc_loop_destroy(loop);
}

void
bench_engines_find(struct bench_engine ret_engines[BENCH_ENGINES])
{
	static const enum bench_variant variants[BENCH_ENGINES] = {BENCH_EPOLL, BENCH_URING};

	for (unsigned int i = 0; i < BENCH_ENGINES; i++) {
		ret_engines[i] = (struct bench_engine){.variant = variants[i]};
		find(&ret_engines[i]);
	}
}
