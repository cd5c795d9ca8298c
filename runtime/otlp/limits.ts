/**
 * How much of one record is kept. What is longer is cut at a character's border, what is more is left out; both are
 * counted. OpenTelemetry's own default is 128 attributes, events and links per span. Sizes are bytes of UTF-8.
 */
export const LIMITS = {
  /** of a log record's body */
  bodyBytes: 64 * 1024,
  /** of an attribute's value */
  valueBytes: 8 * 1024,
  /** of an attribute's key, and of names, states and messages of a span */
  nameBytes: 1024,
  /** of one resource, span, log record, event, link */
  attributes: 128,
  /** of one span */
  events: 128,
  links: 128,
  /** of lists and maps inside a value */
  depth: 16,
  /** of what one request becomes in the store; a larger one is refused whole */
  rowsBytes: 32 * 1024 * 1024,
  /** of one request, decoded */
  requestBytes: 16 * 1024 * 1024,
} as const;

/** Times further ahead of this server's clock are refused. */
export const AHEAD_MS = 3_600_000;
