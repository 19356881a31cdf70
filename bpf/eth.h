/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_ETH_H
#define XDPLB_ETH_H

#include "maps.h"
#include "packet.h"

enum frame_kind {
	FRAME_KIND_IPV4,
	FRAME_KIND_IPV6,
	FRAME_KIND_ICMP,
	FRAME_KIND_ICMPV6,
	FRAME_KIND_OTHER,
};

/* A VLAN tag behind the MACs or behind another tag (IEEE 802.1Q, 802.1ad). */
struct vlan_tag {
	__be16 control;
	__be16 next_protocol;
};

#define MAX_TAGS 2

/* In halfwords: struct ethhdr is packed, so a memcpy would go byte by byte. */
static __always_inline void copy_mac(void *to, const void *from)
{
	__u16 *halves = to;
	const __u16 *source = from;

	halves[0] = source[0];
	halves[1] = source[1];
	halves[2] = source[2];
}

static __always_inline void swap_macs(struct ethhdr *eth, const struct ethhdr *from)
{
	__u8 source[ETH_ALEN], destination[ETH_ALEN];

	copy_mac(source, from->h_source);
	copy_mac(destination, from->h_dest);
	copy_mac(eth->h_dest, source);
	copy_mac(eth->h_source, destination);
}

/* In words: struct ethhdr is packed, so a memcpy would go byte by byte. */
static __always_inline void write_macs(struct ethhdr *eth, const struct nexthop *nexthop)
{
	void *to = eth;

	*(__u64 *)to = load64(nexthop->destination_mac);
	*(__u32 *)(to + 8) = *(const __u32 *)(nexthop->source_mac + 2);
}

static __always_inline bool is_tag(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* Says which way a frame goes, from its first bytes, and in `l2_size` where the
 * network header starts. */
static __always_inline enum frame_kind sort_frame(struct xdp_md *ctx, __u32 *l2_size)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *cursor = eth + 1;
	__be16 protocol;
	__u8 *l3;

	if (cursor > end)
		return FRAME_KIND_OTHER;
	protocol = eth->h_proto;
	for (int i = 0; i < MAX_TAGS && is_tag(protocol); i++) {
		struct vlan_tag *tag = cursor;

		cursor = tag + 1;
		if (cursor > end)
			return FRAME_KIND_OTHER;
		protocol = tag->next_protocol;
	}
	*l2_size = cursor - (void *)eth;
	l3 = cursor;
	if (cursor + sizeof(struct iphdr) > end) /* the shorter of the two */
		return FRAME_KIND_OTHER;
	if (protocol == bpf_htons(ETH_P_IP))
		return l3[9] == IPPROTO_ICMP ? FRAME_KIND_ICMP : FRAME_KIND_IPV4;
	if (protocol == bpf_htons(ETH_P_IPV6))
		return l3[6] == IPPROTO_ICMPV6 ? FRAME_KIND_ICMPV6 : FRAME_KIND_IPV6;
	return FRAME_KIND_OTHER;
}

/* Starts a packet's journey; false where the data plane has no settings yet. */
static __always_inline bool begin_packet(struct packet *p, struct xdp_md *ctx, __u32 l2_size)
{
	__u32 only = 0;

	p->ctx = ctx;
	p->end = (void *)(long)ctx->data_end;
	p->eth = (void *)(long)ctx->data;
	p->l2_size = l2_size;
	p->settings = bpf_map_lookup_elem(&settings, &only);
	return p->settings && (void *)(p->eth + 1) <= p->end;
}

#endif
