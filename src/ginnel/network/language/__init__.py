"""
The language of the network file, in the order in which a text goes through it.

    values    one value by itself: prefixes, endpoints, shares, times …
    tables    which keys each table has, what they are by default, what they mean: reference and JSON Schema are made of it
    mistakes  what the form of a file has wrong, in the words of the file, each with its place
    meaning   tables to the model: groups taken apart, defaults applied
    sources   one file or several: where each table stands
"""
