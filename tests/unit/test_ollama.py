"""A Modelfile's template writes what the base's own chat template writes, or there is none."""

import json
import re
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from steerzo_edge.errors import ConflictError, InputError
from steerzo_edge.export.go_template import SAMPLES, rendered, translated
from steerzo_edge.export.ollama import MODELFILE, OllamaOptions, chat_translation, export_ollama, modelfile
from steerzo_edge.model.merged import load_sixteen_bits, released_tokenizer
from tests.conftest import byte_tokenizer
from tests.peft_directory import lora_files, written
from tests.unit.commands import steerzo

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Thoughts of earlier turns are left out, and those of an answer at the end are kept apart.
THINKING = (
    "{% for m in messages %}{% if m.role == 'assistant' and loop.last %}<|im_start|>assistant\n<think>\n\n</think>"
    "\n\n{{ m.content }}<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
SHOUTED = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | upper }}<|end|>{% endfor %}"
COUNTED = "{% for m in messages %}<{{ loop.index }} {{ m.role }}>{{ m.content }}<|end|>{% endfor %}"
BRACES = CHATML.replace("You are helpful.", "Write {{ '{{' }}.")
BRACE = ZEPHYR.replace("|>\n{{ m.content }}", "|>{{ '{' }}{{ m.content }}")
BLANK = ZEPHYR.replace("|>\n{{ m.content }}", "|>\u3000{{ m.content }}")
DATED = CHATML.replace("You are helpful.", "Today is {{ strftime_now('%d %b %Y') }}.")


def tokenizer_with(template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<|user|>"  # any token that is not written before a text
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [CHATML, LLAMA3, ZEPHYR, THINKING, byte_tokenizer().chat_template])
def test_a_translation_writes_the_same_text(template: str) -> None:
    tokenizer = tokenizer_with(template)
    found = chat_translation(tokenizer)
    assert found is not None
    more = [
        [{"role": "user", "content": "a {% raw %} b"}],
        [{"role": "system", "content": "s"}, *({"role": r, "content": r} for r in ("user", "assistant", "user"))],
    ]
    for messages in (*SAMPLES, *more):
        own = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        assert rendered(found.text, messages) == own


def test_the_bundled_base_has_a_template() -> None:
    found = chat_translation(released_tokenizer("bundled"))
    assert found is not None
    assert found.text.endswith("{{ end }}<|assistant|>\n")


@pytest.mark.parametrize("template", [MISTRAL, SHOUTED, COUNTED, BRACES, BRACE, BLANK, DATED, None])
def test_a_template_that_cannot_be_translated_is_left_out(template: str | None) -> None:
    assert chat_translation(tokenizer_with(template)) is None


def test_a_wrong_translation_would_be_noticed() -> None:
    tokenizer = tokenizer_with(CHATML)

    def render(messages: object, begins: bool) -> str:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=begins))
        return text.replace("And 2 + 2?", "and")

    assert translated(render) is None


def test_the_evaluator_knows_what_it_does_not_know() -> None:
    hello = [{"role": "user", "content": "hello"}]
    assert (
        rendered("a{{ if not .System }}b{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}c", hello)
        == "abhelloc"
    )
    assert rendered("{{ range .Messages }}{{ .Content }}{{ end }}c", []) == "c"
    for wrong in (
        "{{ .Prompt }}",
        "{{ range .Tools }}{{ end }}",
        "{{ if .System }}x{{ end }}",
        "{{ end }}",
        "{{ .Content }}",
    ):
        with pytest.raises(ValueError, match=r"unknown|without"):
            rendered(wrong, hello)


def test_the_token_that_ollama_puts_first_is_not_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steerzo_edge.export.ollama._adds_first", lambda tokenizer: True)
    found = chat_translation(tokenizer_with(LLAMA3))
    assert found is not None
    assert "<|user|>" not in found.text
    assert found.stop == "<|eot_id|>"


def test_a_modelfile_has_everything_that_was_asked_for() -> None:
    tokenizer = tokenizer_with(CHATML)
    options = OllamaOptions(system="Be brief.\nBe kind.", context_tokens=128)
    text = modelfile(tokenizer, chat_translation(tokenizer), 256, options)
    assert text.startswith("FROM ./model.gguf\n")
    assert 'TEMPLATE """{{ if not .System }}<|im_start|>system\nYou are helpful.<|im_end|>\n{{ end }}' in text
    assert 'SYSTEM """Be brief.\nBe kind."""\n' in text
    assert "PARAMETER num_ctx 128\n" in text
    assert re.findall('^PARAMETER stop "(.*)"$', text, re.M) == ["<|end|>", "<|im_end|>"]
    assert "num_ctx 256" in modelfile(tokenizer, None, 256, OllamaOptions())
    assert "num_ctx 4096" in modelfile(tokenizer, None, 131072, OllamaOptions())
    assert "TEMPLATE {{ .Prompt }}\n" in modelfile(tokenizer_with(None), None, 256, OllamaOptions())
    alone = modelfile(tokenizer, None, 256, OllamaOptions(parent="qwen2.5:0.5b"))
    assert alone.startswith("FROM qwen2.5:0.5b\nADAPTER ./adapter.gguf\n")
    for wrong in (
        OllamaOptions(context_tokens=512),
        OllamaOptions(system='"""'),
        OllamaOptions(parent="a\nFROM b"),
    ):
        with pytest.raises(InputError):
            modelfile(tokenizer, None, 256, wrong)
    for letter, shown in (("\u00a0", "U\\+00A0"), ("\u3000", "U\\+3000"), ("\u200d", "U\\+200D")):
        with pytest.raises(InputError, match=shown):
            modelfile(tokenizer, None, 256, OllamaOptions(system=f"Be{letter}brief."))
    assert "Größe\t1\n" in modelfile(tokenizer, None, 256, OllamaOptions(system="Größe\t1\n"))


def test_the_directory_is_whole_or_absent(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = written(tmp_path / "adapter", lora_files(load_sixteen_bits(str(tiny_path)), 4))
    arguments = ["export", str(adapter), "--format", "ollama", "--base", str(tiny_path), "--json"]
    whole = steerzo(*arguments, "--out", str(tmp_path / "whole"), "--system", "Be brief.")
    assert whole.exit_code == 0, whole.output
    said = json.loads(whole.stdout.splitlines()[-1])
    assert said["error"] <= said["bound"]
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == [MODELFILE, "model.gguf"]
    assert 'SYSTEM """Be brief."""' in (tmp_path / "whole" / MODELFILE).read_text()
    alone = steerzo(*arguments, "--out", str(tmp_path / "alone"), "--from", "tiny")
    assert alone.exit_code == 0, alone.output
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == [MODELFILE, "adapter.gguf"]
    other = steerzo("export", str(adapter), "--out", str(tmp_path / "other"), "--system", "x")
    assert other.exit_code == 2

    with pytest.raises(ConflictError, match="exists already"):
        export_ollama(adapter, tmp_path / "whole", str(tiny_path))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("steerzo_edge.export.ollama.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        export_ollama(adapter, tmp_path / "torn", str(tiny_path), options=OllamaOptions(parent="tiny"))
    assert not (tmp_path / "torn").exists()
