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

#define TUNNEL_TTL	   64
#define GUE_FIRST_PORT	   49152 /* RFC 6335: the dynamic ports */
#define IPV4_DONT_FRAGMENT 0x4000

/* What the outer header is made of. */
struct tunnel {
	struct address source;
	struct address destination;
	__u32 hash;
	__u32 inner_size; /* bytes, from the inner IP header on */
	__u32 inner_sum;  /* ones' complement sum of these bytes; 0 where it isn't known */
	__be16 gue_port;  /* 0: ipip */
	__u8 traffic_class;
	__u8 inner_protocol; /* IPPROTO_IPIP or IPPROTO_IPV6 */
};

/* Fills the bits of the source that lb.yaml leaves to the flow. */
static __always_inline void vary_source(struct tunnel *tunnel, const struct settings *settings)
{
	__u32 mask = is_mapped_ipv4(&tunnel->destination) ? settings->tunnel_hosts_ipv4
							  : settings->tunnel_hosts_ipv6;

	tunnel->source.words[3] |= bpf_htonl(tunnel->hash & mask);
}

static __always_inline __u32 measure_tunnel(const struct tunnel *tunnel)
{
	__u32 size = is_mapped_ipv4(&tunnel->destination) ? sizeof(struct iphdr)
							  : sizeof(struct ipv6hdr);

	return tunnel->gue_port ? size + sizeof(struct udphdr) : size;
}

/* A sum of 32-bit words as one of 16-bit words, not folded to the end. */
static __always_inline __u32 fold_words(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffff) + (sum >> 16);
}

/* The ones' complement sum over a multiple of 4 bytes. Not for what lies in struct packet:
 * an index that is no constant when the compiler first looks keeps it all out of registers. */
static __always_inline __u32 sum_words(const void *start, __u32 bytes)
{
	const __u32 *words = start;
	__u64 sum = 0;

	for (__u32 i = 0; i < bytes / 4; i++)
		sum += words[i];
	return fold_words(sum);
}

static __always_inline __u32 sum_address(const struct address *a)
{
	return fold_words((__u64)a->words[0] + a->words[1] + a->words[2] + a->words[3]);
}

static __always_inline __u16 fold_sum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The sum over a packet without walking it. An IPv4 header sums to 0xffff, and so does
 * what a transport checksum covers; the pseudo header, which it covers without being in
 * the packet, is taken off. A wrong inner checksum makes a wrong outer one, and the
 * receiver drops the packet just as its owner would have. */
static __always_inline __u32 sum_packet(const struct packet *p)
{
	__u32 l4_size = p->l3_total_size - p->l3_header_size;
	__u32 pseudo = sum_address(&p->source.address) + sum_address(&p->destination.address);
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
	pseudo += bpf_htons(p->source.protocol) + bpf_htons(l4_size & 0xffff);
	return fold_sum(header) + (__u16)~fold_sum(pseudo);
}

/* In whole words, which are summed as they are written: to load a word whose parts have
 * just been stored makes the CPU wait until the stores are done. */
static __always_inline void write_outer_ipv4(struct iphdr *ip, const struct tunnel *tunnel,
					     __u32 size)
{
	__u32 protocol = tunnel->gue_port ? IPPROTO_UDP : tunnel->inner_protocol;
	__be32 *words = (__be32 *)ip;
	__be32 first = bpf_htonl(0x45U << 24 | (__u32)tunnel->traffic_class << 16 | size);
	__be32 fragment = bpf_htonl(IPV4_DONT_FRAGMENT);
	__be32 ttl = bpf_htonl(TUNNEL_TTL << 24 | protocol << 16);
	__be32 source = tunnel->source.words[3], destination = tunnel->destination.words[3];

	words[0] = first;
	words[1] = fragment;
	words[2] = ttl;
	words[3] = source;
	words[4] = destination;
	ip->check = ~fold_sum(fold_words((__u64)first + fragment + ttl + source + destination));
}

