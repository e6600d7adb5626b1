import type { Row } from './result.ts';

const barHeight = 18;
const rowHeight = 26;
const labelWidth = 190;
const plotWidth = 560;
const width = labelWidth + plotWidth + 70;
const top = 64;

/** Middle tones, readable on white and on black. */
const colours = { ours: '#2f81f7', baseline: '#8b949e', peer: '#b7801f', text: '#7d8590' };

/** Requests/s of each set-up as a part of its baseline's, as a bar chart in SVG. */
export function drawChart(rows: readonly Row[], subtitle: string): string {
  const bars = rows.flatMap(({ name, kind, ratio, load }) =>
    ratio && load === 'closed' ? [{ name, kind, ratio: ratio.median }] : [],
  );
  const longest = Math.max(1.2, ...bars.map(({ ratio }) => ratio));
  const x = (ratio: number) => round(labelWidth + (ratio / longest) * plotWidth);
  const bottom = top + bars.length * rowHeight;
  const ticks = Array.from({ length: Math.floor(longest / 0.25) + 1 }, (_, index) => index * 0.25);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom + 64}" width="${width}" height="${bottom + 64}" font-family="sans-serif" font-size="12" fill="${colours.text}" role="img">
<title>Requests per second, relative to nginx with auth_request</title>
<text x="16" y="24" font-size="16" font-weight="bold">Requests/s, relative to nginx with auth_request and an instant yes (L1)</text>
<text x="16" y="44">${escapeXml(subtitle)}</text>
${ticks.map((tick) => drawTick(tick, x(tick), bottom)).join('\n')}
${bars.map(({ name, kind, ratio }, index) => drawBar(name, ratio, colours[kind], x(ratio), top + index * rowHeight)).join('\n')}
<line x1="${x(1)}" y1="${top - 6}" x2="${x(1)}" y2="${bottom}" stroke="${colours.text}" stroke-width="2"/>
${drawLegend(bottom + 48)}
</svg>
`;
}

function drawTick(tick: number, x: number, bottom: number): string {
  return `<line x1="${x}" y1="${top - 6}" x2="${x}" y2="${bottom}" stroke="${colours.text}" stroke-opacity="0.3"/>
<text x="${x}" y="${bottom + 16}" text-anchor="middle">${tick.toFixed(2)}</text>`;
}

function drawBar(name: string, ratio: number, colour: string, end: number, y: number): string {
  return `<text x="${labelWidth - 8}" y="${y + 14}" text-anchor="end">${escapeXml(name)}</text>
<rect x="${labelWidth}" y="${y}" width="${round(end - labelWidth)}" height="${barHeight}" fill="${colour}"/>
<text x="${end + 6}" y="${y + 14}">${ratio.toFixed(2)}</text>`;
}

function drawLegend(y: number): string {
  const entries = [
    ['this gateway', colours.ours],
    ['nginx alone', colours.baseline],
    ['others', colours.peer],
  ] as const;
  return entries
    .map(
      ([label, colour], index) =>
        `<rect x="${labelWidth + index * 130}" y="${y - 10}" width="12" height="12" fill="${colour}"/><text x="${labelWidth + 18 + index * 130}" y="${y}">${label}</text>`,
    )
    .join('\n');
}

export function escapeXml(text: string): string {
  const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };
  return text.replace(/[&<>"']/g, (character) => escapes[character] ?? '');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
