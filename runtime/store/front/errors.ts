/**
 * Errors in ClickHouse's own words. The stock client reads code and type from the text
 * `Code: 62. DB::Exception: message. (SYNTAX_ERROR)`, so everything that the front answers has this form. Pure.
 */
export class FrontError extends Error {
  readonly code: number;
  readonly type: string;
  constructor(code: number, type: string, message: string) {
    super(message);
    this.name = "FrontError";
    this.code = code;
    this.type = type;
  }
}

const CODE = /^Code: (\d+)\./;
const TYPE = /\(([A-Z][A-Z0-9_]+)\)[^()]*$/;

/** Reads an error of the engine; what has no code becomes UNKNOWN_EXCEPTION (1002). */
export const fromEngine = (error: unknown): FrontError => {
  if (error instanceof FrontError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const code = Number(CODE.exec(text)?.[1] ?? 1002);
  const message = text
    .replace(/^(Code: \d+\. DB::Exception: )+/, "")
    .replace(/( \(version [^)]*\)\.?)/g, "")
    .replace(/(\.? ?\([A-Z][A-Z0-9_]+\))+\s*$/, "");
  return new FrontError(code, TYPE.exec(text)?.[1] ?? "UNKNOWN_EXCEPTION", message);
};

export const errorText = (error: FrontError): string =>
  `Code: ${error.code}. DB::Exception: ${error.message.replace(/\.?\s*$/, "")}. (${error.type})\n`;

const HTTP: Readonly<Record<number, number>> = {
  516: 401,
  193: 401,
  60: 404,
  81: 404,
  47: 400,
  62: 400,
  48: 501,
  159: 408,
  202: 503,
  241: 500,
  307: 413,
  164: 403,
};

/** HTTP status for a code; 500 as ClickHouse does for what is not listed. */
export const httpStatus = (code: number): number => HTTP[code] ?? 500;
