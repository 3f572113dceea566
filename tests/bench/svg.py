# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots as SVG: lines over a logarithmic scale, and bars. No more than that."""

import math
from xml.sax.saxutils import escape

# Told apart by those who see few colours as well.
COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9',
           '#555555', '#8c564b']
MARKS = ['circle', 'square', 'diamond', 'triangle']
WIDTH, HEIGHT = 760, 420
LEFT, TOP, BOTTOM = 70, 46, 56
FONT = 'font-family="DejaVu Sans, Verdana, Arial, sans-serif"'


def short(value):
    """1500000 -> 1.5 M; what an axis or a bar has room for."""
    for size, unit in ((1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        if abs(value) >= size:
            return f'{value / size:.3g}{unit}'
    return f'{value:.3g}'


class Scale:
    """Values to places along an axis."""

    def __init__(self, values, log, start, end):
        values = [v for v in values if v is not None and (v > 0 or not log)]
        self.log, self.start, self.end = log, start, end
        if log:
            self.low = math.floor(math.log10(min(values)) + 1e-9)
            self.high = max(math.ceil(math.log10(max(values)) - 1e-9), self.low + 1)
        else:
            self.low = 0
            step = 10 ** math.floor(math.log10(max(values) or 1))
            if max(values) / step < 2.5:
                step /= 4 if step >= 4 else 2
            self.step = step
            self.high = math.ceil(max(values) / step - 1e-9) * step

    def __call__(self, value):
        if self.log:
            value = math.log10(value)
        part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self):
        if self.log:
            return [10.0 ** e for e in range(self.low, self.high + 1)]
        return [i * self.step for i in range(round(self.high / self.step) + 1)]

    def minor(self):
        if not self.log:
            return []
        return [m * 10.0 ** e for e in range(self.low, self.high) for m in range(2, 10)]


class Svg:
    def __init__(self, title, width=WIDTH, height=HEIGHT):
        self.width, self.height = width, height
        self.out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}">',
            '<!-- SPDX-License-Identifier: GPL-2.0-or-later\n-->',
            f'<title>{escape(title)}</title>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
        self.text(16, 26, title, size=16, bold=True)

    def add(self, line):
        self.out.append(line)

    def line(self, x1, y1, x2, y2, colour, width=1.0):
        self.add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                 f'stroke="{colour}" stroke-width="{width}"/>')

    def text(self, x, y, text, size=12, anchor='start', bold=False, turn=0,
             colour='#222222'):
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" '
                 f'fill="{colour}" text-anchor="{anchor}"'
                 + (' font-weight="bold"' if bold else '')
                 + (f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else '')
                 + f'>{escape(text)}</text>')

    def mark(self, x, y, kind, colour):
        if kind == 'circle':
            self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            return
        points = {'square': [(-4, -4), (4, -4), (4, 4), (-4, 4)],
                  'diamond': [(0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)],
                  'triangle': [(0, -5), (5, 4), (-5, 4)]}[kind]
        path = ' '.join(f'{x + dx:.1f},{y + dy:.1f}' for dx, dy in points)
        self.add(f'<polygon points="{path}" fill="{colour}"/>')

    def done(self):
        return '\n'.join(self.out + ['</svg>', ''])


def _frame(svg, ylabel, y, left, right, bottom):
    for v in y.minor():
        svg.line(left, y(v), right, y(v), '#f2f2f2')
    for v in y.ticks():
        svg.line(left, y(v), right, y(v), '#d0d0d0')
        svg.text(left - 8, y(v) + 4, short(v), anchor='end')
    svg.text(18, (TOP + bottom) / 2, ylabel, anchor='middle', turn=-90)


def _legend(svg, labels, x, marks):
    for i, label in enumerate(labels):
        y = TOP + 14 + 22 * i
        colour = COLOURS[i % len(COLOURS)]
        if marks:
            svg.line(x, y, x + 22, y, colour, 2.2)
            svg.mark(x + 11, y, MARKS[i % len(MARKS)], colour)
        else:
            svg.add(f'<rect x="{x + 4}" y="{y - 7}" width="14" height="14" '
                    f'fill="{colour}"/>')
        svg.text(x + 28, y + 4, label)


def lines(title, xlabel, ylabel, series, xlog=True, ylog=True):
    """series: [(label, [(x, y), ...]), ...]; the same x or not."""
    series = [(label, [p for p in points if p[1] is not None])
              for label, points in series]
    series = [s for s in series if s[1]]
    svg = Svg(title)
    # What legends need: about 7 pixels a letter.
    right = WIDTH - 48 - 7 * max(len(label) for label, _ in series)
    bottom = HEIGHT - BOTTOM
    xs = sorted({x for _, points in series for x, _ in points})
    x = Scale(xs, xlog, LEFT, right)
    y = Scale([v for _, points in series for _, v in points], ylog, bottom, TOP)
    _frame(svg, ylabel, y, LEFT, right, bottom)
    for v in x.ticks() if xlog else xs:
        svg.line(x(v), TOP, x(v), bottom, '#d0d0d0')
        svg.text(x(v), bottom + 18, short(v), anchor='middle')
    svg.text((LEFT + right) / 2, HEIGHT - 14, xlabel, anchor='middle')
    for i, (label, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        path = ' '.join(f'{x(a):.1f},{y(b):.1f}' for a, b in sorted(points))
        svg.add(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                'stroke-width="2.2"/>')
        for a, b in points:
            svg.mark(x(a), y(b), MARKS[i % len(MARKS)], colour)
    _legend(svg, [label for label, _ in series], right + 14, True)
    return svg.done()


def bars(title, ylabel, groups, series, ylog=False):
    """series: [(label, [value or None for each of groups]), ...]."""
    svg = Svg(title)
    right = WIDTH - 48 - 7 * max(len(label) for label, _ in series)
    bottom = HEIGHT - BOTTOM
    y = Scale([v for _, values in series for v in values], ylog, bottom, TOP)
    _frame(svg, ylabel, y, LEFT, right, bottom)
    room = (right - LEFT) / len(groups)
    width = room * 0.84 / len(series)
    for g, group in enumerate(groups):
        # A line for each part: "NVMe, 4 KiB random" is wider than its bars.
        for n, part in enumerate(group.split(', ')):
            svg.text(LEFT + room * (g + 0.5), bottom + 18 + 15 * n, part,
                     size=11, anchor='middle')
        for i, (_, values) in enumerate(series):
            if values[g] is None:
                continue
            x = LEFT + room * (g + 0.08) + width * i
            top = y(values[g])
            svg.add(f'<rect x="{x:.1f}" y="{top:.1f}" width="{width * 0.92:.1f}" '
                    f'height="{max(bottom - top, 0):.1f}" '
                    f'fill="{COLOURS[i % len(COLOURS)]}"/>')
            if width >= 22:
                svg.text(x + width * 0.46, top - 4, short(values[g]), size=10,
                         anchor='middle')
    svg.line(LEFT, bottom, right, bottom, '#222222')
    _legend(svg, [label for label, _ in series], right + 14, False)
    return svg.done()
