package plain_test

import (
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/plain"
)

func TestTextHasNothingThatATerminalActsOn(t *testing.T) {
	for in, want := range map[string]string{
		"engine failed: größer": "engine failed: größer",
		"\x1b]0;title\x07":      `\x1b]0;title\x07`,
		"a\nb\tc\r":             `a\x0ab c\x0d`,
		"\u009b31m":             `\u009b31m`, // CSI in one character
		"abc\u202edcba":         `abc\u202edcba`,
		"bad \xff\xc3":          `bad \xff\xc3`,
		"\x7f":                  `\x7f`,
	} {
		require.Equal(t, want, plain.Text(in))
	}
}

func TestLine(t *testing.T) {
	require.Equal(t, "one…", plain.Line("one\ntwo", 100))
	require.Equal(t, "on…", plain.Line("one", 2))
	require.Equal(t, "a…", plain.Line("aä", 2), "no half character is left")
	require.Equal(t, `\x1b[2J`, plain.Line("\x1b[2J", 100))
}

func FuzzText(f *testing.F) {
	f.Add("\x1b[31m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		out := plain.Text(s)
		require.True(t, utf8.ValidString(out))
		for _, r := range out {
			require.False(t, unicode.IsControl(r), "%q", out)
		}
	})
}
