/* SPDX-License-Identifier: GPL-2.0-only */
/* The one exit: a verdict is counted once and turned into the XDP action. */
#ifndef XDPLB_VERDICT_H
#define XDPLB_VERDICT_H

#include "maps.h"
#include "packet.h"

static __always_inline void count_verdict(enum verdict verdict)
{
	__u32 key = verdict;
	__u64 *count = bpf_map_lookup_elem(&verdicts, &key);

	if (count)
		*count += 1;
}

static __always_inline int finish(enum verdict verdict, __u32 egress)
{
	count_verdict(verdict);
	switch (verdict) {
	case VERDICT_PASS_OTHER:
	case VERDICT_PASS_DIRECT:
	case VERDICT_PASS_TTL:
	case VERDICT_FORWARD_STACK:
	case VERDICT_FORWARD_LOCAL:
	case VERDICT_REPLY_STACK:
	case VERDICT_REPLY_LOCAL:
		return XDP_PASS;
	case VERDICT_FORWARD_TRANSMIT:
	case VERDICT_REPLY_TRANSMIT:
	case VERDICT_ECHO_TRANSMIT:
	case VERDICT_TOO_BIG_TRANSMIT:
		return XDP_TX;
	case VERDICT_FORWARD_REDIRECT:
	case VERDICT_REPLY_REDIRECT:
	case VERDICT_ECHO_REDIRECT:
	case VERDICT_TOO_BIG_REDIRECT:
		return bpf_redirect(egress, 0);
	case VERDICT_DROP_MALFORMED:
	case VERDICT_DROP_FRAGMENT:
	case VERDICT_DROP_IP_OPTIONS:
	case VERDICT_DROP_BAD_SOURCE:
	case VERDICT_DROP_NO_BACKEND:
	case VERDICT_DROP_NO_ROUTE:
	case VERDICT_DROP_NO_NEXTHOP:
	case VERDICT_DROP_NO_ROOM:
	case VERDICT_COUNT:
		break;
	}
	return XDP_DROP;
}

#endif
