/* SPDX-License-Identifier: MIT */

#include <errno.h>

#include "engines.h"
#include "loop.h"

struct ipc_loop *
bench_loop_new(struct bench_side *side)
{
	struct ipc_loop_options options = {
		.size = sizeof(options),
		.engine = side->config->variant == BENCH_POOL
	                          ? side->config->pool_engine
	                          : bench_engine_of(side->config->variant),
		.spin_us = bench_spin_us(side->config),
	};
	struct ipc_loop *loop;
	int r = ipc_loop_create(&loop, &options);

	if (r < 0)
		bench_side_fail(side, "ipc_loop_create", r);
	return loop;
}

void
bench_loop_attach(struct bench_side *side, struct ipc_loop *loop, struct ipc_channel *channel,
	const struct ipc_channel_handler *handler, void *user)
{
	int r = ipc_loop_attach(loop, channel, handler, user);

	if (r < 0)
		bench_side_fail(side, "ipc_loop_attach", r);
}

void
bench_loop_run(struct bench_side *side, struct ipc_loop *loop)
{
	int r = ipc_loop_run(loop);

	if (r < 0)
		bench_side_fail(side, "ipc_loop_run", r);
}

void
bench_loop_flush(struct bench_side *side, struct ipc_loop *loop, struct ipc_channel *channel)
{
	int r;

	while ((r = ipc_channel_flush(channel, 0)) == -EAGAIN) {
		/* Nothing that is called back may come: it is looked for now and then. */
		r = ipc_loop_turn(loop, 1);
		if (r < 0)
			bench_side_fail(side, "ipc_loop_turn", r);
	}
	if (r < 0)
		bench_side_fail(side, "ipc_channel_flush", r);
}

void
bench_loop_finish(struct bench_side *side, struct ipc_loop *loop)
{
	struct ipc_loop_stats stats = {.size = sizeof(stats)};

	ipc_loop_stats(loop, &stats);
	side->account->syscalls += stats.syscalls;
	ipc_loop_destroy(loop);
	bench_side_finish_channels(side);
}

void
bench_loop_closed(struct ipc_channel *channel, int reason, void *user)
{
	(void)channel;
	bench_side_fail(user, "a channel in a loop", reason ? reason : -EPIPE);
}
