"""What the strict fakes of hosted agents share: the log, the flags, the door, an ear, a voice and the turns.

Each fake is written from its vendor's documentation and, for the names of fields, the types of its vendor's client; it
shares no code and no types with the gateway. Whatever a client does that these do not allow is answered as the vendor
answers it, as far as that is documented or has been seen by others, and written to the log as a `violation`, and fails the
test that reads it. The vendor's own client talks to each fake as evidence that it is right: `sdk/`.

A fake hears by energy, answers each turn with a tone of its own (440 Hz, and 220 Hz more with each of its turns), and
sends its audio far faster than real time in pieces of odd sizes.
"""

import argparse
import asyncio
import http
import json
import math
import ssl
import struct
import time
from urllib.parse import parse_qs, urlsplit

import websockets

ANY, NUMBER = object(), (int, float)

SCENARIOS = ["talk", "interrupt", "end_call", "send_dtmf", "transfer", "hang_up", "flood", "silent", "garbage", "not_json"]
TOOLS = {"end_call": {}, "send_dtmf": {"digits": "12"}, "transfer": {"to": "Reception"}}
PIECES_MS = [1, 20, 41, 168, 250, 10, 500]
FRAME_MS = 20
SPEECH_FRAMES = 5
SILENCE_FRAMES = 25
LOUD = 700


