#!/usr/bin/env bash
# Speaks texts.tsv into en/*.wav and de/*.wav: 8 kHz, mono, 16 bit, trimmed, peaks at -6 dB.
# Needs Debian's espeak-ng and sox. No dither (-D): the same texts give the same bytes. The files are committed.
set -euo pipefail
cd "$(dirname "$0")"
declare -A voice=([en]=en-gb [de]=de)
while IFS=$'\t' read -r language name text; do
  mkdir -p "$language"
  printf '%s' "$text" | espeak-ng -v "${voice[$language]}" -s 150 -b 1 --stdin --stdout |
    sox -D -t wav - -r 8000 -c 1 -b 16 "$language/$name.wav" \
      gain -3 highpass 120 silence 1 0.02 0.3% reverse silence 1 0.02 0.3% reverse pad 0.05 0.15 norm -6
done <texts.tsv
