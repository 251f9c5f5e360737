/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_SPAWNED_H
#define IPC_BENCH_SPAWNED_H

/* ipc-bench as a worker that the case spawn starts: its only argument says how it is asked. */

#define BENCH_SPAWNED         "--spawned-"
#define BENCH_SPAWNED_RAW     BENCH_SPAWNED "raw"
#define BENCH_SPAWNED_CHANNEL BENCH_SPAWNED "channel"

/* Send back what comes, until the end. Return: the status to exit with. */
int bench_spawned_main(const char *how);

#endif
