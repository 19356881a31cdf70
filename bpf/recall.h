/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which backend does a flow live on? Asked of moved and pinned slots, and of every slot
 * of a tracked service. Entries are FLOW_BACKEND, keyed by client and VIP.
 *
 * A global function: no settled packet comes here, and the verifier looks at it once
 * instead of once for each way that leads there.
 */
#ifndef XDPLB_RECALL_H
#define XDPLB_RECALL_H

#include "flow.h"

/* A flow whose backend is gone, or whose id went to another backend, has no home. */
static __always_inline bool is_at_home(const struct flow *flow)
{
	__u32 id = flow->backend;
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->born == flow->born &&
	       (backend->state == BACKEND_READY || backend->state == BACKEND_DRAIN);
}

/* A stray counts for one window, here as for the controller, who settles slots without it:
 * what follows in a settled slot is not seen, a new flow of the same ports for one. */
static __always_inline bool is_over(const struct flow_query *query, const struct flow *stray)
{
	__u32 id = query->service;
	struct service_info *info = bpf_map_lookup_elem(&service_info, &id);

	return !info || bpf_ktime_get_coarse_ns() - stray->last_seen_ns >=
				info->drain_timeout_ms * 1000000ULL;
}

static __always_inline void draft_home(const struct flow_query *query, __u16 id)
{
	struct flow *draft = begin_draft();
	__u32 key = id;
	struct backend *backend = bpf_map_lookup_elem(&backends, &key);

	if (!draft)
		return;
	draft->kind = FLOW_BACKEND;
	draft->slot = query->slot_index;
	draft->backend = id;
	draft->born = backend ? backend->born : 0;
}

/* Whether the slot's older flows are still being learnt. The window ends by itself: a
 * controller that died leaves nothing that grows. */
static __always_inline bool is_moved(const struct flow_query *query)
{
	struct service_info *info;
	__u32 id = query->service;

	if (query->slot.previous == 0 || query->slot.previous == query->slot.backend)
		return false;
	info = bpf_map_lookup_elem(&service_info, &id);
	return info && bpf_ktime_get_coarse_ns() < info->window_end_ns;
}

/* Remembers a flow that has proven itself; false if there is no room. */
static __always_inline bool remember_home(const struct flow_query *query,
					  const struct flow *waiting)
{
	struct flow *draft = find_draft();

	if (!draft)
		return false;
	*draft = *waiting;
	start_flow(query, draft);
	draft->closing |= waiting->closing;
	draft->slot = query->slot_index;
	if (bpf_map_update_elem(&flows, &query->key, draft, BPF_ANY)) {
		count_event(FLOW_EVENT_REFUSED);
		return false;
	}
	count_event(FLOW_EVENT_REMEMBERED);
	return true;
}

static __always_inline __u16 follow_pending(const struct flow_query *query,
					    const struct flow *waiting)
{
	__u16 id = waiting->backend;

	/* What a host sends that was answered a SYN it never sent. */
	if (query->tcp_flags & TCP_RST)
		return id;
	/* Without room it waits where no sequence number is asked for. */
	if (!remember_home(query, waiting))
		remember_stray(query);
	/* Or the FIN's own ACK, if little was sent, would continue that SYN. */
	bpf_map_delete_elem(&pending, &query->key);
	return id;
}

static __always_inline bool is_proven(const struct flow_query *query, const struct flow *stray)
{
	if (!is_about_tcp(query))
		return bpf_ktime_get_coarse_ns() - stray->last_seen_ns >= DATAGRAM_PROOF_NS;
	return is_near(query, stray) && !(query->tcp_flags & TCP_RST);
}

static __always_inline __u16 follow_stray(const struct flow_query *query, struct flow *stray)
{
	__u16 id = stray->backend;

	if (query->is_quoted)
		return id;
	if (is_proven(query, stray) && remember_home(query, stray)) {
		bpf_map_delete_elem(&strays, &query->key);
		return id;
	}
	/* What was said before counts only if this goes on from there. */
	if (!is_near(query, stray))
		stray->closing = 0;
	stray->closing |= is_goodbye(query);
	stray->sequence = query->sequence;
	return id;
}

/* Where the flow lives that an ICMP error quotes: its sequence number is the other
 * side's, so any pending SYN will do. */
static __always_inline __u16 waiting_backend(const struct flow_query *query, __u16 otherwise)
{
	struct flow *waiting = bpf_map_lookup_elem(&pending, &query->key);

	return waiting && is_at_home(waiting) ? waiting->backend : otherwise;
}

/* The backend id for a packet that asks; docs/packet-journey.md has this as a table. */
__noinline int recall_backend(void)
{
	const struct flow_query *query = find_query();
	struct flow *flow, *stray = NULL, *waiting = NULL;
	bool moved;
	__u16 here;

	if (!query)
		return 0;
	count_event(FLOW_EVENT_ASKED);
	here = query->slot.backend;
	flow = bpf_map_lookup_elem(&flows, &query->key);
	if (flow && !is_at_home(flow))
		flow = NULL;
	if (flow && !flow->closing) {
		if (!query->is_quoted)
			flow->slot = query->slot_index; /* the ring may have another size by now */
		touch_flow(query, flow);
		return flow->backend;
	}
	if (!flow)
		stray = bpf_map_lookup_elem(&strays, &query->key);
	if (stray && (is_over(query, stray) || !is_at_home(stray)))
		stray = NULL;
	if (!query->is_quoted)
		waiting = find_pending(query);
	moved = is_moved(query);
	/* Who is not remembered lives here, unless its SYN went elsewhere before the slot
	 * came back. */
	if (!moved && !query->is_tracked && !flow && !stray &&
	    (!waiting || waiting->backend == here))
		return here;
	if (is_first_segment(query->tcp_flags)) {
		draft_home(query, here);
		remember_pending(query);
		return here;
	}
	if (waiting && is_at_home(waiting))
		return follow_pending(query, waiting);
	if (flow) { /* closing, and nothing new has come */
		touch_flow(query, flow);
		return flow->backend;
	}
	if (stray)
		return follow_stray(query, stray);
	if (moved)
		here = query->slot.previous; /* older than the move */
	if (query->is_quoted)
		return waiting_backend(query, here);
	draft_home(query, here);
	remember_stray(query);
	return here;
}

#endif
