/**
 * How many bytes all calls at the doors may hold together: what arrived and what it was decoded to, until the call is
 * answered. Owned by whoever serves the doors. What does not fit is refused, so that many large calls at once cost other
 * senders a wait and never the server its memory. Pure state, nothing to stop.
 */
export interface Lease {
  /** false: so many more do not fit now; nothing was taken */
  readonly take: (bytes: number) => boolean;
  /** gives back all that was taken */
  readonly close: () => void;
}

export class Budget {
  private held = 0;
  private readonly most: number;
  constructor(most: number) {
    this.most = most;
  }

  get bytes(): number {
    return this.held;
  }

  lease(): Lease {
    let mine = 0;
    return {
      take: (bytes) => {
        if (this.held + bytes > this.most) return false;
        this.held += bytes;
        mine += bytes;
        return true;
      },
      close: () => {
        this.held -= mine;
        mine = 0;
      },
    };
  }
}
