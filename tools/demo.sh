#!/bin/sh
# demo.sh - a scripted conversation, several windows long, with the line that says what has gone.
#
#     tools/demo.sh WEIR        the command to talk with
#
# Talks with the model inside weir.  A weir built without one gets a tiny model made on the spot,
# whose weights are random.
#
# SPDX-License-Identifier: MIT
weir=${1:?usage: tools/demo.sh WEIR}
root=$(cd "$(dirname "$0")/.." && pwd)
window=256

if "$weir" info --quiet >/dev/null 2>&1; then
    model=
    echo "This is the model inside weir."
else
    window=128
    model=$(dirname "$weir")/demo-model
    python3 "$root/tools/make_demo_model.py" "$model" || exit 1
    echo "No model is built into this weir.  This one was made just now: its weights are RANDOM, so"
    echo "it says words in no order.  weir chat MODEL talks with a real one."
fi
echo "Its window is $window tokens, and it will never be full: the system prompt stays, the oldest"
echo "turn leaves.  The line under each reply says how much has gone."
echo
"$weir" chat ${model:+"$model"} --script "$root/examples/questions.txt" --window $window \
    --max-sinks 64 --tokens 200 --evict turn --seed 7 \
    --system "You are a friendly guide. Answer briefly." || exit 1
[ -z "$model" ] || exit 0

echo
echo "And a story that goes on past its window of $window tokens, for as long as anybody listens"
echo "(800 tokens here).  Four tokens stay; from the oldest end, one leaves for each that comes."
echo
start="Once upon a time, there was a little boat on a wide river."
printf '%s' "$start"
"$weir" generate -p "$start" --tokens 800 --ignore-eos --window $window --temp 0.6 --seed 11
