/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow table: exceptions only. Two questions are asked of it, of moved slots
 * "which backend does this flow live on" and of some backends' replies "how did
 * this flow come here". A SYN is only pending until its sender goes on, so a SYN
 * flood evicts nothing that is established.
 */
#ifndef XDPLB_FLOW_H
#define XDPLB_FLOW_H

#include "l4.h"
#include "maps.h"
#include "packet.h"

/* How far behind the SYN the next segment may start: a lost ACK, or data that came
 * with the SYN (RFC 7413). A spoofed SYN passes for a live flow with 1 in 2^16. */
#define SEQUENCE_REACH 65536

static __always_inline void make_flow_key(const struct endpoint *client,
					  const struct endpoint *server, struct flow_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->client = client->address;
	key->server = server->address;
	key->client_port = client->port;
	key->server_port = server->port;
	key->protocol = client->protocol;
}

static __always_inline void remember_pending(const struct packet *p, const struct flow_key *key,
					     struct flow *flow)
{
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	flow->syn_sequence = p->sequence;
	bpf_map_update_elem(&pending, key, flow, BPF_ANY);
}

static __always_inline void remember_flow(const struct packet *p, const struct flow_key *key,
					  struct flow *flow)
{
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	flow->syn_sequence = 0;
	flow->closing = p->is_closing; /* its first packet here may be its last */
	bpf_map_update_elem(&flows, key, flow, BPF_ANY);
}

/* The pending SYN that this segment continues, if there is one. */
static __always_inline struct flow *find_pending(const struct packet *p, const struct flow_key *key)
{
	struct flow *flow = is_tcp(p) ? bpf_map_lookup_elem(&pending, key) : NULL;

	if (!flow || p->sequence - flow->syn_sequence - 1 >= SEQUENCE_REACH)
		return NULL;
	return flow;
}

static __always_inline void touch_flow(const struct packet *p, struct flow *flow)
{
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	if (p->is_closing)
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

static __always_inline void set_home(struct flow *flow, __u32 slot, __u16 id)
{
	__u32 key = id;
	struct backend *backend = bpf_map_lookup_elem(&backends, &key);

	flow->kind = FLOW_BACKEND;
	flow->slot = slot;
	flow->backend = id;
	flow->born = backend ? backend->born : 0;
}

/* The backend id for a packet of a slot that has moved; docs/packet-journey.md has
 * this as a table. A settled slot never comes here. */
static __always_inline __u16 recall_backend(const struct packet *p, __u32 slot_index,
					    struct slot slot)
{
	bool is_pinned = slot.previous == slot.backend;
	struct flow found = {};
	struct flow *flow, *waiting;
	struct flow_key key;

	make_flow_key(&p->source, &p->destination, &key);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && !is_at_home(flow))
		flow = NULL;
	if (flow && !flow->closing) {
		touch_flow(p, flow);
		return flow->backend;
	}
	if (!flow && is_pinned) /* who is not remembered lives here */
		return slot.backend;
	if (p->is_new) {
		set_home(&found, slot_index, slot.backend);
		remember_pending(p, &key, &found);
		return slot.backend;
	}
	waiting = find_pending(p, &key);
	if (waiting && is_at_home(waiting)) {
		found = *waiting;
		remember_flow(p, &key, &found);
		/* Else the FIN's own ACK, if little was sent, would continue that SYN. */
		bpf_map_delete_elem(&pending, &key);
		return found.backend;
	}
	if (flow) { /* closing, and nothing new has come */
		touch_flow(p, flow);
		return flow->backend;
	}
	set_home(&found, slot_index, slot.previous); /* older than the move */
	remember_flow(p, &key, &found);
	return slot.previous;
}

/* --- how it came: FLOW_DIRECT and FLOW_VIP, keyed by client and backend --- */

/* Remembers that the client's packets reach `backend` by way of `vip`, or directly
 * when that is NULL. */
static __always_inline void remember_origin(const struct packet *p, const struct endpoint *backend,
					    const struct endpoint *vip)
{
	struct flow origin = {.kind = FLOW_DIRECT};
	struct flow_key key;
	struct flow *flow;

	if (vip) {
		origin.kind = FLOW_VIP;
		origin.vip = vip->address;
		origin.vip_port = vip->port;
	}
	make_flow_key(&p->source, backend, &key);
	if (p->is_new) {
		remember_pending(p, &key, &origin);
		return;
	}
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && flow->kind == origin.kind && flow->vip_port == origin.vip_port &&
	    is_same_address(&flow->vip, &origin.vip))
		touch_flow(p, flow);
	else
		remember_flow(p, &key, &origin);
}

/* How the flow of a reply came to its backend; NULL if nobody remembers. A SYN-ACK
 * answers a SYN, which is pending, whatever an older flow of that name was. */
static __always_inline const struct flow *find_origin(const struct packet *p)
{
	struct flow *flow = NULL;
	struct flow_key key;

	make_flow_key(&p->destination, &p->source, &key);
	if (!p->is_answer)
		flow = bpf_map_lookup_elem(&flows, &key);
	return flow ? flow : bpf_map_lookup_elem(&pending, &key);
}

#endif
