# syntax=docker/dockerfile:1
# One image for all roles: `docker run IMAGE api`, `monitor`, `worker`, `migrate`, or nothing for all in one.
#   docker build -t reveille .
#   docker run -p 127.0.0.1:9902:9902 -v reveille:/var/lib/reveille reveille --listen 0.0.0.0:9902 --api-token …

FROM rust:1.95-slim-bookworm AS build
# librdkafka is C and needs make; TLS to Kafka is OpenSSL's.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ make pkg-config libssl-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# In place of what .cargo/config.toml says for those who try it out.
ENV CFLAGS="-g0 -O2"
# Dependencies in a layer of their own: as long as the lock file stays, only our own crates are built again.
COPY Cargo.toml Cargo.lock ./
COPY api/Cargo.toml api/
COPY monitor/Cargo.toml monitor/
COPY shared/Cargo.toml shared/
COPY worker/Cargo.toml worker/
COPY tests/bench/Cargo.toml tests/bench/
COPY tests/kit/Cargo.toml tests/kit/
RUN mkdir -p src api/src monitor/src shared/src worker/src tests/bench/src tests/kit/src tests/it \
 && echo 'fn main() {}' | tee src/main.rs tests/it/main.rs >/dev/null \
 && touch api/src/lib.rs monitor/src/lib.rs shared/src/lib.rs worker/src/lib.rs tests/bench/src/lib.rs tests/kit/src/lib.rs \
 && cargo build --profile image --locked --features kafka-tls
COPY . .
# The time of a copied file may lie before the build of the empty ones above.
RUN find . -name '*.rs' -exec touch {} + \
 && cargo build --profile image --locked --features kafka-tls \
 && mkdir -p /out/var/lib/reveille \
 && cp target/image/reveille /out/

# glibc, libgcc, libssl and certificate authorities; no shell, no package manager, not root.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/reveille /usr/local/bin/reveille
COPY --from=build --chown=65532:65532 /out/var/lib/reveille /var/lib/reveille
ENV REVEILLE_DATA_DIR=/var/lib/reveille
WORKDIR /var/lib/reveille
VOLUME /var/lib/reveille
EXPOSE 9902 9903
# SIGTERM drains.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/reveille"]
