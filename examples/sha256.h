/* SPDX-License-Identifier: MIT */
#ifndef SHA256_H
#define SHA256_H

/* SHA-256, as in FIPS 180-4: begin with sha256_init(), add bytes, finish once. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SHA256_SIZE  32
#define SHA256_BLOCK 64

struct sha256 {
	uint32_t state[8];
	uint64_t size; /* of all that was added */
	unsigned char rest[SHA256_BLOCK];
};

static const uint32_t sha256_constants[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5,
	0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
	0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
	0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
	0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624,
	0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3,
	0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t
sha256_rotate(uint32_t word, int bits)
{
	return word >> bits | word << (32 - bits);
}

static void
sha256_schedule(const unsigned char *block, uint32_t words[64])
{
	int i;

	for (i = 0; i < 16; i++, block += 4)
		words[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 |
		           (uint32_t)block[2] << 8 | block[3];
	for (; i < 64; i++) {
		uint32_t a = words[i - 15], b = words[i - 2];

		words[i] = words[i - 16] + words[i - 7] +
		           (sha256_rotate(a, 7) ^ sha256_rotate(a, 18) ^ a >> 3) +
		           (sha256_rotate(b, 17) ^ sha256_rotate(b, 19) ^ b >> 10);
	}
}

static void
sha256_mix(uint32_t state[8], const unsigned char *block)
{
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	uint32_t words[64], t, u;
	int i;

	sha256_schedule(block, words);
	for (i = 0; i < 64; i++) {
		t = h + sha256_constants[i] + words[i] + ((e & f) ^ (~e & g)) +
		    (sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25));
		u = ((a & b) ^ (a & c) ^ (b & c)) +
		    (sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22));
		h = g, g = f, f = e, e = d + t;
		d = c, c = b, b = a, a = t + u;
	}
	state[0] += a, state[1] += b, state[2] += c, state[3] += d;
	state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void
sha256_init(struct sha256 *hash)
{
	*hash = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
					0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

static void
sha256_add(struct sha256 *hash, const unsigned char *bytes, size_t size)
{
	size_t have = hash->size % SHA256_BLOCK, part;

	hash->size += size;
	if (have) {
		part = size < SHA256_BLOCK - have ? size : SHA256_BLOCK - have;
		memcpy(hash->rest + have, bytes, part);
		if (have + part < SHA256_BLOCK)
			return;
		sha256_mix(hash->state, hash->rest);
		bytes += part;
		size -= part;
	}
	for (; size >= SHA256_BLOCK; bytes += SHA256_BLOCK, size -= SHA256_BLOCK)
		sha256_mix(hash->state, bytes);
	memcpy(hash->rest, bytes, size);
}

static void
sha256_finish(struct sha256 *hash, unsigned char ret_digest[SHA256_SIZE])
{
	/* A bit, then zeros up to the size in bits, which ends a block. */
	unsigned char end[SHA256_BLOCK + 8] = {0x80};
	size_t pad = SHA256_BLOCK - (hash->size + 8) % SHA256_BLOCK;
	uint64_t bits = hash->size * 8;
	int i;

	for (i = 0; i < 8; i++)
		end[pad + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
	sha256_add(hash, end, pad + 8);
	for (i = 0; i < SHA256_SIZE; i++)
		ret_digest[i] = (unsigned char)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

#endif
