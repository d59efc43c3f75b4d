package tty

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScreen(t *testing.T) {
	s := newScreen(3, 6)
	s.write([]byte("\x1b[?25l\x1b[2J\x1b[Hone\r\ntwo\x1b[31m!\x1b[0m\r\n\xc3"))
	s.write([]byte("\xa4 long line"))
	require.Equal(t, "two!\nä long\n line\n", s.text())
	s.write([]byte("\x1b[1A\r\x1b[Kx\x1b[2;4H?\x1b[J"))
	require.Equal(t, "two!\nx  ?\n\n", s.text())
	s.resize(2, 3)
	require.Equal(t, "two\nx\n", s.text())

	require.Equal(t, 2, s.coloured)
	require.Empty(t, s.queries)
	s.write([]byte("\x1b]11;?\x1b\\\x1b[6n\x1b]0;title\a"))
	require.Len(t, s.queries, 2)
}
