import { init, use, type ComposeOption } from 'echarts/core';
import { LineChart, type LineSeriesOption } from 'echarts/charts';
import {
  GridComponent,
  LegendComponent,
  TitleComponent,
  type GridComponentOption,
  type LegendComponentOption,
  type TitleComponentOption,
} from 'echarts/components';
import { SVGRenderer } from 'echarts/renderers';
import { nameOf, type Dashboard, type Panel } from '../test/support/monitoring.ts';
import type { Series } from '../test/support/prometheus.ts';

use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);
type Option = ComposeOption<LineSeriesOption | GridComponentOption | LegendComponentOption | TitleComponentOption>;

/** The results of a panel's queries, one for each of its targets. */
export type PanelData = readonly (readonly Series[])[];

// Grafana's own measures and colours
const column = 60;
const row = 38;
const gap = 8;
const headHeight = 48;
const theme = { canvas: '#111217', panel: '#181b1f', border: '#2b2e35', text: '#ccccdc', faint: '#9099a5' };
const colours: Readonly<Record<string, string>> = {
  green: '#73bf69',
  yellow: '#fade2a',
  orange: '#ff9830',
  red: '#f2495c',
  purple: '#b877d9',
};
const palette = ['#73bf69', '#f2cc0c', '#8ab8ff', '#ff780a', '#f2495c', '#5794f2', '#b877d9', '#37872d', '#ffa6b0'];
const font = 'Inter, Helvetica, Arial, sans-serif';

