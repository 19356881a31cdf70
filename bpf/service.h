/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose is it? */
#ifndef XDPLB_SERVICE_H
#define XDPLB_SERVICE_H

#include "directory.h"
#include "ip.h"

/* Whether packets to this endpoint are a service's. A VIP itself, which is kept with port 0,
 * has no ring. */
static __always_inline bool is_service(const struct entry *entry)
{
	return entry && entry->service.ring_size;
}

/* Whether packets from this endpoint get a VIP as their source. */
static __always_inline bool is_nat_backend(const struct entry *entry)
{
	return entry && entry->parts & ENTRY_REPLY;
}

/* Whether some service of this protocol has this VIP. Few packets ask. */
static __always_inline bool is_vip(const struct address *address, __u8 protocol)
{
	struct endpoint any_port = {*address, 0, protocol, 0};
	struct entry *entry = find_entry_slowly(&any_port);

	return entry && entry->parts & ENTRY_SERVICE;
}

static __always_inline bool is_vip_of(const struct packet *p, __u8 protocol)
{
	struct address destination = read_destination_address(p);

	return is_vip(&destination, protocol);
}

/* Whether the packet comes from a VIP, this one or another: what is sent in a VIP's name
 * and comes back would go in a circle. Loopback talks to itself. */
static __always_inline bool is_from_vip(const struct packet *p)
{
	struct address source = read_source_address(p);
	__u32 last = bpf_ntohl(source.words[3]);
	__u64 word = p->settings->vip_filter[last / 64 % XDPLB_VIP_FILTER_WORDS];

	return word >> last % 64 & 1 && !is_loopback(&source) && is_vip(&source, p->protocol);
}

/* Whether the packet, whose ports can't be read, goes to the VIP of some service of
 * its protocol; of any, where extension headers hide the protocol. */
static __always_inline bool is_to_vip(const struct packet *p)
{
	if (p->is_ipv6 && is_extension(p->protocol))
		return is_vip_of(p, IPPROTO_TCP) || is_vip_of(p, IPPROTO_UDP);
	return is_vip_of(p, p->protocol);
}

#endif
