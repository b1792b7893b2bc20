#!/bin/sh
# Install coding agents for tests/cli/test_real_agents.py into a folder of their own; what is there already is left alone.
#   sh scripts/install_agents.sh [claude] [codex] [gemini] [opencode]      without names: claude codex
# Claude Code and Codex take 640 MB and 13 s on a fast line; nothing is installed globally and no account is touched.
set -eu
folder="${AUTORESEARCH_AGENTS:-$HOME/.cache/autoresearch-agents}"
[ $# -gt 0 ] || set -- claude codex
packages=""
for name in "$@"; do
    case "$name" in
        claude) package=@anthropic-ai/claude-code ;;
        codex) package=@openai/codex ;;
        gemini) package=@google/gemini-cli ;;
        opencode) package=opencode-ai ;;
        *) echo "install_agents.sh: $name is none of claude, codex, gemini, opencode" >&2; exit 2 ;;
    esac
    [ -e "$folder/node_modules/.bin/$name" ] || packages="$packages $package"
done
[ -n "$packages" ] || exit 0
command -v npm >/dev/null || { echo "install_agents.sh: npm is not installed: install Node.js 20 or newer" >&2; exit 3; }
mkdir -p "$folder"
# shellcheck disable=SC2086 - a list of packages
npm install --prefix "$folder" --no-audit --no-fund --loglevel=error $packages
