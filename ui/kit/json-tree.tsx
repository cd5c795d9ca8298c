/**
 * A JSON value as a tree that opens and closes; what the reader opened stays open while the value changes.
 * Long lists show their first 100 members and say how many more there are.
 */
import { useState } from "react";

const LONGEST = 100;

export const JsonTree = ({
  value,
  name,
  depth = 0,
}: {
  readonly value: unknown;
  readonly name?: string;
  readonly depth?: number;
}) => {
  const [open, setOpen] = useState(depth < 2);
  const label = name === undefined ? null : <span className="json-key">{name}</span>;
  if (typeof value !== "object" || value === null)
    return (
      <div className="json-line">
        {label}
        <span className={`json-${value === null ? "null" : typeof value}`}>{JSON.stringify(value) ?? "undefined"}</span>
      </div>
    );
  const members: readonly (readonly [string, unknown])[] = Array.isArray(value)
    ? value.map((member: unknown, index) => [String(index), member] as const)
    : Object.entries(value);
  const summary = Array.isArray(value) ? `[${members.length}]` : `{${members.length}}`;
  if (members.length === 0)
    return (
      <div className="json-line">
        {label}
        <span className="json-null">{Array.isArray(value) ? "[ ]" : "{ }"}</span>
      </div>
    );
  return (
    <div>
      <button type="button" className="json-line json-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span className={open ? "caret caret-open" : "caret"} aria-hidden />
        {label}
        <span className="json-null">{summary}</span>
      </button>
      {open ? (
        <div className="json-members">
          {members.slice(0, LONGEST).map(([key, member]) => (
            <JsonTree key={key} name={key} value={member} depth={depth + 1} />
          ))}
          {members.length > LONGEST ? (
            <div className="json-line json-null">and {members.length - LONGEST} more</div>
          ) : null}
        </div>
      ) : null}
    </div>
  );
};
