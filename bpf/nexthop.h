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
static __always_inline enum nexthop_action choose_device_action(__u32 ingress, __u32 egress,
								__u32 flags)
{
	if (egress == ingress && flags & INTERFACE_TRANSMITS)
		return NEXTHOP_TRANSMIT;
	return flags & INTERFACE_REDIRECTS ? NEXTHOP_REDIRECT : NEXTHOP_STACK;
}

/* How a frame goes back where it came in. */
static __always_inline enum nexthop_action choose_action_back(__u32 ingress)
{
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &ingress);

	return choose_device_action(ingress, ingress, interface ? interface->flags : 0);
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
	return choose_device_action(ingress, nexthop->ifindex, nexthop->flags);
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
