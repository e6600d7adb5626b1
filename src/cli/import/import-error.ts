/** The source cannot be imported. Its message names file, place and what is allowed, and never holds a secret. */
export class ImportError extends Error {
  override readonly name = 'ImportError';

  constructor(file: string, where: string, what: string) {
    super(where === '' ? `${file} ${what}` : `${file}, ${where}: ${what}`);
  }
}
