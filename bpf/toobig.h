/* SPDX-License-Identifier: GPL-2.0-only */
/* Path MTU discovery: a packet that is too big for its way, or made so by a tunnel's outer
 * header, goes back to its sender as ICMP (RFC 1191, RFC 8201) in the VIP's name. */
#ifndef XDPLB_TOOBIG_H
#define XDPLB_TOOBIG_H

#include "csum.h"
#include "eth.h"
#include "icmp.h"
#include "packet.h"

#define ICMP_FRAGMENTATION_NEEDED 4
#define ICMPV6_PACKET_TOO_BIG	  2

/* What is quoted: the network header and 8 bytes, which senders need (RFC 792). */
#define QUOTE_IPV4 (sizeof(struct iphdr) + 8)
#define QUOTE_IPV6 (sizeof(struct ipv6hdr) + 8)

struct too_big_ipv4 {
	struct ethhdr eth;
	struct iphdr ip;
	struct icmp_header icmp;
	__u8 quote[QUOTE_IPV4];
} __attribute__((packed));

struct too_big_ipv6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct icmp_header icmp;
	__u8 quote[QUOTE_IPV6];
} __attribute__((packed));

/* Cuts the packet down to what is quoted and makes room before it. */
static __always_inline bool reshape(struct xdp_md *ctx, __u32 quote, __u32 headers)
{
	__u32 size = ctx->data_end - ctx->data;
	__u32 kept = sizeof(struct ethhdr) + quote;

	if (size < kept || bpf_xdp_adjust_tail(ctx, (int)kept - (int)size))
		return false;
	return bpf_xdp_adjust_head(ctx, -(int)headers) == 0;
}

static __noinline int tell_too_big_ipv4(struct xdp_md *ctx, __u32 mtu)
{
	struct too_big_ipv4 *m;
	struct iphdr *quoted;

	if (!reshape(ctx, QUOTE_IPV4, sizeof(m->ip) + sizeof(m->icmp)))
		return false;
	m = (void *)(long)ctx->data;
	if ((void *)(m + 1) > (void *)(long)ctx->data_end)
		return false;
	quoted = (void *)m->quote;
	/* The old Ethernet header lies where the ICMP header is going to be. */
	swap_macs(&m->eth, (void *)m->quote - sizeof(struct ethhdr));
	m->eth.h_proto = bpf_htons(ETH_P_IP);
	__builtin_memset(&m->ip, 0, sizeof(m->ip) + sizeof(m->icmp));
	m->ip.version = 4;
	m->ip.ihl = sizeof(m->ip) / 4;
	m->ip.tot_len = bpf_htons(sizeof(m->ip) + sizeof(m->icmp) + QUOTE_IPV4);
	m->ip.ttl = ICMP_REPLY_TTL;
	m->ip.protocol = IPPROTO_ICMP;
	m->ip.saddr = quoted->daddr;
	m->ip.daddr = quoted->saddr;
	m->ip.check = ~fold_sum(sum_words(&m->ip, sizeof(m->ip)));
	m->icmp.type = ICMP_UNREACHABLE;
	m->icmp.code = ICMP_FRAGMENTATION_NEEDED;
	m->icmp.rest = bpf_htonl(mtu & 0xffff);
	m->icmp.checksum = ~fold_sum(sum_words(&m->icmp, sizeof(m->icmp) + QUOTE_IPV4));
	return true;
}

static __noinline int tell_too_big_ipv6(struct xdp_md *ctx, __u32 mtu)
{
	struct too_big_ipv6 *m;
	struct ipv6hdr *quoted;
	__u32 sum;

	if (!reshape(ctx, QUOTE_IPV6, sizeof(m->ip) + sizeof(m->icmp)))
		return false;
	m = (void *)(long)ctx->data;
	if ((void *)(m + 1) > (void *)(long)ctx->data_end)
		return false;
	quoted = (void *)m->quote;
	swap_macs(&m->eth, (void *)m->quote - sizeof(struct ethhdr));
	m->eth.h_proto = bpf_htons(ETH_P_IPV6);
	__builtin_memset(&m->ip, 0, sizeof(m->ip) + sizeof(m->icmp));
	m->ip.version = 6;
	m->ip.payload_len = bpf_htons(sizeof(m->icmp) + QUOTE_IPV6);
	m->ip.nexthdr = IPPROTO_ICMPV6;
	m->ip.hop_limit = ICMP_REPLY_TTL;
	m->ip.saddr = quoted->daddr;
	m->ip.daddr = quoted->saddr;
	m->icmp.type = ICMPV6_PACKET_TOO_BIG;
	m->icmp.rest = bpf_htonl(mtu);
	/* The pseudo header (RFC 8200, 8.1): addresses, length, protocol. */
	sum = sum_words(&m->ip.saddr, 32) + m->ip.payload_len + bpf_htons(IPPROTO_ICMPV6);
	sum += sum_words(&m->icmp, sizeof(m->icmp) + QUOTE_IPV6);
	m->icmp.checksum = ~fold_sum(sum);
	return true;
}

#endif
