/* SPDX-License-Identifier: MIT */
#include "out.h"
#include "../include/frames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP (256 * 1024)

static uint8_t *buffer;
static size_t capacity, length, written, frame_at;
static uint64_t frames, bytes;

static void reserve(size_t more)
{
	size_t wanted = length + more, next = capacity ? capacity : 16 * 1024;

	if (wanted <= capacity)
		return;
	while (next < wanted)
		next *= 2;
	buffer = realloc(buffer, next);
	if (!buffer) {
		fprintf(stderr, "probe: out of memory for %zu bytes of output\n", next);
		exit(1);
	}
	capacity = next;
}

void out_begin(uint16_t kind)
{
	struct frame_header header = { .kind = kind };

	frame_at = length;
	reserve(sizeof(header));
	memcpy(buffer + length, &header, sizeof(header));
	length += sizeof(header);
}

void *out_row(size_t size)
{
	void *row;

	reserve(size);
	row = buffer + length;
	memset(row, 0, size);
	length += size;
	return row;
}

void out_end(void)
{
	uint32_t body = length - frame_at - sizeof(struct frame_header);

	if (body == 0) {
		length = frame_at;
		return;
	}
	memcpy(buffer + frame_at, &body, sizeof(body));
	frames++;
}

void out_frame(uint16_t kind, const void *body, size_t size)
{
	out_begin(kind);
	memcpy(out_row(size), body, size);
	out_end();
}

int out_flush(int fd)
{
	while (written < length) {
		ssize_t n = write(fd, buffer + written, length - written);

		if (n > 0) {
			written += n;
			bytes += n;
		} else if (errno == EAGAIN) {
			return 1;
		} else if (errno != EINTR) {
			return -1;
		}
	}
	length = written = 0;
	if (capacity > KEEP) {
		free(buffer);
		buffer = NULL;
		capacity = 0;
	}
	return 0;
}

size_t out_left(void)
{
	return length - written;
}

uint64_t out_frames(void)
{
	return frames;
}

uint64_t out_bytes(void)
{
	return bytes;
}
