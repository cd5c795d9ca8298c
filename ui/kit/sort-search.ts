/** Sort order in the address: "column" rising, "-column" falling. Pure. */
import type { Sort } from "./table.tsx";

export const sortFrom = (text: string | undefined, otherwise: Sort): Sort =>
  text === undefined
    ? otherwise
    : text.startsWith("-")
      ? { column: text.slice(1), down: true }
      : { column: text, down: false };

export const sortTo = (sort: Sort): string => `${sort.down ? "-" : ""}${sort.column}`;
