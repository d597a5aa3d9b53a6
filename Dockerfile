# Magpie in a container: the binary, the certificates, nothing else.
#
#   docker build -t magpie .
#   docker run --rm -p 127.0.0.1:8000:8000 -e MAGPIE_OPEN=true -e XINGHE_API_KEY magpie

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked -p magpie && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/dist/magpie /usr/local/bin/magpie
# What lasts: keys, journal, ledger. Mount a volume here.
COPY --from=build --chown=nonroot:nonroot /data /var/lib/magpie
ENV MAGPIE_DATA=/var/lib/magpie
VOLUME /var/lib/magpie

# A container's own loopback reaches nobody, so it listens on all addresses. Magpie refuses to do
# that until there is a key (`docker run ... magpie keys new NAME` on the same volume), or until
# MAGPIE_OPEN=true says that everyone who reaches the port may use your keys. This image does not say
# it for you: whoever does should publish the port on 127.0.0.1.
ENV MAGPIE_LISTEN=0.0.0.0:8000
EXPOSE 8000

# No HEALTHCHECK: there is no shell or curl in here to run one. Let the orchestrator ask
# GET /health/live (alive) and GET /health/ready (503 while it is stopping).

ENTRYPOINT ["/usr/local/bin/magpie"]
