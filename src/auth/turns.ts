/** Resolves when it is the caller's turn; undefined, and no turn, when too many wait for theirs. */
export type TakeTurn = () => Promise<void> | undefined;

/**
 * One turn for each turn of the event loop, in the order of asking: between two pieces of work that take long, whatever
 * else is to be answered is answered.
 */
export function createTurns(limit: number): TakeTurn {
  const waiting: (() => void)[] = [];
  // one is set whenever somebody waits
  function next() {
    const start = waiting.shift();
    if (waiting.length > 0) setImmediate(next);
    start?.();
  }
  return () => {
    if (waiting.length >= limit) return undefined;
    if (waiting.length === 0) setImmediate(next);
    return new Promise((resolve) => waiting.push(resolve));
  };
}
