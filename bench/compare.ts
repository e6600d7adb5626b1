import type { Measurement, Result } from './result.ts';
import { spreadOf, type Spread } from './statistics.ts';

type Value = (measurement: Measurement) => number;

export const rateOf: Value = ({ requests_per_second }) => requests_per_second;
export const p50Of: Value = ({ p50_us }) => p50_us;
export const p99Of: Value = ({ p99_us }) => p99_us;
export const gatewayCpuOf: Value = ({ cpu_us_per_request }) => cpu_us_per_request.gateway;

/** One value to the other of the same round, so that what slows the machine down for a while does not count. */
export function ratioByRound(
  measurements: readonly Measurement[],
  others: readonly Measurement[],
  value: Value,
): Spread | undefined {
  const ratios = validPairs(measurements, others).map(([one, other]) => value(one) / value(other));
  return spreadOf(ratios.filter((ratio) => Number.isFinite(ratio)));
}

/** The median of that for two rows of a result. */
export function ratio(result: Pick<Result, 'rows'>, name: string, other: string, value: Value): number | undefined {
  return ratioByRound(measurementsOf(result, name), measurementsOf(result, other), value)?.median;
}

/** How many times what `other` adds to `base` is added by `name`; the median of the rounds. */
export function addedRatio(
  result: Pick<Result, 'rows'>,
  [name, other, base]: readonly [string, string, string],
  value: Value,
): number | undefined {
  const bases = new Map(measurementsOf(result, base).map((one) => [one.round, one]));
  const ratios = validPairs(measurementsOf(result, name), measurementsOf(result, other)).flatMap(([one, two]) => {
    const zero = bases.get(one.round);
    if (zero?.invalid !== null || value(two) <= value(zero)) return [];
    return [(value(one) - value(zero)) / (value(two) - value(zero))];
  });
  return spreadOf(ratios)?.median;
}

function measurementsOf({ rows }: Pick<Result, 'rows'>, wanted: string): readonly Measurement[] {
  return rows.find(({ name }) => name === wanted)?.measurements ?? [];
}

function validPairs(ones: readonly Measurement[], others: readonly Measurement[]): [Measurement, Measurement][] {
  return ones.flatMap((one): [Measurement, Measurement][] => {
    const other = others.find(({ round }) => round === one.round);
    return one.invalid === null && other?.invalid === null ? [[one, other]] : [];
  });
}
