# The bot as a Forta scan node runs it: `docker build --platform linux/amd64 -t BOT .`
# docs/container.md explains the choices; `npm run image:check` builds the image and tries it.
#
# Tags are pinned to a version. To pin the very bytes, append the digest that
# `docker buildx imagetools inspect TAG` prints: TAG@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.12.12-slim-bookworm
ARG NODE_IMAGE=docker.io/library/node:20.20.2-bookworm-slim


FROM ${NODE_IMAGE} AS node

WORKDIR /app
COPY .npmrc package.json package-lock.json ./
# No install script runs: what the CLI uses has a JavaScript or a prebuilt form. Then out goes what
# only browsers, bundlers, debuggers and compilers read.
RUN npm ci --omit=dev --ignore-scripts \
    && find node_modules -type f \( -name '*.map' -o -name '*.d.ts' \) -delete \
    && rm -rf node_modules/ethers/dist node_modules/protobufjs/cli node_modules/protobufjs/dist \
        node_modules/@types


FROM ${PYTHON_IMAGE} AS base

# NODE_ENV: the scan node does not set it, and without it the CLI looks for a local configuration.
# NUMBA_*: kernels are compiled once, below, for the processors that numpy asks for as well (any
#   x86-64 since 2009), and found by every start on any of them: see src/detection/kernel_cache.py.
# *_NUM_THREADS, MALLOC_ARENA_MAX: a fifth of a processor has no use for a thread and an arena a core.
ENV PATH=/opt/venv/bin:/app/node_modules/.bin:$PATH \
    HOME=/tmp \
    NODE_ENV=production \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CPU_NAME=x86-64-v2 \
    NUMBA_CPU_FEATURES=+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16 \
    NUMBA_NUM_THREADS=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=2
WORKDIR /app


FROM base AS build

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.* binutils \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt ./
# Tests, type stubs and headers of the packages go: 70 MB; then names that only a debugger reads: 19 MB
# of LLVM, 13 of Node. Bytecode is compiled here, for good: nothing can write it later.
RUN python3 -m venv /opt/venv \
    && pip install --no-cache-dir --no-compile --no-deps --require-hashes -r requirements.txt \
    && pip uninstall --yes pip setuptools \
    && find /opt/venv -type d \( -name tests -o -name test -o -name SelfTest \) -prune \
        -exec rm -rf {} + \
    && find /opt/venv -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' \) \
        -delete \
    && find /opt/venv -name libllvmlite.so -exec strip --strip-unneeded {} + \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv
COPY --from=node /usr/local/bin/node /usr/local/bin/node
RUN strip --strip-unneeded /usr/local/bin/node && node --version
# With their signatures (*.sig), where there are any: SECURITY.md.
COPY package.json policy.yaml* isolation_forest.pkl isolation_forest.manifest.json* \
    attack_model.npz attack_model.manifest.json* ./
COPY src ./src
# What only the service runs stays out. Compiles the kernels, and fails here rather than on the scan
# node when the bot cannot be imported.
RUN rm -r src/service src/training src/registry src/datasets src/reports src/history \
    && python3 -m compileall -q --invalidation-mode unchecked-hash src \
    && python3 -m src.detection.precompile \
    && python3 -c 'import src.agent' \
    && chmod -R a+rX,go-w /app /opt/venv


# The analysis service (docs/deploy.md): `docker build --target service .`
FROM base AS service-build

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY requirements/service.txt ./requirements/
RUN python3 -m venv /opt/venv \
    && pip install --no-cache-dir --no-compile --no-deps --require-hashes \
        -r requirements/service.txt \
    && pip uninstall --yes pip setuptools \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv
COPY package.json policy.yaml* isolation_forest.pkl isolation_forest.manifest.json* \
    attack_model.npz attack_model.manifest.json* drift_reference.json ./
COPY docs/model/evaluation.json ./docs/model/
COPY src ./src
RUN python3 -m compileall -q --invalidation-mode unchecked-hash src \
    && python3 -m src.detection.precompile \
    && python3 -c 'import src.service.app, src.service.watch.__main__' \
    && chmod -R a+rX,go-w /app /opt/venv \
    && mkdir /data


FROM base AS service

COPY --from=build /usr/bin/tini /usr/bin/tini
COPY --from=service-build /opt/venv /opt/venv
COPY --from=service-build /app ./
COPY --from=service-build --chown=10001:10001 /data /data

USER 10001:10001
# SQLite in a volume, or PostgreSQL by DATABASE_URL. A new volume takes the folder's owner.
ENV DATABASE_URL=sqlite:////data/service.db
VOLUME /data
EXPOSE 8080

HEALTHCHECK --interval=30s --timeout=5s --start-period=2m CMD \
    ["python3", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"SERVICE_PORT\") or 8080}/healthz', timeout=4)"]

ENTRYPOINT ["tini", "-g", "--"]
CMD ["python3", "-m", "src.service", "--host", "0.0.0.0"]


# The bot on Forta's second SDK (docs/forta.md): `docker build --target v2 .`
FROM build AS v2-build

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY requirements/v2.txt ./requirements/
RUN /usr/local/bin/python3 -m venv --clear /opt/venv \
    && pip install --no-cache-dir --no-compile --no-deps --require-hashes -r requirements/v2.txt \
    && pip uninstall --yes pip setuptools \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv \
    && python3 -m src.detection.precompile \
    && python3 -c 'import src.agent_v2' \
    && chmod -R a+rX,go-w /app /opt/venv


FROM base AS v2

LABEL network.forta.settings.agent-logs.enable="true"

COPY --from=build /usr/bin/tini /usr/bin/tini
COPY --from=v2-build /opt/venv /opt/venv
COPY --from=v2-build /app ./

USER 10001:10001
ENV CACHE_DIR=/tmp/facts
EXPOSE 3000

HEALTHCHECK --interval=1m --timeout=10s --start-period=3m CMD \
    ["python3", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"FORTA_HEALTH_CHECK_PORT\") or 3000}/health', timeout=9)"]

ENTRYPOINT ["tini", "-g", "--"]
CMD ["python3", "-m", "src.agent_v2"]


FROM base

LABEL network.forta.settings.agent-logs.enable="true"

COPY --from=build /usr/bin/tini /usr/bin/tini
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=node /app/node_modules ./node_modules
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app ./
COPY scripts/end_with_python.cjs ./scripts/

# Nobody in particular: the bot owns and writes nothing but its temporary files.
USER 10001:10001
# NODE_OPTIONS: the CLI would outlive a Python child that the kernel killed, and answer nothing.
ENV CACHE_DIR=/tmp/facts \
    NODE_OPTIONS=--require=/app/scripts/end_with_python.cjs
EXPOSE 50051

# Cheap, and without a question to the bot: the CLI serves one health check at a time and exits when
# two overlap, and the scan node asks its own.
HEALTHCHECK --interval=1m --timeout=10s --start-period=3m CMD \
    ["bash", "-c", ": < /dev/tcp/127.0.0.1/${AGENT_GRPC_PORT:-50051} && grep -qsx python3 /proc/[0-9]*/comm"]

# As process 1, Node would ignore SIGTERM. tini hands it on, to the Python child as well (-g).
ENTRYPOINT ["tini", "-g", "--"]
CMD ["forta-agent", "run", "--prod"]
