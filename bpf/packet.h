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
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

struct packet {
	struct xdp_md *ctx;
	const struct settings *settings;
	void *end;    /* first byte behind the frame */
	bool is_ipv6; /* a constant wherever it is read: each family has a copy of the code */
	struct ethhdr *eth;
	__u32 l2_size;	      /* 14, and 4 for each VLAN tag */
	struct iphdr *ipv4;   /* the one that is_ipv6 says */
	struct ipv6hdr *ipv6; /* likewise */
	void *l4;
	__u8 protocol;	      /* behind the network header and what extends it */
	__u32 l3_header_size; /* with options or extension headers */
	__u32 l3_total_size;  /* as the header says, from the IP header on */
	__u32 more_fragments; /* not zero in a first fragment; the others have no ports */
	__u16 *l4_checksum; /* known, like what follows, once check_l4() has found the header fit */
	__u8 tcp_flags;	    /* 0 in a datagram */
	__u32 egress;	    /* ifindex, for a redirect */
};

static __always_inline __u64 load64(const void *from)
{
	return *(const __u64 *)from;
}

#define UNTAGGED sizeof(struct ethhdr)

/* Behind the Ethernet header and its tags; 12, so that the verifier sees a bound. */
static __always_inline void *find_behind_tags(void *eth, __u32 l2_size)
{
	return eth + UNTAGGED + ((l2_size - UNTAGGED) & 12);
}

/* What a network layer has found. */
enum l3_kind {
	L3_KIND_WHOLE,		/* the transport header starts at p->l4 */
	L3_KIND_LATER_FRAGMENT, /* addresses are known, ports are elsewhere */
	L3_KIND_TOO_DEEP,	/* addresses are known, too many headers follow */
	L3_KIND_MALFORMED,	/* addresses are known, the rest can't be trusted */
	L3_KIND_UNREADABLE,	/* too short for addresses, or ones that nobody may have */
};

static __always_inline struct address map_ipv4(__be32 address)
{
	return (struct address){{0, 0, bpf_htonl(0xffff), address}};
}

/* The ends of a header of the packet's family: its own, or one that it quotes. */
static __always_inline struct address source_of(bool is_ipv6, const struct iphdr *ipv4,
						const struct ipv6hdr *ipv6)
{
	return is_ipv6 ? *(struct address *)&ipv6->saddr : map_ipv4(ipv4->saddr);
}

static __always_inline struct address destination_of(bool is_ipv6, const struct iphdr *ipv4,
						     const struct ipv6hdr *ipv6)
{
	return is_ipv6 ? *(struct address *)&ipv6->daddr : map_ipv4(ipv4->daddr);
}

/* Addresses and ports are read where they are needed and not carried along: of a packet
 * that is in the cache a load costs what one from the stack does, and nobody had to store
 * them there. */
static __always_inline struct address read_source_address(const struct packet *p)
{
	return source_of(p->is_ipv6, p->ipv4, p->ipv6);
}

static __always_inline struct address read_destination_address(const struct packet *p)
{
	return destination_of(p->is_ipv6, p->ipv4, p->ipv6);
}

/* Of a packet whose ports can be read. */
static __always_inline struct endpoint read_source(const struct packet *p)
{
	__be16 *ports = p->l4;

	return (struct endpoint){read_source_address(p), ports[0], p->protocol, 0};
}

static __always_inline struct endpoint read_destination(const struct packet *p)
{
	__be16 *ports = p->l4;

	return (struct endpoint){read_destination_address(p), ports[1], p->protocol, 0};
}

static __always_inline bool is_same_address(const struct address *a, const struct address *b)
{
	return ((load64(&a->words[0]) ^ load64(&b->words[0])) |
		(load64(&a->words[2]) ^ load64(&b->words[2]))) == 0;
}

/* The 14th byte of a TCP header (RFC 9293, 3.1). The flags stay together in a byte:
 * as bools they would multiply what the verifier has to follow. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static __always_inline bool is_first_segment(__u8 tcp_flags)
{
	return (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline bool is_mapped_ipv4(const struct address *address)
{
	return address->words[0] == 0 && address->words[1] == 0 &&
	       address->words[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_nobody(const struct address *address)
{
	return !address->words[0] && !address->words[1] && !address->words[2] && !address->words[3];
}

static __always_inline bool is_loopback(const struct address *address)
{
	if (is_mapped_ipv4(address))
		return bpf_ntohl(address->words[3]) >> 24 == 127;
	return address->words[0] == 0 && address->words[1] == 0 && address->words[2] == 0 &&
	       address->words[3] == bpf_htonl(1);
}

/* A source no packet can honestly have on its way to a VIP (RFC 1122, 3.2.1.3; RFC
 * 4291, 2.7): nobody, everybody, or the VIP itself, to which the answer would go in a
 * circle. Loopback talks to itself. */
static __always_inline bool is_bad_source(const struct packet *p)
{
	struct address source = read_source_address(p);
	struct address destination = read_destination_address(p);
	__u32 top = bpf_ntohl(p->is_ipv6 ? source.words[0] : source.words[3]);

	if (is_same_address(&source, &destination))
		return !is_loopback(&source);
	if (p->is_ipv6)
		return top >> 24 == 0xff || is_nobody(&source);
	return top >= 0xe0000000 || top >> 24 == 0; /* class D, E, broadcast; 0/8 */
}

#endif
