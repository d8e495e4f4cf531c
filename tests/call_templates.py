"""Chat templates for the tiny tokenizer that write tools and calls in the forms of well-known models."""

_TURNS = (
    "{%% for m in messages %%}<|{{ m.role }}|>{{ m.content }}%s<|end|>{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|assistant|>{%% endif %%}"
)
_TOOLS = "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
_CALLS = "{% for c in m.tool_calls or [] %}"
_ARGUMENTS = "{{ c.function.arguments | tojson }}"
_SHOWN = (
    "{% if tools %}<|system|>{{ tools | tojson }} Answer with\n"
    '<tool_call>\n{"name": NAME, "arguments": OBJECT}\n</tool_call><|end|>{% endif %}'
)

HERMES_TEMPLATE = _TOOLS + _TURNS % (
    _CALLS + '\n<tool_call>\n{"name": "{{ c.function.name }}", "arguments": ' + _ARGUMENTS + "}\n</tool_call>"
    "{% endfor %}"
)
MISTRAL_TEMPLATE = _TOOLS + _TURNS % (
    "{% if m.tool_calls %}[TOOL_CALLS] [{% endif %}"
    + _CALLS
    + '{"name": "{{ c.function.name }}", "arguments": '
    + _ARGUMENTS
    + ', "id": "{{ c.id }}"}{% if not loop.last %}, {% endif %}{% endfor %}{% if m.tool_calls %}]{% endif %}'
)
LLAMA_TEMPLATE = _TOOLS + _TURNS % (
    _CALLS + '{"name": "{{ c.function.name }}", "parameters": ' + _ARGUMENTS + "}{% endfor %}"
)
# The form of Qwen's coders, which is no JSON.
XML_TEMPLATE = _TOOLS + _TURNS % (
    _CALLS
    + "<tool_call>\n<function={{ c.function.name }}>\n"
    + _ARGUMENTS
    + "\n</function>\n</tool_call>{% endfor %}"
)
TEMPLATES = {
    "Hermes": HERMES_TEMPLATE,
    "Hermes, shown to the model only": _SHOWN + _TURNS % "",
    "Mistral": MISTRAL_TEMPLATE,
    "Granite 3": _TOOLS
    + _TURNS
    % (
        "{% if m.tool_calls %}<|tool_call|>"
        "{{ m.tool_calls | map(attribute='function') | list | tojson }}{% endif %}"
    ),
    "Llama 3": LLAMA_TEMPLATE,
}
