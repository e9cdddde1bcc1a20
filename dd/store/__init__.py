"""The store of results: `<store>/<kind>/<key>/`, each whole or not there at all."""

from dd.store.result import Result
from dd.store.store import Store

__all__ = ["Result", "Store"]
