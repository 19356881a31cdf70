/* SPDX-License-Identifier: GPL-2.0-only */
/* ICMP and ICMPv6: echo requests, and errors with the packet they quote. */
#ifndef XDPLB_ICMP_H
#define XDPLB_ICMP_H

#include "csum.h"
#include "eth.h"
#include "ip.h"
#include "l4.h"
#include "packet.h"

struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 rest;
};

enum icmp_kind {
	ICMP_KIND_ECHO,
	ICMP_KIND_ERROR,
	ICMP_KIND_OTHER,
};

/* RFC 792, RFC 4443 */
#define ICMP_ECHO_REPLY	       0
#define ICMP_UNREACHABLE       3
#define ICMP_ECHO_REQUEST      8
#define ICMP_TIME_EXCEEDED     11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_LAST_ERROR      127
#define ICMPV6_ECHO_REQUEST    128
#define ICMPV6_ECHO_REPLY      129

#define ICMP_REPLY_TTL 64

/* A whole ICMP message at p->l4. What comes in fragments or behind options is left to
 * the stack, like all that is no echo request and no error. */
static __always_inline enum icmp_kind parse_icmp(const struct packet *p)
{
	const struct icmp_header *icmp = p->l4;

	if ((void *)(icmp + 1) > p->end || p->more_fragments)
		return ICMP_KIND_OTHER;
	if (find_l3(p) + p->l3_total_size > p->end ||
	    p->l3_total_size < p->l3_header_size + sizeof(*icmp))
		return ICMP_KIND_OTHER;
	if (p->is_ipv6) {
		if (icmp->type == ICMPV6_ECHO_REQUEST)
			return ICMP_KIND_ECHO;
		return icmp->type <= ICMPV6_LAST_ERROR ? ICMP_KIND_ERROR : ICMP_KIND_OTHER;
	}
	switch (icmp->type) {
	case ICMP_ECHO_REQUEST:
		return ICMP_KIND_ECHO;
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		return ICMP_KIND_ERROR;
	}
	return ICMP_KIND_OTHER;
}

/* Makes the answer of an echo request, in place: the addresses change places, and
 * the checksum loses what the type loses. */
static __always_inline void answer_echo(struct packet *p)
{
	struct icmp_header *icmp = p->l4;
	__be16 before = *(__be16 *)icmp;
	struct address client = read_source_address(p);

	icmp->type = p->is_ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY;
	icmp->checksum = csum_apply(icmp->checksum, csum_change16(before, *(__be16 *)icmp));
	if (p->is_ipv6) {
		p->ipv6->saddr = p->ipv6->daddr;
		__builtin_memcpy(&p->ipv6->daddr, &client, 16);
		p->ipv6->hop_limit = ICMP_REPLY_TTL;
	} else {
		p->ipv4->saddr = p->ipv4->daddr;
		p->ipv4->daddr = client.words[3];
		set_ttl_ipv4(p->ipv4, ICMP_REPLY_TTL);
	}
	swap_macs(p->eth, p->eth);
}

/* The packet that an error quotes, as far as errors quote for sure: the network
 * header and 8 bytes (RFC 792). */
struct quote {
	struct iphdr *ipv4;
	struct ipv6hdr *ipv6;
	__be16 *ports;
	__u32 l4_size; /* how much is quoted from the ports on; the frame may be padded */
	__u8 protocol;
};

static __always_inline struct endpoint read_quoted_source(const struct packet *p,
							  const struct quote *quote)
{
	struct address address = source_of(p->is_ipv6, quote->ipv4, quote->ipv6);

	return (struct endpoint){address, quote->ports[0], quote->protocol, 0};
}

static __always_inline struct endpoint read_quoted_destination(const struct packet *p,
							       const struct quote *quote)
{
	struct address address = destination_of(p->is_ipv6, quote->ipv4, quote->ipv6);

	return (struct endpoint){address, quote->ports[1], quote->protocol, 0};
}

