"""Where the workers of a pool are, and what each of them asks for."""

from __future__ import annotations

from dataclasses import dataclass

from segpref.settings import Settings, setting

__all__ = ["RayPool"]


@dataclass(frozen=True, kw_only=True)
class RayPool(Settings):
    """Pools larger than one machine."""

    ray: str | None = None
    """Address of a Ray cluster whose workers share the images (auto, host:6379, or local to start one
    here); all of its machines need the same files under the same paths. This process alone if left
    out."""

    cpus: float = setting(1.0, above=0)
    """Cores that each worker asks Ray for."""

    gpus: float = setting(0.0, least=0)
    """GPUs that each worker asks Ray for; 0.25 lets four share one."""
