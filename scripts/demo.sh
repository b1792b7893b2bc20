#!/bin/sh
# From nothing to a report: a lab sized for this machine, its data, a campaign. Run by `make demo`.
set -eu
lab=${1:-demo}
experiments=${EXPERIMENTS:-24}

if [ ! -f "$lab/autoresearch.toml" ]; then
    autoresearch init "$lab" --lab pretrain
fi
cd "$lab"
autoresearch run --experiments "$experiments"
