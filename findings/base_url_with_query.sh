#!/usr/bin/env bash
# OTEL_EXPORTER_OTLP_ENDPOINT is a base URL to which the path of the signal is appended. One with a query is valid
# (some receivers take a key there).
# Guess: `/v1/traces` goes behind the path, before the query.
# Seen, opentelemetry-exporter-otlp-proto-http 1.45.2 (Python) and exporter-trace-otlp-proto 0.223.1 (JavaScript): it goes
# behind the whole text. The receiver is asked for `/otlp` with the query `key=1/v1/traces`: another path, and another key.
# This library appends to the path and keeps the query as it is.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
npm install --silent --no-fund --no-audit @opentelemetry/exporter-trace-otlp-proto@0.223.1 @opentelemetry/sdk-trace-base@2.12.1 >/dev/null

cat > receiver.py <<'P'
import http.server, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while (size := int(self.rfile.readline(), 16)):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("content-length", 0)))
        print(self.path, flush=True)
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, file=open("port.new", "w")); __import__("os").rename("port.new", "port")
server.serve_forever()
P
python3 receiver.py > seen & receiver=$!
trap 'kill "$receiver" 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 100); do [ -f port ] && break; sleep 0.1; done
export OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:$(cat port)/otlp?key=1"

venv/bin/python - <<'P'
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
provider = TracerProvider(); provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
provider.get_tracer("finding").start_span("span").end()
P
node - <<'J'
const { BasicTracerProvider, SimpleSpanProcessor } = require("@opentelemetry/sdk-trace-base");
const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-proto");
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new OTLPTraceExporter())] });
provider.getTracer("finding").startSpan("span").end();
provider.shutdown();
J
cat seen
[ "$(cat seen)" = $'/otlp?key=1/v1/traces\n/otlp?key=1/v1/traces' ] && echo "as it was found"
