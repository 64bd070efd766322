"""Decodes an OTLP trace request with Google's protobuf classes and prints it, for `interop.rs` to compare.

Reads the body of one request from stdin; the argument is its Content-Encoding. Prints one line of JSON for each
span, together with its resource and scope, and at last the size of the message as it came and as these classes
write it. Unknown fields, repeated keys, attributes without a value, and what reads differently when it is written
again make it fail.
"""

import gzip
import json
import struct
import sys

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def any_value(value):
    kind = value.WhichOneof("value")
    if kind is None:
        return {"empty": True}
    inner = getattr(value, kind)
    if kind == "array_value":
        return {"array": [any_value(element) for element in inner.values]}
    if kind == "kvlist_value":
        return {"map": attributes(inner.values)}
    # Integers and floats as text: JSON readers and writers round them.
    plain = {
        "string_value": lambda: {"string": inner},
        "bool_value": lambda: {"bool": inner},
        "int_value": lambda: {"int": str(inner)},
        "double_value": lambda: {"double": struct.pack(">d", inner).hex()},
        "bytes_value": lambda: {"bytes": inner.hex()},
    }
    return plain[kind]()


def attributes(entries):
    assert all(entry.HasField("value") for entry in entries), "an attribute without a value"
    keys = [entry.key for entry in entries]
    assert len(keys) == len(set(keys)), f"keys repeat: {keys}"
    return [[entry.key, any_value(entry.value)] for entry in entries]


def span_line(resource_spans, scope_spans, span):
    return {
        "resource": attributes(resource_spans.resource.attributes),
        "resource_schema_url": resource_spans.schema_url,
        "scope": {
            "name": scope_spans.scope.name,
            "version": scope_spans.scope.version,
            "attributes": attributes(scope_spans.scope.attributes),
            "schema_url": scope_spans.schema_url,
        },
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "trace_state": span.trace_state,
        "parent_span_id": span.parent_span_id.hex(),
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "start": str(span.start_time_unix_nano),
        "end": str(span.end_time_unix_nano),
        "attributes": attributes(span.attributes),
        "events": [
            {"time": str(event.time_unix_nano), "name": event.name, "attributes": attributes(event.attributes)}
            for event in span.events
        ],
        "links": [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "trace_state": link.trace_state,
                "flags": link.flags,
                "attributes": attributes(link.attributes),
            }
            for link in span.links
        ],
        "dropped": [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count],
        "status": [span.status.code, span.status.message],
    }


def check_known(message, path):
    unknown = [field.field_number for field in UnknownFieldSet(message)]
    assert not unknown, f"{path} has unknown fields {unknown}"
    for field, value in message.ListFields():
        for element in [value] if isinstance(value, Message) else value if hasattr(value, "__iter__") else []:
            if isinstance(element, Message):
                check_known(element, f"{path}.{field.name}")


def unzstd(body):
    import zstandard

    # It refuses a frame that does not say how long it is, and passes over what follows the first one.
    plain = zstandard.ZstdDecompressor().decompress(body)
    stream = zstandard.ZstdDecompressor().decompressobj()
    assert stream.decompress(body) == plain and stream.eof and not stream.unused_data, "more than one frame"
    return plain


def checked(kind, body):
    message = kind.FromString(body)
    check_known(message, "request")
    again = kind.FromString(message.SerializeToString())
    # As bytes too, since a message with a NaN in it may equal nothing.
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    return message


def span_lines(request):
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                line = span_line(resource_spans, scope_spans, span)
                yield json.dumps(line, sort_keys=True, separators=(",", ":"))


def main(encoding):
    body = sys.stdin.buffer.read()
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "zstd":
        body = unzstd(body)
    request = checked(ExportTraceServiceRequest, body)
    for line in span_lines(request):
        print(line)
    print(len(body), request.ByteSize())


if __name__ == "__main__":
    main(sys.argv[1])
