"""Makes calls of the TraceService with grpcio, all at once over one connection, for `interop.rs`.

Arguments: the port, how many calls, and the bytes of an attribute of each span. Every second call is compressed. Prints
the number of those that were answered well.
"""

import sys

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

port, calls, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def request(number):
    text = KeyValue(key="text", value=AnyValue(string_value="x" * size))
    ids = {"trace_id": number.to_bytes(16, "big"), "span_id": number.to_bytes(8, "big")}
    span = Span(name="call", kind=1, start_time_unix_nano=1, end_time_unix_nano=2, attributes=[text], **ids)
    return service.ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])


with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    export = channel.unary_unary(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        request_serializer=service.ExportTraceServiceRequest.SerializeToString,
        response_deserializer=service.ExportTraceServiceResponse.FromString,
    )
    coding = [grpc.Compression.NoCompression, grpc.Compression.Gzip]
    begun = [export.future(request(n), timeout=60, compression=coding[n % 2]) for n in range(1, calls + 1)]
    print(sum(call.exception() is None for call in begun))
