#!/usr/bin/python3
"""A strict fake of ElevenLabs Agents: signed addresses over HTTP, conversations over a WebSocket."""

import base64
import json
import sys
import uuid

from service import ANY, NUMBER, Conversation, Form, Refused, Service, main, problem

AGENT_ID = "agent_7"
OVERRIDES = {
    "agent": {"prompt": {"prompt": str, "llm": str, "tool_ids": list}, "first_message": str, "language": str},
    "tts": {"voice_id": str, "stability": NUMBER, "speed": NUMBER, "similarity_boost": NUMBER},
    "asr": {"keywords": [str]},
    "conversation": {"text_only": bool, "client_events": [str]},
}
INITIATION = {
    "type!": str, "conversation_config_override": OVERRIDES, "custom_llm_extra_body": dict, "dynamic_variables": dict,
    "user_id": str, "source_info": {"source": str, "version": str},
}
MESSAGES = {
    "conversation_initiation_client_data": INITIATION,
    "pong": {"type!": str, "event_id!": int},
    "client_tool_result": {"type!": str, "tool_call_id!": str, "result!": ANY, "is_error!": bool},
    "contextual_update": {"type!": str, "text!": str},
    "user_message": {"type!": str, "text": str},
    "user_activity": {"type!": str},
    "feedback": {"type!": str, "event_id!": int, "score!": {"like", "dislike"}},
    "mcp_tool_approval_result": {"type!": str, "tool_call_id!": str, "is_approved!": bool},
}
# The WebSocket's close codes: broken rules (RFC 6455), and nobody that may come in, as the registry of IANA has it.
POLICY, UNAUTHORIZED = 1008, 3000
STATUSES = {
    401: ("invalid_api_key", "Invalid API key"),
    404: ("document_not_found", "Document with id agent_9 not found."),
    429: ("too_many_concurrent_requests", "Too many concurrent requests. Your current subscription is associated with a maximum of 4."),
}


