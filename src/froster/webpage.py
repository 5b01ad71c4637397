"""Pages that need no other file and no network."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
{script}</body>
</html>
"""


def html_page(title: str, style: str, body: str, script: str = "") -> str:
    """A page with its style, its script and pictures as `data:` addresses inside; `title` and `body` are HTML."""
    return PAGE.format(
        title=title,
        style=style,
        body=body,
        script=f"<script>\n{script}</script>\n" if script else "",
        scripts="'unsafe-inline'" if script else "'none'",
    )
