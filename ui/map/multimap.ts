/** Adds to the list under a key, making it when there is none. */
export const addTo = <T>(map: Map<string, T[]>, key: string, value: T): void => {
  const found = map.get(key);
  if (found === undefined) map.set(key, [value]);
  else found.push(value);
};
