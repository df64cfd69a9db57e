#!/usr/bin/python3
"""A strict fake of Deepgram's Voice Agent API, version 1."""

import asyncio
import json
import struct
import sys
import uuid

from service import ANY, NUMBER, Conversation, Form, Refused, Service, main, problem

ENDPOINT = {"url!": str, "method": {"get", "post", "put", "patch", "delete"}, "headers": dict}
FUNCTION = {"name!": str, "description": str, "parameters": dict, "endpoint": ENDPOINT, "defer_until_eot": bool}
LISTENS = {
    "v1": {"type!": {"deepgram"}, "version": {"v1"}, "model": str, "language": str, "keyterms": [str], "smart_format": bool},
    "v2": {
        "type!": {"deepgram"}, "version!": {"v2"}, "model!": str, "language_hints": [str], "keyterms": [str],
        "eot_threshold": NUMBER, "eager_eot_threshold": NUMBER, "eot_timeout_ms": int,
    },
}
THINK = {
    "provider!": {
        "type!": {"open_ai", "anthropic", "google", "groq", "aws_bedrock", "deepgram"}, "version": str, "model!": str,
        "temperature": NUMBER, "reasoning_mode": str,
    },
    "endpoint": ENDPOINT, "prompt": str, "context_length": ANY, "functions": [FUNCTION],
}
SPEAK = {"provider!": {"type!": {"deepgram", "eleven_labs", "cartesia", "open_ai", "aws_polly"}, "model": str, "language": str}, "endpoint": ENDPOINT}
AGENT = {"language": str, "context": {"messages": [dict]}, "listen": {"provider!": ANY}, "think": ANY, "speak": ANY, "greeting": str}
SETTINGS = {
    "type!": str, "tags": [str], "experimental": bool, "mip_opt_out": bool, "flags": {"history": bool},
    "audio!": {
        "input": {"encoding!": str, "sample_rate!": int},
        "output": {"encoding": str, "sample_rate": int, "bitrate": int, "container": str},
    },
    "agent!": ANY,
}
MESSAGES = {
    "Settings": SETTINGS,
    "FunctionCallResponse": {"type!": str, "id!": str, "name!": str, "content!": str},
    "InjectAgentMessage": {"type!": str, "message!": str, "behavior": {"default", "queue", "interrupt"}},
    "InjectUserMessage": {"type!": str, "content!": str},
    "UpdatePrompt": {"type!": str, "prompt!": str},
    "UpdateSpeak": {"type!": str, "speak!": SPEAK},
    "UpdateThink": {"type!": str, "think!": THINK},
    "UpdateListen": {"type!": str, "listen!": {"provider!": ANY}},
    "ForceEndTurn": {"type!": str},
    "KeepAlive": {"type!": str},
}
INPUTS = {"linear16", "linear32", "flac", "alaw", "mulaw", "amr-nb", "amr-wb", "opus", "ogg-opus", "speex", "g729"}
OUTPUTS = {"linear16", "mulaw", "alaw", "mp3", "opus", "flac", "aac"}
CONTAINERS = {"none", "wav", "ogg"}
STATUSES = {
    401: ("INVALID_AUTH", "Invalid credentials."),
    404: ("NOT_FOUND", "The requested resource was not found."),
    429: ("TOO_MANY_REQUESTS", "Too many requests. Please try again later."),
}


def unparsable(found):
    where, _ = found
    return Refused("UNPARSABLE_CLIENT_MESSAGE", f"Error parsing client message. Check the {where.lstrip('.')} field against the API spec.")


