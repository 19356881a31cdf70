/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gives a program under test a fresh packet each time BPF_PROG_TEST_RUN repeats itself:
 * takes off what the last round put before the packet, writes the headers anew, with the
 * next flow's address and port in them, and calls the program.
 *
 * The floor is the same with `transmit` as the program under test, so what is subtracted
 * has done all of this too. Stores are as wide as the widest load that may follow: a load
 * of more than one store's bytes would wait for both to reach the cache, which no packet
 * from a network card makes it do.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADERS_SIZE 96

/* What bench/per_packet.py asks for. */
struct course {
	__u8 headers[HEADERS_SIZE]; /* the first packet's */
	__u32 frame_size;
	__u32 flow_mask; /* flows less one; a power of two of them */
	__u32 port_bits; /* 2^port_bits flows share a client */
	__u32 address_shift; /* 0: the client is the source; 32: the destination */
	__u32 port_shift;    /* 0 or 16, likewise */
	__u64 count;	     /* packets so far */
	__u32 client;	     /* what makes the next packet's address of the first one's */
	__u32 ports;	     /* likewise; both in network byte order */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct course);
} courses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

#define COPY(type, at) (*(type *)(frame + (at)) = *(type *)(course->headers + (at)))

/* An odd multiplier turns the numbers of a power of two around, so neighbours in time are
 * no neighbours in the hash. Chosen a packet ahead: a packet that arrives has lain in
 * memory for long, and the program under test shall not wait for our arithmetic. */
static __always_inline void choose_next(struct course *course)
{
	__u32 flow = (__u32)(course->count++ * 0x9e3779b1U) & course->flow_mask;
	__u32 port = flow & ((1U << (course->port_bits & 31)) - 1);

	course->client = bpf_htonl(flow >> (course->port_bits & 31));
	course->ports = bpf_htons(port) << (course->port_shift & 31);
}

static __always_inline void copy_tcp(void *frame, const struct course *course, __u32 at)
{
	COPY(__u32, at + 4);
	COPY(__u32, at + 8);
	COPY(__u32, at + 12);
	COPY(__u32, at + 16);
}

static __always_inline void *restore(struct xdp_md *ctx, const struct course *course)
{
	long size = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	/* The compiler would subtract pointers in 32 bits, which the verifier refuses. */
	asm volatile("" : "+r"(size));
	/* Also where nothing has grown: the floor pays for the call as well. */
	if (bpf_xdp_adjust_head(ctx, (int)size - (int)course->frame_size))
		return NULL;
	return (void *)(long)ctx->data;
}

static __always_inline struct course *find_course(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&courses, &only);
}

SEC("xdp")
int drive_ipv4(struct xdp_md *ctx)
{
	struct course *course = find_course();
	void *frame = course ? restore(ctx, course) : NULL;

	if (!frame || frame + 54 > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	COPY(__u64, 0);
	COPY(__u32, 8);
	COPY(__u16, 12);
	COPY(__u64, 14);
	COPY(__u32, 22);
	*(__u64 *)(frame + 26) = *(__u64 *)(course->headers + 26) ^
				 (__u64)course->client << (course->address_shift & 63);
	*(__u32 *)(frame + 34) = *(__u32 *)(course->headers + 34) ^ course->ports;
	copy_tcp(frame, course, 34);
	choose_next(course);
	bpf_tail_call(ctx, &targets, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int drive_ipv6(struct xdp_md *ctx)
{
	struct course *course = find_course();
	void *frame = course ? restore(ctx, course) : NULL;
	__u64 client;

	if (!frame || frame + 74 > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	client = (__u64)course->client << 32;
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
	*(__u32 *)(frame + 54) = *(__u32 *)(course->headers + 54) ^ course->ports;
	copy_tcp(frame, course, 54);
	choose_next(course);
	bpf_tail_call(ctx, &targets, 0);
	return XDP_ABORTED;
}

/* --- floors --- */

SEC("xdp")
int transmit(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

/* For the cost of single calls. */

SEC("xdp")
int call_adjust_head(struct xdp_md *ctx)
{
	bpf_xdp_adjust_head(ctx, -20);
	return XDP_TX;
}

SEC("xdp")
int call_ktime(struct xdp_md *ctx)
{
	(void)ctx;
	return bpf_ktime_get_ns() ? XDP_TX : XDP_PASS;
}

const char gpl[] SEC("license") = "GPL";
