/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The contract between the data plane and the controller: every struct and enum
 * that lies in a map. No code. reconciler/abi.py mirrors it, and a contract test
 * compares the two with the compiled program's BTF.
 *
 * Addresses are 16 bytes everywhere, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
 * Addresses and ports are in network byte order, all else in the host's. Key
 * structs have no hidden padding: a hash map compares padding too.
 */
#ifndef XDPLB_ABI_H
#define XDPLB_ABI_H

#include <linux/types.h>

/* Raised whenever a struct below changes its meaning; pinned maps of another
 * version are refused, never misread. */
#define XDPLB_ABI_VERSION 4

#define XDPLB_NAME_SIZE		 64
#define XDPLB_GROUP_PLACES	 8
#define XDPLB_CLIENT_NEXTHOPS	 4096
#define XDPLB_VIP_FILTER_WORDS	 32
#define XDPLB_CLIENT_SETS	 24576
#define XDPLB_SET_PLACES	 6
#define XDPLB_WAYS		 1024
#define XDPLB_DEFAULT_SERVICES	 64
#define XDPLB_DEFAULT_BACKENDS	 4096
#define XDPLB_DEFAULT_RING_SLOTS 4194304
#define XDPLB_DEFAULT_FLOWS	 1000000
#define XDPLB_DEFAULT_INTERFACES 64

struct address {
	__be32 words[4];
};

/* What packets go to and come from. Port 0 marks "some service of this protocol has this
 * VIP". */
