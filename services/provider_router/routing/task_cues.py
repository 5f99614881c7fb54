"""The words that give a task type away, with how strongly: the data of `task_types`.

5 names the task itself ("summarize"), 3 to 4 its product ("haiku", "regex"), 1 to 2 what surrounds
it ("python", "revenue"). An underscore joins words that count together. English first; German,
French, Spanish, Italian, Portuguese and Russian where a word is unmistakable; Chinese, Japanese
and Korean, which put no spaces between words, as pieces of text.
"""

from types import MappingProxyType

from atlas.contracts.inference import TaskType

type Cue = tuple[TaskType, float]

_LANGUAGES: str = """
english french german spanish italian portuguese dutch polish russian ukrainian turkish arabic
hebrew hindi bengali urdu chinese mandarin cantonese japanese korean vietnamese thai indonesian
swedish danish norwegian finnish greek czech hungarian romanian bulgarian latin swahili tamil
deutsch deutsche englisch englische französisch französische spanisch spanische italienisch
italienische russisch chinesisch anglais français allemand espagnol italien inglés francés alemán
español italiano inglese francese tedesco spagnolo inglês francês alemão espanhol английский
немецкий французский испанский русский
"""
_BEFORE_A_LANGUAGE = {
    "into": 4.0,
    "to": 3.0,
    "from": 2.0,
    "in": 1.6,
    "auf": 3.0,
    "ins": 4.0,
    "en": 2.0,
    "al": 3.0,
    "in_die": 3.0,
    "на": 3.0,
}

_WORDS: dict[TaskType, dict[float, str]] = {
    TaskType.TRANSLATION: {
        5: """translate translation übersetze übersetzen übersetz übersetzung traduis traduire
           traduisez traduction traduce traducir traduzca traducción traduci tradurre traduzione
           traduza traduzir tradução переведи переведите перевод перевести localize localise""",
        2.5: "translator translating translated übersetzer traducteur traductor переводчик",
        2: "translates how_do_you_say native_speaker subtitles",
    },
    TaskType.SUMMARIZATION: {
        5: """summarize summarise summary summaries tldr tl_dr zusammenfassen zusammenfassung
           fasse_zusammen résume résumez résumer resume_el resumen resumir resúmeme resume_o
           resumo riassumi riassunto riassumere кратко_изложи резюмируй перескажи condense
           recap synopsis""",
        4: """key_points main_points key_takeaways takeaways main_ideas executive_summary gist
           bullet_points highlights_of shorten boil_down abstract_of in_kürze points_clés
           short_version""",
        2.5: "summarizer summarizing summarization summarising digest zusammengefasst",
        3: "fasse zusammen this_shorter text_about this_about article_about overview",
        1: "summarizes summarises article transcript minutes",
    },
    TaskType.CODE_GENERATION: {
        4: """regex regexp refactor debug debugging debugger unit_test unit_tests pytest dockerfile
           traceback stacktrace stack_trace segfault nullpointerexception typeerror keyerror
           valueerror syntaxerror codebase code_review compile compiler makefile github_action
           github_actions pull_request""",
        3.5: "bug bugs sql script scripts snippet leetcode algorithm programm skript programar",
        3: """function code coding program programming implement implementation endpoint method
           funktion fonction función funzione функцию функция код коде скрипт código codice
           quellcode backend frontend bot in_go in_c in_r in_swift in_rust in_java in_python
           in_javascript in_typescript in_kotlin""",
        2: """python javascript typescript java golang rust kotlin ruby php perl haskell scala bash
           powershell css html react vue django flask fastapi numpy pandas kubernetes terraform
           yaml git npm docker postgres mysql sqlite mongodb redis nginx webpack api json_schema
           async goroutine pointer recursion loop array hashmap dataclass decorator linked_list
           binary_search exception exceptions class_that developer programmer entwickler query""",
        1: "class fail fails crash crashes throws error errors module library server cli app",
    },
    TaskType.CREATIVE_WRITING: {
        4: """poem poems poetry haiku sonnet limerick lyrics screenplay short_story fairy_tale
           bedtime_story fanfiction gedicht geschichte märchen poème conte poesía poema cuento
           poesia racconto conto стихотворение стих рассказ сказку historia_sobre
           histoire_sur kurzgeschichte once_upon""",
        3.5: """story song novel ballad slogan slogans tagline taglines monologue plot_twist
           villain protagonist rap_about rewrite_in_the_style eulogy toast_for parody""",
        3: "blog_post an_essay speech fiction fictional creative creatively imagine jingle joke",
        1.5: "essay character characters scene dialogue metaphor rhyme rhymes chapter write_a",
    },
    TaskType.DATA_ANALYSIS: {
        4: """dataset data_set correlation regression outliers outlier time_series cohort
           churn_rate a_b_test ab_test data_analysis datenanalyse pivot_table standard_deviation
           analyze_data analyse_data analyze_the_data""",
        3: """trend trends csv spreadsheet excel statistics statistical kpi kpis forecast anomaly
           anomalies datensatz données datos dados данные analyze_this analyze_our""",
        2: """analyze analyse analysis analysiere analysez analyser analiza analizar analisi
           проанализируй insights data daten metrics revenue sales quarter quarterly table chart
           percentile median variance distribution survey dashboard region umsatz""",
        1: "average growth compare columns column rows numbers figures month per_month",
    },
    TaskType.INFORMATION_EXTRACTION: {
        5: """extract extraction extrahiere extrahieren extrais extraire extraigas extrae extraer
           estrai estrarre extraia extrair извлеки извлечь named_entities named_entity ner
           scrape pull_out""",
        3: """entities mentioned order_number find_all list_all identify_all classify categorize
           categorise label_each sentiment key_value structured_data parse_this parse_the
           as_json json_with into_json to_json return_json""",
        2: "fields invoice receipt json addresses identify names dates phone_numbers",
        1.5: "from_this which_companies",
        1: "parse list_the contract form resume emails",
    },
    TaskType.MATH_PROBLEM_SOLVING: {
        4: """equation equations integral derivative eigenvalue eigenvalues theorem polynomial
           quadratic differentiate gleichung gleichungen équation ecuación equazione equação
           уравнение trigonometry calculus algebra geometry combinatorics prime_number
           prime_numbers prove_that hypotenuse logarithm""",
        3: """solve prove proof integrate probability matrix löse résous resuelve risolvi resolva
           реши докажи triangle circumference radius perimeter area_of
           factorial permutations modulo sum_of square_root
           berechne calcule calcula calcola вычисли""",
        2.5: "calculate compute math maths mathematics mathe arithmetic fraction fractions",
        2: "how_much_will how_much_is compound interest_rate",
        1: "how_many percent percentage how_much remainder dice coin digits",
    },
}

