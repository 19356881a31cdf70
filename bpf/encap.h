/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tunnels: the whole packet behind a new header, in all mixes of families.
 *
 *   ipip  IP in IP (RFC 2003, RFC 2473, RFC 4213)
 *   gue   the same in UDP: GUE variant 1, which has no header of its own
 *         (draft-ietf-intarea-gue, 4; Linux: fou ... gue)
 *
 * Receivers spread load over their queues by a hash of the outer header, so the flow's
 * hash is in it: in the UDP source port, in the IPv6 flow label, and, where lb.yaml
 * gives a prefix for it, in the outer source address.
 */
#ifndef XDPLB_ENCAP_H
#define XDPLB_ENCAP_H

#include "csum.h"
#include "eth.h"
#include "ip.h"
#include "l4.h"
#include "nexthop.h"
#include "packet.h"

#define TUNNEL_TTL     64
#define GUE_FIRST_PORT 49152 /* RFC 6335: the dynamic ports */

/* What the outer header is made of, beside the next hop's addresses. */
struct tunnel {
	__u32 hash;	  /* of the flow */
	__u32 hosts_mask; /* bits of the source that the hash fills */
	__u32 overhead;	  /* bytes, of all outer headers */
	__u32 inner_size; /* bytes, from the inner IP header on */
	__u32 inner_sum;  /* ones' complement sum of these bytes; 0 where it isn't known */
	__be16 gue_port;  /* 0: ipip */
	__u8 traffic_class;
	__u8 inner_protocol; /* IPPROTO_IPIP or IPPROTO_IPV6 */
};

/* The last word of the outer source. */
static __always_inline __be32 choose_source(const struct tunnel *tunnel,
					    const struct nexthop *nexthop)
{
	return nexthop->tunnel_source.words[3] | bpf_htonl(tunnel->hash & tunnel->hosts_mask);
}

static __always_inline __u32 measure_tunnel(const struct tunnel *tunnel,
					    const struct nexthop *nexthop)
{
	__u32 size = nexthop->tunnel_family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	return tunnel->gue_port ? size + sizeof(struct udphdr) : size;
}

/* The sum over a packet without walking it. An IPv4 header sums to 0xffff, and so does
 * what a transport checksum covers; the pseudo header, which it covers without being in
 * the packet, is taken off. A wrong inner checksum makes a wrong outer one, and the
 * receiver drops the packet just as its owner would have. */
static __always_inline __u32 sum_packet(const struct packet *p)
{
	__u32 l4_size = p->l3_total_size - p->l3_header_size;
	struct address source = read_source_address(p);
	struct address destination = read_destination_address(p);
	__u32 pseudo = sum_address(&source) + sum_address(&destination);
	__u32 header = 0xffff;

	/* A datagram that has no checksum, or one that ends before its packet does. */
	if (!is_tcp(p) &&
	    (*p->l4_checksum == 0 || ((struct udphdr *)p->l4)->len != bpf_htons(l4_size & 0xffff)))
		return 0;
	if (p->is_ipv6) {
		if (p->l3_header_size != sizeof(struct ipv6hdr))
			return 0;
		header = sum_words(p->ipv6, sizeof(struct ipv6hdr));
	}
	/* The words that say "IPv4, mapped" add 0xffff each, which is nothing. */
	pseudo += bpf_htons(p->protocol) + bpf_htons(l4_size & 0xffff);
	return fold_sum(header) + (__u16)~fold_sum(pseudo);
}

/* In whole words, which are summed as they are written: to load a word whose parts have
 * just been stored makes the CPU wait until the stores are done. */
static __always_inline void write_outer_ipv4(struct iphdr *ip, const struct tunnel *tunnel,
					     const struct nexthop *nexthop, __u32 size)
{
	__u32 protocol = tunnel->gue_port ? IPPROTO_UDP : tunnel->inner_protocol;
	__be32 *words = (__be32 *)ip;
	__be32 first = bpf_htonl(0x45U << 24 | (__u32)tunnel->traffic_class << 16 | size);
	__be32 fragment = bpf_htonl(IPV4_DONT_FRAGMENT);
	__be32 ttl = bpf_htonl(TUNNEL_TTL << 24 | protocol << 16);
	__be32 source = choose_source(tunnel, nexthop);
	__be32 destination = nexthop->address.words[3];

	words[0] = first;
	words[1] = fragment;
	words[2] = ttl;
	words[3] = source;
	words[4] = destination;
	ip->check = ~fold_sum(fold_words((__u64)first + fragment + ttl + source + destination));
}

