// `npm run docs`: writes docs/openapi.json, the OpenAPI document that a gateway serves, for whoever has none at hand. A test
// fails when it is not current.
import { writeFileSync } from 'node:fs';
import { createOpenApiDocument } from '../src/http/openapi/document.ts';

writeFileSync(
  new URL('../docs/openapi.json', import.meta.url),
  `${JSON.stringify(createOpenApiDocument(), null, 2)}\n`,
);
