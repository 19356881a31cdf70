/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What few packets need, in maps so that it takes no stack from all of them: a program and
 * what it calls have 512 bytes together. Each program has its own; nothing in them outlives
 * the packet.
 *
 * Functions of their own find it here and get no pointers: for a global function the verifier
 * of Linux 5.10 takes none, and that of 6.1 no key of a map from what one points to. And each
 * is a map, not a part of one: an offset that a compiler adds before it asks for NULL is
 * refused by 6.1, too.
 */
#ifndef XDPLB_SCRATCH_H
#define XDPLB_SCRATCH_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* What a packet asks of the memory of flows. */
struct flow_query {
	struct flow_key key;
	struct address vip; /* by which it came; port 0: directly */
	__be16 vip_port;
	__u32 slot_index;
	struct slot slot;
	__u32 service;
	__u32 sequence;
	__u8 tcp_flags;
	__u8 is_quoted;	 /* by an ICMP error: nothing is remembered of it */
	__u8 is_tracked; /* on settled slots too */
	__u8 zero[3];
};

/* Where the walk over the extension headers ended. */
struct ipv6_walk {
	__u32 l2_size;
	__u32 size; /* of all headers, from the IP header on */
	__u32 more_fragments;
	__u8 protocol;
	__u8 kind; /* enum l3_kind */
};

/* A way that the kernel is asked for. */
struct way_query {
	struct bpf_fib_lookup fib;
	struct address source;
	struct nexthop nexthop; /* the way, when it is known */
};

/* A value for each CPU, and `find_NAME`, which is never NULL: the verifier can't know. */
#define SCRATCH(name, kind)                                                                        \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, kind);                                                               \
	} name SEC(".maps");                                                                       \
                                                                                                   \
	static __always_inline kind *find_##name(void)                                             \
	{                                                                                          \
		__u32 only = 0;                                                                    \
                                                                                                   \
		return bpf_map_lookup_elem(&name, &only);                                          \
	}

SCRATCH(query, struct flow_query) /* the question under way */
SCRATCH(draft, struct flow)	  /* what is about to be remembered */
SCRATCH(sought, struct endpoint)
SCRATCH(way, struct way_query)
SCRATCH(walk, struct ipv6_walk)

#endif
