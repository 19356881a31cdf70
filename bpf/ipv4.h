/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_IPV4_H
#define XDPLB_IPV4_H

#include "csum.h"
#include "packet.h"

#define IPV4_MIN_HEADER	    20
#define IPV4_OFFSET_MASK    0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000

enum ipv4_kind {
	IPV4_KIND_WHOLE,	  /* the transport header starts at p->l4 */
	IPV4_KIND_LATER_FRAGMENT, /* addresses are known, ports are elsewhere */
	IPV4_KIND_MALFORMED,	  /* addresses are known, the rest can't be trusted */
	IPV4_KIND_UNREADABLE,	  /* too short for addresses */
};

/* Fills in addresses and protocol. Judges only what is needed to find the ports:
 * the packet may not be ours to judge. */
static __always_inline enum ipv4_kind parse_ipv4(struct packet *p)
{
	struct iphdr *ip = (void *)(p->eth + 1);

	if ((void *)(ip + 1) > p->end)
		return IPV4_KIND_UNREADABLE;
	p->ipv4 = ip;
	p->source.address = map_ipv4(ip->saddr);
	p->destination.address = map_ipv4(ip->daddr);
	p->source.protocol = ip->protocol;
	p->destination.protocol = ip->protocol;
	p->l3_header_size = ip->ihl * 4;
	p->l3_total_size = bpf_ntohs(ip->tot_len);

	if (ip->version != 4 || p->l3_header_size < IPV4_MIN_HEADER)
		return IPV4_KIND_MALFORMED;
	if (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK))
		return IPV4_KIND_LATER_FRAGMENT;
	p->l4 = (void *)ip + p->l3_header_size;
	return IPV4_KIND_WHOLE;
}

static __always_inline bool is_first_fragment(const struct packet *p)
{
	return p->ipv4->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS);
}

/* A source no packet can honestly have on its way to a VIP (RFC 1122, 3.2.1.3).
 * The VIP itself would send the answer in a circle; loopback talks to itself. */
static __always_inline bool is_bad_source_ipv4(const struct packet *p)
{
	__u32 source = bpf_ntohl(p->ipv4->saddr);

	if (source >= 0xe0000000 || source >> 24 == 0) /* class D, E, broadcast; 0/8 */
		return true;
	return p->ipv4->saddr == p->ipv4->daddr && !is_loopback_ipv4(p->ipv4->saddr);
}

static __always_inline void lower_ttl(struct iphdr *ip)
{
	__be16 before = *(__be16 *)&ip->ttl; /* with the protocol behind it */

	ip->ttl -= 1;
	ip->check = csum_apply(ip->check, csum_change16(before, *(__be16 *)&ip->ttl));
}

#endif
