/* SPDX-License-Identifier: GPL-2.0-only */
/* Steering: from a client and a service to a backend. */
#ifndef XDPLB_STEER_H
#define XDPLB_STEER_H

#include "hash.h"
#include "maps.h"
#include "recall.h"

static __always_inline __u32 choose_slot(const struct settings *settings,
					 const struct endpoint *client,
					 const struct service *service)
{
	__be16 port = service->affinity == AFFINITY_FLOW ? client->port : 0;
	__u64 hash = hash_address_port(&client->address, port, settings->hash_seed);

	return service->ring_offset + reduce_hash(hash, service->ring_size);
}

static __always_inline struct slot *find_slot(__u32 index)
{
	__u32 half = index / 2;
	struct slot_pair *pair = bpf_map_lookup_elem(&slots, &half);

	return pair ? &pair->slots[index % 2] : NULL;
}

/* One load: the controller changes both halves in one store. */
static __always_inline struct slot read_slot(__u32 index)
{
	struct slot *slot = find_slot(index);
	struct slot now = {};

	if (slot)
		*(__u32 *)&now = *(volatile __u32 *)slot;
	return now;
}

/* Whether every flow of the slot lives on its backend, or has to be asked for. */
static __always_inline bool is_settled(struct slot slot, const struct service *service)
{
	return slot.previous == 0 && !(service->flags & SERVICE_TRACKED);
}

static __always_inline __u32 recall(struct flow_query *query, const struct service *service,
				    __u32 index, struct slot slot)
{
	if (!query)
		return slot.backend;
	query->slot_index = index;
	query->slot = slot;
	query->service = service->id;
	query->is_tracked = (service->flags & SERVICE_TRACKED) != 0;
	return recall_backend();
}

/* Returns the backend's id, or 0 where the service has none. */
static __always_inline __u32 steer(const struct packet *p, const struct service *service)
{
	struct endpoint client = read_source(p), vip;
	__u32 index = choose_slot(p->settings, &client, service);
	struct slot slot = read_slot(index);

	if (is_settled(slot, service))
		return slot.backend;
	client = read_source(p); /* anew: most packets need not keep it until here */
	vip = read_destination(p);
	return recall(ask_about(p, &client, &vip.address, vip.port), service, index, slot);
}

/* The same for the flow of a packet that an ICMP error quotes, sent by `vip` to `client`. */
static __always_inline __u32 steer_quoted(const struct packet *p, const struct endpoint *client,
					  const struct endpoint *vip, const struct service *service)
{
	__u32 index = choose_slot(p->settings, client, service);
	struct slot slot = read_slot(index);

	if (is_settled(slot, service))
		return slot.backend;
	return recall(ask_about_quoted(p, client, &vip->address, vip->port), service, index, slot);
}

/* The id is handed on as the key that it is: each copy on the stack would be stored and
 * loaded again before the lookup. */
static __always_inline struct backend *find_backend(const __u32 *id)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, id);

	return backend && backend->state != BACKEND_ABSENT ? backend : NULL;
}

#endif
