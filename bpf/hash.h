/* SPDX-License-Identifier: GPL-2.0-only */
/* The keyed hash that chooses slots; reconciler/flowhash.py computes the same. */
#ifndef XDPLB_HASH_H
#define XDPLB_HASH_H

#include "packet.h"

/* A bijection of 64 bits in which every input bit reaches every output bit:
 * the finaliser of SplitMix64 (Steele et al. 2014), Stafford's variant 13. */
static __always_inline __u64 mix64(__u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* The branch keeps IPv4 at one round; both sides are the same function of the
 * address, so a table never depends on how a packet came to be parsed. */
static __always_inline __u64 hash_address_port(const struct address *address, __be16 port,
					       __u64 seed)
{
	__u64 low = (__u64)bpf_ntohl(address->words[2]) << 32 | bpf_ntohl(address->words[3]);
	__u64 high = (__u64)bpf_ntohl(address->words[0]) << 32 | bpf_ntohl(address->words[1]);

	if (high == 0 && low >> 32 == 0xffff) /* ::ffff:a.b.c.d */
		return mix64(seed ^ (low << 32 | bpf_ntohs(port)));
	return mix64(mix64(mix64(seed ^ high) ^ low) ^ bpf_ntohs(port));
}

static __always_inline __u32 hash_address(const struct address *address, __u64 seed)
{
	return hash_address_port(address, 0, seed) >> 32;
}

/* Maps a hash onto [0, size) without a division (Lemire 2019, "Fast random integer
 * generation in an interval"). */
static __always_inline __u32 reduce_hash(__u64 hash, __u32 size)
{
	return ((hash >> 32) * size) >> 32;
}

#endif
