/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What few packets need, in a map so that it takes no stack from all of them: a program and
 * what it calls have 512 bytes together. Each program has its own; nothing in it outlives
 * the packet.
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

struct scratch {
	struct flow_query query;
	struct flow draft;
	struct endpoint endpoint; /* one that is looked for */
	struct address source;
	struct ipv6_walk walk;
	struct bpf_fib_lookup fib;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* Never NULL, which the verifier can't know. */
static __always_inline struct scratch *find_scratch(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&scratch, &only);
}

#endif
