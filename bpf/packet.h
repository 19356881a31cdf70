/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet as the layers have understood it so far. Each parser fills in its part
 * and says, in an enum of its own, what it found.
 */
#ifndef XDPLB_PACKET_H
#define XDPLB_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

struct packet {
	struct xdp_md *ctx;
	const struct settings *settings;
	void *end; /* first byte behind the frame */
	struct ethhdr *eth;
	struct iphdr *ipv4;
	void *l4;
	__u16 *l4_checksum; /* known, like all below, once check_l4() has found the header fit */
	struct endpoint source;
	struct endpoint destination;
	__u16 l3_header_size; /* with options */
	__u16 l3_total_size;  /* as the header says, from the IP header on */
	__u32 sequence;	      /* of a TCP segment */
	bool is_new;	      /* a TCP SYN without ACK */
	bool is_answer;	      /* a TCP SYN with ACK */
	bool is_closing;      /* a TCP FIN or RST */
	__u32 egress;	      /* ifindex, for a redirect */
};

static __always_inline struct address map_ipv4(__be32 address)
{
	return (struct address){{0, 0, bpf_htonl(0xffff), address}};
}

static __always_inline bool is_same_address(const struct address *a, const struct address *b)
{
	return a->words[3] == b->words[3] && a->words[2] == b->words[2] &&
	       a->words[1] == b->words[1] && a->words[0] == b->words[0];
}

static __always_inline bool is_loopback_ipv4(__be32 address)
{
	return (bpf_ntohl(address) >> 24) == 127;
}

#endif
