/* SPDX-License-Identifier: MIT */
#ifndef COROOT_LAYOUT_H
#define COROOT_LAYOUT_H

/* Prints sizes and offsets of all frame structs as JSON, for the spec that holds the decoder against them. */
void layout_print(void);

#endif