class Convai(Conversation):
    is_initiated = False
    event_id = 0

    async def begin(self):
        if f"agent_id={AGENT_ID}" not in self.path:
            raise Refused(UNAUTHORIZED, "The AI agent you are trying to reach does not exist.")
        if self.options.private and not self.service.redeem(self.path):
            raise Refused(UNAUTHORIZED, "Could not authorize the conversation.")

    async def refuse(self, refused):
        await self.socket.close(refused.code, str(refused))

    async def handle(self, message):
        try:
            event = json.loads(message)
        except ValueError as error:
            raise Refused(POLICY, "Invalid message received: not JSON") from error
        if not isinstance(message, str) or not isinstance(event, dict):
            raise Refused(POLICY, "Invalid message received")
        if set(event) == {"user_audio_chunk"}:
            if not self.is_initiated:
                raise Refused(POLICY, "Audio before conversation_initiation_client_data")
            return await self.hear(base64.b64decode(event["user_audio_chunk"], validate=True))
        self.service.received(event)
        kind = event.get("type")
        if kind not in MESSAGES:
            raise Refused(POLICY, f"Invalid message received: {kind}")
        found = problem(event, MESSAGES[kind])
        if found:
            raise Refused(POLICY, f"Invalid message received: {found[0]} {found[1]}")
        if self.is_initiated == (kind == "conversation_initiation_client_data"):
            raise Refused(POLICY, f"{kind} out of order")
        if not self.is_initiated:
            await self.initiate(event)
        elif kind == "pong":
            self.service.log("pong", event_id=event["event_id"])
        elif kind == "client_tool_result":
            await self.handle_result(event["tool_call_id"], event["result"], POLICY)
        elif kind == "user_message":
            await self.handle_told(event.get("text") or "")

    async def initiate(self, told):
        overrides = told.get("conversation_config_override", {})
        for part, fields in overrides.items():
            for field in fields:
                if field in self.options.forbid.split(","):
                    raise Refused(POLICY, f"Override for field '{field}' is not allowed by config.")
        coding, rate = self.options.form.rsplit("_", 1)
        form = Form("mulaw" if coding == "ulaw" else "linear16", int(rate))
        self.set_forms(form, form)
        self.is_initiated = True
        event = {"conversation_id": f"conv_{uuid.uuid4().hex}", "agent_output_audio_format": self.options.form, "user_input_audio_format": self.options.form}
        await self.send({"type": "conversation_initiation_metadata", "conversation_initiation_metadata_event": event})
        await self.send({"type": "ping", "ping_event": {"event_id": 1, "ping_ms": 40}})
        first = overrides.get("agent", {}).get("first_message", "Hello from the agent.")
        if first:
            await self.speak(first)

    async def send_words(self, text):
        self.event_id += 1
        await self.send({"type": "agent_response", "agent_response_event": {"agent_response": text, "event_id": self.event_id}})

    async def send_audio(self, data):
        self.event_id += 1
        event = {"audio_base_64": base64.b64encode(data).decode(), "event_id": self.event_id, "alignment": None}
        await self.send({"type": "audio", "audio_event": event})

    async def send_interruption(self, late, heard):
        self.event_id += 1
        interrupted_at = self.event_id
        await self.send({"type": "interruption", "interruption_event": {"event_id": interrupted_at}})
        if late:
            event = {"audio_base_64": base64.b64encode(late).decode(), "event_id": interrupted_at - 1}
            await self.send({"type": "audio", "audio_event": event})
        event = {"original_agent_response": self.words, "corrected_agent_response": heard + "..."}
        await self.send({"type": "agent_response_correction", "agent_response_correction_event": event})

    async def send_heard(self, text):
        self.event_id += 1
        await self.send({"type": "user_transcript", "user_transcription_event": {"user_transcript": text, "event_id": self.event_id}})

    async def send_call(self, call_id, name, arguments):
        call = {"tool_name": name, "tool_call_id": call_id, "parameters": arguments, "event_id": self.event_id}
        await self.send({"type": "client_tool_call", "client_tool_call": call})

    def garbage(self):
        kinds = [
            ("conversation_initiation_metadata", "conversation_initiation_metadata_event"), ("audio", "audio_event"),
            ("ping", "ping_event"), ("user_transcript", "user_transcription_event"), ("agent_response", "agent_response_event"),
            ("agent_response_correction", "agent_response_correction_event"), ("client_tool_call", "client_tool_call"),
            ("vad_score", "vad_score_event"), ("novelty", "novelty_event"),
        ]
        fields = ["event_id", "ping_ms", "audio_base_64", "user_transcript", "agent_response", "corrected_agent_response", "tool_name", "tool_call_id", "parameters"]
        for kind, name in kinds:
            yield from ({"type": kind}, {"type": kind, name: None}, {"type": kind, name: dict.fromkeys(fields)}, {"type": kind, name: [1]})
        yield {"type": "audio", "audio_event": {"audio_base_64": "*no base64*", "event_id": 10**6}}
        yield {"type": "audio", "audio_event": {"audio_base_64": "", "event_id": -1}}
        yield from ({"type": "ping", "ping_event": {"event_id": at, "ping_ms": 1e300}} for at in range(100, 200))
        yield {"type": "client_tool_call", "client_tool_call": {"tool_name": "rm", "tool_call_id": "", "parameters": "no object"}}
        yield from ({}, [], None, 7, {"type": None}, b"\x00\xff", "[" * 100 + "]" * 100)


class ElevenLabs(Service):
    conversation = Convai

    def __init__(self, options):
        super().__init__(options)
        self.signatures = set()

    def admit(self, path, query, headers):
        if path == "/v1/convai/conversation":
            return None
        if path not in ("/v1/convai/conversation/get-signed-url", "/v1/convai/conversation/get_signed_url"):
            return 404, {"detail": "Not Found"}
        if headers.get("xi-api-key") != self.options.key:
            return 401, self.refusal(401)
        if query.get("agent_id") != AGENT_ID:
            return 404, self.refusal(404)
        signature = f"cvtkn_{uuid.uuid4().hex}"
        self.signatures.add(signature)
        self.log("signed")
        host = self.options.signed_host or f"127.0.0.1:{self.port}"
        address = f"{self.options.signed_scheme}://{host}/v1/convai/conversation?agent_id={AGENT_ID}&conversation_signature={signature}"
        return 200, {"signed_url": address}

    def redeem(self, path):
        """A signature is good for one conversation."""
        used = {signature for signature in self.signatures if f"conversation_signature={signature}" in path}
        self.signatures -= used
        return bool(used)

    def refusal(self, status):
        code, message = STATUSES[status]
        return {"detail": {"status": code, "message": message}}


def add_flags(parser):
    parser.add_argument("--form", choices=["ulaw_8000", "pcm_8000", "pcm_16000", "pcm_24000"], default="ulaw_8000")
    parser.add_argument("--private", action="store_true", help="only signed addresses are let in")
    parser.add_argument("--forbid", default="", help="overrides that the agent's settings do not allow, by commas")
    parser.add_argument("--signed-host", help="where signed addresses lead, unless here")
    parser.add_argument("--signed-scheme", default="ws")


if __name__ == "__main__":
    sys.exit(main(ElevenLabs, __doc__, add_flags))
