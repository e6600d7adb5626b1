import { chmod, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { createServer, type RequestListener, type ServerOptions } from 'node:http';
import type { ListenAddress } from '../config.ts';

export interface Listener {
  /** The address as an operator would write it; a TCP port of 0 has become a real one. */
  readonly address: string;
  /** Answers what is under way, tells the other side to connect anew, and resolves when the last connection is closed. */
  readonly close: () => Promise<void>;
}

/** A server that can be closed without waiting for connections that nobody uses. */
export interface ClosableServer {
  readonly server: Server;
  /** From now on each answer tells the other side to connect anew. */
  readonly beginClosing: () => void;
  readonly closeIdle: () => void;
  readonly closeAll: () => void;
}

/**
 * Connections that wait to be accepted; the kernel takes net.core.somaxconn at most (4096 since Linux 5.4). nginx makes a
 * connection for each question that no idle one is left for, and does not wait when the queue is full. Node's own: 511.
 */
const backlog = 4_096;
/** Milliseconds after which a closing listener gives up on the requests that are still under way. */
const drainTimeout = 8_000;

const limits: ServerOptions = {
  // nginx passes header lines of up to 16 KB (large_client_header_buffers 4 16k): more here than there, or Node's 431
  // would turn into a 500
  maxHeaderSize: 64 * 1024,
  // above nginx's upstream keepalive_timeout (60 s), or nginx writes into a connection that Node is closing
  keepAliveTimeout: 75_000,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
};

export function createHttpServer(handler: RequestListener): ClosableServer {
  let isClosing = false;
  const server = createServer(limits, (request, response) => {
    if (isClosing) response.setHeader('Connection', 'close');
    handler(request, response);
  });
  return {
    server,
    beginClosing: () => {
      isClosing = true;
    },
    closeIdle: () => {
      server.closeIdleConnections();
    },
    closeAll: () => {
      server.closeAllConnections();
    },
  };
}

/**
 * Starts a server. One whose address is already claimed shares it with others: node:cluster. A Unix socket is made with
 * mode 0660: its folder's group decides who may connect.
 *
 * @throws {Error} naming the address, when it cannot be listened on
 */
export async function listen(
  address: ListenAddress,
  { server, beginClosing, closeIdle, closeAll }: ClosableServer,
  isClaimed = false,
): Promise<Listener> {
  if (!isClaimed) await claim(address);
  await start(server, address).catch((error: unknown) => {
    throw cannotListen(address, error);
  });
  const bound = server.address();
  return {
    address: bound !== null && typeof bound === 'object' ? `${bound.address}:${bound.port}` : write(address),
    close: () =>
      new Promise((resolve) => {
        beginClosing();
        // a connection that is busy now goes idle later, and nginx keeps idle ones open
        const sweep = setInterval(closeIdle, 50);
        const giveUp = setTimeout(closeAll, drainTimeout);
        server.close(() => {
          clearInterval(sweep);
          clearTimeout(giveUp);
          resolve();
        });
      }),
  };
}

/**
 * Removes what a killed process has left at the address.
 *
 * @throws {Error} naming the address, when somebody answers there
 */
export async function claim(address: ListenAddress): Promise<void> {
  if (address.kind !== 'unix') return;
  await removeStaleSocket(address.path).catch((error: unknown) => {
    throw cannotListen(address, error);
  });
}

function cannotListen(address: ListenAddress, error: unknown): Error {
  return new Error(`Cannot listen on ${write(address)}: ${explain(error)}`, { cause: error });
}

function write(address: ListenAddress): string {
  return address.kind === 'unix' ? `unix:${address.path}` : `${address.host}:${address.port}`;
}

async function start(server: Server, address: ListenAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ ...(address.kind === 'unix' ? { path: address.path } : address), backlog }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  // a connection that could not be accepted, for want of file descriptors say, ends no gate
  server.on('error', () => undefined);
  if (address.kind === 'unix') await chmod(address.path, 0o660);
}

/** A killed process leaves its socket's file behind; one that answers belongs to somebody. */
async function removeStaleSocket(path: string): Promise<void> {
  const isAnswered = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => {
      resolve(false);
    });
  });
  if (isAnswered) throw new Error('another process answers there');
  await rm(path, { force: true });
}

function explain(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return 'the address is in use';
  if (code === 'EACCES') return `the user with id ${process.getuid?.() ?? 0} may not`;
  if (code === 'ENOENT') return 'the folder does not exist';
  return message;
}
