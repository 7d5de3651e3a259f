// The conversation of bin/tests/it/foreign with MQTT.js: converse.js TRANSPORT VERSION PORT NAME [hold].
//
// TRANSPORT is tcp, ws, tls or wss (with the authorities in the file FOREBAY_TEST_CAFILE), VERSION 3 (3.1), 4 (3.1.1) or 5. Prints one line for each step; ends with 1 at the first that
// fails. With `hold` it is the client with a will and a kept session that is killed.
'use strict';
const { once } = require('node:events');
const { readFileSync } = require('node:fs');
const { spawn } = require('node:child_process');
const mqtt = require('mqtt');

const WITHIN_MS = 20_000;
const [transport, versionText, port, name, mode] = process.argv.slice(2);
const version = Number(versionText);

const step = (...words) => console.log(words.join(' '));

function check(holds, what) {
  if (!holds) throw new Error(what);
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${WITHIN_MS} ms`)), WITHIN_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A connection whose answers and messages are waited for. */
class Client {
  static async connect(leaf, { kept = false, will = false } = {}) {
    const client = new Client();
    client.messages = [];
    client.wake = () => {};
    client.inner = mqtt.connect(`${transport}://127.0.0.1:${port}/mqtt`, {
      clientId: `${name}-${leaf}`,
      protocolVersion: version,
      protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
      clean: !kept,
      reconnectPeriod: 0,
      ca: ['tls', 'wss'].includes(transport) ? readFileSync(process.env.FOREBAY_TEST_CAFILE) : undefined,
      properties: version === 5 && kept ? { sessionExpiryInterval: 600 } : undefined,
      will: will ? { topic: `${name}/will`, payload: Buffer.from('gone'), qos: 1, retain: false } : undefined,
    });
    client.inner.on('error', (error) => fail(error));
    client.inner.on('message', (topic, payload, { qos, retain }) => {
      client.messages.push({ topic, text: payload.toString(), payload, qos, retain });
      client.wake();
    });
    const [connack] = await within(once(client.inner, 'connect'), 'CONNACK');
    client.present = connack.sessionPresent;
    return client;
  }

  async subscribe(leaf) {
    const granted = await within(this.inner.subscribeAsync(`${name}/${leaf}`, { qos: 2 }), 'SUBACK');
    return granted.map(({ qos }) => qos);
  }

  publish(leaf, payload, qos = 1, retain = false) {
    return within(this.inner.publishAsync(`${name}/${leaf}`, payload, { qos, retain }), 'the end of a publish');
  }

  async next() {
    while (this.messages.length === 0) {
      await within(new Promise((resolve) => { this.wake = resolve; }), 'a message');
    }
    return this.messages.shift();
  }

  leave() {
    return within(this.inner.endAsync(), 'the end');
  }
}

async function hold() {
  const holder = await Client.connect('holder', { kept: true, will: true });
  check((await holder.subscribe('queued'))[0] === 2, 'QoS 2 is granted');
  step('holding');
}

async function retained(watcher, publisher) {
  await publisher.publish('kept', 'value', 1, true);
  check(!(await watcher.next()).retain, 'a message to who is subscribed is not marked as retained');
  let late = await Client.connect('late');
  await late.subscribe('kept');
  const got = await late.next();
  step('retained', got.retain, got.text);
  await late.leave();
  await publisher.publish('kept', '', 1, true);
  await watcher.next();
  late = await Client.connect('late');
  await late.subscribe('kept');
  await publisher.publish('kept', 'cleared');
  step((await late.next()).text);
  await watcher.next();
  await late.leave();
}

async function resumed(watcher, publisher) {
  const killed = spawn(process.execPath, [...process.argv.slice(1), 'hold'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await within(once(killed.stdout, 'data'), 'the holder');
  step(line.toString().trim());
  killed.kill('SIGKILL');
  const will = await watcher.next();
  step('will', will.topic, will.qos, will.text);
  for (let number = 0; number < 10; number += 1) {
    await publisher.publish('queued', String(number), 1 + (number % 2));
    await watcher.next();
  }
  const holder = await Client.connect('holder', { kept: true });
  if (version > 3) step('present', holder.present);
  const queued = [];
  while (queued.length < 10) queued.push(await holder.next());
  for (const qos of [1, 2]) {
    step('queued', qos, ...queued.filter((message) => message.qos === qos).map(({ text }) => text));
  }
  await holder.leave();
}

async function converse() {
  const watcher = await Client.connect('watcher');
  const publisher = await Client.connect('publisher');
  step('granted', ...(await watcher.subscribe('#')));
  for (const qos of [0, 1, 2]) {
    await publisher.publish(`q/${qos}`, `at ${qos}`, qos);
    const got = await watcher.next();
    step('message', got.topic, got.qos, got.text);
  }
  const large = Buffer.from(Array.from({ length: 300_000 }, (_, number) => number % 251));
  await publisher.publish('large', large);
  step('large', large.equals((await watcher.next()).payload));
  await retained(watcher, publisher);
  await resumed(watcher, publisher);
  await Promise.all([watcher.leave(), publisher.leave()]);
  step('done');
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

(mode === 'hold' ? hold() : converse()).catch(fail);
