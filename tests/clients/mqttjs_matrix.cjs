// MQTT.js against the broker at 127.0.0.1:PORT: every QoS in both versions, and what a session keeps.
//
// Arguments: MODULES PORT [tcp|websockets [CA_FILE]]; MODULES is the folder that MQTT.js was installed
// into, and with a file it speaks TLS and trusts what stands there. Prints one line a case and exits
// 0 if all hold.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const [modules, port, transport = 'tcp', caFile] = process.argv.slice(2);
const mqtt = require(`${modules}/mqtt`);

const WAIT = 20000;
const VERSIONS = { '3.1.1': 4, '5': 5 };
const SCHEMES = { tcp: ['mqtt', 'mqtts'], websockets: ['ws', 'wss'] };
const url = `${SCHEMES[transport][caFile ? 1 : 0]}://127.0.0.1:${port}${transport === 'tcp' ? '' : '/mqtt'}`;

class Peer {
  static async connect(clientId, version, { keep = false, will } = {}) {
    const peer = new Peer();
    peer.messages = [];
    peer.waiting = [];
    const properties = version === '5' && keep ? { sessionExpiryInterval: 3600 } : undefined;
    const ca = caFile && fs.readFileSync(caFile);
    peer.client = mqtt.connect(url, {
      clientId, protocolVersion: VERSIONS[version], clean: !keep, properties, will, ca,
      servername: 'localhost', reconnectPeriod: 0, connectTimeout: WAIT,
    });
    peer.client.on('message', (topic, payload, packet) => {
      const next = peer.waiting.shift();
      if (next) next(packet); else peer.messages.push(packet);
    });
    peer.connack = await new Promise((resolve, reject) => {
      peer.client.once('connect', resolve);
      peer.client.once('error', reject);
    });
    return peer;
  }

  async subscribe(topic, qos) {
    const [granted] = await this.client.subscribeAsync(topic, { qos });
    assert.strictEqual(granted.qos, qos);
  }

  message() {
    if (this.messages.length) return Promise.resolve(this.messages.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no message came')), WAIT);
      this.waiting.push((packet) => { clearTimeout(timer); resolve(packet); });
    });
  }

  end() { return this.client.endAsync(); }
}

async function delivery(version, qos, granted) {
  const subscriber = await Peer.connect('js-sub', version);
  await subscriber.subscribe('js/+', granted);
  const publisher = await Peer.connect('js-pub', version);
  for (let n = 0; n < 30; n++) await publisher.client.publishAsync('js/x', `${n}`, { qos });
  for (let n = 0; n < 30; n++) {
    const packet = await subscriber.message();
    assert.strictEqual(`${packet.payload} ${packet.qos}`, `${n} ${Math.min(qos, granted)}`);
  }
  await publisher.end();
  await subscriber.end();
}

async function retained(version) {
  const publisher = await Peer.connect('js-pub', version);
  await publisher.client.publishAsync('js-kept', 'value', { qos: 1, retain: true });
  const subscriber = await Peer.connect('js-sub', version);
  await subscriber.subscribe('js-kept', 1);
  const packet = await subscriber.message();
  assert(packet.retain);
  assert.strictEqual(`${packet.payload}`, 'value');
  await publisher.client.publishAsync('js-kept', '', { qos: 1, retain: true });
  await publisher.end();
  await subscriber.end();
}

async function offline(version, qos) {
  // Its session stays when the script has ended.
  const name = `js-sleeper-${version}-${qos}-${transport}-${port}`;
  let sleeper = await Peer.connect(name, version, { keep: true });
  await sleeper.subscribe('js-news', 2);
  await sleeper.end();
  const publisher = await Peer.connect('js-pub', version);
  for (let n = 0; n < 10; n++) await publisher.client.publishAsync('js-news', `${n}`, { qos });
  await publisher.end();
  sleeper = await Peer.connect(name, version, { keep: true });
  assert(sleeper.connack.sessionPresent);
  for (let n = 0; n < 10; n++) {
    const packet = await sleeper.message();
    assert.strictEqual(`${packet.payload} ${packet.qos}`, `${n} ${qos}`);
  }
  await sleeper.end();
}

async function will(version) {
  const watcher = await Peer.connect('js-watcher', version);
  await watcher.subscribe('js-will', 1);
  const last = { topic: 'js-will', payload: Buffer.from('gone'), qos: 1, retain: false };
  const mortal = await Peer.connect('js-mortal', version, { will: last });
  mortal.client.on('error', () => {});
  mortal.client.stream.destroy();
  assert.strictEqual(`${(await watcher.message()).payload}`, 'gone');
  await watcher.end();
}

async function main() {
  const run = async (what, ...how) => {
    await what(...how);
    console.log('ok', what.name, ...how);
  };
  for (const version of Object.keys(VERSIONS)) {
    for (let qos = 0; qos < 3; qos++) {
      for (let granted = 0; granted < 3; granted++) await run(delivery, version, qos, granted);
    }
    await run(retained, version);
    await run(offline, version, 1);
    await run(offline, version, 2);
    await run(will, version);
  }
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
