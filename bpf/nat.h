/* SPDX-License-Identifier: GPL-2.0-only */
/* nat: one address and port of the packet become another's. */
#ifndef XDPLB_NAT_H
#define XDPLB_NAT_H

#include "csum.h"
#include "l4.h"
#include "maps.h"
#include "packet.h"

static __always_inline struct reply *find_reply(const struct endpoint *backend)
{
	return bpf_map_lookup_elem(&nat_replies, backend);
}

/* Both headers' checksums follow; a UDP checksum of zero means "none" over IPv4 and
 * stays zero, and one that comes out as zero is sent as 0xffff (RFC 768). */
static __always_inline void update_checksums(struct packet *p, __u32 address_change,
					     __u32 port_change)
{
	bool is_absent = !is_tcp(p) && *p->l4_checksum == 0;
	__u16 checksum = csum_apply(*p->l4_checksum, address_change + port_change);

	p->ipv4->check = csum_apply(p->ipv4->check, address_change);
	if (is_absent)
		return;
	*p->l4_checksum = checksum == 0 && !is_tcp(p) ? 0xffff : checksum;
}

static __always_inline void rewrite_destination(struct packet *p, const struct address *address,
						__be16 port)
{
	struct iphdr *ip = p->ipv4;
	__be16 *ports = p->l4;

	update_checksums(p, csum_change32(ip->daddr, address->words[3]),
			 csum_change16(ports[1], port));
	ip->daddr = address->words[3];
	ports[1] = port;
}

static __always_inline void rewrite_source(struct packet *p, const struct address *address,
					   __be16 port)
{
	struct iphdr *ip = p->ipv4;
	__be16 *ports = p->l4;

	update_checksums(p, csum_change32(ip->saddr, address->words[3]),
			 csum_change16(ports[0], port));
	ip->saddr = address->words[3];
	ports[0] = port;
}

#endif
