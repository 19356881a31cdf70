/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The packet's journey, from top to bottom of handle_packet():
 *
 *   parse  ->  whose is it?  ->  a service's:  check, steer, rewrite, send
 *                            ->  a reply's:    check, rewrite back, send
 *                            ->  nobody's:     pass, byte for byte as it came
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
#include "steer.h"
#include "flow.h"
#include "nexthop.h"
#include "nat.h"
#include "icmp.h"
#include "encap.h"
#include "toobig.h"
#include "verdict.h"

/* Whether a packet may be sent on in a service's name; if not, `why` says so. */
static __always_inline bool is_fit(struct packet *p, enum verdict *why)
{
	*why = VERDICT_DROP_MALFORMED;
	if (find_l3(p) + p->l3_total_size > p->end || p->l3_total_size < p->l3_header_size)
		return false;
	if (!p->is_ipv6 && p->l3_header_size > IPV4_MIN_HEADER) {
		*why = VERDICT_DROP_IP_OPTIONS;
		return false;
	}
	if (p->more_fragments) {
		*why = VERDICT_DROP_FRAGMENT;
		return false;
	}
	switch (check_l4(p)) {
	case L4_UNFIT:
		return false;
	case L4_FIT:
		break;
	}
	return true;
}

/* The verdicts of one direction, by the way the packet takes. */
struct ways {
	enum verdict transmit, redirect, stack, local;
};

#define FORWARD_WAYS                                                                               \
	{                                                                                          \
		VERDICT_FORWARD_TRANSMIT, VERDICT_FORWARD_REDIRECT, VERDICT_FORWARD_STACK,         \
			VERDICT_FORWARD_LOCAL                                                      \
	}
#define REPLY_WAYS                                                                                 \
	{                                                                                          \
		VERDICT_REPLY_TRANSMIT, VERDICT_REPLY_REDIRECT, VERDICT_REPLY_STACK,               \
			VERDICT_REPLY_LOCAL                                                        \
	}

static __always_inline enum verdict choose_way(const struct packet *p,
					       const struct nexthop *nexthop, struct ways ways)
{
	bool is_expired = read_ttl(p) <= 1;

	switch (choose_action(p, nexthop)) {
	case NEXTHOP_TRANSMIT:
		return is_expired ? VERDICT_PASS_TTL : ways.transmit;
	case NEXTHOP_REDIRECT:
		return is_expired ? VERDICT_PASS_TTL : ways.redirect;
	case NEXTHOP_STACK:
		return is_expired ? VERDICT_PASS_TTL : ways.stack;
	case NEXTHOP_LOCAL:
		return ways.local;
	case NEXTHOP_UNKNOWN:
	case NEXTHOP_NONE:
		break;
	}
	return VERDICT_DROP_NO_ROUTE;
}

static __always_inline void set_macs(struct packet *p, const struct nexthop *nexthop)
{
	copy_mac(p->eth->h_dest, nexthop->destination_mac);
	copy_mac(p->eth->h_source, nexthop->source_mac);
}

/* Ethernet and TTL, for a packet that leaves without the stack's help. */
static __always_inline void address_frame(struct packet *p, const struct nexthop *nexthop)
{
	p->egress = nexthop->ifindex;
	lower_ttl(p);
	set_macs(p, nexthop);
}

/* Tells the sender which size would fit, out of the interface where the packet came in. */
static __always_inline enum verdict tell_too_big(struct packet *p, __u32 mtu)
{
	__u32 ingress = p->ctx->ingress_ifindex;
	enum nexthop_action back = choose_way_back(ingress);

	if (p->l2_size != UNTAGGED || (back != NEXTHOP_TRANSMIT && back != NEXTHOP_REDIRECT))
		return VERDICT_DROP_NO_NEXTHOP;
	p->egress = ingress;
	if (!(p->is_ipv6 ? tell_too_big_ipv6(p->ctx, mtu) : tell_too_big_ipv4(p->ctx, mtu)))
		return VERDICT_DROP_NO_ROOM;
	return back == NEXTHOP_TRANSMIT ? VERDICT_TOO_BIG_TRANSMIT : VERDICT_TOO_BIG_REDIRECT;
}

