/** Requests under way at the same time. */
const concurrency = 6;

/** A few at a time; the results in the order of the things. */
export async function inTurns<Thing, Found>(
  things: readonly Thing[],
  work: (thing: Thing) => Promise<Found>,
): Promise<Found[]> {
  const found: Found[] = [];
  const queue = things.entries();
  const worker = async () => {
    for (const [index, thing] of queue) found[index] = await work(thing);
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return found;
}
