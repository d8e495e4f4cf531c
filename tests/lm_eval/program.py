"""Runs lm-eval's own evaluation against a server, in a process of its own, in the directory of the tasks' rows.

python program.py '{"url": ..., "tokenizer": DIRECTORY, "tasks": DIRECTORY, "batch_size": 8}' RESULT.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

if __name__ == "__main__":
    settings: dict[str, Any] = json.loads(sys.argv[1])
    model = {
        "model": "base",
        "base_url": settings["url"],
        "tokenizer": settings["tokenizer"],
        "tokenizer_backend": "huggingface",
        "batch_size": settings["batch_size"],
        "max_length": 1024,
    }
    found = simple_evaluate(
        model="local-completions",
        model_args=model,
        tasks=["own_choice", "own_answer"],
        task_manager=TaskManager(include_path=settings["tasks"], include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = {
        task: [{"doc": row["doc"], "resps": row["resps"], "filtered": row["filtered_resps"]} for row in rows]
        for task, rows in found["samples"].items()
    }
    Path(sys.argv[2]).write_text(json.dumps({"results": found["results"], "samples": samples}))
