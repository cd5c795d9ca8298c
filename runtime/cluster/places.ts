/**
 * Where actors live: which part of the deployment a path belongs to. The number of partitions is fixed for a
 * deployment's life, since a path must be found in the same one by every replica and after every start.
 */
export const PARTITIONS = 256;
/** The part of everything that there is only one of. */
export const MAIN = "main";

/** Null: it lives on the replica that started it, such as the session of a connection. */
export type PartOf = (path: string) => string | null;

export const allParts = (partitions: number = PARTITIONS): readonly string[] => [
  MAIN,
  ...Array.from({ length: partitions }, (_, i) => String(i)),
];

/** FNV-1a over UTF-16 units: cheap, and the same everywhere. */
export const partitionOf = (text: string, partitions: number = PARTITIONS): string => {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return String((hash >>> 0) % partitions);
};
