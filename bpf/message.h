/* SPDX-License-Identifier: GPL-2.0-only */
/* ICMP: errors go where the flow they quote goes, echo requests to a VIP are answered. */
#ifndef XDPLB_MESSAGE_H
#define XDPLB_MESSAGE_H

#include "answer.h"
#include "forward.h"
#include "icmp.h"

/* An error from the client's side: it quotes what a backend sent in the VIP's name,
 * and goes to the backend that the flow lives on. */
static __always_inline enum verdict forward_error(struct packet *p, struct quote *quote,
						  const struct service *service)
{
	const struct endings endings = list_forward_endings();
	struct endpoint client, vip;
	struct nexthop *nexthop;
	struct backend *backend;
	enum verdict verdict;
	__u32 id, change;

	if (is_bad_source(p))
		return VERDICT_DROP_BAD_SOURCE;
	client = read_quoted_destination(p, quote);
	vip = read_quoted_source(p, quote);
	id = steer_quoted(p, &client, &vip, service);
	backend = find_backend(&id);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
	nexthop = find_backend_nexthop(p, &id, backend);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	if (service->forwarding == FORWARDING_L2DSR)
		return forward_l2dsr(p, nexthop);
	if (service->forwarding != FORWARDING_NAT)
		return forward_tunnel(p, service, nexthop, true);
	verdict = choose_ending(p, nexthop, endings);
	if (is_end(verdict))
		return verdict;
	change = rewrite_quote(p, quote, END_SOURCE, &backend->address, backend->port);
	rewrite_message(p, END_DESTINATION, &backend->address, change);
	return send(p, nexthop, verdict, endings);
}

static __always_inline struct origin choose_quoted_origin(const struct packet *p,
							  const struct quote *quote,
							  const struct reply *reply)
{
	struct endpoint client, backend;

	if (!is_asked_for(reply))
		return say_origin(reply);
	client = read_quoted_source(p, quote);
	backend = read_quoted_destination(p, quote);
	return ask_origin(ask_about_quoted(p, &client, &backend.address, backend.port), reply);
}

/* An error from the backends' side: it quotes what we sent on, and goes to the client
 * in the VIP's name. A router on the way there keeps its own. */
static __always_inline enum verdict answer_error(struct packet *p, struct quote *quote,
						 const struct reply *reply)
{
	const struct endings endings = list_reply_endings();
	struct origin origin = choose_quoted_origin(p, quote, reply);
	struct endpoint backend;
	struct nexthop *nexthop;
	struct address source;
	enum verdict verdict;
	bool is_backends;
	__u32 change;

	if (!origin.vip)
		return VERDICT_PASS_DIRECT;
	nexthop = find_client_nexthop(p);
	if (!nexthop)
		return VERDICT_DROP_NO_ROUTE;
	if (is_own(p, nexthop))
		return VERDICT_PASS_DIRECT;
	verdict = choose_ending(p, nexthop, endings);
	if (is_end(verdict))
		return verdict;
	backend = read_quoted_destination(p, quote);
	source = read_source_address(p);
	is_backends = is_same_address(&source, &backend.address);
	change = rewrite_quote(p, quote, END_DESTINATION, origin.vip, origin.port);
	if (is_backends)
		rewrite_message(p, END_SOURCE, origin.vip, change);
	else
		rewrite_message(p, END_SOURCE, &source, change);
	return send(p, nexthop, verdict, endings);
}

static __always_inline enum verdict handle_error(struct packet *p)
{
	struct address destination;
	struct endpoint end;
	struct quote quote = {};
	struct entry *entry;

	if (!parse_quote(p, &quote))
		return VERDICT_PASS_OTHER;
	end = read_quoted_source(p, &quote);
	destination = read_destination_address(p);
	if (!is_same_address(&end.address, &destination))
		return VERDICT_PASS_OTHER;
	entry = find_entry(p->settings, &end);
	if (is_service(entry))
		return forward_error(p, &quote, &entry->service);
	end = read_quoted_destination(p, &quote);
	entry = find_entry(p->settings, &end);
	if (is_nat_backend(entry))
		return answer_error(p, &quote, &entry->reply);
	return VERDICT_PASS_OTHER;
}

static __always_inline enum verdict handle_echo(struct packet *p)
{
	__u32 ingress = p->ctx->ingress_ifindex;

	if (p->settings->passes_echo)
		return VERDICT_PASS_OTHER;
	if (!is_vip_of(p, IPPROTO_TCP) && !is_vip_of(p, IPPROTO_UDP))
		return VERDICT_PASS_OTHER;
	if (is_bad_source(p))
		return VERDICT_DROP_BAD_SOURCE;
	p->egress = ingress;
	switch (choose_action_back(ingress)) {
	case NEXTHOP_TRANSMIT:
		answer_echo(p);
		return VERDICT_ECHO_TRANSMIT;
	case NEXTHOP_REDIRECT:
		answer_echo(p);
		return VERDICT_ECHO_REDIRECT;
	default: /* the stack answers for addresses that it has */
		return VERDICT_PASS_OTHER;
	}
}

static __always_inline enum verdict handle_message(struct packet *p)
{
	if (parse_ip(p) != L3_KIND_WHOLE)
		return VERDICT_PASS_OTHER;
	if (p->l3_header_size != (p->is_ipv6 ? sizeof(*p->ipv6) : sizeof(*p->ipv4)))
		return VERDICT_PASS_OTHER;
	p->l4 = find_l3(p) + (p->is_ipv6 ? sizeof(*p->ipv6) : sizeof(*p->ipv4));
	switch (parse_icmp(p)) {
	case ICMP_KIND_ECHO:
		return handle_echo(p);
	case ICMP_KIND_ERROR:
		return handle_error(p);
	case ICMP_KIND_OTHER:
		break;
	}
	return VERDICT_PASS_OTHER;
}

#endif
