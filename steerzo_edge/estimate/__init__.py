"""Estimates a run's memory and time before it is loaded, and the memory of exact gradients for the same run."""

from steerzo_edge import model as model  # before anything imports `transformers`
from steerzo_edge.estimate.advice import advice, advice_for
from steerzo_edge.estimate.anatomy import Anatomy, anatomy, load_config
from steerzo_edge.estimate.choice import Choice, chosen
from steerzo_edge.estimate.effort import Effort, Speed, run_effort, step_effort
from steerzo_edge.estimate.exact import exact_needs
from steerzo_edge.estimate.free import free_bytes
from steerzo_edge.estimate.machine import description
from steerzo_edge.estimate.measure import Survey, measured_speed, survey
from steerzo_edge.estimate.memory import MemoryEstimate, estimate
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.plan import planned
from steerzo_edge.estimate.products import product_speed
from steerzo_edge.estimate.ways import Way, ways_of, ways_to_run
from steerzo_edge.estimate.work import Trained, Work, trained_by, work_of
from steerzo_edge.estimate.zeroth_order import Plan, zeroth_order_needs

__all__ = [
    "Anatomy",
    "Choice",
    "Effort",
    "MemoryEstimate",
    "MemoryNeeds",
    "Plan",
    "Speed",
    "Survey",
    "Trained",
    "Way",
    "Work",
    "advice",
    "advice_for",
    "anatomy",
    "chosen",
    "description",
    "estimate",
    "exact_needs",
    "free_bytes",
    "load_config",
    "measured_speed",
    "planned",
    "product_speed",
    "run_effort",
    "step_effort",
    "survey",
    "trained_by",
    "ways_of",
    "ways_to_run",
    "work_of",
    "zeroth_order_needs",
]
