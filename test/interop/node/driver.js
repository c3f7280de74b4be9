'use strict';

// Drives a Node client of RocketMQ for the interop tests.
//   node driver.js MODULES CLIENT NAMESRV
// MODULES is the directory with node_modules, CLIENT is "rocketmq" or "ali-ons". It reads one command a line from
// standard input, "ID VERB key=value ..." with percent-encoded values, and answers with one line of JSON on standard
// output: {"id":ID,"ok":true,...} or {"id":ID,"ok":false,"error":...}. A message that a consumer received is a line with
// "event". What is expected of the client is in the Go tests. When standard input ends, all is closed and the process ends.

const path = require('path');
const readline = require('readline');
const { createRequire } = require('module');

const [ modules, clientName, namesrv ] = process.argv.slice(2);
const load = createRequire(path.join(modules, 'package.json'));
const { Producer, Consumer, Message } = load(clientName);
const co = load('co');

// rocketmq 2.0.1 is written with generators, ali-ons with promises.
const generators = clientName === 'rocketmq';

async function run(result) {
  return result && typeof result.next === 'function' && typeof result.then !== 'function' ? co(result) : result;
}

function emit(line) {
  process.stdout.write(JSON.stringify(line) + '\n');
}

const log = {};
for (const level of [ 'debug', 'info', 'warn', 'error' ]) {
  log[level] = (...args) => { if (level === 'warn' || level === 'error') console.error(level, ...args); };
}

function options(args, more) {
  return Object.assign({
    // Both names for the same thing: the first of ali-ons, the second of rocketmq. The HTTP client is demanded but
    // only used to ask an address server, which there is not.
    nameSrv: namesrv.split(';'),
    namesrvAddr: namesrv,
    httpclient: { request() { throw new Error('no address server'); } },
    logger: log,
    clientIP: '127.0.0.1',
    instanceName: args.name,
    pollNameServerInteval: 1000,
    heartbeatBrokerInterval: 2000,
    persistConsumerOffsetInterval: 1000,
  }, more);
}

const running = new Map();

function need(name) {
  const found = running.get(name);
  if (!found) throw new Error(`nothing is called ${name}`);
  return found;
}

// The i-th message of a command: topic, tag, keys (separated by blanks), body, size, prop.NAME; {i} is its number.
function build(args, i) {
  const fill = s => s.replace(/\{i\}/g, String(i));
  let body = Buffer.from(fill(args.body || ''));
  const size = Number(args.size || body.length);
  if (size > body.length) {
    const padded = Buffer.alloc(size);
    body.copy(padded);
    for (let j = body.length; j < size; j++) padded[j] = 97 + j % 26;
    body = padded;
  }
  const m = new Message(args.topic, 'tag' in args ? fill(args.tag) : '', body);
  if ('keys' in args) m.keys = fill(args.keys).split(' ');
  if ('flag' in args) m.flag = Number(args.flag);
  for (const [ k, v ] of Object.entries(args)) {
    if (k.startsWith('prop.')) m.properties[k.slice(5)] = v;
  }
  return m;
}

function received(consumer, m) {
  emit({
    event: 'message', consumer, topic: m.topic, tags: m.tags, keys: m.keys, msgId: m.properties.UNIQ_KEY, offsetMsgId: m.msgId,
    queueId: m.queueId, queueOffset: m.queueOffset, body: m.body ? m.body.toString('base64') : null, properties: m.properties,
    sysFlag: m.sysFlag, flag: m.flag, storeSize: m.storeSize, reconsumeTimes: m.reconsumeTimes, bornTimestamp: m.bornTimestamp,
    storeTimestamp: m.storeTimestamp, bornHost: '/' + m.bornHost, storeHost: '/' + m.storeHost,
  });
}

function sendResult(r) {
  const q = r.messageQueue || {};
  return {
    status: r.sendStatus, msgId: r.msgId, offsetMsgId: r.msgId, queueOffset: Number(r.queueOffset),
    queue: { topic: q.topic, broker: q.brokerName, queueId: Number(q.queueId) },
  };
}

const verbs = {
  async producer(args) {
    const p = new Producer(options(args, { producerGroup: args.group || args.name }));
    p.on('error', err => log.error(err));
    await p.ready();
    running.set(args.name, p);
    return {};
  },

  // mode=async has all messages on their way at the same time.
  async send(args) {
    const p = need(args.name);
    const count = Number(args.count || 1);
    const results = [];
    for (let i = 0; i < count; i++) {
      const one = run(p.send(build(args, i))).then(sendResult, err => ({ error: String(err), code: err.code }));
      results.push(args.mode === 'async' ? one : await one);
    }
    return { results: await Promise.all(results) };
  },

  async push(args) {
    const c = new Consumer(options(args, {
      consumerGroup: args.group || args.name,
      consumeFromWhere: args.from || 'CONSUME_FROM_FIRST_OFFSET',
      isBroadcast: args.broadcast === 'true',
      rebalanceInterval: Number(args.rebalance || 10000),
    }));
    c.on('error', err => log.error(err));
    const handler = generators
      ? function* (m) { received(args.name, m); } // eslint-disable-line require-yield
      : async m => { received(args.name, m); };
    c.subscribe(args.topic, args.expression || '*', handler);
    await c.ready();
    running.set(args.name, c);
    return {};
  },

  async assigned(args) {
    const queues = [];
    for (const { messageQueue: q } of need(args.name).processQueueTable.values()) {
      if (q.topic === args.topic) queues.push({ topic: q.topic, broker: q.brokerName, queueId: q.queueId });
    }
    return { queues };
  },

  async persist(args) {
    await run(need(args.name).persistConsumerOffset());
    return {};
  },

  async stop(args) {
    const found = need(args.name);
    running.delete(args.name);
    await found.close();
    return {};
  },
};

const lines = readline.createInterface({ input: process.stdin });

lines.on('line', line => {
  const [ id, verb, ...words ] = line.trim().split(' ');
  const args = {};
  const decode = s => decodeURIComponent(s.replace(/\+/g, ' '));
  for (const w of words) {
    const eq = w.indexOf('=');
    args[decode(w.slice(0, eq))] = decode(w.slice(eq + 1));
  }
  (async () => {
    if (!Object.hasOwn(verbs, verb)) throw new Error(`unknown verb ${verb}`);
    return verbs[verb](args);
  })().then(
    result => emit(Object.assign({ id: Number(id), ok: true }, result)),
    err => emit({ id: Number(id), ok: false, error: String(err), code: Number(err.code) || 0 }));
});

lines.on('close', async () => {
  setTimeout(() => process.exit(3), 10000).unref();
  for (const found of running.values()) {
    try {
      await found.close();
    } catch (err) {
      log.error(err);
    }
  }
  process.exit(0);
});

process.on('unhandledRejection', err => log.error('unhandled', err));

const { version } = load(path.join(modules, 'node_modules', clientName, 'package.json'));
emit({ event: 'ready', version: `${clientName} ${version}`, node: process.version });
