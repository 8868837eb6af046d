# The worker alone: a static binary, CA roots and time zones, nothing else.
#
#   docker build -t vpcep-approver .
#   docker run --read-only -v "$PWD/worker.yaml:/etc/vpcep-approver/worker.yaml:ro" \
#     -v "$PWD/policies:/etc/vpcep-approver/policies:ro" --env-file credentials.env vpcep-approver
#
# Any image with Go in its PATH and CA roots can build it; it needs no shell.
ARG BUILDER=golang:1.26.10
FROM ${BUILDER} AS build

ENV CGO_ENABLED=0 GOTOOLCHAIN=local
# Two empty folders for the final image, which has no mkdir.
WORKDIR /out/empty
WORKDIR /src
COPY go.mod go.sum ./
RUN ["go", "mod", "download"]
COPY . .
ARG VERSION=dev
# Exec form does not expand variables, so the version goes in by GOFLAGS.
ENV GOFLAGS="-trimpath -buildvcs=false -tags=timetzdata '-ldflags=-s -w -X=github.com/vpcep-approver/vpcep-approver/internal/cli.releaseVersion=${VERSION}'"
RUN ["go", "build", "-o", "/out/worker", "./cmd/worker"]
RUN ["go", "-C", "internal/tools/licenses", "run", ".", "-root", "/src", "-o", "/out/THIRD_PARTY_LICENSES"]

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Writable by the worker where the root is not read-only or a volume is mounted:
# /tmp is for `worker demo`, /data for `nats.url: embedded`.
COPY --from=build --chown=65532:65532 /out/empty /tmp
COPY --from=build --chown=65532:65532 /out/empty /data
COPY --from=build /out/worker /worker
COPY --from=build /out/THIRD_PARTY_LICENSES /THIRD_PARTY_LICENSES
COPY LICENSE /LICENSE

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vpcep-approver" \
      org.opencontainers.image.description="Approves VPC endpoint connections on Huawei Cloud by allow-lists, on verified facts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 65532:65532
# worker.yaml and policies/ are looked for here.
WORKDIR /etc/vpcep-approver
ENV APPROVER_HTTP_LISTEN=:9090 APPROVER_HTTP_PROBES=:9091 APPROVER_NATS_DATA_DIR=/data
EXPOSE 9090 9091
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/worker", "healthcheck"]
ENTRYPOINT ["/worker"]
CMD ["run"]
