/** What is looked at, again and again, of the product that runs. */
export interface Sample {
  readonly gatewayMegabytes: number;
  readonly heapMegabytes: number;
  readonly nginxMegabytes: number;
  readonly gatewayFiles: number;
  readonly nginxFiles: number;
}

/** Growth that is none: of each, a share of what it was, or an amount, whichever is more. */
export const bounds: Readonly<Record<keyof Sample, { readonly share: number; readonly amount: number }>> = {
  gatewayMegabytes: { share: 0.1, amount: 16 },
  heapMegabytes: { share: 0.1, amount: 6 },
  nginxMegabytes: { share: 0.1, amount: 12 },
  gatewayFiles: { share: 0, amount: 15 },
  nginxFiles: { share: 0.1, amount: 40 },
};

export interface Growth {
  readonly name: keyof Sample;
  readonly early: number;
  readonly late: number;
  readonly allowed: number;
  readonly hasGrown: boolean;
  /** Of each tenth of all the time: whether it levels off. */
  readonly course: readonly number[];
}

/** Share of the samples that are of the warm-up. */
const warmUp = 0.2;

/**
 * Compares the first third after the warm-up with the last one, by the lower quartile: what waits for the garbage
 * collector, and what is under way, comes on top of that and goes again.
 */
export function findGrowth(samples: readonly Sample[]): Growth[] {
  const counted = samples.slice(Math.floor(samples.length * warmUp));
  const third = Math.floor(counted.length / 3);
  return (Object.keys(bounds) as (keyof Sample)[]).map((name) => {
    const early = lowerQuartile(counted.slice(0, third).map((sample) => sample[name]));
    const late = lowerQuartile(counted.slice(-third).map((sample) => sample[name]));
    const allowed = early + Math.max(bounds[name].share * early, bounds[name].amount);
    const course = Array.from({ length: 10 }, (_, tenth) => {
      const from = (samples.length * tenth) / 10;
      return lowerQuartile(samples.slice(from, from + samples.length / 10).map((sample) => sample[name]));
    });
    return { name, early, late, allowed, hasGrown: late > allowed, course };
  });
}

function lowerQuartile(values: readonly number[]): number {
  return [...values].sort((one, other) => one - other)[Math.floor(values.length / 4)] ?? 0;
}
