"""Every public signature is annotated; that the annotations are right is checked by `make lint`."""

import inspect

import pytest
from harness import public_objects

pytestmark = pytest.mark.once
INHERITED = ("__init__", "__call__", "call", "get_config")  # which users see also where a base class defines them


def functions_of(public):
    """{name: function} of what a user may call."""
    if not inspect.isclass(public):
        return {public.__name__: public}
    names = {name for name in vars(public) if not name.startswith("_")} | set(INHERITED)
    members = {name: inspect.getattr_static(public, name, None) for name in names}
    functions = {
        name: member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        for name, member in members.items()
    }
    return {name: f for name, f in functions.items() if inspect.isfunction(f) and f.__module__.startswith("keras_reg")}


@pytest.mark.parametrize("name", public_objects())
def test_every_public_signature_is_annotated(name):
    missing = []
    for function_name, function in functions_of(public_objects()[name]).items():
        signature = inspect.signature(function)
        if function.__name__ == "<lambda>":  # which hands on what the network in it has
            continue
        missing += [
            f"{function_name}({p.name})"
            for p in signature.parameters.values()
            if p.annotation is p.empty and p.name not in ("self", "cls")
        ]
        missing += [] if signature.return_annotation is not signature.empty else [f"{function_name} -> ?"]
    assert not missing
