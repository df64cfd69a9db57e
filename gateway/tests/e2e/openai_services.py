#!/usr/bin/python3
"""Strict services of a cascade, as OpenAI's API reference has them: transcriptions, chat completions, speech.

Written from the reference alone: it shares no code and no types with the gateway. Whatever a client does that the
reference does not allow is answered with the service's own error and written to the log as a `violation`, and fails the
test that reads it. `openai_services_sdk.py` has OpenAI's own client talk to it, as evidence that it is right.

It mixes in what servers of one's own do: comments and nulls in streams, calls of functions in pieces, headers without a
length, chunks that cut a sample in two, 503 while a model loads.
"""

import argparse
import email.parser
import email.policy
import io
import json
import math
import re
import struct
import threading
import time
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHAT = {
    "model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p",
    "max_tokens", "max_completion_tokens", "stop", "user", "metadata", "seed", "n", "response_format", "store",
}
ROLES = {"developer", "system", "user", "assistant", "tool"}
SPEECH = {"model", "input", "voice", "instructions", "response_format", "speed", "stream_format"}
TRANSCRIPTION = {
    "file", "model", "language", "prompt", "response_format", "temperature", "stream", "chunking_strategy", "include[]",
    "timestamp_granularities[]",
}
VOICES = {"alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin", "cedar"}
FILES = {"flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "wav", "webm"}


class Refused(Exception):
    def __init__(self, status, message, code=None, param=None):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


def need(condition, message, code=None, param=None, status=400):
    if not condition:
        raise Refused(status, message, code, param)


class Services(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options = None
    loading = 0
    connections = 0
    lock = threading.Lock()

    def setup(self):
        super().setup()
        with self.lock:
            Services.connections += 1
            self.connection_number = Services.connections

    def log_message(self, *_):
        pass

    def note(self, event, **fields):
        with self.lock, open(self.options.log, "a", encoding="utf-8") as log:
            log.write(json.dumps({"event": event, "path": self.path, "connection": self.connection_number, **fields}) + "\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            need(self.headers.get("Authorization") == f"Bearer {self.options.key}", "Incorrect API key provided.", "invalid_api_key", status=401)
            serve = {
                "/v1/audio/transcriptions": self.transcribe,
                "/v1/chat/completions": self.chat,
                "/v1/audio/speech": self.speak,
            }.get(self.path)
            need(serve, f"Invalid URL (POST {self.path})", status=404)
            serve(body)
        except Refused as refused:
            self.note("violation", status=refused.status, code=refused.code, message=str(refused))
            kind = "invalid_request_error"
            self.answer(refused.status, {"error": {"message": str(refused), "type": kind, "param": refused.param, "code": refused.code}})
        except (BrokenPipeError, ConnectionResetError):
            self.note("gone")
            self.close_connection = True

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self, content_type):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    # POST /v1/audio/transcriptions

    def transcribe(self, body):
        content_type = self.headers.get("Content-Type", "")
        need(content_type.startswith("multipart/form-data") and "boundary=" in content_type, "Could not parse multipart form")
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        need(form.is_multipart() and not form.defects, "Could not parse multipart form")
        fields, file = {}, None
        for part in form.iter_parts():
            name = part.get_param("name", header="content-disposition")
            need(name in TRANSCRIPTION, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
            if name == "file":
                file = (part.get_filename() or "", part.get_payload(decode=True))
            else:
                fields[name] = part.get_payload(decode=True).decode()
        need(file, "Missing required parameter: 'file'.", "missing_required_parameter", "file")
        need(fields.get("model"), "you must provide a model parameter", param="model")
        need(fields["model"] in {"whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"}, f"The model `{fields['model']}` does not exist", "model_not_found", "model", 404)
        need(fields.get("response_format", "json") in {"json", "text", "srt", "verbose_json", "vtt"}, "invalid response_format", "invalid_value")
        language = fields.get("language")
        need(language is None or re.fullmatch("[a-z]{2}", language), f"Invalid language '{language}'. Language parameter must be specified in ISO-639-1 format.", "invalid_language_format", "language")
        name, data = file
        need(name.rsplit(".", 1)[-1] in FILES, "Invalid file format.", "unsupported_format", "file")
        try:
            with wave.open(io.BytesIO(data)) as wav:
                rate, frames = wav.getframerate(), wav.getnframes()
                need(frames * wav.getsampwidth() * wav.getnchannels() + 44 == len(data), "Invalid file format.")
                samples = wav.readframes(frames)
        except wave.Error as error:
            raise Refused(400, f"Audio file might be corrupted or unsupported: {error}", "invalid_value", "file") from error
        need(frames >= rate // 10, "Audio file is too short. Minimum audio length is 0.1 seconds.", "audio_too_short", "file")
        level = max(abs(sample) for (sample,) in struct.iter_unpack("<h", samples[: 2 * frames]))
        self.note("transcription", seconds=frames / rate, level=level, **{k: v for k, v in fields.items()})
        heard = self.options.heard if level > 500 else ""
        self.answer(200, {"text": heard, "usage": {"type": "duration", "seconds": math.ceil(frames / rate)}})

    # POST /v1/chat/completions

    def json_body(self, body, known):
        need(self.headers.get("Content-Type", "").split(";")[0] == "application/json", "Unsupported content type", "unsupported_content_type")
        try:
            value = json.loads(body)
        except ValueError as error:
            raise Refused(400, "We could not parse the JSON body of your request.") from error
        need(isinstance(value, dict), "expected an object")
        for name in value:
            need(name in known, f"Unrecognized request argument supplied: {name}", "unknown_parameter", name)
        return value

    def chat(self, body):
        with self.lock:
            is_loading = Services.loading > 0
            Services.loading -= is_loading
        if is_loading:
            self.note("loading")
            # As llama.cpp's server has it.
            self.answer(503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})
            return
        request = self.json_body(body, CHAT)
        need(isinstance(request.get("model"), str) and request["model"], "you must provide a model parameter", param="model")
        need(request["model"] == "gpt-4o-mini", f"The model `{request['model']}` does not exist", "model_not_found", "model", 404)
        self.check_messages(request.get("messages"))
        tools = request.get("tools", [])
        need("tools" not in request or tools, "[] is too short - 'tools'", "invalid_type", "tools")
        for tool in tools:
            need(tool.get("type") == "function", "Invalid value for 'tools[].type'.", "invalid_value")
            need(re.fullmatch("[a-zA-Z0-9_-]{1,64}", tool["function"].get("name", "")), "Invalid 'tools[].function.name'", "invalid_value")
            need(tool["function"].get("parameters", {"type": "object"}).get("type") == "object", "schema must be an object", "invalid_function_parameters")
        last = request["messages"][-1]
        self.note("chat", messages=request["messages"], tools=[tool["function"]["name"] for tool in tools])
        words, calls = self.thought(last)
        if not request.get("stream"):
            self.answer(200, {"id": "c", "object": "chat.completion", "created": 1, "model": request["model"], "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": words}}]})
            return
        self.stream_chat(request, words, calls)

    def check_messages(self, messages):
        need(isinstance(messages, list) and messages, "'messages' must be a non-empty array", "invalid_type", "messages")
        open_calls = set()
        for message in messages:
            role, content = message.get("role"), message.get("content")
            need(role in ROLES, f"Invalid value: '{role}'.", "invalid_value", "messages")
            if role == "tool":
                need(message.get("tool_call_id") in open_calls, "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.", param="messages")
                open_calls.discard(message["tool_call_id"])
            else:
                need(not open_calls, "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.", param="messages")
            calls = message.get("tool_calls")
            need(calls is None or (role == "assistant" and calls), "Invalid 'tool_calls'", "invalid_value", "messages")
            need(isinstance(content, str) or (content is None and calls), "Invalid value for 'content': expected a string, got null.", "invalid_type", "messages")
            for call in calls or []:
                need(call.get("type") == "function" and isinstance(call["function"].get("arguments"), str), "Invalid 'tool_calls'", "invalid_value", "messages")
                open_calls.add(call["id"])
        need(not open_calls, "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.", param="messages")

    def thought(self, last):
        text = last["content"] or ""
        if last["role"] == "tool":
            return "I have pressed it for you.", []
        if "story" in text:
            return "Once upon a time there was a king. " * 200, []
        if "bye" in text:
            return "Goodbye and thank you for calling.", [("call_1", "end_call", "{}")]
        if "press one" in text:
            return None, [("call_1", "send_dtmf", '{"digits":"1"}')]
        if "answered" in text:
            return "Hello, this is the clinic.", []
        return self.options.says, []

    def stream_chat(self, request, words, calls):
        self.begin_stream("text/event-stream; charset=utf-8")

        def send(delta, finish=None):
            choice = {"finish_reason": finish, "index": 0, "delta": delta, "logprobs": None}
            value = {"object": "chat.completion.chunk", "id": "c", "created": 1, "model": request["model"], "choices": [choice]}
            data = f"data: {json.dumps(value)}\n\n".encode()
            # A line may come in two.
            self.chunk(data[:11])
            self.chunk(data[11:])

        self.chunk(b": ping\r\n\r\n")
        send({"role": "assistant", "content": None})
        for word in re.findall(r"\S+\s*", words or ""):
            send({"content": word})
            if len(words) > 1000:
                time.sleep(0.02)
        for index, (call, name, arguments) in enumerate(calls):
            send({"tool_calls": [{"index": index, "id": call, "type": "function", "function": {"name": name, "arguments": ""}}]})
            for piece in (arguments[:3], arguments[3:]):
                send({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        send({}, "tool_calls" if calls else "stop")
        if request.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": request["model"], "choices": [], "usage": usage}
            self.chunk(f"data: {json.dumps(value)}\n\n".encode())
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    # POST /v1/audio/speech

    def speak(self, body):
        request = self.json_body(body, SPEECH)
        for name in ("model", "input", "voice"):
            need(isinstance(request.get(name), str) and request[name], f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
        need(request["model"] in {"tts-1", "tts-1-hd", "gpt-4o-mini-tts"}, f"The model `{request['model']}` does not exist", "model_not_found", "model", 404)
        need(request["voice"] in VOICES, f"Invalid value: '{request['voice']}'.", "invalid_value", "voice")
        need(len(request["input"]) <= 4096, "Invalid 'input': string too long.", "string_above_max_length", "input")
        form = request.get("response_format", "mp3")
        need(form in {"mp3", "opus", "aac", "flac", "wav", "pcm"}, "Invalid 'response_format'", "invalid_value", "response_format")
        need(0.25 <= request.get("speed", 1) <= 4, "Invalid 'speed'", "invalid_value", "speed")
        need(form in {"wav", "pcm"}, "this server has no encoder", "unsupported_format")
        self.note("speech", input=request["input"], voice=request["voice"], format=form)
        rate = self.options.rate
        count = int(rate * 0.06 * len(request["input"]))
        samples = b"".join(struct.pack("<h", int(8000 * math.sin(math.tau * 440 * at / rate))) for at in range(count))
        if form == "wav":
            # As a server writes it that does not know the length.
            samples = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + b"data\xff\xff\xff\xff" + samples
        self.begin_stream("audio/wav" if form == "wav" else "audio/pcm")
        for at in range(0, len(samples), 1023):
            self.chunk(samples[at : at + 1023])
        self.chunk(b"")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--key", default="sk-test")
    parser.add_argument("--heard", default="What time is it?")
    parser.add_argument("--says", default="It is noon in all of London. Anything else?")
    parser.add_argument("--rate", type=int, default=24000)
    parser.add_argument("--loading", type=int, default=0)
    Services.options = parser.parse_args()
    Services.loading = Services.options.loading
    open(Services.options.log, "a", encoding="utf-8").close()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Services)
    server.daemon_threads = True
    print("listening", server.server_address[1], flush=True)
    server.serve_forever()


main()
