/* SPDX-License-Identifier: GPL-2.0-only */
/* nat: one address and port of the packet become another's. */
#ifndef XDPLB_NAT_H
#define XDPLB_NAT_H

#include "csum.h"
#include "l4.h"
#include "maps.h"
#include "packet.h"

/* For how long a direct flow may be silent: a day, in 2^30 ns. */
#define DIRECT_SILENCE 80467

static __always_inline __u32 tell_direct_time(void)
{
	return (bpf_ktime_get_coarse_ns() >> 30) + 1;
}

/* Whether the backend and a client have spoken directly within the last day. A global
 * function: inlined, it doubles what the verifier follows behind it. */
__noinline bool is_recent_direct(__u32 seen)
{
	return tell_direct_time() - seen < DIRECT_SILENCE;
}

/* Clients speak to this backend directly too: its replies ask how their flow came. One
 * stray packet shall not make them ask for ever. */
static __always_inline bool has_direct_flows(const __u32 *id)
{
	__u32 *seen = bpf_map_lookup_elem(&direct_seen, id);

	return seen && *seen && is_recent_direct(*seen);
}

static __always_inline void note_direct_flow(__u32 id)
{
	__u32 *seen = bpf_map_lookup_elem(&direct_seen, &id);
	__u32 now = tell_direct_time();

	if (seen && *seen != now)
		*seen = now;
}

/* A UDP checksum of zero means "none" over IPv4 and stays zero; one that comes out as
 * zero is sent as 0xffff (RFC 768). */
static __always_inline void update_l4_checksum(struct packet *p, __u32 change)
{
	__u16 checksum = csum_apply(*p->l4_checksum, change);

	if (!is_tcp(p)) {
		if (!p->is_ipv6 && *p->l4_checksum == 0)
			return;
		if (checksum == 0)
			checksum = 0xffff;
	}
	*p->l4_checksum = checksum;
}

/* One address and one port become others; every checksum over them follows. The
 * words of an IPv4-mapped address that say so don't change, and cancel out. */
static __always_inline void rewrite(struct packet *p, const struct address *before,
				    const struct address *after, __be16 *port, __be16 new_port)
{
	__u32 change = p->is_ipv6 ? csum_change_address(before, after)
				  : csum_change32(before->words[3], after->words[3]);

	update_l4_checksum(p, change + csum_change16(*port, new_port));
	if (!p->is_ipv6)
		p->ipv4->check = csum_apply(p->ipv4->check, change);
	*port = new_port;
}

static __always_inline void rewrite_destination(struct packet *p, const struct address *address,
						__be16 port)
{
	struct address before = read_destination_address(p);

	rewrite(p, &before, address, (__be16 *)p->l4 + 1, port);
	if (p->is_ipv6)
		__builtin_memcpy(&p->ipv6->daddr, address, sizeof(*address));
	else
		p->ipv4->daddr = address->words[3];
}

static __always_inline void rewrite_source(struct packet *p, const struct address *address,
					   __be16 port)
{
	struct address before = read_source_address(p);

	rewrite(p, &before, address, (__be16 *)p->l4, port);
	if (p->is_ipv6)
		__builtin_memcpy(&p->ipv6->saddr, address, sizeof(*address));
	else
		p->ipv4->saddr = address->words[3];
}

#endif
