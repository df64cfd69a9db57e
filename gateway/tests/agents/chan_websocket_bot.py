"""An agent behind Asterisk's WebSocket channel, made with galcymedia, which speaks that channel's protocol by itself:
nothing of it is shared with the gateway. It greets for a second, says back what it hears, forgets what it has queued at
the key 1, and at the key 2 says a goodbye and hangs up once that was heard.

usage: chan_websocket_bot.py LOG    the port is printed when it listens; it ends with its standard input

What happens is written to the log, a JSON document a line.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time

from galcymedia import serve
from galcymedia.pcm import ulaw_to_pcm

logging.basicConfig(level=logging.WARNING)
log_file = open(sys.argv[1], "w", buffering=1)


def log(event, **fields):
    log_file.write(json.dumps({"event": event, "at": time.time(), **fields}) + "\n")


def word(code, seconds):
    """One loudness and either sign, in µ-law."""
    return bytes([code, code | 0x80]) * int(4000 * seconds)


class Agent:
    def __init__(self, session):
        self.session = session
        self.is_silent = False
        self.sizes = set()

    async def start(self):
        media = self.session.media
        log("start", format=media.audio_format, frame=media.optimal_frame_size, ptime=media.ptime,
            variables=media.channel_variables, path=self.session._ws.request.path,
            protocol=self.session._ws.subprotocol)
        await self.session.answer()
        await self.session.send_audio(word(0x10, 1))
        heard = await self.session.mark()
        asyncio.create_task(self.note(heard))

    async def note(self, heard):
        await heard.wait()
        log("greeted")

    async def send_audio(self, chunk):
        if len(chunk) not in self.sizes:
            self.sizes.add(len(chunk))
            log("audio", bytes=len(chunk))
        loud = sum(abs(int.from_bytes(ulaw_to_pcm(chunk[at:at + 1]), "little", signed=True)) for at in range(0, 160, 16))
        if loud > 10_000 and not self.is_silent:
            # Ten times as much as it hears, far ahead.
            await self.session.send_audio(chunk * 10)

    async def on_dtmf(self, digit):
        log("dtmf", digit=digit)
        if digit == "1":
            self.is_silent = True
            await self.session.flush()
            await self.session.request_status()
        if digit == "2":
            await self.session.send_audio(word(0x10, 0.5))
            asyncio.create_task(self.session.finish())

    async def close(self):
        log("gone", code=self.session._ws.close_code)


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    told = lambda name, payload: log("told", name=name, payload=payload)
    async with serve(Agent, "127.0.0.1", port, forward_dtmf=True, on_event=told):
        print(port, flush=True)
        await asyncio.Future()


def watch():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=watch, daemon=True).start()
asyncio.run(main())
