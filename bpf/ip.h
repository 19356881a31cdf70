/* SPDX-License-Identifier: GPL-2.0-only */
/* The network layer, whichever family it is. */
#ifndef XDPLB_IP_H
#define XDPLB_IP_H

#include "ipv4.h"
#include "ipv6.h"
#include "packet.h"

static __always_inline enum l3_kind parse_ip(struct packet *p)
{
	return p->is_ipv6 ? parse_ipv6(p) : parse_ipv4(p);
}

static __always_inline void *find_l3(const struct packet *p)
{
	return p->is_ipv6 ? (void *)p->ipv6 : (void *)p->ipv4;
}

/* ToS or traffic class: DSCP and ECN. */
static __always_inline __u8 read_traffic_class(const struct packet *p)
{
	if (p->is_ipv6)
		return bpf_ntohl(*(__be32 *)p->ipv6) >> 20;
	return p->ipv4->tos;
}

static __always_inline __u8 read_ttl(const struct packet *p)
{
	return p->is_ipv6 ? p->ipv6->hop_limit : p->ipv4->ttl;
}

static __always_inline void lower_ttl(struct packet *p)
{
	if (p->is_ipv6)
		p->ipv6->hop_limit -= 1;
	else
		lower_ttl_ipv4(p->ipv4);
}

#endif
