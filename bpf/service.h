/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_SERVICE_H
#define XDPLB_SERVICE_H

#include "ip.h"
#include "maps.h"
#include "packet.h"

static __always_inline struct service *find_service(const struct endpoint *vip)
{
	struct service *service = bpf_map_lookup_elem(&services, vip);

	/* A packet to port 0 meets the marker below, which owns no slots. */
	return service && service->ring_size ? service : NULL;
}

static __always_inline bool is_vip_of(const struct packet *p, __u8 protocol)
{
	struct endpoint any_port = p->destination;

	any_port.port = 0;
	any_port.protocol = protocol;
	return bpf_map_lookup_elem(&services, &any_port);
}

/* Whether the packet comes from a VIP, this one or another: what is sent in a VIP's name
 * and comes back would go in a circle. Loopback talks to itself. */
static __always_inline bool is_from_vip(const struct packet *p)
{
	struct endpoint any_port = p->source;
	__u32 bit = bpf_ntohl(p->source.address.words[3]) & 63;

	if (!(p->settings->vip_filter >> bit & 1) || is_loopback(&p->source.address))
		return false;
	any_port.port = 0;
	any_port.protocol = p->destination.protocol;
	return bpf_map_lookup_elem(&services, &any_port);
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
