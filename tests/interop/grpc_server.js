// A receiver of OTLP over gRPC made of grpc-js, for `peers.sh`: prints its port, and for each call a line of JSON with the
// bytes of the message and the number of spans. The first argument is a list of statuses for the first calls, the second
// has options of the server.
const grpc = require('@grpc/grpc-js');

// The length-delimited fields with this number.
function* fields(message, number) {
  let at = 0;
  const varint = () => {
    let [value, shift, byte] = [0, 1, 128];
    while (byte >= 128) {
      byte = message[at++];
      value += (byte & 127) * shift;
      shift *= 128;
    }
    return value;
  };
  while (at < message.length) {
    const tag = varint();
    switch (tag & 7) {
      case 0: varint(); break;
      case 1: at += 8; break;
      case 5: at += 4; break;
      case 2: {
        const length = varint();
        if (tag >> 3 === number) yield message.subarray(at, at + length);
        at += length;
        break;
      }
      default: throw new Error(`wire type ${tag & 7}`);
    }
  }
}

function spans(request) {
  let count = 0;
  for (const resource of fields(request, 1)) {
    for (const scope of fields(resource, 2)) count += [...fields(scope, 2)].length;
  }
  return count;
}

const statuses = JSON.parse(process.argv[2] ?? '[]');
const server = new grpc.Server(JSON.parse(process.argv[3] ?? '{}'));
const asIs = (bytes) => bytes;
const service = {
  Export: {
    path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  },
};
server.addService(service, {
  Export(call, callback) {
    const code = statuses.shift() ?? 0;
    console.log('call ' + JSON.stringify({ bytes: call.request.length, code, spans: spans(call.request) }));
    if (code !== 0) callback({ code, details: 'as the script says' });
    else callback(null, Buffer.alloc(0));
  },
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
