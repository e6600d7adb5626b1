// `npm run up`: prepares what is missing, then runs the gateway, a demonstration application and nginx.
import process from 'node:process';
import { root, setUp } from './setup.mjs';

setUp();
/** @type {unknown} */
const built = await import(`${root}/dist/local/up.js`);
const { up } = /** @type {typeof import('../src/local/up.ts')} */ (built);
process.exitCode = await up(process.env);
