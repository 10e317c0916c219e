"""What users do in Blender, as a program: `python in_blender.py SCENARIO EXTENSION.zip ADDRESS`.

Needs the bpy package. Prints what came of it as one line of JSON. Blender's own loop does not run
here, so `beat` does what the timer would.
"""

import inspect
import json
import sys
import threading
import time
from types import SimpleNamespace

import bpy
from mathutils import Euler

PACKAGE = "bl_ext.user_default.dreamlab"


def install(path):
    bpy.ops.extensions.package_install_files(
        filepath=path, repo="user_default", enable_on_install=True
    )


def module(name):
    return sys.modules[f"{PACKAGE}.{name}"]


def preferences():
    return bpy.context.preferences.addons[PACKAGE].preferences


def beat_until(is_so, limit=60.0):
    deadline = time.monotonic() + limit
    session = module("state").session
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{session.problem} {session.followed} {session.busy}")
        assert module("timer").beat() > 0
        time.sleep(0.02)


def settled():
    session = module("state").session
    return not session.busy and not session.followed


def begin(path, address):
    """Start with an empty file, the extension and a server."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    install(path)
    preferences().address = address
    module("session").POLL_SECONDS = 0.05


def refused(call):
    """Return what an operator reported as its error."""
    try:
        call()
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return ""


def meshes():
    return [item for item in bpy.data.objects if item.type == "MESH"]


def world_bounds(item):
    bpy.context.view_layer.update()
    points = [item.matrix_world @ vertex.co for vertex in item.data.vertices]
    return [[side(point[k] for point in points) for k in range(3)] for side in (min, max)]


def about(item):
    bpy.context.view_layer.update()
    shader = next(
        node
        for node in item.data.materials[0].node_tree.nodes
        if node.bl_idname == "ShaderNodeBsdfPrincipled"
    )
    link = shader.inputs["Base Color"].links
    return {
        "name": item.name,
        "matrix": [list(row) for row in item.matrix_world],
        "location": list(item.location),
        "rotation": list(item.rotation_euler),
        "rotation_mode": item.rotation_mode,
        "scale": list(item.scale),
        "parent": item.parent.name if item.parent else None,
        "dimensions": list(item.dimensions),
        "bounds": world_bounds(item),
        "front": list(min((vertex.co for vertex in item.data.vertices), key=lambda co: co[1])),
        "origin": {key: item[key] for key in item.keys() if key.startswith("dreamlab_")},
        "is_smooth": all(polygon.use_smooth for polygon in item.data.polygons),
        "metallic": shader.inputs["Metallic"].default_value,
        "is_packed": bool(link) and link[0].from_node.image.packed_file is not None,
        "is_selected": item.select_get(),
        "is_hidden": item.hide_get() and item.hide_render,
    }


def shading():
    return {
        space.shading.type
        for screen in bpy.data.screens
        for area in screen.areas
        for space in area.spaces
        if space.type == "VIEW_3D"
    }


def traces():
    """Return all that the extension has in Blender right now."""
    timer = sys.modules.get(f"{PACKAGE}.timer")
    return {
        "classes": sorted(name for name in dir(bpy.types) if name.startswith("DREAMLAB_")),
        "properties": [
            kind.__name__
            for kind in (bpy.types.Scene, bpy.types.WindowManager)
            if hasattr(kind, "dreamlab")
        ],
        "timer": timer is not None and bpy.app.timers.is_registered(timer.beat),
        "threads": [thread.name for thread in threading.enumerate() if thread.name == "dreamlab"],
    }


def come_and_go(path, address):
    begin(path, address)
    rounds = []
    for _ in range(2):
        bpy.ops.dreamlab.connect()
        beat_until(settled)
        there = traces()
        bpy.ops.preferences.addon_disable(module=PACKAGE)
        gone = traces()
        bpy.ops.preferences.addon_enable(module=PACKAGE)
        preferences().address = address
        rounds.append({"there": there, "gone": gone})
    return rounds


def generate(path, address):
    begin(path, address)
    bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
    for screen in bpy.data.screens:
        for area in screen.areas:
            for space in area.spaces:
                if space.type == "VIEW_3D":
                    space.shading.type = "SOLID"
    bpy.ops.dreamlab.connect()
    beat_until(settled)
    form = bpy.context.scene.dreamlab
    form.prompt, form.seed, form.quality = " a red mushroom ", 7, "draft"
    bpy.ops.dreamlab.generate()
    beat_until(lambda: meshes())
    beat_until(settled)
    history = bpy.context.window_manager.dreamlab
    bpy.ops.dreamlab.follow()  # once more, from the history
    beat_until(lambda: len(meshes()) == 2)
    return {
        "objects": [about(item) for item in meshes()],
        "shading": sorted(shading()),
        "history": [[line.run, line.prompt, line.state] for line in history.runs],
        "recipes": module("properties")._recipes(form, bpy.context, ""),
        "qualities": module("properties")._qualities(form, bpy.context, ""),
    }


def a_turned_cube():
    """A child of an empty: moved, turned, stretched unevenly, with a modifier."""
    bpy.ops.object.empty_add(location=(4, 0, 0), rotation=(0, 0, 0.7))
    parent = bpy.context.object
    bpy.ops.mesh.primitive_cube_add(size=2, location=(1, -2, 3))
    cube = bpy.context.object
    cube.name = "crate"
    cube.parent = parent
    cube.rotation_euler = Euler((0.3, -0.5, 1.1))
    cube.scale = (0.5, 1.5, 2.0)
    cube.modifiers.new("Array", "ARRAY").count = 2
    bpy.context.view_layer.update()
    return cube


def evaluated_bounds(item):
    evaluated = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
    points = [item.matrix_world @ vertex.co for vertex in evaluated.to_mesh().vertices]
    return [[side(point[k] for point in points) for k in range(3)] for side in (min, max)]


def refine(path, address):
    begin(path, address)
    cube = a_turned_cube()
    before = {"matrix": [list(row) for row in cube.matrix_world], "bounds": evaluated_bounds(cube)}
    form = bpy.context.scene.dreamlab
    form.prompt, form.quality = "a red crate", "draft"
    bpy.ops.dreamlab.refine()
    after_export = {
        "objects": sorted(item.name for item in bpy.data.objects),
        "meshes": len(bpy.data.meshes),
    }
    beat_until(lambda: len(meshes()) == 2)
    result = next(item for item in meshes() if item != cube)
    return {
        "before": before,
        "after_export": after_export,
        "cube": {"is_hidden": cube.hide_get() and cube.hide_render},
        "result": about(result),
        "notes": len(form.refinements),
    }


def objects(path, address):
    """A model of two objects: generated, and as a refinement."""
    begin(path, address)
    bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
    bpy.ops.dreamlab.connect()
    beat_until(settled)
    form = bpy.context.scene.dreamlab
    form.prompt, form.quality = "a cat and a dog", "draft"
    bpy.ops.dreamlab.generate()
    beat_until(lambda: meshes() and settled())
    generated = [about(item) for item in meshes()]
    for item in meshes():
        bpy.data.objects.remove(item)
    cube = a_turned_cube()
    before = {"matrix": [list(row) for row in cube.matrix_world], "bounds": evaluated_bounds(cube)}
    bpy.ops.dreamlab.refine()
    beat_until(lambda: len(meshes()) > 1)
    refined = [about(item) for item in meshes() if item != cube]
    return {"generated": generated, "before": before, "refined": refined}


def refine_several(path, address):
    """Two objects become one; the file is saved and opened while the server works."""
    begin(path, address)
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, 0.5))
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.5, location=(0, 0, 1.5))
    for item in meshes():
        item.select_set(True)
    bpy.context.view_layer.objects.active = bpy.data.objects["Cube"]
    form = bpy.context.scene.dreamlab
    form.prompt = "a red snowman"
    bpy.ops.dreamlab.refine()
    session = module("state").session
    beat_until(lambda: session.followed)
    file = path + ".blend"
    bpy.ops.wm.save_as_mainfile(filepath=file)
    run = next(iter(session.followed))
    session.let_go(run)  # as if Blender had been closed
    bpy.ops.wm.open_mainfile(filepath=file)
    bpy.ops.dreamlab.refresh()
    beat_until(settled)
    bpy.ops.dreamlab.follow()
    beat_until(lambda: len(meshes()) == 3)
    result = next(item for item in meshes() if "dreamlab_run" in item)
    return {
        "result": about(result),
        "hidden": sorted(item.name for item in meshes() if item.hide_get()),
    }


def editing(path, address):
    begin(path, address)
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.context.scene.dreamlab.prompt = "a red mushroom"
    bpy.ops.dreamlab.generate()
    session = module("state").session
    beat_until(lambda: session.followed and next(iter(session.followed.values())).model)
    for _ in range(3):
        module("timer").beat()
    waiting = [bpy.context.mode, len(meshes())]
    bpy.ops.object.mode_set(mode="OBJECT")
    beat_until(lambda: len(meshes()) == 2)
    return {"waiting": waiting}


def undoing(path, address):
    """Undo and redo an import; then undo something else while a refinement is under way."""
    begin(path, address)
    form, session = bpy.context.scene.dreamlab, module("state").session
    form.prompt = "a red mushroom"
    bpy.ops.ed.undo_push(message="begin")
    bpy.ops.dreamlab.generate()
    beat_until(lambda: meshes())
    beat_until(settled)
    counts = [len(meshes())]
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo):
        step()
        counts.append(len(meshes()))
    bpy.ops.mesh.primitive_cube_add(size=2)
    bpy.ops.ed.undo_push(message="cube")
    bpy.ops.dreamlab.refine("EXEC_DEFAULT", True)
    bpy.ops.object.empty_add()
    bpy.ops.ed.undo_push(message="empty")
    beat_until(lambda: session.followed)
    bpy.ops.ed.undo()  # back to before the server said which run it is
    runs = [note.run for note in bpy.context.scene.dreamlab.refinements]
    beat_until(lambda: len(meshes()) == 3)
    cube = bpy.data.objects["Cube"]
    refined = next(item for item in meshes() if item.get("dreamlab_recipe") == "toybox-texture")
    return {
        "counts": counts,
        "runs": runs,
        "is_hidden": cube.hide_get(),
        "bounds": world_bounds(refined),
    }


def refusals(path, address):
    begin(path, address)
    ops, form, session = bpy.ops.dreamlab, bpy.context.scene.dreamlab, module("state").session
    answers = {"empty": refused(ops.generate)}
    form.prompt = "a red mushroom"
    answers["nothing selected"] = refused(ops.refine)
    bpy.ops.mesh.primitive_plane_add()
    answers["flat"] = refused(ops.refine)
    preferences().address = "http://192.0.2.1:7860"
    answers["offline"] = refused(ops.generate)
    preferences().address = "ftp://x"
    answers["address"] = refused(ops.connect)
    preferences().address = address
    form.recipe = "tyobox"
    ops.generate()
    beat_until(lambda: session.problem)
    answers["recipe"] = [session.problem.message, session.problem.fix]
    ops.dismiss()
    answers["dismissed"] = session.problem is None
    form.refine_recipe = "tyobox"
    bpy.ops.mesh.primitive_cube_add()
    ops.refine()
    beat_until(lambda: session.problem)
    answers["notes"] = len(form.refinements)
    return answers


def from_end_to_end(path, address, settings):
    """Generate a model, then refine a cube, on a real server, with settings that make it short."""
    begin(path, address)
    short, fields = json.loads(settings), module("operators")._fields
    module("operators")._fields = lambda form, recipe: {
        **fields(form, recipe),
        "settings": short[recipe],
    }
    bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
    session, form = module("state").session, bpy.context.scene.dreamlab
    bpy.ops.dreamlab.connect()
    beat_until(settled)
    recipes = module("properties")._recipes(form, bpy.context, "")
    form.prompt, form.quality, form.seed = "a red mushroom", "draft", 5
    bpy.ops.dreamlab.generate()
    seen, pictures = set(), 0

    def done(number):
        nonlocal pictures
        for run in session.followed.values():
            seen.add(run.state)
            pictures = max(pictures, run.picture is not None)
        return len(meshes()) == number or session.problem is not None

    beat_until(lambda: done(1), 400.0)
    generated = [about(item) for item in meshes()]
    cube = a_turned_cube()
    before = {"matrix": [list(row) for row in cube.matrix_world], "bounds": evaluated_bounds(cube)}
    form.prompt = "a red cube"
    bpy.ops.dreamlab.refine()
    beat_until(lambda: done(3), 400.0)
    problem = session.problem
    return {
        "problem": problem and str(problem),
        "recipes": recipes,
        "seen": sorted(seen),
        "pictures": pictures,
        "generated": generated,
        "before": before,
        "cube": {"is_hidden": cube.hide_get() and cube.hide_render},
        "refined": [about(item) for item in meshes() if item.get("dreamlab_prompt") == form.prompt],
        "history": [[line.prompt, line.state] for line in bpy.context.window_manager.dreamlab.runs],
    }


class Layout:
    """Draws nothing, but refuses what Blender's layout would refuse."""

    KNOWN = frozenset(bpy.types.UILayout.bl_rna.properties.keys())

    def __init__(self, drawn):
        object.__setattr__(self, "drawn", drawn)

    def __setattr__(self, name, value):
        assert name in self.KNOWN, name

    def prop(self, data, name, **options):
        assert name in data.bl_rna.properties, name
        self.drawn.append(name)

    def operator(self, name, text=None, icon="NONE"):
        kind = bpy.ops.dreamlab
        found = getattr(kind, name.removeprefix("dreamlab.")).get_rna_type()
        self.icon(icon)
        self.drawn.append(text or found.name)
        names = {key: None for key in found.properties.keys() if key != "rna_type"}
        return SimpleNamespace(**names)

    def label(self, text="", icon="NONE"):
        self.icon(icon)
        self.drawn.append(text)

    def icon(self, name):
        known = bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items
        assert name in known, name

    def progress(self, factor, type, text):
        assert 0 <= factor <= 1
        self.drawn.append(text)

    def template_icon(self, icon_value, scale):
        self.drawn.append("picture")

    def template_list(self, kind, key, data, name, active_data, active_name, rows):
        assert issubclass(getattr(bpy.types, kind), bpy.types.UIList)
        assert name in data.bl_rna.properties and active_name in active_data.bl_rna.properties
        self.drawn.append(name)

    def separator(self):
        pass

    def column(self, align=False):
        return Layout(self.drawn)

    row = column

    def box(self):
        return Layout(self.drawn)