class Converse(Conversation):
    is_set_up = False
    has_header = False

    async def begin(self):
        await self.send({"type": "Welcome", "request_id": str(uuid.uuid4())})

    async def refuse(self, refused):
        await self.send({"type": "Error", "description": str(refused), "code": refused.code})
        await self.socket.close()

    async def handle(self, message):
        if isinstance(message, bytes):
            if not self.is_set_up:
                raise Refused("NON_SETTINGS_MESSAGE_BEFORE_SETTINGS", "Binary message received before Settings.")
            return await self.hear(message)
        try:
            event = json.loads(message)
            kind = event["type"]
            schema = MESSAGES[kind]
        except (ValueError, TypeError, KeyError) as error:
            raise Refused("UNPARSABLE_CLIENT_MESSAGE", "Text message received from client did not match any of the formats we expect.") from error
        self.service.received(event)
        if kind != "Settings" and not self.is_set_up:
            raise Refused("NON_SETTINGS_MESSAGE_BEFORE_SETTINGS", "The first message must be Settings.")
        found = problem(event, schema)
        if found:
            raise unparsable(found)
        if kind == "Settings":
            await self.set_up(event)
        elif kind == "FunctionCallResponse":
            await self.handle_result(event["id"], event["content"], "UNPARSABLE_CLIENT_MESSAGE")
        elif kind == "InjectUserMessage":
            await self.send({"type": "ConversationText", "role": "user", "content": event["content"]})
            await self.handle_told(event["content"])
        elif kind == "InjectAgentMessage":
            await self.inject(event["message"], event.get("behavior", "default"))
        elif kind.startswith("Update"):
            await self.send({"type": kind.removeprefix("Update") + "Updated"})

    async def inject(self, message, behavior):
        is_speaking = self.is_playing()
        if behavior == "default" and (is_speaking or self.ear.is_speaking):
            self.service.log("injection_refused")
            who = "agent is" if is_speaking else "user is"
            return await self.send({"type": "InjectionRefused", "message": f"Cannot inject message while {who} currently speaking"})
        await self.speak(message)

    async def set_up(self, settings):
        if self.is_set_up:
            raise Refused("SETTINGS_ALREADY_APPLIED", "Settings have already been applied.")
        hears = {"encoding": "linear16", "sample_rate": 24000, **settings["audio"].get("input", {})}
        says = {"encoding": "linear16", "sample_rate": 24000, **settings["audio"].get("output", {})}
        says.setdefault("container", "wav" if says["encoding"] == "linear16" else "none")
        for given, taken in ((hears["encoding"], INPUTS), (says["encoding"], OUTPUTS), (says["container"], CONTAINERS)):
            if given not in taken:
                raise Refused("INVALID_SETTINGS", f"{given} is not supported.")
        agent = settings["agent"]
        if not isinstance(agent, str):
            self.check_agent(agent)
        if {hears["encoding"], says["encoding"]} - {"linear16", "mulaw", "alaw"}:
            raise Refused("INTERNAL_SERVER_ERROR", "This fake has no such coding.")
        self.has_header = says["container"] == "wav"
        self.set_forms(Form(hears["encoding"], hears["sample_rate"]), Form(says["encoding"], says["sample_rate"]))
        # What comes meanwhile is too early.
        await asyncio.sleep(0.05)
        self.is_set_up = True
        await self.send({"type": "SettingsApplied"})
        greeting = "Hello from the stored agent." if isinstance(agent, str) else agent.get("greeting")
        if greeting:
            await self.speak(greeting)

    def check_agent(self, agent):
        found = problem(agent, AGENT, "agent")
        if found:
            raise unparsable(found)
        for part, schema in (("think", THINK), ("speak", SPEAK)):
            given = agent.get(part, [])
            for one in given if isinstance(given, list) else [given]:
                found = problem(one, schema, f"agent.{part}")
                if found:
                    raise unparsable(found)
        if "listen" in agent:
            provider = agent["listen"]["provider"]
            found = problem(provider, LISTENS.get(provider.get("version", "v1"), {}), "agent.listen.provider")
            if found:
                raise unparsable(found)
            is_flux = provider.get("model", "nova-3").startswith("flux")
            if is_flux != (provider.get("version") == "v2"):
                raise Refused("INVALID_SETTINGS", "The listen model needs another version of the API.")

    async def send_words(self, text):
        if self.turn > 1:
            await self.send({"type": "AgentThinking", "content": "What shall I say?"})
        await self.send({"type": "ConversationText", "role": "assistant", "content": text})
        await self.send({"type": "AgentStartedSpeaking", "total_latency": 0.6, "tts_latency": 0.2, "ttt_latency": 0.4})
        if self.has_header:
            rate = self.says.rate
            await self.socket.send(b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + b"data\xff\xff\xff\xff")

    async def send_audio(self, data):
        await self.socket.send(data)

    async def send_said(self):
        await self.send({"type": "AgentAudioDone"})

    async def handle_speech_began(self):
        # Whether the agent speaks or not.
        await self.send({"type": "UserStartedSpeaking"})
        await super().handle_speech_began()

    async def send_interruption(self, late, heard):
        if late:
            await self.send_audio(late)
        await self.send_said()

    async def send_heard(self, text):
        await self.send({"type": "ConversationText", "role": "user", "content": text})

    async def send_call(self, call_id, name, arguments):
        call = {"id": call_id, "name": name, "arguments": json.dumps(arguments), "client_side": True}
        await self.send({"type": "FunctionCallRequest", "functions": [call]})

    def garbage(self):
        kinds = ["Welcome", "ConversationText", "AgentThinking", "AgentAudioDone", "FunctionCallRequest", "Warning", "History", "Novelty"]
        fields = ["role", "content", "code", "description", "functions", "request_id"]
        yield from ({"type": kind, **dict.fromkeys(fields)} for kind in kinds)
        yield from ({"type": kind, **dict.fromkeys(fields, [{"a": [7]}])} for kind in kinds)
        yield from ({}, [], None, 7, '"text"', {"type": None}, {"type": ["ConversationText"]}, b"")
        yield {"type": "FunctionCallRequest", "functions": [None, {"id": None, "name": None, "client_side": None}]}
        yield {"type": "FunctionCallRequest", "functions": [{"id": "x", "name": "rm", "arguments": "no JSON", "client_side": False}]}
        yield {"type": "Warning", "code": "SLOW_THINK_REQUEST", "description": "\u0000" * 1000}
        yield "[" * 100 + "]" * 100


class Deepgram(Service):
    conversation = Converse
    patience = 10
    silence = Refused("CLIENT_MESSAGE_TIMEOUT", "We waited too long for a websocket message.")

    def admit(self, path, query, headers):
        if path != "/v1/agent/converse":
            return 404, self.refusal(404)
        if headers.get("Authorization", "").split(" ", 1) not in (["Token", self.options.key], ["token", self.options.key]):
            return 401, self.refusal(401)
        return None

    def refusal(self, status):
        code, message = STATUSES[status]
        return {"err_code": code, "err_msg": message, "request_id": str(uuid.uuid4())}


if __name__ == "__main__":
    sys.exit(main(Deepgram, __doc__))
