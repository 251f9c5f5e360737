/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peers.h"
#include "peers/peer.h"

/* In the order of the tables; those that were not built are missing. */
static const char *const modules[] = {
	"bytes", "mmsg", "mq", "zeromq", "nng", "nanomsg", "boost", "uv", "dbus", "iceoryx", "ucx"};

/* Larger messages are bulk, and those of the case stream are not. */
#define SMALL_MAX ((16U << 10) - 1)

/* Where a run's directory is made. */
#define PATTERN "%s/ipc-bench-XXXXXX"

static const struct bench_peer *peers[BENCH_PEERS_LIMIT];
static struct bench_meeting meeting;

const struct bench_peer *
bench_peer_of(enum bench_variant variant)
{
	return peers[variant - BENCH_PEER];
}

const struct bench_meeting *
bench_peers_meeting(void)
{
	return &meeting;
}

bool
bench_peer_waits(enum bench_variant variant, enum bench_wait wait)
{
	return variant < BENCH_PEER || bench_peer_of(variant)->waits & 1U << wait;
}

const char *
bench_peer_refuses(enum bench_variant variant, const struct bench_config *config)
{
	const struct bench_peer *peer = variant < BENCH_PEER ? NULL : bench_peer_of(variant);

	return peer && peer->refuses ? peer->refuses(config) : NULL;
}

/* The variants beside which peers are measured are those of the case that is like theirs. */
static void
liken(struct bench_case *bench, const struct bench_case *model)
{
	static const enum bench_variant beside[] = {BENCH_RAW, BENCH_RAW_BATCH, BENCH_CHANNEL};
	struct bench_case own = *bench;

	*bench = *model;
	bench->name = own.name;
	bench->summary = own.summary;
	bench->teaches = own.teaches;
	bench->has_peers = true;
	bench->takes_burst = false;
	memcpy(bench->sizes, own.sizes, sizeof(own.sizes));
	bench->waits[0] = BENCH_SPIN;
	bench->waits[1] = BENCH_SLEEP;
	bench->n_waits = 2;
	bench->raw_beside_learn = BENCH_SLEEP;
	if (!bench->is_bulk && bench->shape == BENCH_THROUGHPUT)
		bench->size_max = SMALL_MAX;
	memset(bench->sides, 0, sizeof(bench->sides));
	for (size_t i = 0; i < BENCH_ARRAY_SIZE(beside); i++)
		memcpy(bench->sides[beside[i]], model->sides[beside[i]], sizeof(*bench->sides));
}

static void
add_peer(const struct bench_peer *peer, unsigned int n)
{
	bench_variant_names[BENCH_PEER + n] = peer->name;
	peers[n] = peer;
	for (unsigned int i = 0; i < BENCH_PEERS_CASES; i++) {
		struct bench_case *bench = &bench_peers_cases[i];
		bench_side_fn **sides = bench->sides[BENCH_PEER + n];
		bool is_trip = bench->shape == BENCH_LATENCY;

		if (!is_trip && peer->only_answers)
			continue;
		sides[BENCH_SENDER] = is_trip ? bench_peer_ask : bench_peer_send;
		sides[BENCH_RECEIVER] = is_trip ? bench_peer_answer : bench_peer_receive;
	}
}

/* Modules are in the folder peers/ beside this program where that was built, and nowhere else:
   those that are installed are of another build. */
static void
module_path(const char *name, char path[PATH_MAX + 64])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);

	if (n > 0) {
		path[n] = '\0';
		strcpy(strrchr(path, '/'), "/peers");
	}
	if (n <= 0 || access(path, F_OK) < 0)
		strcpy(path, BENCH_PEER_DIR);
	snprintf(path + strlen(path), 64, "/%s.so", name);
}

/* Return: the module's peers, which last as long as this process; NULL if it is not there. */
static const struct bench_peer *
open_module(const char *name)
{
	char path[PATH_MAX + 64];
	const struct bench_peer *found;
	void *module;

	module_path(name, path);
	if (access(path, F_OK) < 0)
		return NULL;
	/* nng has the functions of nanomsg, too: each finds its own first. */
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	found = module ? dlsym(module, "bench_peers") : NULL;
	if (!found)
		fprintf(stderr, "ipc-bench: leaves out %s: %s\n", name, dlerror());
	return found;
}

void
bench_peers_load(void)
{
	unsigned int n = 0;

	liken(&bench_peers_cases[0], &bench_roundtrip);
	liken(&bench_peers_cases[1], &bench_stream);
	liken(&bench_peers_cases[2], &bench_bulk);
	for (size_t i = 0; i < BENCH_ARRAY_SIZE(modules); i++) {
		const struct bench_peer *peer = open_module(modules[i]);

		for (; peer && peer->name && n < BENCH_PEERS_LIMIT; peer++)
			add_peer(peer, n++);
	}
}

bool
bench_peers_are_loaded(void)
{
	return bench_peers_cases[0].n_waits > 0;
}

const char *
bench_peer_about(enum bench_variant variant)
{
	return bench_peer_of(variant)->about;
}

int
bench_peers_meet(const struct bench_config *config)
{
	const struct bench_peer *peer = bench_peer_of(config->variant);
	const char *chosen = getenv("TMPDIR");

	memset(&meeting, 0, sizeof(meeting));
	memset(meeting.fds, 0xFF, sizeof(meeting.fds));
	if (!chosen || (size_t)snprintf(meeting.directory, sizeof(meeting.directory), PATTERN,
			       chosen) >= sizeof(meeting.directory))
		snprintf(meeting.directory, sizeof(meeting.directory), PATTERN, "/tmp");
	if (!mkdtemp(meeting.directory)) {
		meeting.directory[0] = '\0';
		return -errno;
	}
	return peer->prepare ? peer->prepare(&meeting, config) : 0;
}

static void
remove_directory(void)
{
	DIR *directory = opendir(meeting.directory);
	const struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory)))
		unlinkat(dirfd(directory), entry->d_name, 0);
	closedir(directory);
	rmdir(meeting.directory);
}

void
bench_peers_part(const struct bench_config *config)
{
	const struct bench_peer *peer = bench_peer_of(config->variant);

	if (!meeting.directory[0])
		return;
	if (peer->clean)
		peer->clean(&meeting);
	for (int role = 0; role < BENCH_ROLES; role++) {
		const int *fds = meeting.fds[role];

		if (fds[BENCH_IN] >= 0)
			close(fds[BENCH_IN]);
		if (fds[BENCH_OUT] >= 0 && fds[BENCH_OUT] != fds[BENCH_IN])
			close(fds[BENCH_OUT]);
	}
	remove_directory();
	meeting.directory[0] = '\0';
}
