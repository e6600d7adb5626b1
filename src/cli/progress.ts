import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  readonly advance: (by?: number) => void;
  readonly stop: () => void;
}

/** A bar on standard error where that is a terminal, and nothing elsewhere. */
export function startProgress(what: string, total: number): Progress {
  if (!process.stderr.isTTY || total < 2) return { advance: () => undefined, stop: () => undefined };
  const bar = new SingleBar(
    { format: `${what} [{bar}] {value}/{total}, {eta_formatted} left`, stream: process.stderr, hideCursor: true },
    Presets.rect,
  );
  bar.start(total, 0);
  return {
    advance: (by = 1) => {
      bar.increment(by);
    },
    stop: () => {
      bar.stop();
    },
  };
}
