"""Links each picture of a page to its file: on a phone, a touch shows it in full size."""

import re

IMAGE = re.compile(r"(<a [^>]*>\s*)?(<img [^>]*?src=\"([^\":]+\.(?:png|svg))\"[^>]*>)")


def on_page_content(html, page, config, files):
    return IMAGE.sub(
        lambda match: match[0] if match[1] else f'<a class="picture" href="{match[3]}">{match[2]}</a>', html
    )
