"""What a scenario sees of Blender's window: where things are, moving and clicking the mouse, waiting, pictures.

Methods that take time are generators, to be used with `yield from`. Coordinates are region pixels with y up, as Blender's own.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import bpy
import gpu
import numpy as np
from images import read_screen, write_png

EXTENSION = "bl_ext.user_default.cograd3d"
CATEGORY = "CoGrad3D"
Steps = Iterator[float]
T = TypeVar("T")


class Stage:
    """Blender's first window and its first 3D viewport. Holds no pointer into Blender: files may be opened in between."""

    def __init__(self, folder: Path, screen_file: Path, arguments: dict[str, Any]) -> None:
        self.folder = folder
        self.arguments = arguments
        self.values: dict[str, Any] = {}
        self.mouse = (0, 0)
        """Where it was moved to last, in pixels of the window."""
        self._screen_file = screen_file
        self._began = time.monotonic()

    # --- What there is

    @property
    def window(self) -> bpy.types.Window:
        return bpy.context.window_manager.windows[0]

    @property
    def area(self) -> bpy.types.Area:
        return max((area for area in self.window.screen.areas if area.type == "VIEW_3D"), key=lambda area: area.width * area.height)

    def region(self, kind: str = "WINDOW") -> bpy.types.Region:
        return next(region for region in self.area.regions if region.type == kind)

    def override(self, kind: str = "WINDOW"):
        """Context as for an operator called in the viewport (kind "WINDOW") or its side panel ("UI")."""
        return bpy.context.temp_override(window=self.window, screen=self.window.screen, area=self.area, region=self.region(kind))

    def module(self, name: str):
        """A module of the installed extension: `stage.module("cograd3d_addon.session")`."""
        return importlib.import_module(f"{EXTENSION}.{name}")

    # --- Telling

    def record(self, **values: Any) -> None:
        """Tell the test these values; it can also wait for them while the scenario goes on."""
        recorded = self.folder / "recorded"
        recorded.mkdir(exist_ok=True)
        for name, value in values.items():
            self.values[name] = value
            (recorded / f"{name}.tmp").write_text(json.dumps(value), encoding="utf-8")
            (recorded / f"{name}.tmp").replace(recorded / f"{name}.json")
            print(f"[scenario, {time.monotonic() - self._began:.1f} s] {name} = {value!r}"[:400], flush=True)

    # --- Waiting

    def settle(self, seconds: float = 0.3) -> Steps:
        """Redraw the viewport and let Blender do so."""
        self.area.tag_redraw()
        yield seconds

    def wait_for(self, condition: Callable[[], T], what: str, timeout: float = 30.0) -> Iterator[float]:
        """Wait until the condition holds; its value is the result of `yield from`."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout:g} s for {what}")
            yield 0.1
        return value

    # --- Mouse and keyboard

    def move(self, x: float, y: float, kind: str = "WINDOW") -> Steps:
        """Move the mouse to a place in a region of the viewport."""
        region = self.region(kind)
        self.mouse = column, row = int(region.x + x), int(region.y + y)
        for offset in (3, 0):  # Blender highlights what is below the mouse at the second movement
            self.window.event_simulate(type="MOUSEMOVE", value="NOTHING", x=column - offset, y=row)
            yield 0.05

    def click(self, x: float, y: float, kind: str = "WINDOW", button: str = "LEFTMOUSE", **modifiers: bool) -> Steps:
        """Move there and click; `modifiers` are ctrl, shift, alt."""
        yield from self.move(x, y, kind)
        yield 0.1
        region = self.region(kind)
        for value in ("PRESS", "RELEASE"):
            self.window.event_simulate(type=button, value=value, x=int(region.x + x), y=int(region.y + y), **modifiers)
            yield 0.1

    def key(self, key: str, x: float, y: float, kind: str = "WINDOW", **modifiers: bool) -> Steps:
        """Press a key while the mouse is at that place."""
        yield from self.move(x, y, kind)
        region = self.region(kind)
        for value in ("PRESS", "RELEASE"):
            self.window.event_simulate(type=key, value=value, x=int(region.x + x), y=int(region.y + y), **modifiers)
            yield 0.1

    # --- The side panel

    def open_panel(self, category: str = CATEGORY) -> Steps:
        """Show the viewport's side panel with this tab."""
        self.area.spaces.active.show_region_ui = True
        yield from self.settle(0.5)
        yield from self.wait_for(lambda: self.region("UI").width > 1, "the side panel")
        self.region("UI").active_panel_category = category
        yield from self.settle(0.5)

    def buttons(self) -> Iterator[float]:
        """What the side panel offers, found as a user would: by moving the mouse over it, and scrolling. Result of `yield from`: its names.

        A name is a command or a data path, such as "bpy.ops.cograd3d.generate()" or 'bpy.data.scenes["Scene"].cograd3d.prompt'. Blender
        itself says what lies below the mouse, so that neither layout nor theme matters. Buttons that are grey are found too.
        """
        names: dict[str, None] = {}
        yield from self._scan(lambda name: names.setdefault(name))
        return list(names)

    def find_button(self, part: str) -> Iterator[float]:
        """The place, in pixels of the "UI" region, of the first button whose name contains `part`; scrolls there. LookupError if none."""
        names: list[str] = []
        place = yield from self._scan(lambda name: names.append(name) or part in name)
        if place is None:
            raise LookupError(f"no button {part} among {sorted(set(names))}")
        return place

    def press(self, command: str) -> Steps:
        """Click the side panel's button of an operator, "cograd3d.generate" or "cograd3d.region_weight(action='BOOST')"."""
        place = yield from self.find_button(f"bpy.ops.{command}" if "(" in command else f"bpy.ops.{command}(")
        yield from self.click(*place, "UI")

    def enter_text(self, path: str, text: str) -> Steps:
        """Click the side panel's text field whose data path contains `path`, and type over what it holds."""
        x, y = yield from self.find_button(path)
        yield from self.click(x, y, "UI")
        yield from self.key("A", x, y, "UI", ctrl=True)
        region = self.region("UI")
        for character in text:
            key = {" ": "SPACE"}.get(character, character.upper())
            self.window.event_simulate(type=key, value="PRESS", unicode=character, x=region.x + x, y=region.y + y)
            self.window.event_simulate(type=key, value="RELEASE", x=region.x + x, y=region.y + y)
            yield 0.02
        yield from self.key("RET", x, y, "UI")

    def _scan(self, found: Callable[[str], Any]) -> Iterator[float]:
        """Hover over the whole side panel from its top; the place where `found(name)` first holds, None if it never does.

        First over what differs from the background, then over the rest: some buttons are drawn only while the mouse is over them.
        """
        for is_drawn in (True, False):
            self.scroll("scroll_up")
            while True:
                yield from self.settle(0.2)
                for column, row in self._points(is_drawn):
                    yield from self._hover(column, row)
                    name = self._below_mouse()
                    if name and found(name):
                        return column, row
                yield from self._hover(self.region("UI").width // 2, 2)  # away from the scroll bar, over which Blender refuses to scroll
                if not self.scroll("scroll_down"):
                    break
        return None

    def _points(self, is_drawn: bool, step: int = 16) -> list[tuple[int, int]]:
        """Places in the side panel, less than a button's height apart, where it shows something (or does not), row by row from the top."""
        region, pixels = self.region("UI"), self.region_pixels("UI")
        colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
        is_empty = (pixels[:, :, None] == colours[np.argsort(counts)[-2:]]).all(axis=3).any(axis=2)  # the panel's and the viewport's grey
        points = [
            (int(region.width * share), row)
            for row in range(region.height - step, step // 2, -step)
            for share in (0.5, 0.2, 0.8, 0.85, 0.93)
        ]
        return [(x, y) for x, y in points if is_empty[-1 - y - 3 : -1 - y + 4, x - 3 : x + 4].all() != is_drawn]

    def scroll(self, operator: str) -> bool:
        """Scroll the side panel: a page down, or to its top; whether that moved it."""
        before = self._scrolled_to()
        for _ in range(1 if operator == "scroll_down" else 20):
            with self.override("UI"):
                if getattr(bpy.ops.view2d, operator).poll():
                    getattr(bpy.ops.view2d, operator)(page=True)
        return self._scrolled_to() != before

    def _scrolled_to(self) -> float:
        return self.region("UI").view2d.region_to_view(0, 0)[1]

    def _hover(self, x: int, y: int) -> Steps:
        region = self.region("UI")
        for offset in (1, 0):
            self.window.event_simulate(type="MOUSEMOVE", value="NOTHING", x=region.x + x - offset, y=region.y + y)
        yield 0.03

    def _below_mouse(self) -> str:
        """The operator call or the data path of the button below the mouse, "" where there is none."""
        manager = bpy.context.window_manager
        with self.override("UI"):
            if bpy.ops.ui.copy_python_command_button.poll():
                manager.clipboard = ""
                bpy.ops.ui.copy_python_command_button()
            elif bpy.ops.ui.copy_data_path_button.poll():
                manager.clipboard = ""
                bpy.ops.ui.copy_data_path_button(full_path=True)
            else:
                return ""
            return manager.clipboard

    # --- Pictures

    def pixels(self) -> np.ndarray:
        """The whole window, [height, width, 3] uint8, top row first."""
        return read_screen(self._screen_file)

    def region_pixels(self, kind: str = "WINDOW") -> np.ndarray:
        """A region of the viewport as it is on the screen; `pixels[-1 - y, x]` is Blender's region pixel (x, y)."""
        region, screen = self.region(kind), self.pixels()
        bottom = screen.shape[0] - region.y
        return screen[bottom - region.height : bottom, region.x : region.x + region.width]

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the whole window as NAME.png in the run's folder."""
        file = self.folder / f"{name}.png"
        write_png(file, self.pixels())
        return file

    def framebuffer(self) -> Iterator[float]:
        """The viewport as drawn, gizmos included and nothing over it: [height, width, 3] uint8, top row first, by `yield from`."""
        captured: list[np.ndarray] = []

        def capture() -> None:
            x, y, width, height = gpu.state.viewport_get()
            buffer = gpu.state.active_framebuffer_get().read_color(x, y, width, height, 4, 0, "UBYTE")
            buffer.dimensions = width * height * 4
            captured.append(np.array(buffer, dtype=np.uint8).reshape(height, width, 4)[::-1, :, :3])

        handler = bpy.types.SpaceView3D.draw_handler_add(capture, (), "WINDOW", "POST_PIXEL")
        try:
            yield from self.settle(0.0)
            yield from self.wait_for(lambda: captured, "the viewport to be drawn")
        finally:
            bpy.types.SpaceView3D.draw_handler_remove(handler, "WINDOW")
        return captured[-1]
