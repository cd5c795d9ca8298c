/** An error as one line for the console: what, where, and what it came from. */
const MOST_CAUSES = 4;

export const describe = (error: unknown): string => {
  const parts: string[] = [];
  for (let one: unknown = error; one !== undefined && parts.length < MOST_CAUSES; ) {
    if (!(one instanceof Error)) {
      parts.push(String(one));
      break;
    }
    const at = parts.length === 0 ? /^\s+at (.+)$/m.exec(one.stack ?? "")?.[1] : undefined;
    parts.push(`${one.name}: ${one.message}${at === undefined ? "" : ` (at ${at.replace(/file:\/\/\S*\//, "")})`}`);
    one = one.cause;
  }
  return parts.join("; caused by ");
};
