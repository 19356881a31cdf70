/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow table: exceptions only. Two questions are asked of it, of moved slots
 * "which backend does this flow live on" and of some backends' replies "how did
 * this flow come here". A SYN is only pending until its sender goes on, so a SYN
 * flood evicts nothing that is established.
 *
 * The questions are global functions: no settled packet asks them, and the verifier
 * looks at each once instead of once for each way that leads there.
 */
#ifndef XDPLB_FLOW_H
#define XDPLB_FLOW_H

#include "l4.h"
#include "maps.h"
#include "packet.h"

/* How far behind the SYN the next segment may start: a lost ACK, or data that came
 * with the SYN (RFC 7413). A spoofed SYN passes for a live flow with 1 in 2^16. */
#define SEQUENCE_REACH 65536

/* What a packet asks. */
struct flow_query {
	struct flow_key key;
	struct flow origin; /* to remember, or what was found */
	__u32 slot_index;
	struct slot slot;
	__u32 sequence;
	__u8 tcp_flags;
	__u8 is_quoted; /* by an ICMP error: nothing is remembered of it */
	__u8 zero[2];
};

static __always_inline void ask_about(const struct packet *p, const struct endpoint *client,
				      const struct endpoint *server, struct flow_query *query)
{
	__builtin_memset(query, 0, sizeof(*query));
	query->key.client = client->address;
	query->key.server = server->address;
	query->key.client_port = client->port;
	query->key.server_port = server->port;
	query->key.protocol = client->protocol;
	query->sequence = p->sequence;
	query->tcp_flags = p->tcp_flags;
}

static __always_inline void remember_pending(const struct flow_query *query, struct flow *flow)
{
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	flow->syn_sequence = query->sequence;
	bpf_map_update_elem(&pending, &query->key, flow, BPF_ANY);
}

static __always_inline void remember_flow(const struct flow_query *query, struct flow *flow)
{
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	flow->syn_sequence = 0;
	/* Its first packet here may be its last. */
	flow->closing = (query->tcp_flags & (TCP_FIN | TCP_RST)) != 0;
	bpf_map_update_elem(&flows, &query->key, flow, BPF_ANY);
}

/* The pending SYN that this segment continues, if there is one. */
static __always_inline struct flow *find_pending(const struct flow_query *query)
{
	struct flow *flow;

	if (query->key.protocol != IPPROTO_TCP)
		return NULL;
	flow = bpf_map_lookup_elem(&pending, &query->key);
	if (!flow || query->sequence - flow->syn_sequence - 1 >= SEQUENCE_REACH)
		return NULL;
	return flow;
}

/* A FIN or RST ends the flow one day; until a new SYN comes nothing changes. */
static __always_inline void touch_flow(const struct flow_query *query, struct flow *flow)
{
	if (query->is_quoted)
		return;
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	if (query->tcp_flags & (TCP_FIN | TCP_RST))
		flow->closing = 1;
}

/* --- which backend: FLOW_BACKEND, keyed by client and VIP --- */

/* A flow whose backend is gone, or whose id went to another backend, has no home. */
static __always_inline bool is_at_home(const struct flow *flow)
{
	__u32 id = flow->backend;
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->born == flow->born &&
	       (backend->state == BACKEND_READY || backend->state == BACKEND_DRAIN);
}

static __always_inline void set_home(struct flow *flow, __u32 slot_index, __u16 id)
{
	__u32 key = id;
	struct backend *backend = bpf_map_lookup_elem(&backends, &key);

	flow->kind = FLOW_BACKEND;
	flow->slot = slot_index;
	flow->backend = id;
	flow->born = backend ? backend->born : 0;
}

/* Where the flow lives that an ICMP error quotes: its sequence number is the other
 * side's, so any pending SYN will do. */
static __always_inline __u16 waiting_backend(const struct flow_query *query, __u16 otherwise)
{
	struct flow *waiting = bpf_map_lookup_elem(&pending, &query->key);

	return waiting && is_at_home(waiting) ? waiting->backend : otherwise;
}

/* The backend id for a packet of a slot that has moved; docs/packet-journey.md has
 * this as a table. A settled slot never comes here. */
__noinline int recall_backend(const struct flow_query *query)
{
	struct flow found = {};
	struct flow *flow, *waiting;
	struct slot slot;

	if (!query)
		return 0;
	slot = query->slot;
	flow = bpf_map_lookup_elem(&flows, &query->key);
	if (flow && !is_at_home(flow))
		flow = NULL;
	if (flow && !flow->closing) {
		if (!query->is_quoted)
			flow->slot = query->slot_index; /* the ring may have another size by now */
		touch_flow(query, flow);
		return flow->backend;
	}
	waiting = query->is_quoted ? NULL : find_pending(query);
	/* Pinned: who is not remembered lives here, unless its SYN went elsewhere before
	 * the slot came back. */
	if (!flow && slot.previous == slot.backend &&
	    (!waiting || waiting->backend == slot.backend))
		return slot.backend;
	if (is_first_segment(query->tcp_flags)) {
		set_home(&found, query->slot_index, slot.backend);
		remember_pending(query, &found);
		return slot.backend;
	}
	if (waiting && is_at_home(waiting)) {
		found = *waiting;
		remember_flow(query, &found);
		/* Else the FIN's own ACK, if little was sent, would continue that SYN. */
		bpf_map_delete_elem(&pending, &query->key);
		return found.backend;
	}
	if (flow) { /* closing, and nothing new has come */
		touch_flow(query, flow);
		return flow->backend;
	}
	if (query->is_quoted)
		return waiting_backend(query, slot.previous);
	set_home(&found, query->slot_index, slot.previous); /* older than the move */
	remember_flow(query, &found);
	return slot.previous;
}

/* --- how it came: FLOW_DIRECT and FLOW_VIP, keyed by client and backend --- */

/* Remembers that the client's packets reach the backend as query->origin says. */
__noinline int remember_origin(struct flow_query *query)
{
	struct flow *flow, *origin;

	if (!query)
		return 0;
	origin = &query->origin;
	if (is_first_segment(query->tcp_flags)) {
		remember_pending(query, origin);
		return 0;
	}
	flow = bpf_map_lookup_elem(&flows, &query->key);
	if (flow && flow->kind == origin->kind && flow->vip_port == origin->vip_port &&
	    is_same_address(&flow->vip, &origin->vip))
		touch_flow(query, flow);
	else
		remember_flow(query, origin);
	return 0;
}

/* How the flow of a reply came to its backend, in query->origin. Returns its kind;
 * FLOW_BACKEND, which none of them is, if nobody remembers. A SYN-ACK answers a SYN,
 * which is pending, whatever an older flow of that name was. */
__noinline int find_origin(struct flow_query *query)
{
	struct flow *flow = NULL;

	if (!query)
		return FLOW_BACKEND;
	if (!(query->tcp_flags & TCP_SYN))
		flow = bpf_map_lookup_elem(&flows, &query->key);
	if (!flow)
		flow = bpf_map_lookup_elem(&pending, &query->key);
	if (!flow)
		return FLOW_BACKEND;
	query->origin = *flow;
	return flow->kind;
}

#endif
