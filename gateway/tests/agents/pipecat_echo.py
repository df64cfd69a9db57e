"""A Pipecat agent on loopback: says back what it hears, and falls silent at the key 1.

Pipecat itself finds out which provider calls, and reads and writes that provider's messages; nothing of it is shared with
the gateway. What it has found out is written to the log, a JSON document a line.

usage: pipecat_echo.py LOG    the port is printed when it listens; it ends with its standard input
"""

import asyncio
import json
import os
import socket
import sys
import threading
import warnings

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.frames.frames import InputAudioRawFrame, InputDTMFFrame, InterruptionFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

warnings.simplefilter("ignore", DeprecationWarning)
logger.remove()
logger.add(sys.stderr, level="WARNING")
app = FastAPI()
log_file = open(sys.argv[1], "w", buffering=1)


def log(event, **fields):
    log_file.write(json.dumps({"event": event, **fields}) + "\n")


class Echo(FrameProcessor):
    """Says back what it hears until the key 1, and interrupts itself then."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.is_silent = False

    async def process_frame(self, frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            if not self.is_silent:
                out = OutputAudioRawFrame(audio=frame.audio, sample_rate=frame.sample_rate, num_channels=1)
                await self.push_frame(out)
            return
        if isinstance(frame, InputDTMFFrame):
            log("dtmf", kind=self.kind, digit=frame.button.value)
            self.is_silent = True
            await self.push_frame(InterruptionFrame())
            return
        await self.push_frame(frame, direction)


def serializer_of(kind, call):
    if kind == "twilio":
        return TwilioFrameSerializer(call.stream_id, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
    if kind == "telnyx":
        return TelnyxFrameSerializer(call.stream_id, call["outbound_encoding"], "PCMU",
                                     params=TelnyxFrameSerializer.InputParams(auto_hang_up=False))
    if kind == "plivo":
        return PlivoFrameSerializer(call.stream_id, params=PlivoFrameSerializer.InputParams(auto_hang_up=False))
    return ExotelFrameSerializer(call.stream_id, call.call_id)


@app.websocket("/{path}")
async def serve(socket: WebSocket, path: str):
    await socket.accept()
    if path == "vonage":
        # Pipecat has no detector for it.
        kind, serializer = path, VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=8000))
        log("call", kind=kind)
    else:
        kind, call = await parse_telephony_websocket(socket)
        log("call", kind=kind, call_id=call.call_id, sender=call.get("from"), receiver=call.get("to"))
        serializer = serializer_of(kind, call)
    params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer)
    transport = FastAPIWebsocketTransport(websocket=socket, params=params)
    task = PipelineTask(Pipeline([transport.input(), Echo(kind), transport.output()]),
                        params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000))

    @transport.event_handler("on_client_disconnected")
    async def gone(_transport, _client):
        log("gone", kind=kind)
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


async def main():
    threading.Thread(target=end_with_stdin, daemon=True).start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
