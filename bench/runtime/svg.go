package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// chart is a plot with two logarithmic axes.
type chart struct {
	title, x, y string
	lines       []*curve
}

// curve is one line of a chart.
type curve struct {
	name   string
	points [][2]float64
}

// add adds a point to the line with that name.
func (c *chart) add(name string, x, y float64) {
	at := slices.IndexFunc(c.lines, func(l *curve) bool { return l.name == name })
	if at < 0 {
		at = len(c.lines)
		c.lines = append(c.lines, &curve{name: name})
	}
	c.lines[at].points = append(c.lines[at].points, [2]float64{x, max(y, 1)})
}

// text returns the points, a line for each curve.
func (c *chart) text() string {
	var b strings.Builder
	for _, l := range c.lines {
		fmt.Fprintf(&b, "  %s:", l.name)
		for _, p := range l.points {
			fmt.Fprintf(&b, " %s %.0f", number(p[0]), p[1])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// The size of a picture, and of the frame in it.
const (
	width, height = 720, 420
	left, right   = 70, 170
	top, bottom   = 44, 52
)

// style gives each line a colour that is told from the others on white and on black, and to those
// who see few colours; each line has marks of its own, too.
const style = `
svg { --ground: #ffffff; --ink: #1f2328; --grid: #d1d9e0; --a: #0969da; --b: #bc4c00; --c: #1a7f37; --d: #8250df; --e: #9a6700 }
@media (prefers-color-scheme: dark) {
  svg { --ground: #0d1117; --ink: #e6edf3; --grid: #3d444d; --a: #58a6ff; --b: #f0883e; --c: #56d364; --d: #bc8cff; --e: #e3b341 }
}
text { fill: var(--ink); font: 12px sans-serif } .title { font-size: 15px; font-weight: 600 }
.grid { stroke: var(--grid); stroke-width: 1 } .curve { fill: none; stroke-width: 2 }
`

var colours = []string{"--a", "--b", "--c", "--d", "--e"}

// svg draws the chart.
func (c *chart) svg() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`,
		width, height, width, height)
	fmt.Fprintf(&b, "\n<title>%s</title>\n<style>%s</style>\n", html.EscapeString(c.title), style)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" style="fill: var(--ground)"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text class="title" x="%d" y="24">%s</text>`+"\n", left, html.EscapeString(c.title))

	xs, ys := c.range10(0), c.range10(1)
	x := func(v float64) float64 { return left + xs.part(v)*(width-left-right) }
	y := func(v float64) float64 { return height - bottom - ys.part(v)*(height-top-bottom) }

	for _, v := range xs.decades() {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, x(v), top, x(v), height-bottom)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(v), height-bottom+18, number(v))
	}
	for _, v := range ys.decades() {
		fmt.Fprintf(&b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`, left, y(v), width-right, y(v))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left-8, y(v)+4, number(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, height-14,
		html.EscapeString(c.x))
	fmt.Fprintf(&b, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		(top+height-bottom)/2, html.EscapeString(c.y))

	for i, l := range c.lines {
		colour := fmt.Sprintf("var(%s)", colours[i%len(colours)])
		var points []string
		for _, p := range l.points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(p[0]), y(p[1])))
		}
		fmt.Fprintf(&b, `<polyline class="curve" style="stroke: %s" points="%s"/>`+"\n", colour, strings.Join(points, " "))
		for _, p := range l.points {
			b.WriteString(mark(i, x(p[0]), y(p[1]), colour))
		}

		at := float64(top + 14 + 20*i)
		b.WriteString(mark(i, width-right+18, at-4, colour))
		fmt.Fprintf(&b, `<text x="%d" y="%.0f">%s</text>`+"\n", width-right+30, at, html.EscapeString(l.name))
	}

	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// mark returns the mark of the i-th line: a disc, a square, a diamond, a triangle or a ring.
func mark(i int, x, y float64, colour string) string {
	switch i % 5 {
	case 0:
		return fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="4" style="fill: %s"/>`, x, y, colour)
	case 1:
		return fmt.Sprintf(`<rect x="%.1f" y="%.1f" width="7" height="7" style="fill: %s"/>`, x-3.5, y-3.5, colour)
	case 2:
		return fmt.Sprintf(`<path d="M%.1f %.1fl5 5l-5 5l-5 -5z" style="fill: %s"/>`, x, y-5, colour)
	case 3:
		return fmt.Sprintf(`<path d="M%.1f %.1fl5 9h-10z" style="fill: %s"/>`, x, y-5, colour)
	default:
		return fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="4" style="fill: var(--ground); stroke: %s; stroke-width: 2"/>`,
			x, y, colour)
	}
}

// span is a range of whole decades.
type span struct{ low, high float64 } // powers of 10

// range10 returns the decades that hold the points, by x or by y.
func (c *chart) range10(axis int) span {
	s := span{math.Inf(1), math.Inf(-1)}
	for _, l := range c.lines {
		for _, p := range l.points {
			s.low, s.high = min(s.low, math.Floor(math.Log10(p[axis]))), max(s.high, math.Ceil(math.Log10(p[axis])))
		}
	}
	if s.low > s.high {
		return span{0, 1} // no points
	}
	s.high = max(s.high, s.low+1)
	return s
}

// part returns where v is in the range: 0 at its low end, 1 at its high end.
func (s span) part(v float64) float64 { return (math.Log10(v) - s.low) / (s.high - s.low) }

func (s span) decades() (list []float64) {
	for d := s.low; d <= s.high; d++ {
		list = append(list, math.Pow(10, d))
	}
	return list
}

// number returns 30 k for 30,000.
func number(v float64) string {
	switch {
	case v >= 1e9:
		return fmt.Sprintf("%g G", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%g M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%g k", v/1e3)
	default:
		return fmt.Sprintf("%g", v)
	}
}
