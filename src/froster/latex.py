"""Tables in LaTeX."""

import re
from collections.abc import Mapping, Sequence

SPECIAL = re.compile(r"[&%$#_{}]")
SIGNS = {"±": r"$\pm$", "−": "$-$", "–": "--", "≥": r"$\geq$"}


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], signs: Mapping[str, str] = SIGNS) -> str:
    """A `tabular` with booktabs' rules: text in the first column, numbers in the others; `signs`: sign -> command."""
    body = [" & ".join(latex(cell, signs) for cell in row) + r" \\" for row in rows]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(latex(cell, signs) for cell in header) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def latex(text: str, signs: Mapping[str, str] = SIGNS) -> str:
    """Text with its special characters escaped."""
    escaped = SPECIAL.sub(lambda found: rf"\{found[0]}", text)
    for sign, command in signs.items():
        escaped = escaped.replace(sign, command)
    return escaped