/* --- a client's packet for a service --- */

static __always_inline void count_forward(const struct packet *p, __u32 id)
{
	struct backend_stats *stats = bpf_map_lookup_elem(&backend_stats, &id);

	if (!stats)
		return;
	stats->packets += 1;
	stats->bytes += p->l3_total_size;
	stats->new_flows += is_first_segment(p->tcp_flags);
}

/* Clients speak to this backend directly too: its replies ask how their flow came. */
static __always_inline bool has_direct_flows(__u32 id)
{
	__u32 *seen = bpf_map_lookup_elem(&direct_seen, &id);

	return seen && *seen;
}

/* Sends a packet in the client's name to a backend that knows nothing of VIPs. */
static __always_inline enum verdict forward_nat(struct packet *p, const struct service *service,
						__u32 id, const struct backend *backend,
						const struct nexthop *nexthop)
{
	const struct ways ways = FORWARD_WAYS;
	enum verdict verdict = choose_way(p, nexthop, ways);

	if (verdict == VERDICT_PASS_TTL || verdict == VERDICT_DROP_NO_ROUTE)
		return verdict;
	if (service->flags & SERVICE_TRACKED || has_direct_flows(id)) {
		struct endpoint home = {backend->address, backend->port, p->source.protocol, 0};
		struct flow_query query;

		ask_about(p, &p->source, &home, &query);
		query.origin.kind = FLOW_VIP;
		query.origin.vip = p->destination.address;
		query.origin.vip_port = p->destination.port;
		remember_origin(&query);
	}
	rewrite_destination(p, &backend->address, backend->port);
	if (verdict == ways.transmit || verdict == ways.redirect)
		address_frame(p, nexthop);
	return verdict;
}

/* The verdict on a packet that only XDP can send: the stack would take it for its own. */
static __always_inline enum verdict choose_forward(struct packet *p, const struct nexthop *nexthop)
{
	p->egress = nexthop->ifindex;
	switch (choose_exit(p, nexthop)) {
	case NEXTHOP_TRANSMIT:
		return VERDICT_FORWARD_TRANSMIT;
	case NEXTHOP_REDIRECT:
		return VERDICT_FORWARD_REDIRECT;
	case NEXTHOP_UNKNOWN:
	case NEXTHOP_STACK:
	case NEXTHOP_LOCAL:
	case NEXTHOP_NONE:
		break;
	}
	return VERDICT_DROP_NO_NEXTHOP;
}

/* Sends a packet as it is to a backend that has the VIP and answers by itself. Nobody
 * routed it, so the TTL stays. */
static __always_inline enum verdict forward_l2dsr(struct packet *p, const struct nexthop *nexthop)
{
	enum verdict verdict = choose_forward(p, nexthop);

	if (nexthop->action == NEXTHOP_LOCAL)
		return VERDICT_FORWARD_LOCAL;
	if (verdict == VERDICT_DROP_NO_NEXTHOP || nexthop->is_gateway ||
	    p->l3_total_size > nexthop->mtu)
		return VERDICT_DROP_NO_NEXTHOP;
	set_macs(p, nexthop);
	return verdict;
}

/* The same through a tunnel. `sum` is that over the packet, 0 where it isn't known. */
static __always_inline enum verdict forward_tunnel(struct packet *p, const struct service *service,
						   const struct nexthop *nexthop, __u32 sum)
{
	struct tunnel tunnel = {
		.source = nexthop->tunnel_source,
		.destination = nexthop->address,
		.hash = hash_address_port(&p->source.address, p->source.port, 0) >> 32,
		.inner_size = p->l3_total_size,
		.traffic_class = read_traffic_class(p),
		.inner_protocol = p->is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP,
	};

	enum verdict verdict = choose_forward(p, nexthop);

	if (verdict == VERDICT_DROP_NO_NEXTHOP || is_nobody(&tunnel.source))
		return VERDICT_DROP_NO_NEXTHOP;
	if (read_ttl(p) <= 1)
		return VERDICT_PASS_TTL;
	if (service->forwarding == FORWARDING_GUE) {
		tunnel.gue_port = p->settings->gue_port;
		tunnel.inner_sum = p->settings->gue_checksum ? sum : 0;
	}
	vary_source(&tunnel, p->settings);
	if (p->l3_total_size + measure_tunnel(&tunnel) > nexthop->mtu)
		return tell_too_big(p, nexthop->mtu - measure_tunnel(&tunnel));
	lower_ttl(p);
	if (!encapsulate(p->ctx, p->l2_size, &tunnel, nexthop))
		return VERDICT_DROP_NO_ROOM;
	return verdict;
}

