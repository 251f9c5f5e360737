/* SPDX-License-Identifier: MIT */

/*
 * iceoryx 2.0 by its C binding: a client and a server for round trips, a publisher and a subscriber
 * one way, told to wait rather than lose messages. Chunks are lent, filled by one copy, and read
 * where they are. Who sleeps has a WaitSet, who spins takes again and again; a publisher whose
 * subscriber is behind always spins. The examples icedelivery_in_c, waitset_in_c and
 * request_response_in_c of its documentation. Its daemon is roudi.c's.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <iceoryx_binding_c/client.h>
#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/server.h>
#include <iceoryx_binding_c/subscriber.h>
#include <iceoryx_binding_c/wait_set.h>

#include "peer.h"
#include "roudi.h"

struct end {
	struct bench_side *side;
	uint32_t size;
	/* Two of them; the last two are the server's and its client's. */
	iox_pub_t publisher;
	iox_sub_t subscriber;
	iox_client_t client;
	iox_server_t server;
	iox_ws_t waiting; /* NULL for who spins */
	const void *held; /* what was received last */
	iox_pub_storage_t publisher_storage;
	iox_sub_storage_t subscriber_storage;
	iox_client_storage_t client_storage;
	iox_server_storage_t server_storage;
	iox_ws_storage_t waiting_storage;
};

static void
check(const struct end *end, const char *what, bool is_well)
{
	if (!is_well)
		bench_side_fail(end->side, what, -EIO);
}

/* Its discovery takes a tenth of a second. */
static void
pause_briefly(void)
{
	const struct timespec time = {.tv_nsec = 1000000};

	nanosleep(&time, NULL);
}

static void
open_publisher(struct end *end)
{
	iox_pub_options_t options;

	iox_pub_options_init(&options);
	options.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
	end->publisher = iox_pub_init(&end->publisher_storage, "ipc", "bench", "stream", &options);
	while (!iox_pub_has_subscribers(end->publisher))
		pause_briefly();
}

static void
open_subscriber(struct end *end)
{
	iox_sub_options_t options;

	iox_sub_options_init(&options);
	options.queueCapacity = bench_roudi_queue(end->side->config);
	options.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
	end->subscriber =
		iox_sub_init(&end->subscriber_storage, "ipc", "bench", "stream", &options);
	if (end->waiting)
		check(end, "iox_ws_attach_subscriber_state",
			iox_ws_attach_subscriber_state(end->waiting, end->subscriber,
				SubscriberState_HAS_DATA, 0, NULL) == WaitSetResult_SUCCESS);
}

static void
open_client(struct end *end)
{
	end->client = iox_client_init(&end->client_storage, "ipc", "bench", "call", NULL);
	while (iox_client_get_connection_state(end->client) != ConnectionState_CONNECTED)
		pause_briefly();
	if (end->waiting)
		check(end, "iox_ws_attach_client_state",
			iox_ws_attach_client_state(end->waiting, end->client,
				ClientState_HAS_RESPONSE, 0, NULL) == WaitSetResult_SUCCESS);
}

static void
open_server(struct end *end)
{
	end->server = iox_server_init(&end->server_storage, "ipc", "bench", "call", NULL);
	if (end->waiting)
		check(end, "iox_ws_attach_server_state",
			iox_ws_attach_server_state(end->waiting, end->server,
				ServerState_HAS_REQUEST, 0, NULL) == WaitSetResult_SUCCESS);
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	static void (*const openings[2][BENCH_ROLES])(struct end * end) = {
		{open_publisher, open_subscriber}, {open_client, open_server}};
	struct end *end = calloc(1, sizeof(*end));

	(void)meeting;
	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->size = (uint32_t)side->config->size;
	iox_set_loglevel(Iceoryx_LogLevel_Error);
	iox_runtime_init(bench_roudi_names[side->role]);
	if (!side->spins)
		end->waiting = iox_ws_init(&end->waiting_storage);
	openings[side->config->bench->shape == BENCH_LATENCY][side->role](end);
	return end;
}

static void
send_chunk(void *to, const void *data)
{
	struct end *end = to;
	enum iox_AllocationResult r;
	void *chunk;

	if (end->publisher)
		r = iox_pub_loan_chunk(end->publisher, &chunk, end->size);
	else if (end->client)
		r = iox_client_loan_request(end->client, &chunk, end->size);
	else
		r = iox_server_loan_response(end->server, end->held, &chunk, end->size);
	check(end, "a chunk", r == AllocationResult_SUCCESS);
	memcpy(chunk, data, end->size);

	if (end->publisher)
		iox_pub_publish_chunk(end->publisher, chunk);
	else if (end->client)
		check(end, "iox_client_send",
			iox_client_send(end->client, chunk) == ClientSendResult_SUCCESS);
	else
		check(end, "iox_server_send",
			iox_server_send(end->server, chunk) == ServerSendResult_SUCCESS);
}

static void
release(struct end *end)
{
	if (!end->held)
		return;
	if (end->subscriber)
		iox_sub_release_chunk(end->subscriber, end->held);
	else if (end->client)
		iox_client_release_response(end->client, end->held);
	else
		iox_server_release_request(end->server, end->held);
	end->held = NULL;
}

static bool
take(struct end *end)
{
	if (end->subscriber)
		return iox_sub_take_chunk(end->subscriber, &end->held) ==
		       ChunkReceiveResult_SUCCESS;
	if (end->client)
		return iox_client_take_response(end->client, &end->held) ==
		       ChunkReceiveResult_SUCCESS;
	return iox_server_take_request(end->server, &end->held) == ServerRequestResult_SUCCESS;
}

static const void *
receive_chunk(void *from)
{
	struct end *end = from;
	iox_notification_info_t info;
	uint64_t missed;

	release(end);
	while (!take(end))
		if (end->waiting)
			iox_ws_wait(end->waiting, &info, 1, &missed);
	return end->held;
}

const struct bench_peer bench_peers[] = {
	{
		.name = "iceoryx",
		.about = "iceoryx 2.0: client and server, or publisher and subscriber, in shared "
			 "memory; needs a daemon",
		.waits = BENCH_WAITS_SPINNING | BENCH_WAITS_SLEEPING,
		.prepare = bench_roudi_start,
		.clean = bench_roudi_stop,
		.open = open_end,
		.send = send_chunk,
		.receive = receive_chunk,
	},
	{0},
};
