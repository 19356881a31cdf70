/* SPDX-License-Identifier: GPL-2.0-only */
/* Checksums: what a change does to one (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')), and
 * sums over words. */
#ifndef XDPLB_CSUM_H
#define XDPLB_CSUM_H

#include "abi.h"

/* What turns the sum over `before` into the sum over `after`; add freely, fold once. */
static __always_inline __u32 csum_change16(__be16 before, __be16 after)
{
	return (__u16)~before + (__u32)after;
}

static __always_inline __u32 csum_change32(__be32 before, __be32 after)
{
	return csum_change16(before & 0xffff, after & 0xffff) +
	       csum_change16(before >> 16, after >> 16);
}

static __always_inline __u32 csum_change_address(const struct address *before,
						 const struct address *after)
{
	__u32 change = 0;

	for (int i = 0; i < 4; i++)
		change += csum_change32(before->words[i], after->words[i]);
	return change;
}

/* Folding twice leaves no carry: the sum of fewer than 2^15 16-bit words is below 2^31. */
static __always_inline __u16 fold_sum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u16 csum_apply(__u16 checksum, __u32 change)
{
	return ~fold_sum((__u16)~checksum + change);
}

/* A sum of 32-bit words as one of 16-bit words, not folded to the end. */
static __always_inline __u32 fold_words(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffff) + (sum >> 16);
}

/* The ones' complement sum over a multiple of 4 bytes. Not for what lies in struct packet:
 * an index that is no constant when the compiler first looks keeps it all out of registers. */
static __always_inline __u32 sum_words(const void *start, __u32 bytes)
{
	const __u32 *words = start;
	__u64 sum = 0;

	for (__u32 i = 0; i < bytes / 4; i++)
		sum += words[i];
	return fold_words(sum);
}

static __always_inline __u32 sum_address(const struct address *a)
{
	return fold_words((__u64)a->words[0] + a->words[1] + a->words[2] + a->words[3]);
}

#endif