static __always_inline enum verdict forward(struct packet *p, const struct service *service)
{
	struct nexthop *nexthop;
	struct backend *backend;
	enum verdict verdict;
	__u32 id;

	if (!is_fit(p, &verdict))
		return verdict;
	if (is_bad_source(p))
		return VERDICT_DROP_BAD_SOURCE;

	id = steer(p, service);
	backend = find_backend(id);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
	nexthop = find_backend_nexthop(p, id, backend);
	if (!nexthop || nexthop->action == NEXTHOP_NONE)
		return VERDICT_DROP_NO_ROUTE;

	count_forward(p, id);
	switch (service->forwarding) {
	case FORWARDING_NAT:
		return forward_nat(p, service, id, backend, nexthop);
	case FORWARDING_L2DSR:
		return forward_l2dsr(p, nexthop);
	default:
		return forward_tunnel(p, service, nexthop, sum_packet(p));
	}
}

/* --- a nat backend's answer to a client --- */

static __always_inline void count_reply(const struct packet *p, __u32 id)
{
	struct backend_stats *stats = bpf_map_lookup_elem(&backend_stats, &id);

	if (!stats)
		return;
	stats->reply_packets += 1;
	stats->reply_bytes += p->l3_total_size;
}

static __always_inline bool needs_origin(const struct reply *reply)
{
	return reply->flags & REPLY_SHARED || has_direct_flows(reply->backend);
}

static __always_inline enum verdict answer(struct packet *p, const struct reply *reply)
{
	const struct ways ways = REPLY_WAYS;
	struct address vip = reply->vip;
	__be16 vip_port = reply->vip_port;
	struct nexthop *nexthop;
	struct flow_query query;
	enum verdict verdict;
	bool fits = is_fit(p, &verdict);

	if (needs_origin(reply)) {
		ask_about(p, &p->destination, &p->source, &query);
		switch (find_origin(&query)) {
		case FLOW_DIRECT:
			return VERDICT_PASS_DIRECT;
		case FLOW_VIP:
			vip = query.origin.vip;
			vip_port = query.origin.vip_port;
			break;
		case FLOW_BACKEND: /* nobody remembers: the reply's own VIP is the best guess */
			break;
		}
	}
	nexthop = find_client_nexthop(p);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	/* To this machine itself: its own connection to the backend. Only on lo are
	 * clients of a service found here. */
	if (nexthop->action == NEXTHOP_LOCAL && p->ctx->ingress_ifindex != LOOPBACK_IFINDEX)
		return VERDICT_PASS_DIRECT;
	if (!fits)
		return verdict;
	verdict = choose_way(p, nexthop, ways);
	if (verdict == VERDICT_PASS_TTL || verdict == VERDICT_DROP_NO_ROUTE)
		return verdict;

	rewrite_source(p, &vip, vip_port);
	if (verdict == ways.transmit || verdict == ways.redirect)
		address_frame(p, nexthop);
	count_reply(p, reply->backend);
	return verdict;
}

/* --- a client's packet for a nat backend's own address --- */

static __always_inline enum verdict pass_direct(struct packet *p, const struct reply *reply)
{
	__u32 id = reply->backend;
	__u32 *seen = bpf_map_lookup_elem(&direct_seen, &id);
	enum verdict ignored;

	if (is_fit(p, &ignored)) {
		struct flow_query query;

		ask_about(p, &p->source, &p->destination, &query);
		query.origin.kind = FLOW_DIRECT;
		remember_origin(&query);
	}
	if (seen && !*seen)
		*seen = 1;
	return VERDICT_PASS_DIRECT;
}

/* --- an ICMP message --- */

/* An error from the client's side: it quotes what a backend sent in the VIP's name,
 * and goes to the backend that the flow lives on. */
