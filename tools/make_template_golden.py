"""make_template_golden.py - what Python's jinja2 renders, as tests/data/template_golden.json.

    python3 tools/make_template_golden.py [FOLDER_OF_REAL_TEMPLATES]

The environment is the one transformers renders chat templates in: an ImmutableSandboxedEnvironment
with trim_blocks, lstrip_blocks, the loop controls, {% generation %}, raise_exception, strftime_now
and its own tojson.  The file holds

    cases     every template of tests/data/template_cases.txt with its text, or its error
    contexts  conversations: system prompts, many turns, tools, calls, wrong orders
    real      for each template of the folder and each conversation the size and FNV-1a hash of
              the text, or the message of raise_exception; the templates are not copied

Needs jinja2.  SPDX-License-Identifier: MIT
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = 1753012345  # 2025-07-20 11:52:25 UTC
ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"


class Generation(jinja2.ext.Extension):
    """{% generation %}: renders its body, in a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_render")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


class Raised(Exception):
    """What raise_exception was called with."""


def raise_exception(message):
    raise Raised(message)


def strftime_now(form):
    return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(form)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def outcome(env, source, context):
    """{"text": ...}, {"raised": the text of raise_exception} or {"error": what Python says}."""
    try:
        return {"text": env.from_string(source).render(**context)}
    except Raised as e:
        return {"raised": str(e)}
    except Exception as e:  # whatever Python raises, weir must refuse, too
        return {"error": f"{type(e).__name__}: {e}"}


def fnv(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    return f"{h:016x}"


# ---- conversations


def weather_tool(style="long"):
    properties = {
        "city": {"type": "string", "description": "The city, e.g. \"Łódź\" or 'Paris'"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Unit"},
        "days": {"type": "integer", "description": "How many days", "default": 3},
    }
    if style == "union":
        properties["days"]["type"] = ["integer", "null"]
    parameters = {"type": "object", "properties": properties, "required": ["city"]}
    if style == "short":
        parameters = {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {
            "name": "ping" if style == "short" else "get_weather",
            "description": "Answers" if style == "short" else "The weather <now> & later",
            "parameters": parameters,
        },
    }


def nested_tool():
    item = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Name"},
            "count": {"type": "number", "description": "N"},
        },
    }
    return {
        "type": "function",
        "function": {
            "name": "order",
            "description": "Orders things",
            "parameters": {
                "type": "object",
                "required": ["items"],
                "properties": {
                    "items": {"type": "array", "items": item, "description": "What to order"},
                    "tags": {"type": "array", "items": {"type": "string"}, "description": "Tags"},
                    "express": {"type": "boolean", "description": "Fast"},
                },
            },
            "return": {"type": "string", "description": "The receipt"},
        },
    }


def call(name, arguments, ident="abcdefghi"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def says(role, content, **more):
    return {"role": role, "content": content, **more}


def base(messages, **more):
    return {
        "messages": messages,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "add_generation_prompt": True,
        "now": NOW,
        "functions": "[]",
        "datetime": "2025-07-20",
        **more,
    }


HELLO = says("user", "Hello!")
RULE = says("system", "Be brief.  \n")
LONG = [
    says("user", "What is 2 + 2?"),
    says("assistant", "<think>\neasy\n</think>\n\n4"),
    says("user", "  Und nun: Grüße, 世界 \U0001f30d?  "),
    says("assistant", " Grüße! "),
    says("user", 'It\'s "quoted" <b>&amp;</b>\tand\\slashed'),
    says("assistant", "OK\n\n"),
    says("user", "{{ not_a_template }} {% raw %}"),
]
ASKS = [says("user", "Weather in Paris?")]
CALLS = ASKS + [
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [call("get_weather", {"city": "Paris", "unit": "celsius", "days": None})],
    },
    {
        "role": "tool",
        "name": "get_weather",
        "tool_call_id": "abcdefghi",
        "content": '{"celsius": 21.5}',
    },
]


