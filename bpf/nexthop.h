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

#define AF_INET		 2
#define LOOPBACK_IFINDEX 1 /* include/net/flow.h: the same in every namespace */

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

/* Asks the kernel for the way to nexthop->address. A call of its own: it runs
 * twice a second per CPU and next hop, and its parameter block would otherwise
 * take stack from every packet. */
static __noinline int resolve_nexthop(struct xdp_md *ctx, struct nexthop *nexthop, __be32 source,
				      __u32 ticks_per_second)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.ifindex = ctx->ingress_ifindex,
		.ipv4_src = source,
		.ipv4_dst = nexthop->address.words[3],
		.tot_len = 1, /* with 0 the kernel leaves mtu_result empty (net/core/filter.c) */
	};
	long answer = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	enum nexthop_action action = judge_fib(answer);
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &fib.ifindex);
	__u32 life = ticks_per_second / 2;

	if (action == NEXTHOP_STACK) /* soon resolved: ask again soon */
		life = ticks_per_second / 64;
	nexthop->action = action;
	nexthop->ifindex = fib.ifindex;
	nexthop->flags = interface ? interface->flags : 0;
	nexthop->mtu = fib.mtu_result;
	__builtin_memcpy(nexthop->destination_mac, fib.dmac, ETH_ALEN);
	__builtin_memcpy(nexthop->source_mac, fib.smac, ETH_ALEN);
	nexthop->expires = bpf_jiffies64() + life;
	return 0;
}

static __always_inline void refresh_nexthop(const struct packet *p, struct nexthop *nexthop,
					    const struct address *address)
{
	if (nexthop->expires > bpf_jiffies64() && is_same_address(&nexthop->address, address))
		return;
	nexthop->address = *address;
	resolve_nexthop(p->ctx, nexthop, p->ipv4->saddr, p->settings->ticks_per_second);
}

/* Returns NULL only for an id beyond the map, which no slot holds. */
static __always_inline struct nexthop *find_backend_nexthop(const struct packet *p, __u32 id,
							    const struct backend *backend)
{
	struct nexthop *nexthop = bpf_map_lookup_elem(&backend_nexthops, &id);

	if (nexthop)
		refresh_nexthop(p, nexthop, &backend->address);
	return nexthop;
}

/* Clients share a table that each address finds its place in; the address is kept
 * with the answer, so clients that meet there cost a lookup, not a wrong way. */
static __always_inline struct nexthop *find_client_nexthop(const struct packet *p)
{
	const struct address *client = &p->destination.address;
	__u32 place = hash_address(client, 0) % XDPLB_CLIENT_NEXTHOPS;
	struct nexthop *nexthop = bpf_map_lookup_elem(&client_nexthops, &place);

	if (nexthop)
		refresh_nexthop(p, nexthop, client);
	return nexthop;
}

/* What to do with this packet. What is remembered is the same for all of them; the
 * packet may be too big for the way, or have come in where it shall leave. A device that
 * takes no frames from XDP (a veth whose peer has no NAPI, a driver without
 * ndo_xdp_xmit) would lose them silently. */
static __always_inline enum nexthop_action choose_action(const struct packet *p,
							 const struct nexthop *nexthop)
{
	if (nexthop->action != NEXTHOP_REDIRECT)
		return nexthop->action;
	if (p->l3_total_size > nexthop->mtu)
		return NEXTHOP_STACK; /* it fragments, or tells the sender */
	if (p->ctx->ingress_ifindex == nexthop->ifindex && nexthop->flags & INTERFACE_TRANSMITS)
		return NEXTHOP_TRANSMIT;
	return nexthop->flags & INTERFACE_REDIRECTS ? NEXTHOP_REDIRECT : NEXTHOP_STACK;
}

#endif