class Refused(Exception):
    """What the client did is not allowed: a code of the vendor's, and its words."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def problem(value, schema, where=""):
    """The first place where a value is not as its schema has it, and what is wrong there.

    A dict has these keys and no others, a `!` marks those it needs; a list is of values of one schema; a set names the
    values that are taken; a type or a tuple of them is itself."""
    if schema is ANY:
        return None
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return where, "is no object"
        known = {key.rstrip("!"): inner for key, inner in schema.items()}
        for key in schema:
            if key.endswith("!") and value.get(key[:-1]) is None:
                return f"{where}.{key[:-1]}", "is missing"
        for key, inner in value.items():
            if key not in known:
                return f"{where}.{key}", "is unknown"
            found = problem(inner, known[key], f"{where}.{key}")
            if found:
                return found
        return None
    if isinstance(schema, list):
        if not isinstance(value, list):
            return where, "is no list"
        return next(filter(None, (problem(inner, schema[0], f"{where}[{at}]") for at, inner in enumerate(value))), None)
    if isinstance(schema, set):
        return None if isinstance(value, str) and value in schema else (where, "has a value that is not taken")
    if not isinstance(value, schema) or (isinstance(value, bool) and schema is not bool):
        return where, "has the wrong type"
    return None


def g711(law):
    """What each code stands for, near enough."""
    table = []
    for code in range(256):
        if law == "mulaw":
            code = ~code & 0xFF
            value, sign = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84, -1 if code & 0x80 else 1
        else:
            code ^= 0x55
            segment, value = code >> 4 & 7, (code & 0x0F) << 4
            value, sign = value + 8 if segment == 0 else (value + 0x108) << (segment - 1), 1 if code & 0x80 else -1
        table.append(sign * value)
    return table


class Form:
    """A coding and its hertz."""

    def __init__(self, coding, rate):
        self.coding, self.rate = coding, rate
        self.size = 2 if coding == "linear16" else 1
        if self.size == 1:
            self.table = g711(coding)
            self.codes = {}

    def bytes(self, milliseconds):
        return int(self.rate * milliseconds / 1000) * self.size

    def samples(self, data):
        if self.size == 1:
            return [self.table[code] for code in data]
        return [sample for (sample,) in struct.iter_unpack("<h", data[: len(data) // 2 * 2])]

    def code(self, sample):
        if sample not in self.codes:
            self.codes[sample] = min(range(256), key=lambda code: abs(self.table[code] - sample))
        return self.codes[sample]

    def tone(self, hertz, seconds):
        """Of whole periods of 50 ms, so that it can be repeated."""
        count = self.rate // 20
        period = [int(8000 * math.sin(math.tau * hertz * at / self.rate)) for at in range(count)]
        data = bytes(map(self.code, period)) if self.size == 1 else struct.pack(f"<{count}h", *period)
        return data * int(seconds * 20)


class Ear:
    """Tells when the caller begins and ends to speak."""

    def __init__(self, form):
        self.form, self.rest = form, b""
        self.loud = self.quiet = 0
        self.is_speaking = False

    def hear(self, data):
        self.rest += data
        size, heard = self.form.bytes(FRAME_MS), []
        while len(self.rest) >= size:
            frame, self.rest = self.rest[:size], self.rest[size:]
            samples = self.form.samples(frame)
            is_loud = sum(map(abs, samples)) / len(samples) > LOUD
            self.loud, self.quiet = (self.loud + 1, 0) if is_loud else (0, self.quiet + 1)
            if not self.is_speaking and self.loud == SPEECH_FRAMES:
                self.is_speaking = True
                heard.append("began")
            elif self.is_speaking and self.quiet == SILENCE_FRAMES:
                self.is_speaking = False
                heard.append("ended")
        return heard


class Conversation:
    """One session; a vendor's own has what is named here and does nothing."""

    def __init__(self, service, socket, path):
        self.service, self.socket, self.path = service, socket, path
        self.options = service.options
        self.hears = self.says = self.ear = None
        self.turn = self.caller_turns = self.heard_bytes = 0
        self.playing_until = 0.0
        self.late = b""
        self.words = ""
        self.open_calls = set()

    async def begin(self):
        """The connection has been made."""

    async def handle(self, message):
        """A message of the client's: text or bytes."""

    async def refuse(self, refused):
        """The client is told as the vendor tells it, and the connection ends."""

    async def send_words(self, text):
        """What the agent is about to say."""

    async def send_audio(self, data):
        """A piece of what it says."""

    async def send_said(self):
        """All of it has been sent."""

    async def send_interruption(self, late, heard):
        """The caller interrupts; audio that was on its way, and the words that they have heard."""

    async def send_heard(self, text):
        """What the caller has said."""

    async def send_call(self, call_id, name, arguments):
        """A function is to be called."""

    def garbage(self):
        """Messages that mean nothing."""
        return []

    def is_playing(self):
        return time.time() < self.playing_until

    def set_forms(self, hears, says):
        self.hears, self.says, self.ear = hears, says, Ear(hears)

    async def send(self, message):
        await self.socket.send(json.dumps(message))

    async def run(self):
        try:
            await self.begin()
            while True:
                message = await asyncio.wait_for(self.socket.recv(), self.service.patience)
                await self.handle(message)
        except Refused as refused:
            self.service.log("violation", code=refused.code, what=str(refused))
            await self.refuse(refused)
        except asyncio.TimeoutError:
            self.service.log("violation", what=f"nothing for {self.service.patience} s")
            await self.refuse(self.service.silence)

    async def hear(self, data):
        if not self.heard_bytes:
            self.service.log("hears")
        self.heard_bytes += len(data)
        for event in self.ear.hear(data):
            if event == "began":
                await self.handle_speech_began()
            else:
                self.caller_turns += 1
                await self.send_heard(f"Caller turn {self.caller_turns}.")
                await self.speak()

    async def handle_speech_began(self):
        is_interrupted = self.is_playing()
        self.service.log("speech_started", interrupts=is_interrupted)
        if is_interrupted:
            rest = self.playing_until - time.time()
            whole = self.options.seconds
            count = int(len(self.words.split()) * max(0.0, whole - rest) / whole)
            late, self.late, self.playing_until = self.late, b"", 0.0
            await self.send_interruption(late, " ".join(self.words.split()[:count]))

    async def speak(self, words=None):
        if self.options.scenario == "silent":
            return
        self.turn += 1
        is_first = self.turn == 1
        self.words = words or f"Agent turn {self.turn} has seven words here."
        seconds = 570 if is_first and self.options.scenario == "flood" else self.options.seconds
        audio = self.says.tone(440 + 220 * (self.turn - 1), seconds)
        # What has not been sent yet when the caller interrupts.
        held = self.says.bytes(500) if is_first and self.options.scenario == "interrupt" else 0
        audio, self.late = audio[: len(audio) - held], audio[len(audio) - held :] if held else b""
        began = time.time()
        self.playing_until = max(self.playing_until, began) + seconds
        await self.send_words(self.words)
        at = piece = 0
        while at < len(audio):
            size = self.says.bytes(PIECES_MS[piece % len(PIECES_MS)])
            await self.send_audio(audio[at : at + size])
            at, piece = at + size, piece + 1
        if not held:
            await self.send_said()
        self.service.log("spoken", turn=self.turn, bytes=len(audio), seconds=time.time() - began)
        if is_first:
            await self.act()

    async def act(self):
        """What the scenario has behind the first of the agent's turns."""
        scenario = self.options.scenario
        if scenario in TOOLS:
            await self.call(scenario, TOOLS[scenario])
        elif scenario == "hang_up":
            await self.socket.close(1000)
        elif scenario == "garbage":
            for message in self.garbage():
                await self.socket.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
            self.service.log("thrown")
        elif scenario == "not_json":
            await self.socket.send("{this is no JSON")

    async def call(self, name, arguments):
        call_id = f"call_{len(self.open_calls) + 1}"
        self.open_calls.add(call_id)
        await self.send_call(call_id, name, arguments)

    async def handle_result(self, call_id, result, code):
        """The client tells what has come of a call; the model says something about it, unless the call ends."""
        if call_id not in self.open_calls:
            raise Refused(code, f"a result of {call_id}, which was not asked for or has been told")
        self.open_calls.discard(call_id)
        self.service.log("result", result=result)
        if self.options.scenario != "end_call":
            await self.speak()

    async def handle_told(self, text):
        """The client tells the agent something in words."""
        self.service.log("told", text=text)
        await self.speak()


