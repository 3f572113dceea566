# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of the results: text, tables and plots, as reStructuredText for
docs/performance.rst and as Markdown for reading at once.

A part's report() yields Text, Goal, Table and Plot in the order they are to
be read.
"""

import textwrap
from dataclasses import dataclass


@dataclass
class Text:
    """A paragraph; ``literal`` is the only markup."""
    text: str


@dataclass
class Goal:
    text: str
    value: str                  # what was measured
    met: bool
    why: str = ''               # it is not, or what it does not say


@dataclass
class Table:
    title: str
    header: list
    rows: list
    widths: str = ''            # of its columns, in percent


@dataclass
class Plot:
    name: str                   # of the file, without .svg
    svg: str
    text: str                   # what is to be seen


def number(value, unit=''):
    """Three digits; big ones with their thousands apart."""
    if value is None:
        return '-'
    if abs(value) >= 100:
        digits = f'{value:.3g}'
        text = f'{int(float(digits)):,}'
    else:
        text = f'{value:.3g}'
    return f'{text} {unit}'.strip()


def duration(ns):
    """2300000 -> 2.3 ms"""
    if ns is None:
        return '-'
    for size, unit in ((1e9, 's'), (1e6, 'ms'), (1e4, 'us')):
        if ns >= size:
            return f'{ns / (1e3 if unit == "us" else size):.3g} {unit}'
    return number(ns, 'ns')


def wrap(text, width=79):
    return textwrap.fill(' '.join(text.split()), width, break_long_words=False,
                         break_on_hyphens=False)


def _goals_table(items):
    goals = [i for i in items if isinstance(i, Goal)]
    rows = [[g.text, g.value,
             ('yes' if g.met else '**no**') + (f': {g.why}' if g.why else '')]
            for g in goals]
    return Table('Goals', ['goal', 'measured', 'met'], rows) if rows else None


def _arranged(items):
    """Goals become a table where the first of them is."""
    table = _goals_table(items)
    for item in items:
        if isinstance(item, Goal):
            if table:
                yield table
            table = None
        else:
            yield item


def rst_table(table):
    out = [f'.. list-table:: {table.title}', '   :header-rows: 1']
    out += [f'   :widths: {table.widths}'] if table.widths else []
    out += ['']
    for row in [table.header] + table.rows:
        for i, cell in enumerate(row):
            lines = textwrap.wrap(str(cell), 72, break_long_words=False,
                                  break_on_hyphens=False) or ['']
            out.append((('   * - ' if i == 0 else '     - ') + lines[0]).rstrip())
            out += ['       ' + line for line in lines[1:]]
    return '\n'.join(out) + '\n'


def md_table(table):
    rows = [[str(c).replace('|', '\\|') for c in row]
            for row in [table.header] + table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row):
        return '| ' + ' | '.join(c.ljust(w) for c, w in zip(row, widths)) + ' |'

    rule = '|' + '|'.join('-' * (w + 2) for w in widths) + '|'
    return '\n'.join([f'**{table.title}**', '', line(rows[0]), rule]
                     + [line(r) for r in rows[1:]]) + '\n'


def rst(title, items, directory):
    out = [title, '-' * len(title), '']
    for item in _arranged(items):
        if isinstance(item, Text):
            out += [wrap(item.text), '']
        elif isinstance(item, Table):
            out += [rst_table(item)]
        elif isinstance(item, Plot):
            out += [f'.. figure:: {directory}/{item.name}.svg', '',
                    textwrap.indent(wrap(item.text, 76), '   '), '']
    return '\n'.join(out)


def md(title, items):
    out = [f'## {title}', '']
    for item in _arranged(items):
        if isinstance(item, Text):
            out += [wrap(item.text).replace('``', '`'), '']
        elif isinstance(item, Table):
            out += [md_table(item)]
        elif isinstance(item, Plot):
            out += [f'![{" ".join(item.text.split())}]({item.name}.svg)', '']
    return '\n'.join(out)
