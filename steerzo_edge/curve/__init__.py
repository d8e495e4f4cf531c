"""Memory and seconds to a loss of each way to run a job, measured on this machine by a short probe."""

from steerzo_edge.curve.measuring import measured_curve
from steerzo_edge.curve.model import Curve, CurvePoint, Point, Reach, reach

__all__ = ["Curve", "CurvePoint", "Point", "Reach", "measured_curve", "reach"]