struct endpoint {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

enum forwarding {
	FORWARDING_NAT = 1,
	FORWARDING_L2DSR = 2,
	FORWARDING_IPIP = 3,
	FORWARDING_GUE = 4,
};

enum affinity {
	AFFINITY_FLOW = 0,
	AFFINITY_CLIENT = 1,
};

enum service_flag {
	/* A reply can't tell which VIP it belongs to: how each flow came is remembered. */
	SERVICE_SHARED = 1,
	/* flow_tracking: always. Where each flow lives is remembered, on settled slots too. */
	SERVICE_TRACKED = 2,
};

/* A VIP's part of an entry. The service owns slots[ring_offset, ring_offset + ring_size). */
struct service {
	__u32 ring_offset;
	__u32 ring_size;
	__u16 id;
	__u8 forwarding;
	__u8 affinity;
	__u32 flags;
};

/* One aligned 32-bit word, so a slot changes atomically.
 * previous == 0: settled. previous == backend: pinned. Else: moved. */
struct slot {
	__u16 backend;
	__u16 previous;
};

/* Value of `slots`. The kernel rounds the values of an array up to 8 bytes
 * (kernel/bpf/arraymap.c), so single slots would lie apart and take twice the cache. */
struct slot_pair {
	struct slot slots[2];
};

enum backend_state {
	BACKEND_ABSENT = 0,
	BACKEND_READY = 1,
	BACKEND_DRAIN = 2,
	BACKEND_MAINT = 3,
};

/* Value of `backends`, indexed by backend id; id 0 is nobody. `born` tells one
 * holder of an id from the next: a remembered flow of another holder is ignored. */
struct backend {
	struct address address;
	__be16 port;
	__u16 service;
	__u8 forwarding;
	__u8 state;
	__u16 zero;
	__u32 born;
};

enum reply_flag {
	/* Several services or VIPs share this backend: ask `origins` which. */
	REPLY_SHARED = 1,
};

/* A nat backend's part of an entry: whose source its packets get on their way back. */
struct reply {
	struct address vip;
	__be16 vip_port;
	__u16 backend;
	__u16 flags;
	__u16 zero;
};

enum entry_part {
	ENTRY_SERVICE = 1,
	ENTRY_REPLY = 2,
};

/* Value of `endpoints`, a cache line: what an endpoint is. Parts that it has not are 0. */
struct entry {
	struct endpoint endpoint;
	__u32 parts;
	struct service service;
	struct reply reply;
};

/* Value of `directory`: the entries whose endpoints hash to here, as their numbers in
 * `endpoints`, each with a byte of its hash that is never 0; 0 is an empty place. */
struct group {
	__u8 tags[XDPLB_GROUP_PLACES] __attribute__((aligned(8))); /* read as one word */
	__u32 rows[XDPLB_GROUP_PLACES];
};

/* Key of `flows`, `origins`, `pending` and `strays`. `server` is the VIP where the entry
 * says which backend a flow lives on, and the backend where it says how it came there. */
struct flow_key {
	struct address client;
	struct address server;
	__be16 client_port;
	__be16 server_port;
	__u8 protocol;
	__u8 zero[3];
};

enum flow_kind {
	FLOW_BACKEND = 1, /* client to VIP: lives on `backend` */
	FLOW_DIRECT = 2,  /* client to a backend's own address: leave its replies alone */
	FLOW_VIP = 3,	  /* client to a shared backend: came through `vip` */
};

/* Value of the same four. */
struct flow {
	__u64 last_seen_ns; /* CLOCK_MONOTONIC, coarse; in `strays` of the first packet */
	__u32 slot;	    /* index into `slots`, FLOW_BACKEND only */
	__u32 born;	    /* of `backend`, when this was remembered */
	__u32 sequence;	    /* in `pending` of the SYN, in `strays` of the last segment */
	__u16 backend;
	__be16 vip_port;
	struct address vip;
	__u8 kind;
	__u8 closing;  /* a FIN or RST has passed: a new SYN may start anew */
	__u8 answered; /* in `pending`, FLOW_VIP and FLOW_DIRECT: by the backend's SYN-ACK */
	__u8 zero[5];
};

enum interface_flag {
	INTERFACE_TRANSMITS = 1, /* XDP_TX leaves through it */
	INTERFACE_REDIRECTS = 2, /* takes redirected frames, also those that came in by it */
};

/* Value of `interfaces`, keyed by ifindex. An interface that is not listed gets
 * its packets through the stack. */
struct interface {
	__u32 flags;
	struct address ipv4; /* its own, as sources of tunnels; zero if it has none */
	struct address ipv6;
};

/* Value of `settings`, one entry, written before any service. */
struct settings {
	__u32 abi_version;
	__u32 ticks_per_second; /* the kernel's HZ: how bpf_jiffies64 counts */
	__u64 hash_seed;
	struct address tunnel_source_ipv4; /* zero: the egress interface's own address */
	struct address tunnel_source_ipv6;
	/* Bits of the tunnel source that the flow's hash fills; an address has none. */
	__u32 tunnel_hosts_ipv4;
	__u32 tunnel_hosts_ipv6;
	__be16 gue_port;
	__u16 gue_checksum; /* 0: the outer UDP checksum stays zero (RFC 6935) */
	__u32 passes_echo;  /* 1: echo requests to a VIP are the stack's to answer */
	/* 64, less the bits that number a place of the directory. */
	__u32 directory_shift;
	__u32 has_replies; /* 1: there are nat backends */
	/* Bit n is set if the last 11 bits of some VIP are n: what can't be a VIP costs no
	 * lookup to find out. Fewer bits let through too many where VIPs are many. */
	__u64 vip_filter[XDPLB_VIP_FILTER_WORDS];
};

/* Value of `meta`, one entry, written last: says what was applied. */
struct meta {
	__u64 generation;
	__u8 config_sha256[32];	 /* the bytes of the file that was applied last */
	__u8 meaning_sha256[32]; /* what it asks of these tables, whatever its layout */
	__u8 program_sha256[32]; /* the ELF that is attached */
};

enum flow_tracking {
	FLOW_TRACKING_ON_CHANGE = 0,
	FLOW_TRACKING_ALWAYS = 1,
	FLOW_TRACKING_NEVER = 2,
};

/* For people and for the controller's next start. The data plane reads the window's
 * end and length, and those only for packets of slots that are not settled. */
struct service_info {
	char name[XDPLB_NAME_SIZE];
	__u64 window_end_ns; /* CLOCK_MONOTONIC; moved slots are as pinned ones from then on */
	__u32 drain_timeout_ms;
	__u32 flow_idle_timeout_ms;
	__u8 own_addresses; /* the VIPs are the interface's own addresses */
	__u8 flow_tracking;
	__u8 zero[6];
};

struct backend_info {
	char name[XDPLB_NAME_SIZE];
	__u64 leaves_ns; /* CLOCK_MONOTONIC; no longer in the file, stays for its flows */
	__u32 weight;
	__u32 withheld_percent; /* of the weight, by health: 100 is down */
};

/* What the data plane writes. */

enum nexthop_action {
	NEXTHOP_UNKNOWN = 0,
	NEXTHOP_TRANSMIT = 1, /* never remembered: it depends on where a packet came in */
	NEXTHOP_REDIRECT = 2,
	NEXTHOP_STACK = 3, /* the kernel forwards it: no neighbour yet, or no XDP there */
	NEXTHOP_LOCAL = 4, /* this machine, or forwarding is off */
	NEXTHOP_NONE = 5,  /* no route, blackhole, prohibited */
};

/* Value of `backend_nexthops`, `client_nexthops` and `ways`, per CPU. */
struct nexthop {
	__u64 expires; /* in ticks, see settings */
	struct address address;
	__u32 ifindex;
	__u32 mtu;		 /* of the route, bytes from the IP header on */
	__u8 destination_mac[6]; /* as a frame begins, both at once */
	__u8 source_mac[6];
	__u8 action;
	__u8 flags;	    /* enum interface_flag, of `ifindex` */
	__u8 is_gateway;    /* the MAC is a router's, not the address's own */
	__u8 tunnel_family; /* 4 or 6, of a tunnel to there; 0: it would have no source */
	struct address tunnel_source;
};

/* Value of `client_ways`, per CPU and a cache line: which of `ways` leads to some IPv4
 * clients, by their own addresses, and until which tick that is believed. */
struct client_set {
	__be32 clients[XDPLB_SET_PLACES];
	__u32 until[XDPLB_SET_PLACES]; /* the low half of a tick's number */
	__u16 ways[XDPLB_SET_PLACES];
	__u16 zero[2];
};

/* Value of `backend_stats`, per CPU. */
struct backend_stats {
	__u64 packets;
	__u64 bytes;
	__u64 new_flows; /* TCP: SYNs */
	__u64 reply_packets;
	__u64 reply_bytes;
};

/* What happened to the memory of flows, counted in `flow_events`. On settled slots, of
 * services that are neither shared nor tracked, nothing does. */
enum flow_event {
	FLOW_EVENT_ASKED = 0,	   /* a packet asked where its flow lives, or how it came */
	FLOW_EVENT_PENDING = 1,	   /* a SYN is waited for */
	FLOW_EVENT_STRAY = 2,	   /* a packet of a flow that nobody knows, until it goes on */
	FLOW_EVENT_REMEMBERED = 3, /* a flow has proven itself */
	FLOW_EVENT_REFUSED = 4,	   /* the same, but `flows` is full: it may be forgotten */
	FLOW_EVENT_COUNT = 5,
};

/* The fate of a packet. Every packet gets exactly one, counted in `verdicts`. */
enum verdict {
	VERDICT_PASS_OTHER = 0,	       /* not for a service */
	VERDICT_PASS_DIRECT = 1,       /* between a client and a backend's own address */
	VERDICT_PASS_TTL = 2,	       /* TTL ran out here: the stack answers */
	VERDICT_FORWARD_TRANSMIT = 3,  /* to the backend, out of the same interface */
	VERDICT_FORWARD_REDIRECT = 4,  /* to the backend, out of another interface */
	VERDICT_FORWARD_STACK = 5,     /* to the backend, by way of the stack */
	VERDICT_FORWARD_LOCAL = 6,     /* to a backend on this machine */
	VERDICT_REPLY_TRANSMIT = 7,    /* to the client, out of the same interface */
	VERDICT_REPLY_REDIRECT = 8,    /* to the client, out of another interface */
	VERDICT_REPLY_STACK = 9,       /* to the client, by way of the stack */
	VERDICT_REPLY_LOCAL = 10,      /* to a client on this machine */
	VERDICT_DROP_MALFORMED = 11,   /* lengths contradict each other or the frame */
	VERDICT_DROP_FRAGMENT = 12,    /* a fragment to or from a service */
	VERDICT_DROP_IP_OPTIONS = 13,  /* IPv4 options to or from a service */
	VERDICT_DROP_BAD_SOURCE = 14,  /* a source that can't be: zero, multicast, the VIP */
	VERDICT_DROP_NO_BACKEND = 15,  /* the service has no backend for this slot */
	VERDICT_DROP_NO_ROUTE = 16,    /* the kernel knows no way to the next hop */
	VERDICT_ECHO_TRANSMIT = 17,    /* an echo request to a VIP, answered */
	VERDICT_ECHO_REDIRECT = 18,    /* the same, on an interface without XDP_TX */
	VERDICT_DROP_NO_NEXTHOP = 19,  /* no neighbour, or no XDP there, and no stack to help */
	VERDICT_DROP_NO_ROOM = 20,     /* the driver leaves no room for a header */
	VERDICT_TOO_BIG_TRANSMIT = 21, /* for its way: the sender is told */
	VERDICT_TOO_BIG_REDIRECT = 22, /* the same, on an interface without XDP_TX */
	VERDICT_COUNT = 23,
};

#endif
