/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPLB_SERVICE_H
#define XDPLB_SERVICE_H

#include "maps.h"
#include "packet.h"

static __always_inline struct service *find_service(const struct packet *p)
{
	struct service *service = bpf_map_lookup_elem(&services, &p->destination);

	/* A packet to port 0 meets the marker below, which owns no slots. */
	return service && service->ring_size ? service : NULL;
}

/* Whether the packet, whose ports can't be read, goes to the VIP of some service
 * of its protocol. */
static __always_inline bool is_to_vip(const struct packet *p)
{
	struct endpoint any_port = p->destination;

	any_port.port = 0;
	return bpf_map_lookup_elem(&services, &any_port);
}

#endif
