#!/usr/bin/env python3
"""Scores the concealment of lost packets with PLCMOS beside silence and the last packet again.

usage: plcmos.py CONCEAL PROMPTS [--clips N] [--seeds N] [--heard FOLDER]
CONCEAL is the example `conceal` of talkstack-media, PROMPTS a folder of what media/quality/run fetches. The ITU's burst
patterns are used where TALKSTACK_CORPORA has them. Ends with 1 if a pass mark is missed: the mean over all clips and seeds is to be above
silence by 0.05 at 5 %, 0.3 at 10 % and 0.6 at 20 % of loss, and never below repetition.
"""
import argparse
import os
import random
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
from speechmos.plcmos import PLCMOS

# Packages of telephone prompts spoken by people (CC BY-SA 3.0), and the folder in each.
PROMPTS = {"en": "en_US", "es": "es_MX", "fr": "fr_CA", "it": "it_IT", "ru": "ru_RU"}
MARKS = {"random 5 %": 0.05, "random 10 %": 0.3, "random 20 %": 0.6}
METHODS = ["silence", "repetition", "ours"]


def low_pass(taps=161, cutoff=0.5):
    """A windowed sinc; cutoff in parts of half the sample rate."""
    at = np.arange(taps) - (taps - 1) / 2
    return cutoff * np.sinc(cutoff * at) * np.blackman(taps)


def clips_of(folder, count):
    """As many clips at 8 kHz, of all speakers alike, at the telephone's usual level of -26 dBov; 4.5 to 8 s each."""
    by_speaker = []
    for speaker in PROMPTS.values():
        paths = [path for path in sorted(folder.rglob("*.wav"))
                 if f"/{speaker}" in str(path) and 70_000 < path.stat().st_size < 130_000]
        random.Random(3).shuffle(paths)
        by_speaker.append(paths)
    found = [path for paths in zip(*by_speaker) for path in paths][:count]
    if len(found) < count:
        sys.exit(f"{folder} has {len(found)} clips, not {count}: delete it and let media/quality/run fetch it again.")
    return [levelled(path) for path in found]


def levelled(path):
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(float)
    samples *= 32768 * 10 ** (-26 / 20) / max(1.0, float(np.sqrt(np.mean(samples ** 2))))
    return np.clip(samples[: len(samples) // 160 * 160], -32768, 32767).astype("<i2").tobytes()


def itu_pattern(name):
    """Packets of a frame pattern of ITU-T G.191: half frames of 228 values, 456 of 512 in each record, 0 where lost."""
    folder = os.environ.get("TALKSTACK_CORPORA")
    path = Path(folder or "") / "itu" / "eid-loss-patterns" / name
    if not folder or not path.exists():
        return None
    values = path.read_bytes()
    return "".join("1" if values[at] == 0 else "0"
                   for record in range(0, len(values), 512) for at in (record, record + 228))


def score(model, heard):
    samples = np.frombuffer(heard, dtype="<i2").astype(float) / 32768
    wide = np.zeros(2 * len(samples))
    wide[::2] = samples
    wide = np.convolve(wide, 2 * low_pass(cutoff=0.48), mode="same")
    # The model draws its raters at random: the same ones for every method.
    np.random.seed(1)
    return model.get_mos(wide)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("conceal")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heard", type=Path, help="score the recordings in this folder instead")
    options = parser.parse_args()
    model = PLCMOS(embed_rounds=4)
    if options.heard:
        for path in sorted(options.heard.glob("*.wav")):
            with wave.open(str(path)) as file:
                print(f"{path.stem:<28} PLCMOS {score(model, file.readframes(file.getnframes())):.2f}")
        return
    clips = clips_of(options.prompts, options.clips)
    conditions = [(f"random {percent} %", percent) for percent in (1, 3, 5, 10, 20)]
    for name in ("patb1pct.ref", "patb3pct.ref"):
        pattern = itu_pattern(name)
        if pattern is None:
            print(f"No third-party corpora (TALKSTACK_CORPORA): {name} is skipped.")
        else:
            conditions.append((f"ITU {name[:8]}", pattern))
    hear = lambda method, losses, clip: subprocess.run(
        [options.conceal, method, losses], input=clip, check=True, capture_output=True).stdout
    unharmed = np.mean([score(model, hear("none", "", clip)) for clip in clips])
    print(f"{len(clips)} clips x {options.seeds} seeds, PLCMOS v2; unharmed {unharmed:.2f}")
    print(f"{'loss':<14} {'lost':>7} " + " ".join(f"{method:>10}" for method in METHODS))
    is_missed = False
    for name, kind in conditions:
        scores = {method: [] for method in METHODS}
        lost = packets = 0
        for seed in range(options.seeds):
            draw = random.Random(seed)
            begin = 0 if isinstance(kind, int) else draw.randrange(len(kind))
            for clip in clips:
                count = len(clip) // 320
                if isinstance(kind, int):
                    losses = "".join("1" if draw.random() * 100 < kind else "0" for _ in range(count))
                else:
                    losses = "".join(kind[(begin + at) % len(kind)] for at in range(count))
                    begin += count
                # A first packet that is lost begins the stream later, for every method alike.
                losses = "0" + losses[1:]
                lost, packets = lost + losses.count("1"), packets + count
                for method in METHODS:
                    scores[method].append(score(model, hear(method, losses, clip)))
        mean = {method: float(np.mean(scores[method])) for method in METHODS}
        print(f"{name:<14} {100 * lost / packets:6.2f}% " + " ".join(f"{mean[method]:10.2f}" for method in METHODS),
              flush=True)
        gain = mean["ours"] - mean["silence"]
        if gain < MARKS.get(name, -9) or mean["ours"] < mean["repetition"] - 0.005:
            is_missed = True
            print(f"  missed: {gain:+.2f} over silence, {mean['ours'] - mean['repetition']:+.2f} over repetition")
    sys.exit(1 if is_missed else 0)


main()
