/** Upper bounds of the buckets, in milliseconds: 10 microseconds to 5 seconds. */
export const bounds: readonly number[] = [
  0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000,
];

/** How long something took, counted by buckets. Made once: what is recorded takes no memory. */
export interface Histogram {
  /** Of each bucket alone; the last one is for what took longer than every bound. */
  readonly counts: Float64Array;
  /** In milliseconds. */
  sum: number;
}

export function createHistogram(): Histogram {
  return { counts: new Float64Array(bounds.length + 1), sum: 0 };
}

export function record(histogram: Histogram, milliseconds: number): void {
  let bucket = 0;
  while (milliseconds > (bounds[bucket] ?? Infinity)) bucket++;
  histogram.counts[bucket] = (histogram.counts[bucket] ?? 0) + 1;
  histogram.sum += milliseconds;
}
