import type { RequestListener } from 'node:http';

/** The demonstration application: says what it received, above all who the gateway says is asking. */
export const demoApp: RequestListener = (request, response) => {
  const { 'x-client-id': clientId, 'x-client-name': clientName } = request.headers;
  const body = {
    message: 'This is the application behind the gateway.',
    method: request.method,
    path: request.url,
    client_id: decode(clientId),
    client_name: decode(clientName),
    headers: request.headers,
  };
  request.resume();
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify(body, null, 2)}\n`);
};

/** All that an application has to do with an identity header. */
function decode(header: string | string[] | undefined): string | null {
  return typeof header === 'string' ? decodeURIComponent(header) : null;
}
