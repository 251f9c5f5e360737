/* SPDX-License-Identifier: MIT */

/*
 * libuv: a uv_pipe_t over each end of a stream socket, in a loop of its own. The guide's way
 * ("Pipes" in "Processes"), but that what can be written at once is, by uv_try_write(), which saves
 * a request and a turn of the loop. Messages are cut from the bytes, as all have one size.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "peer.h"

/* What libuv suggests for a read. */
#define READ_SIZE ((size_t)64 << 10)

struct end {
	struct bench_side *side;
	uv_loop_t loop;
	uv_pipe_t pipe;
	bool is_reading, is_writing;
	size_t size;
	char *buffer;
	size_t capacity, start, length;
};

static int
prepare(struct bench_meeting *meeting, const struct bench_config *config)
{
	uv_os_sock_t fds[BENCH_ROLES];
	int r = uv_socketpair(SOCK_STREAM, 0, fds, UV_NONBLOCK_PIPE, UV_NONBLOCK_PIPE);

	(void)config;
	for (int role = 0; r == 0 && role < BENCH_ROLES; role++)
		meeting->fds[role][BENCH_IN] = meeting->fds[role][BENCH_OUT] = fds[role];
	return r;
}

static void
check(struct bench_side *side, const char *what, ssize_t r)
{
	if (r < 0)
		bench_side_fail(side, what, (int)r);
}

static void *
open_end(struct bench_side *side, const struct bench_meeting *meeting)
{
	struct end *end = calloc(1, sizeof(*end));

	if (!end)
		bench_side_fail(side, "memory", -ENOMEM);
	end->side = side;
	end->size = side->config->size;
	end->capacity = end->size > READ_SIZE ? end->size : READ_SIZE;
	end->buffer = bench_side_payload(side, end->capacity);
	check(side, "uv_loop_init", uv_loop_init(&end->loop));
	check(side, "uv_pipe_init", uv_pipe_init(&end->loop, &end->pipe, 0));
	check(side, "uv_pipe_open", uv_pipe_open(&end->pipe, meeting->fds[side->role][BENCH_IN]));
	end->pipe.data = end;
	return end;
}

static void
turn(struct end *end)
{
	uv_run(&end->loop, end->side->spins ? UV_RUN_NOWAIT : UV_RUN_ONCE);
}

static void
on_written(uv_write_t *request, int status)
{
	struct end *end = request->handle->data;

	check(end->side, "uv_write", status);
	end->is_writing = false;
}

static void
send_message(void *to, const void *data)
{
	struct end *end = to;
	uv_stream_t *stream = (uv_stream_t *)&end->pipe;
	uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)data, (unsigned int)end->size);
	uv_write_t request;
	int n = uv_try_write(stream, &buffer, 1);

	if (n != UV_EAGAIN)
		check(end->side, "uv_try_write", n);
	n = n < 0 ? 0 : n;
	if ((size_t)n == end->size)
		return;

	buffer = uv_buf_init(buffer.base + n, (unsigned int)end->size - (unsigned int)n);
	end->is_writing = true;
	check(end->side, "uv_write", uv_write(&request, stream, &buffer, 1, on_written));
	while (end->is_writing)
		turn(end);
}

static void
on_room_wanted(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
	struct end *end = handle->data;

	(void)suggested;
	*ret_buffer =
		uv_buf_init(end->buffer + end->length, (unsigned int)(end->capacity - end->length));
}

/* What is full is emptied before more is read. */
static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct end *end = stream->data;

	(void)buffer;
	check(end->side, "uv_read", n);
	end->length += (size_t)n;
	if (end->length < end->capacity)
		return;
	uv_read_stop(stream);
	end->is_reading = false;
}

static const void *
receive_message(void *from)
{
	struct end *end = from;
	const char *message;

	if (end->length - end->start < end->size) {
		end->length -= end->start;
		memmove(end->buffer, end->buffer + end->start, end->length);
		end->start = 0;
	}
	while (end->length - end->start < end->size) {
		if (!end->is_reading)
			check(end->side, "uv_read_start",
				uv_read_start((uv_stream_t *)&end->pipe, on_room_wanted, on_read));
		end->is_reading = true;
		turn(end);
	}
	message = end->buffer + end->start;
	end->start += end->size;
	return message;
}

#define VERSION BENCH_VERSION(UV_VERSION_MAJOR, UV_VERSION_MINOR, UV_VERSION_PATCH)

const struct bench_peer bench_peers[] = {
	{
		.name = "libuv",
		.about = "libuv " VERSION ", uv_pipe_t over stream sockets, a loop on each side",
		.waits = BENCH_WAITS_SPINNING | BENCH_WAITS_SLEEPING,
		.prepare = prepare,
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
	},
	{0},
};
