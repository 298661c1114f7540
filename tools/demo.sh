#!/bin/sh
# demo.sh - a scripted conversation and a story, each several windows long, with the line that says
# what has gone.
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
    --max-sinks 64 --tokens 120 --evict turn --seed 7 \
    --system "You are a friendly guide. Answer briefly." || exit 1

[ -z "$model" ] || exit 0
echo
echo "And a story that never has to end, through the same $window tokens: this one is stopped after"
echo "1200.  (weir generate --file examples/story.txt --ignore-eos -n -1 goes on until Ctrl-C.)"
echo
exec "$weir" generate --file "$root/examples/story.txt" --echo -n 1200 --ignore-eos \
    --window $window --seed 7 --temp 0.9 --repeat-penalty 1.1 --penalty-last 256
