/* SPDX-License-Identifier: MIT */

/*
 * Each system call and each allocation of the library fails once, at every place where it is
 * made, and from there on; with each errno that the kernel can give.
 */

#include <stdio.h>
#include <unistd.h>

#include "faults_each.h"
#include "faults_traffic.h"
#include "raw.h"

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

/* Kernels before Linux 6.2 then throw away what has come and was not received: it is told that
   there may have been something. This one still has it. */
static void
a_send_that_met_the_peers_exit_is_told_at_the_end(void **state)
{
	static const enum faulty calls[] = {FAULTY_SEND, FAULTY_SENDMSG};
	static unsigned char zeros[4001];
	struct fault fault = {.error = ECONNREFUSED, .nth = 1};
	struct ipc_message message;
	struct ipc_channel *a, *b;
	int i, k;

	(void)state;
	for (i = 0; i < 2; i++) {
		pair_open(&a, &b, NULL);
		send_text(b, "last words");
		fault.call = calls[i];
		fault_arm(&fault);
		message = (struct ipc_message){.data = zeros, .size = i ? sizeof(zeros) : 1};
		check_equal(LIBRARY(ipc_channel_send(a, &message, 0)), -EPIPE);
		check_equal(fault_count(), 1);
		fault_arm(NULL);
		ipc_channel_close(b);
		expect_text(a, "last words");
		for (k = 0; k < 2; k++)
			check_equal(ipc_channel_recv(a, &message, TEST_WAIT_MS), -ECONNRESET);
		check_equal(ipc_channel_send(a, &(struct ipc_message){.size = 0}, 0), -EPIPE);
		check_equal(
			ipc_channel_call(a, &(struct ipc_message){.size = 0}, &message, 0), -EPIPE);
		ipc_channel_close(a);
	}
}

/* Before Linux 6.16 the kernel lets descriptors in, whoever takes none. */
static void
where_the_kernel_bars_nothing_descriptors_are_an_error(void **state)
{
	const struct fault fault = {
		.call = FAULTY_SETSOCKOPT, .error = ENOPROTOOPT, .nth = 1, .onward = true};
	struct ipc_message message;
	struct ipc_channel *a, *b;
	struct packet *packet;
	unsigned int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		fault_arm(&fault);
		check_equal(LIBRARY(ipc_channel_pair(&a, &b, NULL)), 0);
		check(fault_count() >= 2);
		fault_arm(NULL);
		/* It was empty, and still they can come. */
		expect_nothing(b);
		send_text(a, "text");
		expect_text(b, "text");
		packet = packet_begin(i < 2 ? IPCI_KIND_MESSAGES : IPCI_KIND_FRAGMENT, i == 1);
		packet_run(packet, 0, i == 1 ? IPCI_RUN_FDS : 0, 1);
		packet_end(packet);
		check_equal(raw_send_fds(ipc_channel_fd(a), packet->bytes, packet->size,
				    STDERR_FILENO, 1),
			(ssize_t)packet->size);
		check_equal(ipc_channel_recv(b, &message, TEST_WAIT_MS), -EPROTO);
		ipc_channel_close(a);
		ipc_channel_close(b);
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
		fault_test(a_send_that_met_the_peers_exit_is_told_at_the_end),
		fault_test(where_the_kernel_bars_nothing_descriptors_are_an_error),
	};

	return run_group(tests);
}
