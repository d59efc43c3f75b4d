package tty

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// screen interprets what a program writes to a terminal, as far as Bubble Tea's renderer and our
// commands use it: text, moves of the cursor, and erasing. Each character takes one cell.
type screen struct {
	rows, cols int
	cells      [][]rune
	row, col   int
	rest       []byte   // the beginning of a sequence or a character
	queries    []string // sequences that ask the terminal something
	coloured   int      // number of sequences that change how text looks
}

func newScreen(rows, cols int) *screen {
	s := &screen{}
	s.resize(rows, cols)
	return s
}

// resize keeps what is on the screen, as far as there is room.
func (s *screen) resize(rows, cols int) {
	cells := make([][]rune, rows)
	for r := range cells {
		cells[r] = []rune(strings.Repeat(" ", cols))
		if r < len(s.cells) {
			copy(cells[r], s.cells[r])
		}
	}
	s.rows, s.cols, s.cells = rows, cols, cells
	s.row, s.col = min(s.row, rows-1), min(s.col, cols)
}

func (s *screen) text() string {
	var b strings.Builder
	for _, r := range s.cells {
		b.WriteString(strings.TrimRight(string(r), " ") + "\n")
	}
	return b.String()
}

func (s *screen) write(p []byte) {
	p = append(s.rest, p...)
	for len(p) > 0 {
		n := s.next(p)
		if n == 0 {
			break
		}
		p = p[n:]
	}
	s.rest = append([]byte(nil), p...)
}

// next takes one character or sequence from p, and returns its length; 0: it is not complete.
func (s *screen) next(p []byte) int {
	switch p[0] {
	case '\x1b':
		return s.escape(p)
	case '\r':
		s.col = 0
		return 1
	case '\n':
		s.down()
		return 1
	case '\b':
		s.col = max(s.col-1, 0)
		return 1
	}

	if p[0] < ' ' {
		return 1
	}
	if !utf8.FullRune(p) {
		return 0
	}
	r, n := utf8.DecodeRune(p)
	if s.col >= s.cols {
		s.col = 0
		s.down()
	}
	s.cells[s.row][s.col] = r
	s.col++

	return n
}

// down moves to the next row, and scrolls at the last one.
func (s *screen) down() {
	if s.row < s.rows-1 {
		s.row++
		return
	}
	copy(s.cells, s.cells[1:])
	s.cells[s.rows-1] = []rune(strings.Repeat(" ", s.cols))
}

// escape takes a control sequence.
func (s *screen) escape(p []byte) int {
	if len(p) < 2 {
		return 0
	}

	switch p[1] {
	case ']': // up to BEL or ST
		for i := 2; i < len(p); i++ {
			if p[i] == '\a' || p[i] == '\\' && p[i-1] == '\x1b' {
				if strings.Contains(string(p[2:i]), "?") {
					s.queries = append(s.queries, strconv.Quote(string(p[:i+1])))
				}
				return i + 1
			}
		}
		return 0
	case '[':
	default:
		return 2
	}

	for i := 2; i < len(p); i++ {
		if p[i] >= 0x40 && p[i] <= 0x7e {
			s.control(string(p[2:i]), p[i])
			return i + 1
		}
	}

	return 0
}

// control does what a control sequence says.
func (s *screen) control(params string, final byte) {
	if final == 'n' || final == 'c' {
		s.queries = append(s.queries, strconv.Quote(params+string(final)))
	}

	var n []int
	for f := range strings.SplitSeq(params, ";") {
		v, err := strconv.Atoi(f)
		if err != nil {
			v = 0
		}
		n = append(n, v)
	}

	switch step := max(n[0], 1); final {
	case 'm':
		s.coloured++
	case 'A':
		s.row = max(s.row-step, 0)
	case 'B':
		s.row = min(s.row+step, s.rows-1)
	case 'C':
		s.col = min(s.col+step, s.cols-1)
	case 'D':
		s.col = max(s.col-step, 0)
	case 'G':
		s.col = min(step, s.cols) - 1
	case 'H':
		s.row, s.col = min(step, s.rows)-1, 0
		if len(n) > 1 {
			s.col = min(max(n[1], 1), s.cols) - 1
		}
	case 'K':
		s.erase(s.row, n[0])
	case 'J':
		s.erase(s.row, n[0])
		for r := range s.cells {
			if n[0] == 2 || n[0] == 0 && r > s.row || n[0] == 1 && r < s.row {
				s.erase(r, 2)
			}
		}
	}
}

// erase clears a row: from the cursor (0), up to it (1), or all of it (2).
func (s *screen) erase(row, how int) {
	for c := range s.cells[row] {
		if how == 2 || how == 0 && c >= s.col || how == 1 && c <= s.col {
			s.cells[row][c] = ' '
		}
	}
}
