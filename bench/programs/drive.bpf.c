/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gives a program under test a fresh packet each time BPF_PROG_TEST_RUN repeats
 * itself: takes off what the last round put before the packet, writes the
 * headers anew, with the next flow's address and port in them, and calls the
 * program.
 *
 * The floor is the same with `transmit` as the program under test, so what is
 * subtracted has done all of this too.
 */
#include "course.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

/* When each 1,024th packet came, in turns. What disturbs a few of these windows does not
 * disturb their median. */
#define WINDOW 1024
#define MARKS  1024

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MARKS);
	__type(key, __u32);
	__type(value, __u64);
} marks SEC(".maps");

static __always_inline void mark(const struct course *course)
{
	__u32 number = course->count / WINDOW % MARKS;
	__u64 *when;

	if (course->count % WINDOW)
		return;
	when = bpf_map_lookup_elem(&marks, &number);
	if (when)
		*when = bpf_ktime_get_ns();
}

static __always_inline void *restore(struct xdp_md *ctx, const struct course *course)
{
	long size = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	mark(course);
	/* The compiler would subtract pointers in 32 bits, which the verifier
	 * refuses. */
	asm volatile("" : "+r"(size));
	/* Also where nothing has grown: the floor pays for the call as well. */
	if (bpf_xdp_adjust_head(ctx, (int)size - (int)course->frame_size))
		return NULL;
	return (void *)(long)ctx->data;
}

SEC("xdp")
int drive_ipv4(struct xdp_md *ctx)
{
	struct course *course = find_course();
	void *frame = course ? restore(ctx, course) : NULL;

	if (frame && write_ipv4(frame, (void *)(long)ctx->data_end, course))
		bpf_tail_call(ctx, &targets, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int drive_ipv6(struct xdp_md *ctx)
{
	struct course *course = find_course();
	void *frame = course ? restore(ctx, course) : NULL;

	if (frame && write_ipv6(frame, (void *)(long)ctx->data_end, course))
		bpf_tail_call(ctx, &targets, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int transmit(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

const char gpl[] SEC("license") = "GPL";
