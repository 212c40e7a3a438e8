# The agent's image. Two stages from one base: nothing of the build stays in the result.
#
#   docker build -t ocisync .
#   buildah build --build-arg BASE=localhost/base -t ocisync .
#
# BASE is any Debian with or without Python ≥ 3.11. PIP_OPTIONS lets a build run without a network
# (`--no-index --find-links=/wheels`, with a directory of wheels mounted there).
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
ARG PIP_OPTIONS=""
RUN command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates)
COPY locks/runtime.txt /build/locks/runtime.txt
RUN python3 -m venv /opt/ocisync \
    && /opt/ocisync/bin/pip install --no-cache-dir --disable-pip-version-check ${PIP_OPTIONS} \
       --require-hashes --no-deps -r /build/locks/runtime.txt
COPY pyproject.toml README.md LICENSE /build/
COPY ocisync /build/ocisync
# Modules are compiled here: the root file system is read-only where it runs. What only builds is taken out.
RUN /opt/ocisync/bin/pip install --no-cache-dir --disable-pip-version-check ${PIP_OPTIONS} --no-deps /build \
    && /opt/ocisync/bin/pip uninstall -y pip >/dev/null \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/ocisync

FROM ${BASE}
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 ca-certificates && rm -rf /var/lib/apt/lists/*)
COPY --from=build /opt/ocisync /opt/ocisync
RUN mkdir -p /var/cache/ocisync && chown 65532:65532 /var/cache/ocisync
ENV PATH=/opt/ocisync/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER 65532:65532
VOLUME ["/var/cache/ocisync"]
EXPOSE 8080
ENTRYPOINT ["/opt/ocisync/bin/ocisync"]
CMD ["agent", "--cache-dir", "/var/cache/ocisync", "--http-address", ":8080"]
LABEL org.opencontainers.image.title="ocisync" \
      org.opencontainers.image.description="GitOps over OCI registries" \
      org.opencontainers.image.licenses="Apache-2.0"
