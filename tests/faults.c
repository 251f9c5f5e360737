/* SPDX-License-Identifier: MIT */

/*
 * Each system call and each allocation of the library fails once, at every place where it is
 * made, and from there on; with each errno that the kernel can give.
 */

#include <stdio.h>
#include <unistd.h>

#include "faults.h"
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

/* The errors that a call can give for good, and those that pass by themselves. */
struct errors {
	enum faulty call;
	int lasting[10], passing[3];
};

static const struct errors packet_errors[] = {
	{FAULTY_SENDMSG,
		{EAGAIN, ENOMEM, ENOBUFS, EPIPE, ECONNRESET, ETOOMANYREFS, EPERM, EINVAL, EBADF},
		{EINTR}},
	{FAULTY_SEND, {EAGAIN, ENOMEM, ENOBUFS, EPIPE, ECONNRESET, EBADF}, {EINTR}},
	{FAULTY_RECVMSG, {EAGAIN, ENOMEM, ENOBUFS, EBADF}, {ECONNRESET, EINTR}},
	{FAULTY_RECV, {EAGAIN, ENOMEM, ENOBUFS, EBADF}, {ECONNRESET, EINTR}},
	{FAULTY_POLL, {ENOMEM, EINVAL}, {EINTR}},
};

static const struct errors descriptor_errors[] = {
	{FAULTY_FCNTL, {EMFILE, EBADF, ENOMEM}, {EINTR}},
	{FAULTY_FSTAT, {EBADF, ENOMEM}, {EINTR}},
};

static const struct errors birth_errors[] = {
	{FAULTY_SOCKETPAIR, {EMFILE, ENFILE, ENOMEM, ENOBUFS}, {EINTR}},
	{FAULTY_SETSOCKOPT, {EPERM, ENOMEM, ENOBUFS}, {EINTR}},
	{FAULTY_GETSOCKOPT, {ENOBUFS, EBADF}, {EINTR}},
	{FAULTY_GETPEERNAME, {ENOTCONN, ENOBUFS}, {EINTR}},
	{FAULTY_MADVISE, {EINVAL, ENOMEM}, {EINTR}},
};

static const struct errors memory_errors[] = {
	{FAULTY_MMAP, {ENOMEM}, {0}},
	{FAULTY_MREMAP, {ENOMEM}, {0}},
	{FAULTY_MALLOC, {ENOMEM}, {0}},
};

/* Nobody need hear of these. */
static const struct errors harmless_errors[] = {
	{FAULTY_CLOSE, {EIO, EINTR}, {0}},
	{FAULTY_CLOSE_RANGE, {ENOSYS, EPERM, EINVAL}, {EINTR}},
	{FAULTY_OPEN, {ENOENT, EACCES, EMFILE, ENFILE, ENOMEM}, {EINTR}},
	{FAULTY_READ, {EIO, ENOMEM}, {EINTR}},
	{FAULTY_SCHED_GETAFFINITY, {EINVAL, EPERM}, {0}},
	{FAULTY_SHUTDOWN, {ENOTCONN}, {EINTR}},
};

/* What is being used, for those who look for why a test failed. */
static const char *in_use;

static void
use_under(const struct use *use, const struct fault *fault)
{
	fault_arm(fault);
	in_use = use->name;
	use_channels(use);
	in_use = NULL;
}

/* Fail the first call, the second ...: until the use does not come to that one. */
static void
fail_each(const struct use *use, struct fault fault)
{
	unsigned int step = test_count(1, 11);

	/* A use that never comes to its end has gone round in circles. */
	alarm(TEST_SECONDS_MAX);
	fault.nth = step > 1 ? 1 + (unsigned int)test_random_below(step) : 1;
	for (;; fault.nth += step) {
		use_under(use, &fault);
		if (!fault_count())
			return;
	}
}

static void
fail_with_all(const struct use *use, const struct errors *errors)
{
	struct fault fault = {.call = errors->call};
	const int *error;

	for (error = errors->lasting; *error; error++) {
		fault.error = *error;
		fault.onward = false;
		fail_each(use, fault);
		fault.onward = true;
		fail_each(use, fault);
	}
	fault.onward = false;
	for (error = errors->passing; *error; error++) {
		fault.error = *error;
		fail_each(use, fault);
	}
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
fail_table(const struct errors *errors, size_t n, bool every_call_works)
{
	struct use use;
	size_t i, k;

	for (i = 0; i < n; i++) {
		for (k = 0; k < sizeof(uses) / sizeof(uses[0]); k++) {
			use = uses[k];
			use.every_call_works = every_call_works;
			fail_with_all(&use, &errors[i]);
		}
		expect_called(errors[i].call);
	}
}

#define fail_all(table, every_call_works) \
	fail_table((table), sizeof(table) / sizeof((table)[0]), (every_call_works))

static void
without_any_fault(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
		use_under(&uses[i], NULL);
}

static void
packets_fail(void **state)
{
	(void)state;
	fail_all(packet_errors, false);
}

static void
descriptors_fail(void **state)
{
	(void)state;
	fail_all(descriptor_errors, false);
}

static void
births_fail(void **state)
{
	(void)state;
	fail_all(birth_errors, false);
}

static void
allocations_fail(void **state)
{
	(void)state;
	fail_all(memory_errors, false);
}

static void
harmless_calls_fail(void **state)
{
	(void)state;
	fail_all(harmless_errors, true);
}

/* An interrupted call is made again, and nobody hears of it. */
static void
signals_interrupt_each_call(void **state)
{
	struct use use;
	size_t i;
	int call;

	(void)state;
	for (i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		use = uses[i];
		use.every_call_works = true;
		for (call = 0; call < FAULTY_CLONE; call++)
			fail_each(&use, (struct fault){.call = (enum faulty)call, .error = EINTR});
	}
}

/* From some packet on nothing is sent at all, so that what began cannot be ended. */
static void
nothing_is_sent(void **state)
{
	static const int errors[] = {EAGAIN, ENOMEM, ENOBUFS, EPIPE};
	struct fault fault = {.above = 1, .onward = true};
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		for (k = 0; k < sizeof(errors) / sizeof(errors[0]); k++) {
			fault.error = errors[k];
			fail_each(&uses[i], fault);
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
			use_under(&use, &fault);
			check(fault_count() || limits[k] > 40000);
		}
	}
}

static int
fault_end(void **state)
{
	if (in_use)
		(void)fprintf(stderr, "with %s, in \"%s\"\n", fault_text(), in_use);
	in_use = NULL;
	fault_inside(false);
	fault_arm(NULL);
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
