// An agent behind AudioSocket, made with servers by others: nothing of them is shared with the gateway.
//
// usage: audiosocket_bot.mjs PEERS LOG MANNER
//   talk   `asterisk-audiosocket`: greets for a second, which the caller can cut short by speaking; then says back what it
//          hears, and hangs up at the key *
//   flood  `@fonoster/streams`: sends nine minutes of speech as fast as the connection takes them
//
// The port is printed when it listens; it ends with its standard input. What happens is written to the log, a JSON
// document a line.

import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [peers, logFile, manner] = process.argv.slice(2);
const log = (event, fields = {}) => appendFileSync(logFile, JSON.stringify({ event, ...fields }) + "\n");
process.stdin.on("end", () => process.exit(0)).resume();

/** So many seconds of a word: samples of one loudness and either sign, which µ-law carries unchanged. */
function word(seconds) {
  const samples = Buffer.alloc(16000 * seconds);
  for (let at = 0; at < samples.length; at += 2) samples.writeInt16LE(at % 4 === 0 ? LEVEL : -LEVEL, at);
  return samples;
}

function isLoud(pcm) {
  let sum = 0;
  for (let at = 0; at + 1 < pcm.length; at += 2) sum += Math.abs(pcm.readInt16LE(at));
  return sum / (pcm.length / 2) > 1000;
}

async function talk() {
  const { AudioSocketServer } = await import(pathToFileURL(`${peers}/node_modules/asterisk-audiosocket/dist/index.js`));
  const server = new AudioSocketServer({ port: 0 });
  server.on("connection", (call) => {
    let isGreeting = true;
    let sizes = new Set();
    call.on("id", async (uuid) => {
      log("id", { uuid });
      await call.play(word(1));
      isGreeting = false;
    });
    call.on("audio", (pcm) => {
      if (!sizes.has(pcm.length)) log("audio", { bytes: pcm.length });
      sizes.add(pcm.length);
      if (!isLoud(pcm)) return;
      if (isGreeting) {
        log("interrupted");
        call.flushPlayback();
      } else {
        call.play(pcm);
      }
    });
    // Of a frame that the server does not know it tells the first byte.
    call.on("error", (error) => {
      log("error", { text: error.message });
      if (error.message.endsWith(`code=${"*".charCodeAt(0)}`)) call.hangup();
    });
    call.on("hangup", () => log("hangup"));
  });
  await server.listen();
  console.log(server.address.port);
}

function flood() {
  const { AudioSocket } = createRequire(`${peers}/node_modules/`)("@fonoster/streams");
  const server = new AudioSocket();
  server.onConnection((request, stream) => {
    log("id", { uuid: request.ref });
    const speech = word(2);
    for (let count = 0; count < 270; count += 1) stream.write(speech);
    stream.onClose(() => log("hangup"));
  });
  server.listen(0, "127.0.0.1", () => {
    console.log(server.server.address().port);
    // The library logs there, and nobody reads on.
    process.stdout.write = () => true;
  });
}

// What µ-law makes of its code 0x10.
const LEVEL = 15996;

await (manner === "talk" ? talk() : flood());
