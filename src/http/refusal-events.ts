/** Says whether one more refusal of this API client is an event of its own. */
export type KeepRefusal = (clientId: number) => boolean;

const minute = 60_000;

/**
 * Bounds the audit events of a client that may not use the management API: so many in each minute, and one more with the
 * number of the others. Whoever may change nothing cannot make the database grow without a bound.
 *
 * @param onLeftOut called at the end of a minute, for each client with more refusals than were kept
 */
export function createRefusalBound(
  onLeftOut: (clientId: number, leftOut: number) => void,
  perMinute = 20,
): KeepRefusal {
  const counts = new Map<number, number>();
  const endMinute = () => {
    for (const [clientId, count] of counts) if (count > perMinute) onLeftOut(clientId, count - perMinute);
    counts.clear();
  };
  return (clientId) => {
    // it does not keep the process, whose end is the end of what it has not said
    if (counts.size === 0) setTimeout(endMinute, minute).unref();
    const count = (counts.get(clientId) ?? 0) + 1;
    counts.set(clientId, count);
    return count <= perMinute;
  };
}
