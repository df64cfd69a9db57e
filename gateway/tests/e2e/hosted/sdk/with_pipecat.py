"""Pipecat's service for Ultravox against `ultravox.py --scenario send_dtmf`: PORT as argument. What it does is taken, what
it is sent is as it expects, and what the service refuses it reports.

Ultravox's own Python client speaks WebRTC alone; this one, of a framework that supports it, holds calls over a WebSocket as
the gateway does. Its address is written into it, and is led here."""

import asyncio
import json
import math
import struct
import sys
import uuid
import warnings

import aiohttp
import websockets
from loguru import logger

warnings.simplefilter("ignore", DeprecationWarning)
logger.remove()

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.frames.frames import (
    ErrorFrame, FunctionCallInProgressFrame, FunctionCallResultFrame, InputAudioRawFrame, InputTextRawFrame, InterruptionFrame, LLMTextFrame,
    TranscriptionFrame, TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineTask
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.ultravox.llm import AgentInputParams, OneShotInputParams, UltravoxRealtimeLLMService

RATE = 48000
WAIT = 8
HERE = f"http://127.0.0.1:{sys.argv[1]}"
MEDIUM = {"medium": {"serverWebSocket": {"inputSampleRate": RATE, "clientBufferSizeMs": 30000}}}
tone = struct.pack("<4800h", *(int(8000 * math.sin(math.tau * 300 * at / RATE)) for at in range(4800)))
turn = RATE * 2 * 3

post = aiohttp.ClientSession.post
aiohttp.ClientSession.post = lambda self, url, **more: post(self, url.replace("https://api.ultravox.ai", HERE), **more)


class Watch(FrameProcessor):
    """What comes out of the service, on the one side of it or the other."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        self.seen.take(frame)
        await self.push_frame(frame, direction)


class Seen:
    def __init__(self):
        self.audio, self.words, self.caller, self.interruptions, self.calls, self.results, self.errors = 0, "", [], 0, [], [], []
        self.frames = set()
        self.changed = asyncio.Event()

    def take(self, frame):
        if frame.id in self.frames:
            return
        self.frames.add(frame.id)
        if isinstance(frame, TTSAudioRawFrame):
            self.audio += len(frame.audio)
        elif isinstance(frame, LLMTextFrame):
            self.words += frame.text
        elif isinstance(frame, TranscriptionFrame):
            self.caller.append(frame.text)
        elif isinstance(frame, InterruptionFrame):
            self.interruptions += 1
        elif isinstance(frame, FunctionCallInProgressFrame):
            self.calls.append((frame.function_name, frame.arguments))
        elif isinstance(frame, FunctionCallResultFrame):
            self.results.append(frame.result)
        elif isinstance(frame, ErrorFrame):
            self.errors.append(f"{frame.error} {frame.exception}")
        self.changed.set()

    async def wait(self, what):
        async def changes():
            while not what():
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(changes(), WAIT)
        except asyncio.TimeoutError:
            raise AssertionError(vars(self)) from None


async def session(params, talk, tools=None):
    seen = Seen()
    service = UltravoxRealtimeLLMService(params=params, one_shot_selected_tools=tools)

    async def press(asked):
        await asked.result_callback({"result": f"pressed {asked.arguments['digits']}"})

    service.register_function("send_dtmf", press)
    task = PipelineTask(Pipeline([Watch(seen), service, Watch(seen)]), cancel_on_idle_timeout=False)
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    try:
        await talk(seen, task.queue_frame)
    finally:
        await task.cancel()
        await asyncio.wait_for(running, WAIT)


async def converse(seen, put):
    await seen.wait(lambda: seen.audio == turn and "Agent turn 1 has seven words here." in seen.words)
    await seen.wait(lambda: seen.results and seen.audio == 2 * turn)
    # Pipecat tells of each either way along its pipeline.
    assert seen.calls == [("send_dtmf", {"digits": "12"})] * 2 and seen.results == [{"result": "pressed 12"}] * 2, vars(seen)
    for loud in [True] * 3 + [False] * 8:
        await put(InputAudioRawFrame(tone if loud else bytes(9600), RATE, 1))
    await seen.wait(lambda: seen.interruptions > 0 and seen.audio == 3 * turn)
    assert seen.caller == ["Caller turn 1."], seen.caller
    await put(InputTextRawFrame("The caller pressed 7"))
    await seen.wait(lambda: seen.audio == 4 * turn)
    assert not seen.errors, seen.errors


def refused(status):
    async def talk(seen, _put):
        await seen.wait(lambda: seen.errors)
        assert str(status) in seen.errors[0], seen.errors

    return talk


async def misuse():
    """What no client of others' does."""
    call = {"systemPrompt": "Be kind.", "medium": {"serverWebSocket": {"inputSampleRate": 8000}}, "firstSpeakerSettings": {"user": {}}}
    async with aiohttp.ClientSession(headers={"X-API-Key": "test-key"}) as http:
        for wrong in ({"temperature": 2}, {"maxDuration": "1h"}, {"medium": {}}, {"colour": 1}, {"selectedTools": [{}]}, {"firstSpeakerSettings": {"agent": {}, "user": {}}}):
            async with http.post(HERE + "/api/calls", json={**call, **wrong}) as response:
                assert response.status == 400 and (await response.json())["detail"], wrong
        for wrong in (b"\x00", "{", '{"type":"novelty"}', '{"type":"client_tool_result","invocationId":"call_1","result":"{}"}'):
            async with http.post(HERE + "/api/calls", json=call) as response:
                url = (await response.json())["joinUrl"]
            async with websockets.connect(url) as socket:
                await socket.send(wrong)
                try:
                    while True:
                        await asyncio.wait_for(socket.recv(), WAIT)
                except websockets.ConnectionClosed as closed:
                    assert closed.rcvd.code == 1007, (wrong, closed)
        try:
            async with websockets.connect(url):
                raise AssertionError("a call was joined twice")
        except websockets.InvalidStatus as error:
            assert error.response.status_code == 404 and json.loads(error.response.body)["detail"]


async def main():
    digits = FunctionSchema("send_dtmf", "Presses keys.", {"digits": {"type": "string"}}, ["digits"])
    one_shot = dict(system_prompt="Be kind.", model="ultravox-v0.7", voice=uuid.uuid4(), extra=MEDIUM)
    await session(OneShotInputParams(api_key="test-key", **one_shot), converse, [digits])
    await session(OneShotInputParams(api_key="another", **one_shot), refused(401))
    await session(AgentInputParams(api_key="test-key", agent_id=uuid.uuid4(), extra=MEDIUM), refused(404))
    await misuse()


asyncio.run(main())
print("taken")