/** All panels in their places, as one SVG. */
export function drawDashboard({ title, panels }: Dashboard, data: readonly PanelData[]): string {
  const width = 24 * column + gap;
  const height = headHeight + Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * row + gap;
  const drawn = panels.map((panel, index) => {
    const { x, y, w, h } = panel.gridPos;
    const size = { width: w * column - gap, height: h * row - gap };
    const place = `x="${x * column + gap}" y="${y * row + headHeight}"`;
    return drawPanel(panel, data[index] ?? [], size).replace('<svg ', `<svg ${place} `);
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${title}</title>
<rect width="100%" height="100%" fill="${theme.canvas}"/>
<text x="${gap * 2}" y="32" font-family="${font}" font-size="20" fill="${theme.text}">${title}</text>
${drawn.join('\n')}
</svg>
`;
}

interface Size {
  readonly width: number;
  readonly height: number;
}

function drawPanel(panel: Panel, data: PanelData, size: Size): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, ...size });
  chart.setOption({
    animation: false,
    useUTC: true,
    backgroundColor: theme.panel,
    textStyle: { fontFamily: font, color: theme.text },
    color: palette,
    ...(panel.type === 'stat' ? statOf(panel, data) : graphOf(panel, data)),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  // a coordinate needs no more than a tenth of a pixel
  return svg.replaceAll(/ d="[^"]*"/g, (path) => path.replaceAll(/(\.\d)\d+/g, '$1'));
}

const panelTitle = (text: string): TitleComponentOption => ({
  text,
  left: 12,
  top: 8,
  textStyle: { fontSize: 14, fontWeight: 500, color: theme.text },
});

/** The last value, large, above its course. */
function statOf({ title, targets, fieldConfig, options }: Panel, [series = []]: PanelData): Option {
  const { unit, decimals, thresholds, mappings = [] } = fieldConfig.defaults;
  const [{ metric, values } = { metric: {}, values: [] }] = series;
  const value = values.findLast(([, number]) => Number.isFinite(number))?.[1];
  const mapped = mappings.map((mapping) => mapping.options[String(value)]?.text).find((text) => text !== undefined);
  const isName = options.textMode === 'name';
  const text = isName
    ? nameOf(targets[0]?.legendFormat ?? '', metric)
    : (mapped ?? (value === undefined ? 'No data' : format(value, unit, decimals)));
  const step = thresholds?.steps.findLast((each) => each.value === null || (value ?? 0) >= each.value);
  const colour = colours[step?.color ?? 'green'] ?? '';
  return {
    title: [
      panelTitle(title),
      { text, left: 'center', top: 48, textStyle: { fontSize: 24, fontWeight: 600, color: colour } },
    ],
    grid: { left: 0, right: 0, top: 96, bottom: 0 },
    xAxis: { type: 'time', show: false },
    yAxis: { type: 'value', show: false, min: 0 },
    series: isName
      ? []
      : [{ ...line(values), lineStyle: { width: 1, color: colour }, areaStyle: { color: colour, opacity: 0.2 } }],
  };
}

function graphOf({ title, targets, fieldConfig, options }: Panel, data: PanelData): Option {
  const { unit, min, max, custom } = fieldConfig.defaults;
  const isBeside = options.legend?.placement === 'right';
  const isStacked = custom?.stacking.mode === 'normal';
  const times = [...new Set(data.flat().flatMap(({ values }) => values.map(([seconds]) => seconds)))].sort();
  const scale = unit === 'bytes' ? 2 ** 20 : 1;
  const named = targets.flatMap(({ legendFormat }, index) =>
    (data[index] ?? []).map(({ metric, values }) => {
      const at = new Map(values);
      // lines are stacked point by point, so each needs all of them
      const points = times.map((seconds) => [seconds, (at.get(seconds) ?? (isStacked ? 0 : NaN)) / scale] as const);
      return { name: nameOf(legendFormat, metric), values: points };
    }),
  );
  const colourOf = (name: string, index: number) => {
    const override = fieldConfig.overrides.find(({ matcher }) => matcher.options === name);
    return colours[override?.properties[0]?.value.fixedColor ?? ''] ?? palette[index % palette.length] ?? '';
  };
  return {
    title: panelTitle(title),
    legend: {
      data: named.map(({ name }) => name),
      icon: 'roundRect',
      itemWidth: 12,
      itemHeight: 4,
      itemGap: 22,
      textStyle: { color: theme.text, fontSize: 12 },
      ...(isBeside ? { orient: 'vertical', right: 32, top: 44, itemGap: 10 } : { left: 12, bottom: 8 }),
    },
    grid: { left: 76, right: isBeside ? 190 : 24, top: 44, bottom: isBeside ? 30 : 60 },
    xAxis: {
      type: 'time',
      splitNumber: 6,
      axisLabel: { color: theme.faint, formatter: '{HH}:{mm}', hideOverlap: true },
      axisLine: { lineStyle: { color: theme.border } },
      axisTick: { show: false },
    },
    yAxis: {
      type: 'value',
      ...(min !== undefined && { min }),
      ...(max !== undefined && { max, interval: max / 4 }),
      splitNumber: 4,
      axisLabel: { color: theme.faint, formatter: (value: number) => format(value * scale, unit) },
      splitLine: { lineStyle: { color: theme.border } },
    },
    series: named.map(({ name, values }, index) => ({
      ...line(values),
      name,
      color: colourOf(name, index),
      lineStyle: { width: 1.5 },
      areaStyle: { opacity: (custom?.fillOpacity ?? 0) / 100 },
      ...(isStacked && { stack: 'all' }),
    })),
  };
}

function line(values: Series['values']): LineSeriesOption {
  const data = values.map(([seconds, value]) => [seconds * 1_000, Number.isFinite(value) ? value : null]);
  return { type: 'line', showSymbol: false, data };
}

/** A value in a unit of Grafana's. */
function format(value: number, unit: string, decimals?: number): string {
  const round = (number: number) => String(Number(number.toFixed(decimals ?? (Math.abs(number) < 10 ? 1 : 0))));
  switch (unit) {
    case 'reqps':
      return `${round(value)} req/s`;
    case 'percentunit':
      return `${round(value * 100)}%`;
    case 'd':
      return `${round(value)} days`;
    case 'bytes':
      return `${round(value / 2 ** 20)} MiB`;
    case 's':
      if (value === 0) return '0 s';
      if (value < 0.001) return `${round(value * 1e6)} µs`;
      return value < 1 ? `${round(value * 1e3)} ms` : `${round(value)} s`;
    default:
      return round(value);
  }
}
