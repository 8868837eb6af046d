#!/usr/bin/env bash
# Makes the files of a release: an archive for each platform, checksums, the list of
# what is linked (SBOM, CycloneDX), what is known of its vulnerabilities (OpenVEX) and
# the licenses. Two runs on one commit make the same bytes.
#
#   deploy/release.sh v0.1.0             into dist/v0.1.0
#   deploy/release.sh v0.1.0 /some/dir
#   PLATFORMS=linux/amd64 deploy/release.sh v0.1.0   this platform only
#   RELEASE_TOOLS=DIR deploy/release.sh v0.1.0       keeps the tools that it builds there
#
# Needs Go, git, GNU tar and sha256sum, and a clone without changes (the tool of the
# SBOM does not read a linked worktree). The image is
# made by: docker build --build-arg VERSION=v0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/versions
export GOTOOLCHAIN=$go_toolchain GOFLAGS= LC_ALL=C

version=${1:-}
if ! [[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]]; then
	echo "usage: deploy/release.sh v1.2.3 [FOLDER]: \"$version\" is no version" >&2
	exit 2
fi
if [[ -n $(git status --porcelain) ]]; then
	git status --short >&2
	echo "the checkout has changes, so nobody could build this release again: commit or remove them" >&2
	exit 1
fi
out=${2:-dist/$version}
mkdir -p "$out"
out=$(cd "$out" && pwd)
if [[ -n $(ls -A "$out") ]]; then
	echo "$out is not empty: name another folder, or remove it" >&2
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
time=$(git log -1 --format=%ct)

# tool PACKAGE VERSION prints the path of a tool, which it builds for this machine.
tool() {
	local dir=${RELEASE_TOOLS:-$work}/${1##*/}-$2
	if ! [[ -x $dir/${1##*/} ]]; then
		GOBIN=$dir go install "$1@$2"
	fi
	echo "$dir/${1##*/}"
}

go -C internal/tools/licenses run . -root ../../.. -o "$work/THIRD_PARTY_LICENSES"
for platform in ${PLATFORMS:-linux/amd64 linux/arm64 darwin/arm64}; do
	name=vpcep-approver-$version-${platform/\//-}
	mkdir -p "$work/$name"
	CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/} go build -trimpath -buildvcs=true -tags=timetzdata \
		-ldflags="-s -w -X=github.com/vpcep-approver/vpcep-approver/internal/cli.releaseVersion=$version" \
		-o "$work/$name/vpcep-approver" ./cmd/worker
	git archive HEAD LICENSE README.md CHANGELOG.md SECURITY.md docs deploy policies | tar -x -C "$work/$name"
	cp "$work/THIRD_PARTY_LICENSES" "$work/$name/"
	tar -C "$work" --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r,go-w -cf - "$name" |
		gzip -n -9 >"$out/$name.tar.gz"
done

sbom=$(tool github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod "$cyclonedx_version")
"$sbom" app -json -licenses -noserial -notimestamp -main cmd/worker -output "$out/sbom.cdx.json" . 2>"$work/sbom.log" || {
	cat "$work/sbom.log" >&2
	exit 1
}

go mod download "golang.org/x/vulndb@$vulndb_version"
db=$(go mod download -json "golang.org/x/vulndb@$vulndb_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/data/osv
vex=$(tool golang.org/x/vuln/cmd/govulncheck "$govulncheck_version")
"$vex" -db "file://$db" -format openvex -tags=timetzdata ./cmd/worker >"$work/vex.json"
# Its time is that of the commit, or no two runs were the same.
sed "s/Unknown Author/vpcep-approver/; s/\"timestamp\": \"[^\"]*\"/\"timestamp\": \"$(TZ=UTC date -d "@$time" +%Y-%m-%dT%H:%M:%SZ)\"/" "$work/vex.json" >"$out/openvex.json"

cp "$work/THIRD_PARTY_LICENSES" "$out/"
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
ls -l "$out"
