/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_COMPARE_H
#define IPC_BENCH_COMPARE_H

/* "ipc-bench compare A.json B.json": two runs side by side. */

#define BENCH_COMPARE "compare"

/* argv[0] is the word itself. Return: the status to exit with. */
int bench_compare_main(int argc, char *argv[]);

#endif
