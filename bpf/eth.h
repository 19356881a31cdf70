/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_ETH_H
#define XDPLB_ETH_H

#include "packet.h"

enum eth_kind {
	ETH_KIND_IPV4,
	ETH_KIND_IPV6,
	ETH_KIND_OTHER,
};

/* Finds the Ethernet header and says what follows it. */
static __always_inline enum eth_kind parse_eth(struct packet *p)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;

	if ((void *)(eth + 1) > p->end)
		return ETH_KIND_OTHER;
	p->eth = eth;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return ETH_KIND_IPV4;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return ETH_KIND_IPV6;
	return ETH_KIND_OTHER;
}

#endif
