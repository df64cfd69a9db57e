// A SIP phone over WebSocket (RFC 7118) made of JsSIP. Browsers bring WebRTC; here a plain RTP socket stands in for it,
// for what is shown is the signalling. Says one line for each thing that happens and ends with 0 when all of it did.
//
//   node websocket.js '{"url": "ws://…", "uri": "sip:…", "password": "…", "call": "sip:…", "options": "sip:…"}'
'use strict';
const dgram = require('dgram');
const WebSocket = require('ws');

const wanted = JSON.parse(process.argv[2]);
const say = (line) => console.log(line);
const fail = (line) => { say(line); process.exit(1); };

/** What the box hears in each frame. */
const WORD = 0x35;

const ca = wanted.ca && require('fs').readFileSync(wanted.ca);
globalThis.window = globalThis;
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocol) { super(url, protocol, { ca }); }
};
globalThis.RTCSessionDescription = class { constructor(description) { Object.assign(this, description); } };
globalThis.RTCPeerConnection = class extends EventTarget {
  constructor() {
    super();
    this.signalingState = 'stable';
    this.iceGatheringState = 'complete';
    this.socket = dgram.createSocket('udp4');
    this.bound = new Promise((resolve) => this.socket.bind(0, '127.0.0.1', resolve));
    this.socket.on('message', (packet) => this.hear(packet));
    this.heard = 0;
  }
  async describe(type) {
    await this.bound;
    const sdp = ['v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 'c=IN IP4 127.0.0.1', 't=0 0',
      `m=audio ${this.socket.address().port} RTP/AVP 0`, 'a=sendrecv', ''].join('\r\n');
    return { type, sdp };
  }
  createOffer() { return this.describe('offer'); }
  createAnswer() { return this.describe('answer'); }
  async setLocalDescription(description) { this.localDescription = description; this.signalingState = 'have-local-offer'; }
  async setRemoteDescription({ sdp }) {
    this.signalingState = 'stable';
    const port = Number(/^m=audio (\d+)/m.exec(sdp)[1]);
    const address = /^c=IN IP4 (\S+)/m.exec(sdp)[1];
    let sequence = 0;
    clearInterval(this.timer);
    this.timer = setInterval(() => {
      const packet = Buffer.alloc(172, WORD);
      packet.writeUInt16BE(0x8000, 0);
      packet.writeUInt16BE(sequence, 2);
      packet.writeUInt32BE(160 * sequence, 4);
      packet.writeUInt32BE(0x5eed, 8);
      sequence += 1;
      this.socket.send(packet, port, address);
    }, 20);
  }
  hear(packet) {
    const own = packet.subarray(12).filter((byte) => byte === WORD).length;
    this.heard += own > 150 ? 1 : 0;
    if (this.heard === 20) this.dispatchEvent(new Event('heard'));
  }
  addTrack() {}
  getSenders() { return []; }
  getReceivers() { return []; }
  close() { clearInterval(this.timer); this.socket.close(); }
};

const JsSIP = require('jssip');
const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(wanted.url)],
  uri: wanted.uri,
  password: wanted.password,
  register: wanted.password !== undefined,
});

function call() {
  const stream = { getTracks: () => [], getAudioTracks: () => [], getVideoTracks: () => [] };
  const session = phone.call(wanted.call, { mediaStream: stream });
  session.connection.addEventListener('heard', () => { say('heard itself'); session.terminate(); });
  session.on('confirmed', () => say('up'));
  session.on('failed', ({ cause, message }) => fail(`call failed: ${message ? message.status_code : cause}`));
  session.on('ended', () => { say('ended'); phone.stop(); setTimeout(() => process.exit(0), 100); });
}

function ask() {
  phone.sendOptions(wanted.options || wanted.call, undefined, {
    eventHandlers: {
      succeeded: () => { say('OPTIONS answered'); call(); },
      failed: ({ response, cause }) => fail(`OPTIONS failed: ${response ? response.status_code : cause}`),
    },
  });
}

phone.on('connected', () => { say('connected'); if (wanted.password === undefined) ask(); });
phone.on('disconnected', ({ error, reason }) => { if (error) fail(`disconnected: ${reason}`); });
phone.on('registered', () => { say('registered'); ask(); });
phone.on('registrationFailed', ({ response, cause }) => fail(`not registered: ${response ? response.status_code : cause}`));
phone.start();