static __always_inline enum verdict forward_error(struct packet *p, struct quote *quote,
						  const struct service *service)
{
	const struct ways ways = FORWARD_WAYS;
	struct nexthop *nexthop;
	struct backend *backend;
	enum verdict verdict;
	__u32 id, change;

	if (is_bad_source(p))
		return VERDICT_DROP_BAD_SOURCE;
	id = steer_quoted(p, &quote->destination, &quote->source, service);
	backend = find_backend(id);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
	nexthop = find_backend_nexthop(p, id, backend);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	if (service->forwarding == FORWARDING_L2DSR)
		return forward_l2dsr(p, nexthop);
	if (service->forwarding != FORWARDING_NAT)
		return forward_tunnel(p, service, nexthop, 0);
	verdict = choose_way(p, nexthop, ways);
	if (verdict == VERDICT_PASS_TTL || verdict == VERDICT_DROP_NO_ROUTE)
		return verdict;
	change = rewrite_quote(p, quote, 0, &backend->address, backend->port);
	rewrite_message(p, 1, &backend->address, change);
	if (verdict == ways.transmit || verdict == ways.redirect)
		address_frame(p, nexthop);
	return verdict;
}

/* An error from the backends' side: it quotes what we sent on, and goes to the client
 * in the VIP's name. A router on the way there keeps its own. */
static __always_inline enum verdict answer_error(struct packet *p, struct quote *quote,
						 const struct reply *reply)
{
	const struct ways ways = REPLY_WAYS;
	struct address vip = reply->vip;
	__be16 vip_port = reply->vip_port;
	struct flow_query query;
	struct nexthop *nexthop;
	enum verdict verdict;
	__u32 change;

	if (needs_origin(reply)) {
		ask_about(p, &quote->source, &quote->destination, &query);
		switch (find_origin(&query)) {
		case FLOW_DIRECT:
			return VERDICT_PASS_DIRECT;
		case FLOW_VIP:
			vip = query.origin.vip;
			vip_port = query.origin.vip_port;
			break;
		case FLOW_BACKEND:
			break;
		}
	}
	nexthop = find_client_nexthop(p);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	if (nexthop->action == NEXTHOP_LOCAL && p->ctx->ingress_ifindex != LOOPBACK_IFINDEX)
		return VERDICT_PASS_DIRECT;
	verdict = choose_way(p, nexthop, ways);
	if (verdict == VERDICT_PASS_TTL || verdict == VERDICT_DROP_NO_ROUTE)
		return verdict;
	change = rewrite_quote(p, quote, 1, &vip, vip_port);
	if (is_same_address(&p->source.address, &quote->destination.address))
		rewrite_message(p, 0, &vip, change);
	else
		rewrite_message(p, 0, &p->source.address, change);
	if (verdict == ways.transmit || verdict == ways.redirect)
		address_frame(p, nexthop);
	return verdict;
}

static __always_inline enum verdict handle_error(struct packet *p)
{
	struct quote quote = {};
	struct service *service;
	struct reply *reply;

	if (!parse_quote(p, &quote))
		return VERDICT_PASS_OTHER;
	service = find_service(&quote.source);
	if (service && is_same_address(&quote.source.address, &p->destination.address))
		return forward_error(p, &quote, service);
	reply = find_reply(&quote.destination);
	if (reply && is_same_address(&quote.source.address, &p->destination.address))
		return answer_error(p, &quote, reply);
	return VERDICT_PASS_OTHER;
}

static __always_inline enum verdict handle_echo(struct packet *p)
{
	__u32 ingress = p->ctx->ingress_ifindex;

	if (p->settings->passes_echo)
		return VERDICT_PASS_OTHER;
	if (!is_vip_of(p, IPPROTO_TCP) && !is_vip_of(p, IPPROTO_UDP))
		return VERDICT_PASS_OTHER;
	if (is_bad_source(p))
		return VERDICT_DROP_BAD_SOURCE;
	p->egress = ingress;
	switch (choose_way_back(ingress)) {
	case NEXTHOP_TRANSMIT:
		answer_echo(p);
		return VERDICT_ECHO_TRANSMIT;
	case NEXTHOP_REDIRECT:
		answer_echo(p);
		return VERDICT_ECHO_REDIRECT;
	default: /* the stack answers for addresses that it has */
		return VERDICT_PASS_OTHER;
	}
}

