"""What a run needs in bytes, and what exact gradients would need for the same, before anything is loaded."""

from steerzo_edge.estimate.advice import advice, advice_for, free_bytes
from steerzo_edge.estimate.anatomy import Anatomy, anatomy, load_config
from steerzo_edge.estimate.effort import Effort, Speed, run_effort, step_effort
from steerzo_edge.estimate.exact import exact_needs
from steerzo_edge.estimate.measure import Survey, measured_speed, survey
from steerzo_edge.estimate.needs import Estimate, estimate
from steerzo_edge.estimate.parts import Needs
from steerzo_edge.estimate.products import product_speed
from steerzo_edge.estimate.work import Trained, Work, trained_by, work_of
from steerzo_edge.estimate.zeroth_order import zeroth_order_needs

__all__ = [
    "Anatomy",
    "Effort",
    "Estimate",
    "Needs",
    "Speed",
    "Survey",
    "Trained",
    "Work",
    "advice",
    "advice_for",
    "anatomy",
    "estimate",
    "exact_needs",
    "free_bytes",
    "load_config",
    "measured_speed",
    "product_speed",
    "run_effort",
    "step_effort",
    "survey",
    "trained_by",
    "work_of",
    "zeroth_order_needs",
]
