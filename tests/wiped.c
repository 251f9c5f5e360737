/* SPDX-License-Identifier: MIT */

/* What was gathered is wiped in a forked child where the kernel does not know how to, too. */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libipc/loop.h>

#include "support.h"
#include "sys.h"
#include "wiped.h"

#define SIZE     40000
#define MESSAGES 30

static bool knows_drop, knows_wipe;

int __real_madvise(void *address, size_t size, int advice);
int __wrap_madvise(void *address, size_t size, int advice);
int
__wrap_madvise(void *address, size_t size, int advice)
{
	if ((advice == MADV_WIPEONFORK && !knows_wipe) ||
		(advice == MADV_DONTNEED && !knows_drop)) {
		errno = EINVAL;
		return -1;
	}
	return __real_madvise(address, size, advice);
}

static const unsigned char zeros[SIZE], others[SIZE] = {1};

static void
look_at_all(void *arg)
{
	unsigned char **memory = arg;
	int i;

	for (i = 0; i < 3; i++)
		check_equal(memcmp(memory[i], zeros, SIZE), i == 1);
}

/* Of three the second is not to be wiped. */
static void
expect_wiped(void)
{
	unsigned char *memory[3];
	int i;

	for (i = 0; i < 3; i++) {
		memory[i] = ipci_sys_map(SIZE);
		check(memory[i]);
		if (i != 1)
			check_equal(ipci_wiped_add(memory[i], SIZE), 0);
		memset(memory[i], 1, SIZE);
	}
	child_end(child_start(look_at_all, memory));
	for (i = 0; i < 3; i++) {
		check_equal(memory[i][SIZE - 1], 1);
		ipci_wiped_unmap(memory[i], SIZE);
	}
	ipci_wiped_unmap(NULL, SIZE);
	/* What is gone is left alone. */
	child_end(child_start(look_at_all,
		(unsigned char *[]){(unsigned char *)(uintptr_t)zeros,
			(unsigned char *)(uintptr_t)others, (unsigned char *)(uintptr_t)zeros}));
}

static void
memory_is_wiped_by_whoever_can(void **state)
{
	(void)state;
	knows_wipe = true;
	expect_wiped();
	knows_wipe = false;
	knows_drop = true;
	expect_wiped();
	knows_drop = false;
	expect_wiped();
}

static void
close_copy(void *arg)
{
	ipc_channel_close(arg);
}

static void
a_child_sends_nothing_that_its_parent_gathered(void **state)
{
	struct ipc_message message = text_message("once");
	struct ipc_channel *a, *b;

	(void)state;
	knows_wipe = false;
	knows_drop = true;
	pair_open(&a, &b, NULL);
	check_equal(ipc_channel_post(a, &message, 0), 0);
	child_end(child_start(close_copy, a));
	expect_nothing(b);
	check_equal(ipc_channel_flush(a, 0), 0);
	expect_text(b, "once");
	expect_nothing(b);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

static void
on_message(struct ipc_channel *channel, struct ipc_message *message, void *user)
{
	(void)channel;
	(void)message;
	(void)user;
}

static void
destroy_copy(void *arg)
{
	check_equal(ipc_loop_turn(arg, 0), -ECHILD);
	ipc_loop_destroy(arg);
}

static void
a_child_knows_a_loop_for_its_parents(void **state)
{
	static const struct ipc_channel_handler handler = {.message = on_message};
	struct ipc_channel *a, *b;
	struct ipc_loop *loop;
	int i;

	(void)state;
	knows_wipe = false;
	knows_drop = true;
	check_equal(ipc_loop_create(&loop, NULL), 0);
	pair_open(&a, &b, NULL);
	check_equal(ipc_loop_attach(loop, a, &handler, NULL), 0);
	/* So many that a record of them waits behind another. */
	for (i = 0; i < MESSAGES; i++)
		check_equal(
			ipc_channel_post(a, &(struct ipc_message){.data = zeros, .size = 10000}, 0),
			0);
	child_end(child_start(destroy_copy, loop));
	expect_nothing(b);
	for (i = 0; i < MESSAGES; i++) {
		struct ipc_message message;

		while (ipc_channel_recv(b, &message, 0) < 0)
			check(ipc_loop_turn(loop, 0) >= 0);
		check_equal(message.size, 10000);
	}
	ipc_loop_destroy(loop);
	ipc_channel_close(a);
	ipc_channel_close(b);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		channel_test(memory_is_wiped_by_whoever_can),
		channel_test(a_child_sends_nothing_that_its_parent_gathered),
		channel_test(a_child_knows_a_loop_for_its_parents),
	};

	return run_group(tests);
}
