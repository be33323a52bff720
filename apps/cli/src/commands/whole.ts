/** A whole number from `min` to `max`. */
export function whole(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new SyntaxError(`"${text}" is not a whole number from ${min} to ${max}`);
    }
    return value;
  };
}
