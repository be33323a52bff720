/** What an object says, or `otherwise` when it is not made as the API makes it. Its own conversion tells what is wrong. */
export function readable<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    // Only shapes are read here, so only a wrong shape can throw.
    return otherwise;
  }
}
