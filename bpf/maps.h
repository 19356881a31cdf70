/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The maps. Each has one writer: the controller or the data plane. From the data plane's
 * the controller only takes out what has ended. The capacities here are the defaults; the
 * controller sets those of lb.yaml before loading.
 */
#ifndef XDPLB_MAPS_H
#define XDPLB_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* --- written by the controller --- */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct meta);
} meta SEC(".maps");

/* VIPs and nat backends, found by hand: see directory.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct group);
} directory SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8 * XDPLB_DEFAULT_SERVICES + 2 * XDPLB_DEFAULT_BACKENDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct entry);
} endpoints SEC(".maps");

/* One flat array of all rings. The controller maps it: reading the live ring is
 * free, and writing a slot is a store. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDPLB_DEFAULT_RING_SLOTS / 2);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct slot_pair);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDPLB_DEFAULT_BACKENDS);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, XDPLB_DEFAULT_INTERFACES);
	__type(key, __u32);
	__type(value, struct interface);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDPLB_DEFAULT_SERVICES);
	__type(key, __u32);
	__type(value, struct service_info);
} service_info SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDPLB_DEFAULT_BACKENDS);
	__type(key, __u32);
	__type(value, struct backend_info);
} backend_info SEC(".maps");

/* --- written by the data plane --- */

/* Where flows live that are exceptions; a settled table never looks here. Nothing is ever
 * evicted: who is remembered stays so until the controller finds that it has ended. Takes
 * memory only for what it holds. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, XDPLB_DEFAULT_FLOWS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* How flows came to a backend that clients reach in more than one way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, XDPLB_DEFAULT_FLOWS / 4);
	__type(key, struct flow_key);
	__type(value, struct flow);
} origins SEC(".maps");

/* Flows of which only a SYN has been seen: a SYN flood fills this and no more. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, XDPLB_DEFAULT_FLOWS / 16);
	__type(key, struct flow_key);
	__type(value, struct flow);
} pending SEC(".maps");

/* Flows of which only a packet in the middle has been seen: a flood of those fills this. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, XDPLB_DEFAULT_FLOWS / 16);
	__type(key, struct flow_key);
	__type(value, struct flow);
} strays SEC(".maps");

/* When a backend and a client last spoke directly, in 2^30 ns; 0: never. Only replies of
 * such backends ask `origins`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDPLB_DEFAULT_BACKENDS);
	__type(key, __u32);
	__type(value, __u32);
} direct_seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDPLB_DEFAULT_BACKENDS);
	__type(key, __u32);
	__type(value, struct nexthop);
} backend_nexthops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDPLB_CLIENT_NEXTHOPS);
	__type(key, __u32);
	__type(value, struct nexthop);
} client_nexthops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDPLB_CLIENT_SETS);
	__type(key, __u32);
	__type(value, struct client_set);
} client_ways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDPLB_WAYS);
	__type(key, __u32);
	__type(value, struct nexthop);
} ways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDPLB_DEFAULT_BACKENDS);
	__type(key, __u32);
	__type(value, struct backend_stats);
} backend_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FLOW_EVENT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} flow_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

#endif
