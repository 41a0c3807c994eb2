# An engine that is one program which is already built on this machine, for its native start. `make images` takes it
# instead of cmake.Dockerfile where this machine has the Debian release of the base image, so the same compiler and
# libraries: it copies the program beside this file and adds the engine's environment and entry point at the end.
ARG BASE=debian:bookworm-slim

FROM ${BASE}
# curl is for the health check; the others are the libraries that a program built by gcc loads.
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends libstdc++6 libgomp1 curl >/dev/null \
    && rm -rf /var/lib/apt/lists/*
ARG PROGRAM
COPY program ${PROGRAM}
