/* SPDX-License-Identifier: GPL-2.0-only */
/* Incremental checksums: RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). */
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
static __always_inline __u16 csum_apply(__u16 checksum, __u32 change)
{
	__u32 sum = (__u16)~checksum + change;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
