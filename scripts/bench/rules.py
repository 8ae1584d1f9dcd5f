"""Implements scripts/bench/rules: fills both servers by remote write, then measures the CPU time of rule rounds."""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

SHARD_SERIES = 500
STEP_SECONDS = 15
HISTORY_SECONDS = 300
BATCH_SERIES = 2000


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def snappy(data):
    """Encodes bytes in Snappy's format with literals only, which is valid but saves no space."""
    out = bytearray(varint(len(data)))
    for start in range(0, len(data), 65536):
        chunk = data[start : start + 65536]
        out += bytes([61 << 2]) + struct.pack("<H", len(chunk) - 1) + chunk
    return bytes(out)


def labels(index):
    """The remote-write labels of a series, and its increase per step."""
    metric, step = ("bench_requests_total", 3 + index % 7) if index % 2 else ("bench_usage_ratio", 0)
    pairs = {
        "__name__": metric,
        "instance": f"node-{index % 97}",
        "job": "bench",
        "namespace": f"ns-{index % 20}",
        "pod": f"pod-{index}",
        "shard": f"s{index // SHARD_SERIES}",
    }
    encoded = b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in sorted(pairs.items()))
    return encoded, step


class Feed:
    """Sends one sample per series and tick, as scrapes would."""

    def __init__(self, address, count):
        self.address = address
        self.known = [labels(n) for n in range(count)]
        self.ticks = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def tick(self, at):
        """Sends one sample of every series."""
        headers = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        time_field = b"\x10" + varint(at * 1000)
        for start in range(0, len(self.known), BATCH_SERIES):
            body = bytearray()
            for index, (encoded, step) in enumerate(self.known[start : start + BATCH_SERIES], start):
                value = float(step * self.ticks * STEP_SECONDS) if step else (index % 100) / 100
                body += field(1, encoded + field(2, b"\x09" + struct.pack("<d", value) + time_field))
            request = urllib.request.Request(f"http://{self.address}/api/v1/write", snappy(body), headers)
            urllib.request.urlopen(request, timeout=60).read()
        self.ticks += 1

    def history(self):
        now = int(time.time())
        self.next = now + STEP_SECONDS
        for at in range(now - HISTORY_SECONDS, now + 1, STEP_SECONDS):
            self.tick(at)

    def run(self):
        while not self.stopped.wait(max(0.0, self.next - time.time())):
            self.tick(self.next)
            self.next += STEP_SECONDS

    def stop(self):
        self.stopped.set()
        self.thread.join()


def rules(count, shards, interval):
    groups = []
    for group in range(0, count, 20):
        items = []
        for n in range(group, min(group + 20, count)):
            shard = f's{n % shards}'
            if n % 2:
                expr = f'sum by (namespace) (rate(bench_requests_total{{shard="{shard}"}}[2m]))'
                items.append({"record": f"bench:requests:rate2m_{n}", "expr": expr})
            else:
                expr = f'bench_usage_ratio{{shard="{shard}"}} > 0.97'
                note = "{{ $labels.pod }} uses {{ $value | humanizePercentage }}"
                items.append({"alert": f"BenchUsage{n}", "expr": expr, "for": "1m", "annotations": {"summary": note}})
        groups.append({"name": f"bench-{group}", "interval": f"{interval}s", "rules": items})
    return json.dumps({"groups": groups})


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, name, work):
        self.name = name
        self.folder = pathlib.Path(work) / name
        self.folder.mkdir(parents=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.rules = self.folder / "rules.yml"
        self.rules.write_text("groups: []\n")
        config = self.folder / "config.yml"
        config.write_text("rule_files: [rules.yml]\n")
        common = [f"--config.file={config}", f"--web.listen-address={self.address}", "--web.enable-lifecycle"]
        if name == "tidemark":
            data = [f"--storage.path={self.folder}/data", "--quic.listen-address=127.0.0.1:0", "--dev"]
            command = [os.environ["TIDEMARK_AGGREGATOR"], *common, *data]
        else:
            data = [f"--storage.tsdb.path={self.folder}/data", "--web.enable-remote-write-receiver"]
            command = [os.environ["PEER_PROMETHEUS"], *common, *data]
        log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=1).read()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{name} does not start: {(self.folder / 'log').read_text()[-2000:]}")

    def reload(self):
        urllib.request.urlopen(urllib.request.Request(f"http://{self.address}/-/reload", b""), timeout=60).read()

    def query(self, expression):
        parameters = urllib.parse.urlencode({"query": expression})
        answer = urllib.request.urlopen(f"http://{self.address}/api/v1/query?{parameters}", timeout=60)
        result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def slowest_group(self):
        answer = urllib.request.urlopen(f"http://{self.address}/api/v1/rules?type=record", timeout=60)
        return max(group["evaluationTime"] for group in json.load(answer)["data"]["groups"])

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def measure(name, options, work):
    server = Server(name, work)
    feed = Feed(server.address, options.series)
    try:
        feed.history()
        feed.thread.start()
        # Samples keep arriving. Their cost is measured first and subtracted.
        time.sleep(STEP_SECONDS)
        start, before = time.monotonic(), server.cpu_seconds()
        time.sleep(options.idle)
        idle = (server.cpu_seconds() - before) / (time.monotonic() - start)
        server.rules.write_text(rules(options.rules, max(1, options.series // SHARD_SERIES), options.interval))
        server.reload()
        # The first round fills caches and creates the series of the rules.
        time.sleep(options.interval + 1)
        start, before = time.monotonic(), server.cpu_seconds()
        time.sleep(options.interval * options.rounds)
        elapsed, used = time.monotonic() - start, server.cpu_seconds() - before
        return {
            "server": name,
            "cpu_seconds_per_round": (used - idle * elapsed) / (elapsed / options.interval),
            "ingest_cpu": idle,
            "rss_bytes": server.rss_bytes(),
            "recorded_series": server.query('count({__name__=~"bench:.*"})'),
            "alerts": server.query("count(ALERTS)"),
            "slowest_group_seconds": server.slowest_group(),
        }
    finally:
        feed.stop()
        server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--rules", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--interval", type=int, default=15)
    parser.add_argument("--idle", type=int, default=30)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.series, options.rules, options.rounds, options.interval, options.idle = 10_000, 200, 3, 5, 15
    work = tempfile.mkdtemp(prefix="tidemark-bench-")
    try:
        results = [measure(name, options, work) for name in ("tidemark", "prometheus")]
    finally:
        shutil.rmtree(work)
    print("| server | CPU s a round | CPU of ingest | RSS MiB | recorded series | alerts | slowest group, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in results:
        print(
            f"| {one['server']} | {one['cpu_seconds_per_round']:.3f} | {one['ingest_cpu']:.3f} |"
            f" {one['rss_bytes'] / 2**20:.0f} | {one['recorded_series']:.0f} | {one['alerts']:.0f} |"
            f" {one['slowest_group_seconds']:.3f} |"
        )
    ours, theirs = results
    if ours["recorded_series"] != theirs["recorded_series"] or ours["alerts"] != theirs["alerts"]:
        raise SystemExit("the servers recorded different results")
    ratio = ours["cpu_seconds_per_round"] / theirs["cpu_seconds_per_round"]
    print(json.dumps({"benchmark": "rules", "rules": options.rules, "series": options.series, "ratio": ratio, "results": results}))


if __name__ == "__main__":
    main()
