/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where endpoints are found; reconciler/directory.py writes it and says how it
 * lies. A packet that is nobody's costs one load of a group for each end.
 */
#ifndef XDPLB_DIRECTORY_H
#define XDPLB_DIRECTORY_H

#include "maps.h"
#include "packet.h"

#define EACH_BYTE 0x0101010101010101ULL
#define EACH_TOP  0x8080808080808080ULL

static __always_inline __u64 hash_endpoint(const struct endpoint *endpoint)
{
	const struct address *a = &endpoint->address;
	__u64 low = (__u64)bpf_ntohl(a->words[2]) << 32 | bpf_ntohl(a->words[3]);
	__u64 high = (__u64)bpf_ntohl(a->words[0]) << 32 | bpf_ntohl(a->words[1]);
	__u64 x = low << 32 | (__u32)bpf_ntohs(endpoint->port) << 8 | endpoint->protocol;

	x ^= high * 0xbf58476d1ce4e5b9ULL;
	x ^= (low >> 32) * 0x94d049bb133111ebULL;
	return x * 0x9e3779b97f4a7c15ULL;
}

/* Without a branch for each word: the verifier would follow them all. */
static __always_inline bool is_same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	__u32 difference = a->port ^ b->port;

	difference |= a->protocol ^ b->protocol;
	for (int i = 0; i < 4; i++)
		difference |= a->address.words[i] ^ b->address.words[i];
	return difference == 0;
}

/* The bytes of `tags` that are `tag`, a bit each; a byte behind one that is may be marked
 * too ("determine if a word has a zero byte", Bit Twiddling Hacks), and is looked at. */
static __always_inline __u64 match_tags(__u64 tags, __u8 tag)
{
	__u64 difference = tags ^ EACH_BYTE * tag;

	return (difference - EACH_BYTE) & ~difference & EACH_TOP;
}

/* The place of the lowest byte that is marked, without a loop. */
static __always_inline __u32 find_first(__u64 marks)
{
	__u32 byte = ((marks & -marks) >> 7) * 0x0001020304050607ULL >> 56;

	return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? XDPLB_GROUP_PLACES - 1 - byte : byte;
}

/* The row among those that are marked which is the endpoint's; beyond every row if none is.
 * A global function: two endpoints of one tag in one group are rare. */
__noinline int search_rows(const struct endpoint *endpoint, __u32 key, __u64 marks)
{
	struct group *group = bpf_map_lookup_elem(&directory, &key);

	if (!group || !endpoint)
		return -1;
	for (int i = 0; i < XDPLB_GROUP_PLACES && marks; i++) {
		__u32 row = group->rows[find_first(marks) & (XDPLB_GROUP_PLACES - 1)];
		struct entry *entry = bpf_map_lookup_elem(&endpoints, &row);

		if (entry && is_same_endpoint(&entry->endpoint, endpoint))
			return row;
		marks &= marks - 1;
	}
	return -1;
}

/* What an endpoint is; NULL if it is nothing to us. */
static __always_inline struct entry *find_entry(const struct settings *settings,
						const struct endpoint *endpoint)
{
	__u64 hash = hash_endpoint(endpoint), marks;
	__u32 key = hash >> (settings->directory_shift & 63), row;
	__u8 tag = hash >> 8 | 1; /* never 0 */
	struct group *group = bpf_map_lookup_elem(&directory, &key);
	struct endpoint copy;
	struct entry *entry;

	if (!group)
		return NULL;
	marks = match_tags(*(__u64 *)group->tags, tag);
	if (!marks)
		return NULL;
	row = group->rows[find_first(marks) & (XDPLB_GROUP_PLACES - 1)];
	entry = bpf_map_lookup_elem(&endpoints, &row);
	if (!entry || is_same_endpoint(&entry->endpoint, endpoint))
		return entry;
	copy = *endpoint; /* so that the packet itself can stay in registers */
	row = search_rows(&copy, key, marks & (marks - 1));
	return bpf_map_lookup_elem(&endpoints, &row);
}

#endif
