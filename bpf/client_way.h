/* SPDX-License-Identifier: GPL-2.0-only */
/* The next hop to a client: many clients have few ways, so the ways are remembered by
 * number, and of a client little more than its way's. */
#ifndef XDPLB_CLIENT_WAY_H
#define XDPLB_CLIENT_WAY_H

#include "nexthop.h"

static __always_inline bool is_before(__u32 tick, __u32 end)
{
	return (__s32)(end - tick) > 0;
}

static __always_inline bool is_same_way(const struct nexthop *a, const struct nexthop *b)
{
	__u32 difference = a->ifindex ^ b->ifindex;

	difference |= (a->mtu ^ b->mtu) | (a->flags ^ b->flags);
	for (int i = 0; i < ETH_ALEN; i++)
		difference |= (a->destination_mac[i] ^ b->destination_mac[i]) |
			      (a->source_mac[i] ^ b->source_mac[i]);
	return difference == 0;
}

/* The number in `ways` of a way that was found, or of none. A way keeps its number for as
 * long as somebody may believe in it: who comes to a number that is taken has none. */
static __always_inline __u32 number_way(const struct nexthop *found)
{
	__u64 mac = load64(found->destination_mac); /* and two bytes of the other */
	__u32 number = (mix64(mac ^ found->ifindex) >> 32) % XDPLB_WAYS;
	struct nexthop *way = bpf_map_lookup_elem(&ways, &number);

	if (!way)
		return XDPLB_WAYS;
	if (!is_same_way(way, found)) {
		if (way->expires > bpf_jiffies64())
			return XDPLB_WAYS;
		*way = *found;
	} else if (way->expires < found->expires) {
		way->expires = found->expires;
	}
	return number;
}

/* Notes which way a client's is, in its set's first place that nobody is believed in. The
 * client is the one whose next hop has this place. A global function: twice a second per CPU
 * and client. */
__noinline int note_way(__u32 place, __u32 set_number)
{
	struct nexthop *found = bpf_map_lookup_elem(&client_nexthops, &place);
	struct client_set *set = bpf_map_lookup_elem(&client_ways, &set_number);
	__u32 now = bpf_jiffies64(), number;

	if (!set || !found || found->action != NEXTHOP_REDIRECT)
		return 0;
	number = number_way(found);
	if (number >= XDPLB_WAYS)
		return 0;
	for (int i = 0; i < XDPLB_SET_PLACES; i++) {
		if (is_before(now, set->until[i]) && set->clients[i] != found->address.words[3])
			continue;
		set->clients[i] = found->address.words[3];
		set->until[i] = found->expires;
		set->ways[i] = number;
		return 0;
	}
	return 0;
}

/* The way to a client that `client_ways` knows; NULL if it does not. Many clients have few
 * ways, so a client takes 10 bytes and not a next hop. */
static __always_inline struct nexthop *find_known_way(__be32 client, __u32 place)
{
	struct client_set *set = bpf_map_lookup_elem(&client_ways, &place);
	__u32 now = bpf_jiffies64(), number = XDPLB_WAYS;

	if (!set)
		return NULL;
	for (int i = 0; i < XDPLB_SET_PLACES; i++)
		if (set->clients[i] == client && is_before(now, set->until[i]))
			number = set->ways[i];
	return bpf_map_lookup_elem(&ways, &number);
}

static __always_inline __u32 choose_set(__u32 hash)
{
	return reduce_hash((__u64)hash << 32, XDPLB_CLIENT_SETS);
}

/* Clients share a table that each address finds its place in; the address is kept
 * with the answer, so clients that meet there cost a lookup, not a wrong way. */
static __always_inline struct nexthop *find_client_nexthop(const struct packet *p)
{
	struct address client = read_destination_address(p);
	__u32 hash = hash_address(&client, 0), place = hash % XDPLB_CLIENT_NEXTHOPS;
	struct nexthop *nexthop = NULL;

	if (!p->is_ipv6)
		nexthop = find_known_way(client.words[3], choose_set(hash));
	if (nexthop)
		return nexthop;
	nexthop = bpf_map_lookup_elem(&client_nexthops, &place);
	if (!nexthop)
		return NULL;
	refresh_nexthop(p, nexthop, &client);
	if (!p->is_ipv6)
		note_way(place, choose_set(hash));
	return nexthop;
}

#endif
