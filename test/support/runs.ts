const times = Number(process.env['FC_RUNS'] ?? 1);
const seed = process.env['FC_SEED'];

/**
 * How often a property is tried. `FC_RUNS=100` tries it a hundred times as often, `FC_SEED` begins as a failure did, which
 * fast-check prints.
 */
export function runs(usual: number): { readonly numRuns: number; readonly seed?: number } {
  return { numRuns: Math.ceil(usual * times), ...(seed !== undefined && { seed: Number(seed) }) };
}
