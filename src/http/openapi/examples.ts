/** The API client of the examples, as the example of its creation makes it, and its key. No scanner takes that for one. */
export const billing = {
  id: 7,
  api_key_id: 7,
  api_client_entity_id: 7,
  name: 'billing',
  api_client_id: 'billing-eu',
  description: 'Sends invoices',
  tags: ['eu'],
  scopes: ['orders.read'],
  allowed_cidrs: ['192.0.2.0/24'],
  is_admin: false,
  enabled: true,
  expires_at: '2099-01-31T00:00:00.000Z',
  rate_limit: '100/s',
  rate_limit_burst: null,
  quota: '100000/d',
  has_api_key: true,
  api_key_expires_at: null,
  replaced_key_used_at: null,
  last_used_at: null,
  created_at: '2026-11-24T19:52:32.559Z',
  updated_at: '2026-11-24T19:52:32.559Z',
};

export const key = {
  id: 12,
  hint: 'mple',
  state: 'live',
  created_at: '2026-11-24T19:52:32.559Z',
  last_used_at: null,
  expires_at: null,
  replaced_at: null,
  revoked_at: null,
};

/** The key of `billing`, and one that takes its place. */
export const token = `7.${'Example'.repeat(10).slice(-64)}`;
export const nextToken = `7.${'Another'.repeat(10).slice(-64)}`;

/** A time at which another key took the place of `key`. */
export const replacedAt = '2026-11-25T08:00:00.000Z';
