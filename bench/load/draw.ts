/** Draws ids from 1 to `count`. */
export type Draw = () => number;

export function createUniform(count: number, random: () => number = Math.random): Draw {
  return () => 1 + Math.floor(random() * count);
}

/** Zipf's law with s = 1: the id k comes in proportion to 1/k. */
export function createZipf(count: number, random: () => number = Math.random): Draw {
  const cumulative = new Float64Array(count);
  let sum = 0;
  for (let id = 1; id <= count; id++) {
    sum += 1 / id;
    cumulative[id - 1] = sum;
  }
  return () => 1 + firstAtLeast(cumulative, random() * sum);
}

function firstAtLeast(ascending: Float64Array, wanted: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ascending[middle] ?? Infinity) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
