/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory of flows: exceptions only. Two questions are asked of it, of moved slots
 * "which backend does this flow live on" (recall.h) and of some backends' replies "how
 * did this flow come here" (origin.h).
 *
 * Who is new is not believed. A SYN is pending, any other packet of an unknown flow is a
 * stray, each in a table of its own that forgets the oldest; a flow that goes on is
 * remembered for good. So floods of either kind push out nobody who is established.
 */
#ifndef XDPLB_FLOW_H
#define XDPLB_FLOW_H

#include "l4.h"
#include "maps.h"
#include "packet.h"
#include "scratch.h"

/* How far behind the SYN the next segment may start: a lost ACK, or data that came
 * with the SYN (RFC 7413). A spoofed SYN passes for a live flow with 1 in 2^16. */
#define SYN_REACH 65536

/* How far apart two segments of one flow may be: more than a window that is not scaled
 * much. A second guess passes with 1 in 2^11. */
#define SEGMENT_REACH (1 << 20)

/* For how long a datagram's flow has to go on. A lookup's two questions (A and AAAA, from
 * one port) come within milliseconds, and nothing after them. */
#define DATAGRAM_PROOF_NS 1000000000ULL

static __always_inline __u32 read_sequence(const struct packet *p)
{
	struct tcphdr *tcp = p->l4;

	return is_tcp(p) && (void *)(tcp + 1) <= p->end ? bpf_ntohl(tcp->seq) : 0;
}

static __always_inline struct flow_query *ask_about(const struct packet *p,
						    const struct endpoint *client,
						    const struct address *server,
						    __be16 server_port)
{
	struct flow_query *query = find_query();

	if (!query)
		return NULL;
	__builtin_memset(query, 0, sizeof(*query));
	query->key.client = client->address;
	query->key.server = *server;
	query->key.client_port = client->port;
	query->key.server_port = server_port;
	query->key.protocol = client->protocol;
	query->sequence = read_sequence(p);
	query->tcp_flags = p->tcp_flags;
	return query;
}

/* The same about the flow of a packet that an ICMP error quotes. */
static __always_inline struct flow_query *ask_about_quoted(const struct packet *p,
							   const struct endpoint *client,
							   const struct address *server,
							   __be16 server_port)
{
	struct flow_query *query = ask_about(p, client, server, server_port);

	if (query)
		query->is_quoted = true;
	return query;
}

static __always_inline struct flow *begin_draft(void)
{
	struct flow *draft = find_draft();

	if (draft)
		__builtin_memset(draft, 0, sizeof(*draft));
	return draft;
}

static __always_inline bool is_about_tcp(const struct flow_query *query)
{
	return query->key.protocol == IPPROTO_TCP;
}

static __always_inline void count_event(enum flow_event event)
{
	__u32 key = event;
	__u64 *count = bpf_map_lookup_elem(&flow_events, &key);

	if (count)
		*count += 1;
}

/* Whether the segment is near the last one: a stranger's is not. Every datagram is. */
static __always_inline bool is_near(const struct flow_query *query, const struct flow *flow)
{
	__u32 distance = query->sequence - flow->sequence + SEGMENT_REACH;

	return distance < 2 * SEGMENT_REACH;
}

static __always_inline bool is_goodbye(const struct flow_query *query)
{
	return query->tcp_flags & (TCP_FIN | TCP_RST);
}

/* Notes that the flow is there, and whether it is about to end: a FIN or RST ends it one
 * day; until a new SYN comes nothing changes. One that is far off may be anybody's, and
 * would have the flow forgotten when it next pauses. */
static __always_inline void touch_flow(const struct flow_query *query, struct flow *flow)
{
	if (query->is_quoted)
		return;
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	if (!is_near(query, flow))
		return;
	flow->sequence = query->sequence;
	if (is_goodbye(query))
		flow->closing = 1;
}

static __always_inline void start_flow(const struct flow_query *query, struct flow *flow)
{
	flow->last_seen_ns = bpf_ktime_get_coarse_ns();
	flow->sequence = query->sequence;
	/* Its first packet here may be its last. */
	flow->closing = is_goodbye(query);
}

/* Puts the draft into one of the tables. */
static __always_inline void remember(const struct flow_query *query, void *table,
				     enum flow_event event)
{
	struct flow *draft = find_draft();

	if (!draft)
		return;
	start_flow(query, draft);
	bpf_map_update_elem(table, &query->key, draft, BPF_ANY);
	count_event(event);
}

static __always_inline void remember_pending(const struct flow_query *query)
{
	remember(query, &pending, FLOW_EVENT_PENDING);
}

static __always_inline void remember_stray(const struct flow_query *query)
{
	remember(query, &strays, FLOW_EVENT_STRAY);
}

/* The pending SYN that this segment continues, if there is one. */
static __always_inline struct flow *find_pending(const struct flow_query *query)
{
	struct flow *flow;

	if (!is_about_tcp(query))
		return NULL;
	flow = bpf_map_lookup_elem(&pending, &query->key);
	if (!flow || query->sequence - flow->sequence - 1 >= SYN_REACH)
		return NULL;
	return flow;
}

#endif