static __always_inline enum verdict handle_message(struct packet *p)
{
	if (parse_ip(p) != L3_KIND_WHOLE)
		return VERDICT_PASS_OTHER;
	if (p->l3_header_size != (p->is_ipv6 ? sizeof(*p->ipv6) : sizeof(*p->ipv4)))
		return VERDICT_PASS_OTHER;
	p->l4 = find_l3(p) + (p->is_ipv6 ? sizeof(*p->ipv6) : sizeof(*p->ipv4));
	switch (parse_icmp(p)) {
	case ICMP_KIND_ECHO:
		return handle_echo(p);
	case ICMP_KIND_ERROR:
		return handle_error(p);
	case ICMP_KIND_OTHER:
		break;
	}
	return VERDICT_PASS_OTHER;
}

/* --- whose is it? --- */

/* A packet whose ports can't be read is ours if a service of its protocol has the VIP. */
static __always_inline enum verdict judge_portless(const struct packet *p, enum verdict if_ours)
{
	return is_to_vip(p) ? if_ours : VERDICT_PASS_OTHER;
}

static __always_inline enum verdict handle_transport(struct packet *p)
{
	struct service *service;
	struct reply *reply;

	service = find_service(&p->destination);
	if (service)
		return forward(p, service);
	reply = find_reply(&p->source);
	if (reply)
		return answer(p, reply);
	reply = find_reply(&p->destination);
	if (reply)
		return pass_direct(p, reply);
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

/* --- the ways in: a function each, so that each has the stack for itself --- */

static __noinline enum verdict handle_ipv4(struct xdp_md *ctx, __u32 l2_size, __u32 *egress)
{
	struct packet packet = {.is_ipv6 = false};
	enum verdict verdict;

	if (!begin_packet(&packet, ctx, l2_size))
		return VERDICT_PASS_OTHER;
	verdict = handle_ip(&packet);
	*egress = packet.egress;
	return verdict;
}

static __noinline enum verdict handle_ipv6(struct xdp_md *ctx, __u32 l2_size, __u32 *egress)
{
	struct packet packet = {.is_ipv6 = true};
	enum verdict verdict;

	if (!begin_packet(&packet, ctx, l2_size))
		return VERDICT_PASS_OTHER;
	verdict = handle_ip(&packet);
	*egress = packet.egress;
	return verdict;
}

static __always_inline bool is_version_6(const struct packet *p)
{
	const __u8 *first = find_network_header(p);

	return (void *)(first + 1) <= p->end && *first >> 4 == 6;
}

static __noinline enum verdict handle_icmp(struct xdp_md *ctx, __u32 l2_size, __u32 *egress)
{
	struct packet packet = {};
	enum verdict verdict;

	if (!begin_packet(&packet, ctx, l2_size))
		return VERDICT_PASS_OTHER;
	if (is_version_6(&packet)) {
		packet.is_ipv6 = true;
		verdict = handle_message(&packet);
	} else {
		packet.is_ipv6 = false;
		verdict = handle_message(&packet);
	}
	*egress = packet.egress;
	return verdict;
}

SEC("xdp")
int xdplb(struct xdp_md *ctx)
{
	enum verdict verdict = VERDICT_PASS_OTHER;
	__u32 l2_size = 0, egress = 0;

	switch (sort_frame(ctx, &l2_size)) {
	case FRAME_KIND_IPV4:
		verdict = handle_ipv4(ctx, l2_size, &egress);
		break;
	case FRAME_KIND_IPV6:
		verdict = handle_ipv6(ctx, l2_size, &egress);
		break;
	case FRAME_KIND_ICMP:
		verdict = handle_icmp(ctx, l2_size, &egress);
		break;
	case FRAME_KIND_OTHER:
		break;
	}
	return finish(verdict, egress);
}

/* bpf_fib_lookup and the coarse clock are for GPL-compatible programs. */
const char gpl[] SEC("license") = "GPL";
