"""The commands, one module each, which holds a function of its own name.

Every module in here is a command; the command line finds them by themselves. A command turns its options into the
request of one public function and renders the answer; it returns whether every check passed. It is imported when it
is called, or listed by the help: at the top of a module stands only what ``--help`` can afford.
"""
