/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Headers of the next packet of some number of flows, written over what lies
 * there.
 *
 * Stores are as wide as the widest load that may follow: a load of more than
 * one store's bytes would wait for both to reach the cache, which no packet
 * from a network card makes a program do.
 */
#ifndef BENCH_COURSE_H
#define BENCH_COURSE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADERS_SIZE 96

/* What bench/packets.py asks for. */
struct course {
	__u8 headers[HEADERS_SIZE]; /* the first packet's */
	__u32 frame_size;
	__u32 flow_mask;     /* flows less one; a power of two of them */
	__u32 port_bits;     /* 2^port_bits flows share a client */
	__u32 address_shift; /* 0: the client is the source; 32: the destination */
	__u32 port_shift;    /* 0 or 16, likewise */
	__u64 count;	     /* packets so far */
	__u32 client;	     /* what makes the next packet's address of the first one's */
	__u32 ports;	     /* likewise; both in network byte order */
	__u16 ip_check;	     /* of the next packet */
	__u16 tcp_check;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct course);
} courses SEC(".maps");

#define COPY(type, at) (*(type *)(frame + (at)) = *(type *)(course->headers + (at)))

/* The checksum of a packet in which these words were 0 and are not; RFC 1624. */
static __always_inline __u16 change_check(__u16 check, __u32 words)
{
	__u32 sum = (__u16)~check + (words & 0xffff) + (words >> 16);

	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* An odd multiplier turns the numbers of a power of two around, so neighbours in time are
 * no neighbours in the hash. Chosen a packet ahead: a packet that arrives has lain in
 * memory for long, and the program under test shall not wait for our arithmetic. */
static __always_inline void choose_next(struct course *course, __u32 l4)
{
	__u32 flow = (__u32)(course->count++ * 0x9e3779b1U) & course->flow_mask;
	__u32 port = flow & ((1U << (course->port_bits & 31)) - 1);

	course->client = bpf_htonl(flow >> (course->port_bits & 31));
	course->ports = bpf_htons(port) << (course->port_shift & 31);
	course->ip_check = change_check(*(__u16 *)(course->headers + 24), course->client);
	course->tcp_check = change_check(
		change_check(*(__u16 *)(course->headers + l4 + 16), course->client), course->ports);
}

static __always_inline void write_tcp(void *frame, const struct course *course, __u32 at)
{
	*(__u32 *)(frame + at) = *(__u32 *)(course->headers + at) ^ course->ports;
	COPY(__u32, at + 4);
	COPY(__u32, at + 8);
	COPY(__u32, at + 12);
	*(__u32 *)(frame + at + 16) = course->tcp_check; /* and no urgent pointer */
}

static __always_inline struct course *find_course(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&courses, &only);
}

/* False where the frame is too short. */
static __always_inline bool write_ipv4(void *frame, void *end, struct course *course)
{
	if (frame + 54 > end)
		return false;
	COPY(__u64, 0);
	COPY(__u32, 8);
	COPY(__u16, 12);
	COPY(__u64, 14);
	*(__u32 *)(frame + 22) = *(__u16 *)(course->headers + 22) | (__u32)course->ip_check << 16;
	*(__u64 *)(frame + 26) = *(__u64 *)(course->headers + 26) ^
				 (__u64)course->client << (course->address_shift & 63);
	write_tcp(frame, course, 34);
	choose_next(course, 34);
	return true;
}

static __always_inline bool write_ipv6(void *frame, void *end, struct course *course)
{
	__u64 client = (__u64)course->client << 32;

	if (frame + 74 > end)
		return false;
	COPY(__u64, 0);
	COPY(__u32, 8);
	COPY(__u16, 12);
	COPY(__u64, 14);
	COPY(__u64, 22);
	*(__u64 *)(frame + 30) =
		*(__u64 *)(course->headers + 30) ^ (course->address_shift ? 0 : client);
	COPY(__u64, 38);
	*(__u64 *)(frame + 46) =
		*(__u64 *)(course->headers + 46) ^ (course->address_shift ? client : 0);
	write_tcp(frame, course, 54);
	choose_next(course, 54);
	return true;
}

#endif
