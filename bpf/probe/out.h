/* SPDX-License-Identifier: MIT */
/*
 * The output: frames are gathered in memory and written as the pipe takes them, never blocking. While something is
 * left from the last tick no new tick is built, so a reader that stops costs memory for one tick and loses no count.
 */
#ifndef COROOT_OUT_H
#define COROOT_OUT_H

#include <stddef.h>
#include <stdint.h>

/* Opens a frame whose rows follow by out_row; out_end closes it, and takes it back if it stayed empty. */
void out_begin(uint16_t kind);
void *out_row(size_t size);
void out_end(void);
/* One frame with one body. */
void out_frame(uint16_t kind, const void *body, size_t size);
/* Writes what the pipe takes. 0: all written, 1: some left, -1: the reader is gone. */
int out_flush(int fd);
size_t out_left(void);
uint64_t out_frames(void);
uint64_t out_bytes(void);

#endif
