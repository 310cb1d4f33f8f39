"""A `UILayout` that records what is drawn into it and takes only what Blender would; drawing panels, menus and dialogs without a window.

What it takes is read from Blender itself: functions and their parameters, icons, properties of the data that is shown, operators and their
properties. A mistake that Blender would tell in its log, or not at all, is an `AssertionError` here.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from types import MethodType, SimpleNamespace
from typing import Any

import bpy

_RNA = bpy.types.UILayout.bl_rna
_TEXTS = {"label", "operator", "prop", "menu", "progress", "popover"}
"""What takes a `text` that the user gets to see."""

_FITS = {"STRING": str, "BOOLEAN": (bool, int), "INT": int, "FLOAT": (int, float)}
_POINTERS = {"UILayout", "OperatorProperties"}


@dataclass
class Drawn:
    """What was drawn, in its order.

    Attributes:
        texts: of labels, bars, buttons and menus; a button's own label where it was given no other.
        buttons: what was pressed would be called: (idname, what was set on it).
        menus: menus and popovers, by name.
        properties: names of what can be edited.
        icons: values of pictures, 0 left out.
    """

    texts: list[str] = field(default_factory=list)
    buttons: list[tuple[str, Button]] = field(default_factory=list)
    menus: list[str] = field(default_factory=list)
    properties: list[str] = field(default_factory=list)
    icons: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All texts in one: what a paragraph was broken into is whole again."""
        return " ".join(self.texts)

    @property
    def operators(self) -> list[str]:
        """The idnames of the buttons, without the extension's prefix."""
        return [name.removeprefix("cograd3d.") for name, _ in self.buttons]

    def values(self, idname: str, name: str) -> list[Any]:
        """What the buttons of an operator of the extension set this property to."""
        return [button.values.get(name) for button_name, button in self.buttons if button_name == f"cograd3d.{idname}"]


class Layout:
    """Stands for a `UILayout`. It has exactly the attributes that one has in this Blender."""

    def __init__(self, drawn: Drawn) -> None:
        object.__setattr__(self, "drawn", drawn)

    def __setattr__(self, name: str, value: object) -> None:
        assert name in _RNA.properties, f"a layout has no {name}"
        _check_value(_RNA.properties[name], value)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        function = _RNA.functions.get(name)
        if function is None:
            raise AttributeError(f"a layout of Blender {bpy.app.version_string} has no {name}")
        return lambda *arguments, **options: self._call(function, arguments, options)

    def _call(self, function: bpy.types.Function, arguments: tuple, options: dict[str, Any]) -> Any:
        name = function.identifier
        inputs = [parameter for parameter in function.parameters if not parameter.is_output]
        assert len(arguments) <= len(inputs), f"{name} takes {len(inputs)} arguments"
        given = {parameter.identifier: value for parameter, value in zip(inputs, arguments)}
        assert not given.keys() & options.keys(), f"{name}: given twice: {given.keys() & options.keys()}"
        given |= options
        known = {parameter.identifier: parameter for parameter in inputs}
        assert given.keys() <= known.keys(), f"{name} has no {given.keys() - known.keys()}"
        missing = {identifier for identifier, parameter in known.items() if parameter.is_required} - given.keys()
        assert not missing, f"{name} needs {missing}"
        for identifier, value in given.items():
            _check_value(known[identifier], value)
        self._check_meaning(name, given)
        button = self._record(name, given)
        made = [
            button if parameter.fixed_type.identifier == "OperatorProperties" else Layout(self.drawn)
            for parameter in function.parameters
            if parameter.is_output and parameter.type == "POINTER" and parameter.fixed_type.identifier in _POINTERS
        ]
        return tuple(made) if len(made) > 1 else made[0] if made else None

    def _check_meaning(self, name: str, given: dict[str, Any]) -> None:
        """Names of data, menus, panels and lists: whether there are such."""
        for data, names in (("data", ("property",)), ("dataptr", ("propname",)), ("active_dataptr", ("active_propname",))):
            for key in names:
                if key in given:
                    assert given[key] in given[data].bl_rna.properties, f"{given[data]!r} has no property {given[key]}"
        for key in ("menu", "panel", "listtype_name"):
            if key in given:
                assert hasattr(bpy.types, given[key]), f"there is no {key} {given[key]}"
        if name == "label":
            assert "text" in given or "icon" in given or "icon_value" in given, "a label that says nothing"

    def _record(self, name: str, given: dict[str, Any]) -> Button | None:
        button = None
        default = ""
        if name == "operator":
            button = Button(given["operator"])
            default = button.label
            self.drawn.buttons.append((given["operator"], button))
        elif name in ("menu", "popover"):
            kind = given.get("menu") or given["panel"]
            default = getattr(bpy.types, kind).bl_label
            self.drawn.menus.append(kind)
        elif "property" in given:
            default = given["data"].bl_rna.properties[given["property"]].name
            self.drawn.properties.append(given["property"])
        if text := (given.get("text", default) if name in _TEXTS else given.get("heading", "")):
            self.drawn.texts.append(text)
        if given.get("icon_value"):
            self.drawn.icons.append(given["icon_value"])
        return button


