/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Live frames: a generator, a floor and a sink.
 *
 *   generate  by BPF_PROG_TEST_RUN with live frames: each a packet of the next flow
 *   redirect  in the place of the program under test: sends what comes on, unread
 *   count     behind it: counts what has arrived and drops it
 */
#include "course.h"

/* Where `generate` and `redirect` send to: ifindexes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} ways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

static __always_inline int send(__u32 which)
{
	__u32 *ifindex = bpf_map_lookup_elem(&ways, &which);

	return ifindex ? bpf_redirect(*ifindex, 0) : XDP_ABORTED;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	struct course *course = find_course();

	if (!course || !write_ipv4((void *)(long)ctx->data, (void *)(long)ctx->data_end, course))
		return XDP_ABORTED;
	return send(0);
}

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	(void)ctx;
	return send(1);
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 only = 0;
	__u64 *packets = bpf_map_lookup_elem(&arrived, &only);

	(void)ctx;
	if (packets)
		*packets += 1;
	return XDP_DROP;
}

const char gpl[] SEC("license") = "GPL";
