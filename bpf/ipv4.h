/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_IPV4_H
#define XDPLB_IPV4_H

#include "csum.h"
#include "packet.h"

#define IPV4_MIN_HEADER	    20
#define IPV4_OFFSET_MASK    0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_DONT_FRAGMENT  0x4000

/* Finds addresses and protocol. Judges only what is needed to find the ports:
 * the packet may not be ours to judge. */
static __always_inline enum l3_kind parse_ipv4(struct packet *p)
{
	struct iphdr *ip = find_behind_tags(p->eth, p->l2_size);

	if ((void *)(ip + 1) > p->end)
		return L3_KIND_UNREADABLE;
	p->ipv4 = ip;
	p->protocol = ip->protocol;
	p->l3_header_size = ip->ihl * 4;
	p->l3_total_size = bpf_ntohs(ip->tot_len);
	p->more_fragments = ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS);

	if (ip->version != 4 || p->l3_header_size < IPV4_MIN_HEADER)
		return L3_KIND_MALFORMED;
	if (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK))
		return L3_KIND_LATER_FRAGMENT;
	p->l4 = (void *)ip + p->l3_header_size;
	return L3_KIND_WHOLE;
}

/* TTL and protocol are stored as the one word that the sum is over: loading a word of which
 * one byte has just been stored makes the CPU wait until the store is done. */
static __always_inline void set_ttl_ipv4(struct iphdr *ip, __u8 ttl)
{
	__be16 *word = (__be16 *)&ip->ttl;
	__be16 before = *word;
	__be16 after = (before & bpf_htons(0x00ff)) | bpf_htons((__u16)ttl << 8);

	ip->check = csum_apply(ip->check, csum_change16(before, after));
	*word = after;
}

/* A TTL that is less by one makes a checksum that is more by 0x0100; it is never sent as
 * 0xffff (ip_decrease_ttl(), include/net/ip.h). */
static __always_inline void lower_ttl_ipv4(struct iphdr *ip)
{
	__u32 check = ip->check + bpf_htons(0x0100);

	ip->check = check + (check >= 0xffff);
	ip->ttl -= 1;
}

#endif
