"""What is public is documented, and what the documentation shows is true."""

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest

import napari_fewshot

MODULES = ["napari_fewshot", *(m.name for m in pkgutil.walk_packages(napari_fewshot.__path__, "napari_fewshot."))]


def public_members(owner: object) -> list[tuple[str, object]]:
    """Functions, classes, methods and properties that the owner itself defines, under names without underscore."""
    module = owner.__name__ if inspect.ismodule(owner) else owner.__module__
    found = []
    for name, member in vars(owner).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        is_code = inspect.isfunction(plain) or inspect.isclass(plain) or isinstance(plain, property)
        home = getattr(plain.fget if isinstance(plain, property) else plain, "__module__", None)
        if is_code and not name.startswith("_") and home == module:
            found.append((name, plain))
    return found


@pytest.mark.parametrize("name", napari_fewshot.__all__)
def test_every_public_name_can_be_imported_and_is_documented(name: str) -> None:
    value = getattr(napari_fewshot, name)
    if name != "__version__":
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")  # what a dataclass writes for itself


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'napari_fewshot' has no attribute 'nonsense'"):
        napari_fewshot.nonsense  # noqa: B018
    assert sorted(napari_fewshot.__all__) == dir(napari_fewshot)


@pytest.mark.parametrize("module_name", MODULES)
def test_a_module_and_everything_public_in_it_is_documented(module_name: str) -> None:
    module = import_module(module_name)
    assert module.__doc__
    for name, member in public_members(module):
        assert inspect.getdoc(member), f"{module_name}.{name}"
        if inspect.isclass(member):
            for method_name, method in public_members(member):
                assert inspect.getdoc(method), f"{module_name}.{name}.{method_name}"


@pytest.mark.parametrize("module_name", MODULES)
def test_examples_in_docstrings_are_true(module_name: str) -> None:
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(import_module(module_name), optionflags=options).failed == 0
