/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_ETH_H
#define XDPLB_ETH_H

#include "maps.h"
#include "packet.h"

enum frame_kind {
	FRAME_KIND_IPV4,
	FRAME_KIND_IPV6,
	FRAME_KIND_ICMP, /* of either family */
	FRAME_KIND_OTHER,
};

/* Says which way a frame goes, from its first bytes. */
static __always_inline enum frame_kind sort_frame(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ipv4 = (void *)(eth + 1);
	struct ipv6hdr *ipv6 = (void *)(eth + 1);

	if ((void *)(ipv4 + 1) > end) /* the shorter of the two */
		return FRAME_KIND_OTHER;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return ipv4->protocol == IPPROTO_ICMP ? FRAME_KIND_ICMP : FRAME_KIND_IPV4;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return ipv6->nexthdr == IPPROTO_ICMPV6 ? FRAME_KIND_ICMP : FRAME_KIND_IPV6;
	return FRAME_KIND_OTHER;
}

/* Starts a packet's journey; false where the data plane has no settings yet. */
static __always_inline bool begin_packet(struct packet *p, struct xdp_md *ctx)
{
	__u32 only = 0;

	p->ctx = ctx;
	p->end = (void *)(long)ctx->data_end;
	p->eth = (void *)(long)ctx->data;
	p->settings = bpf_map_lookup_elem(&settings, &only);
	return p->settings && (void *)(p->eth + 1) <= p->end;
}

#endif
