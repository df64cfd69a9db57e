#!/usr/bin/python3
"""A strict fake of Ultravox: calls are made over HTTP, and held over a WebSocket at an address that is made for each."""

import asyncio
import json
import re
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service import NUMBER, Conversation, Form, Refused, Service, main, problem

AGENT_ID = "6c9ff8a6-4b5a-4c0b-9a0e-6f0a6a1c0d11"
DURATION = re.compile(r"\d+(\.\d+)?s")
TOOL = {
    "toolId": str, "toolName": str, "nameOverride": str, "descriptionOverride": str, "parameterOverrides": dict, "authTokens": dict,
    "temporaryTool": {
        "modelToolName!": str, "description": str, "timeout": str, "precomputable": bool, "requirements": dict, "defaultReaction": str,
        "dynamicParameters": [{"name!": str, "location!": {"PARAMETER_LOCATION_BODY", "PARAMETER_LOCATION_QUERY", "PARAMETER_LOCATION_PATH", "PARAMETER_LOCATION_HEADER"}, "schema!": dict, "required": bool}],
        "staticParameters": [dict], "automaticParameters": [dict], "client": dict, "http": {"baseUrlPattern!": str, "httpMethod!": str},
    },
}
FIRST_SPEAKER = {"agent": {"text": str, "prompt": str, "uninterruptible": bool, "delay": str}, "user": {"fallback": dict}}
MEDIUM = {
    "serverWebSocket": {"inputSampleRate!": int, "outputSampleRate": int, "clientBufferSizeMs": int, "dataMessages": dict},
    "webRtc": dict, "twilio": dict, "telnyx": dict, "plivo": dict, "exotel": dict, "sip": dict,
}
COMMON = {
    "firstSpeakerSettings": FIRST_SPEAKER, "maxDuration": str, "joinTimeout": str, "medium": MEDIUM, "metadata": dict, "recordingEnabled": bool,
    "initialOutputMedium": str, "inactivityMessages": [dict], "initialMessages": [dict], "vadSettings": dict, "experimentalSettings": dict,
    "initialState": dict, "dataConnection": dict, "callbacks": dict,
}
CALL = {
    **COMMON, "systemPrompt": (str, type(None)), "model": (str, type(None)), "voice": (str, type(None)), "externalVoice": dict, "languageHint": str,
    "temperature": NUMBER, "selectedTools": [TOOL], "timeExceededMessage": str, "transcriptOptional": bool, "firstSpeaker": str, "voiceOverrides": dict,
}
AGENT_CALL = {**COMMON, "templateContext": dict}
MESSAGES = {
    "ping": {"type!": str, "timestamp!": NUMBER},
    "user_text_message": {"type!": str, "text!": str, "urgency": {"immediate", "soon", "later"}},
    "forced_agent_message": {"type!": str, "content!": dict, "uninterruptible": bool, "urgency": {"immediate", "soon", "later"}},
    "set_output_medium": {"type!": str, "medium!": {"voice", "text"}},
    "client_tool_result": {
        "type!": str, "invocationId!": str, "result": str, "agentReaction": {"speaks", "listens", "speaks-once"},
        "responseType": {"tool-response", "hang-up", "new-stage"}, "updateCallState": dict, "errorType": {"undefined", "implementation-error"}, "errorMessage": str,
    },
    "hang_up": {"type!": str, "message": str},
}
RATES = {8000, 16000, 24000, 32000, 44100, 48000}
BROKEN = 1007
STATUSES = {
    401: "Invalid API key.",
    402: "Payment required.",
    404: "No Agent matches the given query.",
    429: "Call concurrency limit reached.",
}


