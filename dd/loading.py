"""A trained policy from the store, for use from Python."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dd.policy import LoadedPolicy


def load(key: str, *, store: str | None = None, checkpoint: str = "last") -> "LoadedPolicy":
    """A trained policy from the store.

        policy = dd.load("3f1c")
        chunk = policy.action(jax.random.key(0), obs, num_flow_steps=5)   # [h, a]

    Args:
        key: of a training, a published policy or an evaluation of one, or its first characters (`python -m dd.store ls`
            lists them).
        store: its folder; by default $DD_STORE, else outputs/store.
        checkpoint: last, best, or epoch_<n> for an epoch named in `train.checkpoint_epochs`.

    Raises:
        dd.errors.UserError: for an unknown or damaged result, or one of another kind.
    """
    # Here, not above: every `import dd.<anything>` passes through this module, and most need no jax.
    import pathlib

    from dd.errors import UserError
    from dd.policy import LoadedPolicy
    from dd.store import Store

    where = Store.open(pathlib.Path(store) if store else None)
    result = where.lookup(key)
    if result.manifest["kind"] == "eval":
        result = where.lookup(next(iter(result.manifest["upstream"])))
    if result.manifest["kind"] not in ("train", "policy"):
        raise UserError(f"{key}: is a result of kind {result.manifest['kind']}, not of train; name a training's key")
    result.verify()
    if not (result.path / f"{checkpoint}.safetensors").exists():
        kept = sorted(path.stem for path in result.path.glob("*.safetensors"))
        raise UserError(f"checkpoint={checkpoint}: {result.kind} {result.key[:12]} keeps {', '.join(kept)}; choose one")
    return LoadedPolicy.read(result.path, checkpoint)
