/* SPDX-License-Identifier: GPL-2.0-only */
/* A nat backend's packet to a client, and a client's to a nat backend's own address. */
#ifndef XDPLB_ANSWER_H
#define XDPLB_ANSWER_H

#include "client_way.h"
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

/* In whose name a reply goes; nobody's if the client spoke to the backend directly. */
struct origin {
	const struct address *vip;
	__be16 port;
};

static __always_inline struct origin say_origin(const struct reply *reply)
{
	return (struct origin){&reply->vip, reply->vip_port};
}

/* Whether it is not always the same. */
static __always_inline bool is_asked_for(const struct reply *reply)
{
	__u32 id = reply->backend;

	return reply->flags & REPLY_SHARED || has_direct_flows(&id);
}

static __always_inline struct origin ask_origin(struct flow_query *query, const struct reply *reply)
{
	if (!query)
		return say_origin(reply);
	switch (find_origin()) {
	case FLOW_DIRECT:
		if (!query->is_quoted)
			note_direct_flow(reply->backend);
		return (struct origin){NULL, 0};
	case FLOW_VIP:
		return (struct origin){&query->vip, query->vip_port};
	case FLOW_BACKEND: /* nobody remembers: the reply's own VIP is the best guess */
		break;
	}
	return say_origin(reply);
}

static __always_inline struct origin choose_origin(const struct packet *p,
						   const struct reply *reply)
{
	struct endpoint client, backend;

	if (!is_asked_for(reply))
		return say_origin(reply);
	client = read_destination(p);
	backend = read_source(p);
	return ask_origin(ask_about(p, &client, &backend.address, backend.port), reply);
}

/* A packet to this machine itself is of its own connection to the backend. Only on lo
 * are clients of a service found here. */
static __always_inline bool is_own(const struct packet *p, const struct nexthop *nexthop)
{
	return nexthop->action == NEXTHOP_LOCAL && p->ctx->ingress_ifindex != LOOPBACK_IFINDEX;
}

static __always_inline enum verdict answer(struct packet *p, const struct reply *reply)
{
	const struct endings endings = list_reply_endings();
	struct nexthop *nexthop;
	enum verdict verdict;
	bool fits = is_fit(p, &verdict);
	struct origin origin = choose_origin(p, reply);

	if (!origin.vip)
		return VERDICT_PASS_DIRECT;
	nexthop = find_client_nexthop(p);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	if (is_own(p, nexthop))
		return VERDICT_PASS_DIRECT;
	if (!fits)
		return verdict;
	verdict = choose_ending(p, nexthop, endings);
	if (is_end(verdict))
		return verdict;
	if (is_unsplittable(p, nexthop))
		return tell_too_big(p, nexthop->mtu);

	rewrite_source(p, origin.vip, origin.port);
	count_reply(p, reply->backend);
	return send(p, nexthop, verdict, endings);
}

static __always_inline enum verdict pass_direct(struct packet *p, const struct reply *reply)
{
	enum verdict ignored;

	if (is_fit(p, &ignored)) {
		struct endpoint client = read_source(p), backend = read_destination(p);

		if (ask_about(p, &client, &backend.address, backend.port))
			note_origin();
	}
	note_direct_flow(reply->backend);
	return VERDICT_PASS_DIRECT;
}

#endif
