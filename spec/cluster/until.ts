/** Waits for a state, and says which one did not come. A look that fails counts as not yet, until the time is over. */
export const until = async <T>(
  what: string,
  withinMs: number,
  look: () => Promise<T | undefined> | T | undefined,
  everyMs = 100,
): Promise<T> => {
  const end = performance.now() + withinMs;
  for (;;) {
    let why: unknown = "";
    try {
      const found = await look();
      if (found !== undefined) return found;
    } catch (error) {
      why = error;
    }
    if (performance.now() > end) throw new Error(`${what} did not come within ${withinMs / 1000} s`, { cause: why });
    await new Promise((resume) => setTimeout(resume, everyMs));
  }
};
