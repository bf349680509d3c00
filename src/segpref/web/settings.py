"""Where the page is."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from segpref.settings import Settings, setting

__all__ = ["ServeConfig"]


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Settings):
    """Page."""

    host: str = "127.0.0.1"
    """Address of this machine on which the page is reached; 0.0.0.0 for all of them."""

    port: int = setting(8000, least=0, most=65535)
    """Port; 0 for any that is free."""

    behind_tls: bool = False
    """Whether a proxy on this machine encrypts the connections: cookies travel encrypted only, and the
    proxy says who asks."""

    address: str | None = None
    """How raters reach the page, such as https://votes.hospital.example; no other name is answered
    then."""

    memory_gb: float = setting(2.0, above=0)
    """Memory for unpacked images and masks (GB)."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_open(self) -> bool:
        """Whether others reach it without encryption."""
        return not self.is_local and not self.behind_tls
