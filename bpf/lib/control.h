/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The shared cell of counters: `count(fault)` adds one to a counter that the loader reads each tick. */
#ifndef COROOT_CONTROL_H
#define COROOT_CONTROL_H

static __always_inline struct control *control(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&controls, &zero);
}

#define count_n(what, n)                                                  \
	do {                                                              \
		struct control *control_cell = control();                 \
		if (control_cell)                                         \
			__sync_fetch_and_add(&control_cell->what, (n));   \
	} while (0)
#define count(what) count_n(what, 1)

#endif
