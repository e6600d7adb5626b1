import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { ConfigError, readConfig, type Environment, settings } from '../../src/config.ts';
import { nameOfDatabase } from '../../src/database-address.ts';
import { readLocalSettings } from '../../src/local/settings.ts';
import { makeTempDir } from '../support/stack.ts';

function problemsOf(env: Environment, read: (env: Environment) => unknown = readConfig): readonly string[] {
  try {
    read(env);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
}

test('names of others are theirs, unless they nearly are ours', () => {
  const others = { OIDC_CLIENT_ID: 'x', API_KEY_PEPPER: 'x', DATABASE_HOST: 'x', API_KEY_CREATE: '' };
  assert.equal(readConfig(others).createApiKey, false);
  for (const name of ['API_KEY_CREAT', 'OIDC_ALLOW_INSECURE_HTPP', 'DATABASE_URI', 'APIGW_ANYTHING_AT_ALL']) {
    assert.throws(() => readConfig({ [name]: 'x' }), new RegExp(`${name} is not a setting; did you mean`));
  }
});

suite('the environment', () => {
  test('needs nothing', () => {
    assert.deepEqual(readConfig({}), {
      database: '/var/lib/apigw/apigw.db',
      decisionListen: { kind: 'unix', path: '/run/apigw/decision.sock' },
      managementListen: { kind: 'unix', path: '/run/apigw/management.sock' },
      createApiKey: false,
      bootstrapKeyLifetime: 86_400_000,
      logLevel: 'info',
      logGrantedEvery: 1_000,
      workers: 1,
      allowInsecureHttp: false,
      staleKeysLifetime: 3_600_000,
      auditRetention: null,
      traces: undefined,
      frontDoor: null,
    });
  });

  test('is read', () => {
    const config = readConfig({
      API_KEY_CREATE: 'true',
      DATABASE_URL: 'sqlite:/data/x.db',
      APIGW_DECISION_LISTEN: '[::1]:9000',
      APIGW_MANAGEMENT_LISTEN: '10.0.0.1:0',
      APIGW_BOOTSTRAP_KEY_LIFETIME: '90m',
      APIGW_LOG_LEVEL: 'debug',
      APIGW_LOG_GRANTED_EVERY: '0',
      APIGW_WORKERS: '64',
      OIDC_ALLOW_INSECURE_HTTP: 'True',
      OIDC_STALE_KEYS_LIFETIME: '2h',
      APIGW_AUDIT_RETENTION: '400d',
      APIGW_FRONT_DOOR: '[::1]:443',
      PATH: '/bin',
    });
    assert.deepEqual(config, {
      database: '/data/x.db',
      decisionListen: { kind: 'tcp', host: '::1', port: 9000 },
      managementListen: { kind: 'tcp', host: '10.0.0.1', port: 0 },
      createApiKey: true,
      bootstrapKeyLifetime: 5_400_000,
      logLevel: 'debug',
      logGrantedEvery: 0,
      workers: 64,
      allowInsecureHttp: true,
      staleKeysLifetime: 7_200_000,
      auditRetention: 34_560_000_000,
      traces: undefined,
      frontDoor: { host: '::1', port: 443 },
    });
  });

  for (const address of ['[::::]:80', '[192.0.2.1]:80', 'localhost]:80', '[::1:80', '::1:80']) {
    test(`is refused with ${address}, which is no address`, () => {
      assert.equal(problemsOf({ APIGW_MANAGEMENT_LISTEN: address }).length, 1);
    });
  }

  test('is refused with all of its mistakes at once, each by name, and no secret repeated', () => {
    const problems = problemsOf({
      API_KEY_CREATE: 'yes',
      DATABASE_URL: 'mysql://user:hunter2@db/x',
      APIGW_DECISION_LISTEN: 'unix:relative',
      APIGW_MANAGEMENT_LISTEN: 'localhost:99999',
      APIGW_BOOTSTRAP_KEY_LIFETIME: '10s',
      APIGW_LOG_LEVEL: 'loud',
      APIGW_LOG_GRANTED_EVERY: '1000000001',
      APIGW_WORKERS: '65',
      APIGW_FRONT_DOOR: 'localhost:0',
      APIGW_LOG_LEVLE: 'info',
    });
    const names = [
      'APIGW_LOG_LEVLE',
      'DATABASE_URL',
      'APIGW_DECISION_LISTEN',
      'APIGW_MANAGEMENT_LISTEN',
      'API_KEY_CREATE',
      'APIGW_BOOTSTRAP_KEY_LIFETIME',
      'APIGW_LOG_LEVEL',
      'APIGW_LOG_GRANTED_EVERY',
      'APIGW_WORKERS',
      'APIGW_FRONT_DOOR',
    ];
    assert.deepEqual(
      problems.map((problem) => problem.split(' ')[0]),
      names,
    );
    assert.match(problems[0] ?? '', /did you mean APIGW_LOG_LEVEL\?/);
    assert.doesNotMatch(problems.join(), /hunter2/);
  });

  suite('says of traces', () => {
    const url = 'http://collector:4318';
    const protobuf = { exporters: ['otlp'], protocol: 'http/protobuf' };
    for (const [what, env, expected] of [
      [
        'nothing without a collector',
        { OTEL_TRACES_SAMPLER: 'nonsense', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
        undefined,
      ],
      ['nothing when they are disabled', { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_SDK_DISABLED: 'TRUE' }, undefined],
      ['nothing with no exporter', { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_TRACES_EXPORTER: 'none' }, undefined],
      ['nothing with an empty endpoint', { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' }, undefined],
      ['where the collector is', { OTEL_EXPORTER_OTLP_ENDPOINT: url }, protobuf],
      ['where that for traces is', { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${url}/v1/traces` }, protobuf],
      ['that they are wanted, where it usually is', { OTEL_TRACES_EXPORTER: 'otlp' }, protobuf],
      [
        'two exporters, and that for traces JSON is spoken',
        {
          OTEL_TRACES_EXPORTER: 'otlp, console',
          OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
          OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json',
          OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Basic%20eA==,x=y',
          OTEL_RESOURCE_ATTRIBUTES: 'a=b%2Cc, d=',
          OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
          OTEL_TRACES_SAMPLER_ARG: '.25',
        },
        { exporters: ['otlp', 'console'], protocol: 'http/json' },
      ],
    ] as const) {
      test(what, () => {
        assert.deepEqual(readConfig(env).traces, expected);
      });
    }

    test('what is wrong, each by name, and repeats no secret', () => {
      const env = {
        OTEL_TRACES_EXPORTER: 'otlp,zipkin',
        OTEL_TRACES_SAMPLER: 'sometimes',
        OTEL_TRACES_SAMPLER_ARG: '1.5',
        OTEL_RESOURCE_ATTRIBUTES: 'a',
        OTEL_BSP_MAX_QUEUE_SIZE: '100001',
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '0',
        OTEL_BSP_SCHEDULE_DELAY: '1s',
        OTEL_BSP_EXPORT_TIMEOUT: '-1',
        OTEL_EXPORTER_OTLP_ENDPOINT: 'ftp://user:hunter2@collector',
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'collector',
        OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
        OTEL_EXPORTER_OTLP_HEADERS: 'hunter2',
        OTEL_EXPORTER_OTLP_TIMEOUT: 'never',
        OTEL_EXPORTER_OTLP_COMPRESSION: 'zip',
        OTEL_EXPORTER_OTLP_CERTIFICATE: '/nowhere/ca.pem',
      };
      const problems = problemsOf(env);
      assert.deepEqual(
        problems.map((problem) => problem.split(' ')[0]),
        Object.keys(env),
      );
      assert.doesNotMatch(problems.join(), /hunter2/);
    });
  });

  test('takes a secret from a file, and says when both are given or the file is missing', () => {
    const file = join(makeTempDir(), 'url');
    writeFileSync(file, 'sqlite:/data/from-file.db\n');
    assert.equal(readConfig({ DATABASE_URL_FILE: file }).database, '/data/from-file.db');
    assert.match(problemsOf({ DATABASE_URL_FILE: file, DATABASE_URL: 'sqlite:/x' }).join(), /both set/);
    assert.match(problemsOf({ DATABASE_URL_FILE: '/nowhere' }).join(), /DATABASE_URL_FILE: .*\/nowhere/);
  });
});

suite('a database on PostgreSQL', () => {
  const url = 'postgresql://apigw@db.example:6432,[::1]/keys?sslmode=verify-full&sslrootcert=/ca.crt';
  const address = {
    hosts: [
      { host: 'db.example', port: 6432 },
      { host: '::1', port: 5432 },
    ],
    user: 'apigw',
    password: undefined,
    database: 'keys',
    tls: 'verify-full',
    caFile: '/ca.crt',
    certificateFile: undefined,
    keyFile: undefined,
    applicationName: 'apigw',
  };

  test('is named by its URL', () => {
    assert.deepEqual(readConfig({ DATABASE_URL: url }).database, address);
    const short = readConfig({ DATABASE_URL: 'postgres://a%40b:p%2Fw@%2Frun%2Fpg' }).database;
    assert.deepEqual(short, {
      ...address,
      hosts: [{ host: '/run/pg', port: 5432 }],
      user: 'a@b',
      password: 'p/w',
      database: 'a@b',
      tls: 'prefer',
      caFile: undefined,
    });
    assert.equal(nameOfDatabase(short), 'postgres://a@b@/run/pg:5432/a@b');
  });

  test('has a password in its URL or beside it, from a file too, and none that is for nothing', () => {
    const file = join(makeTempDir(), 'password');
    writeFileSync(file, 'hunter2\n');
    const secret = { ...address, password: 'hunter2' };
    assert.deepEqual(readConfig({ DATABASE_URL: url, DATABASE_PASSWORD: 'hunter2' }).database, secret);
    assert.deepEqual(readConfig({ DATABASE_URL: url, DATABASE_PASSWORD_FILE: file }).database, secret);
    const twice = { DATABASE_URL: 'postgres://u:hunter3@h/x', DATABASE_PASSWORD_FILE: file };
    assert.match(problemsOf(twice).join(), /^DATABASE_PASSWORD is set, but DATABASE_URL has a password of its own/);
    assert.match(problemsOf({ DATABASE_PASSWORD: 'hunter2' }).join(), /DATABASE_URL names no PostgreSQL/);
    const wrong = problemsOf({ DATABASE_URL: 'postgres://u:hunter2@h/x?sslmode=on' }).join();
    assert.match(wrong, /DATABASE_URL has a value that is not allowed: sslmode must be one of disable, prefer/);
    assert.doesNotMatch(problemsOf(twice).join() + wrong, /hunter/);
  });
});

suite('the environment of npm run up', () => {
  const read = (env: Environment) => readLocalSettings(env, '/repository', false);

  test('hands every setting of the gateway on, but the two addresses', () => {
    const values = Object.entries(settings).map(([name, { default: value }]) => [name, value]);
    const { gatewayEnv } = read(
      Object.fromEntries(values.filter(([name]) => !name?.endsWith('_LISTEN'))) as Environment,
    );
    assert.deepEqual(
      Object.keys(gatewayEnv).sort(),
      Object.keys(settings)
        .filter((name) => !name.endsWith('_LISTEN'))
        .sort(),
    );
    const file = join(makeTempDir(), 'url');
    writeFileSync(file, 'sqlite:/data/from-file.db');
    assert.deepEqual(read({ DATABASE_URL_FILE: file }).gatewayEnv, { DATABASE_URL_FILE: file });
  });

  test('has defaults that need no root', () => {
    const { httpsPort, httpPort, stateDir, configDir, appUpstream } = read({});
    assert.deepEqual([httpsPort, httpPort, stateDir], [8443, 8080, '/repository/.apigw']);
    assert.deepEqual([configDir, appUpstream], [undefined, undefined]);
    assert.equal(readLocalSettings({}, '/repository', true).httpsPort, 443);
  });

  test("is refused with its own mistakes and the gateway's together", () => {
    const problems = problemsOf(
      { APIGW_HTTPS_PORT: '0', APIGW_HTTP_PORT: 'x', API_KEY_CREATE: '1', APIGW_STATEDIR: '/' },
      read,
    );
    assert.equal(problems.length, 4, problems.join('\n'));
    assert.match(problems.join(), /APIGW_STATEDIR is not a setting; did you mean APIGW_STATE_DIR\?/);
    assert.match(problemsOf({ APIGW_HTTPS_PORT: '8080' }, read).join(), /must differ/);
    assert.match(problemsOf({ APIGW_DECISION_LISTEN: '127.0.0.1:1' }, read).join(), /cannot be set here/);
  });
});
