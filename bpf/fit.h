/* SPDX-License-Identifier: GPL-2.0-only */
/* What a packet must be to be sent on in a service's name. */
#ifndef XDPLB_FIT_H
#define XDPLB_FIT_H

#include "ip.h"
#include "l4.h"
#include "packet.h"

/* Whether a packet may be sent on in a service's name; if not, `why` says so. */
static __always_inline bool is_fit(struct packet *p, enum verdict *why)
{
	*why = VERDICT_DROP_MALFORMED;
	if (find_l3(p) + p->l3_total_size > p->end || p->l3_total_size < p->l3_header_size)
		return false;
	if (!p->is_ipv6 && p->l3_header_size > IPV4_MIN_HEADER) {
		*why = VERDICT_DROP_IP_OPTIONS;
		return false;
	}
	if (p->more_fragments) {
		*why = VERDICT_DROP_FRAGMENT;
		return false;
	}
	switch (check_l4(p)) {
	case L4_UNFIT:
		return false;
	case L4_FIT:
		break;
	}
	return true;
}

#endif
