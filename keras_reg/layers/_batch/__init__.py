"""One batch: the form in which it was given, its labels as terms, its maps and boxes, and what is refused."""