static __always_inline void write_outer_ipv6(struct ipv6hdr *ip, const struct tunnel *tunnel,
					     const struct nexthop *nexthop, __u32 size)
{
	const struct address *source = &nexthop->tunnel_source;
	__be32 *words = (__be32 *)ip;

	words[0] =
		bpf_htonl(6U << 28 | (__u32)tunnel->traffic_class << 20 | (tunnel->hash & 0xfffff));
	ip->payload_len = bpf_htons(size - sizeof(*ip));
	ip->nexthdr = tunnel->gue_port ? IPPROTO_UDP : tunnel->inner_protocol;
	ip->hop_limit = TUNNEL_TTL;
	words[2] = source->words[0];
	words[3] = source->words[1];
	words[4] = source->words[2];
	words[5] = choose_source(tunnel, nexthop);
	__builtin_memcpy(&ip->daddr, &nexthop->address, 16);
}

static __always_inline void write_udp(struct udphdr *udp, const struct tunnel *tunnel,
				      const struct nexthop *nexthop)
{
	__be16 size = bpf_htons(sizeof(*udp) + tunnel->inner_size);
	__be16 port = bpf_htons(GUE_FIRST_PORT | (tunnel->hash & 0x3fff));
	const struct address *source = &nexthop->tunnel_source;
	__u16 check;

	udp->source = port;
	udp->dest = tunnel->gue_port;
	udp->len = size;
	udp->check = 0;
	if (!tunnel->inner_sum)
		return;
	/* The length is in the pseudo header too. */
	check = ~fold_sum(fold_words((__u64)source->words[0] + source->words[1] + source->words[2] +
				     choose_source(tunnel, nexthop)) +
			  sum_address(&nexthop->address) + bpf_htons(IPPROTO_UDP) + size + size +
			  port + tunnel->gue_port + tunnel->inner_sum);
	udp->check = check ? check : 0xffff;
}

/* Copies the Ethernet header with all its tags to where the frame starts now. Whole
 * words, read before any is written: the two places may overlap. */
static __always_inline bool move_l2(void *to, __u32 by, const void *end)
{
	const void *from = to + (by & 63);
	__u64 first, second;
	__u32 third;
	__u16 last;

	if (from + UNTAGGED + MAX_TAGS * sizeof(struct vlan_tag) > end)
		return false; /* it can't be: the network header is behind */
	first = load64(from);
	second = load64(from + 8);
	third = *(const __u32 *)(from + 16);
	last = *(const __u16 *)(from + 20);
	*(__u64 *)to = first;
	*(__u64 *)(to + 8) = second;
	*(__u32 *)(to + 16) = third;
	*(__u16 *)(to + 20) = last;
	return true;
}

/* Puts the outer header before the packet, behind the tags that it came with, and
 * addresses the frame to the next hop. Returns false, and leaves the packet alone, where
 * there is no room. */
static __always_inline int encapsulate(struct xdp_md *ctx, __u32 l2_size,
				       const struct tunnel *tunnel, const struct nexthop *nexthop)
{
	__u32 overhead = tunnel->overhead;
	void *eth, *end, *l3;
	__be16 *protocol;

	if (bpf_xdp_adjust_head(ctx, -(int)overhead))
		return false;
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	l3 = find_behind_tags(eth, l2_size);
	protocol = l3 - sizeof(*protocol);
	if (eth + sizeof(struct ethhdr) > end ||
	    l3 + sizeof(struct ipv6hdr) + sizeof(struct udphdr) > end)
		return false; /* it can't be: the inner headers are behind */
	if (l2_size != UNTAGGED && !move_l2(eth, overhead, end))
		return false;
	write_macs(eth, nexthop);
	if (nexthop->tunnel_family == 4) {
		*protocol = bpf_htons(ETH_P_IP);
		write_outer_ipv4(l3, tunnel, nexthop, overhead + tunnel->inner_size);
		l3 += sizeof(struct iphdr);
	} else {
		*protocol = bpf_htons(ETH_P_IPV6);
		write_outer_ipv6(l3, tunnel, nexthop, overhead + tunnel->inner_size);
		l3 += sizeof(struct ipv6hdr);
	}
	if (tunnel->gue_port)
		write_udp(l3, tunnel, nexthop);
	return true;
}

#endif
