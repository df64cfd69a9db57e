#!/usr/bin/python3
"""A strict fake of Google's Gemini Live API (BidiGenerateContent), as an API key reaches it."""

import base64
import json
import re
import sys
import uuid

from service import ANY, NUMBER, Conversation, Form, Refused, Service, main, problem

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
MODEL = "models/gemini-live-test"
BLOB = {"data!": str, "mimeType!": str}
PART = {"text": str, "inlineData": BLOB, "functionCall": dict, "functionResponse": dict, "thought": bool}
CONTENT = {"role": {"user", "model", "system"}, "parts": [PART]}
TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}
SCHEMA = {
    "type": {*TYPES, *map(str.upper, TYPES)}, "format": str, "title": str, "description": str, "nullable": bool, "enum": [str],
    "maxItems": ANY, "minItems": ANY, "properties": dict, "required": [str], "minimum": NUMBER, "maximum": NUMBER,
    "minLength": ANY, "maxLength": ANY, "pattern": str, "example": ANY, "anyOf": list, "propertyOrdering": [str], "default": ANY, "items": dict,
}
DECLARATION = {"name!": str, "description!": str, "parameters": dict, "response": dict, "behavior": {"BLOCKING", "NON_BLOCKING"}}
SETUP = {
    "model!": str,
    "generationConfig": {
        "responseModalities": [{"TEXT", "AUDIO"}], "temperature": NUMBER, "topP": NUMBER, "topK": NUMBER, "maxOutputTokens": int, "seed": int,
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": str}}, "languageCode": str},
        "thinkingConfig": dict, "mediaResolution": str, "enableAffectiveDialog": bool,
    },
    "systemInstruction": CONTENT,
    "tools": [{"functionDeclarations": [DECLARATION], "googleSearch": dict, "codeExecution": dict, "urlContext": dict}],
    "realtimeInputConfig": {
        "automaticActivityDetection": {
            "disabled": bool, "startOfSpeechSensitivity": str, "endOfSpeechSensitivity": str, "prefixPaddingMs": int, "silenceDurationMs": int,
        },
        "activityHandling": str, "turnCoverage": str,
    },
    "sessionResumption": {"handle": str, "transparent": bool}, "contextWindowCompression": dict, "inputAudioTranscription": dict,
    "outputAudioTranscription": dict, "proactivity": {"proactiveAudio": bool},
}
RESPONSE = {"id!": str, "name!": str, "response!": dict, "scheduling": {"INTERRUPT", "WHEN_IDLE", "SILENT"}, "willContinue": bool}
MESSAGES = {
    "setup": SETUP,
    "realtimeInput": {"audio": BLOB, "video": BLOB, "text": str, "audioStreamEnd": bool, "activityStart": dict, "activityEnd": dict},
    "clientContent": {"turns": [CONTENT], "turnComplete": bool},
    "toolResponse": {"functionResponses!": [RESPONSE]},
}
ALPHABETS = str.maketrans("-_", "+/")
INVALID, NOT_FOUND, QUOTA = 1007, 1008, 1011
STATUSES = {
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    404: ("NOT_FOUND", "Requested entity was not found."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
}


def camel(value):
    """Names may be written either way; values are left alone, and so is what a schema or a call's answer holds."""
    if isinstance(value, list):
        return [camel(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    name = lambda key: re.sub("_(.)", lambda found: found.group(1).upper(), key)
    return {name(key): inner if key in ("properties", "response", "args") else camel(inner) for key, inner in value.items()}


class Live(Conversation):
    is_set_up = False

    def check_key(self):
        """Only with the first message: until then whoever connects is waited for."""
        if self.service.key_given != self.options.key:
            raise Refused(INVALID, "API key not valid. Please pass a valid API key.")
        if self.options.exhausted:
            raise Refused(QUOTA, "You exceeded your current quota, please check your plan and billing details.")

    async def refuse(self, refused):
        # A close frame has room for 123 bytes of its reason.
        await self.socket.close(refused.code, str(refused)[:123])

    async def send(self, message):
        await self.socket.send(json.dumps(message).encode())

    async def handle(self, message):
        if not self.is_set_up:
            self.check_key()
        try:
            event = camel(json.loads(message))
        except ValueError as error:
            raise Refused(INVALID, "Request contains an invalid argument.") from error
        if not isinstance(event, dict) or len(event) != 1:
            raise Refused(INVALID, "Request contains an invalid argument.")
        [(kind, body)] = event.items()
        if kind not in MESSAGES:
            raise Refused(INVALID, f"Invalid JSON payload received. Unknown name \"{kind}\": Cannot find field.")
        self.require(problem(body, MESSAGES[kind], kind))
        if self.is_set_up == (kind == "setup"):
            raise Refused(INVALID, "Request contains an invalid argument.")
        if not (kind == "realtimeInput" and "audio" in body):
            self.service.received(event)
        if kind == "setup":
            await self.set_up(body)
        elif kind == "clientContent":
            if body.get("turnComplete"):
                self.service.log("asked", turns=body.get("turns"))
                await self.speak()
        elif kind == "toolResponse":
            for response in body["functionResponses"]:
                await self.handle_result(response["id"], response["response"], INVALID)
        elif "audio" in body:
            await self.hear(self.samples(body["audio"]))
        elif "text" in body:
            await self.handle_told(body["text"])

    def require(self, found):
        if found:
            where, what = found
            if what == "is unknown":
                place, name = where.rsplit(".", 1)
                raise Refused(INVALID, f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field.")
            raise Refused(INVALID, f"Invalid value at '{where}': {what}")

    def samples(self, blob):
        mime = re.fullmatch(r"audio/pcm(?:;\s*rate=(\d+))?", blob["mimeType"])
        if not mime:
            raise Refused(INVALID, f"Unsupported MIME type {blob['mimeType']}")
        # Of either alphabet, as everywhere in JSON of protocol buffers.
        rate, data = int(mime.group(1) or 16000), base64.b64decode(blob["data"].translate(ALPHABETS), validate=True)
        if rate != self.hears.rate or len(data) % 2:
            raise Refused(INVALID, "Request contains an invalid argument.")
        return data

    async def set_up(self, setup):
        if setup["model"] != MODEL:
            raise Refused(NOT_FOUND, f"{setup['model']} is not found for API version v1beta, or is not supported for bidiGenerateContent.")
        for tool in setup.get("tools", []):
            for declaration in tool.get("functionDeclarations", []):
                if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", declaration["name"]):
                    raise Refused(INVALID, "Invalid function name.")
                if "parameters" in declaration:
                    self.check_schema(declaration["parameters"], "setup.tools[0].function_declarations[0].parameters")
        if setup.get("generationConfig", {}).get("responseModalities", ["AUDIO"]) != ["AUDIO"]:
            raise Refused(INVALID, "Cannot extract voices from a non-audio request.")
        self.set_forms(Form("linear16", 16000), Form("linear16", 24000))
        self.has_words = {side for side in ("input", "output") if f"{side}AudioTranscription" in setup}
        self.is_set_up = True
        await self.send({"setupComplete": {"sessionId": uuid.uuid4().hex}})

    def check_schema(self, schema, where):
        self.require(problem(schema, SCHEMA, where))
        if schema.get("type", "").lower() == "object" and not schema.get("properties"):
            raise Refused(INVALID, f"* {where}.properties: should be non-empty for OBJECT type")
        for name, inner in schema.get("properties", {}).items():
            self.check_schema(inner, f"{where}.properties[{name}]")

    async def content(self, **content):
        await self.send({"serverContent": content})

    async def send_words(self, text):
        if "output" in self.has_words:
            words = text.split()
            await self.content(outputTranscription={"text": " ".join(words[:2])})
            await self.content(outputTranscription={"text": " " + " ".join(words[2:])})

    async def send_audio(self, data):
        # Two parts in one message now and then, and not only whole samples in each.
        cut = len(data) // 2 // 6 * 6
        pieces = [data[:cut], data[cut:]] if 0 < cut < 3000 else [data]
        parts = [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(piece).decode()}} for piece in pieces]
        await self.content(modelTurn={"role": "model", "parts": parts})

    async def send_said(self):
        await self.content(generationComplete=True)
        await self.send({"serverContent": {"turnComplete": True}, "usageMetadata": {"totalTokenCount": 9}})

    async def send_interruption(self, late, heard):
        await self.content(interrupted=True)
        await self.content(turnComplete=True)

    async def send_heard(self, text):
        if "input" in self.has_words:
            await self.content(inputTranscription={"text": text[:7]})
            await self.content(inputTranscription={"text": text[7:], "finished": True})

    async def send_call(self, call_id, name, arguments):
        await self.send({"toolCall": {"functionCalls": [{"id": call_id, "name": name, "args": arguments}]}})

    def garbage(self):
        fields = ["setupComplete", "serverContent", "toolCall", "toolCallCancellation", "goAway", "sessionResumptionUpdate", "usageMetadata", "novelty"]
        # A goAway that means something is none of this.
        yield from ({name: None} for name in fields)
        yield from ({name: 7} for name in fields if name not in ("setupComplete", "goAway"))
        inner = ["modelTurn", "interrupted", "generationComplete", "turnComplete", "inputTranscription", "outputTranscription", "waitingForInput"]
        yield {"serverContent": dict.fromkeys(inner)}
        yield from ({"serverContent": {name: [1, "x"]}} for name in inner)
        yield {"serverContent": {"inputTranscription": {"text": None, "finished": None}}}
        blobs = [None, {}, {"mimeType": None, "data": None}, {"mimeType": "image/png", "data": "AAAA"}, {"mimeType": "audio/pcm;rate=7", "data": "AAAA"}, {"mimeType": "audio/pcm", "data": "*"}]
        yield from ({"serverContent": {"modelTurn": {"parts": [{"inlineData": blob}]}}} for blob in blobs)
        yield {"serverContent": {"modelTurn": {"parts": [None, {}, {"text": "hm", "thought": True}]}}}
        yield {"toolCall": {"functionCalls": [{"id": None, "name": None, "args": None}]}}
        yield from ({}, [], None, 7, "[" * 100 + "]" * 100)


class Gemini(Service):
    conversation = Live
    key_given = None

    def admit(self, path, query, headers):
        if path != PATH:
            return 404, self.refusal(404)
        self.key_given = query.get("key") or headers.get("x-goog-api-key")
        return None

    def refusal(self, status):
        name, message = STATUSES[status]
        return {"error": {"code": status, "message": message, "status": name}}


def add_flags(parser):
    parser.add_argument("--exhausted", action="store_true", help="the quota is used up")


if __name__ == "__main__":
    sys.exit(main(Gemini, __doc__, add_flags))
