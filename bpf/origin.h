/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How did a flow come to its backend? Asked of the replies of backends that clients reach
 * in more than one way: through several VIPs (FLOW_VIP), or directly (FLOW_DIRECT).
 * Entries are keyed by client and backend.
 *
 * The backend itself says who is real: a flow is remembered when it answers. Global
 * functions, as in recall.h.
 */
#ifndef XDPLB_ORIGIN_H
#define XDPLB_ORIGIN_H

#include "flow.h"

static __always_inline bool is_same_origin(const struct flow *a, const struct flow *b)
{
	return a->kind == b->kind && a->vip_port == b->vip_port &&
	       is_same_address(&a->vip, &b->vip);
}

static __always_inline void remember_proven(const struct flow_query *query)
{
	remember(query, &origins, FLOW_EVENT_REMEMBERED);
}

/* Notes that the client's packets reach the backend by query->vip, or directly. */
__noinline int note_origin(void)
{
	const struct flow_query *query = find_query();
	struct flow *origin, *known, *waiting, *stray;

	origin = begin_draft();
	if (!query || !origin)
		return 0;
	count_event(FLOW_EVENT_ASKED);
	origin->kind = query->vip_port ? FLOW_VIP : FLOW_DIRECT;
	origin->vip = query->vip;
	origin->vip_port = query->vip_port;
	if (is_first_segment(query->tcp_flags)) {
		remember_pending(query);
		return 0;
	}
	known = bpf_map_lookup_elem(&origins, &query->key);
	if (known && is_same_origin(known, origin)) {
		touch_flow(query, known);
		return 0;
	}
	waiting = find_pending(query);
	if (waiting && !is_same_origin(waiting, origin))
		waiting = NULL;
	/* The client comes another way now. A datagram is believed, a segment if the backend
	 * has answered a SYN that came that way too: no live flow gets a SYN-ACK. */
	if (known && (!is_about_tcp(query) || (waiting && waiting->answered)))
		remember_proven(query);
	if (known || waiting)
		return 0;
	stray = bpf_map_lookup_elem(&strays, &query->key);
	if (!stray || !is_same_origin(stray, origin))
		remember_stray(query);
	return 0;
}

static __always_inline int tell_origin(const struct flow *origin, struct flow_query *query)
{
	query->vip = origin->vip;
	query->vip_port = origin->vip_port;
	return origin->kind;
}

/* How a flow came that the backend has not answered yet. From now on it is known, unless
 * the backend refuses it, or answers its SYN only, which may be anybody's. */
static __always_inline int take_candidate(struct flow_query *query, const struct flow *flow)
{
	struct flow *draft = find_draft();

	if (draft && !query->is_quoted && !(query->tcp_flags & (TCP_SYN | TCP_RST))) {
		*draft = *flow;
		remember_proven(query);
	}
	return tell_origin(flow, query);
}

/* How the flow of a reply came to its backend: its kind, and in query->vip the VIP;
 * FLOW_BACKEND, which none of them is, if nobody remembers. A SYN-ACK answers a SYN,
 * which is pending, whatever an older flow of that name was. */
__noinline int find_origin(void)
{
	struct flow_query *query = find_query();
	struct flow *flow;

	if (!query)
		return FLOW_BACKEND;
	count_event(FLOW_EVENT_ASKED);
	if (query->tcp_flags & TCP_SYN) {
		flow = bpf_map_lookup_elem(&pending, &query->key);
		if (flow) {
			flow->answered = 1;
			return take_candidate(query, flow);
		}
	}
	flow = bpf_map_lookup_elem(&origins, &query->key);
	if (flow)
		return tell_origin(flow, query);
	flow = bpf_map_lookup_elem(&pending, &query->key);
	if (!flow)
		flow = bpf_map_lookup_elem(&strays, &query->key);
	if (flow)
		return take_candidate(query, flow);
	return FLOW_BACKEND;
}

#endif
