"""Deepgram's own client against `deepgram.py`: PORT as argument. What it does is taken, what it is sent is as it expects,
and what the service refuses it reports."""

import json
import math
import struct
import sys

import deepgram
import websockets
from deepgram.agent.v1.types import (
    AgentV1InjectAgentMessage, AgentV1InjectUserMessage, AgentV1SendFunctionCallResponse, AgentV1Settings, AgentV1SettingsAgent,
    AgentV1SettingsAgentListen, AgentV1SettingsAgentListenProvider_V1, AgentV1SettingsAudio, AgentV1SettingsAudioInput, AgentV1SettingsAudioOutput,
)
from deepgram.environment import DeepgramClientEnvironment
from deepgram.types import SpeakSettingsV1, SpeakSettingsV1Provider_Deepgram, ThinkSettingsV1, ThinkSettingsV1FunctionsItem, ThinkSettingsV1Provider_OpenAi

here = f"127.0.0.1:{sys.argv[1]}"
place = DeepgramClientEnvironment(base=f"http://{here}", production=f"ws://{here}", agent=f"ws://{here}", agent_rest=f"http://{here}")


def client(key):
    return deepgram.DeepgramClient(api_key=key, environment=place).agent.v1


def settings(model="nova-3", encoding="linear16", rate=16000):
    function = ThinkSettingsV1FunctionsItem(name="send_dtmf", description="Presses keys.", parameters={"type": "object", "properties": {}})
    return AgentV1Settings(
        audio=AgentV1SettingsAudio(
            input=AgentV1SettingsAudioInput(encoding=encoding, sample_rate=rate),
            output=AgentV1SettingsAudioOutput(encoding="linear16", sample_rate=rate, container="none"),
        ),
        agent=AgentV1SettingsAgent(
            greeting="Hello.",
            listen=AgentV1SettingsAgentListen(provider=AgentV1SettingsAgentListenProvider_V1(model=model)),
            think=ThinkSettingsV1(provider=ThinkSettingsV1Provider_OpenAi(model="gpt-4o-mini"), prompt="Be kind.", functions=[function]),
            speak=SpeakSettingsV1(provider=SpeakSettingsV1Provider_Deepgram(model="aura-2-thalia-en")),
        ),
    )


def until(connection, kind):
    """What comes up to the first message of a type, each as the client's own types have it, and that message."""
    seen, audio = [], 0
    while True:
        message = connection.recv()
        if isinstance(message, bytes):
            audio += len(message)
            continue
        assert not isinstance(message, dict), f"no type of the client's is like {message}"
        assert not message.model_extra, f"{message} has more than the client knows"
        type(message).model_validate(message.model_dump())
        seen.append(message.type)
        if message.type == kind:
            return seen, audio, message


tone = struct.pack("<1600h", *(int(8000 * math.sin(math.tau * 300 * at / 16000)) for at in range(1600)))

with client("test-key").connect() as connection:
    until(connection, "Welcome")
    connection.send_settings(settings())
    seen, audio, _ = until(connection, "AgentAudioDone")
    assert seen == ["SettingsApplied", "ConversationText", "AgentStartedSpeaking", "AgentAudioDone"], seen
    assert audio == 32000 * 3, audio
    _, _, request = until(connection, "FunctionCallRequest")
    call = request.functions[0]
    assert call.client_side and call.name == "send_dtmf", request
    connection.send_inject_agent_message(AgentV1InjectAgentMessage(message="Now?"))
    until(connection, "InjectionRefused")
    connection.send_function_call_response(AgentV1SendFunctionCallResponse(id=call.id, name=call.name, content="{}"))
    until(connection, "AgentAudioDone")
    connection.send_keep_alive()
    for loud in [True] * 3 + [False] * 8:
        connection.send_media(tone if loud else bytes(3200))
    seen, audio, _ = until(connection, "AgentAudioDone")
    assert seen[0] == "UserStartedSpeaking", seen
    seen, audio, _ = until(connection, "AgentAudioDone")
    assert seen == ["ConversationText", "AgentThinking", "ConversationText", "AgentStartedSpeaking", "AgentAudioDone"] and audio == 32000 * 3, (seen, audio)
    connection.send_inject_user_message(AgentV1InjectUserMessage(content="The caller pressed 7"))
    _, _, said = until(connection, "ConversationText")
    assert (said.role, said.content) == ("user", "The caller pressed 7"), said
    connection.send_settings(settings())
    _, _, error = until(connection, "Error")
    assert error.code == "SETTINGS_ALREADY_APPLIED", error


def refused(send):
    with client("test-key").connect() as connection:
        until(connection, "Welcome")
        send(connection)
        return until(connection, "Error")[2].code


assert refused(lambda connection: connection.send_media(tone)) == "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS"
assert refused(lambda connection: connection.send_keep_alive()) == "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS"
assert refused(lambda connection: connection.send_settings(settings(encoding="mp4"))) == "INVALID_SETTINGS"
assert refused(lambda connection: connection.send_settings(settings(model="flux-general-en"))) == "INVALID_SETTINGS"
for raw in ("{", {"type": "Settings", "audio": {}}, {"type": "Settings", "audio": {}, "agent": {"greeting": 7}}, {"type": "Novelty"}):
    assert refused(lambda connection: connection.send_raw(raw)) == "UNPARSABLE_CLIENT_MESSAGE", raw
try:
    with client("another").connect():
        raise AssertionError("a wrong key was taken")
except websockets.InvalidStatus as error:
    assert (error.response.status_code, json.loads(error.response.body)["err_code"]) == (401, "INVALID_AUTH"), error
print("taken")
