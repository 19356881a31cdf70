/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_L4_H
#define XDPLB_L4_H

#include "packet.h"

enum l4_kind {
	L4_KIND_PORTS,	    /* TCP or UDP, ports are known */
	L4_KIND_UNREADABLE, /* TCP or UDP, cut before the ports end */
	L4_KIND_OTHER,
};

enum l4_fitness {
	L4_FIT,
	L4_UNFIT,
};

/* Says whether there are ports to read. */
static __always_inline enum l4_kind parse_ports(struct packet *p)
{
	__be16 *ports = p->l4;

	if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)
		return L4_KIND_OTHER;
	if ((void *)(ports + 2) > p->end)
		return L4_KIND_UNREADABLE;
	return L4_KIND_PORTS;
}

static __always_inline bool is_tcp(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP;
}

static __always_inline enum l4_fitness check_tcp(struct packet *p, __u32 room)
{
	struct tcphdr *tcp = p->l4;

	if ((void *)(tcp + 1) > p->end)
		return L4_UNFIT;
	if (tcp->doff * 4 < sizeof(*tcp) || tcp->doff * 4 > room)
		return L4_UNFIT;
	p->l4_checksum = &tcp->check;
	p->tcp_flags = ((__u8 *)tcp)[13];
	return L4_FIT;
}

static __always_inline enum l4_fitness check_udp(struct packet *p, __u32 room)
{
	struct udphdr *udp = p->l4;

	if ((void *)(udp + 1) > p->end)
		return L4_UNFIT;
	if (bpf_ntohs(udp->len) < sizeof(*udp) || bpf_ntohs(udp->len) > room)
		return L4_UNFIT;
	p->l4_checksum = &udp->check;
	return L4_FIT;
}

/* Whether the transport header is whole and its lengths agree with the packet's. */
static __always_inline enum l4_fitness check_l4(struct packet *p)
{
	__u32 room = p->l3_total_size - p->l3_header_size;

	return is_tcp(p) ? check_tcp(p, room) : check_udp(p, room);
}

#endif