class Button:
    """Stands for the properties of the operator that a button calls: takes those that there are."""

    def __init__(self, idname: str) -> None:
        rna = operator_type(idname)
        object.__setattr__(self, "_properties", {entry.identifier: entry for entry in rna.properties})
        object.__setattr__(self, "label", rna.name)
        object.__setattr__(self, "values", {})

    def __setattr__(self, name: str, value: object) -> None:
        assert name in self._properties, f"the operator {self.label} has no {name}"
        _check_value(self._properties[name], value)
        self.values[name] = value


def operator_type(idname: str) -> bpy.types.Struct:
    """The description of an operator that is registered."""
    module, _, name = idname.partition(".")
    assert name in dir(getattr(bpy.ops, module)), f"there is no operator {idname}"
    return getattr(getattr(bpy.ops, module), name).get_rna_type()


def _check_value(described: bpy.types.Property, value: object) -> None:
    """Whether a property or a parameter takes this."""
    if described.type == "ENUM":
        assert value in {item.identifier for item in described.enum_items}, f"{described.identifier}: there is no {value!r}"
    elif described.type in _FITS:
        assert isinstance(value, _FITS[described.type]), f"{described.identifier} is to be {described.type}, not {value!r}"
    if described.type in ("INT", "FLOAT"):
        assert described.hard_min <= value <= described.hard_max, f"{described.identifier}: {value!r} is out of range"


class Drawer:
    """Stands for `self` in the methods of a registered class, which only Blender can make instances of.

    Args:
        kind: the class.
        drawn: what its layout is to record into.
        **attributes: what the instance has of its own.
    """

    def __init__(self, kind: type, drawn: Drawn, **attributes: object) -> None:
        self._kind = kind
        self.layout = Layout(drawn)
        self.__dict__.update(attributes)

    @property
    def bl_rna(self) -> bpy.types.Struct:
        """What the instance's properties are."""
        is_operator = issubclass(self._kind, bpy.types.Operator)
        return operator_type(self._kind.bl_idname) if is_operator else self._kind.bl_rna

    @property
    def bl_idname(self) -> str:
        """Under what name the class is registered."""
        return getattr(self._kind, "bl_idname", self._kind.__name__)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._kind, name)
        return MethodType(value, self) if inspect.isfunction(value) else value


class Instead:
    """Another object with some attributes replaced."""

    def __init__(self, instead_of: object, **attributes: object) -> None:
        self._instead_of = instead_of
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instead_of, name)


def panel_context(context: bpy.types.Context | None = None, *, width: int = 300, height: int = 700) -> Any:
    """The context in a side panel of this size. Without a window, Blender has an interface scale of 0 and regions one pixel wide."""
    context = context or bpy.context
    system = Instead(context.preferences.system, ui_scale=1.0)
    region = SimpleNamespace(width=width, height=height, type="UI", view2d=None)
    return Instead(context, region=region, preferences=Instead(context.preferences, system=system))


def draw(kind: type, context: Any = None, **attributes: object) -> Drawn:
    """What a panel (its header included), a menu or a dialog draws; what `poll` refuses is not to be asked for."""
    context, drawn = context or panel_context(), Drawn()
    assert not hasattr(kind, "poll") or kind.poll(context), f"{kind.__name__} is not shown"
    drawer = Drawer(kind, drawn, **attributes)
    for part in ("draw_header", "draw_header_preset", "draw"):
        if hasattr(kind, part):
            getattr(drawer, part)(context)
    return drawn


def is_shown(kind: type) -> bool:
    """Whether Blender would show a panel now."""
    return not hasattr(kind, "poll") or bool(kind.poll(panel_context()))


def drawn_classes(package: str) -> dict[str, type]:
    """All panels and menus that a package has registered, by name."""
    return {
        kind.__name__: kind
        for base in (bpy.types.Panel, bpy.types.Menu)
        for kind in _descendants(base)
        if kind.__module__.startswith(package) and getattr(kind, "is_registered", False)
    }


def _descendants(kind: type) -> set[type]:
    return {found for child in kind.__subclasses__() for found in {child} | _descendants(child)}
