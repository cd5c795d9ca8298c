/**
 * probe.files: what files and pipes pay. By sockets nothing of ours may run; at the end of system calls every one of them
 * pays, which is the time of a read of 16 bytes.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Figure } from "../figure.ts";
import { measureFiles, whereAble } from "../path/probe.ts";
import { compare } from "./hooks.ts";

/** Prints CPU ns of a read of 16 bytes from a file: the least of ten runs, since others share the machine. */
const READS = String.raw`
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(void)
{
	static char bytes[1 << 20];
	char name[] = "/tmp/coroot-bench-XXXXXX", b[16];
	int fd = mkstemp(name);
	double least = 1e9;
	unlink(name);
	if (fd < 0 || write(fd, bytes, sizeof(bytes)) != sizeof(bytes))
		return 1;
	for (int run = 0; run < 10; run++) {
		struct timespec from, to;
		double ns;
		lseek(fd, 0, SEEK_SET);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		for (unsigned i = 0; i < sizeof(bytes) / 16; i++)
			if (read(fd, b, 16) != 16)
				return 1;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		ns = ((to.tv_sec - from.tv_sec) * 1e9 + to.tv_nsec - from.tv_nsec) / (sizeof(bytes) / 16);
		least = ns < least ? ns : least;
	}
	printf("%f\n", least);
	return 0;
}
`;

export const figures: readonly Figure[] = [
  {
    id: "probe.files",
    figure: "program runs per 1,000 of 10^6 file and pipe operations",
    unit: "runs",
    bar: "<= 1",
    holds: (value) => value <= 1,
    measure: whereAble(["bpf", "python"], measureFiles),
  },
  {
    id: "probe.files.calls",
    figure:
      "time of a 16-byte file read, with the probe over without, at the end of system calls (forced on this kernel)",
    unit: "ratio",
    bar: "<= 2.2",
    holds: (value) => value <= 2.2,
    measure: whereAble(["bpf"], async (context) => {
      const folder = mkdtempSync(join(tmpdir(), "coroot-reads-"));
      try {
        const [source, program] = [join(folder, "reads.c"), join(folder, "reads")];
        writeFileSync(source, READS);
        execFileSync("gcc", ["-O2", source, "-o", program]);
        const costs = await compare(
          () => Number(execFileSync(program, { encoding: "utf8" })),
          context.long ? 21 : 7,
          context,
        );
        return { ...costs.calls, detail: `${costs.calls.detail}; by sockets ${costs.sockets.value?.toFixed(2)}` };
      } finally {
        rmSync(folder, { recursive: true });
      }
    }),
  },
];