_PIECES: dict[TaskType, dict[float, str]] = {
    TaskType.TRANSLATION: {5: "翻译 翻譯 翻訳 訳して 번역 译成"},
    TaskType.SUMMARIZATION: {5: "总结 總結 摘要 概括 要約 まとめて 요약"},
    TaskType.CODE_GENERATION: {4: "代码 代碼 函数 函數 コード 関数 코드 함수 编程 程序"},
    TaskType.CREATIVE_WRITING: {4: "写一首 故事 小说 小説 物語 俳句 诗 詩を 동화 소설"},
    TaskType.DATA_ANALYSIS: {3: "分析 数据 數據 データ 데이터"},
    TaskType.INFORMATION_EXTRACTION: {5: "提取 抽取 抽出 추출"},
    TaskType.MATH_PROBLEM_SOLVING: {4: "方程 积分 計算 计算 証明 证明 계산 방정식"},
}


def _cues(table: dict[TaskType, dict[float, str]]) -> dict[str, tuple[Cue, ...]]:
    cues: dict[str, tuple[Cue, ...]] = {}
    for task_type, by_weight in table.items():
        for weight, words in by_weight.items():
            for word in words.split():
                spelt = word.replace("_", " ")
                cues[spelt] = (*cues.get(spelt, ()), (task_type, weight))
    return cues


def _language_cues() -> dict[str, tuple[Cue, ...]]:
    return {
        f"{before} {language}".replace("_", " "): ((TaskType.TRANSLATION, weight),)
        for before, weight in _BEFORE_A_LANGUAGE.items()
        for language in _LANGUAGES.split()
    }


def _by_first_two(
    cues: dict[str, tuple[Cue, ...]],
) -> dict[tuple[str, str], list[tuple[tuple[str, ...], tuple[Cue, ...]]]]:
    found: dict[tuple[str, str], list[tuple[tuple[str, ...], tuple[Cue, ...]]]] = {}
    for cue, told in cues.items():
        words = tuple(cue.split())
        if len(words) > 1:
            found.setdefault((words[0], words[1]), []).append((words, told))
    return found


_ALL_CUES = _cues(_WORDS) | _language_cues()
WORD_CUES = MappingProxyType({cue: told for cue, told in _ALL_CUES.items() if " " not in cue})
"""By one word in lower case."""
PHRASE_CUES = MappingProxyType(_by_first_two(_ALL_CUES))
"""Cues of several words, with what they tell, by their first two."""
PIECE_CUES = MappingProxyType(_cues(_PIECES))
"""By a piece of text without blanks."""
