/* SPDX-License-Identifier: MIT */

/*
 * Each system call and each allocation of the library fails once, at every place where it is
 * made, and from there on; with each errno that the kernel can give.
 */

#include <stdio.h>
#include <unistd.h>

#include "faults_each.h"
#include "faults_traffic.h"

static const struct use uses[] = {
	{
		.name = "pair with descriptors, small records",
		.making = MAKING_PAIR,
		.options = {.size = sizeof(struct ipc_channel_options),
			.record_max = 8192,
			.fds_max = IPC_MESSAGE_FDS_LIMIT,
			.send_buffer = 100000},
		.posted_max = 5000,
	},
	{
		.name = "pair without descriptors",
		.making = MAKING_PAIR,
		.options = {.size = sizeof(struct ipc_channel_options),
			.record_max = 8192,
			.send_buffer = 100000},
		.posted_max = 5000,
	},
	{
		.name = "open and inherit, large records",
		.making = MAKING_OPEN,
		.options = {.size = sizeof(struct ipc_channel_options),
			.fds_max = IPC_MESSAGE_FDS_LIMIT,
			.send_buffer = 100000},
		.posted_max = 60000,
	},
};

static const struct fault_errors packet_errors[] = {
	{FAULTY_SENDMSG,
		{EAGAIN, ENOMEM, ENOBUFS, EPIPE, ECONNRESET, ETOOMANYREFS, EPERM, EINVAL, EBADF},
		{EINTR}},
	{FAULTY_SEND, {EAGAIN, ENOMEM, ENOBUFS, EPIPE, ECONNRESET, EBADF}, {EINTR}},
	{FAULTY_RECVMSG, {EAGAIN, ENOMEM, ENOBUFS, EBADF}, {ECONNRESET, EINTR}},
	{FAULTY_RECV, {EAGAIN, ENOMEM, ENOBUFS, EBADF}, {ECONNRESET, EINTR}},
	{FAULTY_POLL, {ENOMEM, EINVAL}, {EINTR}},
};

static const struct fault_errors descriptor_errors[] = {
	{FAULTY_FCNTL, {EMFILE, EBADF, ENOMEM}, {EINTR}},
	{FAULTY_FSTAT, {EBADF, ENOMEM}, {EINTR}},
};

static const struct fault_errors birth_errors[] = {
	{FAULTY_SOCKETPAIR, {EMFILE, ENFILE, ENOMEM, ENOBUFS}, {EINTR}},
	{FAULTY_SETSOCKOPT, {EPERM, ENOMEM, ENOBUFS}, {EINTR}},
	{FAULTY_GETSOCKOPT, {ENOBUFS, EBADF}, {EINTR}},
	{FAULTY_GETPEERNAME, {ENOTCONN, ENOBUFS}, {EINTR}},
	{FAULTY_MADVISE, {EINVAL, ENOMEM}, {EINTR}},
};

static const struct fault_errors memory_errors[] = {
	{FAULTY_MMAP, {ENOMEM}, {0}},
	{FAULTY_MREMAP, {ENOMEM}, {0}},
	{FAULTY_MALLOC, {ENOMEM}, {0}},
};

/* Nobody need hear of these. */
static const struct fault_errors harmless_errors[] = {
	{FAULTY_CLOSE, {EIO, EINTR}, {0}},
	{FAULTY_CLOSE_RANGE, {ENOSYS, EPERM, EINVAL}, {EINTR}},
	{FAULTY_OPEN, {ENOENT, EACCES, EMFILE, ENFILE, ENOMEM}, {EINTR}},
	{FAULTY_READ, {EIO, ENOMEM}, {EINTR}},
	{FAULTY_SCHED_GETAFFINITY, {EINVAL, EPERM}, {0}},
	{FAULTY_SHUTDOWN, {ENOTCONN}, {EINTR}},
};

static bool
use_under(const struct fault *fault, const void *arg)
{
	const struct use *use = arg;

	fault_trial_begin(fault, use->name);
	use_channels(use);
	return fault_trial_end();
}

