/* SPDX-License-Identifier: GPL-2.0-only */
/* Steering: from a client and a service to a backend. */
#ifndef XDPLB_STEER_H
#define XDPLB_STEER_H

#include "flow.h"
#include "hash.h"
#include "maps.h"

static __always_inline __u32 choose_slot(const struct packet *p, const struct service *service)
{
	__be16 port = service->affinity == AFFINITY_FLOW ? p->source.port : 0;
	__u64 hash = hash_address_port(&p->source.address, port, p->settings->hash_seed);

	return service->ring_offset + reduce_hash(hash, service->ring_size);
}

static __always_inline struct slot *find_slot(__u32 index)
{
	__u32 half = index / 2;
	struct slot_pair *pair = bpf_map_lookup_elem(&slots, &half);

	return pair ? &pair->slots[index % 2] : NULL;
}

static __always_inline __u32 recall(const struct packet *p, __u32 index, struct slot now)
{
	struct flow_query query;

	ask_about(p, &p->source, &p->destination, &query);
	query.slot_index = index;
	query.slot = now;
	return recall_backend(&query);
}

/* Returns the backend's id, or 0 where the service has none. */
static __always_inline __u32 steer(const struct packet *p, const struct service *service)
{
	__u32 index = choose_slot(p, service);
	struct slot *slot = find_slot(index);
	struct slot now;

	if (!slot)
		return 0;
	/* One load: the controller changes both halves in one store. */
	*(__u32 *)&now = *(volatile __u32 *)slot;
	if (now.previous == 0)
		return now.backend;
	return recall(p, index, now);
}

static __always_inline struct backend *find_backend(__u32 id)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->state != BACKEND_ABSENT ? backend : NULL;
}

#endif
