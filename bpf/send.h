/* SPDX-License-Identifier: GPL-2.0-only */
/* The ends of a journey: which way out, and what the frame needs for it. */
#ifndef XDPLB_SEND_H
#define XDPLB_SEND_H

#include "ip.h"
#include "nexthop.h"
#include "packet.h"
#include "toobig.h"

/* The verdicts of one direction, by the way the packet takes. */
struct endings {
	enum verdict transmit, redirect, stack, local;
};

static __always_inline struct endings list_forward_endings(void)
{
	return (struct endings){VERDICT_FORWARD_TRANSMIT, VERDICT_FORWARD_REDIRECT,
				VERDICT_FORWARD_STACK, VERDICT_FORWARD_LOCAL};
}

static __always_inline struct endings list_reply_endings(void)
{
	return (struct endings){VERDICT_REPLY_TRANSMIT, VERDICT_REPLY_REDIRECT, VERDICT_REPLY_STACK,
				VERDICT_REPLY_LOCAL};
}

/* Whether the verdict ends the journey before anything is rewritten. */
static __always_inline bool is_end(enum verdict verdict)
{
	return verdict == VERDICT_PASS_TTL || verdict == VERDICT_DROP_NO_ROUTE;
}

static __always_inline enum verdict choose_ending(const struct packet *p,
						  const struct nexthop *nexthop,
						  struct endings endings)
{
	bool is_expired = read_ttl(p) <= 1;

	switch (choose_action(p, nexthop)) {
	case NEXTHOP_TRANSMIT:
		return is_expired ? VERDICT_PASS_TTL : endings.transmit;
	case NEXTHOP_REDIRECT:
		return is_expired ? VERDICT_PASS_TTL : endings.redirect;
	case NEXTHOP_STACK:
		return is_expired ? VERDICT_PASS_TTL : endings.stack;
	case NEXTHOP_LOCAL:
		return endings.local;
	case NEXTHOP_UNKNOWN:
	case NEXTHOP_NONE:
		break;
	}
	return VERDICT_DROP_NO_ROUTE;
}

/* Sends a packet that was rewritten for its ending: Ethernet and TTL, where it leaves without
 * the stack's help. */
static __always_inline enum verdict send(struct packet *p, const struct nexthop *nexthop,
					 enum verdict verdict, struct endings endings)
{
	if (verdict != endings.transmit && verdict != endings.redirect)
		return verdict;
	p->egress = nexthop->ifindex;
	lower_ttl(p);
	write_macs(p->eth, nexthop);
	return verdict;
}

/* Tells the sender which size would fit, out of the interface where the packet came in. */
static __always_inline enum verdict tell_too_big(struct packet *p, __u32 mtu)
{
	__u32 ingress = p->ctx->ingress_ifindex;
	enum nexthop_action back = choose_action_back(ingress);

	if (p->l2_size != UNTAGGED || (back != NEXTHOP_TRANSMIT && back != NEXTHOP_REDIRECT))
		return VERDICT_DROP_NO_NEXTHOP;
	p->egress = ingress;
	if (!(p->is_ipv6 ? tell_too_big_ipv6(p->ctx, mtu) : tell_too_big_ipv4(p->ctx, mtu)))
		return VERDICT_DROP_NO_ROOM;
	return back == NEXTHOP_TRANSMIT ? VERDICT_TOO_BIG_TRANSMIT : VERDICT_TOO_BIG_REDIRECT;
}

/* Whether a packet is too big for its way and may not be split either. Its sender is to be
 * told by us: the stack would quote the packet as we send it on, which its sender has never
 * seen. */
static __always_inline bool is_unsplittable(const struct packet *p, const struct nexthop *nexthop)
{
	return nexthop->action == NEXTHOP_REDIRECT && p->l3_total_size > nexthop->mtu &&
	       (p->is_ipv6 || p->ipv4->frag_off & bpf_htons(IPV4_DONT_FRAGMENT));
}

/* The verdict on a packet that only XDP can send: the stack would take it for its own. */
static __always_inline enum verdict choose_ending_by_xdp(struct packet *p,
							 const struct nexthop *nexthop)
{
	p->egress = nexthop->ifindex;
	switch (choose_exit(p, nexthop)) {
	case NEXTHOP_TRANSMIT:
		return VERDICT_FORWARD_TRANSMIT;
	case NEXTHOP_REDIRECT:
		return VERDICT_FORWARD_REDIRECT;
	case NEXTHOP_UNKNOWN:
	case NEXTHOP_STACK:
	case NEXTHOP_LOCAL:
	case NEXTHOP_NONE:
		break;
	}
	return VERDICT_DROP_NO_NEXTHOP;
}

#endif
