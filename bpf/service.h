/* SPDX-License-Identifier: GPL-2.0-only */
/* Is it for a service? */
#ifndef XDPLB_SERVICE_H
#define XDPLB_SERVICE_H

#include "directory.h"
#include "ip.h"

/* Whether some service has this VIP; the port is 0. A global function: few packets ask. */
__noinline int is_vip(const struct endpoint *any_port)
{
	__u32 only = 0;
	struct settings *now = bpf_map_lookup_elem(&settings, &only);
	struct entry *entry = now && any_port ? find_entry(now, any_port) : NULL;

	return entry && entry->parts & ENTRY_SERVICE;
}

static __always_inline bool is_vip_of(const struct packet *p, __u8 protocol)
{
	struct endpoint any_port = {p->destination.address, 0, protocol, 0};

	return is_vip(&any_port);
}

/* Whether the packet comes from a VIP, this one or another: what is sent in a VIP's name
 * and comes back would go in a circle. Loopback talks to itself. */
static __always_inline bool is_from_vip(const struct packet *p)
{
	struct endpoint any_port = {p->source.address, 0, p->destination.protocol, 0};
	__u32 last = bpf_ntohl(p->source.address.words[3]);
	__u64 word = p->settings->vip_filter[last / 64 % XDPLB_VIP_FILTER_WORDS];

	if (!(word >> last % 64 & 1) || is_loopback(&p->source.address))
		return false;
	return is_vip(&any_port);
}

/* Whether the packet, whose ports can't be read, goes to the VIP of some service of
 * its protocol; of any, where extension headers hide the protocol. */
static __always_inline bool is_to_vip(const struct packet *p)
{
	if (p->is_ipv6 && is_extension(p->destination.protocol))
		return is_vip_of(p, IPPROTO_TCP) || is_vip_of(p, IPPROTO_UDP);
	return is_vip_of(p, p->destination.protocol);
}

#endif
