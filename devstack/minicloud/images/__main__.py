"""Make one image without a cloud: python3 -m minicloud.images tiny DIRECTORY

It needs root, because apt downloads the packages as a user of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from minicloud.images import tiny


def main() -> None:
    match sys.argv[1:]:
        case ["tiny", directory]:
            cache = Path(directory).absolute()
            cache.mkdir(parents=True, exist_ok=True)
            print(tiny.build(cache) or "unchanged")
        case _:
            raise SystemExit("usage: python3 -m minicloud.images tiny DIRECTORY")


if __name__ == "__main__":
    main()
