/** What an import can read. */
export const importFormats = ['kong', 'apisix', 'htpasswd', 'openresty'] as const;

export type ImportFormat = (typeof importFormats)[number];
