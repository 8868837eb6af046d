#!/usr/bin/env bash
# Records docs/images/demo.svg, what the demo prints, for the README.
# freeze: go install github.com/charmbracelet/freeze@v0.2.2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
text=$(mktemp)
trap 'rm -f "$text"' EXIT
{
	echo '$ go run ./cmd/worker demo --requests 14'
	go run ./cmd/worker demo --requests 14 --seed 1 </dev/null | sed -E 's/^(.{139}).+$/\1…/'
} >"$text"
freeze "$text" --output docs/images/demo.svg --language text --font.family monospace --font.size 13 --window --padding 16 </dev/null
