/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The packet's journey; read it from the bottom up, as a packet comes in.
 *
 *   eth.h     which family?   ip.h  which addresses?   l4.h  which ports?
 *
 *   whose is it?
 *     a service's    forward.h   choose a backend (steer.h), then nat, l2dsr, ipip, gue
 *     a reply's      answer.h    give it the VIP as its source
 *     an ICMP one    message.h   goes where the flow goes that it quotes
 *     nobody's                   pass it, byte for byte as it came
 *
 *   send.h    which way out?  verdict.h  count it, once, and go
 *
 * Whose it is comes before any judgement: what is not for a service is none of our
 * business, however odd it looks.
 */
#include "packet.h"
#include "maps.h"

#include "eth.h"
#include "ip.h"
#include "l4.h"
#include "service.h"

#include "forward.h"
#include "answer.h"
#include "message.h"
#include "verdict.h"

/* --- whose is it? --- */

/* A packet whose ports can't be read is ours if a service of its protocol has the VIP. */
static __always_inline enum verdict judge_portless(const struct packet *p, enum verdict if_ours)
{
	return is_to_vip(p) ? if_ours : VERDICT_PASS_OTHER;
}

static __always_inline enum verdict handle_transport(struct packet *p)
{
	struct endpoint end = read_destination(p);
	struct entry *there = find_entry(p->settings, &end), *from;

	if (is_service(there))
		return forward(p, &there->service);
	if (!p->settings->has_replies)
		return VERDICT_PASS_OTHER;
	end = read_source(p);
	from = find_entry(p->settings, &end);
	if (is_nat_backend(from))
		return answer(p, &from->reply);
	if (is_nat_backend(there))
		return pass_direct(p, &there->reply);
	return VERDICT_PASS_OTHER;
}

static __always_inline enum verdict handle_ip(struct packet *p)
{
	switch (parse_ip(p)) {
	case L3_KIND_UNREADABLE:
		return VERDICT_PASS_OTHER;
	case L3_KIND_MALFORMED:
		return judge_portless(p, VERDICT_DROP_MALFORMED);
	case L3_KIND_TOO_DEEP:
		return judge_portless(p, VERDICT_DROP_IP_OPTIONS);
	case L3_KIND_LATER_FRAGMENT:
		return judge_portless(p, VERDICT_DROP_FRAGMENT);
	case L3_KIND_WHOLE:
		break;
	}
	switch (parse_ports(p)) {
	case L4_KIND_OTHER:
		return VERDICT_PASS_OTHER;
	case L4_KIND_UNREADABLE:
		return judge_portless(p, VERDICT_DROP_MALFORMED);
	case L4_KIND_PORTS:
		break;
	}
	return handle_transport(p);
}

/* --- the ways in --- */

static __always_inline int handle_ipv4(struct xdp_md *ctx, __u32 l2_size)
{
	struct packet packet = {.is_ipv6 = false};
	enum verdict verdict;

	if (!begin_packet(&packet, ctx, l2_size))
		return finish(VERDICT_PASS_OTHER, 0);
	verdict = handle_ip(&packet); /* chooses the egress */
	return finish(verdict, packet.egress);
}

/* A function, so that IPv4 packets have the stack for themselves. */
static __noinline int handle_ipv6(struct xdp_md *ctx, __u32 l2_size)
{
	struct packet packet = {.is_ipv6 = true};
	enum verdict verdict;

	if (!begin_packet(&packet, ctx, l2_size))
		return finish(VERDICT_PASS_OTHER, 0);
	verdict = handle_ip(&packet);
	return finish(verdict, packet.egress);
}

static __noinline int handle_icmp(struct xdp_md *ctx, __u32 l2_size, bool is_ipv6)
{
	struct packet packet = {};
	enum verdict verdict;

	if (!begin_packet(&packet, ctx, l2_size))
		return finish(VERDICT_PASS_OTHER, 0);
	if (is_ipv6) { /* a constant in each copy of the code */
		packet.is_ipv6 = true;
		verdict = handle_message(&packet);
	} else {
		packet.is_ipv6 = false;
		verdict = handle_message(&packet);
	}
	return finish(verdict, packet.egress);
}

SEC("xdp")
int xdplb(struct xdp_md *ctx)
{
	__u32 l2_size = 0;

	switch (sort_frame(ctx, &l2_size)) {
	case FRAME_KIND_IPV4:
		return handle_ipv4(ctx, l2_size);
	case FRAME_KIND_IPV6:
		return handle_ipv6(ctx, l2_size);
	case FRAME_KIND_ICMP:
		return handle_icmp(ctx, l2_size, false);
	case FRAME_KIND_ICMPV6:
		return handle_icmp(ctx, l2_size, true);
	case FRAME_KIND_OTHER:
		break;
	}
	return finish(VERDICT_PASS_OTHER, 0);
}

/* bpf_fib_lookup and the coarse clock are for GPL-compatible programs. */
const char gpl[] SEC("license") = "GPL";
