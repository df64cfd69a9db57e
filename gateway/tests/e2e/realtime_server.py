#!/usr/bin/python3
"""A strict Realtime server (GA) for the end-to-end tests.

Written from the protocol's documentation alone: it shares no code and no types with the gateway. Whatever a client does
that the documentation does not allow is written to the log as a `violation`, and fails the test that reads it.

It listens to what is appended with a detector of its own, answers each turn, sends its audio far faster than real time in
chunks of odd sizes, and mixes in nulls, unknown events, and transcripts out of order.
"""

import argparse
import asyncio
import base64
import http
import json
import ssl
import sys
import time
from urllib.parse import parse_qs, urlsplit

import websockets

ANY, TEXT, NUMBER, INTEGER, BOOLEAN, LIST = object(), str, (int, float), int, bool, list

FORMAT = {"type": TEXT, "rate": INTEGER}
SESSION = {
    "type": TEXT, "model": TEXT, "output_modalities": LIST, "instructions": TEXT,
    "audio": {
        "input": {
            "format": FORMAT, "noise_reduction": {"type": TEXT},
            "transcription": {"model": TEXT, "language": TEXT, "prompt": TEXT, "keywords": LIST, "languages": LIST, "delay": ANY},
            "turn_detection": {
                "type": TEXT, "threshold": NUMBER, "prefix_padding_ms": INTEGER, "silence_duration_ms": INTEGER,
                "create_response": BOOLEAN, "interrupt_response": BOOLEAN, "idle_timeout_ms": INTEGER, "eagerness": TEXT,
            },
        },
        "output": {"format": FORMAT, "voice": ANY, "speed": NUMBER},
    },
    "tools": LIST, "tool_choice": ANY, "parallel_tool_calls": BOOLEAN, "reasoning": {"effort": TEXT},
    "max_output_tokens": ANY, "truncation": ANY, "tracing": ANY, "include": LIST, "prompt": ANY,
}
RESPONSE = {
    "instructions": TEXT, "output_modalities": LIST, "audio": {"output": {"format": FORMAT, "voice": ANY}}, "tools": LIST,
    "tool_choice": ANY, "max_output_tokens": ANY, "conversation": TEXT, "input": LIST, "metadata": ANY,
}
EVENTS = {
    "session.update": {"session": SESSION},
    "input_audio_buffer.append": {"audio": TEXT},
    "input_audio_buffer.commit": {},
    "input_audio_buffer.clear": {},
    "conversation.item.create": {"item": ANY, "previous_item_id": TEXT},
    "conversation.item.retrieve": {"item_id": TEXT},
    "conversation.item.delete": {"item_id": TEXT},
    "conversation.item.truncate": {"item_id": TEXT, "content_index": INTEGER, "audio_end_ms": INTEGER},
    "response.create": {"response": RESPONSE},
    "response.cancel": {"response_id": TEXT},
}
REQUIRED = {
    "session.update": ["session"], "input_audio_buffer.append": ["audio"], "conversation.item.create": ["item"],
    "conversation.item.truncate": ["item_id", "content_index", "audio_end_ms"],
}
ITEMS = {
    "message": {"id", "type", "status", "role", "content"},
    "function_call_output": {"id", "type", "call_id", "output"},
}
CHUNKS = [1, 159, 333, 1344, 2001, 77, 4000]
FRAME_MS = 20
SPEECH_FRAMES = 3
SILENCE_FRAMES = 25


