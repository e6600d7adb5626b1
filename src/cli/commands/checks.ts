import type { Column, Output } from '../output.ts';

/** Something that was looked at. */
export interface Check {
  readonly what: string;
  readonly result: 'ok' | 'warning' | 'wrong' | 'skipped' | 'not checked';
  /** What was found, in words. */
  readonly seen: string;
  readonly remedy?: string;
}

const colours = { ok: 'green', warning: 'yellow', wrong: 'red', skipped: 'gray', 'not checked': 'gray' } as const;

export async function showChecks(checks: readonly Check[], output: Output): Promise<void> {
  const columns: readonly Column<Check>[] = [
    { title: 'CHECK', value: ({ what }) => what },
    { title: 'RESULT', value: ({ result }) => output.paint(colours[result], result) },
    { title: 'SEEN', value: ({ seen, remedy }) => (remedy === undefined ? seen : `${seen}. ${remedy}`) },
  ];
  await output.rows(checks, columns);
}
