/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_IPV6_H
#define XDPLB_IPV6_H

#include "packet.h"
#include "scratch.h"

/* How many extension headers are walked (RFC 8200, 4); what has more is refused. */
#define IPV6_MAX_EXTENSIONS 4
#define IPV6_OFFSET_MASK    0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001

#define IPV6_HOP_BY_HOP	 0
#define IPV6_ROUTING	 43
#define IPV6_FRAGMENT	 44
#define IPV6_DESTINATION 60

/* What the extension headers that are walked have in common. */
struct ipv6_extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes, without the first; nothing in a fragment's */
	__be16 offset_and_flags; /* in a fragment's */
	__u8 rest[4];
};

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPV6_HOP_BY_HOP || protocol == IPV6_ROUTING ||
	       protocol == IPV6_FRAGMENT || protocol == IPV6_DESTINATION;
}

/* Walks to the transport header. A global function: the verifier looks at it once,
 * and not again for each way through it. */
__noinline int walk_extensions(struct xdp_md *ctx)
{
	struct ipv6_walk *walk = find_walk();
	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (!walk)
		return 0;
	walk->kind = L3_KIND_WHOLE;
	for (int i = 0; i < IPV6_MAX_EXTENSIONS; i++) {
		/* 22 + 40 + 4 * 2048 is below 2^14 */
		__u32 offset = (walk->l2_size + walk->size) & 0x3fff;
		struct ipv6_extension *extension = start + offset;

		if (!is_extension(walk->protocol))
			return 0;
		if ((void *)(extension + 1) > end) {
			walk->kind = L3_KIND_MALFORMED;
			return 0;
		}
		walk->size += 8;
		if (walk->protocol == IPV6_FRAGMENT) {
			walk->more_fragments =
				extension->offset_and_flags & bpf_htons(IPV6_MORE_FRAGMENTS);
			if (extension->offset_and_flags & bpf_htons(IPV6_OFFSET_MASK))
				walk->kind = L3_KIND_LATER_FRAGMENT;
		} else {
			walk->size += extension->length * 8;
		}
		walk->protocol = extension->next;
		if (walk->kind != L3_KIND_WHOLE)
			return 0;
	}
	if (is_extension(walk->protocol))
		walk->kind = L3_KIND_TOO_DEEP;
	return 0;
}

static __always_inline enum l3_kind follow_extensions(struct packet *p)
{
	struct ipv6_walk *walk = find_walk();

	if (!walk)
		return L3_KIND_UNREADABLE;
	walk->l2_size = p->l2_size;
	walk->size = sizeof(*p->ipv6);
	walk->more_fragments = 0;
	walk->protocol = p->ipv6->nexthdr;
	walk_extensions(p->ctx);
	p->l3_header_size = walk->size & 0x3fff;
	p->more_fragments = walk->more_fragments;
	p->protocol = walk->protocol;
	p->l4 = (void *)p->ipv6 + p->l3_header_size;
	return walk->kind;
}

/* Finds addresses and protocol; like parse_ipv4(). */
static __always_inline enum l3_kind parse_ipv6(struct packet *p)
{
	struct ipv6hdr *ip = find_behind_tags(p->eth, p->l2_size);
	struct address source, destination;

	if ((void *)(ip + 1) > p->end)
		return L3_KIND_UNREADABLE;
	p->ipv6 = ip;
	source = read_source_address(p);
	destination = read_destination_address(p);
	/* Nobody may send these (RFC 4291, 2.5.5.2), and our tables mean IPv4 by them. */
	if (is_mapped_ipv4(&source) || is_mapped_ipv4(&destination))
		return L3_KIND_UNREADABLE;
	p->l3_header_size = sizeof(*ip);
	p->l3_total_size = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	p->protocol = ip->nexthdr;
	if (ip->version != 6)
		return L3_KIND_MALFORMED;
	if (is_extension(ip->nexthdr))
		return follow_extensions(p);
	p->l4 = ip + 1;
	return L3_KIND_WHOLE;
}

#endif
