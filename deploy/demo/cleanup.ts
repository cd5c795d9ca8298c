/**
 * What has to be undone, in reverse order of its doing: each maker adds its step right after it made something, so that
 * a failure half-way undoes exactly what there is. A step that fails is reported and the rest still run; running it
 * twice does nothing the second time.
 */
export class Cleanup {
  readonly #steps: { readonly what: string; readonly undo: () => Promise<void> }[] = [];

  add(what: string, undo: () => Promise<void>): void {
    this.#steps.push({ what, undo });
  }

  /** What could not be undone, one sentence each. */
  async run(): Promise<readonly string[]> {
    const problems: string[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        problems.push(`${step.what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    return problems;
  }
}
