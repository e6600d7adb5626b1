import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A way to a TCP port on which, when it is cut, nothing arrives any more: no byte, no end, no refusal. */
export interface Way {
  readonly port: number;
  readonly cut: () => void;
  /** What is open ends; whoever connects from now on arrives. */
  readonly mend: () => void;
  readonly close: () => Promise<void>;
}

export async function startWay(to: number): Promise<Way> {
  const sockets = new Set<Socket>();
  let isCut = false;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  };
  const server = createServer({ pauseOnConnect: true }, (near) => {
    keep(near);
    // the kernel has accepted it; as on a network that is cut, nobody ever answers
    if (isCut) return;
    const far = connect(to, '127.0.0.1');
    keep(far);
    near.pipe(far).pipe(near);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const)
      one.on('close', () => {
        // whoever gave up is not heard of on the other side
        if (!isCut) other.destroy();
      });
    near.resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  return {
    port,
    cut() {
      isCut = true;
      for (const socket of sockets) {
        socket.unpipe();
        socket.pause();
      }
    },
    mend() {
      isCut = false;
      for (const socket of sockets) socket.destroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
