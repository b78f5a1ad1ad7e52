import sys

import pytest
from minicloud.openvswitch import foreign_route

_HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def _line(device: str, destination: str, mask: str) -> str:
    def number(text: str) -> str:
        return (
            int.from_bytes(bytes(int(part) for part in text.split(".")), sys.byteorder).to_bytes(4, "big").hex().upper()
        )

    return f"{device}\t{number(destination)}\t00000000\t0003\t0\t0\t0\t{number(mask)}\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("device", "destination", "mask", "expected"),
    [
        ("eth0", "0.0.0.0", "0.0.0.0", None),  # noqa: S104  (a route, nothing that listens)
        ("eth0", "192.0.2.0", "255.255.255.0", None),
        ("eth1", "172.24.4.0", "255.255.255.0", "eth1"),
        ("tun0", "172.16.0.0", "255.240.0.0", "tun0"),
        ("tun0", "172.24.4.7", "255.255.255.255", "tun0"),
        ("br-ex", "172.24.4.0", "255.255.255.0", None),
    ],
)
def test_a_route_of_another_device_to_the_external_network_is_found(
    device: str, destination: str, mask: str, expected: str | None
) -> None:
    assert foreign_route(_HEADER + _line(device, destination, mask)) == expected


def test_this_machine_s_own_table_can_be_read() -> None:
    assert foreign_route() in (None, *_devices())


def _devices() -> list[str]:
    with open("/proc/net/route") as table:
        return [line.split()[0] for line in table]
