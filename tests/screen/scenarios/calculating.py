"""A job ends while Blender calculates a simulation, for which it locks the interface."""

import threading
from itertools import pairwise

import bpy


def scenario(stage):
    yield from stage.settle(1.0)
    undo, results = stage.module("cograd3d_addon.importing.undo"), stage.module("cograd3d_addon.importing.results")
    manager, protocol = stage.module("cograd3d_addon.session").manager(), stage.module("backend.protocol")
    job = yield from stage.wait_for(lambda: manager.get(stage.arguments["job"]), "the job to be found")
    order = stage.module("cograd3d_addon.importing").order_for(bpy.context.scene)
    stage.module("backend.files").atomic_write_json(job.path / "blender.json", order)

    def is_locked():
        return bpy.context.window_manager.is_interface_locked

    def imported():
        return sum(map(results.is_result, bpy.data.objects))

    is_calculating, may_go_on = threading.Event(), threading.Event()

    def hold(scene, *_):
        """Runs in the calculation's thread, which then waits while the scenario goes on."""
        if is_locked():
            is_calculating.set()
            may_go_on.wait(60)

    with stage.override():
        bpy.ops.mesh.primitive_cube_add()
    simulate(bpy.context.active_object)
    bpy.context.scene.frame_set(3)
    bpy.app.handlers.frame_change_pre.append(hold)
    with stage.override():
        bpy.ops.object.simulation_nodes_cache_calculate_to_frame("INVOKE_DEFAULT", selected=False)
    yield from stage.wait_for(is_calculating.is_set, "the calculation")
    for listener in list(manager.listeners):
        listener(job, protocol.Bye(reason="finished", exit_code=0))
    yield 1.0
    stage.record(is_locked=is_locked(), during=undo.obstacle(), imported_during=imported())

    may_go_on.set()
    yield from stage.wait_for(lambda: not is_locked(), "the calculation's end")
    yield from stage.wait_for(imported, "the result")
    stage.record(after=undo.obstacle(), imported_after=imported())


def simulate(thing):
    """Give an object a simulation that leaves it as it is."""
    tree = bpy.data.node_groups.new("Simulation", "GeometryNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=direction, socket_type="NodeSocketGeometry")
    kinds = ("NodeGroupInput", "GeometryNodeSimulationInput", "GeometryNodeSimulationOutput", "NodeGroupOutput")
    nodes = [tree.nodes.new(kind) for kind in kinds]
    nodes[1].pair_with_output(nodes[2])
    for before, after in pairwise(nodes):
        tree.links.new(*(next(s for s in sockets if s.type == "GEOMETRY") for sockets in (before.outputs, after.inputs)))
    thing.modifiers.new("Simulation", "NODES").node_group = tree
