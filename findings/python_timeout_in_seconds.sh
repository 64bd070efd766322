#!/usr/bin/env bash
# OTEL_EXPORTER_OTLP_TIMEOUT is in milliseconds in the specification and in this library.
# Guess: the Python exporter reads milliseconds too, since it has been stable for years.
# Seen, opentelemetry-exporter-otlp-proto-http 1.45.2: it reads seconds. With the default that the specification writes down,
# 10000, a program in Python waits for close to three hours where the one that started it waits for ten seconds.
# Here with 2, at a receiver that takes connections and never answers: 2 s, not 2 ms.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
venv/bin/python - <<'P'
import logging, os, socket, time
logging.disable(logging.CRITICAL)
silent = socket.socket(); silent.bind(("127.0.0.1", 0)); silent.listen()
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:%d" % silent.getsockname()[1]
os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "2"
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
provider = TracerProvider(); provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
began = time.monotonic()
provider.get_tracer("finding").start_span("span").end()
took = time.monotonic() - began
print("OTEL_EXPORTER_OTLP_TIMEOUT=2 took %.1f s" % took)
assert 1.5 < took < 6
print("as it was found")
P
