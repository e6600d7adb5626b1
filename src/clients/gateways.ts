/** A process that decides, as the others know it. */
export interface StoredGateway {
  /** Of the process, made anew with each start. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** It grants nothing by what was true before this revision. */
  readonly appliedRevision: number;
  /** When it has said so last, by the clock of the database: for people, and to see that it has said it again. */
  readonly seenAt: number;
}

/** What is asked of a database. Every method rejects when the database cannot tell. */
export interface GatewayStore {
  /** The revision of now. */
  revision(): Promise<number>;
  /** By name. */
  list(): Promise<readonly StoredGateway[]>;
  /** Keeps it as seen now. */
  put(gateway: Omit<StoredGateway, 'seenAt'>): Promise<void>;
  /** Only if it has not been seen again since then, where a time is given. */
  remove(id: string, seenAt?: number): Promise<void>;
}

export interface JoinOptions {
  readonly store: GatewayStore;
  readonly id: string;
  readonly name: string;
  /** The revision that has been followed. */
  readonly revision: () => number;
  /** Called when the database cannot be written; once until it can. */
  readonly onFault: (cause: unknown) => void;
  /** Milliseconds between two signs of life. */
  readonly interval?: number;
}

export interface Membership {
  /** Says that another revision has been followed. */
  readonly follow: () => void;
  /** Call it when nothing is decided any more. */
  readonly leave: () => Promise<void>;
}

/**
 * Others' signs of life that may stay away. Three times three seconds: by then a gateway that cannot ask the database has
 * long forgotten what it knew, which it does after 5 s.
 */
const patience = 3;
/** Milliseconds that the last word may take. */
const farewell = 1_000;

/**
 * Makes this gateway known, before it decides, so that others can wait for it. From then on it says which revision it has
 * followed, and, while it is not alone, that it lives.
 *
 * Nobody's clock is believed. A gateway is taken for dead by one that has written its own sign of life several times and
 * has never seen another one of it: whatever keeps all of them from writing kills none of them.
 */
export async function joinGateways(options: JoinOptions): Promise<Membership> {
  const { store, id, name, revision, onFault, interval = 3_000 } = options;
  const watched = new Map<string, { readonly seenAt: number; readonly missed: number }>();
  let said: number | undefined;
  let isFaulty = false;
  let isQueued = false;
  let isLeaving = false;
  let timer: NodeJS.Timeout | undefined;
  let turn = Promise.resolve();

  async function say(): Promise<void> {
    const appliedRevision = revision();
    await store.put({ id, name, appliedRevision });
    said = appliedRevision;
  }

  async function beat(): Promise<void> {
    const all = await store.list();
    const others = all.filter((one) => one.id !== id);
    // on SQLite a write costs a flush, and nobody is there to see it
    if (others.length > 0 || others.length === all.length || said !== revision()) await say();
    for (const one of watched.keys()) if (!others.some((other) => other.id === one)) watched.delete(one);
    for (const { id: other, seenAt } of others) {
      const before = watched.get(other);
      const missed = before?.seenAt === seenAt ? before.missed + 1 : 0;
      watched.set(other, { seenAt, missed });
      if (missed >= patience) await store.remove(other, seenAt);
    }
  }

  function enqueue(work: () => Promise<void>): Promise<void> {
    turn = turn.then(work).then(
      () => {
        isFaulty = false;
      },
      (error: unknown) => {
        if (!isFaulty) onFault(error);
        isFaulty = true;
      },
    );
    return turn;
  }

  function schedule(): void {
    if (isLeaving) return;
    timer = setTimeout(() => void enqueue(beat).then(schedule), interval);
  }

  function follow(): void {
    if (isQueued || isLeaving) return;
    isQueued = true;
    void enqueue(() => {
      isQueued = false;
      return say();
    });
  }

  await enqueue(say);
  if (said !== undefined && said !== revision()) follow();
  schedule();
  return {
    follow,
    async leave() {
      isLeaving = true;
      clearTimeout(timer);
      const gone = turn.then(() => store.remove(id)).catch(() => undefined);
      await Promise.race([gone, after(farewell)]);
    },
  };
}

/** What has not been followed everywhere when there was no more time to wait. */
export interface Propagation {
  /** The change's own revision, or a later one; undefined when the database has not told. */
  readonly revision: number | undefined;
  /** Those that have not followed it; undefined when the database has not told. */
  readonly pending: readonly StoredGateway[] | undefined;
}

export interface Gateways {
  list(): Promise<{ readonly revision: number; readonly gateways: readonly StoredGateway[] }>;
  /**
   * Waits until every gateway has followed all changes that are kept by now, for so many milliseconds at most, or for one
   * look. What is changed is changed, so it never rejects.
   *
   * @returns undefined when all have
   */
  whenFollowed(patience: number): Promise<Propagation | undefined>;
}

/** Milliseconds between two looks. */
const pause = 50;
/** Milliseconds that the first look may take, for somebody who wants to wait for less. */
const firstLook = 500;

/** @param ownId of the process that asks, if it decides: it has followed its own changes before it says anything of them */
export function createGateways(store: GatewayStore, ownId?: string): Gateways {
  return {
    async list() {
      const [revision, gateways] = [await store.revision(), await store.list()];
      return { revision, gateways };
    },

    async whenFollowed(milliseconds) {
      let known: Propagation | undefined = { revision: undefined, pending: undefined };
      let isOver = false;
      let hasLooked = (): void => undefined;
      const looked = new Promise<void>((resolve) => (hasLooked = resolve));
      const watch = async () => {
        let revision: number | undefined;
        while (!isOver) {
          try {
            const wanted = (revision ??= await store.revision());
            const others = (await store.list()).filter(({ id }) => id !== ownId);
            const pending = others.filter(({ appliedRevision }) => appliedRevision < wanted);
            known = pending.length === 0 ? undefined : { revision, pending };
            if (!known) return;
          } catch {
            // what was known last is still so
          }
          hasLooked();
          await after(pause);
        }
      };
      const patience = Promise.all([after(milliseconds), Promise.race([looked, after(firstLook)])]);
      await Promise.race([watch(), patience]);
      isOver = true;
      return known;
    },
  };
}

function after(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds).unref();
  });
}
