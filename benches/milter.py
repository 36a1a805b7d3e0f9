#!/usr/bin/python3
"""CPU of an ordinary mail: firstclick's milter against a pymilter that does nothing, in one run.

    cargo build --release --ignore-rust-version && benches/milter.py target/release/firstclick [MAILS]

Needs Debian's python3-milter. Both are told the same mails over one connection each, by the same client, as Postfix would.
"""
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

PYMILTER = """
import sys, Milter
class Nothing(Milter.Base):
    def envfrom(self, *_): return Milter.CONTINUE
    def header(self, *_): return Milter.CONTINUE
    def eoh(self): return Milter.CONTINUE
    def body(self, _): return Milter.CONTINUE
    def eom(self): return Milter.ACCEPT
Milter.factory = Nothing
Milter.runmilter("nothing", "inet:%s@127.0.0.1" % sys.argv[1], 240)
"""
FIELDS = [("Received", " from a.test by mx.corp.example; Tue, 24 Nov 2026 10:00:00 +0000")] * 4 + [
    ("From", " Shop <news@shop.test>"), ("To", " bob@corp.example"), ("Subject", " hello"), ("Message-ID", " <1@shop.test>"),
    ("Date", " Tue, 24 Nov 2026 10:00:00 +0000"), ("MIME-Version", " 1.0"), ("Content-Type", " text/plain; charset=utf-8"),
] + [("X-Field-%d" % number, " some value of a header field") for number in range(12)]
BODY = b"A line of an ordinary mail, as long as lines are.\r\n" * 160


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def frame(letter, rest=b""):
    return struct.pack("!I", len(rest) + 1) + letter + rest


class Mta:
    def __init__(self, port):
        deadline = time.monotonic() + 20
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), 20)
                if self.socket.getsockname() != self.socket.getpeername():
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")
        self.socket.sendall(frame(b"O", struct.pack("!III", 6, 0x1FF, 0x1FFFFF)))
        self.steps = struct.unpack("!III", self.answer()[1:])[2]
        self.tell(frame(b"C", b"client.test\x004\x00\x19192.0.2.1\0"), 0x1000)
        self.tell(frame(b"H", b"client.test\0"), 0x2000)

    def answer(self):
        return self.input.read(struct.unpack("!I", self.input.read(4))[0])

    def tell(self, bytes_, no_reply):
        self.socket.sendall(bytes_)
        return b"c" if self.steps & no_reply else self.answer()

    def mail(self):
        self.tell(frame(b"M", b"<news@shop.test>\0"), 0x4000)
        self.tell(frame(b"R", b"<bob@corp.example>\0"), 0x8000)
        if not self.steps & 0x200:
            self.tell(frame(b"T"), 0x10000)
        space = self.steps & 0x100000
        for name, value in FIELDS:
            self.tell(frame(b"L", name.encode() + b"\0" + (value if space else value[1:]).encode() + b"\0"), 0x80)
        if not self.steps & 0x40 and self.tell(frame(b"N"), 0x40000)[:1] == b"a":
            return
        if not self.steps & 0x10:
            self.tell(frame(b"B", BODY), 0x80000)
        self.socket.sendall(frame(b"E"))
        while self.answer()[:1] not in b"atrdc":
            pass


def main():
    firstclick, mails = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20000
    with tempfile.TemporaryDirectory() as folder:
        ports = [free_port(), free_port()]
        with open(folder + "/firstclick.toml", "w") as config:
            config.write('[milter]\nlisten = ["inet:127.0.0.1:%d"]\nhostname = "hop.test"\n[audit]\ndirectory = "audit"\n' % ports[0])
        with open(folder + "/nothing.py", "w") as script:
            script.write(PYMILTER)
        commands = [[firstclick, "--config", folder + "/firstclick.toml", "run"], ["/usr/bin/python3", folder + "/nothing.py", str(ports[1])]]
        running = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
        try:
            mtas = [Mta(port) for port in ports]
            used = [0.0, 0.0]
            for mta in mtas:
                for _ in range(200):
                    mta.mail()
            for _ in range(10):
                for at, mta in enumerate(mtas):
                    before = cpu(running[at].pid)
                    for _ in range(mails // 10):
                        mta.mail()
                    used[at] += cpu(running[at].pid) - before
            ours, theirs = (seconds / mails * 1e6 for seconds in used)
            print("%d ordinary mails of %d octets each: firstclick %.1f us, pymilter %.1f us of CPU a mail, ratio %.2f"
                  % (mails, len(BODY), ours, theirs, ours / theirs))
        finally:
            for process in running:
                process.terminate()
                process.wait()


main()
