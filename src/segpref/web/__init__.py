"""The page on which people compare masks, and its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.web.app import create_app
    from segpref.web.security import AttemptLimit, Origin
    from segpref.web.serving import open_store, serve
    from segpref.web.settings import ServeConfig
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "app": ("create_app",),
            "security": ("AttemptLimit", "Origin"),
            "serving": ("open_store", "serve"),
            "settings": ("ServeConfig",),
        },
    )

__all__ = ["AttemptLimit", "Origin", "ServeConfig", "create_app", "open_store", "serve"]
