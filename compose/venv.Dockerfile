# An engine that pip installs. `make images` builds the image: it collects everything that pip needs in wheels/, so that
# the build needs no package index, and adds the engine's environment and entry point at the end.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends python3 python3-venv >/dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY wheels /wheels
# --no-deps: pip has already resolved these versions; resolving again could only give others.
RUN python3 -m venv /engine \
    && /engine/bin/python -m pip install --quiet --no-index --no-deps --disable-pip-version-check /wheels/*.whl

FROM ${BASE}
# curl is for the health check. Engines compile kernels when they start (PyTorch: g++ against Python's headers, and openssl
# to hash them) and bind memory to cores by libnuma, which no wheel brings.
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends python3 python3-dev g++ openssl libnuma1 curl >/dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /engine /engine
