/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way to an address, remembered per CPU for half a second: no FIB lookup per
 * packet, and a changed route or neighbour is followed within a second, with or
 * without a controller.
 */
#ifndef XDPLB_NEXTHOP_H
#define XDPLB_NEXTHOP_H

#include "hash.h"
#include "maps.h"
#include "packet.h"
#include "scratch.h"

#define AF_INET		 2
#define AF_INET6	 10
#define LOOPBACK_IFINDEX 1 /* include/net/flow.h: the same in every namespace */

/* How a frame that came in by `ingress` leaves by `egress`, whose flags these are. A
 * device that takes no frames from XDP (a veth whose peer has no NAPI, a driver without
 * ndo_xdp_xmit) would lose them silently. */
static __always_inline enum nexthop_action choose_device(__u32 ingress, __u32 egress, __u32 flags)
{
	if (egress == ingress && flags & INTERFACE_TRANSMITS)
		return NEXTHOP_TRANSMIT;
	return flags & INTERFACE_REDIRECTS ? NEXTHOP_REDIRECT : NEXTHOP_STACK;
}

/* How a frame goes back where it came in. */
static __always_inline enum nexthop_action choose_way_back(__u32 ingress)
{
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &ingress);

	return choose_device(ingress, ingress, interface ? interface->flags : 0);
}

static __always_inline enum nexthop_action judge_fib(long answer)
{
	switch (answer) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		return NEXTHOP_REDIRECT;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return NEXTHOP_NONE;
	case BPF_FIB_LKUP_RET_NOT_FWDED:    /* an address of this machine */
	case BPF_FIB_LKUP_RET_FWD_DISABLED: /* so it can only be for this machine */
		return NEXTHOP_LOCAL;
	default: /* no neighbour yet, or a tunnel route: the stack resolves it */
		return NEXTHOP_STACK;
	}
}

/* What is to be known of the egress interface: what it can do, and the source of a
 * tunnel that leaves by it, which is lb.yaml's or the interface's own. */
static __always_inline void note_egress(struct nexthop *nexthop, const struct settings *settings)
{
	struct interface *egress = bpf_map_lookup_elem(&interfaces, &nexthop->ifindex);
	bool is_ipv4 = is_mapped_ipv4(&nexthop->address);

	nexthop->flags = egress ? egress->flags : 0;
	nexthop->tunnel_source =
		is_ipv4 ? settings->tunnel_source_ipv4 : settings->tunnel_source_ipv6;
	if (is_nobody(&nexthop->tunnel_source) && egress)
		nexthop->tunnel_source = is_ipv4 ? egress->ipv4 : egress->ipv6;
	nexthop->tunnel_family = is_ipv4 ? 4 : 6;
	if (is_nobody(&nexthop->tunnel_source))
		nexthop->tunnel_family = 0;
}

/* Where the kernel is asked about the way from one address to another. */
static __always_inline void ask_fib(struct bpf_fib_lookup *fib, const struct address *from,
				    const struct address *to)
{
	if (is_mapped_ipv4(to)) {
		fib->family = AF_INET;
		fib->ipv4_dst = to->words[3];
		if (is_mapped_ipv4(from))
			fib->ipv4_src = from->words[3];
	} else {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_dst, to, sizeof(*to));
		if (!is_mapped_ipv4(from))
			__builtin_memcpy(fib->ipv6_src, from, sizeof(*from));
	}
}

/* The kernel leaves a router's address where the destination's was. */
static __always_inline bool is_through_gateway(const struct bpf_fib_lookup *fib,
					       const struct address *to)
{
	struct address found;

	if (is_mapped_ipv4(to))
		return fib->family != AF_INET || fib->ipv4_dst != to->words[3];
	__builtin_memcpy(&found, fib->ipv6_dst, sizeof(found));
	return !is_same_address(&found, to);
}

/* Asks the kernel for the way from way->source to way->nexthop.address, and notes it
 * there. A global function: it runs twice a second per CPU and next hop. */
__noinline int resolve_nexthop(struct xdp_md *ctx)
{
	struct way_query *way = find_way();
	struct bpf_fib_lookup *fib;
	struct nexthop *nexthop;
	enum nexthop_action action;
	struct settings *now;
	__u32 only = 0, life;
	long answer;

	now = bpf_map_lookup_elem(&settings, &only);
	if (!now || !way)
		return 0;
	fib = &way->fib;
	nexthop = &way->nexthop;
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = ctx->ingress_ifindex;
	fib->tot_len = 1; /* with 0 the kernel leaves mtu_result empty (net/core/filter.c) */
	ask_fib(fib, &way->source, &nexthop->address);
	answer = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
	action = judge_fib(answer);
	life = now->ticks_per_second / 2;
	if (action == NEXTHOP_STACK) /* soon resolved: ask again soon */
		life = now->ticks_per_second / 64;
	nexthop->action = action;
	nexthop->ifindex = fib->ifindex;
	nexthop->mtu = fib->mtu_result;
	nexthop->is_gateway = is_through_gateway(fib, &nexthop->address);
	__builtin_memcpy(nexthop->destination_mac, fib->dmac, ETH_ALEN);
	__builtin_memcpy(nexthop->source_mac, fib->smac, ETH_ALEN);
	note_egress(nexthop, now);
	nexthop->expires = bpf_jiffies64() + life;
	return 0;
}

static __always_inline void refresh_nexthop(const struct packet *p, struct nexthop *nexthop,
					    const struct address *address)
{
	struct way_query *way;

	if (nexthop->expires > bpf_jiffies64() && is_same_address(&nexthop->address, address))
		return;
	way = find_way();
	if (!way)
		return;
	way->nexthop.address = *address;
	way->source = read_source_address(p);
	resolve_nexthop(p->ctx);
	*nexthop = way->nexthop;
}

/* Returns NULL only for an id beyond the map, which no slot holds. */
static __always_inline struct nexthop *find_backend_nexthop(const struct packet *p, const __u32 *id,
							    const struct backend *backend)
{
	struct nexthop *nexthop = bpf_map_lookup_elem(&backend_nexthops, id);

	if (nexthop)
		refresh_nexthop(p, nexthop, &backend->address);
	return nexthop;
}

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

/* In words: struct ethhdr is packed, so a memcpy would go byte by byte. */
static __always_inline void write_macs(struct ethhdr *eth, const struct nexthop *nexthop)
{
	void *to = eth;

	*(__u64 *)to = load64(nexthop->destination_mac);
	*(__u32 *)(to + 8) = *(const __u32 *)(nexthop->source_mac + 2);
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

/* What XDP itself can do with this packet, whatever its size. What is remembered is the
 * same for all packets; how one leaves depends on where it came in. A tagged frame goes
 * out where it came in, with its tags; elsewhere another tag would be due. */
static __always_inline enum nexthop_action choose_exit(const struct packet *p,
						       const struct nexthop *nexthop)
{
	__u32 ingress = p->ctx->ingress_ifindex;

	if (nexthop->action != NEXTHOP_REDIRECT)
		return nexthop->action;
	if (p->l2_size != UNTAGGED && nexthop->ifindex != ingress)
		return NEXTHOP_STACK;
	return choose_device(ingress, nexthop->ifindex, nexthop->flags);
}

/* The same for a packet that the stack may take on: it fragments what is too big, or
 * tells the sender. */
static __always_inline enum nexthop_action choose_action(const struct packet *p,
							 const struct nexthop *nexthop)
{
	if (nexthop->action == NEXTHOP_REDIRECT && p->l3_total_size > nexthop->mtu)
		return NEXTHOP_STACK;
	return choose_exit(p, nexthop);
}

#endif