static struct fault_trial
trial_of(const struct use *use)
{
	return (struct fault_trial){.run = use_under, .arg = use, .full_step = 1, .quick_step = 11};
}

/* A wrapper that never saw a call is one that the linker has not put in place. */
static void
expect_called(enum faulty call)
{
	if (fault_calls(call))
		return;
	(void)fprintf(stderr, "%s is never called\n", fault_name(call));
	/* It needs a socket that refuses descriptors. */
	check(call == FAULTY_RECV);
	test_lacks("SO_PASSRIGHTS");
}

static void
fail_uses(const struct fault_errors *table, size_t n, bool every_call_works)
{
	struct use use;
	const struct fault_trial trial = trial_of(&use);
	size_t i, k;

	for (i = 0; i < n; i++) {
		for (k = 0; k < sizeof(uses) / sizeof(uses[0]); k++) {
			use = uses[k];
			use.every_call_works = every_call_works;
			fail_call(&trial, &table[i]);
		}
		expect_called(table[i].call);
	}
}

#define fail_all_uses(table, every_call_works) \
	fail_uses((table), sizeof(table) / sizeof((table)[0]), (every_call_works))

static void
without_any_fault(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
		(void)use_under(NULL, &uses[i]);
}

static void
packets_fail(void **state)
{
	(void)state;
	fail_all_uses(packet_errors, false);
}

static void
descriptors_fail(void **state)
{
	(void)state;
	fail_all_uses(descriptor_errors, false);
}

static void
births_fail(void **state)
{
	(void)state;
	fail_all_uses(birth_errors, false);
}

static void
allocations_fail(void **state)
{
	(void)state;
	fail_all_uses(memory_errors, false);
}

static void
harmless_calls_fail(void **state)
{
	(void)state;
	fail_all_uses(harmless_errors, true);
}

/* An interrupted call is made again, and nobody hears of it. */
static void
signals_interrupt_each_call(void **state)
{
	struct use use;
	const struct fault_trial trial = trial_of(&use);
	size_t i;
	int call;

	(void)state;
	for (i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		use = uses[i];
		use.every_call_works = true;
		for (call = 0; call < FAULTY_CLONE; call++)
			fail_each(
				&trial, (struct fault){.call = (enum faulty)call, .error = EINTR});
	}
}

/* From some packet on nothing is sent at all, so that what began cannot be ended. */
static void
nothing_is_sent(void **state)
{
	static const int errors[] = {EAGAIN, ENOMEM, ENOBUFS, EPIPE};
	struct fault fault = {.above = 1, .onward = true};
	struct fault_trial trial;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		trial = trial_of(&uses[i]);
		for (k = 0; k < sizeof(errors) / sizeof(errors[0]); k++) {
			fault.error = errors[k];
			fail_each(&trial, fault);
		}
	}
}

/* The kernel has no memory for packets above a size: everything goes in smaller ones. */
static void
large_packets_fail(void **state)
{
	static const size_t limits[] = {65536, 16384, 4096};
	struct fault fault = {.error = ENOBUFS, .nth = 1, .onward = true};
	struct use use;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		for (k = 0; k < sizeof(limits) / sizeof(limits[0]); k++) {
			alarm(TEST_SECONDS_MAX);
			use = uses[i];
			use.every_call_works = true;
			use.posted_max =
				limits[k] - 24 < use.posted_max ? limits[k] - 24 : use.posted_max;
			fault.above = limits[k];
			(void)use_under(&fault, &use);
			check(fault_count() || limits[k] > 40000);
		}
	}
}

static int
fault_end(void **state)
{
	fault_over();
	return test_end(state);
}

#define fault_test(function) cmocka_unit_test_setup_teardown(function, test_begin, fault_end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		fault_test(without_any_fault),
		fault_test(packets_fail),
		fault_test(descriptors_fail),
		fault_test(births_fail),
		fault_test(allocations_fail),
		fault_test(harmless_calls_fail),
		fault_test(signals_interrupt_each_call),
		fault_test(nothing_is_sent),
		fault_test(large_packets_fail),
	};

	return run_group(tests);
}
