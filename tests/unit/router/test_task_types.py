"""The kind of a request, detected from prompts as people write them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.contracts.inference import ModelRequest, TaskType
from provider_router.routing.task_types import DetectedTask, detect_task_type

TALK = TaskType.CONVERSATIONAL
CODE = TaskType.CODE_GENERATION
SUMMARY = TaskType.SUMMARIZATION
CREATIVE = TaskType.CREATIVE_WRITING
DATA = TaskType.DATA_ANALYSIS
EXTRACT = TaskType.INFORMATION_EXTRACTION
TRANSLATE = TaskType.TRANSLATION
MATH = TaskType.MATH_PROBLEM_SOLVING

ARTICLE = (
    "Python 3.13 was released this week. The release adds an experimental JIT compiler, a new "
    "interactive shell, and a build without the global interpreter lock. Every function call in "
    "the interpreter now goes through a new code path; developers report that their async code, "
    "their Docker images and their test scripts run unchanged. A bug in the garbage collector was "
    "found late and the feature was reverted. The API of the C layer changed as well: a class that "
    "implements the old protocol must implement a new method, and raise an exception otherwise.\n"
    "\n"
    "The steering council said that the next version will refactor the module system. Several "
    "library authors asked for a longer period of deprecation. The algorithm that compiles regular "
    "expressions was replaced, and a regex that used to take seconds now takes microseconds."
)
CODE_BLOCK = (
    "```python\ndef total(rows):\n    result = 0\n    for row in rows:\n"
    "        result += row['amount']\n    return result\n\nprint(total(None))\n```"
)
TRACEBACK = "Traceback (most recent call last):\n  File 'a.py', line 3\nKeyError: 'port'"
TABLE = (
    "| region | Q1 | Q2 |\n|---|---|---|\n| north | 120 | 140 |\n| south | 90 | 60 |\n"
    "| west | 200 | 210 |"
)
CSV = "date,visits,orders\n2024-01-01,1200,35\n2024-01-02,1150,31\n2024-01-03,1900,80\n"
EMAIL = (
    "Hi team,\n\nplease note that the meeting moved to Tuesday, 14 May, at 15:00 in room 4.12. "
    "Contact Jane Roe (jane@example.com, +49 30 1234567) with questions. The invoice INV-2024-118 "
    "over 1,250.00 EUR from Acme GmbH is due on 31 May.\n\nBest,\nTom"
)
STORY = (
    "Once upon a time a miller had three sons, his mill, a donkey and a cat. When the miller died, "
    "the sons divided the estate: the eldest took the mill, the second the donkey, and the "
    "youngest nothing but the cat. "
) * 6

PROMPTS: list[tuple[str, TaskType]] = [
    # conversational
    ("Hi! How are you today?", TALK),
    ("What's the capital of Australia?", TALK),
    ("Can you recommend a good restaurant in Lisbon?", TALK),
    ("Why is the sky blue?", TALK),
    ("Explain how vaccines work to a ten-year-old", TALK),
    ("I had a rough day at work and feel exhausted.", TALK),
    ("Who won the 1998 World Cup?", TALK),
    ("What should I wear to a wedding in October?", TALK),
    ("Tell me about the history of the Roman Empire.", TALK),
    ('What does "summarize" mean?', TALK),
    ("Thanks, that helped a lot!", TALK),
    ("Is it safe to eat raw mushrooms?", TALK),
    ("Was sollte ich in Berlin unbedingt sehen?", TALK),
    ("你好,你叫什么名字?", TALK),
    ("", TALK),
    ("My flight got cancelled, what are my rights?", TALK),
    ("Give me a recipe for banana bread", TALK),
    ("Can you correct the grammar: he go to school", TALK),
    # code
    ("Write a Python function that checks whether a string is a palindrome.", CODE),
    ("Implement quicksort in Rust", CODE),
    ("Fix this bug: my React component re-renders forever", CODE),
    ("Write a regex that matches ISO dates", CODE),
    ("How do I center a div in CSS?", CODE),
    ("Write a SQL query that returns the top 5 customers by revenue", CODE),
    ("Refactor this class to use dependency injection", CODE),
    ("Add unit tests for the parser", CODE),
    ("Create a Dockerfile for a FastAPI app", CODE),
    ("Write a bash script that summarizes disk usage per folder", CODE),
    ("Build a function which translates Roman numerals to integers", CODE),
    ("What does this code do?\n\n" + CODE_BLOCK, CODE),
    (CODE_BLOCK + "\n\nWhy does it fail?", CODE),
    ("why does it fail?\n" + CODE_BLOCK, CODE),
    ("I get this when I start the server\n\n" + TRACEBACK, CODE),
    ("#include <stdio.h>\nint main() { puts(0) }\n\nwhat's wrong here?", CODE),
    ("Schreibe eine Funktion in Python, die eine Liste sortiert", CODE),
    ("Écris une fonction qui inverse une chaîne", CODE),
    ("Escribe una función que calcule números primos", CODE),
    ("Напиши функцию на Python, которая сортирует список", CODE),
    ("用Python写一个函数,计算斐波那契数列", CODE),
    ("Explain the difference between an async function and a goroutine", CODE),
    ("Convert this JavaScript snippet to TypeScript", CODE),
    ("how to write a recursive algorithm for the towers of hanoi in java", CODE),
    ("How can I parse JSON in Go?", CODE),
    ("write me a discord bot", CODE),
    ("SELECT * FROM users WHERE id = 1 -- is this safe?", CODE),
    ("npm install fails with EACCES, what do I do", CODE),
    # summarization
    ("Summarize the following article:\n\n" + ARTICLE, SUMMARY),
    (ARTICLE + "\n\nSummarize this in three sentences.", SUMMARY),
    ("TL;DR?\n\n" + ARTICLE, SUMMARY),
    (ARTICLE + "\n\ntl;dr", SUMMARY),
    ("Give me the key points of this article\n\n" + ARTICLE, SUMMARY),
    ("Please summarise our meeting minutes: " + EMAIL, SUMMARY),
    ("What are the main points here?\n\n" + STORY, SUMMARY),
    ("Summarize this story: " + STORY, SUMMARY),
    ("Fasse den folgenden Text zusammen:\n\n" + ARTICLE, SUMMARY),
    ("Erstelle eine Zusammenfassung von diesem Artikel: " + ARTICLE, SUMMARY),
    ("Résume ce texte en trois phrases : " + STORY, SUMMARY),
    ("Haz un resumen de este artículo", SUMMARY),
    ("总结一下这篇文章", SUMMARY),
    ("Condense this into one paragraph.\n\n" + STORY, SUMMARY),
    ("Could you please give me a short summary of the plot of Hamlet?", SUMMARY),
    ("Can you make this shorter? " + STORY, SUMMARY),
    ("What is this text about?\n\n" + ARTICLE, SUMMARY),
    # creative
    ("Write a poem about python", CREATIVE),
    ("Write a haiku about debugging code at night", CREATIVE),
    ("Tell me a bedtime story about a dragon who is afraid of fire", CREATIVE),
    ("Compose a limerick about a mathematician and an equation", CREATIVE),
    ("Write song lyrics in the style of Bob Dylan", CREATIVE),
    ("Come up with a slogan for a coffee shop", CREATIVE),
    ("Write a short story in which a robot learns to translate dreams", CREATIVE),
    ("Schreibe ein Gedicht über den Herbst", CREATIVE),
    ("Écris un poème sur la mer", CREATIVE),
    ("Escribe un cuento para niños sobre un perro", CREATIVE),
    ("Напиши стихотворение про весну", CREATIVE),
    ("写一首关于春天的诗", CREATIVE),
    ("Write a blog post about remote work", CREATIVE),
    ("Generate 5 catchy taglines for my bakery", CREATIVE),
    ("Continue this story: " + STORY, CREATIVE),
    # data analysis
    ("Which region grew fastest?\n\n" + TABLE, DATA),
    ("Analyze this dataset and find trends:\n\n" + CSV, DATA),
    ("What is the correlation between visits and orders?\n" + CSV, DATA),
    ("Calculate the average revenue per region from this table\n\n" + TABLE, DATA),
    ("Analyze our quarterly sales data and tell me where we lose customers", DATA),
    ("Are there outliers in these numbers? 12, 14, 13, 99, 12, 15", DATA),
    ("Analysiere diese Umsatzdaten\n\n" + TABLE, DATA),
    ("Run a regression of price on size for the attached spreadsheet", DATA),
    ("Here is our churn by month:\n" + CSV + "\nwhat stands out?", DATA),
    # extraction
    ("Extract all names and phone numbers from this email:\n\n" + EMAIL, EXTRACT),
    (EMAIL + "\n\nExtract the invoice number, the amount and the due date as JSON.", EXTRACT),
    ("List all dates mentioned in the text below.\n\n" + EMAIL, EXTRACT),
    ("Find all named entities in this paragraph: " + STORY, EXTRACT),
    ("Classify the sentiment of this review as positive or negative: the food was cold", EXTRACT),
    ("Extrahiere alle E-Mail-Adressen aus dem Text", EXTRACT),
    ("Parse this receipt and return JSON with fields total and date", EXTRACT),
    ("提取下面文本中的人名", EXTRACT),
    ("Pull out every company that is mentioned:\n\n" + ARTICLE, EXTRACT),
    ("Get the order number and total from this mail\n\n" + EMAIL, EXTRACT),
    ("Which companies are mentioned in this article?\n\n" + ARTICLE, EXTRACT),
    # translation
    ("Translate to French: Where is the train station?", TRANSLATE),
    ("Translate the following Python tutorial into German:\n\n" + ARTICLE, TRANSLATE),
    ('Translate "write a function that sorts a list" into Spanish.', TRANSLATE),
    ("How do you say thank you in Japanese?", TRANSLATE),
    ("Please put this into English: " + STORY, TRANSLATE),
    ("Übersetze den folgenden Text ins Englische: Guten Morgen", TRANSLATE),
    ("Traduis ce texte en anglais : bonjour", TRANSLATE),
    ("Traduce esto al inglés: buenos días", TRANSLATE),
    ("Переведи на английский: доброе утро", TRANSLATE),
    ("把这句话翻译成英文:今天天气很好", TRANSLATE),
    ("Translate this poem into Italian, keep the rhymes:\n\nRoses are red", TRANSLATE),
    ("translate to english\n\n总结一下这篇文章", TRANSLATE),
    ("Say 'good morning' in Korean", TRANSLATE),
    ("Translate this function's comments to German\n" + CODE_BLOCK, TRANSLATE),
    # math
    ("Solve 3x + 5 = 20", MATH),
    ("What is the integral of x^2 from 0 to 3?", MATH),
    ("Prove that the square root of 2 is irrational", MATH),
    ("What is 15% of 240?", MATH),
    ("Calculate 17 * 23", MATH),
    ("A train leaves at 9:00 at 60 km/h, another at 10:00 at 90 km/h. Calculate when they meet.",
     MATH),
    ("Find the derivative of $\\frac{x}{1+x^2}$", MATH),
    ("What is the probability of rolling two sixes with two dice?", MATH),
    ("Löse die Gleichung 2x - 4 = 10", MATH),
    ("Résous l'équation 2x + 3 = 7", MATH),
    ("解方程 2x + 3 = 7", MATH),
    ("If I invest $1000 at 5% for 10 years, how much will I have?", MATH),
    ("find the area of a circle with radius 3", MATH),
    ("Find the eigenvalues of [[2, 1], [1, 2]]", MATH),
]  # fmt: skip


def detected(text: str, **fields: object) -> DetectedTask:
    return detect_task_type(
        ModelRequest.model_validate({"messages": [{"role": "user", "content": text}], **fields})
    )


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(PROMPTS) >= 100
    assert len({prompt for prompt, _ in PROMPTS}) == len(PROMPTS)


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS, ids=lambda value: str(value)[:60])
def test_a_prompt_is_taken_for_what_it_asks(prompt: str, expected: TaskType) -> None:
    found = detected(prompt)
    assert found.task_type is expected, found


def test_it_says_which_cue_decided() -> None:
    assert detected("Summarize this: " + ARTICLE).why == "'summarize' in the instruction"
    assert detected("Hello there").why == "nothing points elsewhere"
    assert detected(CODE_BLOCK).why == "code in the instruction"


def test_a_follow_up_that_tells_nothing_belongs_to_what_was_asked_before() -> None:
    conversation = {
        "messages": [
            {"role": "user", "content": "Write a poem about the sea"},
            {"role": "assistant", "content": "The sea, the code of waves ..."},
            {"role": "user", "content": "Nice. And now shorter, please."},
        ]
    }
    found = detect_task_type(ModelRequest.model_validate(conversation))
    assert found.task_type is CREATIVE
    assert found.why == "'poem' in an earlier message"


def test_a_new_question_beats_what_was_asked_before() -> None:
    conversation = {
        "messages": [
            {"role": "user", "content": "Write a poem about the sea"},
            {"role": "assistant", "content": "..."},
            {"role": "user", "content": "Translate it to German"},
        ]
    }
    assert detect_task_type(ModelRequest.model_validate(conversation)).task_type is TRANSLATE


@pytest.mark.parametrize(
    ("system_prompt", "prompt", "expected"),
    [
        ("You are a translator. Translate whatever the user writes to German.", "Hi!", TRANSLATE),
        ("You are a senior Python developer.", "How do I reverse a list?", CODE),
        ("You are a helpful coding assistant.", "Write me a poem about autumn", CREATIVE),
        ("You are a helpful assistant.", "How are you?", TALK),
        ("Summarize every text you are given in one sentence.", ARTICLE, SUMMARY),
    ],
)
def test_a_system_prompt_counts_unless_the_user_says_otherwise(
    system_prompt, prompt, expected
) -> None:
    assert detected(prompt, system_prompt=system_prompt).task_type is expected
    as_message = [
        {"role": "system", "content": system_prompt},
        {"role": "user", "content": prompt},
    ]
    request = ModelRequest.model_validate({"messages": as_message})
    assert detect_task_type(request).task_type is expected


def test_a_json_schema_points_to_extraction_unless_something_else_is_asked() -> None:
    schema = {"response_format": {"type": "json_schema", "json_schema": {"type": "object"}}}
    assert detected(EMAIL, **schema).task_type is EXTRACT
    assert detected("Solve 3x + 5 = 20", **schema).task_type is MATH


def test_words_in_tools_names_tell_a_little() -> None:
    tools = {"tools": [{"name": "run_python_code"}, {"name": "lint_script"}]}
    assert detected("What now?", **tools).task_type is CODE
    assert detected("Translate this to French", **tools).task_type is TRANSLATE


def test_text_in_parts_counts_like_text() -> None:
    parts = [
        {"type": "text", "text": "Extract the total."},
        {"type": "image", "url": "https://example.com/receipt.png"},
    ]
    request = ModelRequest.model_validate({"messages": [{"role": "user", "content": parts}]})
    assert detect_task_type(request).task_type is EXTRACT


@given(st.text(max_size=3_000))
def test_every_text_has_a_task_type(text: str) -> None:
    assert detected(text).score >= 0


@pytest.mark.parametrize(
    "text",
    ["lorem ipsum " * 90_000, "a" * 10**6, "1," * 500_000, "|" * 10**6, "\n" * 10**6, "`" * 10**6],
    ids=["words", "one-word", "commas", "bars", "lines", "ticks"],
)
def test_a_prompt_of_a_megabyte_costs_no_more_than_its_ends(text: str) -> None:
    request = ModelRequest.model_validate({"messages": [{"role": "user", "content": text}]})
    best_s = min(_timed_s(request) for _ in range(5))
    assert best_s < 0.005


def _timed_s(request: ModelRequest) -> float:
    began_s = time.perf_counter()
    detect_task_type(request)
    return time.perf_counter() - began_s
