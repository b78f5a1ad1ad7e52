import ssl
from pathlib import Path

from minicloud import certificates
from minicloud.layout import Layout


def test_the_registry_s_certificate_is_signed_by_the_authority_and_made_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    certificates.make(layout)
    first = layout.registry_certificate.read_bytes()
    assert layout.registry_key.stat().st_mode & 0o077 == 0
    assert not list(layout.tls.glob("ca.key"))
    tls = ssl.create_default_context(cafile=layout.authority)
    tls.load_cert_chain(layout.registry_certificate, layout.registry_key)
    assert _handshake(layout, "127.0.0.1")
    certificates.make(layout)
    assert layout.registry_certificate.read_bytes() == first


def _handshake(layout: Layout, name: str) -> bool:
    """Whether a client that trusts the authority takes the certificate for `name`."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(layout.registry_certificate, layout.registry_key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=layout.authority)
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass
    return not sides
