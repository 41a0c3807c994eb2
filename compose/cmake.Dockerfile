# An engine that is one program, built with CMake and linked with its own libraries. `make images` builds the image: it
# fetches source.tar.gz, checks its hash, fills in the arguments and adds the engine's environment and entry point at
# the end. The compiler uses this machine's processor instructions: the image is for machines like this one.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends cmake make g++ >/dev/null \
    && rm -rf /var/lib/apt/lists/*
ADD source.tar.gz /archive/
# Folder of the archive with CMakeLists.txt; what to build; more words for CMake; where the program then is.
ARG SOURCE
ARG TARGET
ARG OPTIONS
ARG PROGRAM
RUN cmake -S /archive/*/"${SOURCE}" -B /engine/build -DCMAKE_BUILD_TYPE=Release ${OPTIONS} \
    && cmake --build /engine/build --target "${TARGET}" --parallel "$(nproc)" \
    && strip "${PROGRAM}"

FROM ${BASE}
# curl is for the health check; the others are the libraries that a program built by gcc loads.
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends libstdc++6 libgomp1 curl >/dev/null \
    && rm -rf /var/lib/apt/lists/*
ARG PROGRAM
COPY --from=build ${PROGRAM} ${PROGRAM}
