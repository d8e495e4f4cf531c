"""What both programs are asked: a page of mixed text, and prompts."""

from typing import Final

from steerzo_edge.export.vocabulary import HARD

PAGE: Final = (
    *HARD,
    "The café’s crème brûlée cost €4.50 — “très bon”, said Zoë; naïve coöperation… ½ of it, 5² and №7.",  # noqa: RUF001
    "a 1  2   3    4     5 6 7 12 345 6789 1234567890 1,234,567.89 -42 +7 3.14e-10 0x1F 0b101 1_000_000",
    "12:45, 2024-02-29T23:59:60Z, v1.2.3-rc.4, 192.168.0.1, 50%, $9.99, #42, 3rd, 20th, 1990s, 100km/h",
    "def f(x):\n    if x > 0:\n        return [x ** 2 for x in range(10)]\n"
    "\treturn None  # tab\n\n\nclass A:\n  pass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 3; } // done\r\n#include <stdio.h>\r\n\r\nint main() {}\r\n",
    'SELECT id, "name" FROM t WHERE x >= 10 AND y != \'z\'; -- '
    '{"k": [1, 2.5, null, true]} <div class="a">&nbsp;</div>',
    "🙂 🙃🙂 👩\u200d👧\u200d👦 🇫🇷🇩🇪 👍🏽 ❤️ ☕ ✨✨ 1️⃣ ©®™ →←↑ ∑∫√ ≤≥ ½¼¾ ①②③ Ⅳ",
    "Привет, мир! Как дела? 你好，世界。今天天气很好。こんにちは、世界！ 안녕하세요 세계 "  # noqa: RUF001
    "नमस्ते दुनिया ไทยภาษา עברית العربية ١٢٣",
    "e\u0301 e\u0301te\u0301 A\u030a n\u0303 Việt Nam İstanbul ǅ ﬁ ﬂ ß ẞ Ω Å",
    "\u00a0\u2003\u200b\u2028x\u2029y\u3000z\ufeffw\u0085v\x0bu\x0ct\x1fs",
    "I'm, you're, he'd, WE'LL, They'Ve, it'S, don't; 'quoted' ''double'' o'clock rock'n'roll 'tis 'Twas ’s ’ll",  # noqa: RUF001
    "   leading and trailing   ", "\n\n\n", "\t\t", " \n \n ", "   ", "\r", "a\n", "a \n", "a\n b", "a  \n\n  b",
    "supercalifragilisticexpialidocious antidisestablishmentarianism aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "CamelCaseWord snake_case_word kebab-case-word SCREAMING_CASE mixedUP123abc x1y2z3 ABCdefGHI ÀÉÎõü",
    "!!!??? ... --- *** ### $$$ %%% &&& ((())) [[[]]] {{{}}} <<<>>> ~~~ ``` \\\\ // || :: ;; '' \"\"",
    "https://example.org/a/b?c=d&e=f#g user.name+tag@example.co.uk C:\\Users\\x ~/.config ../../etc",
)  # fmt: skip
PROMPTS: Final = (
    "The capital of France is",
    "1, 2, 3, 4, 5, 6, 7, 8,",
    "Once upon a time, there was a little girl who",
    "Water boils at a temperature of",
    "def fibonacci(n):\n    if n <= 1:\n        return n\n    return",
    "The opposite of hot is",
    "Monday, Tuesday, Wednesday,",
    "To be, or not to be, that is the",
    "Größe, señor, naïve café:",
    "import numpy as np\nimport matplotlib.pyplot as",
    "In 1969, Neil Armstrong was the first person to walk on the",
    "Dear Sir or Madam,\n\nI am writing to",
)
