"""One batch: its call form, its labels as terms, its maps and boxes, and the checks of its contents."""
