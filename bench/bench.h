/* SPDX-License-Identifier: MIT */
#ifndef IPC_BENCH_H
#define IPC_BENCH_H

/*
 * The words that all of ipc-bench shares: what a case is, what one run is told, and
 * what one side of it works with.
 *
 * A run is one variant at one size, in fresh processes: the sender and the receiver, of which a
 * case may have several, its workers, each at a connection of its own. A block is one case, size,
 * wait and layout with all of its variants, run in turn, again and again: what is compared was
 * measured within the same second or so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <libipc/channel.h>
#include <libipc/loop.h>

#define BENCH_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define BENCH_PEERS_LIMIT 24U

enum bench_variant {
	BENCH_RAW,       /* system calls by hand, one packet a message */
	BENCH_RAW_BATCH, /* packets filled by hand to the channel's record size */
	BENCH_FORK,      /* spawn: fork(2) and execve(2) by hand */
	BENCH_CHANNEL,   /* libipc, by direct calls */
	BENCH_EPOLL,     /* libipc, in a loop on epoll */
	BENCH_URING,     /* libipc, in a loop on io_uring */
	BENCH_POOL,      /* libipc, by a pool, on the engine that a loop chooses */
	BENCH_PEER,      /* peers: something else; the first of them */
	BENCH_VARIANTS = BENCH_PEER + BENCH_PEERS_LIMIT,
};

/* Is it libipc, and neither system calls by hand nor a peer? */
static inline bool
bench_is_libipc(enum bench_variant variant)
{
	return variant >= BENCH_CHANNEL && variant < BENCH_PEER;
}

enum bench_wait {
	BENCH_SPIN,  /* ask again and again */
	BENCH_SLEEP, /* block in the kernel */
	BENCH_LEARN, /* libipc's default: what pays; raw variants have no such thing */
	BENCH_WAITS,
};

enum bench_role {
	BENCH_SENDER,
	BENCH_RECEIVER,
	BENCH_ROLES,
};

/* What the figures of a case are. */
enum bench_shape {
	BENCH_THROUGHPUT, /* messages a second, one way */
	BENCH_LATENCY,    /* the time of a message and its answer */
	BENCH_FANOUT,     /* requests a second to many receivers, and the time of one */
	BENCH_RATED,      /* the time of a request to one of many, sent when it was due */
	BENCH_SHAPES,
};

extern const char *bench_variant_names[BENCH_VARIANTS]; /* of peers: once they are loaded */
extern const char *const bench_wait_names[BENCH_WAITS];

/* The first word of every message, and of every page of a large one. Receivers add up
   what they read: a message that was not read, or not sent, shows in the sum. */
#define BENCH_WORD      UINT64_C(0x6C69626970630001)
#define BENCH_PAGE_SIZE 4096U

#define BENCH_SIZES_LIMIT   32U  /* of --size */
#define BENCH_WORKERS_LIMIT 256U /* of --workers */
#define BENCH_DEPTH_LIMIT   256U /* of --depth */
#define BENCH_BURST_LIMIT   65536U
#define BENCH_RATE_LIMIT    100000000U

/* How a case with workers is laid out. */
struct bench_layout {
	unsigned int workers;
	unsigned int depth; /* requests outstanding at each */
	bool is_quick;      /* --quick measures it, too */
};

struct bench_config;
struct bench_side;
typedef void bench_side_fn(struct bench_side *side);

struct bench_case {
	const char *name;
	const char *summary; /* half a line for --list */
	const char *teaches; /* a sentence above its table */
	const char *unit;    /* what is counted: "round trip", "message", ... */
	enum bench_shape shape;
	bool is_bulk;                   /* shown as bytes a second; the receiver reads every page */
	bool is_memory;                 /* the size is that of memory, and of no message */
	bool has_peers;                 /* takes long, and runs only when it is named */
	bool takes_burst;               /* --burst, on all variants but loops */
	const struct bench_case *rated; /* what takes its place with --rate; NULL: nothing */
	uint32_t fds_max;               /* with one message */
	size_t size_min, size_max;
	size_t sizes[4];                    /* by default; 0 ends the list */
	const struct bench_layout *layouts; /* by default; NULL: one receiver */
	unsigned int n_layouts;
	enum bench_wait waits[BENCH_WAITS];
	unsigned int n_waits;
	enum bench_wait raw_beside_learn; /* how raw variants wait beside BENCH_LEARN */
	/* Find out what a run must be told; may be NULL. Return: 0 or -errno. */
	int (*prepare)(struct bench_config *config);
	bench_side_fn *sides[BENCH_VARIANTS][BENCH_ROLES]; /* NULL: no such variant */
};

