"""Sizes of a step: trained numbers, tokens of a batch, positions that are scored over the whole vocabulary."""

from dataclasses import dataclass
from itertools import cycle, islice
from statistics import fmean

from steerzo_edge.data.batches import forks
from steerzo_edge.data.tokenization import Questions, Targets, Tokenized
from steerzo_edge.errors import ProfileError
from steerzo_edge.estimate.anatomy import Anatomy, Projection
from steerzo_edge.model.layers import layer_index, select
from steerzo_edge.settings.profile import Profile
from steerzo_edge.settings.sections import LastLayersConfig, LoraConfig, LoraXsConfig


@dataclass(frozen=True, slots=True)
class Trained:
    """The trainable subset, by its sizes.

    Args:
        projections: The linear layers that it adapts or trains, lowest first.
        first_layer: The lowest decoder layer among them.
        size: d, the number of trained numbers.
        block: Most numbers that one step perturbs.
        exact_layer: The lowest decoder layer with exact gradients; None if there are none.
        exact_size: Trained numbers in the layers with exact gradients.
        frozen: Size of its frozen part.
        rank: R, or 0 for whole weights.
        keeps_inputs: Whether a gradient needs the inputs of these layers: for a trained A, or a whole weight.
    """

    projections: tuple[Projection, ...]
    first_layer: int
    size: int
    block: int
    frozen: int
    rank: int
    keeps_inputs: bool
    exact_layer: int | None = None
    exact_size: int = 0

    @property
    def layers(self) -> list[int]:
        """The decoder layers that it adapts or trains, lowest first."""
        return sorted({layer_index(projection.name) for projection in self.projections})


def trained_by(profile: Profile, body: Anatomy) -> Trained:
    """Finds the sizes of a profile's subset on a model.

    Args:
        profile: The settings.
        body: The model's sizes.

    Raises:
        ProfileError: If the subset's targets or layers do not fit the model, or the method's layers the subset.
    """
    subset = profile.subset
    projections = _chosen(subset, body)
    by_layer: dict[int, int] = {}
    for projection in projections:
        layer = layer_index(projection.name)
        by_layer[layer] = by_layer.get(layer, 0) + _size(subset, projection)
    layers, sizes = sorted(by_layer), [size for _, size in sorted(by_layer.items())]
    step = subset.block_layers or len(sizes)
    exact = profile.method.exact_layers_of(len(sizes))
    exact_size = sum(sizes[len(sizes) - exact :])
    perturbed = max(sum(sizes[start : start + step]) for start in range(0, len(sizes), step))
    return Trained(
        projections,
        min(by_layer),
        sum(sizes),
        sum(sizes) - exact_size if exact else perturbed,
        sum(_frozen(subset, projection) for projection in projections),
        0 if isinstance(subset, LastLayersConfig) else subset.rank,
        isinstance(subset, LastLayersConfig) or (isinstance(subset, LoraConfig) and not subset.freeze_a),
        layers[-exact] if exact else None,
        exact_size,
    )


def _chosen(subset: LoraConfig | LoraXsConfig | LastLayersConfig, body: Anatomy) -> tuple[Projection, ...]:
    names = [projection.name for projection in body.projections]
    if not isinstance(subset, LastLayersConfig):
        chosen = set(select(names, subset.targets, subset.last_layers))
    elif subset.layers <= body.layers:
        chosen = set(select(names, "all-linear", subset.layers))
    else:
        raise ProfileError(f"subset.layers is {subset.layers}, but the base has {body.layers} layers")
    return tuple(projection for projection in body.projections if projection.name in chosen)


def _size(subset: LoraConfig | LoraXsConfig | LastLayersConfig, projection: Projection) -> int:
    if isinstance(subset, LastLayersConfig):
        return projection.inputs * projection.outputs
    if isinstance(subset, LoraXsConfig):
        return subset.rank**2
    return subset.rank * (projection.outputs + (0 if subset.freeze_a else projection.inputs))


def _frozen(subset: LoraConfig | LoraXsConfig | LastLayersConfig, projection: Projection) -> int:
    if isinstance(subset, LoraXsConfig):
        return subset.rank * (projection.inputs + projection.outputs)
    return subset.rank * projection.inputs if isinstance(subset, LoraConfig) and subset.freeze_a else 0


@dataclass(frozen=True, slots=True)
class Work:
    """The largest batch of a run.

    Args:
        examples: B.
        longest: Tokens of the longest row.
        tokens: S, the tokens of the B longest rows, packed.
        places: P, positions of a batch whose next token is scored over the whole vocabulary.
        rows_tokens: Tokens of all rows together, which a kept prefix holds; 0 if the rows are not known.
        mean: Tokens of a training row, on average.
        validation_tokens: Tokens of all validation rows together.
    """

    examples: int
    longest: int
    tokens: int
    places: int
    rows_tokens: int
    mean: float
    validation_tokens: int = 0


def work_of(profile: Profile, context_length: int, *data: Tokenized) -> Work:
    """Finds the sizes of a profile's largest batch.

    Args:
        profile: The settings.
        context_length: Of the base, in tokens.
        *data: Tokenized training rows, and validation rows if there are any. Without rows, the sizes are those of
            labelled rows as long as the profile allows, with options of one token.
    """
    examples = profile.batch.examples
    if not data:
        longest = min(profile.batch.max_tokens, context_length)
        places = examples if profile.objective.any_option_weight > 0 else 0
        return Work(examples, longest, examples * longest, places, 0, longest)
    train = data[0]
    lengths = sorted((len(row.tokens) for row in forks(train)), reverse=True)
    validation = [len(row.tokens) for rows in data[1:] for row in forks(rows)]
    return Work(
        examples,
        lengths[0],
        sum(islice(cycle(lengths), examples)),
        _places(train, examples, profile.objective.any_option_weight),
        sum(lengths) + sum(validation),
        fmean(lengths),
        sum(validation),
    )


def _places(data: Tokenized, examples: int, any_option_weight: float) -> int:
    if isinstance(data, Targets):
        counts = sorted((sum(row.counted) for row in data.rows), reverse=True)
        return sum(islice(cycle(counts), examples))
    if isinstance(data, Questions):
        counts = sorted((sum(len(choice) for choice in row.choices) for row in data.rows), reverse=True)
        return sum(islice(cycle(counts), examples))
    if all(len(option) == 1 for option in data.options):
        return examples if any_option_weight > 0 else 0
    return examples * sum(map(len, data.options))
