import { readApisix } from './apisix.ts';
import type { Imported } from './collector.ts';
import { readHtpasswd } from './htpasswd.ts';
import type { ImportFormat } from './formats.ts';
import { ImportError } from './import-error.ts';
import { readKong } from './kong.ts';
import { readOpenresty } from './openresty.ts';

const readers: Readonly<Record<ImportFormat, (text: string, file: string) => Imported>> = {
  kong: readKong,
  apisix: readApisix,
  htpasswd: readHtpasswd,
  openresty: readOpenresty,
};

export interface ImportOptions {
  /** What errors call the source. */
  readonly file: string;
}

export const maxImportBytes = 64 * 1024 * 1024;

/**
 * API clients of another gateway, from its own file.
 *
 * @throws {ImportError} when the source cannot be read, or has what cannot be adapted without letting somebody else in
 */
export function readImport(format: ImportFormat, text: string, { file }: ImportOptions): Imported {
  if (Buffer.byteLength(text) > maxImportBytes) throw new ImportError(file, '', 'has more than 64 MB');
  if (text.trim() === '') throw new ImportError(file, '', 'is empty');
  return readers[format](text.replace(/^\uFEFF/, ''), file);
}