/* Whether the error quotes a TCP or UDP packet, whole enough to say whose it was. */
static __always_inline bool parse_quote(const struct packet *p, struct quote *quote)
{
	void *start = p->l4 + sizeof(struct icmp_header);
	__u32 headers = p->l3_header_size + sizeof(struct icmp_header) +
			(p->is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));

	if (p->l3_total_size < headers + 8)
		return false;
	quote->l4_size = p->l3_total_size - headers;
	if (p->is_ipv6) {
		quote->ipv6 = start;
		if ((void *)(quote->ipv6 + 1) + 8 > p->end)
			return false;
		quote->protocol = quote->ipv6->nexthdr;
		quote->ports = (void *)(quote->ipv6 + 1);
	} else {
		quote->ipv4 = start;
		if ((void *)(quote->ipv4 + 1) + 8 > p->end)
			return false;
		if (quote->ipv4->ihl * 4 != IPV4_MIN_HEADER ||
		    quote->ipv4->frag_off & bpf_htons(IPV4_OFFSET_MASK))
			return false;
		quote->protocol = quote->ipv4->protocol;
		quote->ports = (void *)(quote->ipv4 + 1);
	}
	return quote->protocol == IPPROTO_TCP || quote->protocol == IPPROTO_UDP;
}

/* Corrects the quoted transport checksum, where it was quoted; returns what that
 * changes in the sum over the message. */
static __always_inline __u32 fix_quoted_checksum(const struct packet *p, struct quote *quote,
						 __u32 change)
{
	bool is_udp = quote->protocol == IPPROTO_UDP;
	__u32 at = is_udp ? 6 : 16;
	__u16 *checksum = (void *)quote->ports + at;
	__u16 before;

	if (at + sizeof(*checksum) > quote->l4_size || (void *)(checksum + 1) > p->end)
		return 0;
	before = *checksum;
	if (is_udp && before == 0)
		return 0;
	*checksum = csum_apply(before, change);
	return csum_change16(before, *checksum);
}

/* Of a packet, in the order of its ports. */
enum end {
	END_SOURCE,
	END_DESTINATION,
};

static __always_inline void write_address_ipv4(struct iphdr *ip, enum end end,
					       const struct address *address)
{
	*(end == END_SOURCE ? &ip->saddr : &ip->daddr) = address->words[3];
}

static __always_inline void write_address_ipv6(struct ipv6hdr *ip, enum end end,
					       const struct address *address)
{
	__builtin_memcpy(end == END_SOURCE ? &ip->saddr : &ip->daddr, address, 16);
}

/* Gives one end of the quoted packet another address and port; returns what that
 * changes in the sum over the message. */
static __always_inline __u32 rewrite_quote(const struct packet *p, struct quote *quote,
					   enum end end, const struct address *address, __be16 port)
{
	struct endpoint before = end == END_SOURCE ? read_quoted_source(p, quote)
						   : read_quoted_destination(p, quote);
	__u32 of_address = csum_change_address(&before.address, address);
	__u32 of_port = csum_change16(before.port, port);
	__u32 change = of_address + of_port;

	change += fix_quoted_checksum(p, quote, of_address + of_port);
	quote->ports[end] = port;
	if (p->is_ipv6) {
		write_address_ipv6(quote->ipv6, end, address);
	} else {
		__u16 checksum = csum_apply(quote->ipv4->check, of_address);

		change += csum_change16(quote->ipv4->check, checksum);
		quote->ipv4->check = checksum;
		write_address_ipv4(quote->ipv4, end, address);
	}
	return change;
}

/* Gives one end of the message itself another address. `change` is that of what it
 * quotes; ICMPv6 sums over its addresses too (RFC 4443, 2.3). */
static __always_inline void rewrite_message(struct packet *p, enum end end,
					    const struct address *address, __u32 change)
{
	struct address before =
		end == END_SOURCE ? read_source_address(p) : read_destination_address(p);
	__u32 of_address = csum_change_address(&before, address);
	struct icmp_header *icmp = p->l4;

	if (p->is_ipv6) {
		change += of_address;
		write_address_ipv6(p->ipv6, end, address);
	} else {
		p->ipv4->check = csum_apply(p->ipv4->check, of_address);
		write_address_ipv4(p->ipv4, end, address);
	}
	icmp->checksum = csum_apply(icmp->checksum, change);
}

#endif
