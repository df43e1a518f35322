#!/usr/bin/env python3
"""Records what two QEMUs say to each other while a guest moves; see README.md."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import time

MEMORY = "16M"
UUID = "6e6f7661-6372-6f6e-2d67-6f6c64656e21"
# 16-bit code of a boot sector: add 1 to the first word of each page from 64 KiB to 512 KiB, for ever.
DIRTIER = bytes.fromhex("b80010" "8ec0" "31ff" "26ff05" "050001" "3d0080" "72f1" "ebec")


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.05)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"])
            if "return" in answer:
                return answer["return"]


def qemu(name, work, extra):
    command = [
        "qemu-system-x86_64", "-machine", "q35,memory-backend=pc.ram", "-accel", "tcg",
        "-bios", "bios.bin", "-nodefaults", "-display", "none", "-uuid", UUID, "-m", MEMORY,
        "-object", f"memory-backend-file,id=pc.ram,size={MEMORY},share=on,mem-path={work}/{name}.ram",
        "-drive", f"if=none,id=boot,format=raw,file={work}/{name}.img",
        "-device", "ide-hd,drive=boot",
        "-qmp", f"unix:{work}/{name}.qmp,server=on,wait=off", *extra,
    ]
    process = subprocess.Popen(command)
    return process, Qmp(f"{work}/{name}.qmp")


def copy(source, target, record):
    while data := source.recv(65536):
        record += data
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def relay(listener, target_path, records, count):
    """Connects each of QEMU's connections to the target once it has said something."""

    def connection(accepted):
        first = accepted.recv(65536)
        record, returned = bytearray(first), bytearray()
        target = socket.socket(socket.AF_UNIX)
        target.connect(target_path)
        target.sendall(first)
        records.append((record, returned))
        back = threading.Thread(target=copy, args=(target, accepted, returned))
        back.start()
        copy(accepted, target, record)
        back.join()

    threads = []
    for _ in range(count):
        accepted, _ = listener.accept()
        threads.append(threading.Thread(target=connection, args=(accepted,)))
        threads[-1].start()
    for thread in threads:
        thread.join()


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest


def capture(directory, channels):
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for name in ("source", "target"):
            with open(f"{work}/{name}.img", "wb") as image:
                image.write(DIRTIER.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
        source_process, source = qemu("source", work, [])
        target_process, target = qemu("target", work, ["-incoming", "defer", "-S"])
        enabled = ["return-path", "events", "switchover-ack"] + (["multifd"] if channels else [])
        capabilities = [{"capability": name, "state": True} for name in enabled]
        for end in (source, target):
            end("migrate-set-capabilities", capabilities=capabilities)
            if channels:
                end("migrate-set-parameters", **{"multifd-channels": channels})
        target("migrate-incoming", uri=f"unix:{work}/in")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{work}/out")
        listener.listen(16)
        records = []
        relaying = threading.Thread(
            target=relay, args=(listener, f"{work}/in", records, 1 + channels))
        relaying.start()
        time.sleep(2)  # The firmware boots the sector.
        slow = {"max-bandwidth": 4 << 20, "downtime-limit": 1}
        source("migrate-set-parameters", **slow)
        source("migrate", uri=f"unix:{work}/out")
        while (state := source("query-migrate")).get("ram", {}).get("dirty-sync-count", 0) < 4:
            assert state["status"] in ("setup", "active"), state
            time.sleep(0.02)
        source("migrate-set-parameters", **{"downtime-limit": 2000})
        while (state := source("query-migrate"))["status"] not in ("completed", "failed"):
            time.sleep(0.02)
        relaying.join()
        version = source("query-version")
        with open(f"{work}/target.ram", "rb") as file:
            memory = file.read()
        for end, process in ((source, source_process), (target, target_process)):
            end("quit")
            process.wait()
    records.sort(key=lambda pair: (pair[0][0] != 0x51, pair[0][24]))
    names = ["main"] + [f"channel{number}" for number in range(channels)]
    parts = {name: record for name, (record, _) in zip(names, records)}
    parts |= {"return-path": records[0][1]}
    for name, data in parts.items():
        subprocess.run(["zstd", "-q", "-f", "--ultra", "-22", "-o", f"{directory}/{name}.zst"],
                       input=bytes(data), check=True)
        print(f"{directory}/{name}: {len(data)} bytes")
    version, ram_facts = version["qemu"], state["ram"]
    with open(f"{directory}/facts.txt", "w") as facts:
        facts.write(f"qemu {version['major']}.{version['minor']}.{version['micro']}\n")
        facts.write(f"normal {ram_facts['normal']}\nduplicate {ram_facts['duplicate']}\n")
        facts.write(f"memory {fnv1a(memory):016x}\n")


capture("multifd", 2)
capture("plain", 0)
