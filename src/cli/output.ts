import { styleText } from 'node:util';

export const formats = ['table', 'json'] as const;
export type Format = (typeof formats)[number];

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => unknown;
}

/** Results go to standard output, everything else to standard error, so that a pipe gets the result alone. */
export interface Output {
  readonly format: Format;
  readonly rows: <Row>(rows: readonly Row[], columns: readonly Column<Row>[]) => Promise<void>;
  /** One thing: its fields below each other. */
  readonly fields: (object: object) => Promise<void>;
  readonly json: (value: unknown) => void;
  readonly line: (text: string) => void;
  readonly note: (text: string) => void;
  readonly paint: (style: Parameters<typeof styleText>[0], text: string) => string;
}

export function createOutput(
  format: Format,
  stdout: NodeJS.WriteStream = process.stdout,
  stderr: NodeJS.WriteStream = process.stderr,
  // eslint-disable-next-line no-restricted-properties -- https://no-color.org is a convention of terminals, no setting
  isPlain = process.env['NO_COLOR'] !== undefined && process.env['NO_COLOR'] !== '',
): Output {
  const isColoured = stdout.isTTY && !isPlain;
  const paint: Output['paint'] = (style, text) => (isColoured ? styleText(style, text) : text);
  const line = (text: string) => stdout.write(`${text}\n`);
  const json = (value: unknown) => line(JSON.stringify(value, null, 2));
  return {
    format,
    paint,
    json,
    line,
    note: (text) => stderr.write(`${text}\n`),
    async rows(rows, columns) {
      if (format === 'json') {
        json(rows);
        return;
      }
      const cells = rows.map((row) => columns.map(({ value }) => toText(value(row))));
      const widthOf = await measureFor(cells.flat());
      // not with Math.max(...): a call takes some 100,000 arguments at most
      const widths = columns.map(({ title }, index) =>
        cells.reduce((widest, row) => Math.max(widest, widthOf(row[index] ?? '')), title.length),
      );
      const put = (row: readonly string[]) =>
        row
          .map((cell, index) => pad(cell, widths[index] ?? 0, widthOf))
          .join('  ')
          .trimEnd();
      line(paint('bold', put(columns.map(({ title }) => title))));
      for (const row of cells) line(put(row));
    },
    async fields(object) {
      if (format === 'json') {
        json(object);
        return;
      }
      const entries = Object.entries(object).filter(([, value]) => value !== null && value !== undefined);
      const widthOf = await measureFor(entries.map(([name]) => name));
      const width = Math.max(0, ...entries.map(([name]) => widthOf(name)));
      for (const [name, value] of entries) line(`${paint('bold', pad(name, width, widthOf))}  ${toText(value)}`);
    },
  };
}

type Measure = (text: string) => number;

/** Columns on a terminal. What knows of all writing loads for longer than all else here, and most texts are ASCII. */
async function measureFor(texts: readonly string[]): Promise<Measure> {
  if (texts.every((text) => /^[ -~]*$/.test(text))) return (text) => text.length;
  return (await import('string-width')).default;
}

function pad(text: string, width: number, widthOf: Measure): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)));
}

/** "-" for nothing. */
export function toText(value: unknown): string {
  if (value === null || value === undefined) return '-';
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (Array.isArray(value)) return value.length === 0 ? '-' : value.map(toText).join(' ');
  return JSON.stringify(value);
}