static __always_inline void write_outer_ipv6(struct ipv6hdr *ip, const struct tunnel *tunnel,
					     __u32 size)
{
	__be32 *first = (__be32 *)ip;

	*first =
		bpf_htonl(6U << 28 | (__u32)tunnel->traffic_class << 20 | (tunnel->hash & 0xfffff));
	ip->payload_len = bpf_htons(size - sizeof(*ip));
	ip->nexthdr = tunnel->gue_port ? IPPROTO_UDP : tunnel->inner_protocol;
	ip->hop_limit = TUNNEL_TTL;
	__builtin_memcpy(&ip->saddr, &tunnel->source, 16);
	__builtin_memcpy(&ip->daddr, &tunnel->destination, 16);
}

static __always_inline void write_udp(struct udphdr *udp, const struct tunnel *tunnel)
{
	__be16 size = bpf_htons(sizeof(*udp) + tunnel->inner_size);
	__be16 port = bpf_htons(GUE_FIRST_PORT | (tunnel->hash & 0x3fff));
	__u16 check;

	udp->source = port;
	udp->dest = tunnel->gue_port;
	udp->len = size;
	udp->check = 0;
	if (!tunnel->inner_sum)
		return;
	/* The length is in the pseudo header too. */
	check = ~fold_sum(sum_address(&tunnel->source) + sum_address(&tunnel->destination) +
			  bpf_htons(IPPROTO_UDP) + size + size + port + tunnel->gue_port +
			  tunnel->inner_sum);
	udp->check = check ? check : 0xffff;
}

/* Copies the Ethernet header with all its tags to where the frame starts now. Whole
 * words, read before any is written: the two places may overlap. */
static __always_inline void move_l2(struct ethhdr *to, const void *from)
{
	__u64 first = *(const __u64 *)from, second = *(const __u64 *)(from + 8);
	__u32 third = *(const __u32 *)(from + 16);
	__u16 last = *(const __u16 *)(from + 20);
	void *start = to;

	*(__u64 *)start = first;
	*(__u64 *)(start + 8) = second;
	*(__u32 *)(start + 16) = third;
	*(__u16 *)(start + 20) = last;
}

/* Puts the outer header before the packet, behind the tags that it came with, and
 * addresses the frame to the next hop. Returns false, and leaves the packet alone, where
 * there is no room. */
static __always_inline int encapsulate(struct xdp_md *ctx, __u32 l2_size,
				       const struct tunnel *tunnel, const struct nexthop *nexthop)
{
	bool is_ipv4 = is_mapped_ipv4(&tunnel->destination);
	__u32 overhead = measure_tunnel(tunnel);
	struct ethhdr *eth;
	void *end, *l3, *old;
	__be16 *protocol;

	l2_size &= 31;
	if (bpf_xdp_adjust_head(ctx, -(int)overhead))
		return false;
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	l3 = (void *)eth + l2_size;
	old = (void *)eth + (overhead & 63);
	protocol = (void *)eth + ((l2_size - sizeof(*protocol)) & 31);
	if ((void *)(protocol + 1) > end ||
	    old + sizeof(*eth) + MAX_TAGS * sizeof(struct vlan_tag) > end ||
	    l3 + sizeof(struct ipv6hdr) + sizeof(struct udphdr) > end ||
	    (void *)eth + sizeof(*eth) + MAX_TAGS * sizeof(struct vlan_tag) > end)
		return false; /* it can't be: the inner headers are behind */
	if (l2_size != UNTAGGED)
		move_l2(eth, old);
	copy_mac(eth->h_dest, nexthop->destination_mac);
	copy_mac(eth->h_source, nexthop->source_mac);
	*protocol = is_ipv4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (is_ipv4) {
		write_outer_ipv4(l3, tunnel, overhead + tunnel->inner_size);
		l3 += sizeof(struct iphdr);
	} else {
		write_outer_ipv6(l3, tunnel, overhead + tunnel->inner_size);
		l3 += sizeof(struct ipv6hdr);
	}
	if (tunnel->gue_port)
		write_udp(l3, tunnel);
	return true;
}

#endif
