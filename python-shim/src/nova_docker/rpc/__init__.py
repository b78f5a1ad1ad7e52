"""A small gRPC client on plain sockets: unary and server-streaming calls, one connection for each.

It exists because grpcio's core blocks the whole process under eventlet. Here all waiting is done by the socket and ssl
modules, so that a call blocks the thread that makes it, whichever kind of thread that is. See README.md.
"""

from nova_docker.rpc.address import Address, AddressRefused, Tls
from nova_docker.rpc.call import Call
from nova_docker.rpc.status import CallError, Code

__all__ = ["Address", "AddressRefused", "Call", "CallError", "Code", "Tls"]
