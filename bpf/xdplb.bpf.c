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
#include "ipv4.h"
#include "l4.h"

#include "service.h"
#include "steer.h"
#include "flow.h"
#include "nat.h"
#include "nexthop.h"
#include "verdict.h"

/* Whether a packet may be sent on in a service's name; if not, `why` says so. */
static __always_inline bool is_fit(struct packet *p, enum verdict *why)
{
	*why = VERDICT_DROP_MALFORMED;
	if ((void *)p->ipv4 + p->l3_total_size > p->end || p->l3_total_size < p->l3_header_size)
		return false;
	if (p->l3_header_size > IPV4_MIN_HEADER) {
		*why = VERDICT_DROP_IP_OPTIONS;
		return false;
	}
	if (is_first_fragment(p)) {
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

static __always_inline enum verdict choose_way(const struct packet *p,
					       const struct nexthop *nexthop, struct ways ways)
{
	bool is_expired = p->ipv4->ttl <= 1;

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

/* Ethernet and TTL, for a packet that leaves without the stack's help. */
static __always_inline void address_frame(struct packet *p, const struct nexthop *nexthop)
{
	p->egress = nexthop->ifindex;
	lower_ttl(p->ipv4);
	__builtin_memcpy(p->eth->h_dest, nexthop->destination_mac, ETH_ALEN);
	__builtin_memcpy(p->eth->h_source, nexthop->source_mac, ETH_ALEN);
}

/* --- a client's packet for a service --- */

static __always_inline void count_forward(const struct packet *p, __u32 id)
{
	struct backend_stats *stats = bpf_map_lookup_elem(&backend_stats, &id);

	if (!stats)
		return;
	stats->packets += 1;
	stats->bytes += p->l3_total_size;
	stats->new_flows += p->is_new;
}

/* Clients speak to this backend directly too: its replies ask how their flow came. */
static __always_inline bool has_direct_flows(__u32 id)
{
	__u32 *seen = bpf_map_lookup_elem(&direct_seen, &id);

	return seen && *seen;
}

static __always_inline enum verdict forward(struct packet *p, const struct service *service)
{
	static const struct ways ways = {VERDICT_FORWARD_TRANSMIT, VERDICT_FORWARD_REDIRECT,
					 VERDICT_FORWARD_STACK, VERDICT_FORWARD_LOCAL};
	struct nexthop *nexthop;
	struct backend *backend;
	enum verdict verdict;
	__u32 id;

	if (!is_fit(p, &verdict))
		return verdict;
	if (is_bad_source_ipv4(p))
		return VERDICT_DROP_BAD_SOURCE;

	id = steer(p, service);
	backend = find_backend(id);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
	nexthop = find_backend_nexthop(p, id, backend);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	verdict = choose_way(p, nexthop, ways);
	if (verdict == VERDICT_PASS_TTL || verdict == VERDICT_DROP_NO_ROUTE)
		return verdict;

	if (service->flags & SERVICE_TRACKED || has_direct_flows(id)) {
		struct endpoint home = {backend->address, backend->port, p->source.protocol, 0};

		remember_origin(p, &home, &p->destination);
	}
	rewrite_destination(p, &backend->address, backend->port);
	if (verdict == ways.transmit || verdict == ways.redirect)
		address_frame(p, nexthop);
	count_forward(p, id);
	return verdict;
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
	static const struct ways ways = {VERDICT_REPLY_TRANSMIT, VERDICT_REPLY_REDIRECT,
					 VERDICT_REPLY_STACK, VERDICT_REPLY_LOCAL};
	const struct address *vip = &reply->vip;
	const struct flow *origin = NULL;
	__be16 vip_port = reply->vip_port;
	struct nexthop *nexthop;
	enum verdict verdict;
	bool fits = is_fit(p, &verdict);

	if (needs_origin(reply))
		origin = find_origin(p);
	if (origin && origin->kind == FLOW_DIRECT)
		return VERDICT_PASS_DIRECT;
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

	if (origin) {
		vip = &origin->vip;
		vip_port = origin->vip_port;
	}
	rewrite_source(p, vip, vip_port);
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

	if (is_fit(p, &ignored))
		remember_origin(p, &p->destination, NULL);
	if (seen && !*seen)
		*seen = 1;
	return VERDICT_PASS_DIRECT;
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

	service = find_service(p);
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

static __always_inline enum verdict handle_ipv4(struct packet *p)
{
	switch (parse_ipv4(p)) {
	case IPV4_KIND_UNREADABLE:
		return VERDICT_PASS_OTHER;
	case IPV4_KIND_MALFORMED:
		return judge_portless(p, VERDICT_DROP_MALFORMED);
	case IPV4_KIND_LATER_FRAGMENT:
		return judge_portless(p, VERDICT_DROP_FRAGMENT);
	case IPV4_KIND_WHOLE:
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

static __always_inline enum verdict handle_packet(struct packet *p)
{
	__u32 only = 0;

	p->settings = bpf_map_lookup_elem(&settings, &only);
	if (!p->settings)
		return VERDICT_PASS_OTHER;
	switch (parse_eth(p)) {
	case ETH_KIND_OTHER:
		return VERDICT_PASS_OTHER;
	case ETH_KIND_IPV4:
		break;
	}
	return handle_ipv4(p);
}

SEC("xdp")
int xdplb(struct xdp_md *ctx)
{
	struct packet packet = {
		.ctx = ctx,
		.end = (void *)(long)ctx->data_end,
	};

	return finish(&packet, handle_packet(&packet));
}

/* bpf_fib_lookup and the coarse clock are for GPL-compatible programs. */
const char gpl[] SEC("license") = "GPL";
