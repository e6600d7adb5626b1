import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder of package.json, however deep below it this module has been compiled to. */
export const packageRoot = findUp(import.meta.dirname);

function findUp(folder: string): string {
  if (existsSync(join(folder, 'package.json'))) return folder;
  if (folder === dirname(folder)) throw new Error(`there is no package.json above ${import.meta.dirname}`);
  return findUp(dirname(folder));
}