extern const struct bench_case bench_roundtrip, bench_stream, bench_bulk, bench_fds, bench_fanout,
	bench_fanout_rate, bench_spawn;

static inline bool
bench_has_workers(const struct bench_case *bench)
{
	return bench->shape == BENCH_FANOUT || bench->shape == BENCH_RATED;
}

extern const struct bench_case *const bench_cases[];
extern const unsigned int bench_n_cases;

/* What one run is told. */
struct bench_config {
	const struct bench_case *bench;
	enum bench_variant variant;
	size_t size;
	enum bench_wait wait;
	unsigned int workers; /* 1, but for fanout */
	unsigned int depth;
	unsigned int burst;   /* messages posted, and then flushed; 0: as many as go through */
	unsigned int rate;    /* of a rated case: requests a second, to all workers */
	size_t record_max;    /* bytes of a packet, of the channel and of raw-batch */
	size_t send_buffer;   /* SO_SNDBUF; 0 keeps the system's */
	size_t fragment_size; /* bulk: payload bytes of each packet that libipc sends */
	uint64_t warm_ns, time_ns;
	unsigned int cpus[BENCH_ROLES];
	enum ipc_engine pool_engine; /* IPC_ENGINE_AUTO unless one is asked for */
	bool measures_idle;
};

/* The measured time of a run, noted by its sender. */
struct bench_window {
	uint64_t start_ns, end_ns;
	uint64_t start_count, end_count;
	uint64_t start_cpu_ns[BENCH_ROLES], end_cpu_ns[BENCH_ROLES];
	bool is_open;
};

/* What a side leaves behind. */
struct bench_account {
	/* On lines of its own: the two sides count in shared memory, but not in each
	   other's caches. */
	_Alignas(128) uint64_t messages; /* in all, the warm-up's too */
	uint64_t syscalls;               /* that moved them, or tried to */
	uint64_t sum;                    /* of the words read */
};

struct ipci_histogram;

/* What a case's function works with. */
struct bench_side {
	const struct bench_config *config;
	enum bench_role role;
	int fd;                      /* of a raw variant, else -1 */
	struct ipc_channel *channel; /* of libipc, else NULL */
	unsigned int n_ends; /* the sender has one to each worker; fd and channel are the first */
	int *fds;
	struct ipc_channel **channels;
	bool spins; /* a raw variant asks again and again */
	struct bench_account *account;
	struct bench_window *window;
	struct ipci_histogram *histogram;
	uint64_t *idle_cpu_us;
	uint64_t begin_ns;
};

/*
 * Count the time of a run: the sender calls it between messages, with how many it has
 * sent. The window opens when the warm-up is over.
 *
 * Return: whether to go on.
 */
bool bench_side_goes_on(struct bench_side *side, uint64_t count);
/* The same for who has read the clock already. */
bool bench_side_goes_on_at(struct bench_side *side, uint64_t count, uint64_t now_ns);

/* Note a trip that began at start_ns. Return: whether to go on; *ret_now_ns begins the next. */
bool bench_side_counts_trip(struct bench_side *side, uint64_t start_ns, uint64_t *ret_now_ns);

/* End this process: what failed, with a -errno, is told by the program's one line. */
__attribute__((noreturn)) void bench_side_fail(
	struct bench_side *side, const char *what, int error);

/* For the sender: CPU time of the receiver so far; of all of them where there are several. */
uint64_t bench_side_peer_cpu_ns(const struct bench_side *side);

/* A message's payload, a word in each page set; it lasts as long as the process. */
void *bench_side_payload(struct bench_side *side, size_t size);

/* Words of every page of a received message, added up. */
uint64_t bench_sum_pages(const void *data, size_t size);

/* Add the channels' counters to the account, close them. The sender's flush comes before. */
void bench_side_finish_channels(struct bench_side *side);

/* The sender of a one-way case: post the message, burst by burst, for the run's time; flush;
 * finish. */
void bench_side_post(
	struct bench_side *side, const struct ipc_message *message, unsigned int burst);

struct ipc_channel_options bench_channel_options(const struct bench_config *config);

/* How long libipc spins, as its options say it. */
int32_t bench_spin_us(const struct bench_config *config);

uint64_t bench_now_ns(void);

static inline uint64_t
bench_first_word(const void *data)
{
	uint64_t word;

	/* Not every library aligns what it gives. */
	memcpy(&word, data, sizeof(word));
	return word;
}

#endif
