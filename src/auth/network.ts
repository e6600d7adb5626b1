import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

type Cidr = readonly [ipaddr.IPv4 | ipaddr.IPv6, number];

/** Addresses from which a client is let in. */
export interface Network {
  /**
   * False for what is no address: then it is not known where the request comes from. One with a zone (RFC 4007 11) means
   * something on one machine alone, and is in no network.
   */
  readonly has: (address: string) => boolean;
}

/**
 * The network of these CIDR blocks (RFC 4632, RFC 4291 2.3). A text that is none admits nobody. An IPv4 address in IPv6
 * form (RFC 4291 2.5.5.2) is the IPv4 address.
 */
export function createNetwork(cidrs: readonly string[]): Network {
  const blocks = cidrs.map(parseCidr).filter((block) => block !== undefined);
  return {
    has: (text) => {
      if (!isAddress(text)) return false;
      const address = ipaddr.process(toUnambiguous(text));
      return blocks.some(([block, prefix]) => block.kind() === address.kind() && address.match(block, prefix));
    },
  };
}

/** Whether the text is an IPv4 or IPv6 address, without a zone. */
export function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%');
}

/** Why the text is no CIDR block, in words that follow its name; undefined when it is one. */
export function faultOfCidr(text: string): string | undefined {
  const cidr = parseCidr(text);
  if (!cidr) return 'must be a CIDR block such as 192.0.2.0/24 or 2001:db8::/32';
  const [address, prefix] = cidr;
  if (address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress()) {
    return prefix < 96
      ? 'has IPv4 addresses in IPv6 form; write them as IPv4'
      : `must be IPv4; did you mean ${address.toIPv4Address().toString()}/${prefix - 96}?`;
  }
  const family = address.kind() === 'ipv4' ? ipaddr.IPv4 : ipaddr.IPv6;
  const network = family.networkAddressFromCIDR(toUnambiguous(text)).toString();
  if (network === address.toString()) return undefined;
  return `has bits beyond its prefix; did you mean ${network}/${prefix}?`;
}

/** Strict: the library alone would take octal numbers and addresses of fewer than four parts. */
function parseCidr(text: string): Cidr | undefined {
  const [, address = '', prefix = ''] = /^([0-9a-fA-F:.]{2,45})\/(0|[1-9][0-9]{0,2})$/.exec(text) ?? [];
  const version = isIP(address);
  if (version === 0 || Number(prefix) > (version === 4 ? 32 : 128)) return undefined;
  return ipaddr.parseCIDR(toUnambiguous(text));
}

/** The library takes `::192.0.2.1`, an IPv6 address (RFC 4291 2.5.5.1), for the IPv4 address at its end. */
function toUnambiguous(text: string): string {
  return text.replace(/^::(?=[0-9]+\.)/, '::0:');
}
