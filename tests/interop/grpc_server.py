"""A receiver of OTLP over gRPC made of grpcio and Google's protobuf classes, for `interop.rs` and `peers.sh`.

Prints its port, and for each call one line of JSON: the method, milliseconds since some time, the status it was
answered with, the bytes of the message, what was sent along, and the number of spans and metrics. With `--spans` the
spans come before it, each as `decode.py` prints it. Ends with its stdin.
"""

import argparse
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

from decode import checked, span_lines

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


def status_of(answer):
    """The status that `abort_with_status` takes, with a pause to keep if one is asked for."""
    from google.protobuf.any_pb2 import Any
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status
    from grpc_status import rpc_status

    status = Status(code=answer["code"], message=answer.get("message", ""))
    if "pause_ms" in answer:
        info = RetryInfo()
        info.retry_delay.FromMilliseconds(answer["pause_ms"])
        detail = Any()
        detail.Pack(info)
        status.details.append(detail)
    return rpc_status.to_status(status)


class Receiver(grpc.GenericRpcHandler):
    def __init__(self, answers, prints_spans, delay):
        self.answers = answers
        self.prints_spans = prints_spans
        self.delay = delay
        self.lock = threading.Lock()

    def service(self, details):
        serve = {TRACES: self.traces, METRICS: self.metrics}.get(details.method)
        return serve and grpc.unary_unary_rpc_method_handler(serve)

    def traces(self, body, context):
        request = checked(trace.ExportTraceServiceRequest, body)
        lines = list(span_lines(request))
        with self.lock:
            answer = self.answers.pop(0) if self.answers else {}
            if self.prints_spans:
                print("\n".join(lines))
            self.tell(TRACES, body, context, answer, spans=len(lines))
        time.sleep(self.delay)
        if answer.get("code", 0) != 0:
            context.abort_with_status(status_of(answer))
        response = trace.ExportTraceServiceResponse()
        if "rejected" in answer:
            response.partial_success.rejected_spans = answer["rejected"]
            response.partial_success.error_message = answer["message"]
        return response.SerializeToString()

    def metrics(self, body, context):
        request = checked(metrics.ExportMetricsServiceRequest, body)
        scopes = (scope for resource in request.resource_metrics for scope in resource.scope_metrics)
        names = [metric.name for scope in scopes for metric in scope.metrics]
        with self.lock:
            self.tell(METRICS, body, context, {}, metrics=names)
        return metrics.ExportMetricsServiceResponse().SerializeToString()

    def tell(self, method, body, context, answer, **what):
        call = {
            "method": method,
            "at": time.monotonic_ns() // 1_000_000,
            "code": answer.get("code", 0),
            "bytes": len(body),
            "metadata": {key: value for key, value in context.invocation_metadata() if isinstance(value, str)},
            "left_ms": int((context.time_remaining() or 0) * 1000),
            **what,
        }
        print("call", json.dumps(call, sort_keys=True, separators=(",", ":")), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answers", type=json.loads, default=[], help="of the first calls; the others succeed")
    parser.add_argument("--delay-ms", type=int, default=0, help="before each answer")
    parser.add_argument("--spans", action="store_true", help="print them")
    parser.add_argument("--gzip", action="store_true", help="compress answers")
    parser.add_argument("--option", nargs=2, action="append", default=[], help="of the server; a number")
    args = parser.parse_args()
    server = grpc.server(
        ThreadPoolExecutor(4),
        handlers=[Receiver(args.answers, args.spans, args.delay_ms / 1000)],
        # One receiver per port, so that a port that is taken is an error.
        options=[("grpc.so_reuseport", 0), *((name, int(value)) for name, value in args.option)],
        compression=grpc.Compression.Gzip if args.gzip else None,
    )
    print(server.add_insecure_port(f"127.0.0.1:{args.port}"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


main()
