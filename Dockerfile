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
RUN python3 -c 'import ensurepip, venv' 2>/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates)
# pip and setuptools live in an environment of their own: the one that is copied never has them.
COPY locks/build.txt locks/runtime.txt /build/locks/
RUN python3 -m venv /build/tools && python3 -m venv --without-pip /opt/ocisync \
    && /build/tools/bin/pip install --no-cache-dir --disable-pip-version-check ${PIP_OPTIONS} \
       --require-hashes -r /build/locks/build.txt \
    && /build/tools/bin/pip --python /opt/ocisync/bin/python install --no-cache-dir --disable-pip-version-check \
       --no-compile ${PIP_OPTIONS} --require-hashes --no-deps --only-binary=:all: -r /build/locks/runtime.txt
COPY pyproject.toml README.md LICENSE /build/
COPY ocisync /build/ocisync
RUN /build/tools/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-index --no-build-isolation --no-deps \
       --wheel-dir /build/dist /build \
    && /build/tools/bin/pip --python /opt/ocisync/bin/python install --no-cache-dir --disable-pip-version-check \
       --no-compile --no-index --no-deps /build/dist/*.whl
# The Kubernetes package has a second copy of itself for asyncio, which nothing here imports: it goes, with the
# HTTP client that only it uses, and so does what only the CEL library's own command line uses. The thousand classes of
# the Kubernetes package, loaded one by one when asked, stay as sources. Everything else is compiled, since the root
# file system is read-only where it runs. Unchecked: no stat of the sources.
RUN cd /opt/ocisync/lib/python3*/site-packages \
    && /build/tools/bin/pip --python /opt/ocisync/bin/python uninstall -q -y --disable-pip-version-check \
       aiohttp aiohttp-retry aiohappyeyeballs aiosignal frozenlist multidict propcache yarl \
       typer shellingham annotated-doc prompt-toolkit wcwidth \
    && rm -rf kubernetes/aio && find . -type d -name tests -prune -exec rm -r {} + \
    && find /opt/ocisync/bin -type f ! -name ocisync -delete \
    && python3 -m compileall -q -x '/kubernetes/client/(api|models)/' --invalidation-mode unchecked-hash .

FROM ${BASE}
# Python if the base has none, and no installer if it has one: nothing is ever installed into a running agent.
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 ca-certificates && rm -rf /var/lib/apt/lists/*)
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip* \
       /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip /usr/share/python-wheels
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
