import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder of package.json, however deep below it this module has been compiled to. */
export const packageRoot = findUp(import.meta.dirname);

function findUp(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : findUp(dirname(folder));
}
