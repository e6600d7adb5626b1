/** One API client as it is declared; what is absent keeps its default. */
export interface DeclaredClient {
  /** Unique, 1 to 1,024 characters. */
  api_client_id: string;
  name?: string;
  description?: string | null;
  tags?: string[];
  scopes?: string[];
  allowed_cidrs?: string[];
  is_admin?: boolean;
  enabled?: boolean;
  /** RFC 3339. */
  expires_at?: string | null;
  /** Such as "100/s", "60/m"; also h and d. */
  rate_limit?: string | null;
  rate_limit_burst?: number | null;
  /** Such as "100000/d". */
  quota?: string | null;
  /** Only where the source has numeric ids of our own kind. */
  id?: number;
  keys?: DeclaredKey[];
}

export interface DeclaredKey {
  /** "sha256:" and 64 hexadecimal digits. */
  digest: string;
  /** The last four characters of the secret. */
  hint?: string;
  expires_at?: string | null;
}

export interface Declaration {
  version: 1;
  clients: DeclaredClient[];
}

/** Something that was not carried over or needs a person: where (line or path in the source) and what. */
export interface Note {
  where: string;
  what: string;
}