def contexts():
    tools = [weather_tool(), nested_tool(), weather_tool("short")]
    two = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            call("get_weather", {"city": "Rom", "days": 2}, "123456789"),
            call("ping", {}, "987654321"),
        ],
    }
    written = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            call("get_weather", '{"city": "Rom"}', "123456789"),
            call("ping", "{}", "987654321"),
        ],
    }
    text_call = {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [call("get_weather", '{"city": "Rom"}', "123456789")],
    }
    results = [
        says("tool", "sunny", name="get_weather", tool_call_id="123456789"),
        says("tool", "pong", name="ping", tool_call_id="987654321"),
        says("tool", {"answer": [1, 2.5, True]}, name="ping", tool_call_id="987654321"),
    ]
    parts = [{"type": "text", "text": "Look: "}, {"type": "text", "text": "a picture"}]
    return {
        "plain": base([HELLO]),
        "no prompt": base([RULE, HELLO], add_generation_prompt=False),
        "system": base([RULE, HELLO]),
        "many turns": base(LONG),
        "many turns with system": base([RULE] + LONG, date_string="26 Jul 2024"),
        "tools": base([RULE] + ASKS, tools=tools),
        "tools, no system": base(ASKS, tools=tools[:1], tools_in_user_message=False),
        "call and result": base(CALLS, tools=tools[:1]),
        "call, result, answer": base(
            [RULE] + CALLS + [says("assistant", "It is 21.5 degrees."), HELLO], tools=tools[:1]
        ),
        "two calls": base(ASKS + [two] + results[:2], tools=tools[:2]),
        "two written calls": base(
            ASKS + [written] + results[:2] + [says("assistant", "Done.")], tools=tools[:2]
        ),
        "call in text": base(ASKS + [text_call] + results[:1], tools=tools[:2]),
        "result is no text": base(ASKS + [two, results[0], results[2]], tools=tools[:2]),
        "unions": base(ASKS, tools=[weather_tool("union")]),
        "functions": base([RULE] + ASKS, functions=json.dumps(tools[:1]), datetime="2025-07-20"),
        "functions in system": base(
            [RULE] + LONG, functions=tools[:1], datetime="2025-07-20", tools=[]
        ),
        "built-in tools": base(
            [RULE] + ASKS, tools=tools[:1], builtin_tools=["wolfram_alpha", "code_interpreter"]
        ),
        "documents": base(
            [RULE, HELLO],
            documents=[
                {"title": "Tall penguins", "text": "Emperor penguins are the tallest."},
                {"title": "Habitats", "text": "They only live in Antarctica."},
            ],
        ),
        "parts": base([says("user", parts), says("assistant", parts[:1]), HELLO]),
        "two of a role": base([HELLO, says("user", "Anyone?")]),
        "assistant first": base([says("assistant", "Hm."), HELLO]),
        "system in the middle": base([HELLO, says("assistant", "Hi."), RULE, HELLO]),
        "unknown role": base([HELLO, says("critic", "Bah.")]),
        "nothing": base([]),
        "ends in assistant": base(
            [HELLO, says("assistant", "Sure, ")], add_generation_prompt=False
        ),
    }


# ---- the file


def read_cases(path):
    """Templates behind lines `=== name`; the newline in front of the next one is not theirs."""
    cases = []
    for block in ("\n" + path.read_text()).split("\n=== ")[1:]:
        name, _, source = block.partition("\n")
        cases.append((name.strip(), source))
    return cases


def variables():
    return {
        "name": "Ada",
        "empty": "",
        "n": 7,
        "half": 2.5,
        "big": 1e21,
        "yes": True,
        "no": False,
        "nothing": None,
        "list": [3, 1, 2],
        "words": ["pear", "Apple", "fig"],
        "nested": [[1, 2], [3]],
        "map": {"b": 1, "a": [1, {"c": "é"}], "items": "shadow"},
        "text": "  Hello, <World> & Ω!\n",
        "lines": "one\n  two\n\nthree",
        "umlauts": "Straße ÄÖÜ ñ 世界 \U0001f600",
        "people": [
            {"name": "Bo", "age": 31, "tags": ["x", "y"]},
            {"name": "al", "age": 4},
            {"name": "Cy", "age": 19, "tags": []},
        ],
        "messages": [RULE, HELLO, says("assistant", "Hi.")],
        "tools": [weather_tool()],
        "now": NOW,
    }


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if folder and not folder.is_dir():
        sys.exit(__doc__)
    env = environment()
    given = variables()
    cases = [
        {"name": name, "template": source, **outcome(env, source, given)}
        for name, source in read_cases(DATA / "template_cases.txt")
    ]
    golden = {"now": NOW, "variables": given, "contexts": contexts(), "cases": cases, "real": {}}
    for path in sorted(folder.rglob("*.jinja")) if folder else []:
        source = path.read_text()
        results = {}
        for name, context in golden["contexts"].items():
            result = outcome(env, source, context)
            if "text" in result:
                result = {"size": len(result["text"].encode()), "hash": fnv(result["text"])}
            results[name] = result
        golden["real"][str(path.relative_to(folder))] = results
    out = DATA / "template_golden.json"
    out.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
    print(
        f"{out}: {len(cases)} cases, {len(golden['real'])} real templates, "
        f"{out.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
