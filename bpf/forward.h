/* SPDX-License-Identifier: GPL-2.0-only */
/* A client's packet for a service, in each forwarding mode. */
#ifndef XDPLB_FORWARD_H
#define XDPLB_FORWARD_H

#include "encap.h"
#include "fit.h"
#include "nat.h"
#include "origin.h"
#include "send.h"
#include "service.h"
#include "steer.h"

static __always_inline void count_forward(const struct packet *p, const __u32 *id)
{
	struct backend_stats *stats = bpf_map_lookup_elem(&backend_stats, id);

	if (!stats)
		return;
	stats->packets += 1;
	stats->bytes += p->l3_total_size;
	stats->new_flows += is_first_segment(p->tcp_flags);
}

/* Sends a packet in the client's name to a backend that knows nothing of VIPs. */
static __always_inline enum verdict forward_nat(struct packet *p, const struct service *service,
						const __u32 *id, const struct backend *backend,
						const struct nexthop *nexthop)
{
	const struct endings endings = list_forward_endings();
	enum verdict verdict = choose_ending(p, nexthop, endings);

	if (is_end(verdict))
		return verdict;
	if (is_unsplittable(p, nexthop))
		return tell_too_big(p, nexthop->mtu);
	if (service->flags & SERVICE_SHARED || has_direct_flows(id)) {
		struct endpoint client = read_source(p), vip = read_destination(p);
		struct flow_query *query = ask_about(p, &client, &backend->address, backend->port);

		if (query) {
			query->vip = vip.address;
			query->vip_port = vip.port;
			note_origin();
		}
	}
	rewrite_destination(p, &backend->address, backend->port);
	return send(p, nexthop, verdict, endings);
}

/* Sends a packet as it is to a backend that has the VIP and answers by itself. Nobody
 * routed it, so the TTL stays. */
static __always_inline enum verdict forward_l2dsr(struct packet *p, const struct nexthop *nexthop)
{
	enum verdict verdict = choose_ending_by_xdp(p, nexthop);

	if (nexthop->action == NEXTHOP_LOCAL)
		return VERDICT_FORWARD_LOCAL;
	if (verdict == VERDICT_DROP_NO_NEXTHOP || nexthop->is_gateway)
		return VERDICT_DROP_NO_NEXTHOP;
	if (p->l3_total_size > nexthop->mtu)
		return tell_too_big(p, nexthop->mtu);
	write_macs(p->eth, nexthop);
	return verdict;
}

/* What tells receivers of a tunnel flows apart. An ICMP error has no ports. */
static __always_inline __u32 hash_flow(const struct packet *p, bool is_error)
{
	struct endpoint client = read_source(p);

	return hash_address_port(&client.address, is_error ? 0 : client.port, 0) >> 32;
}

/* The same through a tunnel. An ICMP error's sum isn't known, and nobody is told that
 * it is too big (RFC 1122, 3.2.2; RFC 4443, 2.4). */
static __always_inline enum verdict forward_tunnel(struct packet *p, const struct service *service,
						   const struct nexthop *nexthop, bool is_error)
{
	bool is_outer_ipv4 = nexthop->tunnel_family == 4;
	struct tunnel tunnel = {
		.hosts_mask = is_outer_ipv4 ? p->settings->tunnel_hosts_ipv4
					    : p->settings->tunnel_hosts_ipv6,
		.inner_size = p->l3_total_size,
		.traffic_class = read_traffic_class(p),
		.inner_protocol = p->is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP,
	};
	enum verdict verdict = choose_ending_by_xdp(p, nexthop);

	if (verdict == VERDICT_DROP_NO_NEXTHOP || !nexthop->tunnel_family)
		return VERDICT_DROP_NO_NEXTHOP;
	if (read_ttl(p) <= 1)
		return VERDICT_PASS_TTL;
	if (service->forwarding == FORWARDING_GUE)
		tunnel.gue_port = p->settings->gue_port;
	/* Nothing in an outer IPv4 header tells flows apart, unless the source does. */
	if (tunnel.gue_port || tunnel.hosts_mask || !is_outer_ipv4)
		tunnel.hash = hash_flow(p, is_error);
	tunnel.overhead = measure_tunnel(&tunnel, nexthop);
	if (p->l3_total_size + tunnel.overhead > nexthop->mtu)
		return is_error ? VERDICT_DROP_NO_NEXTHOP
				: tell_too_big(p, nexthop->mtu - tunnel.overhead);
	lower_ttl(p); /* before the sum: IPv6 has no checksum that would follow */
	if (tunnel.gue_port && p->settings->gue_checksum && !is_error)
		tunnel.inner_sum = sum_packet(p);
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
	if (is_bad_source(p) || is_from_vip(p))
		return VERDICT_DROP_BAD_SOURCE;

	id = steer(p, service);
	backend = find_backend(&id);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
	nexthop = find_backend_nexthop(p, &id, backend);
	if (!nexthop || nexthop->action == NEXTHOP_NONE)
		return VERDICT_DROP_NO_ROUTE;

	count_forward(p, &id);
	switch (service->forwarding) {
	case FORWARDING_NAT:
		return forward_nat(p, service, &id, backend, nexthop);
	case FORWARDING_L2DSR:
		return forward_l2dsr(p, nexthop);
	default:
		return forward_tunnel(p, service, nexthop, false);
	}
}

#endif
