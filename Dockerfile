# syntax=docker/dockerfile:1

# Builds the program. The caches keep dependencies between builds.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin backstitch \
    && cp target/dist/backstitch /usr/local/bin/backstitch
# An empty directory with the right owner: a volume takes both over.
RUN mkdir -p /empty/var/lib/backstitch

# What runs: the program, root certificates, no shell, no package manager, nobody's root.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/backstitch /usr/local/bin/backstitch
COPY --from=build --chown=65532:65532 /empty/var/lib/backstitch /var/lib/backstitch
USER 65532:65532
WORKDIR /etc/backstitch
ENV BACKSTITCH_DATA=/var/lib/backstitch
VOLUME /var/lib/backstitch
EXPOSE 7070
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s CMD ["/usr/local/bin/backstitch", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/backstitch"]
CMD ["serve"]
