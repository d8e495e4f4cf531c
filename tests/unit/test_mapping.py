"""Fields with other names in the file than in the format."""

from typing import Any

import pytest

from steerzo_edge.data.mapping import MOST_NAMES, parsed_map
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.errors import DatasetError, InputError
from tests.unit.format_rows import lines

NAMES = parsed_map("prompt=question, completion = answer")


def test_rows_are_read_by_the_mapped_names() -> None:
    rows: list[dict[str, Any]] = [{"question": "a", "answer": "b", "by": "x"}, {"question": "c", "answer": "d"}]
    found = read_rows(rows, names=NAMES)
    assert found == read_rows([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}])
    assert found.remarks.ignored == {"by": 1}
    assert read_dataset(lines(rows), names=NAMES) == found
    swapped = read_rows(
        [{"prompt": "a", "completion": "b"}], names=parsed_map("prompt=completion,completion=prompt")
    )
    assert swapped.rows() == [{"prompt": "b", "completion": "a"}]


def test_a_field_is_never_replaced_by_another() -> None:
    with pytest.raises(DatasetError, match="leave one of 'prompt' and 'question' out") as caught:
        read_rows([{"question": "a", "answer": "b", "prompt": "c"}], names=NAMES, format="completion")
    assert [fault.field for fault in caught.value.faults] == ["prompt"]
    with pytest.raises(DatasetError, match="field 'completion': found nothing"):
        read_rows([{"question": "a"}], names=NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prompt",
        "prompt=",
        "=x",
        "a=b,",
        "a=b,a=c",
        "a=b,c=b",
        ",".join(f"a{i}=b{i}" for i in range(MOST_NAMES + 1)),
    ],
)
def test_maps_that_cannot_be_used(text: str) -> None:
    with pytest.raises(InputError, match="map: "):
        parsed_map(text)
