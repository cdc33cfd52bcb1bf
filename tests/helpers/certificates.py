"""Certificates for servers of tests on 127.0.0.1."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str, authority: str) -> tuple[Path, Path]:
    """Certificate and key for 127.0.0.1, signed by `authority`, or by itself where that is its own name."""
    key, signed = folder / f"{name}.key", folder / f"{name}.pem"
    by = [] if name == authority else ["-CA", str(folder / f"{authority}.pem"), "-CAkey", str(folder / f"{authority}.key")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    own = ["-addext", "subjectAltName=IP:127.0.0.1", *(["-addext", "basicConstraints=CA:FALSE"] if by else [])]
    subprocess.run([*command, *own, *by, "-keyout", str(key), "-out", str(signed)], check=True, capture_output=True)
    return signed, key
