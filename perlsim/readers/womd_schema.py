"""The public protobuf schemas that the Waymo readers need, built at run time from one table.

Field names, numbers and types are those of ``scenario.proto`` and ``map.proto`` of the Waymo Open Dataset
and of TensorFlow's ``example.proto``. Enumerations are read as integers; fields that are not listed
(lidar, camera) are skipped.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message: {field: (number, type, repeated)}; types with a capital are messages of this table.
_SCHEMA: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Scenario": {
        "timestamps_seconds": (1, "double", True),
        "tracks": (2, "Track", True),
        "scenario_id": (5, "string", False),
        "sdc_track_index": (6, "int32", False),
        "dynamic_map_states": (7, "DynamicMapState", True),
        "map_features": (8, "MapFeature", True),
        "current_time_index": (10, "int32", False),
    },
    "Track": {
        "id": (1, "int32", False),
        "object_type": (2, "int32", False),
        "states": (3, "ObjectState", True),
    },
    "ObjectState": {
        "center_x": (2, "double", False),
        "center_y": (3, "double", False),
        "center_z": (4, "double", False),
        "length": (5, "float", False),
        "width": (6, "float", False),
        "height": (7, "float", False),
        "heading": (8, "float", False),
        "velocity_x": (9, "float", False),
        "velocity_y": (10, "float", False),
        "valid": (11, "bool", False),
    },
    "DynamicMapState": {"lane_states": (1, "TrafficSignalLaneState", True)},
    "TrafficSignalLaneState": {
        "lane": (1, "int64", False),
        "state": (2, "int32", False),
        "stop_point": (3, "MapPoint", False),
    },
    "MapFeature": {
        "id": (1, "int64", False),
        "lane": (3, "LaneCenter", False),
        "road_line": (4, "RoadLine", False),
        "road_edge": (5, "RoadLine", False),
        "stop_sign": (7, "StopSign", False),
        "crosswalk": (8, "Polygon", False),
        "speed_bump": (9, "Polygon", False),
        "driveway": (10, "Polygon", False),
    },
    "MapPoint": {"x": (1, "double", False), "y": (2, "double", False), "z": (3, "double", False)},
    "Polygon": {"polygon": (1, "MapPoint", True)},
    "StopSign": {"lane": (1, "int64", True), "position": (2, "MapPoint", False)},
    "RoadLine": {"type": (1, "int32", False), "polyline": (2, "MapPoint", True)},
    "BoundarySegment": {
        "lane_start_index": (1, "int32", False),
        "lane_end_index": (2, "int32", False),
        "boundary_feature_id": (3, "int64", False),
        "boundary_type": (4, "int32", False),
    },
    "LaneNeighbor": {
        "feature_id": (1, "int64", False),
        "self_start_index": (2, "int32", False),
        "self_end_index": (3, "int32", False),
        "neighbor_start_index": (4, "int32", False),
        "neighbor_end_index": (5, "int32", False),
        "boundaries": (6, "BoundarySegment", True),
    },
    "LaneCenter": {
        "speed_limit_mph": (1, "double", False),
        "type": (2, "int32", False),
        "interpolating": (3, "bool", False),
        "polyline": (8, "MapPoint", True),
        "entry_lanes": (9, "int64", True),
        "exit_lanes": (10, "int64", True),
        "left_neighbors": (11, "LaneNeighbor", True),
        "right_neighbors": (12, "LaneNeighbor", True),
        "left_boundaries": (13, "BoundarySegment", True),
        "right_boundaries": (14, "BoundarySegment", True),
    },
    "Example": {"features": (1, "Features", False)},
    "Features": {"feature": (1, "Entry", True)},
    "Entry": {"key": (1, "string", False), "value": (2, "Feature", False)},
    "Feature": {
        "bytes_list": (1, "BytesList", False),
        "float_list": (2, "FloatList", False),
        "int64_list": (3, "Int64List", False),
    },
    "BytesList": {"value": (1, "bytes", True)},
    "FloatList": {"value": (1, "float", True)},
    "Int64List": {"value": (1, "int64", True)},
}
_PACKAGE = "perlsim_womd"


@cache
def message_class(name: str) -> Any:
    """The message class of a name in the table; repeated numbers are read packed or not."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="womd.proto", package=_PACKAGE, syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if kind in _SCHEMA:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
                field.options.packed = repeated and kind in ("double", "float", "int64")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
