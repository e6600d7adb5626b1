import type { Check } from '../commands/checks.ts';
import type { Finding } from './verdict.ts';

export function toRow({ check, what, result, seen, remedy }: Finding): Check {
  return {
    what: check,
    result,
    seen: what === '' ? seen : `${what}: ${seen}`,
    ...(remedy !== undefined && { remedy }),
  };
}

/** For each check one row for what went as it should, and one for each kind of thing that did not. */
export function toRows(findings: readonly Finding[]): Check[] {
  const checks = groupsOf(findings, ({ check }) => check);
  return checks.flatMap((ofOne) => groupsOf(ofOne, ({ result, remedy }) => `${result} ${remedy ?? ''}`).map(toOneRow));
}

function toOneRow(alike: readonly [Finding, ...Finding[]]): Check {
  const [first] = alike;
  if (alike.length === 1) return toRow(first);
  const seen = shorten([...new Set(alike.map((finding) => finding.seen))], ' or ');
  const isAsExpected = first.result === 'ok';
  const names = shorten(
    alike.map(({ what }) => what),
    ', ',
  );
  return { ...toRow(first), seen: isAsExpected ? `${alike.length} tried: ${seen}` : `${seen}: ${names}` };
}

function shorten(texts: readonly string[], separator: string): string {
  const shown = texts.slice(0, 3).join(separator);
  return texts.length > 3 ? `${shown} and ${texts.length - 3} more` : shown;
}

/** In the order in which they are first met. */
function groupsOf<Thing>(things: readonly Thing[], keyOf: (thing: Thing) => string): [Thing, ...Thing[]][] {
  const groups = new Map<string, [Thing, ...Thing[]]>();
  for (const thing of things) {
    const group = groups.get(keyOf(thing));
    if (group === undefined) groups.set(keyOf(thing), [thing]);
    else group.push(thing);
  }
  return [...groups.values()];
}

export function summaryOf(findings: readonly Finding[]): string {
  const count = (wanted: Finding['result']) => findings.filter(({ result }) => result === wanted).length;
  return `${findings.length} tried: ${count('ok')} ok, ${count('warning')} warnings, ${count('wrong')} wrong, ${count('not checked')} not checked`;
}
