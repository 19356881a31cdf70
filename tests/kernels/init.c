/* SPDX-License-Identifier: GPL-2.0-only */
/* The only program of a machine that is booted to see whether its kernel takes ours: loads
 * every object that lies beside it, says so, and switches the machine off. */
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define MOST_ENTRIES 4096 /* of a map: the machine is small */

static char verifier_log[1 << 20];

static int run_a_frame(int program)
{
	unsigned char frame[64] = {0};
	struct bpf_test_run_opts options = {
		.sz = sizeof(options), .data_in = frame, .data_size_in = sizeof(frame), .repeat = 1};

	return bpf_prog_test_run_opts(program, &options) ? -1 : (int)options.retval;
}

static void load(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;
	struct bpf_map *map;
	const char *tail;
	int error;

	if (!object) {
		printf("%s: can't be opened\n", path);
		return;
	}
	bpf_object__for_each_map(map, object)
		if (bpf_map__max_entries(map) > MOST_ENTRIES)
			bpf_map__set_max_entries(map, MOST_ENTRIES);
	program = bpf_object__next_program(object, NULL);
	bpf_program__set_log_buf(program, verifier_log, sizeof(verifier_log));
	bpf_program__set_log_level(program, 4); /* figures, and the reason if it fails */
	error = bpf_object__load(object);
	tail = verifier_log;
	if (strlen(tail) > 500)
		tail += strlen(tail) - 500;
	if (error)
		printf("%s: refused (%s): %s\n", path, strerror(-error), tail);
	else
		printf("%s: loaded, returns %d: %s\n", path,
		       run_a_frame(bpf_program__fd(program)), tail);
	bpf_object__close(object);
}

int main(void)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	glob_t found;

	mkdir("/sys", 0755);
	mount("sysfs", "/sys", "sysfs", 0, NULL); /* the kernel's BTF */
	setrlimit(RLIMIT_MEMLOCK, &all);
	if (!glob("/*.o", 0, NULL, &found))
		for (size_t i = 0; i < found.gl_pathc; i++)
			load(found.gl_pathv[i]);
	fflush(stdout);
	reboot(RB_POWER_OFF);
	return 1;
}
