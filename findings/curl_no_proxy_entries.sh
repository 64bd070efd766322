#!/usr/bin/env bash
# NO_PROXY has no specification; what curl does is what most take it for.
# Guess: an entry with a port exempts that port, `*` exempts everything wherever it stands, `*.test` a domain, and
# `0.0.0.0/0` every address.
# Seen, libcurl 8.23.0 (pycurl 7.49.0; curl 7.88.1 does the same): each of these is passed over without a word, and the proxy
# is asked. A blank between entries, which 7.88.1 takes for a comma, makes the later ones unknown in 8.23.0.
# This library exempts what either release exempts, and these too: who writes them wants no proxy to be asked.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pycurl==7.49.0

cat > finding.py <<'P'
import io, os, pycurl, socket, threading

def place():
    listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
    seen = []
    def serve():
        while True:
            stream, _ = listener.accept(); seen.append(1); stream.recv(4096)
            stream.sendall(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"); stream.close()
    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], seen

for name in list(os.environ):
    if name.lower().endswith("_proxy"): del os.environ[name]
(port, proxied), (receiver, _) = place(), place()
os.environ["http_proxy"] = f"http://127.0.0.1:{port}"

def asks_proxy(entries, host):
    os.environ["no_proxy"] = entries
    proxied.clear()
    request = pycurl.Curl()
    request.setopt(pycurl.URL, f"http://{host}:4318/"); request.setopt(pycurl.TIMEOUT, 10)
    request.setopt(pycurl.CONNECT_TO, [f"::127.0.0.1:{receiver}"]); request.setopt(pycurl.WRITEDATA, io.BytesIO())
    try: request.perform()
    except pycurl.error: pass
    return bool(proxied)

print(pycurl.version)
seen = {}
for entries, host in [("collector.test", "collector.test"), ("10.0.0.0/8", "10.1.2.3"), ("2001:db8::/32", "[2001:db8::1]"),
                      ("collector.test:4318", "collector.test"), ("a.test,*", "collector.test"), ("*.test", "collector.test"),
                      ("0.0.0.0/0", "10.1.2.3"), ("[2001:db8::1]", "[2001:db8::1]"), ("a.test collector.test", "collector.test")]:
    seen[entries] = asks_proxy(entries, host)
    print(f"NO_PROXY={entries!r}, {host}: {'by proxy' if seen[entries] else 'direct'}")
assert not any(list(seen.values())[:3]) and all(list(seen.values())[3:]), "no longer so"
P
venv/bin/python finding.py