def draw(path, address):
    begin(path, address)
    context = SimpleNamespace(
        scene=bpy.context.scene,
        mode="EDIT_MESH",
        preferences=bpy.context.preferences,
        window_manager=bpy.context.window_manager,
        region=SimpleNamespace(width=280),
    )
    panel, session = module("panel"), module("state").session

    def draw_all():
        drawn = {}
        for kind in panel.CLASSES:
            if issubclass(kind, bpy.types.Panel) and getattr(kind, "poll", lambda _: True)(context):
                lines = []
                kind.draw(SimpleNamespace(layout=Layout(lines)), context)
                drawn[kind.__name__] = lines
        lines = []
        module("preferences").DREAMLAB_AP_preferences.draw(
            _with_layout(preferences(), Layout(lines)), context
        )
        drawn["preferences"] = lines
        return drawn

    empty = draw_all()
    bpy.ops.dreamlab.connect()
    beat_until(settled)
    bpy.context.scene.dreamlab.prompt = "a red mushroom"
    bpy.ops.dreamlab.generate()
    beat_until(
        lambda: (
            session.followed
            and (run := next(iter(session.followed.values()))).state == "running"
            and run.picture
        )
    )
    run = next(iter(session.followed.values()))
    run.trouble, run.job["eta_s"] = "No answer.", 130
    session.report(module("client").ServerError("It went wrong.", "Do this.", 401))
    busy = draw_all()
    preferences().address = "127.0.0.1:1"
    retyped = draw_all()
    line = bpy.context.window_manager.dreamlab.runs[0]
    words = []
    panel.DREAMLAB_UL_history.draw_item(None, context, Layout(words), None, line, 0, None, "")
    ends = bpy.types.DREAMLAB_OT_end
    return {
        "empty": empty,
        "busy": busy,
        "retyped": retyped,
        "line": words,
        "picture": list(module("pictures")._loaded["icons"][str(run.picture)].image_size),
        "end": ends.description(context, SimpleNamespace(action="cancel")),
    }


def _with_layout(item, layout):
    """Stand in for preferences while they are drawn: theirs are the properties."""
    return SimpleNamespace(layout=layout, bl_rna=item.bl_rna)


if __name__ == "__main__":
    scenario, *arguments = sys.argv[1:]
    function = globals()[scenario]
    assert inspect.isfunction(function)
    report = function(*arguments)
    sys.stdout.write(f"\nREPORT {json.dumps(report)}\n")
    sys.stdout.flush()
