/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A backend's end of ipip and gue, for tests: takes the outer header off. On a real backend
 * the kernel's ipip, sit, ip6tnl and fou devices do it; not every kernel that tests run on
 * has these, and every kernel that runs the balancer has XDP.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GUE_PORT 6080

/* The size of the outer headers, and in `inner` the EtherType of what they carry; 0 where
 * a frame is no tunnel's. */
static __always_inline int measure_outer(const struct xdp_md *ctx, __be16 *inner)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct udphdr *udp;
	__u8 protocol;
	int size;

	if ((void *)(eth + 1) > end)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		size = sizeof(*ip);
		if ((void *)(ip + 1) > end)
			return 0;
		protocol = ip->protocol;
		udp = (void *)(ip + 1);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);

		size = sizeof(*ip);
		if ((void *)(ip + 1) > end)
			return 0;
		protocol = ip->nexthdr;
		udp = (void *)(ip + 1);
	} else {
		return 0;
	}
	*inner = bpf_htons(protocol == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6);
	if (protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6)
		return size;
	/* GUE variant 1: the IP packet, whose first bits say which, follows at once. */
	if (protocol == IPPROTO_UDP && (void *)(udp + 1) + 1 <= end &&
	    udp->dest == bpf_htons(GUE_PORT)) {
		*inner = bpf_htons(*(__u8 *)(udp + 1) >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6);
		return size + sizeof(*udp);
	}
	return 0;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data, saved;
	__be16 inner = 0;
	int size = measure_outer(ctx, &inner);

	if (size == 0 || (void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	saved = *eth;
	saved.h_proto = inner;
	if (bpf_xdp_adjust_head(ctx, size))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	*eth = saved;
	return XDP_PASS;
}

const char gpl[] SEC("license") = "GPL";