class Call(Conversation):
    ordinal = 0

    async def begin(self):
        asked = self.service.calls.pop(self.path.split("?")[0].rsplit("/", 1)[-1])
        medium = asked["medium"]["serverWebSocket"]
        rate = medium["inputSampleRate"]
        self.set_forms(Form("linear16", rate), Form("linear16", medium.get("outputSampleRate", rate)))
        self.buffer_ms = medium.get("clientBufferSizeMs", 60)
        self.sent_until = 0.0
        self.tools = {tool["temporaryTool"]["modelToolName"] for tool in asked.get("selectedTools", []) if "temporaryTool" in tool}
        await self.send({"type": "call_started", "callId": str(uuid.uuid4())})
        await self.state("listening")
        first = asked.get("firstSpeakerSettings", {"agent": {}})
        if "agent" in first:
            await self.speak(first["agent"].get("text"))

    async def refuse(self, refused):
        await self.socket.close(refused.code, str(refused)[:123])

    async def state(self, state):
        await self.send({"type": "state", "state": state})

    async def handle(self, message):
        if isinstance(message, bytes):
            if len(message) % 2:
                raise Refused(BROKEN, "audio is not of whole samples")
            return await self.hear(message)
        try:
            event = json.loads(message)
            kind = event["type"]
            schema = MESSAGES[kind]
        except (ValueError, TypeError, KeyError) as error:
            raise Refused(BROKEN, "no message of this protocol") from error
        self.service.received(event)
        found = problem(event, schema)
        if found:
            raise Refused(BROKEN, f"{kind}{found[0]} {found[1]}")
        if kind == "ping":
            await self.send({"type": "pong", "timestamp": event["timestamp"]})
        elif kind == "client_tool_result":
            if ("result" in event) == ("errorType" in event):
                raise Refused(BROKEN, "a result, or an error's type")
            await self.handle_result(event["invocationId"], event.get("result") or event.get("errorMessage"), BROKEN)
        elif kind == "user_text_message":
            await self.handle_told(event["text"])
        elif kind == "forced_agent_message":
            await self.speak(event["content"].get("text"))
        elif kind == "hang_up":
            await self.socket.close(1000)

    async def send_words(self, text):
        self.ordinal += 1
        await self.state("speaking")
        words = text.split()
        for at in range(0, len(words), 3):
            delta = ("" if at == 0 else " ") + " ".join(words[at : at + 3])
            await self.send({"type": "transcript", "role": "agent", "medium": "voice", "delta": delta, "final": False, "ordinal": self.ordinal})

    async def send_audio(self, data):
        # As much ahead as the client has room for, unless it is to be flooded.
        self.sent_until = max(self.sent_until, time.time()) + len(data) / 2 / self.says.rate
        if self.options.scenario != "flood":
            await asyncio.sleep(max(0.0, self.sent_until - time.time() - self.buffer_ms / 1000))
        await self.socket.send(data)

    async def send_said(self):
        await self.send({"type": "transcript", "role": "agent", "medium": "voice", "text": self.words, "final": True, "ordinal": self.ordinal})
        await self.state("listening")

    async def send_interruption(self, late, heard):
        self.sent_until = 0.0
        await self.send({"type": "playback_clear_buffer"})
        await self.send({"type": "transcript", "role": "agent", "medium": "voice", "text": heard, "final": True, "ordinal": self.ordinal})
        await self.state("listening")

    async def send_heard(self, text):
        self.ordinal += 1
        await self.state("thinking")
        await self.send({"type": "transcript", "role": "user", "medium": "voice", "text": text, "final": True, "ordinal": self.ordinal})

    async def call(self, name, arguments):
        if name not in self.tools:
            self.service.log("violation", what=f"{name} was not among selectedTools")
        await super().call(name, arguments)

    async def send_call(self, call_id, name, arguments):
        await self.send({"type": "client_tool_invocation", "toolName": name, "invocationId": call_id, "parameters": arguments})

    def garbage(self):
        kinds = ["call_started", "state", "transcript", "client_tool_invocation", "pong", "debug", "novelty"]
        fields = ["callId", "state", "role", "medium", "text", "delta", "final", "ordinal", "toolName", "invocationId", "parameters", "timestamp", "message"]
        yield from ({"type": kind, **dict.fromkeys(fields)} for kind in kinds)
        yield from ({"type": kind, **dict.fromkeys(fields, [{}])} for kind in kinds)
        yield {"type": "transcript", "role": "agent", "text": "x", "delta": "y", "final": True, "ordinal": -(10**30)}
        yield {"type": "client_tool_invocation", "toolName": "rm", "invocationId": "", "parameters": "no object"}
        yield from ({}, [], None, 7, {"type": None}, b"\x01", b"", "[" * 100 + "]" * 100)


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service = None

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = self.service.make_call(self.path, self.headers, body)
        if status >= 300:
            self.service.log("refused", status=status, path=self.path)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Ultravox(Service):
    conversation = Call

    def __init__(self, options):
        super().__init__(options)
        self.calls = {}

    def listens_at(self):
        Api.service = self
        api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=api.serve_forever, daemon=True).start()
        return api.server_address[1]

    def make_call(self, path, headers, body):
        if self.options.refuse:
            return self.options.refuse, {"detail": STATUSES[self.options.refuse]}
        if headers.get("X-API-Key") != self.options.key:
            return 401, {"detail": STATUSES[401]}
        of_agent = re.fullmatch("/api/agents/([^/]+)/calls", path)
        if of_agent and of_agent.group(1) != AGENT_ID:
            return 404, {"detail": STATUSES[404]}
        if not of_agent and path != "/api/calls":
            return 404, {"detail": "Not found."}
        if headers.get("Content-Type", "").split(";")[0] != "application/json":
            return 415, {"detail": "Unsupported media type in request."}
        try:
            asked = json.loads(body)
            wrong = problem(asked, AGENT_CALL if of_agent else CALL, "call") or self.misuse(asked)
        except ValueError as error:
            asked, wrong = None, ("", f"JSON parse error - {error}")
        if wrong:
            self.log("violation", what=" ".join(wrong))
            return 400, {"detail": " ".join(wrong)}
        self.received(asked)
        call_id = str(uuid.uuid4())
        self.calls[call_id] = asked
        host = self.options.join_host or f"127.0.0.1:{self.port}"
        return 201, {"callId": call_id, "clientVersion": None, "created": "2026-01-01T00:00:00Z", "ended": None, "joinUrl": f"{self.options.join_scheme}://{host}/calls/{call_id}", **asked}

    def misuse(self, asked):
        medium = asked.get("medium", {"webRtc": {}})
        if set(medium) != {"serverWebSocket"}:
            return "call.medium", "of this fake is serverWebSocket"
        medium = medium["serverWebSocket"]
        if not {medium["inputSampleRate"], medium.get("outputSampleRate", 8000)} <= RATES:
            return "call.medium.serverWebSocket", "has a rate that is not taken"
        for field in ("maxDuration", "joinTimeout"):
            if field in asked and not DURATION.fullmatch(asked[field]):
                return f"call.{field}", "is no duration"
        if not 0 <= asked.get("temperature", 0) <= 1:
            return "call.temperature", "is not between 0 and 1"
        if len(asked.get("firstSpeakerSettings", {"agent": {}})) != 1:
            return "call.firstSpeakerSettings", "has one of agent and user"
        for tool in asked.get("selectedTools", []):
            if len(set(tool) & {"toolId", "toolName", "temporaryTool"}) != 1:
                return "call.selectedTools", "name one tool each"
            temporary = tool.get("temporaryTool", {"client": {}})
            if len(set(temporary) & {"client", "http"}) != 1:
                return "call.selectedTools", "have one implementation each"
            if "client" in temporary and any(p["location"] != "PARAMETER_LOCATION_BODY" for p in temporary.get("dynamicParameters", [])):
                return "call.selectedTools", "that clients implement have parameters in the body alone"
        return None

    def admit(self, path, query, headers):
        call_id = path.removeprefix("/calls/")
        return None if call_id in self.calls else (404, {"detail": "Not found."})


def add_flags(parser):
    parser.add_argument("--join-host", help="where calls are to be joined, unless here")
    parser.add_argument("--join-scheme", default="ws")


if __name__ == "__main__":
    sys.exit(main(Ultravox, __doc__, add_flags))
