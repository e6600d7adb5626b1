import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ, which is 100 on every architecture that Node runs on: proc(5). */
const ticksPerSecond = 100;

interface ProcessTimes {
  readonly parent: number;
  /** Seconds of processor time, user and system. */
  readonly cpu: number;
}

/** Seconds of processor time that these processes and all below them have used. */
export function cpuOfTrees(roots: readonly number[]): number {
  const times = readAll();
  return [...treesOf(roots, times)].reduce((sum, pid) => sum + (times.get(pid)?.cpu ?? 0), 0);
}

/** Bytes of resident memory of these processes and all below them. */
export function memoryOfTrees(roots: readonly number[]): number {
  return [...treesOf(roots, readAll())].reduce((sum, pid) => sum + residentMemory(pid), 0);
}

/** Seconds of processor time of our own children that have ended. */
export function cpuOfEndedChildren(): number {
  const fields = fieldsOf(readFileSync('/proc/self/stat', 'utf8'));
  return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond;
}

/**
 * Seconds of processor time that all processes have used, the kernel's among them. More exact than /proc/stat, which
 * counts what runs when the clock ticks.
 */
export function cpuOfSystem(): number {
  const running = [...readAll().values()].reduce((sum, { cpu }) => sum + cpu, 0);
  return running + cpuOfEndedChildren();
}

function readAll(): Map<number, ProcessTimes> {
  const pids = readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name));
  return new Map(
    pids.flatMap((pid): [number, ProcessTimes][] => {
      const times = readTimes(pid);
      return times ? [[Number(pid), times]] : [];
    }),
  );
}

function readTimes(pid: string): ProcessTimes | undefined {
  try {
    const fields = fieldsOf(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    return { parent: Number(fields[1]), cpu: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond };
  } catch {
    // it has ended meanwhile
    return undefined;
  }
}

/** Those after the name, which is in brackets and may have spaces in it: the state is the first. */
function fieldsOf(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function treesOf(roots: readonly number[], times: ReadonlyMap<number, ProcessTimes>): Set<number> {
  const tree = new Set(roots);
  let size: number;
  do {
    size = tree.size;
    for (const [pid, { parent }] of times) if (tree.has(parent)) tree.add(pid);
  } while (tree.size > size);
  return tree;
}

function residentMemory(pid: number): number {
  try {
    const kilobytes = /^VmRSS:\s+([0-9]+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}
