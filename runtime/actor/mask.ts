/** What the console may show of a state: values under telling names, and credentials inside URLs, are masked. */
const TELLING = /key$|secret|token|password|passwd|authorization|cookie|credential|headers$/i;
const URL_CREDENTIALS = /\b([a-z][a-z0-9+.-]*:\/\/)[^/@\s]+@/gi;
const MASK = "•••";

export const maskSecrets = (value: unknown): unknown => {
  if (typeof value === "string") return value.replace(URL_CREDENTIALS, `$1${MASK}@`);
  if (Array.isArray(value)) return value.map(maskSecrets);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [
      name,
      TELLING.test(name) && inner !== null && inner !== undefined ? MASK : maskSecrets(inner),
    ]),
  );
};