class Service:
    """A fake as a server."""

    conversation = Conversation
    patience = 60
    silence = Refused(1011, "nothing came from the client")

    def __init__(self, options):
        self.options = options
        self.file = open(options.log, "w", buffering=1, encoding="utf-8")
        self.port = None

    def log(self, event, **fields):
        self.file.write(json.dumps({"event": event, "at": time.time(), **fields}) + "\n")

    def received(self, message):
        self.log("received", message=message)

    def admit(self, path, query, headers):
        """`None` lets a client in; else a status and the body that the vendor answers with."""

    def refusal(self, status):
        """The body that the vendor answers a status with."""

    async def knock(self, target, headers):
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        status = self.options.refuse
        answer = (status, self.refusal(status)) if status else self.admit(parts.path, query, headers)
        if answer is None:
            self.log("admitted", path=parts.path)
            return None
        status, body = answer
        if status >= 300:
            self.log("refused", status=status, path=parts.path)
        return http.HTTPStatus(status), [("Content-Type", "application/json")], json.dumps(body).encode()

    async def serve(self, socket, path):
        try:
            await self.conversation(self, socket, path).run()
        except websockets.ConnectionClosed:
            pass
        except Exception as error:
            self.log("violation", what=f"what breaks the server: {error!r}")
            raise
        self.log("closed", code=socket.close_code)

    async def run(self):
        tls = None
        if self.options.cert:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self.options.cert, self.options.cert_key)
        async with websockets.serve(
            self.serve, "127.0.0.1", self.options.port, ssl=tls, process_request=self.knock, compression=None, max_size=4 << 20
        ) as listening:
            self.port = listening.sockets[0].getsockname()[1]
            print("listening", self.listens_at(), flush=True)
            await asyncio.Future()

    def listens_at(self):
        return self.port


def main(service, description, add_flags=lambda parser: None):
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", required=True, help="JSON lines of what was seen")
    parser.add_argument("--cert", help="PEM; with --cert-key the service is behind TLS")
    parser.add_argument("--cert-key")
    parser.add_argument("--key", default="test-key", help="the key that lets clients in")
    parser.add_argument("--refuse", type=int, default=0, help="the status that every handshake is answered with")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of what the agent says in a turn")
    parser.add_argument("--scenario", choices=SCENARIOS, default="talk")
    add_flags(parser)
    asyncio.run(service(parser.parse_args()).run())
