import { createServer, type Socket } from 'node:net';
import { createHistogram, record, type Histogram } from '../histogram.ts';
import type { ClosableServer } from './listener.ts';
import { parseRequestHead, type RequestHead } from './request-head.ts';

/** Answers with a whole HTTP message that has no body. Rejects never. */
export type AnswerDecision = (request: RequestHead) => string | Promise<string>;

/** Since the start. */
export interface ServerCounts {
  /** Accepted. */
  connections: number;
  /** From the whole head to the answer. */
  readonly durations: Histogram;
}

export function createServerCounts(): ServerCounts {
  return { connections: 0, durations: createHistogram() };
}

/** Bytes of one head: four buffers of nginx's large_client_header_buffers (4 16k) pass, as with Node's own server. */
const maxHead = 64 * 1024;
/** Milliseconds of silence; above nginx's upstream keepalive_timeout (60 s), or nginx writes into a closing connection. */
const idleTimeout = 75_000;
/** Milliseconds that a head may take to arrive. */
const headTimeout = 10_000;
/** Bytes of answers that a client leaves unread. */
const maxUnread = 64 * 1024;

const badRequest = 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';
const headTooLarge = 'HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';

/**
 * An HTTP/1.1 server for what nginx asks and nothing else: heads without bodies, answers without bodies, one after the
 * other on connections that stay open. Node's own server costs more processor time for each request than all the rest of
 * a decision: docs/adr/0008-decision-server.md.
 */
export function createDecisionServer(answer: AnswerDecision, counts = createServerCounts()): ClosableServer {
  const connections = new Set<Connection>();
  let isClosing = false;
  const server = createServer({ noDelay: true }, (socket) => {
    counts.connections++;
    const connection = serve(socket, answer, counts.durations, () => isClosing);
    connections.add(connection);
    socket.once('close', () => connections.delete(connection));
  });
  return {
    server,
    beginClosing: () => {
      isClosing = true;
    },
    closeIdle: () => {
      for (const { isIdle, socket } of connections) if (isIdle()) socket.destroy();
    },
    closeAll: () => {
      for (const { socket } of connections) socket.destroy();
    },
  };
}

interface Connection {
  readonly socket: Socket;
  readonly isIdle: () => boolean;
}

function serve(socket: Socket, answer: AnswerDecision, durations: Histogram, isClosing: () => boolean): Connection {
  /** What has arrived and is not answered. */
  let received = '';
  let isAnswering = false;
  let impatience: NodeJS.Timeout | undefined;

  const giveUp = (message: string) => {
    received = '';
    socket.removeAllListeners('data');
    socket.resume();
    socket.end(message, 'latin1');
    socket.setTimeout(1_000);
  };

  const send = (message: string, { isLast }: RequestHead) => {
    if (socket.destroyed) return;
    if (isLast || isClosing()) {
      giveUp(message.replace('\r\n', '\r\nConnection: close\r\n'));
    } else {
      socket.write(message, 'latin1');
      if (socket.writableLength > maxUnread) socket.destroy();
    }
  };

  /** Answers what is complete, in order. */
  const work = () => {
    while (!isAnswering && received !== '') {
      const end = received.indexOf('\r\n\r\n');
      if (end > maxHead || (end < 0 && received.length > maxHead)) {
        giveUp(headTooLarge);
        return;
      }
      if (end < 0) {
        impatience ??= setTimeout(() => socket.destroy(), headTimeout);
        return;
      }
      clearTimeout(impatience);
      impatience = undefined;
      const startedAt = performance.now();
      const head = parseRequestHead(received.slice(0, end));
      received = received.slice(end + 4);
      if (!head) {
        giveUp(badRequest);
        return;
      }
      const message = answer(head);
      if (typeof message === 'string') {
        send(message, head);
        record(durations, performance.now() - startedAt);
        continue;
      }
      isAnswering = true;
      void message.then((settled) => {
        isAnswering = false;
        send(settled, head);
        record(durations, performance.now() - startedAt);
        if (!socket.destroyed) work();
      });
    }
  };

  socket.setTimeout(idleTimeout, () => {
    if (!isAnswering) socket.destroy();
  });
  socket.on('data', (chunk: Buffer) => {
    const text = chunk.toString('latin1');
    received = received === '' ? text : received + text;
    // nginx waits for an answer before it asks again; whoever does not is not worth the memory
    if (isAnswering && received.length > maxHead) socket.destroy();
    else work();
  });
  socket.on('error', () => socket.destroy());
  socket.once('close', () => {
    clearTimeout(impatience);
  });
  return { socket, isIdle: () => !isAnswering && received === '' };
}
