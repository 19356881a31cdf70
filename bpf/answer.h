/* SPDX-License-Identifier: GPL-2.0-only */
/* A nat backend's packet to a client, and a client's to a nat backend's own address. */
#ifndef XDPLB_ANSWER_H
#define XDPLB_ANSWER_H

#include "fit.h"
#include "nat.h"
#include "origin.h"
#include "send.h"

static __always_inline void count_reply(const struct packet *p, __u32 id)
{
	struct backend_stats *stats = bpf_map_lookup_elem(&backend_stats, &id);

	if (!stats)
		return;
	stats->reply_packets += 1;
	stats->reply_bytes += p->l3_total_size;
}

/* The VIP in whose name a packet from `backend` to `client` goes; false if the client
 * spoke to the backend directly. */
static __always_inline bool choose_vip(const struct packet *p, const struct endpoint *client,
				       const struct endpoint *backend, const struct reply *reply,
				       bool is_quoted, struct endpoint *vip)
{
	struct flow_query query;

	vip->address = reply->vip;
	vip->port = reply->vip_port;
	if (!(reply->flags & REPLY_SHARED) && !has_direct_flows(reply->backend))
		return true;
	ask_about(p, client, backend, &query);
	query.is_quoted = is_quoted;
	switch (find_origin(&query)) {
	case FLOW_DIRECT:
		if (!is_quoted)
			note_direct_flow(reply->backend);
		return false;
	case FLOW_VIP:
		vip->address = query.vip;
		vip->port = query.vip_port;
		break;
	case FLOW_BACKEND: /* nobody remembers: the reply's own VIP is the best guess */
		break;
	}
	return true;
}

/* A packet to this machine itself is of its own connection to the backend. Only on lo
 * are clients of a service found here. */
static __always_inline bool is_own(const struct packet *p, const struct nexthop *nexthop)
{
	return nexthop->action == NEXTHOP_LOCAL && p->ctx->ingress_ifindex != LOOPBACK_IFINDEX;
}

static __always_inline enum verdict answer(struct packet *p, const struct reply *reply)
{
	const struct ways ways = list_reply_ways();
	struct nexthop *nexthop;
	struct endpoint vip;
	enum verdict verdict;
	bool fits = is_fit(p, &verdict);

	if (!choose_vip(p, &p->destination, &p->source, reply, false, &vip))
		return VERDICT_PASS_DIRECT;
	nexthop = find_client_nexthop(p);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	if (is_own(p, nexthop))
		return VERDICT_PASS_DIRECT;
	if (!fits)
		return verdict;
	verdict = choose_way(p, nexthop, ways);
	if (is_end(verdict))
		return verdict;
	if (is_unsplittable(p, nexthop))
		return tell_too_big(p, nexthop->mtu);

	rewrite_source(p, &vip.address, vip.port);
	if (is_leaving(verdict, ways))
		address_frame(p, nexthop);
	count_reply(p, reply->backend);
	return verdict;
}

static __always_inline enum verdict pass_direct(struct packet *p, const struct reply *reply)
{
	enum verdict ignored;

	if (is_fit(p, &ignored)) {
		struct flow_query query;

		ask_about(p, &p->source, &p->destination, &query);
		note_origin(&query);
	}
	note_direct_flow(reply->backend);
	return VERDICT_PASS_DIRECT;
}

#endif
