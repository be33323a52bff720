/** Time as a parameter, so that tests and the simulator can own it. */
export interface Clock {
  /** Monotonic milliseconds (fractions allowed); the zero point means nothing. */
  now(): number;
  /** Milliseconds since the Unix epoch. */
  wall(): number;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
};

/** A number in [0, 1), like Math.random; a parameter wherever a decision depends on chance. */
export type Random = () => number;

/** A small seeded generator (mulberry32): not for secrets. The same seed gives the same sequence. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