def loudness_table(law):
    table = []
    for code in range(256):
        if law == "audio/pcmu":
            code = ~code & 0xFF
            table.append((((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84)
        else:
            code ^= 0x55
            segment, value = code >> 4 & 7, (code & 0x0F) << 4
            table.append(value + 8 if segment == 0 else (value + 0x108) << (segment - 1))
    return table


class Refusal(Exception):
    """What the client asked for is refused with an error event; its doing, but allowed to happen."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Session:
    def __init__(self, server, socket):
        self.server, self.socket = server, socket
        self.format = None
        self.is_updated = False
        self.appended = 0
        self.loud = self.quiet = 0
        self.is_speaking = False
        self.turn = 0
        self.sent_ms = {}
        self.responses = 0
        self.active = None
        self.held_back = None
        self.loudness = []
        self.rest = b""
        self.calls = set()
        self.next_event = 0
        self.late = []

    async def send(self, kind, **fields):
        self.next_event += 1
        await self.socket.send(json.dumps({"event_id": f"event_{self.next_event}", "type": kind, **fields}))

    async def run(self):
        args = self.server.args
        if args.scenario == "silent":
            await self.socket.wait_closed()
            return
        await self.send("session.created", session={"id": "sess_1", "type": "realtime", "audio": None, "expires_at": int(time.time()) + 3600})
        await self.send("weather.changed", item_id={"not": "a string"}, delta=7)
        async for text in self.socket:
            try:
                await self.handle(text)
            except Refusal as refusal:
                self.server.log("refusal", code=refusal.code)
                await self.send("error", error={"type": "invalid_request_error", "code": refusal.code, "message": "refused", "param": None, "event_id": None})

    async def handle(self, text):
        if not isinstance(text, str):
            return self.violation("a binary frame")
        event = json.loads(text)
        kind = event.get("type")
        if kind not in EVENTS:
            return self.violation(f"event {kind}")
        for key in REQUIRED.get(kind, []):
            if key not in event:
                self.violation(f"{kind} without {key}")
        self.check({key: value for key, value in event.items() if key not in ("type", "event_id")}, EVENTS[kind], kind)
        if kind != "input_audio_buffer.append":
            self.server.log("received", message=event)
        await getattr(self, "on_" + kind.replace(".", "_"))(event)

    def check(self, value, schema, where):
        """Unknown keys and wrong types, anywhere."""
        if schema is ANY or value is None:
            return
        if isinstance(schema, dict):
            if not isinstance(value, dict):
                return self.violation(f"{where} is no object")
            for key, inner in value.items():
                if key not in schema:
                    self.violation(f"unknown key {where}.{key}")
                else:
                    self.check(inner, schema[key], f"{where}.{key}")
        elif not isinstance(value, schema) or (schema is INTEGER and isinstance(value, bool)):
            self.violation(f"{where} has the wrong type")

    def violation(self, what):
        self.server.log("violation", what=what)

    async def on_session_update(self, event):
        session = event["session"]
        if session.get("type") != "realtime":
            self.violation("session.type is missing")
        if session.get("output_modalities") not in (["audio"], ["text"]):
            self.violation("output_modalities")
        for side in ("input", "output"):
            form = session["audio"][side]["format"]
            if form["type"] == "audio/pcm" and form.get("rate") != 24000:
                self.violation(f"{side} rate {form.get('rate')}")
            elif form["type"] not in ("audio/pcm", "audio/pcmu", "audio/pcma"):
                self.violation(f"{side} format {form['type']}")
            elif form["type"] != "audio/pcm" and set(form) != {"type"}:
                self.violation(f"{side} format of G.711 with {sorted(form)}")
        self.format = session["audio"]["input"]["format"]["type"]
        self.loudness = loudness_table(self.format)
        # Audio that comes meanwhile is too early.
        await asyncio.sleep(self.server.args.setup_ms / 1000)
        self.is_updated = True
        await self.send("session.updated", session={"type": "realtime", "tracing": None, **session, "novelty": [1]})
        self.server.log("updated", instructions=session.get("instructions"))

    async def on_input_audio_buffer_append(self, event):
        if not self.is_updated:
            return self.violation("audio before session.updated")
        audio = base64.b64decode(event["audio"], validate=True)
        self.server.hear(audio)
        if not self.appended:
            self.server.log("hears")
        self.appended += len(audio)
        if self.server.args.scenario == "echo":
            return await self.echo(audio)
        self.rest += audio
        while len(self.rest) >= 160:
            frame, self.rest = self.rest[:160], self.rest[160:]
            await self.listen(sum(map(self.loudness.__getitem__, frame)) / len(frame) > 1000)

    async def listen(self, is_loud):
        self.loud, self.quiet = (self.loud + 1, 0) if is_loud else (0, self.quiet + 1)
        now_ms = self.appended // 8
        if not self.is_speaking and self.loud == SPEECH_FRAMES:
            self.is_speaking = True
            self.turn += 1
            start = max(0, now_ms - SPEECH_FRAMES * FRAME_MS - 300)
            self.server.log("speech_started", turn=self.turn)
            await self.send("input_audio_buffer.speech_started", item_id=f"user_{self.turn}", audio_start_ms=start)
            if self.active:
                await self.interrupt()
        elif self.is_speaking and self.quiet == SILENCE_FRAMES:
            self.is_speaking = False
            item = f"user_{self.turn}"
            await self.send("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=now_ms)
            await self.send("input_audio_buffer.committed", item_id=item, previous_item_id=None)
            await self.send("conversation.item.added", previous_item_id=None, item={
                "id": item, "type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": None}]})
            # The transcript comes when the answer has begun.
            self.late.append((item, f"Caller turn {self.turn}."))
            if not self.active:
                await self.respond()

    async def echo(self, audio):
        """One response without an end, of what is heard as it is heard."""
        response, item = "resp_1", "item_1"
        if not self.active:
            self.active = response
            await self.send("response.created", response={"id": response, "status": "in_progress", "metadata": None, "usage": None})
            await self.send("response.output_item.added", response_id=response, output_index=0, item={"id": item, "type": "message"})
        await self.delta(response, item, audio)

    async def interrupt(self):
        """Cancels what is going on; what was under way to the client still comes."""
        response, item, held = self.active, self.active.replace("resp", "item"), self.held_back
        if held:
            await self.delta(response, item, held)
        self.active = self.held_back = None
        await self.send("response.done", response={"id": response, "status": "cancelled", "status_details": {"type": "cancelled", "reason": "turn_detected"}, "output": []})

    async def delta(self, response, item, audio):
        self.sent_ms[item] = self.sent_ms.get(item, 0) + len(audio) / 8
        await self.send("response.output_audio.delta", response_id=response, item_id=item, output_index=0,
                        content_index=0, delta=base64.b64encode(audio).decode())

    async def respond(self):
        self.responses += 1
        number, args = self.responses, self.server.args
        response, item = f"resp_{number}", f"item_{number}"
        ids = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        self.active = response
        audio = self.server.say or bytes([0x20 + number, 0xA0 + number]) * int(args.seconds * 4000)
        held = audio[-4000:] if args.scenario == "interrupt" and number == 1 else b""
        audio = audio[:len(audio) - len(held)]
        await self.send("response.created", response={"id": response, "status": "in_progress", "metadata": None, "usage": None})
        await self.send("response.output_item.added", response_id=response, output_index=0, item={"id": item, "type": "message"})
        await self.send("response.content_part.added", **ids, part={"type": "audio", "transcript": None})
        words = f"Agent turn {number} has seven words here.".split()
        await self.send("response.output_audio_transcript.delta", **ids, delta=" ".join(words[:3]))
        at = chunk = 0
        begin = time.time()
        while at < len(audio):
            size = CHUNKS[chunk % len(CHUNKS)]
            await self.delta(response, item, audio[at:at + size])
            at, chunk = at + size, chunk + 1
        self.server.log("spoken", item=item, bytes=len(audio), seconds=time.time() - begin)
        while self.late:
            item_id, text = self.late.pop()
            await self.send("conversation.item.input_audio_transcription.completed", item_id=item_id, content_index=0, transcript=text, usage=None, logprobs=None)
        await self.send("response.output_audio_transcript.delta", **ids, delta=" " + " ".join(words[3:]))
        if held:
            self.held_back = held
            return
        await self.send("response.output_audio.done", **ids)
        await self.send("response.output_audio_transcript.done", **ids, transcript=" ".join(words))
        await self.finish(response, item)

    async def finish(self, response, item):
        self.active = None
        output = [{"id": item, "type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": None}]}]
        scenario = self.server.args.scenario
        name = {"tool": self.server.args.call, "goodbye": "end_call", "transfer": "transfer", "nobody": "transfer"}.get(scenario)
        arguments = json.dumps({"to": "nobody" if scenario == "nobody" else "reception"}) if name == "transfer" else self.server.args.arguments
        if name and self.responses == 1:
            self.calls.add("call_1")
            output.append({"id": "item_call", "type": "function_call", "name": name, "call_id": "call_1", "arguments": arguments})
            self.server.log("called", name=name)
            await self.send("response.function_call_arguments.done", response_id=response, item_id="item_call", output_index=1, call_id="call_1", name=name, arguments=arguments)
        await self.send("response.done", response={"id": response, "status": "completed", "status_details": None, "output": output, "usage": None})
        await self.send("rate_limits.updated", rate_limits=[{"name": "requests", "limit": None}])

    async def on_conversation_item_create(self, event):
        item = event["item"]
        known = ITEMS.get(item.get("type"))
        if known is None or set(item) - known:
            self.violation(f"item {item}")
        if item["type"] == "function_call_output":
            if item["call_id"] not in self.calls:
                self.violation("output of a call that was not made, or a second one")
            self.calls.discard(item["call_id"])
            if not isinstance(item["output"], str):
                self.violation("function output is no string")
        elif any(part.get("type") != "input_text" for part in item["content"]):
            self.violation(f"content {item['content']}")
        await self.send("conversation.item.added", previous_item_id=None, item={"id": "item_new", **item})

    async def on_conversation_item_truncate(self, event):
        sent = self.sent_ms.get(event["item_id"])
        if sent is None:
            self.violation(f"truncation of {event['item_id']}, which has no audio")
        elif not 0 <= event["audio_end_ms"] <= sent:
            self.violation(f"audio_end_ms {event['audio_end_ms']} of {sent}")
        await self.send("conversation.item.truncated", item_id=event["item_id"], content_index=0, audio_end_ms=event["audio_end_ms"])

    async def on_response_create(self, event):
        if not self.is_updated:
            self.violation("response before session.updated")
        if self.active:
            raise Refusal("conversation_already_has_active_response")
        self.server.log("asked", response=event.get("response"))
        await self.respond()

    async def on_response_cancel(self, event):
        if not self.active:
            raise Refusal("response_cancel_not_active")
        await self.interrupt()

    async def on_input_audio_buffer_commit(self, event):
        raise Refusal("input_audio_buffer_commit_empty")

    async def on_input_audio_buffer_clear(self, event):
        await self.send("input_audio_buffer.cleared")

    async def on_conversation_item_retrieve(self, event):
        self.violation("nobody needs conversation.item.retrieve here")

    async def on_conversation_item_delete(self, event):
        await self.send("conversation.item.deleted", item_id=event["item_id"])


class Server:
    def __init__(self, args):
        self.args = args
        self.log_file = open(args.log, "w", buffering=1)
        self.audio_file = open(args.audio, "wb", buffering=0)
        self.say = open(args.say, "rb").read() if args.say else None

    def log(self, event, **fields):
        self.log_file.write(json.dumps({"event": event, "at": time.time(), **fields}) + "\n")

    def hear(self, audio):
        self.audio_file.write(audio)

    async def admit(self, path, headers):
        if "OpenAI-Beta" in headers:
            self.log("violation", what="the OpenAI-Beta header")
            return http.HTTPStatus.BAD_REQUEST, [], b"beta_api_shape_disabled\n"
        if self.args.bearer and headers.get("Authorization") != f"Bearer {self.args.bearer}":
            self.log("unauthorized")
            return http.HTTPStatus.UNAUTHORIZED, [], b"invalid_api_key\n"
        parts = urlsplit(path)
        if not parts.path.endswith("/realtime") or not parse_qs(parts.query).get("model"):
            self.log("violation", what=f"path {path}")
            return http.HTTPStatus.NOT_FOUND, [], b"not found\n"
        self.log("admitted", path=path, bearer=bool(headers.get("Authorization")))
        return None

    async def serve(self, socket, _path=None):
        try:
            await Session(self, socket).run()
        except websockets.ConnectionClosed:
            pass
        except Exception as error:
            self.log("violation", what=f"what breaks the server: {error!r}")
            raise
        self.log("closed", code=socket.close_code)

    async def run(self):
        tls = None
        if self.args.cert:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self.args.cert, self.args.key)
        async with websockets.serve(self.serve, "127.0.0.1", self.args.port, ssl=tls, process_request=self.admit,
                                    compression=None, max_size=15 << 20) as listening:
            print("listening", listening.sockets[0].getsockname()[1], flush=True)
            await asyncio.Future()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cert", help="PEM; with --key the server is behind TLS")
    parser.add_argument("--key")
    parser.add_argument("--bearer", help="the key that lets clients in; without it all are")
    parser.add_argument("--log", required=True, help="JSON lines of what was seen")
    parser.add_argument("--audio", required=True, help="what was appended, as it came")
    parser.add_argument("--say", help="raw audio in the line's format; without it each response is a tone of its own")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the tones")
    parser.add_argument("--setup-ms", type=int, default=50, help="from session.update to session.updated")
    parser.add_argument("--call", default="book_table", help="the function that the scenario `tool` calls")
    parser.add_argument("--arguments", default="{}", help="its arguments")
    parser.add_argument("--scenario", choices=["talk", "interrupt", "tool", "goodbye", "transfer", "nobody", "silent", "echo"], default="talk")
    asyncio.run(Server(parser.parse_args()).run())


if __name__ == "__main__":
    sys.exit(main())
