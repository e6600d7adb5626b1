/** Of measured values; undefined where there are none. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread | undefined {
  const sorted = values.toSorted((one, other) => one - other);
  const median = quantile(sorted, 0.5);
  const [min] = sorted;
  const max = sorted.at(-1);
  return median === undefined || min === undefined || max === undefined ? undefined : { median, min, max };
}

export function medianOf(values: readonly number[]): number | undefined {
  return spreadOf(values)?.median;
}

/** The value below which this part of the values is, interpolated; the values in ascending order. */
export function quantile(sorted: ArrayLike<number>, part: number): number | undefined {
  const position = (sorted.length - 1) * part;
  const below = sorted[Math.floor(position)];
  const above = sorted[Math.ceil(position)];
  if (below === undefined || above === undefined) return undefined;
  return below + (above - below) * (position - Math.floor(position));
}
