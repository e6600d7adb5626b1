import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { runProgram } from '../process.ts';

/** A certificate of the kind that stage.sh makes, in files nginx.crt and nginx.key of this folder. */
export function certificate(bench: Bench): Promise<string> {
  return bench.shared('certificate', async () => {
    const folder = bench.folder('certificate');
    await runProgram(bench, 'openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-sha256'],
      ...['-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
      ...['-keyout', join(folder, 'nginx.key'), '-out', join(folder, 'nginx.crt')],
    ]);
    return folder;
  });
}
