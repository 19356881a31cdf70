/* SPDX-License-Identifier: GPL-2.0-only */
/* The same work every time, in registers: how long it takes is how fast the CPU is now. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define STEPS 60

/* No XDP program: to run one, the kernel waits for everybody else. */
SEC("socket")
int yardstick(struct __sk_buff *skb)
{
	__u64 a = skb->len, b = skb->mark, c = 3, d = 5;

	/* Four chains that don't wait for one another, as many instructions of a packet's journey
	 * don't: they feel it when another thread takes a share of the core. */
	for (int i = 0; i < STEPS; i++) {
		a = a * 3 + i;
		b ^= a >> 3;
		c += d << 1;
		d ^= c >> 5;
		a += 7;
		c ^= 9;
	}
	return (a ^ b ^ c ^ d) == 0;
}

const char gpl[] SEC("license") = "GPL";
