"""Certificates for test servers, created on demand."""

import ssl
import subprocess
from pathlib import Path


def make_certificate(directory: Path) -> Path:
    """Create a self-signed certificate and key for this machine's names, in one file."""
    path = directory / "server.pem"
    names = "IP:127.0.0.1,IP:0.0.0.0,DNS:localhost"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", f"subjectAltName={names}"]
    command += ["-keyout", str(path), "-out", str(directory / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (directory / "certificate.pem").read_bytes())
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    """Return a server-side context with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
