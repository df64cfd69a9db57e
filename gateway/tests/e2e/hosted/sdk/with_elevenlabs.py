"""ElevenLabs' own client against `elevenlabs.py --private --form pcm_16000 --forbid voice_id --scenario send_dtmf`: PORT as
argument. What it does is taken, what it is sent is as it expects, and what the service refuses it reports."""

import math
import struct
import sys
import threading

from elevenlabs import ElevenLabs
from elevenlabs.conversational_ai.conversation import AudioInterface, ClientTools, Conversation, ConversationInitiationData
from elevenlabs.core.api_error import ApiError

WAIT = 8


class Line(AudioInterface):
    def __init__(self):
        self.heard, self.interruptions, self.send = 0, 0, None
        self.changed = threading.Condition()

    def start(self, input_callback):
        self.send = input_callback

    def stop(self):
        pass

    def output(self, audio):
        with self.changed:
            self.heard += len(audio)
            self.changed.notify_all()

    def interrupt(self):
        with self.changed:
            self.interruptions += 1
            self.changed.notify_all()

    def wait(self, what):
        with self.changed:
            assert self.changed.wait_for(what, WAIT), (self.heard, self.interruptions)


class Told:
    """What the client calls back with, and how it ends."""

    def __init__(self, key="test-key", agent="agent_7", requires_auth=True, overrides=None):
        self.said, self.corrected, self.caller, self.latencies, self.ending = [], [], [], [], None
        self.over = threading.Event()
        self.line, tools = Line(), ClientTools()
        tools.register("send_dtmf", lambda parameters: f"pressed {parameters['digits']}")
        here = f"http://127.0.0.1:{sys.argv[1]}"
        self.conversation = Conversation(
            ElevenLabs(api_key=key, base_url=here), agent, requires_auth=requires_auth, audio_interface=self.line, client_tools=tools,
            config=ConversationInitiationData(conversation_config_override=overrides or {}, dynamic_variables={"name": "John"}),
            callback_agent_response=self.said.append, callback_agent_response_correction=lambda was, heard: self.corrected.append((was, heard)),
            callback_user_transcript=self.caller.append, callback_latency_measurement=self.latencies.append, callback_disconnect=self.end,
        )
        self.conversation.start_session()

    def end(self, details):
        self.ending = details
        self.over.set()

    def ended(self):
        assert self.over.wait(WAIT)
        return self.ending.close_code, self.ending.close_reason


tone = struct.pack("<1600h", *(int(8000 * math.sin(math.tau * 300 * at / 16000)) for at in range(1600)))
turn = 32000 * 3

told = Told(overrides={"agent": {"first_message": "Hello John."}})
# The greeting, and what the agent says of the keys that the client's tool has pressed.
told.line.wait(lambda: told.line.heard == 2 * turn)
for loud in [True] * 3 + [False] * 8:
    told.line.send(tone if loud else bytes(3200))
told.line.wait(lambda: told.line.interruptions == 1 and told.line.heard == 3 * turn)
assert told.said == ["Hello John.", "Agent turn 2 has seven words here.", "Agent turn 3 has seven words here."], told.said
[(was, heard)] = told.corrected
assert was == told.said[1] and heard.endswith("...") and len(heard) < len(was), told.corrected
assert told.caller == ["Caller turn 1."] and told.latencies == [40], (told.caller, told.latencies)
told.conversation.send_user_message("The caller pressed 7")
told.line.wait(lambda: told.line.heard == 4 * turn)
told.conversation.send_contextual_update("They hurry.")
told.conversation.register_user_activity()
told.conversation.end_session()
assert told.conversation.wait_for_session_end().startswith("conv_")
assert told.ending.reason == "user", told.ending

assert Told(overrides={"tts": {"voice_id": "x"}}).ended() == (1008, "Override for field 'voice_id' is not allowed by config.")
assert Told(overrides={"agent": {"colour": "red"}}).ended()[0] == 1008
assert Told(requires_auth=False).ended() == (3000, "Could not authorize the conversation.")
for key, agent, status, code in [("another", "agent_7", 401, "invalid_api_key"), ("test-key", "agent_9", 404, "document_not_found")]:
    try:
        Told(key, agent)
        raise AssertionError(f"{key} {agent} was taken")
    except ApiError as error:
        assert (error.status_code, error.body["detail"]["status"]) == (status, code), error
print("taken")
# The client's threads of its tools would wait for more.
sys.stdout.flush()
import os

os._exit(0)
