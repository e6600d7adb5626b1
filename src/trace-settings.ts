import { accessSync, constants } from 'node:fs';

/** How traces are exported. Where to, and how much, OpenTelemetry's own code reads from the same environment. */
export interface TraceConfig {
  readonly exporters: readonly TraceExporter[];
  readonly protocol: TraceProtocol;
}

const exporters = ['otlp', 'console'] as const;
type TraceExporter = (typeof exporters)[number];

const protocols = ['http/protobuf', 'http/json'] as const;
type TraceProtocol = (typeof protocols)[number];

type Environment = Readonly<Record<string, string | undefined>>;

interface Rule {
  /** What is allowed, as it stands in an error message. */
  readonly allowed: string;
  readonly allows: (value: string) => boolean;
  /** May hold a secret: its value is never repeated in a message. */
  readonly secret?: true;
}

const samplers = [
  ...['always_on', 'always_off', 'traceidratio'],
  ...['parentbased_always_on', 'parentbased_always_off', 'parentbased_traceidratio'],
];

const oneOf = (values: readonly string[]): Rule => ({
  allowed: values.join(', '),
  allows: (value) => values.includes(value),
});
const wholeNumber = (largest: number): Rule => ({
  allowed: `a whole number from 1 to ${largest}`,
  allows: (value) => /^[1-9][0-9]{0,8}$/.test(value) && Number(value) <= largest,
});
const pairs: Rule = {
  allowed: 'name=value,name=value with , = and % written as %2C, %3D and %25',
  allows: (value) => value.split(',').every((pair) => /^[^=]*[^=\s][^=]*=[^=]*$/.test(pair) && isDecodable(pair)),
};
const milliseconds = wholeNumber(600_000);
const file: Rule = { allowed: 'a file that can be read', allows: isReadable };

/** Of the settings for all signals; those for traces alone, such as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, are the same. */
const ofExporter: Readonly<Record<string, Rule>> = {
  ENDPOINT: {
    allowed: 'an http or https URL, such as http://collector:4318',
    allows: (value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol),
    secret: true,
  },
  PROTOCOL: oneOf(protocols),
  HEADERS: {
    ...pairs,
    allows: (value) => value.split(',').every((pair) => /^\s*[^=\s]+\s*=/.test(pair)),
    secret: true,
  },
  TIMEOUT: milliseconds,
  COMPRESSION: oneOf(['gzip', 'none']),
  CERTIFICATE: file,
  CLIENT_CERTIFICATE: file,
  CLIENT_KEY: file,
};

const general: Readonly<Record<string, Rule>> = {
  OTEL_TRACES_SAMPLER: oneOf(samplers),
  OTEL_TRACES_SAMPLER_ARG: {
    allowed: 'a number from 0 to 1',
    allows: (value) => /^[01]?(?:\.[0-9]+)?$/.test(value) && Number(value) <= 1,
  },
  OTEL_RESOURCE_ATTRIBUTES: pairs,
  OTEL_BSP_MAX_QUEUE_SIZE: wholeNumber(100_000),
  OTEL_BSP_MAX_EXPORT_BATCH_SIZE: wholeNumber(100_000),
  OTEL_BSP_SCHEDULE_DELAY: milliseconds,
  OTEL_BSP_EXPORT_TIMEOUT: milliseconds,
};

const disabled: Rule = { allowed: 'true, false', allows: (value) => /^(?:true|false)$/i.test(value) };
const whichExporters = `${exporters.join(', ')}, both of them, or none`;

/** What is allowed for each; docs/settings.md is made from this table, and docs/tracing.md is checked against it. */
export const traceSettings: Readonly<Record<string, { readonly allowed: string }>> = {
  OTEL_SDK_DISABLED: disabled,
  OTEL_TRACES_EXPORTER: { allowed: whichExporters },
  OTEL_SERVICE_NAME: { allowed: 'any text' },
  ...general,
  ...Object.fromEntries(Object.entries(ofExporter).map(([name, rule]) => [`OTEL_EXPORTER_OTLP_${name}`, rule])),
};

/**
 * Reads whether traces are wanted: OpenTelemetry's usual variables, of which an empty one is as good as none. Mistakes are
 * looked for only when they are, for the machine may have these variables for others.
 *
 * @returns undefined when they are not; each mistake is a sentence in `problems`
 */
export function readTraceConfig(env: Environment, problems: string[]): TraceConfig | undefined {
  const read = (name: string) => env[name]?.trim() || undefined;
  const check = (name: string, { allowed, allows, secret }: Rule) => {
    const value = read(name);
    if (value === undefined || allows(value)) return;
    const what = secret ? 'has a value that' : `is ${JSON.stringify(value)}, which`;
    problems.push(`${name} ${what} is not allowed; allowed: ${allowed}.`);
  };
  const readOfExporter = (name: string) =>
    read(`OTEL_EXPORTER_OTLP_TRACES_${name}`) ?? read(`OTEL_EXPORTER_OTLP_${name}`);

  check('OTEL_SDK_DISABLED', disabled);
  if (read('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return undefined;
  const wanted = read('OTEL_TRACES_EXPORTER')?.split(/\s*,\s*/) ?? (readOfExporter('ENDPOINT') ? ['otlp'] : []);
  if (wanted.length === 0 || (wanted.length === 1 && wanted[0] === 'none')) return undefined;
  check('OTEL_TRACES_EXPORTER', {
    allowed: whichExporters,
    allows: () => wanted.every(isExporter),
  });
  for (const [name, rule] of Object.entries(general)) check(name, rule);
  if (wanted.includes('otlp')) {
    for (const [name, rule] of Object.entries(ofExporter)) {
      for (const prefix of ['OTEL_EXPORTER_OTLP_', 'OTEL_EXPORTER_OTLP_TRACES_']) check(prefix + name, rule);
    }
  }
  const protocol = protocols.find((one) => one === readOfExporter('PROTOCOL')) ?? 'http/protobuf';
  return { exporters: wanted.filter(isExporter), protocol };
}

function isExporter(name: string): name is TraceExporter {
  return (exporters as readonly string[]).includes(name);
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
