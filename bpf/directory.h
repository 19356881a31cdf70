/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where endpoints are found; reconciler/directory.py writes it and says how it
 * lies. A packet that is nobody's costs one load of a group for each end.
 */
#ifndef XDPLB_DIRECTORY_H
#define XDPLB_DIRECTORY_H

#include "maps.h"
#include "packet.h"
#include "scratch.h"

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
	__u64 difference = load64(&a->address.words[0]) ^ load64(&b->address.words[0]);

	difference |= load64(&a->address.words[2]) ^ load64(&b->address.words[2]);
	difference |= *(const __u32 *)&a->port ^ *(const __u32 *)&b->port;
	return difference == 0;
}

/* Where an endpoint of this hash is at home: places are numbered through all groups. */
static __always_inline __u32 choose_place(__u64 hash, const struct settings *settings)
{
	return hash >> (settings->directory_shift & 63);
}

static __always_inline __u8 make_tag(__u64 hash)
{
	return hash >> 32 | 1; /* never 0 */
}

/* The tags that are this one, a bit each; the one behind may be marked too ("determine if a
 * word has a zero byte", Bit Twiddling Hacks), and is looked at. */
static __always_inline __u64 match_tags(const struct group *group, __u8 tag)
{
	__u64 difference = load64(group->tags) ^ EACH_BYTE * tag;

	return (difference - EACH_BYTE) & ~difference & EACH_TOP;
}

/* The row of the endpoint that is sought, wherever in its group it is; beyond every row if it
 * has none. A global function: hardly anybody has to look for it. */
__noinline int search_row(void)
{
	struct endpoint *endpoint = find_sought();
	__u32 only = 0, key;
	struct settings *now = bpf_map_lookup_elem(&settings, &only);
	struct group *group;
	__u64 hash;

	if (!endpoint || !now)
		return -1;
	hash = hash_endpoint(endpoint);
	key = choose_place(hash, now) / XDPLB_GROUP_PLACES;
	group = bpf_map_lookup_elem(&directory, &key);
	if (!group)
		return -1;
	for (int i = 0; i < XDPLB_GROUP_PLACES; i++) {
		struct entry *entry;

		if (group->tags[i] != make_tag(hash))
			continue;
		entry = bpf_map_lookup_elem(&endpoints, &group->rows[i]);
		if (entry && is_same_endpoint(&entry->endpoint, endpoint))
			return group->rows[i];
	}
	return -1;
}

/* What an endpoint is; NULL if it is nothing to us. */
static __always_inline struct entry *find_entry_slowly(const struct endpoint *endpoint)
{
	struct endpoint *sought = find_sought();
	__u32 row;

	if (!sought)
		return NULL;
	*sought = *endpoint;
	row = search_row();
	return bpf_map_lookup_elem(&endpoints, &row);
}

/* The same, for every packet: who is there is nearly always at home. */
static __always_inline struct entry *find_entry(const struct settings *settings,
						const struct endpoint *endpoint)
{
	__u64 hash = hash_endpoint(endpoint);
	__u32 place = choose_place(hash, settings), key = place / XDPLB_GROUP_PLACES;
	struct group *group = bpf_map_lookup_elem(&directory, &key);
	struct entry *entry;

	if (!group)
		return NULL;
	place %= XDPLB_GROUP_PLACES;
	if (group->tags[place] == make_tag(hash)) {
		/* The row's number is looked up where it lies: a copy on the stack would have
		 * to be stored before it could be loaded. */
		entry = bpf_map_lookup_elem(&endpoints, &group->rows[place]);
		if (!entry || is_same_endpoint(&entry->endpoint, endpoint))
			return entry;
	} else if (!match_tags(group, make_tag(hash))) {
		return NULL;
	}
	return find_entry_slowly(endpoint);
}

#endif
